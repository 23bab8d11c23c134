/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/index_model.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

static uint64_t below(struct model *model, uint64_t bound)
{
	return rng_below(&model->rng, bound);
}

static struct bytes name_of(unsigned n, char *buf)
{
	/* Some long ones, so that lengths of two bytes and overflow pages are met. */
	snprintf(buf, NAME_LEN_MAX + 1, "n%u%.*s", n, n % 7 == 0 ? 200 : 0,
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	return bytes_of_str(buf);
}

void model_init(struct model *model, uint64_t seed, const struct inode_row *root)
{
	memset(model, 0, sizeof(*model));
	model->rng.state = seed;
	model->audit_first = 1;
	model->highest.ino = INO_ROOT;
	model->inodes[INO_ROOT].exists = true;
	model->inodes[INO_ROOT].row = *root;
	for (size_t i = 0; i < MODEL_INOS; i++)
		for (size_t x = 0; x < MODEL_XATTRS; x++)
			model->inodes[i].xattrs[x] = -1;
}

void model_release(struct model *model)
{
	for (size_t i = 0; i < MODEL_SNAPSHOTS; i++)
		mem_free(STEAL(model->pasts[i]));
}

/* ---- picking ---- */

static bool is_dir(const struct model *model, uint64_t ino)
{
	return model->inodes[ino].exists && S_ISDIR(model->inodes[ino].row.mode);
}

static uint64_t pick_inode(struct model *model, uint32_t type, bool may_be_orphan)
{
	for (unsigned i = 0; i < 50; i++) {
		uint64_t ino = 1 + below(model, model->highest.ino);
		const struct model_inode *inode = &model->inodes[ino];

		if (inode->exists && (type == 0 || (inode->row.mode & S_IFMT) == type) &&
		    (may_be_orphan || !(inode->row.flags & INODE_ORPHAN)))
			return ino;
	}
	return type == S_IFDIR ? INO_ROOT : 0;
}

static uint64_t cookie_of(const struct model *model, uint64_t parent, struct bytes name)
{
	for (uint64_t c = 1; c <= model->highest.cookie; c++)
		if (model->dirents[c].exists && model->dirents[c].row.parent == parent &&
		    model->dirents[c].row.name_len == name.len &&
		    memcmp(model->dirents[c].row.name, name.ptr, name.len) == 0)
			return c;
	return 0;
}

static uint64_t pick_dirent(struct model *model)
{
	for (unsigned i = 0; i < 50 && model->highest.cookie > 0; i++) {
		uint64_t cookie = 1 + below(model, model->highest.cookie);

		if (model->dirents[cookie].exists)
			return cookie;
	}
	return 0;
}

static bool is_empty(const struct model *model, uint64_t parent)
{
	for (uint64_t c = 1; c <= model->highest.cookie; c++)
		if (model->dirents[c].exists && model->dirents[c].row.parent == parent)
			return false;
	return true;
}

static bool is_below(const struct model *model, uint64_t ino, uint64_t above)
{
	for (; ino != INO_ROOT; ino = model->inodes[ino].row.parent)
		if (ino == above)
			return true;
	return ino == above;
}

/* ---- changes ---- */

static void put_inode(struct model *model, struct record *record, uint64_t ino)
{
	model->inodes[ino].row.birth = model->seq;
	record_put_inode(record, &model->inodes[ino].row);
}

static void put_name(struct model *model, struct record *record, uint64_t cookie, uint64_t parent,
		     struct bytes name, uint64_t ino)
{
	struct dirent_row *row = &model->dirents[cookie].row;

