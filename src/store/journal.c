/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the journal: made, appended to, synced, removed.
 *
 * Invariants
 * - The header of a file is durable before the first frame is written to it, so
 *   a header that does not authenticate is damage and never a torn write.  So
 *   that rotation costs the appending thread no sync, journal_sync makes the
 *   next file (`spare`) ready once the current one is half full.
 * - Numbers of files grow in the order in which they are appended to.
 * - A frame's number is taken before its bytes exist and never again.
 * - `len` covers whole frames that were written with success; what a failed
 *   write left behind it is cut off, or nothing more is appended to that file.
 * - A file whose sync failed is never trusted again (is_suspect).
 *
 * Space is allocated some MiB ahead: when the disk is full the journal can take
 * what makes room again (unlink), and the filesystem is asked less often.
 *
 * Only `lock` is shared: the appending thread alone changes `current`, and
 * `len` and `last_seq` of it; the syncer makes `spare` and closes what is no
 * longer current; the applier removes files that nobody else touches.
 */
#include "store/journal.h"

#include "crypto/crypto.h"
#include "store/journal_files.h"
#include "store/journal_format.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hook.h"
#include "util/list.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define AHEAD_BYTES      (4 * MIB)
#define FRAME_KEPT_BYTES (2 * MIB) /* a larger buffer is given back after use */

struct journal_file {
	struct list link; /* journal->files */
	uint64_t number;
	uint32_t key_epoch; /* constant once it is there */
	int fd; /* -1: made by an earlier process, or closed; journal->lock */
	struct journal_seal seal;
	uint64_t last_seq;    /* journal->lock; newest record in it, 0: none */
	uint64_t len;         /* journal->lock */
	uint64_t synced_len;  /* journal->lock */
	uint64_t next_frame;  /* appending thread */
	uint64_t allocated;   /* appending thread */
	bool is_given_up;     /* journal->lock: no more appends */
	bool is_suspect;      /* journal->lock: a sync failed, bytes may be gone */
	bool is_syncing;      /* journal->lock: fdatasync is running */
};

struct journal {
	char *dir;
	int dir_fd;
	struct keyring *keyring;
	uint64_t file_bytes_max, writer_epoch;
	uint64_t run_no, run_first_seq;
	struct lock lock;    /* LOCK_LEAF */
	struct list files;   /* lock; by number, `current` last */
	struct journal_file *current, *spare; /* lock */
	uint64_t next_number; /* lock */
	uint64_t bytes;       /* lock; sum of len */
	struct aead_ctx *append_ctx; /* appending thread */
	struct aead_ctx *sync_ctx;   /* syncer */
	struct buf frame;            /* appending thread */
};

/* ---- one file ---- */

static void journal_file_free(struct journal_file *file)
{
	if (!file)
		return;
	mem_close_fd(&file->fd);
	journal_seal_release(&file->seal);
	mem_free(file);
}
DEFINE_FREEP(journal_file)

static struct journal_file *journal_file_new(uint64_t number)
{
	struct journal_file *file = mem_alloc(sizeof(*file));

	if (!file)
		return NULL;
	file->fd = -1;
	file->number = number;
	file->next_frame = 1;
	return file;
}

/* Gives back what was allocated ahead; without it nothing is wrong but the space. */
static void trim(int fd, uint64_t len)
{
	if (ftruncate(fd, (off_t)len) < 0)
		log_debug("journal-trim-failed", "error=%s", err_name(errno));
}

/* Salt, key and header of a new file whose descriptor is open. */
static int file_begin(struct journal *journal, struct aead_ctx *ctx, struct journal_file *file)
{
	struct journal_header header = {.fs_id = keyring_fs_id(journal->keyring),
					.writer_epoch = journal->writer_epoch,
					.number = file->number,
					.run_no = journal->run_no,
					.run_first_seq = journal->run_first_seq,
					.key_epoch = keyring_current_epoch(journal->keyring)};
	uint8_t head[JOURNAL_HEADER_BYTES];
	int r = crypto_random(header.salt, sizeof(header.salt));

	if (r == 0)
		r = keyring_derive_aead(journal->keyring, header.key_epoch, KEY_JOURNAL,
					bytes_of(header.salt, sizeof(header.salt)),
					&file->seal.key);
	if (r == 0)
		r = journal_header_write(ctx, &file->seal.key, &header, head);
	if (r == 0)
		r = file_pwrite(file->fd, bytes_of(head, sizeof(head)), 0);
	if (r < 0)
		return r;
	file->key_epoch = header.key_epoch;
	file->seal.fs_id = header.fs_id;
	file->seal.writer_epoch = header.writer_epoch;
	file->seal.number = header.number;
	file->len = file->synced_len = file->allocated = sizeof(head);
	if (fsync(file->fd) < 0 ||
	    (!HOOK_BROKEN("skip-journal-name") && fsync(journal->dir_fd) < 0))
		return -errno;
	return 0;
}

