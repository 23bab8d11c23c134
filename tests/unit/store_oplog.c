/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the oplog: names, what is sealed and what is refused, and the golden objects. */
#include "store/epoch.h"
#include "store/oplog_format.h"

#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct keyring *keyring;
static struct aead_ctx *ctx;

static void read_golden(const char *name, struct buf *out)
{
	const char *top = getenv("SHARDFS_SRCDIR");
	uint8_t block[4096];
	char path[512];
	size_t n;
	FILE *file;

	snprintf(path, sizeof(path), "%s/tests/golden/%s", top ? top : ".", name);
	file = fopen(path, "rb");
	cr_assert(file, "%s", path);
	while ((n = fread(block, 1, sizeof(block), file)) > 0)
		cr_assert_eq(buf_append(out, bytes_of(block, n)), 0);
	fclose(file);
}

/* The keys of the golden superblock. */
static void setup(void)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	AUTO(buf) bytes = BUF_INIT;
	struct superblock sb;

	read_golden("superblock-1", &bytes);
	cr_assert_eq(superblock_parse(buf_bytes(&bytes), &sb), 0);
	cr_assert_eq(secret_set(&credentials.passphrase, bytes_of_str("golden")), 0);
	cr_assert_eq(keyring_unlock(&sb, &credentials, &keyring), 0);
	cr_assert_eq(aead_ctx_new(&ctx), 0);
}

static void teardown(void)
{
	aead_ctx_free(ctx);
	keyring_free(keyring);
}

TestSuite(oplog_format, .init = setup, .fini = teardown, .timeout = 30);

static void check_name(const char *text)
{
	struct oplog_name name;
	char again[OPLOG_NAME_SIZE];

	cr_assert_eq(oplog_name_parse(text, &name), 0, "%s", text);
	cr_assert_str_eq(oplog_name_print(&name, again), text);
}

Test(oplog_format, names_are_printed_as_they_were_read)
{
	check_name("log-00000001-0000000000000002-0000000000000363-51ecfc5fef82955db34de969c5057199");
	check_name("snap-00000002-0000000000000000-0000000000000365-08d69e4fca6a83d11cc79d11165469d5");
	check_name("snap-00000002-0000000000000365-0000000000000365-08d69e4fca6a83d11cc79d11165469d5"
		   "-p00000a");
}

Test(oplog_format, what_is_no_name_of_ours_is_refused)
{
	const char *const texts[] = {
		"",
		"log-",
		"superblock",
		"log-00000001-0000000000000002-0000000000000001-51ecfc5fef82955db34de969c5057199",
		"log-00000001-0000000000000000-0000000000000001-51ecfc5fef82955db34de969c5057199",
		"log-00000001-0000000000000002-0000000000000363-51ecfc5fef82955db34de969c505719",
		"log-00000001-0000000000000002-0000000000000363-51ECfc5fef82955db34de969c5057199",
		"log-00000001-0000000000000002-0000000000000363-51ecfc5fef82955db34de969c5057199x",
		"snap-00000002-0000000000000365-0000000000000365-08d69e4fca6a83d11cc79d11165469d5-p1",
		"snap-00000002-0000000000000365-ffffffffffffffff-08d69e4fca6a83d11cc79d11165469d5",
	};
	struct oplog_name name;

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
		cr_assert_eq(oplog_name_parse(texts[i], &name), -EINVAL, "%s", texts[i]);
}

static struct oplog_name sample_name(enum oplog_kind kind)
{
	return (struct oplog_name){.kind = kind, .epoch = 3, .first = 7, .last = 9,
				   .part = kind == OPLOG_PART ? 4 : 0, .id = {1, 2, 3}};
}

Test(oplog_format, what_was_sealed_opens_under_its_own_name_only)
{
	for (int kind = OPLOG_SEGMENT; kind <= OPLOG_ROOT; kind++) {
		struct oplog_name name = sample_name((enum oplog_kind)kind), other;
		AUTO(buf) object = BUF_INIT;
		AUTO(buf) body = BUF_INIT;
		struct digest hash, again;

		cr_assert_eq(oplog_seal(keyring, ctx, &name, bytes_of_str("some words, some words"),
					&object, &hash), 0);
		cr_assert_eq(oplog_open_object(keyring, ctx, &name, buf_bytes(&object), &body,
					       &again), 0);
		cr_assert_eq(body.len, 22);
		cr_assert_arr_eq(body.ptr, "some words, some words", 22);
		cr_assert_arr_eq(hash.b, again.b, 32);
		for (unsigned field = 0; field < 4; field++) {
			other = name;
			other.epoch += field == 0;
			other.first -= field == 1;
			other.last += field == 2;
			other.id[15] ^= field == 3;
			cr_assert_eq(oplog_open_object(keyring, ctx, &other, buf_bytes(&object),
						       &body, &again), -EBADMSG, "%u", field);
		}
	}
}