	model->dirents[cookie].exists = true;
	row->parent = parent;
	row->cookie = cookie;
	row->ino = ino;
	row->type = model->inodes[ino].row.mode >> 12;
	row->name_len = (uint8_t)name.len;
	memset(row->name, 0, sizeof(row->name));
	memcpy(row->name, name.ptr, name.len);
	record_put_dirent(record, parent, cookie, name, ino, row->type);
}

static void del_name(struct model *model, struct record *record, uint64_t cookie)
{
	struct dirent_row *row = &model->dirents[cookie].row;

	record_del_dirent(record, row->parent, cookie, bytes_of(row->name, row->name_len));
	model->dirents[cookie].exists = false;
}

static struct wall_time some_time(struct model *model)
{
	return (struct wall_time){
		.sec = (int64_t)below(model, 1ull << 40) - (1ll << 39),
		.nsec = (uint32_t)below(model, 1000000000),
	};
}

static void add_inode(struct model *model, struct record *record, uint32_t type)
{
	uint64_t parent = pick_inode(model, S_IFDIR, false), ino = model->highest.ino + 1;
	struct model_inode *inode = &model->inodes[ino];
	char buf[NAME_LEN_MAX + 1];
	struct bytes name = name_of((unsigned)below(model, MODEL_NAMES), buf);

	if (cookie_of(model, parent, name) != 0)
		return;
	model->highest.ino = ino;
	inode->exists = true;
	inode->row = (struct inode_row){
		.ino = ino,
		.mode = type | (uint32_t)below(model, 07777),
		.uid = (uint32_t)below(model, 3),
		.gid = (uint32_t)rng_u64(&model->rng),
		.nlink = type == S_IFDIR ? 2 : 1,
		.rdev = type == S_IFREG ? 0 : rng_u64(&model->rng),
		.mtime = some_time(model),
		.atime = some_time(model),
		.parent = parent,
		.policy_root = INO_ROOT,
	};
	inode->row.ctime = inode->row.btime = inode->row.mtime;
	put_inode(model, record, ino);
	put_name(model, record, ++model->highest.cookie, parent, name, ino);
	if (type == S_IFDIR) {
		model->inodes[parent].row.nlink++;
		put_inode(model, record, parent);
		model->made_directory = ino;
	}
	if (type == S_IFLNK) {
		inode->target = (int)below(model, 1000);
		snprintf(buf, sizeof(buf), "target-%d", inode->target);
		record_put_symlink(record, ino, bytes_of_str(buf));
	}
}

static void make_gone(struct model *model, struct record *record, uint64_t ino)
{
	struct model_inode *inode = &model->inodes[ino];

	record_del_inode(record, ino);
	inode->exists = false;
	memset(inode->cells, 0, sizeof(inode->cells));
	for (size_t x = 0; x < MODEL_XATTRS; x++)
		inode->xattrs[x] = -1;
}

static void drop_link(struct model *model, struct record *record, uint64_t ino)
{
	struct model_inode *inode = &model->inodes[ino];

	if (--inode->row.nlink > 0) {
		put_inode(model, record, ino);
		return;
	}
	inode->row.flags |= INODE_ORPHAN;
	put_inode(model, record, ino);
	record_put_orphan(record, ino);
	if (below(model, 3) == 0) {
		record_del_orphan(record, ino);
		make_gone(model, record, ino);
	}
}

static void remove_directory(struct model *model, struct record *record, uint64_t cookie)
{
	uint64_t ino = model->dirents[cookie].row.ino;
	uint64_t parent = model->dirents[cookie].row.parent;

	del_name(model, record, cookie);
	model->inodes[parent].row.nlink--;
	put_inode(model, record, parent);
	if (below(model, 2) == 0) {
		make_gone(model, record, ino);
		return;
	}
	model->inodes[ino].row.flags |= INODE_ORPHAN;
	model->inodes[ino].row.nlink = 0;
	put_inode(model, record, ino);
	record_put_orphan(record, ino);
}

static void remove_name(struct model *model, struct record *record)
{
	uint64_t cookie = pick_dirent(model), ino;

	if (cookie == 0)
		return;
	ino = model->dirents[cookie].row.ino;
	if (!is_dir(model, ino)) {
		del_name(model, record, cookie);
		drop_link(model, record, ino);
	} else if (is_empty(model, ino)) {
		remove_directory(model, record, cookie);
	}
}

static void rename_name(struct model *model, struct record *record)
{
	uint64_t cookie = pick_dirent(model), to = pick_inode(model, S_IFDIR, false);
	char buf[NAME_LEN_MAX + 1];
	struct bytes name = name_of((unsigned)below(model, MODEL_NAMES), buf);
	uint64_t ino, from, over, new_cookie;

	if (cookie == 0 || to == 0)
		return;
	ino = model->dirents[cookie].row.ino;
	from = model->dirents[cookie].row.parent;
	over = cookie_of(model, to, name);
	if (over == cookie || (is_dir(model, ino) && is_below(model, to, ino)))
		return;
	if (over != 0 && (is_dir(model, ino) || is_dir(model, model->dirents[over].row.ino)))
		return;
	del_name(model, record, cookie);
	if (over != 0) {
		uint64_t old = model->dirents[over].row.ino;

		if (below(model, 2) == 0) /* put replaces it as well */
			del_name(model, record, over);
		else
			model->dirents[over].exists = false;
		drop_link(model, record, old);
	}
	new_cookie = from == to && below(model, 2) == 0 ? cookie : ++model->highest.cookie;
	if (is_dir(model, ino)) {
		model->inodes[from].row.nlink--;
		model->inodes[to].row.nlink++;
		put_inode(model, record, from);
		put_inode(model, record, to);
	}
	put_name(model, record, new_cookie, to, name, ino);
	if (model->inodes[ino].exists) {
		model->inodes[ino].row.parent = to;
		put_inode(model, record, ino);
	}
}

static void add_link(struct model *model, struct record *record)
{
	uint64_t ino = pick_inode(model, S_IFREG, false), to = pick_inode(model, S_IFDIR, false);
	char buf[NAME_LEN_MAX + 1];
	struct bytes name = name_of((unsigned)below(model, MODEL_NAMES), buf);

	if (ino == 0 || cookie_of(model, to, name) != 0)
		return;
	model->inodes[ino].row.nlink++;
	put_inode(model, record, ino);
	put_name(model, record, ++model->highest.cookie, to, name, ino);
}

static uint64_t add_shard(struct model *model, struct record *record)
{
	uint64_t shard_no = ++model->highest.shard_no;
	struct shard_row *row = &model->shards[shard_no].row;

	*row = (struct shard_row){
		.shard_no = shard_no,
		.state = SHARD_OPEN,
		.key_epoch = 1,
		.writer_epoch = below(model, 5),
		.policy_root = INO_ROOT,
	};
	rng_fill(&model->rng, row->id.b, sizeof(row->id.b));
	model->shards[shard_no].exists = true;
	record_put_shard(record, row);
	return shard_no;
}

static uint64_t pick_shard(struct model *model)
{
	for (unsigned i = 0; i < 20 && model->highest.shard_no > 0; i++) {
		uint64_t shard_no = 1 + below(model, model->highest.shard_no);

		if (model->shards[shard_no].exists)
			return shard_no;
	}
	return 0;
}

static uint64_t pick_chunk(struct model *model)
{
	for (unsigned i = 0; i < 20 && model->highest.chunk_no > 0; i++) {
		uint64_t chunk_no = 1 + below(model, model->highest.chunk_no);

		if (model->chunks[chunk_no].exists)
			return chunk_no;
	}
	return 0;
}

static uint64_t add_chunk(struct model *model, struct record *record)
{
	uint64_t chunk_no = ++model->highest.chunk_no;
	struct chunk_row *row = &model->chunks[chunk_no].row;
	uint64_t shard_no = pick_shard(model);

	*row = (struct chunk_row){
		.chunk_no = chunk_no,
		.shard_no = shard_no != 0 ? shard_no : add_shard(model, record),
		.record_no = (uint32_t)below(model, 1000),
		.off = (uint32_t)rng_u64(&model->rng),
		.stored_len = (uint32_t)below(model, 100000),
		.raw_len = MODEL_CELLS,
	};
	rng_fill(&model->rng, row->id.b, sizeof(row->id.b));
	if (below(model, 4) == 0) /* same prefix, other name */
		memset(row->id.b, 0xc3, 6);
	model->chunks[chunk_no].exists = true;
	record_put_chunk(record, row);
	return chunk_no;
}

static void write_range(struct model *model, struct record *record)
{
	uint64_t ino = pick_inode(model, S_IFREG, true);
	struct model_inode *inode = &model->inodes[ino];
	uint64_t off = below(model, MODEL_CELLS), chunk_no;
	uint32_t len = 1 + (uint32_t)below(model, MODEL_CELLS - off);
	struct extent_row extent = {.ino = ino, .off = off, .len = len};

	if (ino == 0)
		return;
	chunk_no = below(model, 8) == 0 ? 0 : below(model, 3) == 0 ? pick_chunk(model) : 0;
	if (chunk_no == 0 && below(model, 8) != 0)
		chunk_no = add_chunk(model, record);
	/* A dying chunk is not used again before it is known to live. */
	if (chunk_no != 0 && model->chunks[chunk_no].del_seq != 0)
		chunk_no = 0;
	extent.chunk_no = chunk_no;
	extent.chunk_off = chunk_no != 0 ? (uint32_t)below(model, MODEL_CELLS - len + 1) : 0;
	for (uint32_t i = 0; i < len; i++)
		inode->cells[off + i] = (struct model_cell){
			.is_there = true,
			.chunk_no = chunk_no,
			.chunk_off = chunk_no != 0 ? extent.chunk_off + i : 0,
		};
	inode->row.size = MAX(inode->row.size, off + len);
	record_put_extent(record, &extent);
	put_inode(model, record, ino);
}

static void drop_range(struct model *model, struct record *record)
{
	uint64_t ino = pick_inode(model, S_IFREG, true);
	uint64_t off = below(model, MODEL_CELLS);
	bool to_the_end = below(model, 2) == 0;
	uint64_t len = to_the_end ? UINT64_MAX - off : 1 + below(model, MODEL_CELLS - off);

	if (ino == 0)
		return;
	record_del_extents(record, ino, off, len);
	for (uint64_t i = off; i < MODEL_CELLS && i - off < len; i++)
		model->inodes[ino].cells[i] = (struct model_cell){0};
	if (to_the_end)
		model->inodes[ino].row.size = off;
	put_inode(model, record, ino);
}

static void reclaim(struct model *model, struct record *record)
{
	for (uint64_t ino = 2; ino <= model->highest.ino; ino++) {
		if (!model->inodes[ino].exists || !(model->inodes[ino].row.flags & INODE_ORPHAN))
			continue;
		record_del_orphan(record, ino);
		make_gone(model, record, ino);
		return;
	}
}

static void change_xattr(struct model *model, struct record *record)
{
	uint64_t ino = pick_inode(model, 0, false);
	unsigned x = (unsigned)below(model, MODEL_XATTRS);
	char name[32], value[32];

	if (ino == 0)
		return;
	snprintf(name, sizeof(name), "user.x%u", x);
	if (below(model, 3) == 0) {
		model->inodes[ino].xattrs[x] = -1;
		record_del_xattr(record, ino, bytes_of_str(name));
		return;
	}
	model->inodes[ino].xattrs[x] = (int)below(model, 1000);
	model->inodes[ino].row.flags |= INODE_XATTR;
	snprintf(value, sizeof(value), "%d", model->inodes[ino].xattrs[x]);
	put_inode(model, record, ino);
	record_put_xattr(record, ino, bytes_of_str(name),
			 below(model, 9) == 0 ? bytes_of(NULL, 0) : bytes_of_str(value));
	if (record->changes.len > 0 && record->changes.ptr[record->changes.len - 1] == 0)
		model->inodes[ino].xattrs[x] = 1000; /* the empty value */
}

static bool is_shard_used(const struct model *model, uint64_t shard_no)
{
	for (uint64_t c = 1; c <= model->highest.chunk_no; c++)
		if ((model->chunks[c].exists || model->chunks[c].del_seq > 0) &&
		    model->chunks[c].row.shard_no == shard_no)
			return true;
	return false;
}

static void change_shard(struct model *model, struct record *record)
{
	uint64_t shard_no = pick_shard(model);
	uint32_t provider_no = 1 + (uint32_t)below(model, MODEL_PROVIDERS);
	struct shard_row *row = &model->shards[shard_no].row;
	struct copy_row copy = {.shard_no = shard_no, .provider_no = provider_no};

	if (shard_no == 0 || below(model, 6) == 0) {
		add_shard(model, record);
		return;
	}
	switch (below(model, 4)) {
	case 0:
		row->state = row->state % SHARD_CONDEMNED + 1;
		row->object_len = below(model, 1 << 26);
		row->sealed_sec = (int64_t)below(model, 1u << 31);
		rng_fill(&model->rng, row->mac, sizeof(row->mac));
		record_put_shard(record, row);
		break;
	case 1:
		copy.state = 1 + (uint32_t)below(model, COPY_DELETING);
		copy.changed_sec = some_time(model).sec;
		copy.verified_sec = below(model, 2) ? some_time(model).sec : 0;
		record_put_copy(record, &copy);
		model->shards[shard_no].copies[provider_no] =
			copy.state == COPY_UPLOADING ? COPY_PENDING : copy.state;
		break;
	case 2:
		record_del_copy(record, shard_no, provider_no);
		model->shards[shard_no].copies[provider_no] = 0;
		break;
	default:
		if (is_shard_used(model, shard_no))
			return;
		record_del_shard(record, shard_no);
		model->shards[shard_no].exists = false;
		memset(model->shards[shard_no].copies, 0, sizeof(model->shards[0].copies));
		break;
	}
}

static bool is_chunk_used(const struct model *model, uint64_t chunk_no)
{
	for (uint64_t ino = 1; ino <= model->highest.ino; ino++)
		for (size_t i = 0; i < MODEL_CELLS; i++)
			if (model->inodes[ino].cells[i].is_there &&
			    model->inodes[ino].cells[i].chunk_no == chunk_no)
				return true;
	return false;
}

static bool has_snapshots(const struct model *model)
{
	for (size_t i = 0; i < MODEL_SNAPSHOTS; i++)
		if (model->snapshots[i])
			return true;
	return false;
}

static void change_chunk(struct model *model, struct record *record)
{
	uint64_t chunk_no = pick_chunk(model), shard_no = pick_shard(model);

	if (chunk_no == 0 || shard_no == 0)
		return;
	if (below(model, 2) == 0) {
		model->chunks[chunk_no].row.shard_no = shard_no;
		model->chunks[chunk_no].row.record_no++;
		model->chunks[chunk_no].row.stored_len += 5;
		model->chunks[chunk_no].del_seq = 0;
		record_put_chunk(record, &model->chunks[chunk_no].row);
	} else if (is_chunk_used(model, chunk_no) || !has_snapshots(model)) {
		model->chunks[chunk_no].exists = is_chunk_used(model, chunk_no);
		model->chunks[chunk_no].del_seq = model->seq;
		record_del_chunk(record, chunk_no);
	}
}

static void drop_history(struct model *model, struct record *record)
{
	uint64_t cell = below(model, MODEL_CELLS), cookie = below(model, model->highest.cookie + 1);

	for (uint64_t ino = 1; ino <= model->highest.ino; ino++)
		record_drop_history(record, ino, below(model, 3) ? 0 : below(model, 2) ? cell : cookie);
}

static void change_snapshot(struct model *model, struct record *record)
{
	uint64_t no = model->highest.snapshot_no;
	struct snapshot_row row = {.snapshot_no = no + 1, .root = INO_ROOT};

	snprintf(row.name, sizeof(row.name), "snapshot-%" PRIu64, no + 1);
	if (no > 0 && below(model, 2) == 0) {
		no = 1 + below(model, no);
		if (model->pasts[no] && below(model, 3) > 0) {
			row.snapshot_no = no;
			row.name[0] = '\0';
			row.seq = model->pasts[no]->seq;
			record_put_snapshot(record, &row);
		} else if (no != model->made_snapshot) {
			model->snapshots[no] = false;
			record_del_snapshot(record, no);
		}
		if (no != model->made_snapshot)
			mem_free(STEAL(model->pasts[no]));
		if (below(model, 2) == 0)
			drop_history(model, record);
		return;
	}
	if (no + 2 >= MODEL_SNAPSHOTS)
		return;
	model->highest.snapshot_no++;
	model->snapshots[no + 1] = true;
	model->made_snapshot = no + 1;
	record_put_snapshot(record, &row);
}

static void keep_past(struct model *model)
{
	struct model_past *past = mem_alloc(sizeof(*past));

	cr_assert_not_null(past);
	memcpy(past->inodes, model->inodes, sizeof(past->inodes));
	memcpy(past->dirents, model->dirents, sizeof(past->dirents));
	past->highest_ino = model->highest.ino;
	past->highest_cookie = model->highest.cookie;
	past->seq = model->seq;
	model->pasts[model->made_snapshot] = past;
}

/* What an entry says follows from its number. */
static struct audit_row audit_entry(uint64_t no, char text[32])
{
	struct audit_row row = {.audit_no = no, .time = {(int64_t)no * 3 - 50, (uint32_t)no}};

