/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reader_private.h"

#include "util/counter.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>

/*
 * Ranges of files, and read-ahead.
 *
 * A read walks the extents of its range; each names a piece of a decoded chunk,
 * which memory has or some thread makes (reader_memory.c).
 *
 * Read-ahead: while reads follow each other the window in front of them grows
 * from 256 KiB; what is newly inside goes to the prefetch threads in pieces, so
 * that they decode beside the thread that answers.  A full queue means no
 * read-ahead, never waiting.
 */

#define EXTENTS_EACH	   64
#define LOOKS_MAX	   4 /* at a range whose chunks went away between look-up and read */
#define WINDOW_BYTES_MIN   (256 * KIB)
#define SEQUENCE_SLACK	   MIB /* the kernel's own read-ahead comes a little out of order */
#define PIECE_BYTES	   (512 * KIB)
#define PREFETCH_TASKS_MAX 64

static struct counter read_ahead_pieces = COUNTER_INIT("read_ahead_pieces",
						       "pieces of files read ahead");
static struct counter read_ahead_dropped = COUNTER_INIT("read_ahead_dropped",
							"pieces not read ahead: queue full");
COUNTER_REGISTER(read_ahead_pieces);
COUNTER_REGISTER(read_ahead_dropped);

/* ---- reading ---- */

static int read_extent(struct reader *reader, struct index_reader *index_reader,
		       const struct extent_row *extent, uint8_t *out)
{
	enum decoded_want want = index_reader ? WANT_WAIT : WANT_MEMORY;
	struct decoded *decoded;
	int r;

	if (extent->chunk_no == 0) {
		memset(out, 0, extent->len);
		return 0;
	}
	r = decoded_get(reader, index_reader, extent->chunk_no, want, &decoded);
	if (r < 0)
		return r;
	if ((uint64_t)extent->chunk_off + extent->len <= decoded->len)
		memcpy(out, decoded->data + extent->chunk_off, extent->len);
	else
		r = -EIO; /* an extent beyond its chunk: the index is damaged */
	decoded_put(reader, decoded);
	return r;
}

/* Extents of [at, end), with zeros between them. */
static int read_extents(struct reader *reader, struct index_reader *index_reader,
			const struct extent_list *list, uint64_t at, uint64_t end, uint8_t *out)
{
	uint64_t filled = at;
	int r;

	for (size_t i = 0; i < list->count; i++) {
		const struct extent_row *extent = &list->rows[i];

		if (extent->off < filled || extent->len > end - extent->off)
			return -EUCLEAN;
		memset(out + (filled - at), 0, extent->off - filled);
		r = read_extent(reader, index_reader, extent, out + (extent->off - at));
		if (r < 0)
			return r;
		filled = extent->off + extent->len;
	}
	memset(out + (filled - at), 0, end - filled);
	return 0;
}

/*
 * A range may be overwritten, and the chunk that it named be deleted, between the look at its
 * extents and the look at the chunk: then the extents are asked for once more.
 */
int reader_read(struct reader *reader, struct index_reader *index_reader, uint64_t ino,
		uint64_t off, size_t len, uint8_t *out)
{
	AUTO(extent_list) list = ROW_LIST_INIT;
	uint64_t at = off, end = off + len, covered;
	unsigned looks = 0;
	int r;

	while (at < end) {
		list.count = 0;
		covered = at;
		r = index_find_extents(reader->settings.index, index_reader, ino, at, end - at,
				       EXTENTS_EACH, &list, &covered);
		if (r < 0)
			return r;
		covered = MIN(covered, end);
		if (covered <= at)
			return -EUCLEAN;
		r = read_extents(reader, index_reader, &list, at, covered, out + (at - off));
		if (r == -ENOENT && ++looks < LOOKS_MAX)
			continue;
		if (r == -ENOENT) {
			log_error("chunk-missing", "ino=%llu offset=%llu next=\"the read fails\"",
				  (unsigned long long)ino, (unsigned long long)at);
			return -EIO;
		}
		if (r < 0)
			return r;
		looks = 0;
		at = covered;
	}
	return 0;
}

int reader_read_chunk(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		      struct buf *out)
{
	enum decoded_want want = index_reader ? WANT_WAIT : WANT_MEMORY;
	struct decoded *decoded;
	int r = decoded_get(reader, index_reader, chunk_no, want, &decoded);

	if (r < 0)
		return r;
	r = buf_append(out, bytes_of(decoded->data, decoded->len));
	decoded_put(reader, decoded);
	return r;
}

/* ---- read-ahead ---- */

struct prefetch_task {
	uint64_t ino, off, len;
};

