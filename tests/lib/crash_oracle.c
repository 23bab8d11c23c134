/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_oracle DIR SEED LOG: works on a mount until its daemon dies, and judges
 * afterwards what is there.  It outlives the mount and remembers outside of it
 * what was acknowledged.
 *
 * Commands on standard input, one answer line for each ("ok ..." or "BAD ..."):
 *
 *	work PID OPS kill	random operations of THREADS workers, each below DIR/<n>,
 *			until the mount dies; after OPS of them SIGKILL to PID, its daemon
 *	work PID OPS end	the same, but after OPS the workers close their files;
 *			the answer ends in "died" if the mount did
 *	verify		what may be there after a death of the daemon
 *	power		what may be there after a loss of power: there a close
 *			acknowledges nothing
 *	exact		everything is there (after a clean end)
 *	quit
 *
 * The model.  Operations of a worker are numbered.  A `cut` is the number of
 * the first metadata operation that is not there (truncations are such).  Some
 * cut must explain names, types, modes, links, symlinks and xattrs at once.  An
 * acknowledged close, fsync or fsync of a directory stands for the last change of
 * its inode (of names in it), and so for every metadata operation, of whichever
 * worker, that ended before that change began: the cut lies behind those.  Where
 * an operation of one worker is there, so are all those of others that ended
 * before it began.
 *
 * For that cut each byte of a file is one that a write before the cut put there,
 * and not older than what close or fsync of that file acknowledged.  The last
 * byte of a file is never a hole that nobody made: no size without its bytes.
 * Bytes are made from (inode, write, offset), some from (template, offset) so
 * that they are found again as duplicates.
 */
#include "tests/lib/rng.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define THREADS	       2
#define NODES_MAX      4096
#define ENTRIES_MAX    160
#define OPS_MAX	       20000
#define FDS	       4
#define FILE_BYTES_MAX ((size_t)12 << 20)
#define XATTR	       "user.oracle"
#define NO_XATTR       UINT32_MAX
#define TEMPLATES      3

/* The descriptor of an open_file, which is closed by whoever takes it. */
#define STEAL_FD(file)                                                                             \
	({                                                                                         \
		int fd_ = (file)->fd;                                                              \
		(file)->fd = -1;                                                                   \
		fd_;                                                                               \
	})

enum kind { KIND_FILE, KIND_DIR, KIND_SYMLINK };

enum op_kind {
	OP_CREATE, OP_MKDIR, OP_SYMLINK, OP_LINK, OP_UNLINK, OP_RMDIR, OP_RENAME, OP_CHMOD,
	OP_SETXATTR, OP_REMOVEXATTR, OP_TRUNCATE, /* metadata up to here */
	OP_WRITE, OP_FSYNC, OP_CLOSE, OP_FSYNCDIR, OP_READ,
};
static const char *const op_names[] = {
	"create", "mkdir", "symlink", "link", "unlink", "rmdir", "rename", "chmod", "setxattr",
	"removexattr", "truncate", "write", "fsync", "close", "fsyncdir", "read"};

struct op {
	enum op_kind kind;
	bool is_acked, is_noop;
	int node, dir, to_dir; /* directories: of path and to; 0: the worker's own */
	char path[64], to[64];
	uint64_t off, len; /* write; truncate: off is the size; chmod, setxattr: the value */
	uint64_t began, ended;
	uint32_t tag; /* of a write: what its bytes are made from */
};

/* An inode.  base: its bytes when the cycle began; live: as the program sees it. */
struct node {
	enum kind kind;
	uint32_t base_mode, base_xattr, mode, xattr;
	uint8_t *base, *live;
	size_t base_len, live_len;
	int barrier;      /* ops before this one are in it for good; 0: none */
	int sync_barrier; /* the same, of fsyncs alone */
	bool is_used;
};

struct entry {
	char path[64];
	int node;
};

struct tree {
	struct entry entries[ENTRIES_MAX];
	unsigned count;
};

/* What changes with the cut. */
struct state {
	struct tree tree;
	uint32_t mode[NODES_MAX], xattr[NODES_MAX];
};

struct open_file {
	int fd, node;
};

struct worker {
	unsigned no;
	char root[256];
	struct rng rng;
	struct node nodes[NODES_MAX];
	int node_count;
	struct tree base, live;
	struct op *ops;
	int op_count;
	struct open_file files[FDS];
	bool is_dead;
	int required; /* lowest cut allowed */
	int cut_min, cut_max;
};

/* What is on the mount. */
struct found {
	char path[64];
	enum kind kind;
	uint32_t mode, xattr, nlink;
	uint64_t ino, size;
	char target[64];
	uint8_t *bytes;
};

struct snapshot {
	struct found found[ENTRIES_MAX];
	unsigned count;
};

static struct worker workers[THREADS];
static struct snapshot snapshots[THREADS];
static const char *log_path, *dir_path;
static atomic_uint_fast64_t stamp = 1;
static atomic_uint_fast64_t ops_done;
static atomic_bool is_stopping;
static pid_t victim;
static bool is_killer;
static bool is_power_loss; /* a close acknowledged nothing */
static uint64_t ops_wanted;
static uint32_t cycle;
static char complaint[1024];
static pthread_mutex_t complaint_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Keeps the first complaint. */
static bool bad(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool bad(const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&complaint_mutex);
	if (!complaint[0]) {
		va_start(args, format);
		vsnprintf(complaint, sizeof(complaint), format, args);
		va_end(args);
	}
	pthread_mutex_unlock(&complaint_mutex);
	return false;
}

static void *need(void *p)
{
	if (!p) {
		puts("BAD out of memory");
		exit(2);
	}
	return p;
}

/* ---- bytes ---- */

/*
 * Bit 31 of a tag: a template, the same for every inode; bit 30: bytes that
 * compress.  Never 0, so that a hole is told from a byte.
 */
static void pattern(int node, uint32_t tag, uint64_t off, size_t len, uint8_t *out)
{
	unsigned shift = tag & BIT(30) ? 8 : 3;
	uint64_t who = tag & BIT(31) ? tag : (uint64_t)tag << 32 | (uint32_t)node;
	uint64_t hash = 0, have = UINT64_MAX;

	for (size_t i = 0; i < len; i++) {
		uint64_t at = off + i;

		if (at >> shift != have) {
			have = at >> shift;
			hash = map_hash_u64(who * 0x9e3779b97f4a7c15u ^ map_hash_u64(have + 1));
		}
		out[i] = (uint8_t)(1 + (hash >> (at % 8 * 8) & 0xff) % 255);
	}
}

