/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry of the queue is worked off in two walks from its inode down:
 *
 *   rows   each inode's policy_root becomes the nearest directory at or above it where a policy is
 *          set.  A directory's own row is changed, under its lock and with a new last_seq, before
 *          its names are listed: whatever is created or renamed into it later takes the new one.
 *   data   chunks in shards whose class asks for less than the policy (or that belong to another
 *          domain) are copied to shards of the right class, and move there as gc moves them.
 *          Repeated until a walk finds nothing; then the record that shortens the queue ends it.
 *
 * Both find again after a crash what is left, so the queue holds numbers only.  Rows of all entries
 * go before data of any: copies may take as long as a provider is away.
 *
 * Which policy is in force is asked when an entry begins, from the policies in memory; these are
 * changed before the entry is added.  While anything is pending every rename between directories
 * adds an entry, so nothing slips from where a walk has not been to where it was.
 *
 * A walk stops at directories with a policy of their own, except when the queue had overflowed.
 */
#include "store/converge_private.h"

#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/queue.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SETTING	       "converge"
#define PAGE	       128u
#define PAGES_KEPT     64u /* of the directories from the top; deeper ones are listed again */
#define DEPTH_MAX      65536u
#define FAILED_MS      1000u
#define PAUSE_MIN_MS   500u
#define PAUSE_MAX_MS   60000u
#define ANCESTORS_MAX  65536u
#define TOUCHES_MAX    32u /* entries that are compared with a directory */

static struct counter converge_rows = COUNTER_INIT("converge_inodes", "inodes that got another policy");
static struct counter converge_done = COUNTER_INIT("converge_trees", "trees that follow their policy");
static struct counter converge_failures = COUNTER_INIT("converge_failures", "walks that failed");
COUNTER_REGISTER(converge_rows);
COUNTER_REGISTER(converge_done);
COUNTER_REGISTER(converge_failures);

/* ---- the queue ---- */

static bool queue_has(const struct queue_state *queue, uint64_t ino, unsigned *at)
{
	for (*at = 0; *at < queue->count; ++*at)
		if (queue->entries[*at].ino == ino)
			return true;
	return false;
}

static void queue_add(struct queue_state *queue, uint64_t ino, uint64_t stamp)
{
	unsigned at;

	if (queue_has(queue, EVERYTHING, &at))
		ino = EVERYTHING;
	if (!queue_has(queue, ino, &at) && queue->count == CONVERGE_ENTRIES_MAX) {
		queue->count = at = 0;
		ino = EVERYTHING;
	}
	if (at == queue->count)
		queue->count++;
	queue->entries[at] = (struct entry){.ino = ino, .stamp = stamp};
}

static int put_queue(const struct queue_state *queue, struct record *record)
{
	AUTO(buf) text = BUF_INIT;
	int r = 0;

	for (unsigned i = 0; i < queue->count && r == 0; i++)
		r = buf_printf(&text, "%s%llu", i ? " " : "",
			       (unsigned long long)queue->entries[i].ino);
	if (r == 0)
		record_put_setting(record, bytes_of_str(SETTING), buf_bytes(&text));
	return r;
}

static int load_queue(struct converge *converge)
{
	AUTO(buf) text = BUF_INIT;
	const char *at;
	char *end;
	int r = index_get_setting(converge->store->index, converge->reader, SETTING, &text);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	at = buf_str(&text);
	if (!at)
		return -ENOMEM;
	while (*at) {
		uint64_t ino = strtoull(at, &end, 10);

		if (end == at) {
			log_error("setting-damaged", "key=%s next=\"all is walked\"", SETTING);
			ino = EVERYTHING;
			end = "";
		}
		queue_add(&converge->queue, ino, ++converge->next_stamp);
		at = end;
	}
	converge->pending = converge->queue.count;
	return 0;
}