static void prefetch_chunks(struct reader *reader, struct index_reader *connection,
			    const struct prefetch_task *task)
{
	AUTO(extent_list) list = ROW_LIST_INIT;
	uint64_t covered;
	int r = index_find_extents(reader->settings.index, connection, task->ino, task->off,
				   task->len, EXTENTS_EACH, &list, &covered);

	for (size_t i = 0; r == 0 && i < list.count; i++) {
		struct decoded *decoded;

		if (atomic_load(&reader->is_closing))
			return;
		if (list.rows[i].chunk_no == 0)
			continue;
		r = decoded_get(reader, connection, list.rows[i].chunk_no, WANT_PREFETCH, &decoded);
		if (r == 0)
			decoded_put(reader, decoded);
		else if (r == -EALREADY)
			r = 0;
	}
}

static void prefetch_run(void *arg, void *item)
{
	struct reader *reader = arg;
	struct prefetch_task *task = item;
	struct index_reader *connection;

	lock_take(&reader->pool_lock);
	assert(reader->connection_count > 0); /* one for each thread */
	connection = reader->connections[--reader->connection_count];
	lock_drop(&reader->pool_lock);
	if (!atomic_load(&reader->is_closing))
		prefetch_chunks(reader, connection, task);
	lock_take(&reader->pool_lock);
	reader->connections[reader->connection_count++] = connection;
	lock_drop(&reader->pool_lock);
	mem_free(task);
}

static void prefetch_range(struct reader *reader, uint64_t ino, uint64_t off, uint64_t end)
{
	while (off < end) {
		uint64_t piece_end = MIN(end, (off / PIECE_BYTES + 1) * PIECE_BYTES);
		struct prefetch_task *task = mem_alloc(sizeof(*task));

		if (!task)
			return;
		*task = (struct prefetch_task){.ino = ino, .off = off, .len = piece_end - off};
		if (queue_try_push(&reader->prefetch_queue, task) < 0) {
			counter_add(&read_ahead_dropped, 1);
			mem_free(task);
			return;
		}
		counter_add(&read_ahead_pieces, 1);
		off = piece_end;
	}
}

/* How far the window may reach, so that what is read ahead is still there when it is wanted. */
static uint64_t window_max(const struct reader *reader)
{
	return MIN(reader->settings.read_ahead_bytes_max, reader->settings.decoded_bytes_max / 4);
}

void reader_note_read(struct reader *reader, struct reader_stream *stream, uint64_t ino,
		      uint64_t off, size_t len, uint64_t file_size)
{
	uint64_t end = off + len, window, target, from;
	bool is_next = off <= stream->next_off + SEQUENCE_SLACK &&
		       off + SEQUENCE_SLACK >= stream->next_off;

	if (!is_next) {
		*stream = (struct reader_stream){.next_off = end};
		return;
	}
	stream->next_off = MAX(stream->next_off, end);
	stream->run_count = MIN(stream->run_count + 1, 32u);
	if (reader->settings.prefetch_threads == 0 || (stream->run_count < 2 && off > 0))
		return;
	window = MIN(window_max(reader), WINDOW_BYTES_MIN << MIN(stream->run_count - 1, 16u));
	target = MIN(file_size, stream->next_off + window);
	from = MAX(stream->window_end, stream->next_off);
	/* in steps of half a window, so that a task is worth its way through the queue */
	if (target <= from || (target < file_size && target - from < window / 2))
		return;
	prefetch_range(reader, ino, from, target);
	stream->window_end = target;
}

/* ---- life ---- */

static int open_connections(struct reader *reader)
{
	unsigned count = MIN(reader->settings.prefetch_threads, (unsigned)READER_PREFETCH_MAX);
	int r;

	while (reader->connection_count < count) {
		r = index_reader_open(reader->settings.index,
				      &reader->connections[reader->connection_count]);
		if (r < 0)
			return r;
		reader->connection_count++;
	}
	return 0;
}

int reader_open(const struct reader_settings *settings, struct reader **out)
{
	struct reader *reader = mem_alloc(sizeof(*reader));
	int r;

	if (!reader)
		return -ENOMEM;
	reader->settings = *settings;
	if (settings->read_ahead_bytes_max == 0)
		reader->settings.prefetch_threads = 0;
	decoded_init(reader);
	r = reader_load_init(reader);
	if (r == 0)
		r = open_connections(reader);
	if (r == 0)
		r = queue_init(&reader->prefetch_queue, PREFETCH_TASKS_MAX);
	if (r == 0 && reader->connection_count > 0)
		r = workers_start(&reader->prefetch_workers, &reader->prefetch_queue,
				  reader->connection_count, "prefetch", prefetch_run, reader);
	if (r < 0) {
		reader_close(reader);
		return r;
	}
	*out = reader;
	return 0;
}

void reader_close(struct reader *reader)
{
	if (!reader)
		return;
	atomic_store(&reader->is_closing, true);
	workers_stop(&reader->prefetch_workers);
	queue_release(&reader->prefetch_queue);
	for (unsigned i = 0; i < reader->connection_count; i++)
		index_reader_close(reader->connections[i]);
	decoded_release(reader);
	reader_load_release(reader);
	mem_free(reader);
}