	memset(row.mac, (int)(no * 7), sizeof(row.mac));
	snprintf(text, 32, "{\"number\":%" PRIu64 "}", no);
	row.body = bytes_of_str(text);
	return row;
}

static void change_audit(struct model *model, struct record *record)
{
	uint64_t left = model->audit_last + 1 - model->audit_first;
	struct audit_row row;
	char text[32];

	if (left > 4 && below(model, 4) == 0) { /* the newest one stays */
		model->audit_first += 1 + below(model, left - 1);
		record_cut_audit(record, model->audit_first - 1);
		snprintf(text, sizeof(text), "%" PRIu64 " mac", model->audit_first - 1);
		record_put_setting(record, bytes_of_str("audit_cut"), bytes_of_str(text));
		return;
	}
	row = audit_entry(++model->audit_last, text);
	record_put_audit(record, &row);
}

static void change_small(struct model *model, struct record *record)
{
	uint64_t root = pick_inode(model, S_IFDIR, false);
	struct policy_row policy = {.root = root, .version = 1 + below(model, 100)};
	char text[16];

	switch (below(model, 4)) {
	case 0:
		snprintf(policy.text, sizeof(policy.text), "copies=%" PRIu64, policy.version);
		model->policies[root] = (int)policy.version;
		record_put_policy(record, &policy);
		break;
	case 1:
		model->policies[root] = 0;
		record_del_policy(record, root);
		break;
	case 2:
		change_audit(model, record);
		break;
	default:
		model->setting = 1 + (int)below(model, 1000);
		snprintf(text, sizeof(text), "%d", model->setting);
		record_put_setting(record, bytes_of_str("key"), bytes_of_str(text));
	}
}

static void add_providers(struct model *model, struct record *record)
{
	for (uint32_t i = 1; i <= MODEL_PROVIDERS; i++) {
		struct provider_row row = {.provider_no = i, .type = "dir", .role = "primary"};

		snprintf(row.name, sizeof(row.name), "provider-%u", i);
		record_put_provider(record, &row);
	}
	model->highest.provider_no = MODEL_PROVIDERS;
}

static void one_change(struct model *model, struct record *record)
{
	switch (below(model, 20)) {
	case 0:
	case 1:
	case 2:
		add_inode(model, record, S_IFREG);
		break;
	case 3:
		add_inode(model, record, S_IFDIR);
		break;
	case 4:
		add_inode(model, record, S_IFLNK);
		break;
	case 5:
	case 6:
		remove_name(model, record);
		break;
	case 7:
	case 8:
		rename_name(model, record);
		break;
	case 9:
		add_link(model, record);
		break;
	case 10:
	case 11:
	case 12:
		write_range(model, record);
		break;
	case 13:
		drop_range(model, record);
		break;
	case 14:
		reclaim(model, record);
		break;
	case 15:
		change_xattr(model, record);
		break;
	case 16:
		change_shard(model, record);
		break;
	case 17:
		change_chunk(model, record);
		break;
	case 18:
		if (below(model, 2) == 0 && model->made_snapshot == 0)
			change_snapshot(model, record);
		break;
	default:
		change_small(model, record);
	}
}

struct record *model_step(struct model *model)
{
	struct record *record;