/* A durable file without frames. */
static int file_create(struct journal *journal, struct aead_ctx *ctx, uint64_t number,
		       struct journal_file **out)
{
	AUTO_PTR(journal_file) file = journal_file_new(number);
	char name[JOURNAL_NAME_SIZE];
	int r;

	if (!file)
		return -ENOMEM;
	journal_file_name(number, name);
	file->fd = openat(journal->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file->fd < 0)
		return -errno;
	r = file_begin(journal, ctx, file);
	if (r < 0) {
		unlinkat(journal->dir_fd, name, 0);
		return r;
	}
	*out = STEAL(file);
	return 0;
}

static void file_remove(struct journal *journal, struct journal_file *file)
{
	char name[JOURNAL_NAME_SIZE];

	unlinkat(journal->dir_fd, journal_file_name(file->number, name), 0);
	journal_file_free(file);
}

/* ---- open and close ---- */

/* A file of an earlier process: made durable now, removed when its records are applied. */
static int adopt_file(struct journal *journal, uint64_t number, uint64_t last_seq)
{
	AUTO_PTR(journal_file) file = journal_file_new(number);
	char name[JOURNAL_NAME_SIZE];
	AUTO_FD fd = -1;
	struct stat st;

	if (!file)
		return -ENOMEM;
	fd = openat(journal->dir_fd, journal_file_name(number, name), O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || fdatasync(fd) < 0)
		return -errno;
	file->len = file->synced_len = (uint64_t)st.st_size;
	file->last_seq = last_seq;
	file->is_given_up = true;
	journal->bytes += file->len;
	journal->next_number = number + 1;
	list_push_back(&journal->files, &STEAL(file)->link);
	return 0;
}

static int adopt_files(struct journal *journal, uint64_t last_seq)
{
	uint64_t *numbers = NULL;
	size_t count = 0;
	int r = journal_list_files(journal->dir_fd, &numbers, &count);

	for (size_t i = 0; r == 0 && i < count; i++)
		r = adopt_file(journal, numbers[i], last_seq);
	mem_free(numbers);
	if (r == 0 && fsync(journal->dir_fd) < 0)
		r = -errno;
	return r;
}

static void install_current(struct journal *journal, struct journal_file *file)
{
	journal->current = file;
	journal->bytes += file->len;
	list_push_back(&journal->files, &file->link);
}

static int journal_begin(struct journal *journal, uint64_t next_seq)
{
	struct journal_file *file;
	int r;

	journal->dir_fd = open(journal->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal->dir_fd < 0)
		return -errno;
	r = adopt_files(journal, next_seq - 1);
	if (r == 0)
		r = aead_ctx_new(&journal->append_ctx);
	if (r == 0)
		r = aead_ctx_new(&journal->sync_ctx);
	if (r < 0)
		return r;
	journal->run_no = journal->next_number++;
	journal->run_first_seq = next_seq;
	r = file_create(journal, journal->append_ctx, journal->run_no, &file);
	if (r == 0)
		install_current(journal, file);
	return r;
}

int journal_open(const struct journal_settings *settings, uint64_t next_seq,
		 struct journal **out)
{
	struct journal *journal = mem_alloc(sizeof(*journal));
	int r;

	assert(next_seq > 0);
	if (!journal)
		return -ENOMEM;
	lock_init(&journal->lock, LOCK_LEAF);
	list_init(&journal->files);
	journal->dir_fd = -1;
	journal->next_number = 1;
	journal->keyring = settings->keyring;
	journal->file_bytes_max = settings->file_bytes_max;
	journal->writer_epoch = settings->writer_epoch;
	journal->dir = mem_strdup(settings->dir);
	r = journal->dir ? journal_begin(journal, next_seq) : -ENOMEM;
	if (r < 0) {
		journal_close(journal);
		return r;
	}
	*out = journal;
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	if (journal->current && journal->current->fd >= 0)
		trim(journal->current->fd, journal->current->len);
	if (journal->spare)
		file_remove(journal, journal->spare);
	list_for_each(link, &journal->files) {
		struct journal_file *file = list_entry(link, struct journal_file, link);

		list_remove(&file->link);
		journal_file_free(file);
	}
	aead_ctx_free(journal->append_ctx);
	aead_ctx_free(journal->sync_ctx);
	buf_release(&journal->frame);
	mem_close_fd(&journal->dir_fd);
	lock_release(&journal->lock);
	mem_free(journal->dir);
	mem_free(journal);
}

