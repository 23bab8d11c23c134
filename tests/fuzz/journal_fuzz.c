/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever lies in a journal file: nothing is read outside it, nothing that does
 * not authenticate is handed out, and a walk ends.  The first byte says how
 * deep the rest is put in:
 *
 *   0  a whole file                 2  the body of a mark
 *   1  the body of a record frame   3  a body that is sealed, then read back
 */
#include "store/journal_format.h"
#include "util/mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

/* Every record of a parsed frame can be taken off, and then nothing is left but padding. */
static void take_records(const struct journal_frame *frame)
{
	struct bytes left = frame->records;

	for (uint32_t i = 0; i < frame->count; i++) {
		AUTO(record) record = RECORD_INIT;
		struct record_walk walk;
		struct change change;

		must(journal_body_record(&left, &record) == 0);
		walk = record_walk_of(buf_bytes(&record.changes));
		while (record_walk_next(&walk, &change) > 0)
			;
	}
	must(left.len < JOURNAL_SLOT_BYTES);
}

static unsigned walk_file(struct aead_ctx *ctx, const struct journal_seal *seal, struct bytes file)
{
	AUTO(journal_walk) walk;
	struct journal_frame frame;
	uint64_t last_number = 0, mark;
	unsigned frames = 0;
	bool found;

	must(journal_find_marks(ctx, seal, file, &found, &mark) == 0);
	journal_walk_init(&walk, ctx, seal, file);
	while (journal_walk_next(&walk, &frame) > 0) {
		must(frame.number > last_number && frame.off + JOURNAL_SLOT_BYTES <= file.len);
		last_number = frame.number;
		frames++;
		if (frame.kind == JOURNAL_RECORDS)
			take_records(&frame);
		else
			must(found && frame.synced_seq <= mark);
	}
	return frames;
}

static void read_file(struct aead_ctx *ctx, const struct journal_seal *seal, struct bytes file)
{
	struct journal_header header;

	if (journal_header_read(file, &header) == 0)
		must(journal_header_verify(ctx, &seal->key, file) != 0);
	must(walk_file(ctx, seal, file) == 0); /* nobody guesses a tag */
}

static void read_body(enum journal_frame_kind kind, struct bytes body)
{
	struct journal_frame frame = {0};

	if (journal_body_parse(kind, body, &frame) == 0 && kind == JOURNAL_RECORDS)
		take_records(&frame);
}

/* The bytes as the changes of two records, through a frame and back. */
static void round_trip(struct aead_ctx *ctx, const struct journal_seal *seal, struct bytes src)
{
	AUTO(record) first = RECORD_INIT;
	AUTO(record) second = RECORD_INIT;
	struct record *records[] = {&first, &second};
	AUTO(buf) file = BUF_INIT;

	first.seq = 7;
	second.seq = 8;
	must(buf_append(&first.changes, src) == 0);
	must(buf_append(&second.changes, bytes_of(src.ptr, src.len / 2)) == 0);
	must(buf_append_zeros(&file, JOURNAL_HEADER_BYTES) == 0);
	must(journal_frame_records(ctx, seal, 1, records, 2, &file) == 0);
	must(journal_frame_mark(ctx, seal, 2, 8, &file) == 0);
	must(walk_file(ctx, seal, buf_bytes(&file)) == 2);
	must(buf_append(&file, src) == 0);
	must(walk_file(ctx, seal, buf_bytes(&file)) == 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct journal_seal seal = JOURNAL_SEAL_INIT;
	struct aead_ctx *ctx;
	struct bytes rest;

	if (len == 0 || len > MIB)
		return 0;
	must(aead_ctx_new(&ctx) == 0);
	memset(seal.key.b, 0x33, sizeof(seal.key.b));
	rest = bytes_of(data + 1, len - 1);
	switch (data[0] % 4) {
	case 0:
		read_file(ctx, &seal, rest);
		break;
	case 1:
		read_body(JOURNAL_RECORDS, rest);
		break;
	case 2:
		read_body(JOURNAL_MARK, rest);
		break;
	case 3:
		round_trip(ctx, &seal, rest);
		break;
	}
	aead_ctx_free(ctx);
	return 0;
}