	if (model->highest.ino + 6 > MODEL_INOS || model->highest.cookie + 8 > MODEL_DIRENTS ||
	    model->highest.chunk_no + 8 > MODEL_CHUNKS || model->highest.shard_no + 8 > MODEL_SHARDS)
		return NULL;
	record = record_new();
	cr_assert_not_null(record);
	record->seq = ++model->seq;
	model->made_directory = 0;
	model->made_snapshot = 0;
	if (model->seq == 1)
		add_providers(model, record);
	for (uint64_t n = 1 + below(model, 3); n > 0; n--)
		one_change(model, record);
	if (model->made_snapshot != 0)
		keep_past(model);
	cr_assert_eq(record->error, 0);
	return record;
}

/* ---- comparing ---- */

/* The number by which the index knows an inode of the model. */
static uint64_t at(const struct model *model, uint64_t ino)
{
	return model->view ? ino_in_snapshot(model->view, ino) : ino;
}

static bool known(int r, struct index_reader *reader)
{
	if (r == -EAGAIN && reader == NULL)
		return false;
	cr_assert_neq(r, -EAGAIN);
	return true;
}

static bool is_same_time(struct wall_time a, struct wall_time b)
{
	return a.sec == b.sec && a.nsec == b.nsec;
}

static void compare_inode(const struct model *model, struct index *index,
			  struct index_reader *reader, uint64_t ino)
{
	const struct model_inode *inode = &model->inodes[ino];
	const struct inode_row *want = &inode->row;
	struct inode_row row;
	int r = index_get_inode(index, reader, at(model, ino), &row);
	bool exists = inode->exists && !(model->view && (want->flags & INODE_ORPHAN));