Test(oplog_format, any_changed_byte_and_any_cut_is_noticed)
{
	struct oplog_name name = sample_name(OPLOG_ROOT);
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) body = BUF_INIT;
	struct digest hash;

	cr_assert_eq(oplog_seal(keyring, ctx, &name, bytes_of_str("x"), &object, &hash), 0);
	for (size_t i = 0; i < object.len; i++) {
		object.ptr[i] ^= 0x40;
		cr_assert_lt(oplog_open_object(keyring, ctx, &name, buf_bytes(&object), &body, &hash),
			     0, "byte %zu", i);
		object.ptr[i] ^= 0x40;
		cr_assert_lt(oplog_open_object(keyring, ctx, &name, bytes_of(object.ptr, i), &body,
					       &hash), 0, "cut at %zu", i);
	}
	cr_assert_eq(body.len, 0);
}

Test(oplog_format, copies_are_filtered_out)
{
	AUTO(record) record = RECORD_INIT;
	AUTO(buf) kept = BUF_INIT;
	struct copy_row copy = {.shard_no = 1, .provider_no = 2, .state = COPY_PRESENT};
	struct record_walk walk;
	struct change change;
	unsigned count;

	record_put_copy(&record, &copy);
	cr_assert_eq(oplog_filter(buf_bytes(&record.changes), NULL, NULL, &kept, &count), 0);
	cr_assert(count == 0 && kept.len == 0);
	record_del_inode(&record, 5);
	record_del_copy(&record, 1, 2);
	cr_assert_eq(oplog_filter(buf_bytes(&record.changes), NULL, NULL, &kept, &count), 0);
	cr_assert_eq(count, 1);
	walk = record_walk_of(buf_bytes(&kept));
	cr_assert_eq(record_walk_next(&walk, &change), 1);
	cr_assert(change.type == CHANGE_INODE_DEL && change.u.ino == 5);
	cr_assert_eq(record_walk_next(&walk, &change), 0);
}

/* ---- golden ---- */

#define GOLDEN_SEGMENT "log-00000003-0000000000000007-0000000000000009-e910979625efa2cfd83afc572b713f69"
#define GOLDEN_ROOT    "snap-00000003-0000000000000007-0000000000000009-01020300000000000000000000000000"

static void segment_body(struct buf *body)
{
	struct oplog_segment_head head = {.made_sec = -5, .record_count = 2, .missing_count = 2};
	uint64_t missing[] = {300, 4};
	AUTO(record) record = RECORD_INIT;

	memset(head.previous.b, 0x5a, sizeof(head.previous.b));
	record_del_inode(&record, 77);
	cr_assert_eq(oplog_segment_begin(&head, missing, body), 0);
	cr_assert_eq(oplog_put_record(7, buf_bytes(&record.changes), body), 0);
	cr_assert_eq(oplog_put_record(9, buf_bytes(&record.changes), body), 0);
}

static void root_body(struct buf *body)
{
	struct oplog_part_ref parts[2] = {{.len = 4096}, {.len = 100}};
	struct oplog_root root = {.txn = 9, .made_sec = 1700000000, .chain_seq = 7,
				  .highest = {.ino = 10, .cookie = 11, .chunk_no = 12,
					      .shard_no = 13, .snapshot_no = 14, .provider_no = 15},
				  .parts = parts, .part_count = 2};

	memset(root.chain_hash.b, 0x5b, sizeof(root.chain_hash.b));
	memset(parts[0].hash.b, 1, sizeof(parts[0].hash.b));
	memset(parts[1].hash.b, 2, sizeof(parts[1].hash.b));
	cr_assert_eq(oplog_root_write(&root, body), 0);
}

static void open_golden(const char *file, const char *text, struct buf *body)
{
	AUTO(buf) object = BUF_INIT;
	struct oplog_name name;
	struct digest hash;

	read_golden(file, &object);
	cr_assert_eq(oplog_name_parse(text, &name), 0);
	cr_assert_eq(oplog_open_object(keyring, ctx, &name, buf_bytes(&object), body, &hash), 0);
}