/* ---- trees ---- */

static int tree_find(const struct tree *tree, const char *path)
{
	for (unsigned i = 0; i < tree->count; i++)
		if (strcmp(tree->entries[i].path, path) == 0)
			return (int)i;
	return -1;
}

static void tree_add(struct tree *tree, const char *path, int node)
{
	struct entry *entry = &tree->entries[tree->count++];

	snprintf(entry->path, sizeof(entry->path), "%s", path);
	entry->node = node;
}

static void tree_remove(struct tree *tree, const char *path)
{
	int i = tree_find(tree, path);

	if (i >= 0)
		tree->entries[i] = tree->entries[--tree->count];
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && path[len] == '/';
}

static void tree_rename(struct tree *tree, const char *from, const char *to)
{
	int i;

	if (strcmp(from, to) == 0)
		return;
	i = tree_find(tree, to);
	if (i >= 0 && tree->entries[i].node == tree->entries[tree_find(tree, from)].node)
		return; /* two names of one inode: nothing happens */
	tree_remove(tree, to);
	for (unsigned j = 0; j < tree->count; j++) {
		struct entry *entry = &tree->entries[j];
		char rest[64];

		if (strcmp(entry->path, from) != 0 && !is_below(entry->path, from))
			continue;
		snprintf(rest, sizeof(rest), "%s", entry->path + strlen(from));
		if (snprintf(entry->path, sizeof(entry->path), "%.31s%.31s", to, rest) < 0)
			abort();
	}
}

static unsigned tree_links(const struct tree *tree, int node)
{
	unsigned links = 0;

	for (unsigned i = 0; i < tree->count; i++)
		links += tree->entries[i].node == node;
	return links;
}

static void tree_apply(struct tree *tree, const struct op *op)
{
	switch (op->kind) {
	case OP_CREATE:
	case OP_MKDIR:
	case OP_SYMLINK: tree_add(tree, op->path, op->node); break;
	case OP_LINK: tree_add(tree, op->to, op->node); break;
	case OP_UNLINK:
	case OP_RMDIR: tree_remove(tree, op->path); break;
	case OP_RENAME: tree_rename(tree, op->path, op->to); break;
	default: break;
	}
}

static void state_apply(struct state *state, const struct op *op)
{
	tree_apply(&state->tree, op);
	if (op->kind == OP_CREATE || op->kind == OP_MKDIR || op->kind == OP_SYMLINK) {
		state->mode[op->node] = op->kind == OP_MKDIR ? 0755 : 0644;
		state->xattr[op->node] = NO_XATTR;
	} else if (op->kind == OP_CHMOD) {
		state->mode[op->node] = (uint32_t)op->off;
	} else if (op->kind == OP_SETXATTR) {
		state->xattr[op->node] = (uint32_t)op->off;
	} else if (op->kind == OP_REMOVEXATTR) {
		state->xattr[op->node] = NO_XATTR;
	}
}

static bool is_metadata(const struct op *op)
{
	return op->kind <= OP_TRUNCATE;
}

/* ---- working ---- */

/* The directory that a path lies in. */
static int parent_of(const struct worker *w, const char *path)
{
	char dir[64];
	char *slash;
	int at;

	snprintf(dir, sizeof(dir), "%s", path ? path : "");
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = 0;
	at = tree_find(&w->live, dir);
	return at < 0 ? -1 : w->live.entries[at].node;
}

static struct op *op_begin(struct worker *w, enum op_kind kind, int node, const char *path,
			   const char *to)
{
	struct op *op = &w->ops[w->op_count++];

	*op = (struct op){.kind = kind, .node = node};
	snprintf(op->path, sizeof(op->path), "%s", path ? path : "");
	snprintf(op->to, sizeof(op->to), "%s", to ? to : "");
	op->dir = path ? parent_of(w, path) : -1;
	op->to_dir = to ? parent_of(w, to) : -1;
	op->began = atomic_fetch_add(&stamp, 1);
	return op;
}

static bool victim_is_gone(void)
{
	char path[64], line[256] = "";
	FILE *file;

	if (victim == 0)
		return false; /* not on a mount: a test of the oracle */
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)victim);
	file = fopen(path, "re");
	if (!file)
		return true;
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	return !line[0] || strstr(line, ") Z") || strstr(line, ") X");
}