uint64_t journal_bytes(struct journal *journal)
{
	LOCK_SCOPE(&journal->lock);
	return journal->bytes;
}

/* ---- append ---- */

/*
 * Whether `current` may take a frame; a spare becomes current where it may not.  Not in a file of
 * an earlier key epoch: *stale is a spare of one, to be removed.
 */
static bool rotate(struct journal *journal, struct journal_file **stale)
{
	uint32_t epoch = keyring_current_epoch(journal->keyring);
	struct journal_file *file;
	bool is_usable;
	LOCK_SCOPE(&journal->lock);

	file = journal->current;
	is_usable = !file->is_given_up && file->key_epoch == epoch;
	if (is_usable && file->len < journal->file_bytes_max)
		return true;
	if (journal->spare && journal->spare->key_epoch != epoch)
		*stale = STEAL(journal->spare);
	if (journal->spare) {
		file->is_given_up = true;
		install_current(journal, STEAL(journal->spare));
		return true;
	}
	return is_usable && file->len < 2 * journal->file_bytes_max;
}

/* No spare is there: make a file on the spot. */
static int rotate_in_need(struct journal *journal)
{
	struct journal_file *file;
	uint64_t number;
	int r;

	lock_take(&journal->lock);
	number = journal->next_number++;
	lock_drop(&journal->lock);
	r = file_create(journal, journal->append_ctx, number, &file);
	if (r < 0)
		return r;
	lock_take(&journal->lock);
	journal->current->is_given_up = true;
	install_current(journal, file);
	lock_drop(&journal->lock);
	return 0;
}

/* `current` may take a frame. */
static int find_room(struct journal *journal)
{
	struct journal_file *stale = NULL;
	bool has_room = rotate(journal, &stale);

	if (stale)
		file_remove(journal, stale);
	return has_room ? 0 : rotate_in_need(journal);
}

static void allocate_ahead(const struct journal *journal, struct journal_file *file, size_t more)
{
	uint64_t step = MIN(AHEAD_BYTES, journal->file_bytes_max);

	if (file->allocated == UINT64_MAX || file->len + more + step / 2 <= file->allocated)
		return;
	if (fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)file->allocated, (off_t)step) == 0)
		file->allocated += step;
	else if (errno == EOPNOTSUPP)
		file->allocated = UINT64_MAX;
}

/* Takes back a frame that was not, or not wholly, written. */
static void cut_frame(struct journal *journal, struct journal_file *file, int error)
{
	int r = ftruncate(file->fd, (off_t)file->len) < 0 ? -errno : 0;

	file->allocated = file->len;
	if (r == 0 && error == -ENOSPC)
		return;
	lock_take(&journal->lock);
	file->is_given_up = true;
	lock_drop(&journal->lock);
}

/* Writes journal->frame behind the current file. */
static int put_frame(struct journal *journal, struct journal_file *file, uint64_t last_seq,
		     const char *after)
{
	struct bytes frame = buf_bytes(&journal->frame);
	int r;

	(void)after; /* where hooks are compiled out */
	allocate_ahead(journal, file, frame.len);
	r = file_pwrite(file->fd, frame, file->len);
	if (r == 0)
		r = HOOK(after);
	if (r < 0) {
		cut_frame(journal, file, r);
		return r;
	}
	lock_take(&journal->lock);
	file->len += frame.len;
	journal->bytes += frame.len;
	file->last_seq = MAX(file->last_seq, last_seq);
	lock_drop(&journal->lock);
	if (journal->frame.capacity > FRAME_KEPT_BYTES)
		buf_release(&journal->frame);
	return 0;
}

size_t journal_record_cost(const struct record *record)
{
	return journal_record_bytes(record);
}

int journal_append(struct journal *journal, struct record *const *records, size_t count)
{
	size_t cost = 0;
	int r = HOOK("journal-append-before");

	assert(count > 0 && count <= JOURNAL_BATCH_RECORDS_MAX);
	for (size_t i = 0; i < count; i++)
		cost += journal_record_cost(records[i]);
	if (cost > JOURNAL_BATCH_BYTES_MAX)
		return -E2BIG;
	if (r == 0)
		r = find_room(journal);
	if (r < 0)
		return r;
	buf_clear(&journal->frame);
	r = journal_frame_records(journal->append_ctx, &journal->current->seal,
				  journal->current->next_frame++, records, count, &journal->frame);
	if (r < 0)
		return r;
	return put_frame(journal, journal->current, records[count - 1]->seq,
			 "journal-append-after");
}