	if (!known(r, reader))
		return;
	cr_assert_eq(r, exists ? 0 : -ENOENT, "inode %" PRIu64 ": %d", ino, r);
	if (r < 0)
		return;
	cr_assert_eq(row.ino, at(model, ino));
	cr_assert_eq(row.mode, want->mode);
	cr_assert_eq(row.uid, want->uid);
	cr_assert_eq(row.gid, want->gid);
	cr_assert_eq(row.nlink, want->nlink);
	cr_assert_eq(row.rdev, want->rdev);
	cr_assert_eq(row.size, want->size, "inode %" PRIu64, ino);
	cr_assert(is_same_time(row.atime, want->atime));
	cr_assert(is_same_time(row.mtime, want->mtime));
	cr_assert(is_same_time(row.ctime, want->ctime));
	cr_assert(is_same_time(row.btime, want->btime));
	cr_assert_eq(row.flags, want->flags);
	if (!model->view || ino != INO_ROOT)
		cr_assert_eq(row.parent, at(model, want->parent));
	cr_assert_eq(row.policy_root, want->policy_root);
	if (!model->is_restored)
		cr_assert_eq(row.birth, want->birth);
}

static void compare_xattrs(const struct model *model, struct index *index,
			   struct index_reader *reader, uint64_t ino)
{
	const struct model_inode *inode = &model->inodes[ino];
	AUTO(buf) names = BUF_INIT;
	size_t names_len = 0;
	int r;

	for (unsigned x = 0; x < MODEL_XATTRS; x++) {
		AUTO(buf) value = BUF_INIT;
		char name[32], want[32] = "";

		snprintf(name, sizeof(name), "user.x%u", x);
		if (inode->xattrs[x] >= 0)
			names_len += strlen(name) + 1;
		r = index_get_xattr(index, reader, at(model, ino), bytes_of_str(name), &value);
		if (!known(r, reader))
			continue;
		cr_assert_eq(r, inode->xattrs[x] >= 0 ? 0 : -ENODATA);
		if (inode->xattrs[x] >= 0 && inode->xattrs[x] < 1000)
			snprintf(want, sizeof(want), "%d", inode->xattrs[x]);
		if (r == 0)
			cr_assert_str_eq(buf_str(&value), want);
	}
	r = index_list_xattrs(index, reader, at(model, ino), &names);
	if (known(r, reader)) {
		cr_assert_eq(r, 0);
		cr_assert_eq(names.len, names_len, "inode %" PRIu64, ino);
	}
}

static void compare_symlink(const struct model *model, struct index *index,
			    struct index_reader *reader, uint64_t ino)
{
	const struct model_inode *inode = &model->inodes[ino];
	AUTO(buf) target = BUF_INIT;
	char want[32];
	int r = index_get_symlink(index, reader, at(model, ino), &target);

	if (!known(r, reader))
		return;
	cr_assert_eq(r, inode->exists && S_ISLNK(inode->row.mode) ? 0 : -ENOENT);
	snprintf(want, sizeof(want), "target-%d", inode->target);
	if (r == 0)
		cr_assert_str_eq(buf_str(&target), want);
}

static void compare_extents(const struct model *model, struct index *index,
			    struct index_reader *reader, uint64_t ino, struct rng *rng)
{
	const struct model_inode *inode = &model->inodes[ino];
	AUTO(extent_list) extents = ROW_LIST_INIT;
	uint64_t off = rng_below(rng, 2) ? 0 : rng_below(rng, MODEL_CELLS);
	uint64_t end = rng_below(rng, 2) ? UINT64_MAX : off + 1 + rng_below(rng, MODEL_CELLS);
	size_t count_max = rng_below(rng, 2) ? 1000 : 1 + rng_below(rng, 4);
	uint64_t from = off, bytes = 0, covered = 0;
	size_t next = 0;
	int r = 0;

	while (from < end) {
		size_t count_before = extents.count;
		uint64_t before = from;

		r = index_find_extents(index, reader, at(model, ino), from, end - from, count_max, &extents, &from);
		if (!known(r, reader))
			return;
		cr_assert_eq(r, 0);
		cr_assert_leq(extents.count - count_before, count_max);
		cr_assert_gt(from, before);
		cr_assert_leq(from, end);
	}
	for (uint64_t i = off; i < MODEL_CELLS && i < end; i++) {
		const struct model_cell *cell = &inode->cells[i];
		const struct extent_row *row;

		while (next < extents.count &&
		       extents.rows[next].off + extents.rows[next].len <= i)
			next++;
		row = next < extents.count && extents.rows[next].off <= i ? &extents.rows[next]
									    : NULL;
		cr_assert_eq(row != NULL, cell->is_there, "inode %" PRIu64 " at %" PRIu64, ino, i);
		if (row == NULL)
			continue;
		cr_assert_eq(row->ino, at(model, ino));
		cr_assert_geq(row->off, off);
		cr_assert_leq(row->off + row->len, end);
		cr_assert_eq(row->chunk_no, cell->chunk_no, "inode %" PRIu64 " at %" PRIu64, ino,
			     i);
		if (row->chunk_no != 0)
			cr_assert_eq(row->chunk_off + (i - row->off), cell->chunk_off);
	}
	for (size_t i = 1; i < extents.count; i++)
		cr_assert_geq(extents.rows[i].off,
			      extents.rows[i - 1].off + extents.rows[i - 1].len);
	for (size_t i = 0; i < MODEL_CELLS; i++)
		bytes += inode->cells[i].is_there;
	r = index_count_extent_bytes(index, reader, at(model, ino), &covered);
	if (known(r, reader))
		cr_assert_eq(covered, bytes);
}

static void compare_directory(const struct model *model, struct index *index,
			      struct index_reader *reader, uint64_t ino, struct rng *rng)
{
	AUTO(dirent_list) names = ROW_LIST_INIT;
	size_t count_max = 1 + rng_below(rng, 8), count_before;
	char buf[NAME_LEN_MAX + 1];
	size_t listed = 0;
	int r;