int converge_begin(struct converge *converge, struct record *record, const uint64_t *inos,
		   unsigned count)
{
	int r;

	if (!converge)
		return 0;
	lock_take(&converge->lock);
	converge->saved = converge->queue;
	for (unsigned i = 0; i < count; i++)
		queue_add(&converge->queue, inos[i], ++converge->next_stamp);
	r = put_queue(&converge->queue, record);
	if (r == 0)
		return 0;
	converge->queue = converge->saved;
	lock_drop(&converge->lock);
	return r;
}

void converge_end(struct converge *converge, bool is_submitted)
{
	if (!converge)
		return;
	if (!is_submitted)
		converge->queue = converge->saved;
	converge->pending = converge->queue.count;
	cond_wake_all(&converge->wake);
	lock_drop(&converge->lock);
}

bool converge_is_pending(struct converge *converge)
{
	return converge && converge->pending > 0;
}

/* ---- what is above ---- */

/* 1: `dir` is at or above ino. */
static int is_at_or_above(struct index *index, struct index_reader *reader, uint64_t dir,
			  uint64_t ino)
{
	struct inode_row row;

	for (unsigned i = 0; i < ANCESTORS_MAX; i++) {
		int r;

		if (ino == dir)
			return 1;
		if (ino == INO_ROOT)
			return 0;
		r = index_get_inode(index, reader, ino, &row);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		ino = row.parent;
	}
	return 0;
}

int converge_touches(struct converge *converge, struct index_reader *reader, uint64_t ino,
		     bool is_dir, bool *touches)
{
	uint64_t inos[CONVERGE_ENTRIES_MAX];
	unsigned count;
	int r = 0;

	*touches = false;
	if (!converge_is_pending(converge))
		return 0;
	lock_take(&converge->lock);
	count = converge->queue.count;
	for (unsigned i = 0; i < count; i++)
		inos[i] = converge->queue.entries[i].ino;
	lock_drop(&converge->lock);
	if (is_dir && count > TOUCHES_MAX)
		r = 1;
	for (unsigned i = 0; i < count && r == 0; i++) {
		r = inos[i] == EVERYTHING ||
		    is_at_or_above(converge->store->index, reader, inos[i], ino);
		if (r == 0 && is_dir)
			r = is_at_or_above(converge->store->index, reader, ino, inos[i]);
	}
	*touches = r > 0;
	return MIN(r, 0);
}

/* The nearest directory at or above with a policy. */
static int root_in_force(struct converge *converge, uint64_t ino, uint64_t *root)
{
	struct inode_row row;

	for (unsigned i = 0; i < ANCESTORS_MAX; i++) {
		int r;

		if (policies_has(converge->store->priv->policies, ino)) {
			*root = ino;
			return 0;
		}
		r = index_get_inode(converge->store->index, converge->reader, ino, &row);
		if (r < 0)
			return r;
		ino = row.parent;
	}
	return -ELOOP;
}

/* ---- when to give way ---- */

/* Rows of an entry wait while this one moves data, or it was added again, or all stops. */
bool converge_is_interrupted(struct converge *converge)
{
	LOCK_SCOPE(&converge->lock);

	if (converge->is_stopping)
		return true;
	for (unsigned i = 0; converge->is_data && i < converge->queue.count; i++)
		if (!converge->queue.entries[i].has_rows)
			return true;
	return false;
}

static int submit(struct converge *converge, struct record *record, uint64_t *seq)
{
	return sequencer_submit(converge->store->sequencer, record, seq);
}

/* ---- rows ---- */

/*
 * A file with several names may belong to several trees: it follows the one that asks for most, or
 * that of the name by which it is known.
 */
static bool gets_root(struct converge *converge, const struct inode_row *row, uint64_t root)
{
	struct policy now, then;

	if (row->policy_root == root || row->nlink == 0)
		return false;
	if (S_ISDIR(row->mode) || row->nlink == 1 ||
	    !policies_has(converge->store->priv->policies, row->policy_root))
		return true;
	store_policy_of(converge->store, row->policy_root, &now);
	store_policy_of(converge->store, root, &then);
	return policy_covers(&then, &now);
}