int journal_append_mark(struct journal *journal, uint64_t synced_seq)
{
	int r = HOOK("journal-mark-before");

	if (r == 0)
		r = find_room(journal);
	if (r < 0)
		return r;
	buf_clear(&journal->frame);
	r = journal_frame_mark(journal->append_ctx, &journal->current->seal,
			       journal->current->next_frame++, synced_seq, &journal->frame);
	if (r < 0)
		return r;
	return put_frame(journal, journal->current, 0, "journal-mark-after");
}

/* ---- sync ---- */

/* The next file (number > after) with bytes to sync, marked is_syncing; NULL: no more. */
static struct journal_file *pick_unsynced(struct journal *journal, uint64_t after, uint64_t *len)
{
	LOCK_SCOPE(&journal->lock);

	list_for_each(link, &journal->files) {
		struct journal_file *file = list_entry(link, struct journal_file, link);

		if (file->number <= after || file->is_suspect || file->synced_len == file->len)
			continue;
		file->is_syncing = true;
		*len = file->len;
		return file;
	}
	return NULL;
}

static int sync_file(struct journal *journal, struct journal_file *file, uint64_t len)
{
	int r = HOOK_BROKEN("skip-journal-sync") ? 0 : file_fdatasync(file->fd);
	int fd = -1;

	lock_take(&journal->lock);
	file->is_syncing = false;
	if (r == 0) {
		file->synced_len = len;
		if (file != journal->current && file->synced_len == file->len) {
			fd = file->fd;
			file->fd = -1;
		}
	}
	lock_drop(&journal->lock);
	if (fd >= 0)
		trim(fd, len);
	mem_close_fd(&fd);
	return r;
}

/* After a failed sync: nothing that this process has open is trusted or appended to again. */
static void give_up_files(struct journal *journal)
{
	LOCK_SCOPE(&journal->lock);

	list_for_each(link, &journal->files) {
		struct journal_file *file = list_entry(link, struct journal_file, link);

		if (file->fd < 0)
			continue;
		file->is_given_up = true;
		file->is_suspect = true;
	}
}

/* Half of the current file is used: the next one is made, so that appends need no sync. */
static void prepare_spare(struct journal *journal)
{
	struct journal_file *file;
	uint64_t number;
	bool is_late;
	int r;

	lock_take(&journal->lock);
	is_late = journal->spare || journal->current->len < journal->file_bytes_max / 2;
	number = is_late ? 0 : journal->next_number++;
	lock_drop(&journal->lock);
	if (is_late)
		return;
	r = file_create(journal, journal->sync_ctx, number, &file);
	if (r < 0) {
		log_debug("journal-spare-failed", "error=%s", err_name(r));
		return;
	}
	lock_take(&journal->lock);
	is_late = journal->current->number > number; /* one was made in need meanwhile */
	if (!is_late)
		journal->spare = file;
	lock_drop(&journal->lock);
	if (is_late)
		file_remove(journal, file);
}

int journal_sync(struct journal *journal)
{
	struct journal_file *file;
	uint64_t after = 0, len = 0;
	int r = HOOK("journal-sync-before");

	while (r == 0 && (file = pick_unsynced(journal, after, &len)) != NULL) {
		after = file->number;
		r = sync_file(journal, file, len);
	}
	if (r == 0)
		r = HOOK("journal-sync-after");
	if (r < 0)
		give_up_files(journal);
	else
		prepare_spare(journal);
	return r;
}

/* ---- drop ---- */

/* The oldest file when all of it is <= seq and nobody uses it, taken off the list. */
static struct journal_file *take_droppable(struct journal *journal, uint64_t seq)
{
	struct journal_file *file;
	LOCK_SCOPE(&journal->lock);

	file = list_entry(journal->files.next, struct journal_file, link);
	if (file == journal->current || file->is_syncing || file->last_seq > seq)
		return NULL;
	list_remove(&file->link);
	return file;
}

static int drop_file(struct journal *journal, struct journal_file *file)
{
	char name[JOURNAL_NAME_SIZE];
	int r = HOOK("journal-drop-before");

	if (r == 0 && unlinkat(journal->dir_fd, journal_file_name(file->number, name), 0) < 0 &&
	    errno != ENOENT)
		r = -errno;
	if (r == 0 && fsync(journal->dir_fd) < 0)
		r = -errno;
	if (r == 0)
		r = HOOK("journal-drop-after");
	return r;
}

int journal_drop(struct journal *journal, uint64_t seq)
{
	struct journal_file *file;

	while ((file = take_droppable(journal, seq)) != NULL) {
		int r = drop_file(journal, file);

		lock_take(&journal->lock);
		if (r < 0) {
			list_push_front(&journal->files, &file->link);
			lock_drop(&journal->lock);
			return r;
		}
		journal->bytes -= file->len;
		lock_drop(&journal->lock);
		journal_file_free(file);
	}
	return 0;
}