	for (unsigned n = 0; n < MODEL_NAMES; n++) {
		struct bytes name = name_of(n, buf);
		uint64_t cookie = cookie_of(model, ino, name);
		struct dirent_row row;

		if (rng_below(rng, 3) != 0)
			continue;
		r = index_find_dirent(index, reader, at(model, ino), name, &row);
		if (!known(r, reader))
			continue;
		cr_assert_eq(r, cookie != 0 ? 0 : -ENOENT, "directory %" PRIu64 " name %u: %d", ino,
			     n, r);
		if (r < 0)
			continue;
		cr_assert_eq(row.cookie, cookie);
		cr_assert_eq(row.ino, at(model, model->dirents[cookie].row.ino));
		cr_assert_eq(row.type, model->dirents[cookie].row.type);
	}
	r = index_check_empty(index, reader, at(model, ino));
	if (known(r, reader))
		cr_assert_eq(r, is_empty(model, ino) ? 0 : -ENOTEMPTY);
	do {
		count_before = names.count;
		r = index_list_dirents(index, reader, at(model, ino),
				       names.count > 0 ? names.rows[names.count - 1].cookie : 0,
				       count_max, &names);
		if (!known(r, reader))
			return;
		cr_assert_eq(r, 0);
		cr_assert_leq(names.count - count_before, count_max);
	} while (names.count - count_before == count_max);
	for (uint64_t c = 1; c <= model->highest.cookie; c++) {
		if (!model->dirents[c].exists || model->dirents[c].row.parent != ino)
			continue;
		cr_assert_lt(listed, names.count, "directory %" PRIu64 " lacks %" PRIu64, ino, c);
		cr_assert_eq(names.rows[listed].cookie, c);
		cr_assert_eq(names.rows[listed].ino, at(model, model->dirents[c].row.ino));
		cr_assert_str_eq(names.rows[listed].name, model->dirents[c].row.name);
		listed++;
	}
	cr_assert_eq(listed, names.count, "directory %" PRIu64 " has more", ino);
}

static void check_chunk(const struct chunk_row *row, const struct chunk_row *want)
{
	cr_assert_eq(row->chunk_no, want->chunk_no);
	cr_assert_eq(row->shard_no, want->shard_no);
	cr_assert_eq(row->record_no, want->record_no);
	cr_assert_eq(row->off, want->off);
	cr_assert_eq(row->stored_len, want->stored_len);
	cr_assert_eq(row->raw_len, want->raw_len);
	cr_assert_arr_eq(row->id.b, want->id.b, sizeof(row->id.b));
}

static void compare_chunk(const struct model *model, struct index *index,
			  struct index_reader *reader, uint64_t chunk_no)
{
	bool is_dying = model->chunks[chunk_no].del_seq > index_applied_seq(index);
	bool exists = model->chunks[chunk_no].exists;
	struct chunk_row row;
	int r = index_get_chunk(index, reader, chunk_no, &row);

	if (known(r, reader) && !(is_dying && !exists))
		cr_assert_eq(r, exists ? 0 : -ENOENT, "chunk %" PRIu64 ": %d", chunk_no, r);
	if (r == 0)
		check_chunk(&row, &model->chunks[chunk_no].row);
	r = index_find_chunk(index, reader, &model->chunks[chunk_no].row.id, &row);
	if (known(r, reader))
		cr_assert_eq(r, exists && !is_dying ? 0 : -ENOENT, "chunk %" PRIu64 ": %d",
			     chunk_no, r);
	if (r == 0)
		check_chunk(&row, &model->chunks[chunk_no].row);
}

static void compare_chunks_of(const struct model *model, struct index *index,
			      struct index_reader *reader, uint64_t shard_no, struct rng *rng)
{
	AUTO(chunk_list) chunks = ROW_LIST_INIT;
	size_t count_max = 1 + rng_below(rng, 8), count_before, at = 0;

	do {
		count_before = chunks.count;
		cr_assert_eq(index_list_chunks(index, reader, shard_no,
					       count_before ? chunks.rows[count_before - 1].chunk_no
							    : 0,
					       count_max, &chunks),
			     0);
		cr_assert_leq(chunks.count - count_before, count_max);
	} while (chunks.count - count_before == count_max);
	for (uint64_t c = 1; c <= model->highest.chunk_no; c++) {
		bool is_dying = model->chunks[c].del_seq > index_applied_seq(index);

		if (model->chunks[c].row.shard_no != shard_no)
			continue;
		if (at < chunks.count && chunks.rows[at].chunk_no == c) {
			cr_assert(model->chunks[c].exists || is_dying);
			check_chunk(&chunks.rows[at++], &model->chunks[c].row);
		} else {
			cr_assert(!model->chunks[c].exists, "shard %" PRIu64 " lacks chunk %" PRIu64,
				  shard_no, c);
		}
	}
	cr_assert_eq(at, chunks.count);
}

static void check_shard(const struct shard_row *row, const struct shard_row *want)
{
	cr_assert_eq(row->shard_no, want->shard_no);
	cr_assert_eq(row->state, want->state);
	cr_assert_eq(row->key_epoch, want->key_epoch);
	cr_assert_eq(row->writer_epoch, want->writer_epoch);
	cr_assert_eq(row->policy_root, want->policy_root);
	cr_assert_eq(row->object_len, want->object_len);
	cr_assert_eq(row->sealed_sec, want->sealed_sec);
	cr_assert_arr_eq(row->id.b, want->id.b, sizeof(row->id.b));
	cr_assert_arr_eq(row->mac, want->mac, sizeof(row->mac));
}

static void compare_shard(const struct model *model, struct index *index,
			  struct index_reader *reader, uint64_t shard_no)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct shard_row row;
	size_t at = 0;
	int r = index_get_shard(index, reader, shard_no, &row);

