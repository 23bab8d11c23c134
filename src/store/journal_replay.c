/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a journal back.
 *
 * Two passes.  The first reads headers and marks: it finds the runs, from which
 * number on a later run voids each file (limit_seq), and up to which number
 * everything must be there (must_seq: newest mark, or the beginning of a run,
 * which journal_open makes only after everything before it is durable).  The
 * second hands out records in files' order.
 *
 * Only the number that follows is ever handed out.  Frames that repeat numbers
 * are skipped, frames behind a gap wait in vain, unless a later file of the
 * run brings the missing ones (they were appended again after a failure).  So
 * the end is where no file continues; it is right when must_seq was reached,
 * and damage otherwise.
 *
 * A header is durable before anything is appended: a bad one in front of frames
 * is damage; a file that holds no more than that was never finished.
 */
#include "store/journal.h"

#include "store/journal_files.h"
#include "store/journal_format.h"
#include "util/err.h"
#include "util/file.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

struct replay_file {
	uint64_t number;
	struct journal_header header;
	struct journal_seal seal;
	bool is_empty;    /* never finished: nothing was appended */
	bool is_damaged;  /* its header */
	uint64_t mark;    /* newest, 0: none */
	uint64_t limit_seq; /* records from here on are void */
};

struct replay {
	const struct journal_settings *settings;
	int dir_fd;
	struct aead_ctx *ctx;
	struct replay_file *files;
	size_t count;
	uint64_t must_seq;
	int (*apply)(void *ctx, struct record *record, bool is_synced);
	void *apply_ctx;
	bool is_ended; /* apply said so */
	struct journal_replay_info info;
	/* First place that did not authenticate and that no file has made up for; number 0: none. */
	uint64_t bad_number, bad_off;
};

static void replay_release(struct replay *replay)
{
	for (size_t i = 0; i < replay->count; i++)
		journal_seal_release(&replay->files[i].seal);
	mem_free(replay->files);
	aead_ctx_free(replay->ctx);
	mem_close_fd(&replay->dir_fd);
}

/* ---- files ---- */