/* A dying process may still be seen for a moment. */
static bool victim_ends(void)
{
	for (unsigned i = 0; i < 5000 && !victim_is_gone(); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return victim_is_gone();
}

/*
 * Ends an operation.  The first error ends the worker: the mount has died, or
 * something is wrong with it.
 */
static bool op_end(struct worker *w, struct op *op, long result)
{
	int error = errno;

	if (result >= 0) {
		op->is_acked = true;
		op->ended = atomic_fetch_add(&stamp, 1);
		if (op->kind == OP_FSYNC || op->kind == OP_CLOSE)
			w->nodes[op->node].barrier = (int)(op - w->ops);
		if (op->kind == OP_FSYNC)
			w->nodes[op->node].sync_barrier = (int)(op - w->ops);
		atomic_fetch_add(&ops_done, 1);
		return true;
	}
	w->is_dead = true;
	if (!victim_ends())
		bad("worker %u: %s %s %s: %s, and the daemon lives", w->no, op_names[op->kind],
		    op->path, op->to, strerror(error));
	return false;
}

static char *full(const struct worker *w, const char *path, char *out, size_t size)
{
	snprintf(out, size, "%.190s%s", w->root, path);
	return out;
}
#define FULL(w, path) full(w, path, (char[256]){0}, 256)

static int node_new(struct worker *w, enum kind kind)
{
	int n = 1;

	while (w->nodes[n].is_used)
		n++;
	w->nodes[n] = (struct node){.kind = kind, .is_used = true, .xattr = NO_XATTR,
				    .base_xattr = NO_XATTR,
				    .mode = kind == KIND_DIR ? 0755 : 0644};
	w->node_count = MAX(w->node_count, n + 1);
	return n;
}

/* A path of that kind, or any; NULL when there is none. */
static const struct entry *pick(struct worker *w, int kind)
{
	unsigned start, i;

	if (w->live.count == 0)
		return NULL;
	start = (unsigned)rng_below(&w->rng, w->live.count);
	for (i = 0; i < w->live.count; i++) {
		const struct entry *entry = &w->live.entries[(start + i) % w->live.count];

		if (kind < 0 || w->nodes[entry->node].kind == (enum kind)kind)
			return entry;
	}
	return NULL;
}

/* A path for something new or to be replaced; directories are two levels deep at most. */
static void pick_name(struct worker *w, char letter, unsigned names, char out[64])
{
	const struct entry *dir = rng_below(&w->rng, 3) ? pick(w, KIND_DIR) : NULL;

	if (dir && letter == 'd' && strchr(dir->path + 1, '/'))
		dir = NULL;
	snprintf(out, 64, "%.40s/%c%u", dir ? dir->path : "", letter,
		 (unsigned)rng_below(&w->rng, names));
}

static bool is_full(struct worker *w)
{
	return w->live.count + 2 >= ENTRIES_MAX || w->node_count + 2 >= NODES_MAX;
}

static void live_reserve(struct node *node, size_t len)
{
	if (!node->live)
		node->live = need(calloc(1, FILE_BYTES_MAX));
	if (len > node->live_len)
		memset(node->live + node->live_len, 0, len - node->live_len);
}

static bool do_write(struct worker *w, struct open_file *file)
{
	struct node *node = &w->nodes[file->node];
	static const size_t sizes[] = {1,	100,   4096,   5000,   9000,	40000,
				       40000, 40000, 150000, 150000, 600000, 9000000};
	size_t len = 1 + rng_below(&w->rng, sizes[rng_below(&w->rng, ARRAY_COUNT(sizes))]);
	uint64_t off = node->live_len;
	uint8_t *bytes = need(malloc(len));
	struct op *op;
	long r;

	switch (rng_below(&w->rng, 8)) {
	case 0: off = rng_below(&w->rng, node->live_len + 1); break;
	case 1: off = 0; break;
	case 2: off = rng_below(&w->rng, node->live_len + 8192); break;
	case 3: off = rng_below(&w->rng, node->live_len + 1) & ~(uint64_t)4095; break;
	default: break;
	}
	if (off + len > FILE_BYTES_MAX)
		off = 0;
	op = op_begin(w, OP_WRITE, file->node, NULL, NULL);
	op->tag = cycle << 16 | (uint32_t)w->op_count;
	op->tag &= BIT(30) - 1;
	if (rng_below(&w->rng, 4) == 0)
		op->tag = BIT(31) | (uint32_t)rng_below(&w->rng, TEMPLATES);
	if (rng_below(&w->rng, 2))
		op->tag |= BIT(30);
	op->off = off;
	op->len = len;
	pattern(file->node, op->tag, off, len, bytes);
	r = pwrite(file->fd, bytes, len, (off_t)off);
	if (r >= 0) {
		/* A short write counts for what it wrote. */
		op->len = len = (size_t)r;
		live_reserve(node, off + len);
		memcpy(node->live + off, bytes, len);
		node->live_len = MAX(node->live_len, off + len);
	}
	free(bytes);
	return op_end(w, op, r);
}

static bool do_truncate(struct worker *w, struct open_file *file)
{
	struct node *node = &w->nodes[file->node];
	uint64_t size = rng_below(&w->rng, node->live_len + (rng_below(&w->rng, 3) ? 1 : 100000));
	struct op *op;
	long r;

	size = MIN(size, FILE_BYTES_MAX);
	op = op_begin(w, OP_TRUNCATE, file->node, NULL, NULL);
	op->off = size;
	op->is_noop = size == node->live_len;
	r = ftruncate(file->fd, (off_t)size);
	if (r == 0) {
		live_reserve(node, size);
		node->live_len = size;
	}
	return op_end(w, op, r);
}

static bool do_close(struct worker *w, struct open_file *file)
{
	struct op *op = op_begin(w, OP_CLOSE, file->node, NULL, NULL);

	return op_end(w, op, close(STEAL_FD(file)));
}

static bool do_fsync(struct worker *w, struct open_file *file)
{
	struct op *op = op_begin(w, OP_FSYNC, file->node, NULL, NULL);

	return op_end(w, op, rng_below(&w->rng, 2) ? fsync(file->fd) : fdatasync(file->fd));
}

/* What was written is what is read. */
static bool do_read(struct worker *w, struct open_file *file)
{
	struct node *node = &w->nodes[file->node];
	uint64_t off = rng_below(&w->rng, node->live_len + 1);
	size_t len = rng_below(&w->rng, 200000), want = MIN(len, node->live_len - off);
	uint8_t *bytes = need(malloc(len + 1));
	struct op *op = op_begin(w, OP_READ, file->node, NULL, NULL);
	long r;

	op->off = off;
	op->len = len;
	r = pread(file->fd, bytes, len, (off_t)off);
	if (r >= 0 && (size_t)r < want && memcmp(bytes, node->live + off, (size_t)r) == 0 &&
	    victim_ends()) {
		errno = ENOTCONN; /* it died between two pages */
		r = -1;
	}
	if (r >= 0 && ((size_t)r != want || (want > 0 && memcmp(bytes, node->live + off, want) != 0))) {
		size_t at = 0;

		while (at < want && at < (size_t)r && bytes[at] == node->live[off + at])
			at++;
		bad("worker %u: a read of inode %d at %llu gives %ld of %zu bytes, wrong from %llu",
		    w->no, file->node, (unsigned long long)off, r, want,
		    (unsigned long long)(off + at));
		w->is_dead = true;
	}
	free(bytes);
	return op_end(w, op, r);
}

static struct open_file *free_slot(struct worker *w)
{
	struct open_file *file = &w->files[rng_below(&w->rng, FDS)];

	if (file->fd >= 0 && !do_close(w, file))
		return NULL;
	return file;
}

static bool do_create(struct worker *w)
{
	struct open_file *file = free_slot(w);
	char path[64];
	struct op *op;
	int at, fd;

	if (!file)
		return false;
	pick_name(w, 'f', 10, path);
	at = tree_find(&w->live, path);
	if (at >= 0) {
		int node = w->live.entries[at].node;

		if (w->nodes[node].kind != KIND_FILE)
			return true;
		/* O_TRUNC over what is there. */
		op = op_begin(w, OP_TRUNCATE, node, path, NULL);
		op->is_noop = w->nodes[node].live_len == 0;
		fd = open(FULL(w, path), O_RDWR | O_CLOEXEC | O_TRUNC);
		if (fd >= 0)
			w->nodes[node].live_len = 0;
		op->node = node;
	} else {
		op = op_begin(w, OP_CREATE, node_new(w, KIND_FILE), path, NULL);
		fd = open(FULL(w, path), O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0644);
		if (fd >= 0)
			tree_apply(&w->live, op);
	}
	if (fd >= 0)
		*file = (struct open_file){.fd = fd, .node = op->node};
	return op_end(w, op, fd);
}

static bool do_open(struct worker *w)
{
	const struct entry *entry = pick(w, KIND_FILE);
	struct open_file *file;
	struct op *op;
	int fd;

	if (!entry)
		return true;
	file = free_slot(w);
	if (!file)
		return false;
	op = op_begin(w, OP_READ, entry->node, entry->path, NULL);
	fd = open(FULL(w, entry->path), O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		*file = (struct open_file){.fd = fd, .node = entry->node};
	return op_end(w, op, fd);
}

/* The one result that counts, and the tree as it is then. */
static bool finish(struct worker *w, struct op *op, int r)
{
	int error = errno;

	if (r == 0)
		tree_apply(&w->live, op);
	errno = error;
	return op_end(w, op, r);
}

static bool do_name(struct worker *w)
{
	const struct entry *entry;
	char path[64];
	struct op *op;
	int at;

	switch (rng_below(&w->rng, 10)) {
	case 0:
	case 1:
		pick_name(w, 'd', 3, path);
		if (is_full(w) || tree_find(&w->live, path) >= 0)
			return true;
		op = op_begin(w, OP_MKDIR, node_new(w, KIND_DIR), path, NULL);
		return finish(w, op, mkdir(FULL(w, path), 0755));
	case 2:
		pick_name(w, 's', 4, path);
		if (is_full(w) || tree_find(&w->live, path) >= 0)
			return true;
		op = op_begin(w, OP_SYMLINK, node_new(w, KIND_SYMLINK), path, NULL);
		snprintf(op->to, sizeof(op->to), "to-%d", op->node);
		return finish(w, op, symlink(op->to, FULL(w, path)));
	case 3:
		entry = pick(w, KIND_FILE);
		pick_name(w, 'f', 10, path);
		if (!entry || is_full(w) || tree_find(&w->live, path) >= 0)
			return true;
		op = op_begin(w, OP_LINK, entry->node, entry->path, path);
		return finish(w, op, link(FULL(w, entry->path), FULL(w, path)));
	case 4:
		entry = pick(w, KIND_DIR);
		if (!entry)
			return true;
		for (unsigned i = 0; i < w->live.count; i++)
			if (is_below(w->live.entries[i].path, entry->path))
				return true;
		op = op_begin(w, OP_RMDIR, entry->node, entry->path, NULL);
		return finish(w, op, rmdir(FULL(w, entry->path)));
	case 5:
	case 6:
		entry = pick(w, -1);
		if (!entry || w->nodes[entry->node].kind == KIND_DIR)
			return true;
		op = op_begin(w, OP_UNLINK, entry->node, entry->path, NULL);
		return finish(w, op, unlink(FULL(w, entry->path)));
	case 7: /* a directory, to a name that is free */
		entry = pick(w, KIND_DIR);
		snprintf(path, sizeof(path), "/d%u", (unsigned)rng_below(&w->rng, 5));
		if (!entry || tree_find(&w->live, path) >= 0)
			return true;
		op = op_begin(w, OP_RENAME, entry->node, entry->path, path);
		return finish(w, op, rename(FULL(w, entry->path), FULL(w, path)));
	default: /* a file, over another more often than not */
		entry = pick(w, KIND_FILE);
		pick_name(w, 'f', 10, path);
		if (!entry)
			return true;
		at = tree_find(&w->live, path);
		if (at >= 0 && w->nodes[w->live.entries[at].node].kind != KIND_FILE)
			return true;
		op = op_begin(w, OP_RENAME, entry->node, entry->path, path);
		op->is_noop = at >= 0 && w->live.entries[at].node == entry->node;
		return finish(w, op, rename(FULL(w, entry->path), FULL(w, path)));
	}
}

static bool do_attr(struct worker *w)
{
	const struct entry *entry = pick(w, KIND_FILE);
	struct node *node;
	uint32_t value;
	struct op *op;
	int r;

	if (!entry)
		return true;
	node = &w->nodes[entry->node];
	switch (rng_below(&w->rng, 4)) {
	case 0:
		op = op_begin(w, OP_CHMOD, entry->node, entry->path, NULL);
		op->off = 0600 + rng_below(&w->rng, 0100);
		op->is_noop = op->off == node->mode;
		r = chmod(FULL(w, entry->path), (mode_t)op->off);
		if (r == 0)
			node->mode = (uint32_t)op->off;
		return op_end(w, op, r);
	case 1:
		if (node->xattr == NO_XATTR)
			return true;
		op = op_begin(w, OP_REMOVEXATTR, entry->node, entry->path, NULL);
		r = removexattr(FULL(w, entry->path), XATTR);
		if (r == 0)
			node->xattr = NO_XATTR;
		return op_end(w, op, r);
	default:
		value = (uint32_t)rng_below(&w->rng, 1000000);
		op = op_begin(w, OP_SETXATTR, entry->node, entry->path, NULL);
		op->off = value;
		r = setxattr(FULL(w, entry->path), XATTR, &value, sizeof(value), 0);
		if (r == 0)
			node->xattr = value;
		return op_end(w, op, r);
	}
}

static bool do_fsyncdir(struct worker *w)
{
	const struct entry *entry = pick(w, KIND_DIR);
	struct op *op = op_begin(w, OP_FSYNCDIR, entry ? entry->node : 0,
				 entry ? entry->path : "", NULL);
	AUTO_FD fd = open(FULL(w, op->path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return op_end(w, op, fd < 0 ? fd : fsync(fd));
}

static bool do_something(struct worker *w)
{
	struct open_file *file = &w->files[rng_below(&w->rng, FDS)];
	uint64_t draw = rng_below(&w->rng, 100);

	if (draw < 12)
		return is_full(w) || do_create(w);
	if (draw < 18)
		return do_open(w);
	if (draw < 38)
		return do_name(w);
	if (draw < 44)
		return do_attr(w);
	if (draw < 47)
		return do_fsyncdir(w);
	if (file->fd < 0)
		return true;
	if (draw < 77)
		return do_write(w, file);
	if (draw < 82)
		return do_truncate(w, file);
	if (draw < 87)
		return do_fsync(w, file);
	if (draw < 92)
		return do_close(w, file);
	return do_read(w, file);
}

static void close_all(struct worker *w)
{
	for (unsigned i = 0; i < FDS; i++) {
		struct open_file *file = &w->files[i];

		if (file->fd < 0)
			continue;
		if (w->is_dead)
			close(STEAL_FD(file));
		else
			do_close(w, file);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!w->is_dead && !atomic_load(&is_stopping) && w->op_count + FDS + 4 < OPS_MAX) {
		if (!do_something(w))
			break;
		if (atomic_load(&ops_done) < ops_wanted)
			continue;
		if (is_killer)
			kill(victim, SIGKILL);
		else
			atomic_store(&is_stopping, true);
	}
	if (is_killer)
		kill(victim, SIGKILL);
	close_all(w);
	return NULL;
}

/* ---- what is there ---- */

static bool read_file(const char *path, struct found *found)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;

	found->bytes = need(malloc(found->size + 1));
	if (fd < 0)
		return bad("%s: open: %s", path, strerror(errno));
	while (got < found->size) {
		ssize_t r = pread(fd, found->bytes + got, found->size - got, (off_t)got);

		if (r < 0)
			return bad("%s: read at %zu: %s", path, got, strerror(errno));
		if (r == 0)
			return bad("%s: ends at %zu, stat says %llu", path, got,
				   (unsigned long long)found->size);
		got += (size_t)r;
	}
	return true;
}

static bool look_at(const char *path, struct found *found)
{
	struct stat st;
	ssize_t r;

	if (lstat(path, &st) < 0)
		return bad("%s: stat: %s", path, strerror(errno));
	found->mode = st.st_mode & 07777;
	found->ino = st.st_ino;
	found->nlink = (uint32_t)st.st_nlink;
	found->size = (uint64_t)st.st_size;
	found->xattr = NO_XATTR;
	if (S_ISDIR(st.st_mode)) {
		found->kind = KIND_DIR;
		return true;
	}
	if (S_ISLNK(st.st_mode)) {
		found->kind = KIND_SYMLINK;
		r = readlink(path, found->target, sizeof(found->target) - 1);
		return r >= 0 || bad("%s: readlink: %s", path, strerror(errno));
	}
	found->kind = KIND_FILE;
	if (found->size > FILE_BYTES_MAX)
		return bad("%s: size %llu", path, (unsigned long long)found->size);
	r = getxattr(path, XATTR, &found->xattr, sizeof(found->xattr));
	if (r < 0 && errno != ENODATA)
		return bad("%s: getxattr: %s", path, strerror(errno));
	return read_file(path, found);
}

static bool walk(const char *root, const char *below, struct snapshot *snapshot)
{
	char path[512];
	struct dirent *dirent;
	bool is_fine = true;
	DIR *dir;

	snprintf(path, sizeof(path), "%s%s", root, below);
	dir = opendir(path);
	if (!dir && errno == ENOENT && !below[0])
		return true; /* died before the worker's directory was made */
	if (!dir)
		return bad("%s: opendir: %s", path, strerror(errno));
	while (is_fine && (errno = 0, dirent = readdir(dir)) != NULL) {
		struct found *found = &snapshot->found[snapshot->count];

		if (strcmp(dirent->d_name, ".") == 0 || strcmp(dirent->d_name, "..") == 0)
			continue;
		if (snapshot->count == ENTRIES_MAX) {
			is_fine = bad("%s: more entries than were ever made", path);
			break;
		}
		snapshot->count++;
		memset(found, 0, sizeof(*found));
		snprintf(found->path, sizeof(found->path), "%.31s/%.31s", below, dirent->d_name);
		snprintf(path, sizeof(path), "%.200s%.64s", root, found->path);
		is_fine = look_at(path, found) &&
			  (found->kind != KIND_DIR || walk(root, found->path, snapshot));
	}
	if (is_fine && errno != 0)
		is_fine = bad("%s%s: readdir: %s", root, below, strerror(errno));
	closedir(dir);
	return is_fine;
}

static void snapshot_release(struct snapshot *snapshot)
{
	for (unsigned i = 0; i < snapshot->count; i++)
		free(snapshot->found[i].bytes);
	snapshot->count = 0;
}

/* ---- judging ---- */

static bool differs(char *why, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static bool differs(char *why, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, size, format, args);
	va_end(args);
	return false;
}

/* Names and what hangs on them; not the bytes. */
static bool same_names(const struct worker *w, const struct state *state,
		       const struct snapshot *snapshot, char *why, size_t size)
{
	uint64_t ino[NODES_MAX] = {0};

	for (unsigned i = 0; i < snapshot->count; i++) {
		const struct found *found = &snapshot->found[i];
		int at = tree_find(&state->tree, found->path), node;

		if (at < 0)
			return differs(why, size, "%s is there", found->path);
		node = state->tree.entries[at].node;
		if (found->kind != w->nodes[node].kind)
			return differs(why, size, "%s is of another kind", found->path);
		if (ino[node] != 0 && ino[node] != found->ino)
			return differs(why, size, "%s is not the file that it was linked to",
				       found->path);
		ino[node] = found->ino;
		if (found->kind == KIND_SYMLINK) {
			char target[64];

			snprintf(target, sizeof(target), "to-%d", node);
			if (strcmp(target, found->target) != 0)
				return differs(why, size, "%s leads to %s, not %s", found->path,
					       found->target, target);
			continue;
		}
		if (found->mode != state->mode[node])
			return differs(why, size, "%s has mode %o, not %o", found->path,
				       found->mode, state->mode[node]);
		if (found->kind == KIND_DIR)
			continue;
		if (found->xattr != state->xattr[node])
			return differs(why, size, "%s has xattr %u, not %u", found->path,
				       found->xattr, state->xattr[node]);
		if (found->nlink != tree_links(&state->tree, node))
			return differs(why, size, "%s has %u links, not %u", found->path,
				       found->nlink, tree_links(&state->tree, node));
	}
	for (unsigned i = 0; i < state->tree.count; i++) {
		bool is_there = false;

		for (unsigned j = 0; j < snapshot->count && !is_there; j++)
			is_there = strcmp(snapshot->found[j].path, state->tree.entries[i].path) == 0;
		if (!is_there)
			return differs(why, size, "%s is missing", state->tree.entries[i].path);
	}
	for (int a = 0; a < w->node_count; a++)
		for (int b = 0; b < a; b++)
			if (ino[a] != 0 && ino[a] == ino[b])
				return differs(why, size, "two files have inode %llu",
					       (unsigned long long)ino[a]);
	return true;
}

static int barrier_of(const struct node *node)
{
	return is_power_loss ? node->sync_barrier : node->barrier;
}

/* The events of a file before the cut, newest first. */
static int events_of(const struct worker *w, int node, int cut, int *events)
{
	int count = 0;

	for (int i = cut - 1; i >= 0; i--) {
		const struct op *op = &w->ops[i];

		if (op->node == node && (op->kind == OP_WRITE || op->kind == OP_TRUNCATE))
			events[count++] = i;
	}
	return count;
}

static bool size_is_allowed(const struct worker *w, const struct node *node, const int *events,
			    int count, const struct found *found, char *why, size_t why_size)
{
	uint64_t lo = node->base_len, hi = node->base_len;

	for (int i = count - 1; i >= 0; i--) {
		const struct op *op = &w->ops[events[i]];

		if (op->kind == OP_TRUNCATE) {
			lo = hi = op->off;
			continue;
		}
		hi = MAX(hi, op->off + op->len);
		if (events[i] < barrier_of(node))
			lo = MAX(lo, op->off + op->len);
	}
	if (found->size < lo || found->size > hi)
		return differs(why, why_size, "%s has size %llu, not %llu to %llu", found->path,
			       (unsigned long long)found->size, (unsigned long long)lo,
			       (unsigned long long)hi);
	return true;
}

/* Each byte is explained by the newest version that has it, down to an acknowledged one. */
static bool bytes_are_allowed(const struct worker *w, int number, const int *events, int count,
			      const struct found *found, char *why, size_t why_size)
{
	const struct node *node = &w->nodes[number];
	uint8_t *state = need(calloc(1, found->size + 1)); /* 0 asked, 1 explained, 2 refused */
	uint8_t *made = need(malloc(found->size + 1));
	bool is_fine = true;

	for (int i = 0; i < count; i++) {
		const struct op *op = &w->ops[events[i]];
		bool is_definite = op->kind == OP_TRUNCATE || events[i] < barrier_of(node);
		uint64_t from = op->off, to = op->off + op->len;

		if (op->kind == OP_TRUNCATE)
			to = found->size;
		to = MIN(to, found->size);
		if (from >= to)
			continue;
		if (op->kind == OP_TRUNCATE)
			memset(made, 0, to - from);
		else
			pattern(number, op->tag, from, to - from, made);
		for (uint64_t p = from; p < to; p++) {
			if (state[p] != 0)
				continue;
			if (found->bytes[p] == made[p - from])
				state[p] = 1;
			else if (is_definite)
				state[p] = 2;
		}
	}
	for (uint64_t p = 0; p < found->size; p++) {
		uint8_t base = p < node->base_len ? node->base[p] : 0;

		if (state[p] == 1 || (state[p] == 0 && found->bytes[p] == base))
			continue;
		is_fine = differs(why, why_size, "%s: byte %llu of %llu is 0x%02x (%s)", found->path,
				  (unsigned long long)p, (unsigned long long)found->size,
				  found->bytes[p],
				  state[p] == 2 ? "an acknowledged one was expected" :
						  "nobody wrote that");
		break;
	}
	free(made);
	free(state);
	return is_fine;
}

/* The last byte is a hole only where a truncation, or what was there before, made it one. */
static bool end_is_allowed(const struct worker *w, const struct node *node, const int *events,
			   int count, const struct found *found, char *why, size_t why_size)
{
	if (found->size == 0 || found->bytes[found->size - 1] != 0 ||
	    found->size == node->base_len)
		return true;
	for (int i = 0; i < count; i++)
		if (w->ops[events[i]].kind == OP_TRUNCATE && w->ops[events[i]].off == found->size)
			return true;
	return differs(why, why_size, "%s has size %llu without the bytes", found->path,
		       (unsigned long long)found->size);
}

static bool same_bytes(const struct worker *w, const struct state *state, int cut,
		       const struct snapshot *snapshot, char *why, size_t size)
{
	int *events = need(malloc(sizeof(*events) * OPS_MAX));
	bool is_fine = true;

	for (unsigned i = 0; i < snapshot->count && is_fine; i++) {
		const struct found *found = &snapshot->found[i];
		int node, count;

		if (found->kind != KIND_FILE)
			continue;
		node = state->tree.entries[tree_find(&state->tree, found->path)].node;
		count = events_of(w, node, cut, events);
		is_fine = size_is_allowed(w, &w->nodes[node], events, count, found, why, size) &&
			  bytes_are_allowed(w, node, events, count, found, why, size) &&
			  end_is_allowed(w, &w->nodes[node], events, count, found, why, size);
	}
	free(events);
	return is_fine;
}

static struct state *base_state(const struct worker *w)
{
	struct state *state = need(calloc(1, sizeof(*state)));

	state->tree = w->base;
	for (int i = 0; i < w->node_count; i++) {
		state->mode[i] = w->nodes[i].base_mode;
		state->xattr[i] = w->nodes[i].base_xattr;
	}
	return state;
}

/* The cut that an acknowledgement at `limit` (stamp of its begin) demands. */
static int cut_demanded(const struct worker *w, uint64_t limit)
{
	int cut = 0;

	for (int i = 0; i < w->op_count; i++)
		if (is_metadata(&w->ops[i]) && w->ops[i].is_acked && w->ops[i].ended < limit)
			cut = i + 1;
	return cut;
}

static bool touches(const struct op *op, const struct op *barrier)
{
	if (!op->is_acked || op->is_noop)
		return false;
	if (op->kind == OP_WRITE || is_metadata(op))
		if (op->node == barrier->node && op->kind != OP_MKDIR)
			return true;
	return barrier->kind == OP_FSYNCDIR && is_metadata(op) &&
	       (op->dir == barrier->node || op->to_dir == barrier->node) &&
	       op->kind != OP_CHMOD && op->kind != OP_SETXATTR && op->kind != OP_REMOVEXATTR &&
	       op->kind != OP_TRUNCATE;
}

/*
 * The newest change for which some acknowledged close or fsync stands: when it
 * began; and the cut that it demands of its own worker.
 */
static uint64_t newest_acknowledged(void)
{
	uint64_t newest = 0;

	for (unsigned n = 0; n < THREADS; n++) {
		struct worker *w = &workers[n];

		w->required = 0;
		for (int i = w->op_count - 1; i >= 0; i--) {
			const struct op *barrier = &w->ops[i];
			int j = i - 1;

			if (!barrier->is_acked ||
			    (barrier->kind != OP_FSYNC && barrier->kind != OP_FSYNCDIR &&
			     (barrier->kind != OP_CLOSE || is_power_loss)))
				continue;
			while (j >= 0 && !touches(&w->ops[j], barrier))
				j--;
			if (j < 0)
				continue;
			newest = MAX(newest, w->ops[j].began);
			if (is_metadata(&w->ops[j]))
				w->required = MAX(w->required, j + 1);
		}
	}
	return newest;
}

/* Tries every cut from w->required on. */
static bool find_cuts(struct worker *w, const struct snapshot *snapshot)
{
	struct state *state = base_state(w);
	char why[256] = "", first_why[256] = "", last_why[256] = "";
	bool is_found = false, had_names = false;

	for (int i = 0; i <= w->op_count; i++) {
		bool is_cut = i == w->op_count || is_metadata(&w->ops[i]);

		if (is_cut && i >= w->required) {
			bool has_names = same_names(w, state, snapshot, why, sizeof(why));

			if (has_names && same_bytes(w, state, i, snapshot, why, sizeof(why))) {
				if (!is_found)
					w->cut_min = i;
				w->cut_max = i;
				is_found = true;
			} else {
				if (!first_why[0] || (has_names && !had_names))
					snprintf(first_why, sizeof(first_why), "cut %d: %.200s", i,
						 why);
				had_names |= has_names;
				snprintf(last_why, sizeof(last_why), "cut %d: %.200s", i, why);
			}
		}
		if (i < w->op_count && is_metadata(&w->ops[i]))
			state_apply(state, &w->ops[i]);
	}
	free(state);
	return is_found || bad("worker %u: no state of operations %d to %d is there (%s; %s)", w->no,
			       w->required, w->op_count, first_why, last_why);
}

/* What is there of one worker demands what others had done before. */
static bool cuts_agree(void)
{
	for (unsigned a = 0; a < THREADS; a++) {
		uint64_t newest = 0;

		for (int i = 0; i < workers[a].cut_min; i++)
			if (is_metadata(&workers[a].ops[i]))
				newest = workers[a].ops[i].began;
		for (unsigned b = 0; b < THREADS; b++) {
			int demanded = cut_demanded(&workers[b], newest);

			if (demanded > workers[b].cut_max)
				return bad("operation %d of worker %u is there, and operation %d of "
					   "worker %u, which ended before, is not",
					   workers[a].cut_min - 1, a, demanded - 1, b);
		}
	}
	return true;
}

/* What was found is where the next cycle begins. */
static void adopt(struct worker *w, const struct snapshot *snapshot)
{
	struct state *state = base_state(w);
	struct node *old = need(malloc(sizeof(w->nodes)));
	int map[NODES_MAX];

	for (int i = 0; i < w->cut_max; i++)
		if (is_metadata(&w->ops[i]))
			state_apply(state, &w->ops[i]);
	memcpy(old, w->nodes, sizeof(w->nodes));
	memset(w->nodes, 0, sizeof(w->nodes));
	memset(map, -1, sizeof(map));
	for (unsigned i = 0; i < state->tree.count; i++) {
		struct entry *entry = &state->tree.entries[i];
		struct node *node = &w->nodes[entry->node];

		*node = (struct node){.kind = old[entry->node].kind, .is_used = true,
				      .base_mode = state->mode[entry->node],
				      .base_xattr = state->xattr[entry->node]};
		node->mode = node->base_mode;
		node->xattr = node->base_xattr;
		map[entry->node] = (int)i;
	}
	for (int n = 0; n < w->node_count; n++) {
		struct node *node = &w->nodes[n];

		free(old[n].base);
		free(old[n].live);
		if (map[n] < 0 || node->kind != KIND_FILE)
			continue;
		for (unsigned j = 0; j < snapshot->count; j++) {
			const struct found *found = &snapshot->found[j];

			if (strcmp(found->path, state->tree.entries[map[n]].path) != 0)
				continue;
			node->base_len = node->live_len = found->size;
			node->base = need(malloc(found->size + 1));
			memcpy(node->base, found->bytes, found->size);
			node->live = need(calloc(1, FILE_BYTES_MAX));
			memcpy(node->live, found->bytes, found->size);
		}
	}
	while (w->node_count > 1 && !w->nodes[w->node_count - 1].is_used)
		w->node_count--;
	w->base = w->live = state->tree;
	w->op_count = 0;
	w->required = 0;
	w->is_dead = false;
	free(old);
	free(state);
}

static bool take_snapshots(void)
{
	for (unsigned n = 0; n < THREADS; n++) {
		snapshot_release(&snapshots[n]);
		if (!walk(workers[n].root, "", &snapshots[n]))
			return false;
	}
	return true;
}

static bool verify(void)
{
	uint64_t newest = newest_acknowledged();

	if (!take_snapshots())
		return false;
	for (unsigned n = 0; n < THREADS; n++) {
		workers[n].required =
			MAX(workers[n].required, cut_demanded(&workers[n], newest));
		if (!find_cuts(&workers[n], &snapshots[n]))
			return false;
	}
	return cuts_agree();
}

static bool same_exactly(const struct worker *w, const struct snapshot *snapshot)
{
	struct state *state = base_state(w);
	char why[256] = "";
	bool is_fine;

	state->tree = w->live;
	for (int i = 0; i < w->node_count; i++) {
		state->mode[i] = w->nodes[i].mode;
		state->xattr[i] = w->nodes[i].xattr;
	}
	is_fine = same_names(w, state, snapshot, why, sizeof(why));
	for (unsigned i = 0; i < snapshot->count && is_fine; i++) {
		const struct found *found = &snapshot->found[i];
		const struct node *node;

		if (found->kind != KIND_FILE)
			continue;
		node = &w->nodes[w->live.entries[tree_find(&w->live, found->path)].node];
		if (found->size != node->live_len ||
		    (found->size > 0 && memcmp(found->bytes, node->live, found->size) != 0))
			is_fine = differs(why, sizeof(why), "%s has other bytes (%llu, %zu)",
					  found->path, (unsigned long long)found->size,
					  node->live_len);
	}
	free(state);
	return is_fine || bad("worker %u: %s", w->no, why);
}

static bool verify_exactly(void)
{
	if (!take_snapshots())
		return false;
	for (unsigned n = 0; n < THREADS; n++) {
		if (!same_exactly(&workers[n], &snapshots[n]))
			return false;
		workers[n].cut_min = workers[n].cut_max = workers[n].op_count;
	}
	return true;
}

/* ---- commands ---- */

static void write_log(void)
{
	FILE *file = fopen(log_path, "we");

	for (unsigned n = 0; file && n < THREADS; n++) {
		fprintf(file, "worker %u: needs cut %d, has %d\n", n, workers[n].required,
			workers[n].op_count);
		for (unsigned i = 0; i < workers[n].base.count; i++)
			fprintf(file, "  base %s inode %d len %zu\n", workers[n].base.entries[i].path,
				workers[n].base.entries[i].node,
				workers[n].nodes[workers[n].base.entries[i].node].base_len);
		for (int i = 0; i < workers[n].op_count; i++) {
			const struct op *op = &workers[n].ops[i];

			fprintf(file, "  %5d %s inode %d %s %s off %llu len %llu tag %x %llu-%llu\n", i,
				op_names[op->kind], op->node, op->path, op->to,
				(unsigned long long)op->off, (unsigned long long)op->len, op->tag,
				(unsigned long long)op->began, (unsigned long long)op->ended);
		}
		for (unsigned i = 0; i < snapshots[n].count; i++)
			fprintf(file, "  found %s inode %llu size %llu mode %o links %u\n",
				snapshots[n].found[i].path,
				(unsigned long long)snapshots[n].found[i].ino,
				(unsigned long long)snapshots[n].found[i].size,
				snapshots[n].found[i].mode, snapshots[n].found[i].nlink);
	}
	if (file)
		fclose(file);
}

/* The setting up is part of what a kill may meet. */
static bool setting_up_failed(const char *what)
{
	if (!victim_ends())
		return bad("%s: %s, and the daemon lives", what, strerror(errno));
	for (unsigned n = 0; n < THREADS; n++)
		workers[n].is_dead = true;
	return true;
}

static bool run(pid_t pid, uint64_t ops, bool kills)
{
	pthread_t threads[THREADS];

	victim = pid;
	is_killer = kills;
	ops_wanted = ops;
	cycle++;
	atomic_store(&ops_done, 0);
	atomic_store(&is_stopping, false);
	for (unsigned n = 0; n < THREADS; n++) {
		struct worker *w = &workers[n];

		for (unsigned i = 0; i < FDS; i++)
			w->files[i].fd = -1;
		if (mkdir(w->root, 0755) < 0 && errno != EEXIST)
			return setting_up_failed(w->root);
	}
	/* Both directories are there from now on. */
	AUTO_FD fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return setting_up_failed(dir_path);
	for (unsigned n = 0; n < THREADS; n++)
		if (pthread_create(&threads[n], NULL, work, &workers[n]) != 0)
			return bad("pthread_create");
	for (unsigned n = 0; n < THREADS; n++)
		pthread_join(threads[n], NULL);
	return !complaint[0];
}

static void answer(bool is_fine)
{
	if (!is_fine || complaint[0]) {
		write_log();
		printf("BAD %s\n", complaint);
		fflush(stdout);
		exit(1);
	}
	printf("ok %d of %d, %d of %d%s\n", workers[0].cut_max, workers[0].op_count,
	       workers[1].cut_max, workers[1].op_count,
	       workers[0].is_dead || workers[1].is_dead ? " died" : "");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[128];
	uint64_t seed;

	if (argc != 4) {
		fputs("usage: crash_oracle DIR SEED LOG\n", stderr);
		return 2;
	}
	dir_path = argv[1];
	seed = strtoull(argv[2], NULL, 0);
	umask(0);
	log_path = argv[3];
	for (unsigned n = 0; n < THREADS; n++) {
		struct worker *w = &workers[n];

		w->no = n;
		snprintf(w->root, sizeof(w->root), "%s/%u", argv[1], n);
		w->rng = (struct rng){.seed = seed, .state = map_hash_u64(seed + n)};
		w->ops = need(calloc(OPS_MAX, sizeof(*w->ops)));
		w->node_count = 1; /* 0: none */
	}
	while (fgets(line, sizeof(line), stdin)) {
		unsigned long long ops = 0;
		char how[8] = "";
		int pid = 0;
		bool is_fine;

		if (sscanf(line, "work %d %llu %7s", &pid, &ops, how) == 3) {
			answer(run(pid, ops, strcmp(how, "kill") == 0));
		} else if (strcmp(line, "verify\n") == 0 || strcmp(line, "exact\n") == 0 ||
			   strcmp(line, "power\n") == 0) {
			is_power_loss = line[0] == 'p';
			is_fine = line[0] == 'e' ? verify_exactly() : verify();
			answer(is_fine);
			for (unsigned n = 0; n < THREADS; n++)
				adopt(&workers[n], &snapshots[n]);
		} else if (strcmp(line, "quit\n") == 0) {
			break;
		} else {
			printf("BAD unknown command: %s", line);
			return 2;
		}
	}
	return 0;
}