	if (known(r, reader))
		cr_assert_eq(r, model->shards[shard_no].exists ? 0 : -ENOENT);
	if (r == 0)
		check_shard(&row, &model->shards[shard_no].row);
	if (reader == NULL)
		return;
	r = index_find_shard(index, reader, &model->shards[shard_no].row.id, &row);
	cr_assert_eq(r, model->shards[shard_no].exists ? 0 : -ENOENT, "shard %" PRIu64 ": %d",
		     shard_no, r);
	cr_assert_eq(index_list_copies(index, reader, shard_no, &copies), 0);
	for (uint32_t p = 1; p <= MODEL_PROVIDERS; p++) {
		uint32_t state = model->shards[shard_no].copies[p];

		if (state == 0)
			continue;
		cr_assert_lt(at, copies.count);
		cr_assert_eq(copies.rows[at].provider_no, p);
		cr_assert_eq(copies.rows[at].state, state);
		at++;
	}
	cr_assert_eq(at, copies.count);
}

static void compare_shard_lists(const struct model *model, struct index *index,
				struct index_reader *reader, struct rng *rng)
{
	AUTO(shard_list) shards = ROW_LIST_INIT;
	AUTO(copy_list) copies = ROW_LIST_INIT;
	size_t count_max = 1 + rng_below(rng, 8), count_before, at = 0;
	uint32_t state = 1 + (uint32_t)rng_below(rng, COPY_DELETING);

	do {
		count_before = shards.count;
		cr_assert_eq(index_list_shards(index, reader,
					       count_before ? shards.rows[count_before - 1].shard_no
							    : 0,
					       count_max, &shards),
			     0);
	} while (shards.count - count_before == count_max);
	for (uint64_t s = 1; s <= model->highest.shard_no; s++) {
		if (!model->shards[s].exists)
			continue;
		cr_assert_lt(at, shards.count);
		check_shard(&shards.rows[at++], &model->shards[s].row);
	}
	cr_assert_eq(at, shards.count);
	do {
		count_before = copies.count;
		cr_assert_eq(index_list_copies_in_state(
				     index, reader, state,
				     count_before ? copies.rows[count_before - 1].shard_no : 0,
				     count_max, &copies),
			     0);
	} while (copies.count - count_before >= count_max);
	if (state == COPY_UPLOADING)
		state = COPY_PENDING;
	at = 0;
	for (uint64_t s = 1; s <= model->highest.shard_no; s++)
		for (uint32_t p = 1; p <= MODEL_PROVIDERS; p++) {
			if (model->shards[s].copies[p] != state)
				continue;
			cr_assert_lt(at, copies.count, "shard %" PRIu64, s);
			cr_assert_eq(copies.rows[at].shard_no, s);
			cr_assert_eq(copies.rows[at].provider_no, p);
			at++;
		}
	cr_assert_eq(at, copies.count);
}

static void compare_small(const struct model *model, struct index *index,
			  struct index_reader *reader, struct rng *rng)
{
	AUTO(provider_list) providers = ROW_LIST_INIT;
	AUTO(policy_list) policies = ROW_LIST_INIT;
	AUTO(snapshot_list) snapshots = ROW_LIST_INIT;
	AUTO(buf) setting = BUF_INIT;
	uint64_t orphans[MODEL_INOS];
	size_t orphan_count = 0, count, count_max = 1 + rng_below(rng, 8), at = 0;
	int r;

	cr_assert_eq(index_list_providers(index, reader, &providers), 0);
	cr_assert_eq(providers.count, model->highest.provider_no);
	cr_assert_eq(index_list_policies(index, reader, &policies), 0);
	for (uint64_t ino = 1; ino <= model->highest.ino; ino++) {
		struct policy_row row;

		r = index_get_policy(index, reader, ino, &row);
		cr_assert_eq(r, model->policies[ino] != 0 ? 0 : -ENOENT);
		if (r < 0)
			continue;
		cr_assert_eq(row.version, (uint64_t)model->policies[ino]);
		cr_assert_lt(at, policies.count);
		cr_assert_eq(policies.rows[at++].root, ino);
	}
	cr_assert_eq(at, policies.count);
	cr_assert_eq(index_list_snapshots(index, reader, &snapshots), 0);
	at = 0;
	for (uint64_t s = 1; s < MODEL_SNAPSHOTS; s++)
		if (model->snapshots[s]) {
			cr_assert_lt(at, snapshots.count);
			cr_assert_eq(snapshots.rows[at].name[0] != '\0', model->pasts[s] != NULL);
			cr_assert_eq(snapshots.rows[at].snapshot_no, s);
			cr_assert_gt(snapshots.rows[at++].seq, 0);
		}
	cr_assert_eq(at, snapshots.count);
	r = index_get_setting(index, reader, "key", &setting);
	cr_assert_eq(r, model->setting != 0 ? 0 : -ENOENT);
	if (r == 0)
		cr_assert_eq(atoi(buf_str(&setting)), model->setting);
	do {
		cr_assert_eq(index_list_orphans(index, reader,
						orphan_count ? orphans[orphan_count - 1] : 0,
						count_max, orphans + orphan_count, &count),
			     0);
		orphan_count += count;
	} while (count == count_max);
	at = 0;
	for (uint64_t ino = 1; ino <= model->highest.ino; ino++)
		if (model->inodes[ino].exists && (model->inodes[ino].row.flags & INODE_ORPHAN)) {
			cr_assert_lt(at, orphan_count);
			cr_assert_eq(orphans[at++], ino);
		}
	cr_assert_eq(at, orphan_count);
}