static int load_file(const struct replay *replay, uint64_t number, struct buf *out)
{
	char name[JOURNAL_NAME_SIZE];
	AUTO_FD fd = openat(replay->dir_fd, journal_file_name(number, name),
			    O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	buf_clear(out);
	r = file_pread_buf(fd, (size_t)st.st_size, 0, out);
	if (r < 0)
		log_error("journal-unreadable", "dir=" LOG_Q " file=%s error=%s",
			  replay->settings->dir, name, err_name(r));
	return r;
}

static int derive_seal(const struct replay *replay, struct replay_file *file)
{
	file->seal.fs_id = file->header.fs_id;
	file->seal.writer_epoch = file->header.writer_epoch;
	file->seal.number = file->header.number;
	return keyring_derive_aead(replay->settings->keyring, file->header.key_epoch, KEY_JOURNAL,
				   bytes_of(file->header.salt, JOURNAL_SALT_BYTES),
				   &file->seal.key);
}

/* Why a whole replay can not go on because of one file's header. */
static int refuse(const struct replay *replay, const struct replay_file *file, const char *why,
		  int error)
{
	char name[JOURNAL_NAME_SIZE];

	log_error("journal-refused", "dir=" LOG_Q " file=%s why=" LOG_Q " error=%s",
		  replay->settings->dir, journal_file_name(file->number, name), why,
		  err_name(error));
	return error;
}

static int check_header(const struct replay *replay, struct replay_file *file, struct bytes bytes)
{
	struct fs_id fs_id = keyring_fs_id(replay->settings->keyring);
	int r = journal_header_read(bytes, &file->header);

	if (r == -EPROTONOSUPPORT)
		return refuse(replay, file, "written by a newer version", r);
	if (r == 0 && memcmp(file->header.fs_id.b, fs_id.b, sizeof(fs_id.b)) != 0)
		return refuse(replay, file, "belongs to another file system", -EUCLEAN);
	if (r == 0)
		r = derive_seal(replay, file);
	if (r == -ENOKEY)
		return refuse(replay, file, "key epoch unknown or destroyed", r);
	if (r == 0)
		r = journal_header_verify(replay->ctx, &file->seal.key, bytes);
	if (r == 0 && file->header.number != file->number)
		r = -EBADMSG;
	return r;
}

/* First pass over one file. */
static int examine(const struct replay *replay, struct replay_file *file, struct bytes bytes)
{
	char name[JOURNAL_NAME_SIZE];
	bool found = false;
	int r = check_header(replay, file, bytes);

	if (r == -EBADMSG) {
		file->is_empty = bytes.len <= JOURNAL_HEADER_BYTES;
		file->is_damaged = !file->is_empty;
		if (file->is_damaged)
			log_error("journal-damaged", "dir=" LOG_Q " file=%s off=0 what=header",
				  replay->settings->dir, journal_file_name(file->number, name));
		return 0;
	}
	if (r == 0)
		r = journal_find_marks(replay->ctx, &file->seal, bytes, &found, &file->mark);
	return r;
}

static int examine_files(struct replay *replay, struct buf *bytes)
{
	uint64_t *numbers = NULL;
	size_t count = 0;
	int r = journal_list_files(replay->dir_fd, &numbers, &count);

	if (r == 0 && count > 0) {
		replay->files = mem_alloc_array(count, sizeof(*replay->files));
		r = replay->files ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct replay_file *file = &replay->files[replay->count++];

		file->number = numbers[i];
		r = load_file(replay, file->number, bytes);
		if (r == 0)
			r = examine(replay, file, buf_bytes(bytes));
	}
	mem_free(numbers);
	return r;
}

/* By writer epoch, then number; one with a bad header stays behind the one before it. */
static void sort_files(struct replay *replay)
{
	for (size_t i = 1; i < replay->count; i++)
		if (replay->files[i].is_damaged || replay->files[i].is_empty)
			replay->files[i].header.writer_epoch =
				replay->files[i - 1].header.writer_epoch;
	for (size_t i = 1; i < replay->count; i++) {
		struct replay_file moved = replay->files[i];
		size_t at = i;

		for (; at > 0 && replay->files[at - 1].header.writer_epoch >
					 moved.header.writer_epoch;
		     at--)
			replay->files[at] = replay->files[at - 1];
		replay->files[at] = moved;
	}
}

/* Limits of each file, from the last to the first, and what must be there. */
static void find_limits(struct replay *replay)
{
	uint64_t limit = UINT64_MAX, run_no = 0, run_limit = UINT64_MAX;

	for (size_t i = replay->count; i-- > 0;) {
		struct replay_file *file = &replay->files[i];

		if (file->is_empty || file->is_damaged) {
			file->limit_seq = limit;
			continue;
		}
		if (file->header.run_no != run_no) { /* an earlier run: the one behind it limits it */
			run_no = file->header.run_no;
			run_limit = limit;
			limit = MIN(limit, file->header.run_first_seq);
		}
		file->limit_seq = run_limit;
		replay->must_seq = MAX(replay->must_seq, MIN(file->mark, run_limit - 1));
		replay->must_seq =
			MAX(replay->must_seq, MIN(file->header.run_first_seq, run_limit) - 1);
	}
}

/* ---- records ---- */

static void note_bad(struct replay *replay, const struct replay_file *file, uint64_t off)
{
	if (replay->bad_number != 0)
		return;
	replay->bad_number = file->number;
	replay->bad_off = off;
}

/* Gives the record away. */
static int hand_out(struct replay *replay, struct record *record)
{
	uint64_t seq = record->seq;
	int r = replay->apply(replay->apply_ctx, record, seq <= replay->must_seq);

	if (r < 0)
		return r;
	if (r > 0) {
		replay->is_ended = true;
		return 0;
	}
	replay->info.last_seq = seq;
	replay->info.records++;
	replay->bad_number = 0;
	return 0;
}

/* Second pass over one frame. */
static int replay_frame(struct replay *replay, const struct replay_file *file,
			const struct journal_frame *frame)
{
	struct bytes left = frame->records;
	uint64_t seq = frame->first_seq;

	for (uint32_t i = 0; i < frame->count && !replay->is_ended; i++, seq++) {
		AUTO_PTR(record) record = record_new();
		int r = record ? journal_body_record(&left, record) : -ENOMEM;

		if (r == 0 && seq == replay->info.last_seq + 1 && seq < file->limit_seq) {
			record->seq = seq;
			r = hand_out(replay, STEAL(record));
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static void name_damage(struct replay *replay, const struct replay_file *file, uint64_t off)
{
	char name[JOURNAL_NAME_SIZE];

	replay->info.damaged_frames++;
	log_warn("journal-damaged", "dir=" LOG_Q " file=%s off=%" PRIu64 " what=frame",
		 replay->settings->dir, journal_file_name(file->number, name), off);
}

static int replay_bytes(struct replay *replay, const struct replay_file *file, struct bytes bytes)
{
	AUTO(journal_walk) walk;
	struct journal_frame frame = {0};
	size_t good_end = JOURNAL_HEADER_BYTES;
	int r = 0;

	journal_walk_init(&walk, replay->ctx, &file->seal, bytes);
	while (!replay->is_ended && (r = journal_walk_next(&walk, &frame)) > 0) {
		if (walk.is_gap) {
			replay->info.dropped_bytes += frame.off - good_end;
			note_bad(replay, file, good_end);
			if (MAX(frame.first_seq, frame.synced_seq) <= replay->must_seq)
				name_damage(replay, file, good_end);
		}
		if (frame.kind == JOURNAL_RECORDS) {
			if (frame.first_seq > replay->info.last_seq + 1 &&
			    frame.first_seq < file->limit_seq) {
				note_bad(replay, file, frame.off);
				replay->info.dropped_bytes += walk.off - frame.off;
			}
			r = replay_frame(replay, file, &frame);
			if (r < 0)
				return r;
		}
		good_end = replay->is_ended ? frame.off : walk.off;
	}
	if (!replay->is_ended && r < 0)
		return r;
	if (good_end < bytes.len && !replay->is_ended)
		note_bad(replay, file, good_end);
	replay->info.dropped_bytes += bytes.len - good_end;
	return 0;
}

static int replay_files(struct replay *replay, struct buf *bytes)
{
	for (size_t i = 0; i < replay->count; i++) {
		struct replay_file *file = &replay->files[i];
		int r;

		if (file->is_empty)
			continue;
		if (file->is_damaged) {
			note_bad(replay, file, 0);
			continue;
		}
		/* Where a later run begins everything before it was found to be right. */
		if (file->header.run_no > replay->bad_number &&
		    file->header.run_first_seq <= replay->info.last_seq + 1)
			replay->bad_number = 0;
		r = load_file(replay, file->number, bytes);
		if (r < 0)
			return r;
		if (replay->is_ended)
			replay->info.dropped_bytes += bytes->len;
		else
			r = replay_bytes(replay, file, buf_bytes(bytes));
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * A file whose header is damaged may have held marks that nobody can read.  It
 * is harmless only when what follows it goes on without a gap.
 */
static bool is_damage_in_the_end(const struct replay *replay, uint64_t after_seq)
{
	if (MAX(replay->must_seq, after_seq) > replay->info.last_seq)
		return true;
	for (size_t i = 0; i < replay->count; i++)
		if (replay->files[i].is_damaged && replay->bad_number == replay->files[i].number)
			return true;
	return false;
}

static int judge(const struct replay *replay, uint64_t after_seq)
{
	char name[JOURNAL_NAME_SIZE] = "none";

	if (!is_damage_in_the_end(replay, after_seq))
		return 0;
	if (replay->bad_number != 0)
		journal_file_name(replay->bad_number, name);
	log_error("journal-broken",
		  "dir=" LOG_Q " file=%s off=%" PRIu64 " missing_seq=%" PRIu64 " synced_seq=%" PRIu64,
		  replay->settings->dir, name, replay->bad_off, replay->info.last_seq + 1,
		  replay->must_seq);
	return -EUCLEAN;
}

int journal_replay(const struct journal_settings *settings, uint64_t after_seq,
		   int (*apply)(void *ctx, struct record *record, bool is_synced), void *ctx,
		   struct journal_replay_info *info)
{
	AUTO(replay) replay = {.settings = settings,
			       .dir_fd = -1,
			       .apply = apply,
			       .apply_ctx = ctx,
			       .info = {.last_seq = after_seq}};
	AUTO(buf) bytes = BUF_INIT;
	int r;

	replay.dir_fd = open(settings->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (replay.dir_fd < 0)
		return -errno;
	r = aead_ctx_new(&replay.ctx);
	if (r == 0)
		r = examine_files(&replay, &bytes);
	if (r < 0)
		return r;
	sort_files(&replay);
	find_limits(&replay);
	r = replay_files(&replay, &bytes);
	if (r == 0)
		r = judge(&replay, after_seq);
	if (r < 0)
		return r;
	replay.info.synced_seq = replay.must_seq;
	*info = replay.info;
	return 0;
}