/* The rows of at most ROWS_BATCH inodes, in one record. */
static int set_roots(struct converge *converge, const uint64_t *inos, unsigned count, uint64_t root)
{
	struct store *store = converge->store;
	struct inode *inodes[ROWS_BATCH];
	struct lock *locks[ROWS_BATCH];
	AUTO_PTR(record) record = record_new();
	unsigned loaded = 0, changed = 0, locked;
	uint64_t seq = 0;
	int r = record ? HOOK("converge-rows-before") : -ENOMEM;

	for (unsigned i = 0; i < count && r == 0; i++) {
		r = inode_load(store->inodes, store->index, converge->reader, inos[i],
			       &inodes[loaded]);
		loaded += r == 0;
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0 && loaded > 0) {
		for (unsigned i = 0; i < loaded; i++)
			locks[i] = &inodes[i]->lock;
		locked = lock_take_set(locks, loaded);
		for (unsigned i = 0; i < loaded; i++) {
			struct inode_row row = inodes[i]->row;

			if (!gets_root(converge, &row, root))
				continue;
			row.policy_root = root;
			record_put_inode(record, &row);
			changed++;
		}
		if (changed > 0)
			r = submit(converge, STEAL(record), &seq);
		for (unsigned i = 0; i < loaded && r == 0 && changed > 0; i++) {
			if (!gets_root(converge, &inodes[i]->row, root))
				continue;
			inodes[i]->row.policy_root = root;
			inodes[i]->last_seq = seq;
		}
		lock_drop_set(locks, locked);
	}
	for (unsigned i = 0; i < loaded; i++)
		inode_unref(store->inodes, inodes[i], 1);
	if (r < 0 || changed == 0)
		return r;
	counter_add(&converge_rows, changed);
	r = sequencer_wait_written(store->sequencer, seq); /* the backlog's bound */
	return r < 0 ? r : HOOK("converge-rows-after");
}

static int flush_files(struct converge *converge)
{
	unsigned count = converge->file_count;

	converge->file_count = 0;
	return count ? set_roots(converge, converge->files, count, converge->file_root) : 0;
}

static int row_of_file(struct converge *converge, uint64_t ino, uint64_t root)
{
	struct inode_row row;
	int r = index_get_inode(converge->store->index, converge->reader, ino, &row);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!gets_root(converge, &row, root))
		return 0;
	if (converge->file_count == ROWS_BATCH ||
	    (converge->file_count > 0 && converge->file_root != root))
		r = flush_files(converge);
	converge->file_root = root;
	converge->files[converge->file_count++] = ino;
	return r;
}

/* ---- a walk ---- */

static int enter(struct converge *converge, uint64_t ino, uint64_t root)
{
	if (converge->depth == DEPTH_MAX)
		return -ELOOP;
	if (converge->depth == converge->frame_capacity) {
		size_t more = MAX((size_t)16, converge->frame_capacity * 2);
		struct frame *frames =
			mem_realloc_array(converge->frames, more, sizeof(*frames));

		if (!frames)
			return -ENOMEM;
		converge->frames = frames;
		converge->frame_capacity = more;
	}
	if (!converge->is_data) {
		int r = set_roots(converge, &ino, 1, root);

		if (r < 0)
			return r;
	}
	if (converge->depth > PAGES_KEPT) { /* the one above is listed again */
		struct frame *above = &converge->frames[converge->depth - 1];

		dirent_list_release(&above->page);
		above->page = (struct dirent_list)ROW_LIST_INIT;
		above->at = 0;
		above->is_last = false;
	}
	converge->frames[converge->depth++] = (struct frame){.ino = ino, .root = root};
	return 0;
}

static int next_entry(struct converge *converge, struct frame *frame, struct dirent_row *out)
{
	int r;

	if (frame->at == frame->page.count) {
		if (frame->is_last)
			return 0;
		frame->at = frame->page.count = 0;
		r = index_list_dirents(converge->store->index, converge->reader, frame->ino,
				       frame->after, PAGE, &frame->page);
		if (r < 0)
			return r;
		frame->is_last = frame->page.count < PAGE;
		if (frame->page.count == 0)
			return 0;
	}
	*out = frame->page.rows[frame->at++];
	frame->after = out->cookie;
	return 1;
}

