/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever lies under index/: names that are read are printed again, bodies are walked within their
 * bytes and to an end.  The first byte says what the rest is.
 */
#include "store/epoch.h"
#include "store/oplog_format.h"
#include "util/mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void read_name(struct bytes src)
{
	AUTO(buf) text = BUF_INIT;
	char again[OPLOG_NAME_SIZE];
	struct oplog_name name;

	must(buf_append(&text, src) == 0);
	if (buf_str(&text) && oplog_name_parse(buf_str(&text), &name) == 0)
		must(strcmp(oplog_name_print(&name, again), buf_str(&text)) == 0);
}

static void read_segment(struct bytes body)
{
	struct oplog_segment_head head;
	struct bytes records, changes;
	uint64_t seq;

	if (oplog_segment_read(body, &head, &records) < 0)
		return;
	must(records.len <= body.len && head.missing_count <= body.len);
	while (oplog_get_record(&records, &seq, &changes) > 0) {
		AUTO(buf) kept = BUF_INIT;
		unsigned count = 0;

		must(seq > 0 && changes.ptr >= body.ptr &&
		     changes.ptr + changes.len <= body.ptr + body.len);
		if (oplog_filter(changes, NULL, NULL, &kept, &count) == 0)
			must(kept.len <= changes.len && (count > 0) == (kept.len > 0));
	}
}

static void read_root(struct bytes body)
{
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	AUTO(buf) again = BUF_INIT;

	if (oplog_root_read(body, &root) < 0)
		return;
	must(root.chain_seq <= root.txn);
	must(oplog_root_write(&root, &again) == 0 && again.len == body.len);
}

static void read_claim(struct bytes body)
{
	struct epoch_claim claim;
	AUTO(buf) again = BUF_INIT;

	if (epoch_claim_read(body, &claim) < 0)
		return;
	must(epoch_claim_write(&claim, &again) == 0 && again.len == body.len &&
	     memcmp(again.ptr, body.ptr, body.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes rest;

	if (len == 0 || len > MIB)
		return 0;
	rest = bytes_of(data + 1, len - 1);
	switch (data[0] % 4) {
	case 0:
		read_name(rest);
		break;
	case 1:
		read_segment(rest);
		break;
	case 2:
		read_root(rest);
		break;
	case 3:
		read_claim(rest);
		break;
	}
	return 0;
}