struct audit_walk {
	uint64_t next;
	struct audit_row last;
};

static int compare_entry(void *ctx, const struct audit_row *row)
{
	struct audit_walk *walk = ctx;
	char text[32];
	struct audit_row want = audit_entry(walk->next++, text);

	cr_assert_eq(row->audit_no, want.audit_no);
	cr_assert(is_same_time(row->time, want.time));
	cr_assert_arr_eq(row->mac, want.mac, sizeof(want.mac));
	cr_assert(bytes_equal(row->body, want.body));
	return 0;
}

/* The log is read as applied. */
static void compare_audit(const struct model *model, struct index *index,
			  struct index_reader *reader, struct rng *rng)
{
	struct audit_walk walk = {.next = model->audit_first};
	uint64_t after, last_no;
	uint8_t mac[32];
	char text[32];
	int r;

	if (index_applied_seq(index) != model->seq)
		return;
	cr_assert_eq(index_list_audit(index, reader, 0, SIZE_MAX / 2, compare_entry, &walk), 0);
	cr_assert_eq(walk.next, model->audit_last + 1);
	after = model->audit_first - 1 + rng_below(rng, model->audit_last + 2 - model->audit_first);
	walk.next = after + 1;
	cr_assert_eq(index_list_audit(index, reader, after, 2, compare_entry, &walk), 0);
	cr_assert_eq(walk.next, MIN(after + 2, model->audit_last) + 1);
	r = index_last_audit(index, reader, &last_no, mac);
	cr_assert_eq(r, model->audit_first <= model->audit_last ? 0 : -ENOENT);
	if (r < 0)
		return;
	cr_assert_eq(last_no, model->audit_last);
	cr_assert_arr_eq(mac, audit_entry(last_no, text).mac, sizeof(mac));
}

static void compare_tree(const struct model *model, struct index *index,
			 struct index_reader *reader, struct rng *rng)
{
	for (uint64_t ino = 1; ino <= model->highest.ino + 1; ino++) {
		compare_inode(model, index, reader, ino);
		if (model->view && (model->inodes[ino].row.flags & INODE_ORPHAN))
			continue; /* nothing is kept of it */
		compare_xattrs(model, index, reader, ino);
		compare_symlink(model, index, reader, ino);
		compare_extents(model, index, reader, ino, rng);
		if (is_dir(model, ino) || rng_below(rng, 8) == 0)
			compare_directory(model, index, reader, ino, rng);
	}
}

/* A file counts in the directory that it says it is in, as long as that one is there. */
static bool counts_at_root(const struct model *model, uint64_t ino)
{
	while (ino != INO_ROOT) {
		const struct model_inode *inode = &model->inodes[ino];

		if (!inode->exists || (inode->row.flags & INODE_ORPHAN))
			return false;
		ino = inode->row.parent;
	}
	return true;
}

static void compare_counters(const struct model *model, struct index *index,
			     struct index_reader *reader)
{
	struct dir_counter below = {0}, want = {0};
	int r = index_get_dir_counter(index, reader, ino_in_snapshot(model->view, INO_ROOT), &below);

	if (!known(r, reader))
		return;
	for (uint64_t ino = INO_ROOT + 1; ino <= model->highest.ino; ino++) {
		const struct inode_row *row = &model->inodes[ino].row;

		if (!counts_at_root(model, ino))
			continue;
		want.files += !S_ISDIR(row->mode);
		want.directories += S_ISDIR(row->mode);
		want.bytes += S_ISREG(row->mode) ? row->size : 0;
	}
	cr_assert_eq(below.files, want.files);
	cr_assert_eq(below.directories, want.directories);
	cr_assert_eq(below.bytes, want.bytes);
}

/* A model of what the snapshot shows, compared like one of what is now. */
static void compare_snapshot(const struct model *model, struct index *index,
			     struct index_reader *reader, uint64_t no, struct rng *rng)
{
	const struct model_past *past = model->pasts[no];
	struct inode_row row;
	struct model *then;

	if (!past || past->seq > index_applied_seq(index)) {
		cr_assert_eq(index_get_inode(index, reader, ino_in_snapshot(no, INO_ROOT), &row),
			     -ESTALE);
		return;
	}
	then = mem_alloc(sizeof(*then));
	cr_assert_not_null(then);
	then->view = no;
	then->is_restored = model->is_restored;
	then->highest.ino = past->highest_ino;
	then->highest.cookie = past->highest_cookie;
	memcpy(then->inodes, past->inodes, sizeof(then->inodes));
	memcpy(then->dirents, past->dirents, sizeof(then->dirents));
	compare_tree(then, index, reader, rng);
	compare_counters(then, index, reader);
	mem_free(then);
}

void model_compare_tree(const struct model *model, struct index *index,
			struct index_reader *reader)
{
	struct rng rng = model->rng; /* comparing does not change what comes next */

	compare_tree(model, index, reader, &rng);
	for (uint64_t no = 1; no <= model->highest.snapshot_no; no++)
		compare_snapshot(model, index, reader, no, &rng);
}

void model_compare(const struct model *model, struct index *index, struct index_reader *reader)
{
	struct rng rng = model->rng;
	struct index_highest highest;

	model_compare_tree(model, index, reader);
	for (uint64_t c = 1; c <= model->highest.chunk_no; c++)
		compare_chunk(model, index, reader, c);
	for (uint64_t s = 1; s <= model->highest.shard_no; s++)
		compare_shard(model, index, reader, s);
	if (reader != NULL) {
		for (uint64_t s = 1; s <= model->highest.shard_no; s++)
			compare_chunks_of(model, index, reader, s, &rng);
		compare_shard_lists(model, index, reader, &rng);
		compare_small(model, index, reader, &rng);
		compare_audit(model, index, reader, &rng);
	}
	index_highest(index, &highest);
	cr_assert_eq(highest.ino, model->highest.ino);
	cr_assert_eq(highest.cookie, model->highest.cookie);
	cr_assert_eq(highest.chunk_no, model->highest.chunk_no);
	cr_assert_eq(highest.shard_no, model->highest.shard_no);
	cr_assert_eq(highest.snapshot_no, model->highest.snapshot_no);
}