static int visit(struct converge *converge, const struct dirent_row *dirent, uint64_t root)
{
	if (dirent->type == DT_DIR) {
		if (!policies_has(converge->store->priv->policies, dirent->ino))
			return enter(converge, dirent->ino, root);
		return converge->entry.ino == EVERYTHING
			       ? enter(converge, dirent->ino, dirent->ino)
			       : 0;
	}
	if (!converge->is_data)
		return row_of_file(converge, dirent->ino, root);
	return dirent->type == DT_REG ? converge_data_of_file(converge, dirent->ino) : 0;
}

static int walk_frames(struct converge *converge)
{
	while (converge->depth > 0) {
		struct frame *frame = &converge->frames[converge->depth - 1];
		struct dirent_row dirent;
		int r = converge_is_interrupted(converge) ? -EINTR : next_entry(converge, frame, &dirent);

		if (r > 0)
			r = visit(converge, &dirent, frame->root);
		else if (r == 0)
			dirent_list_release(&converge->frames[--converge->depth].page);
		if (r < 0)
			return r;
	}
	return 0;
}

/* From the entry at hand down; is_data says which walk.  -ENOENT: it is gone. */
static int walk(struct converge *converge)
{
	uint64_t ino = converge->entry.ino == EVERYTHING ? INO_ROOT : converge->entry.ino, root = 0;
	struct inode_row row;
	int r = index_get_inode(converge->store->index, converge->reader, ino, &row);

	if (r == 0 && row.nlink == 0)
		r = -ENOENT;
	if (r == 0)
		r = root_in_force(converge, ino, &root);
	if (r < 0)
		return r;
	converge->file_count = 0;
	converge->chunk_count = 0;
	converge->chunk_bytes = converge->last_chunk = 0;
	converge->is_left = false;
	memset(converge->verdicts, 0, sizeof(converge->verdicts));
	if (converge->is_data) { /* references count once they are applied */
		/* after a crash nobody else knows that shards of this class owe more copies */
		transfer_policy_changed(converge->store->transfer, root);
		r = sequencer_wait_applied(converge->store->sequencer,
					   sequencer_last_seq(converge->store->sequencer));
		if (r < 0)
			return r;
	}
	if (S_ISDIR(row.mode))
		r = enter(converge, ino, root);
	else
		r = converge->is_data ? (S_ISREG(row.mode) ? converge_data_of_file(converge, ino) : 0)
				      : row_of_file(converge, ino, root);
	if (r == 0)
		r = walk_frames(converge);
	if (r == 0)
		r = converge->is_data ? converge_flush_chunks(converge) : flush_files(converge);
	while (converge->depth > 0)
		dirent_list_release(&converge->frames[--converge->depth].page);
	return r;
}

/* ---- the thread ---- */

/* Rows before data; the oldest first. */
static bool pick_locked(struct converge *converge)
{
	const struct queue_state *queue = &converge->queue;
	const struct entry *best = NULL;

	for (unsigned i = 0; i < queue->count; i++) {
		const struct entry *entry = &queue->entries[i];

		if (!best || entry->has_rows < best->has_rows ||
		    (entry->has_rows == best->has_rows && entry->stamp < best->stamp))
			best = entry;
	}
	if (!best)
		return false;
	converge->entry = *best;
	converge->is_data = best->has_rows;
	return true;
}

/* The entry at hand is done, or its rows are; unless it was added again meanwhile. */
static int end_step(struct converge *converge, bool is_done)
{
	AUTO_PTR(record) record = record_new();
	struct queue_state *queue = &converge->queue;
	uint64_t seq;
	unsigned at;
	int r = record ? HOOK("converge-done-before") : -ENOMEM;

	if (r < 0)
		return r;
	lock_take(&converge->lock);
	if (!queue_has(queue, converge->entry.ino, &at) ||
	    queue->entries[at].stamp != converge->entry.stamp) {
		lock_drop(&converge->lock);
		return 0;
	}
	if (!is_done) {
		queue->entries[at].has_rows = true;
		lock_drop(&converge->lock);
		return 0;
	}
	converge->saved = *queue;
	queue->entries[at] = queue->entries[--queue->count];
	r = put_queue(queue, record);
	if (r == 0)
		r = submit(converge, STEAL(record), &seq);
	if (r < 0)
		*queue = converge->saved;
	converge->pending = queue->count;
	lock_drop(&converge->lock);
	if (r == 0)
		counter_add(&converge_done, 1);
	return r;
}

