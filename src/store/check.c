/* SPDX-License-Identifier: Apache-2.0 */
/* What fsck proves beyond the index itself: that what is referenced can be had. */
#include "store/store_private.h"

#include "util/err.h"

#include <errno.h>
#include <inttypes.h>

#define PAGE 512u

struct check {
	struct store *store;
	struct index_reader *reader;
	bool is_deep;
	void (*found)(void *ctx, const char *text);
	void *ctx;
	uint64_t violations;
};

static void __attribute__((format(printf, 2, 3))) report(struct check *check, const char *format,
							  ...)
{
	AUTO(buf) text = BUF_INIT;
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	check->violations++;
	check->found(check->ctx, text.len ? buf_str(&text) : "no memory for the finding");
}

static int count_valid_copies(struct check *check, uint64_t shard_no, unsigned *valid)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_list_copies(check->store->index, check->reader, shard_no, &copies);

	*valid = 0;
	for (size_t i = 0; i < copies.count; i++)
		if (copies.rows[i].state == COPY_PRESENT || copies.rows[i].state == COPY_VERIFIED)
			++*valid;
	return r;
}

/* Every record of the shard that a live chunk names, in the spool. */
static int check_spooled(struct check *check, const struct shard_row *shard)
{
	uint64_t after = 0;
	size_t count;

	do {
		AUTO(chunk_list) chunks = ROW_LIST_INIT;
		int r = index_list_chunks(check->store->index, check->reader, shard->shard_no,
					  after, PAGE, &chunks);

		if (r < 0)
			return r;
		for (size_t i = 0; i < chunks.count; i++) {
			r = spool_check_record(check->store->spool, shard, &chunks.rows[i]);
			if (r < 0)
				report(check, "spool: shard %" PRIu64 " (%s): record %u: %s",
				       shard->shard_no, shard_id_hex(&shard->id).s,
				       chunks.rows[i].record_no, err_sentence(r));
			after = chunks.rows[i].chunk_no;
		}
		count = chunks.count;
	} while (count == PAGE);
	return 0;
}

static int check_shard(struct check *check, const struct shard_row *shard)
{
	bool is_spooled = spool_has(check->store->spool, shard->shard_no);
	unsigned valid;
	int r = count_valid_copies(check, shard->shard_no, &valid);

	if (r < 0 || shard->state == SHARD_GONE)
		return r;
	if (!is_spooled && valid == 0 && shard->live_bytes > 0)
		report(check, "shard %" PRIu64 " (%s): %" PRIu64 " bytes of chunks in use, but it is "
			      "not in the spool and no copy is known to be good",
		       shard->shard_no, shard_id_hex(&shard->id).s, shard->live_bytes);
	if (shard->state == SHARD_SEALED && !is_spooled && valid > 0)
		report(check, "shard %" PRIu64 " (%s): owes copies, and is not in the spool; other "
			      "copies will serve", shard->shard_no, shard_id_hex(&shard->id).s);
	return is_spooled && check->is_deep ? check_spooled(check, shard) : 0;
}

static int check_shards(struct check *check)
{
	uint64_t after = 0;
	size_t count;

	do {
		AUTO(shard_list) shards = ROW_LIST_INIT;
		int r = index_list_shards(check->store->index, check->reader, after, PAGE, &shards);

		for (size_t i = 0; i < shards.count && r == 0; i++) {
			r = check_shard(check, &shards.rows[i]);
			after = shards.rows[i].shard_no;
		}
		if (r < 0)
			return r;
		count = shards.count;
	} while (count == PAGE);
	return 0;
}

int store_check(struct store *store, bool is_deep, void (*found)(void *ctx, const char *text),
		void *ctx, uint64_t *violations)
{
	struct check check = {.store = store, .is_deep = is_deep, .found = found, .ctx = ctx};
	uint64_t in_index = 0;
	int r = sequencer_wait_applied(store->sequencer, sequencer_last_seq(store->sequencer));

	if (r < 0)
		return r;
	r = index_reader_open(store->index, &check.reader);
	if (r < 0)
		return r;
	r = index_prove(store->index, check.reader, found, ctx, &in_index);
	if (r == 0)
		r = check_shards(&check);
	index_reader_close(check.reader);
	if (r == 0)
		*violations = in_index + check.violations;
	return r;
}