/* Made once by version 1 with the keys of the golden superblock. */
Test(oplog_format, the_golden_objects_open_and_say_what_was_put_in)
{
	AUTO(buf) expected = BUF_INIT;
	AUTO(buf) body = BUF_INIT;
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	struct oplog_segment_head head;
	struct bytes records, changes;
	uint64_t seq;

	segment_body(&expected);
	open_golden("oplog-segment-1", GOLDEN_SEGMENT, &body);
	cr_assert_eq(body.len, expected.len);
	cr_assert_arr_eq(body.ptr, expected.ptr, body.len);
	cr_assert_eq(oplog_segment_read(buf_bytes(&body), &head, &records), 0);
	cr_assert(head.made_sec == -5 && head.record_count == 2 && head.missing_count == 2);
	cr_assert(oplog_get_record(&records, &seq, &changes) == 1 && seq == 7);
	cr_assert(oplog_get_record(&records, &seq, &changes) == 1 && seq == 9);
	cr_assert_eq(oplog_get_record(&records, &seq, &changes), 0);
	buf_clear(&expected);
	buf_clear(&body);
	root_body(&expected);
	open_golden("oplog-root-1", GOLDEN_ROOT, &body);
	cr_assert_eq(body.len, expected.len);
	cr_assert_arr_eq(body.ptr, expected.ptr, body.len);
	cr_assert_eq(oplog_root_read(buf_bytes(&body), &root), 0);
	cr_assert(root.txn == 9 && root.chain_seq == 7 && root.part_count == 2 &&
		  root.parts[1].len == 100 && root.highest.provider_no == 15);
}

/* ---- claims of a writer epoch ---- */

static const struct epoch_claim sample = {.epoch = 7, .machine = {1, 2, 3, 250}, .generation = 99,
					  .made_sec = -5, .is_take_over = true, .host = "vault"};

static void check_claim(const struct epoch_claim *claim)
{
	cr_assert_eq(claim->epoch, 7);
	cr_assert_arr_eq(claim->machine, sample.machine, sizeof(sample.machine));
	cr_assert(claim->generation == 99 && claim->made_sec == -5 && claim->is_take_over);
	cr_assert_str_eq(claim->host, "vault");
}

Test(oplog_format, a_claim_opens_under_its_own_number_alone)
{
	AUTO(buf) object = BUF_INIT;
	struct epoch_claim claim;

	cr_assert_eq(epoch_claim_seal(keyring, &sample, &object), 0);
	cr_assert_leq(object.len, EPOCH_CLAIM_BYTES_MAX);
	cr_assert_eq(epoch_claim_open(keyring, 7, buf_bytes(&object), &claim), 0);
	check_claim(&claim);
	cr_assert_eq(epoch_claim_open(keyring, 8, buf_bytes(&object), &claim), -EBADMSG);
	for (size_t at = 0; at < object.len; at++) {
		object.ptr[at] ^= 1;
		cr_assert_lt(epoch_claim_open(keyring, 7, buf_bytes(&object), &claim), 0, "byte %zu", at);
		object.ptr[at] ^= 1;
	}
	for (size_t len = 0; len < object.len; len++)
		cr_assert_lt(epoch_claim_open(keyring, 7, bytes_of(object.ptr, len), &claim), 0);
}

Test(oplog_format, keys_of_claims_are_told_from_others)
{
	static const char *const bad[] = {"index/epoch-", "index/epoch-0000001", "index/epoch-00000000",
					  "index/epoch-0000000g", "index/epoch-000000011", "epoch-00000001",
					  "index/epoch-0000000A"};
	uint32_t epoch;

	cr_assert_eq(epoch_key_parse("index/epoch-0000001f", &epoch), 0);
	cr_assert_eq(epoch, 0x1f);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		cr_assert_eq(epoch_key_parse(bad[i], &epoch), -EINVAL, "%s", bad[i]);
}

Test(oplog_format, the_golden_claim_opens)
{
	AUTO(buf) object = BUF_INIT;
	struct epoch_claim claim;

	read_golden("epoch-claim-1", &object);
	cr_assert_eq(epoch_claim_open(keyring, 7, buf_bytes(&object), &claim), 0);
	check_claim(&claim);
}