/* Data that is waiting goes behind that of the others. */
static void put_off(struct converge *converge)
{
	unsigned at;

	LOCK_SCOPE(&converge->lock);
	if (queue_has(&converge->queue, converge->entry.ino, &at) &&
	    converge->queue.entries[at].stamp == converge->entry.stamp)
		converge->queue.entries[at].stamp = ++converge->next_stamp;
}

/* 0: a step is done; 1: the data is on its way, or cannot be moved now. */
static int work(struct converge *converge)
{
	int r = walk(converge);

	if (r == -EINTR)
		return 0;
	if (r == -ENOENT)
		return end_step(converge, true);
	if (r < 0)
		return r;
	if (!converge->is_data || !converge->is_left)
		return end_step(converge, converge->is_data);
	put_off(converge);
	return 1;
}

static void *converge_main(void *arg)
{
	struct converge *converge = arg;
	uint64_t pause_ms = 0;

	lock_take(&converge->lock);
	while (!converge->is_stopping) {
		int r;

		if (!pick_locked(converge)) {
			pause_ms = 0;
			cond_wait(&converge->wake, &converge->lock);
			continue;
		}
		lock_drop(&converge->lock);
		r = work(converge);
		if (r < 0) {
			counter_add(&converge_failures, 1);
			log_warn("converge-failed", "ino=%llu error=%s next=\"tried again\"",
				 (unsigned long long)converge->entry.ino, err_name(r));
			put_off(converge);
		}
		lock_take(&converge->lock);
		if (r == 0) {
			pause_ms = 0;
			continue;
		}
		if (converge->is_stopping)
			break;
		if (r < 0) {
			cond_wait_ms(&converge->wake, &converge->lock, FAILED_MS);
			continue;
		}
		/* the first look after data was moved is at once: mostly nothing is left */
		if (pause_ms == 0)
			pause_ms = PAUSE_MIN_MS;
		else if (cond_wait_ms(&converge->wake, &converge->lock, pause_ms) < 0)
			pause_ms = MIN(pause_ms * 2, (uint64_t)PAUSE_MAX_MS);
	}
	lock_drop(&converge->lock);
	return NULL;
}

int converge_start(struct store *store, struct converge **out)
{
	struct converge *converge = mem_alloc(sizeof(*converge));
	int r;

	if (!converge)
		return -ENOMEM;
	converge->store = store;
	lock_init(&converge->lock, LOCK_WRITER);
	cond_init(&converge->wake);
	r = index_reader_open(store->index, &converge->reader);
	if (r == 0)
		r = load_queue(converge);
	if (r == 0)
		r = thread_start(&converge->thread, "converge", converge_main, converge);
	if (r < 0) {
		converge_free(converge);
		return r;
	}
	converge->has_thread = true;
	*out = converge;
	return 0;
}

void converge_stop(struct converge *converge)
{
	if (!converge || !converge->has_thread)
		return;
	lock_take(&converge->lock);
	converge->is_stopping = true;
	cond_wake_all(&converge->wake);
	lock_drop(&converge->lock);
	pthread_join(converge->thread, NULL);
	converge->has_thread = false;
	index_reader_close(converge->reader);
	converge->reader = NULL;
}

void converge_free(struct converge *converge)
{
	if (!converge)
		return;
	converge_stop(converge);
	if (converge->reader)
		index_reader_close(converge->reader);
	mem_free(converge->frames);
	cond_release(&converge->wake);
	lock_release(&converge->lock);
	mem_free(converge);
}
