/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/backend_conformance.h"

#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

static const char *promise_now = "";

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			broken(__LINE__, #condition, __VA_ARGS__);                                 \
	} while (0)

static void __attribute__((noreturn, format(printf, 3, 4)))
broken(int line, const char *condition, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "backend_conformance.c:%d: \"%s\": not %s: ", line, promise_now, condition);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

const uint8_t conformance_fs_id[BACKEND_FS_ID_SIZE] = {0xc0, 1, 2, 3, 4, 5, 6, 7,
						       8,    9, 10, 11, 12, 13, 14, 15};

#define SHARD_A "a1000000000000000000000000000001"
#define SHARD_B "b2000000000000000000000000000002"

/* ---- requests in one line ---- */

static int put(struct backend *backend, const char *key, struct bytes body, unsigned flags)
{
	struct backend_req req = {.op = BACKEND_PUT, .key = key, .body = body, .flags = flags};

	return backend_run(backend, &req);
}

static int get(struct backend *backend, const char *key, uint64_t offset, uint64_t len,
	       unsigned flags, struct buf *out)
{
	struct backend_req req = {.op = BACKEND_GET, .key = key, .offset = offset, .len = len,
				  .flags = flags, .out = out};
	size_t before = out->len;
	int r = backend_run(backend, &req);

	if (r == 0)
		CHECK(req.got == out->len - before, "got %llu", (unsigned long long)req.got);
	else
		CHECK(out->len == before, "a failed GET left %zu bytes", out->len - before);
	CHECK(r == 0 || req.cause[0] != '\0', "no cause for %s", err_name(r));
	return r;
}

static int head(struct backend *backend, const char *key, uint64_t *size)
{
	struct backend_req req = {.op = BACKEND_HEAD, .key = key};
	int r = backend_run(backend, &req);

	if (r == 0)
		*size = req.size;
	return r;
}

static int del(struct backend *backend, const char *key)
{
	struct backend_req req = {.op = BACKEND_DELETE, .key = key};

	return backend_run(backend, &req);
}

static int list(struct backend *backend, const char *prefix, const char *cursor, uint32_t max,
		struct backend_list *page)
{
	struct backend_req req = {.op = BACKEND_LIST, .key = prefix, .cursor = cursor,
				  .entries_max = max, .list = page};

	return backend_run(backend, &req);
}

static void fill(uint8_t *bytes, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		bytes[i] = (uint8_t)(seed >> 24);
	}
}

static bool holds(const struct buf *buf, const void *bytes, size_t len)
{
	return buf->len == len && (len == 0 || memcmp(buf->ptr, bytes, len) == 0);
}

/* ---- many requests at a time ---- */

struct many {
	sem_t done;
	struct one *ones;
	size_t count;
};

struct one {
	struct backend_req req;
	struct many *many;
	char key[BACKEND_KEY_MAX + 1];
	_Atomic unsigned done_count;
	bool is_taken;
};

static void many_done(struct backend_req *req)
{
	struct one *one = container_of(req, struct one, req);

	one->done_count++;
	sem_post(&one->many->done);
}

static void many_init(struct many *many, size_t count)
{
	*many = (struct many){.ones = mem_alloc_array(count, sizeof(struct one)), .count = count};
	CHECK(many->ones, "out of memory");
	sem_init(&many->done, 0, 0);
	for (size_t i = 0; i < count; i++) {
		many->ones[i].many = many;
		many->ones[i].req.key = many->ones[i].key;
		many->ones[i].req.done = many_done;
	}
}

static void many_wait_one(struct many *many)
{
	while (sem_wait(&many->done) < 0)
		CHECK(errno == EINTR, "sem_wait");
}

/* Submits all with at most 64 under way; every one must be taken and end well. */
static void many_run(struct many *many, struct backend *backend)
{
	size_t inflight = 0;

	for (size_t i = 0; i < many->count; i++) {
		int r = backend_submit(backend, &many->ones[i].req);

		CHECK(r == 0, "request %zu not taken: %s", i, err_name(r));
		if (++inflight >= 64) {
			many_wait_one(many);
			inflight--;
		}
	}
	for (; inflight > 0; inflight--)
		many_wait_one(many);
	for (size_t i = 0; i < many->count; i++) {
		CHECK(many->ones[i].done_count == 1, "done ran %u times", many->ones[i].done_count);
		CHECK(many->ones[i].req.error == 0, "%s: %s", many->ones[i].key,
		      many->ones[i].req.cause);
	}
}

static void many_release(struct many *many)
{
	sem_destroy(&many->done);
	mem_free(many->ones);
}

/* ---- promises ---- */

static void what_was_put_is_got(struct backend *backend)
{
	static const char *const keys[] = {SHARD_A, "index/superblock", "index/log-1-2-3-ff",
					   "loose", "a/b/c/d.e_f-g"};
	AUTO_BACKEND closing = backend;
	uint64_t size = 0;

	for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
		AUTO(buf) out = BUF_INIT;
		uint8_t body[1000];

		fill(body, sizeof(body), (uint32_t)i);
		CHECK(head(backend, keys[i], &size) == -ENOENT, "%s is there already", keys[i]);
		CHECK(put(backend, keys[i], bytes_of(body, sizeof(body)), 0) == 0, "%s", keys[i]);
		CHECK(get(backend, keys[i], 0, BACKEND_TO_END, 0, &out) == 0, "%s", keys[i]);
		CHECK(holds(&out, body, sizeof(body)), "%s has other bytes", keys[i]);
		CHECK(head(backend, keys[i], &size) == 0 && size == sizeof(body), "%s", keys[i]);
	}
	CHECK(del(backend, SHARD_A) == 0, "DELETE");
	CHECK(head(backend, SHARD_A, &size) == -ENOENT, "still there");
	CHECK(head(backend, keys[1], &size) == 0, "another one went too");
}

static void an_empty_object_is_an_object(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(buf) out = BUF_INIT;
	uint64_t size = 1;

	CHECK(put(backend, SHARD_A, bytes_of(NULL, 0), BACKEND_CREATE_ONLY) == 0, "PUT");
	CHECK(head(backend, SHARD_A, &size) == 0 && size == 0, "HEAD");
	CHECK(get(backend, SHARD_A, 0, BACKEND_TO_END, 0, &out) == 0 && out.len == 0, "GET");
	CHECK(get(backend, SHARD_A, 0, 0, 0, &out) == 0 && out.len == 0, "GET of nothing");
	CHECK(get(backend, SHARD_A, 0, 1, 0, &out) == -EBADMSG, "GET of one byte");
	CHECK(get(backend, SHARD_A, 0, 5, BACKEND_TAIL, &out) == 0 && out.len == 0, "tail");
}

static void a_large_object_is_whole(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(buf) out = BUF_INIT;
	size_t len = 21 * MIB + 12345;
	uint8_t *body = mem_alloc_raw(len);

	CHECK(body, "out of memory");
	fill(body, len, 7);
	CHECK(put(backend, SHARD_A, bytes_of(body, len), BACKEND_CREATE_ONLY) == 0, "PUT");
	CHECK(get(backend, SHARD_A, 0, len, 0, &out) == 0, "GET");
	CHECK(holds(&out, body, len), "other bytes");
	mem_free(body);
}

static void ranges_are_exact(struct backend *backend)
{
	static const struct {
		uint64_t offset, len;
		int answer;
	} ranges[] = {
		{0, 1, 0},	    {0, 5000, 0},    {4999, 1, 0},	  {1234, 777, 0},
		{5000, 0, 0},	    {0, 0, 0},	     {0, 5001, -EBADMSG}, {4999, 2, -EBADMSG},
		{5001, 0, -EBADMSG}, {5000, 1, -EBADMSG}, {100, BACKEND_TO_END, 0},
		{5000, BACKEND_TO_END, 0}, {5001, BACKEND_TO_END, -EBADMSG},
		{INT64_MAX, 1, -EBADMSG},
	};
	AUTO_BACKEND closing = backend;
	uint8_t body[5000];

	fill(body, sizeof(body), 3);
	CHECK(put(backend, SHARD_A, bytes_of(body, sizeof(body)), 0) == 0, "PUT");
	for (size_t i = 0; i < ARRAY_COUNT(ranges); i++) {
		AUTO(buf) out = BUF_INIT;
		uint64_t len = ranges[i].len;
		int r = get(backend, SHARD_A, ranges[i].offset, len, 0, &out);

		CHECK(r == ranges[i].answer, "range %zu: %s", i, err_name(r));
		if (r < 0)
			continue;
		if (len == BACKEND_TO_END)
			len = sizeof(body) - ranges[i].offset;
		CHECK(holds(&out, body + ranges[i].offset, len), "range %zu: other bytes", i);
	}
	CHECK(get(backend, SHARD_B, 0, 1, 0, &(struct buf)BUF_INIT) == -ENOENT, "nothing there");
}

static void a_tail_needs_no_size(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(buf) out = BUF_INIT;
	struct backend_req req = {.op = BACKEND_GET, .key = SHARD_A, .len = 16,
				  .flags = BACKEND_TAIL, .out = &out};
	uint8_t body[300];

	fill(body, sizeof(body), 9);
	CHECK(put(backend, SHARD_A, bytes_of(body, sizeof(body)), 0) == 0, "PUT");
	CHECK(backend_run(backend, &req) == 0, "GET: %s", req.cause);
	CHECK(holds(&out, body + 284, 16), "other bytes");
	CHECK(req.size == 300 && req.got == 16, "size of the whole");
	buf_clear(&out);
	req.len = 1000;
	CHECK(backend_run(backend, &req) == 0 && holds(&out, body, 300), "longer than all");
}

static void a_get_into_memory_or_behind_other_bytes(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(buf) out = BUF_INIT;
	uint8_t body[100], into[12] = {0};
	struct backend_req req = {.op = BACKEND_GET, .key = SHARD_A, .offset = 50, .len = 10,
				  .into = into + 1};

	fill(body, sizeof(body), 5);
	CHECK(put(backend, SHARD_A, bytes_of(body, sizeof(body)), 0) == 0, "PUT");
	CHECK(backend_run(backend, &req) == 0, "GET: %s", req.cause);
	CHECK(memcmp(into + 1, body + 50, 10) == 0 && into[0] == 0 && into[11] == 0, "bytes");
	CHECK(req.got == 10, "got");
	CHECK(buf_append(&out, bytes_of_str("head")) == 0, "memory");
	CHECK(get(backend, SHARD_A, 0, 3, 0, &out) == 0, "GET");
	CHECK(out.len == 7 && memcmp(out.ptr, "head", 4) == 0, "what was in the buffer stays");
	CHECK(memcmp(out.ptr + 4, body, 3) == 0, "and the bytes come behind");
}

static void a_put_replaces_and_may_be_repeated(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(buf) out = BUF_INIT;
	struct bytes longer = bytes_of_str("a longer body"), shorter = bytes_of_str("short");

	CHECK(put(backend, "index/superblock", longer, 0) == 0, "PUT");
	CHECK(put(backend, "index/superblock", longer, 0) == 0, "the same again");
	CHECK(put(backend, "index/superblock", shorter, 0) == 0, "a shorter one");
	CHECK(get(backend, "index/superblock", 0, BACKEND_TO_END, 0, &out) == 0, "GET");
	CHECK(holds(&out, "short", 5), "other bytes");
}

static void create_only_replaces_nothing(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(buf) out = BUF_INIT;
	int r;

	CHECK(put(backend, SHARD_A, bytes_of_str("first"), BACKEND_CREATE_ONLY) == 0, "PUT");
	r = put(backend, SHARD_A, bytes_of_str("second"), BACKEND_CREATE_ONLY);
	CHECK(r == -EEXIST, "%s", err_name(r));
	CHECK(get(backend, SHARD_A, 0, BACKEND_TO_END, 0, &out) == 0, "GET");
	CHECK(holds(&out, "first", 5), "other bytes");
	CHECK(del(backend, SHARD_A) == 0, "DELETE");
	CHECK(put(backend, SHARD_A, bytes_of_str("third"), BACKEND_CREATE_ONLY) == 0, "once gone");
}

#define RACERS 8

static void create_only_has_one_winner(struct backend *backend)
{
	AUTO_BACKEND closing = backend;

	for (unsigned round = 0; round < 20; round++) {
		AUTO(buf) out = BUF_INIT;
		uint8_t bodies[RACERS][64];
		int winner = -1;
		struct many many;

		many_init(&many, RACERS);
		for (unsigned i = 0; i < RACERS; i++) {
			struct one *one = &many.ones[i];

			memset(bodies[i], 'a' + (int)i, sizeof(bodies[i]));
			snprintf(one->key, sizeof(one->key), "index/epoch-%u", round);
			one->req.op = BACKEND_PUT;
			one->req.flags = BACKEND_CREATE_ONLY;
			one->req.body = bytes_of(bodies[i], sizeof(bodies[i]));
			CHECK(backend_submit(backend, &one->req) == 0, "not taken");
		}
		for (unsigned i = 0; i < RACERS; i++)
			many_wait_one(&many);
		for (int i = 0; i < RACERS; i++) {
			int r = many.ones[i].req.error;

			CHECK(r == 0 || r == -EEXIST, "%s", err_name(r));
			CHECK(r != 0 || winner < 0, "%d and %d both won", winner, i);
			winner = r == 0 ? i : winner;
		}
		CHECK(winner >= 0, "nobody won");
		CHECK(get(backend, many.ones[0].key, 0, BACKEND_TO_END, 0, &out) == 0, "GET");
		CHECK(holds(&out, bodies[winner], 64), "not the winner's bytes");
		many_release(&many);
	}
}

/* Body v: v * 1000 + 1000 bytes, all of value v. */
struct overwriting {
	struct backend *backend;
	atomic_bool is_over;
};

static void *read_while_overwritten(void *arg)
{
	struct overwriting *overwriting = arg;
	AUTO(buf) out = BUF_INIT;

	do {
		buf_clear(&out);
		CHECK(get(overwriting->backend, "index/superblock", 0, BACKEND_TO_END, 0, &out) ==
			      0, "GET");
		CHECK(out.len == out.ptr[0] * 1000u + 1000, "length %zu with value %u", out.len,
		      out.ptr[0]);
		for (size_t i = 1; i < out.len; i++)
			CHECK(out.ptr[i] == out.ptr[0], "two objects in one");
	} while (!overwriting->is_over);
	return NULL;
}

static void a_reader_sees_the_old_or_the_new(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	struct overwriting overwriting = {.backend = backend};
	pthread_t readers[2];
	uint8_t *body = mem_alloc(200 * 1000);

	CHECK(put(backend, "index/superblock", bytes_of(body, 1000), 0) == 0, "PUT");
	for (size_t i = 0; i < 2; i++)
		CHECK(pthread_create(&readers[i], NULL, read_while_overwritten, &overwriting) == 0,
		      "thread");
	for (unsigned v = 1; v < 120; v++) {
		memset(body, (int)v, 200 * 1000);
		CHECK(put(backend, "index/superblock", bytes_of(body, v * 1000 + 1000), 0) == 0,
		      "PUT %u", v);
	}
	overwriting.is_over = true;
	for (size_t i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	mem_free(body);
}

static void nothing_is_there_before_it_was_put(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	AUTO(buf) out = BUF_INIT;

	CHECK(list(backend, "", NULL, 0, &page) == 0 && page.count == 0 && !*page.cursor, "LIST");
	CHECK(get(backend, SHARD_A, 0, BACKEND_TO_END, 0, &out) == -ENOENT, "GET");
	CHECK(get(backend, "index/no/such", 0, BACKEND_TO_END, 0, &out) == -ENOENT, "GET");
	CHECK(del(backend, SHARD_A) == 0, "DELETE of nothing");
	CHECK(del(backend, "index/no/such") == 0, "DELETE of nothing, deeper");
	CHECK(list(backend, "index/", NULL, 0, &page) == 0 && page.count == 0, "LIST");
}

#define LISTED_SHARDS 2500u
#define LISTED_LOGS   300u
#define LISTED_ALL    (LISTED_SHARDS + LISTED_LOGS + 1)

static void listed_key(unsigned i, char *key, size_t size)
{
	if (i < LISTED_SHARDS)
		snprintf(key, size, "%08x%024x", i * 2654435761u, i);
	else if (i < LISTED_SHARDS + LISTED_LOGS)
		snprintf(key, size, "index/log-1-%u-%u-abc", i, i + 9);
	else
		snprintf(key, size, "index/superblock");
}

static unsigned listed_number(const char *key)
{
	unsigned i;

	if (strcmp(key, "index/superblock") == 0)
		return LISTED_ALL - 1;
	if (strncmp(key, "index/log-1-", 12) == 0)
		return (unsigned)atoi(key + 12);
	CHECK(strlen(key) == 32 && sscanf(key + 8, "%x", &i) == 1, "LIST gave %s", key);
	return i;
}

static void listing_fill(struct backend *backend)
{
	struct many many;

	many_init(&many, LISTED_ALL);
	for (unsigned i = 0; i < LISTED_ALL; i++) {
		struct one *one = &many.ones[i];

		listed_key(i, one->key, sizeof(one->key));
		one->req.op = BACKEND_PUT;
		one->req.body = bytes_of("0123456789", i % 10);
	}
	many_run(&many, backend);
	many_release(&many);
}

/* Walks all pages; each number in [from, to) exactly once, and no other. */
static void listing_walk(struct backend *backend, const char *prefix, uint32_t max, unsigned from,
			 unsigned to)
{
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	uint8_t *seen = mem_alloc(LISTED_ALL);
	unsigned count = 0, pages = 0;

	do {
		CHECK(list(backend, prefix, page.cursor, max, &page) == 0, "LIST");
		CHECK(page.count <= (max ? max : 1000), "page of %zu", page.count);
		CHECK(page.count > 0 || pages == 0 || !*page.cursor, "an empty page in between");
		for (size_t i = 0; i < page.count; i++) {
			unsigned number = listed_number(page.entries[i].key);

			CHECK(number >= from && number < to, "%s", page.entries[i].key);
			CHECK(!seen[number], "%s twice", page.entries[i].key);
			CHECK(page.entries[i].size == number % 10, "size of %s",
			      page.entries[i].key);
			seen[number] = 1;
			count++;
		}
		CHECK(++pages <= to - from + 1, "no end");
	} while (*page.cursor);
	CHECK(count == to - from, "%u of %u listed", count, to - from);
	mem_free(seen);
}

static void each_key_is_listed_once(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	char key[64];

	listing_fill(backend);
	listing_walk(backend, "", 0, 0, LISTED_ALL);
	listing_walk(backend, "", BACKEND_LIST_MAX, 0, LISTED_ALL);
	listing_walk(backend, "", 7, 0, LISTED_ALL);
	listing_walk(backend, "index/", 50, LISTED_SHARDS, LISTED_ALL);
	listing_walk(backend, "index/log-", 300, LISTED_SHARDS, LISTED_ALL - 1);
	listing_walk(backend, "index/log-", 1, LISTED_SHARDS, LISTED_ALL - 1);
	listing_walk(backend, "index/super", 1, LISTED_ALL - 1, LISTED_ALL);
	listed_key(77, key, sizeof(key));
	listing_walk(backend, key, 3, 77, 78);
	key[7] = '\0';
	CHECK(list(backend, key, NULL, 0, &page) == 0 && page.count >= 1, "7 digits");
	CHECK(list(backend, "index/nothing", NULL, 0, &page) == 0 && page.count == 0, "none");
	CHECK(list(backend, "indexes", NULL, 0, &page) == 0 && page.count == 0, "none");
	CHECK(list(backend, "zz", NULL, 0, &page) == 0 && page.count == 0 && !*page.cursor, "none");
}

static void a_cursor_survives_deletes(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	unsigned count = 0;

	for (unsigned i = 0; i < 40; i++) {
		char key[40];

		snprintf(key, sizeof(key), "%08x%024x", i * 2654435761u, i);
		CHECK(put(backend, key, bytes_of(NULL, 0), 0) == 0, "PUT");
	}
	do {
		CHECK(list(backend, "", page.cursor, 3, &page) == 0, "LIST");
		for (size_t i = 0; i < page.count; i++, count++)
			CHECK(del(backend, page.entries[i].key) == 0, "DELETE");
	} while (*page.cursor);
	CHECK(count == 40, "%u listed", count);
	CHECK(list(backend, "", NULL, 0, &page) == 0 && page.count == 0, "all deleted");
}

static void many_nop_done(struct backend_req *req)
{
	(void)req;
	CHECK(false, "done of a request that was not taken");
}

static void expect_malformed(struct backend *backend, struct backend_req *req, const char *what)
{
	int r;

	req->done = many_nop_done;
	r = backend_submit(backend, req);
	CHECK(r == -EINVAL, "%s: %s", what, err_name(r));
}

static void malformed_requests_are_not_taken(struct backend *backend)
{
	static const char *const bad_keys[] = {
		"", "/", "/a", "a/", "a//b", "..", "a/../b", ".", "./a", "a/.b", ".hidden",
		"a b", "a\n", "\xc3\xa4", "a\\b", "ab", "ab/x", "00", "a:b", "a*",
	};
	AUTO_BACKEND closing = backend;
	char long_key[BACKEND_KEY_MAX + 2];
	uint8_t byte;
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < ARRAY_COUNT(bad_keys); i++)
		for (unsigned op = 0; op < BACKEND_OP_COUNT; op++)
			if (op != BACKEND_LIST)
				expect_malformed(backend,
						 &(struct backend_req){.op = op, .out = &out,
								       .key = bad_keys[i]},
						 bad_keys[i]);
	memset(long_key, 'k', sizeof(long_key));
	long_key[BACKEND_KEY_MAX + 1] = '\0';
	expect_malformed(backend, &(struct backend_req){.op = BACKEND_HEAD, .key = long_key},
			 "long key");
	long_key[BACKEND_KEY_MAX] = '\0';
	CHECK(put(backend, long_key, bytes_of_str("x"), 0) == 0, "the longest key");
	expect_malformed(backend, &(struct backend_req){.op = BACKEND_GET, .key = "k", .len = 1},
			 "no place for the result");
	expect_malformed(backend,
			 &(struct backend_req){.op = BACKEND_GET, .key = "k", .into = &byte,
					       .len = BACKEND_TO_END},
			 "memory without a length");
	expect_malformed(backend,
			 &(struct backend_req){.op = BACKEND_PUT, .key = "k",
					       .flags = BACKEND_TAIL},
			 "foreign flag");
	expect_malformed(backend, &(struct backend_req){.op = BACKEND_LIST, .key = ""}, "no list");
	expect_malformed(backend, &(struct backend_req){.op = BACKEND_OP_COUNT, .key = "k"},
			 "no such operation");
}

static void canceled_requests_are_answered_once(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	struct many many;
	size_t taken = 0;

	many_init(&many, 60);
	for (unsigned i = 0; i < 60; i++) {
		struct one *one = &many.ones[i];

		snprintf(one->key, sizeof(one->key), "%032x", i);
		one->req.op = BACKEND_PUT;
		one->req.body = bytes_of_str("canceled or not");
		CHECK(backend_submit(backend, &one->req) == 0, "not taken");
		taken++;
		backend_cancel(backend, &many.ones[i / 2].req);
	}
	for (size_t i = 0; i < many.count; i++)
		backend_cancel(backend, &many.ones[i].req);
	for (; taken > 0; taken--)
		many_wait_one(&many);
	for (size_t i = 0; i < many.count; i++) {
		AUTO(buf) out = BUF_INIT;
		const struct one *one = &many.ones[i];
		int r = get(backend, one->key, 0, BACKEND_TO_END, 0, &out);

		CHECK(one->done_count == 1, "done ran %u times", one->done_count);
		CHECK(one->req.error == 0 || one->req.error == -ECANCELED, "%s", one->req.cause);
		CHECK(one->req.error != 0 || r == 0, "acknowledged, but %s", err_name(r));
		CHECK(r == -ENOENT || holds(&out, "canceled or not", 15), "in part");
	}
	many_release(&many);
}

static void close_waits_for_the_last_answer(struct backend *backend)
{
	struct many many;
	unsigned taken = 0;

	many_init(&many, 200);
	for (unsigned i = 0; i < 200; i++) {
		struct one *one = &many.ones[i];

		snprintf(one->key, sizeof(one->key), "%032x", i);
		one->req.op = i % 3 ? BACKEND_PUT : BACKEND_HEAD;
		one->is_taken = backend_submit(backend, &one->req) == 0;
		taken += one->is_taken;
	}
	CHECK(taken > 0, "none taken");
	backend_close(backend);
	for (unsigned i = 0; i < 200; i++)
		CHECK(many.ones[i].done_count == (many.ones[i].is_taken ? 1 : 0),
		      "request %u: done ran %u times", i, many.ones[i].done_count);
	many_release(&many);
}

/* A chain: each answer submits the same request for the next key. */
struct chain {
	struct backend_req req;
	struct backend *backend;
	char key[40];
	unsigned left;
	sem_t over;
};

static void chain_next(struct backend_req *req)
{
	struct chain *chain = container_of(req, struct chain, req);

	CHECK(req->error == 0, "%s", req->cause);
	if (chain->left-- == 0) {
		sem_post(&chain->over);
		return;
	}
	snprintf(chain->key, sizeof(chain->key), "%032x", chain->left);
	CHECK(backend_submit(chain->backend, req) == 0, "not taken");
}

static void an_answer_may_submit_again(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	struct chain chain = {.backend = backend, .left = 50};

	sem_init(&chain.over, 0, 0);
	snprintf(chain.key, sizeof(chain.key), "%032x", 999);
	chain.req = (struct backend_req){.op = BACKEND_PUT, .key = chain.key,
					 .body = bytes_of_str("x"), .done = chain_next};
	CHECK(backend_submit(backend, &chain.req) == 0, "not taken");
	while (sem_wait(&chain.over) < 0)
		CHECK(errno == EINTR, "sem_wait");
	CHECK(list(backend, "", NULL, 0, &page) == 0 && page.count == 51, "%zu", page.count);
	sem_destroy(&chain.over);
}

static void a_store_has_one_owner(struct backend *backend)
{
	static const uint8_t other_id[BACKEND_FS_ID_SIZE] = {1};
	AUTO_BACKEND closing = backend;
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	AUTO(buf) why = BUF_INIT;
	struct backend_req req = {.op = BACKEND_LIST, .key = "", .list = &page};

	CHECK(backend_init(backend, conformance_fs_id, &why) == 0, "again: %s", buf_str(&why));
	CHECK(put(backend, SHARD_A, bytes_of_str("x"), 0) == 0, "PUT");
	CHECK(backend_init(backend, other_id, &why) == -EEXIST && why.len > 0, "another's");
	backend_bind(backend, other_id);
	CHECK(backend_run(backend, &req) == -EAGAIN && req.is_absent, "an empty store, or mine");
	req = (struct backend_req){.op = BACKEND_HEAD, .key = SHARD_B};
	CHECK(backend_run(backend, &req) == -EAGAIN && req.is_absent, "HEAD of nothing");
	CHECK(strstr(req.cause, "absent"), "cause: %s", req.cause);
	backend_bind(backend, conformance_fs_id);
	CHECK(backend_run(backend, &req) == -ENOENT && !req.is_absent, "mine again");
	CHECK(del(backend, SHARD_A) == 0, "DELETE");
}

static void a_thaw_of_what_is_hot_is_nothing(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	struct backend_req req = {.op = BACKEND_RESTORE, .key = SHARD_A};

	CHECK(backend_run(backend, &req) == -ENOENT, "of nothing");
	CHECK(put(backend, SHARD_A, bytes_of_str("x"), 0) == 0, "PUT");
	CHECK(backend_run(backend, &req) == 0, "%s", req.cause);
	req.op = BACKEND_HEAD;
	CHECK(backend_run(backend, &req) == 0 && req.tier == BACKEND_HOT && !req.is_restoring,
	      "HEAD");
}

static void a_time_that_is_told_is_plausible(struct backend *backend)
{
	AUTO_BACKEND closing = backend;
	bool tells = backend_can(backend) & BACKEND_CAN_TELL_TIME;
	struct backend_req req = {.op = BACKEND_HEAD, .key = SHARD_A};
	struct wall_time now = clock_wall();
	int64_t earlier_ms = 0, local_ms = now.sec * 1000;

	for (unsigned i = 0; i < 3; i++) {
		if (i == 1)
			CHECK(put(backend, SHARD_A, bytes_of_str("x"), 0) == 0, "PUT");
		CHECK(backend_run(backend, &req) == (i == 0 ? -ENOENT : 0), "HEAD");
		if (!tells) {
			CHECK(req.server_ms == 0, "a clock that it does not have");
			continue;
		}
		CHECK(req.server_ms >= earlier_ms, "the clock goes back");
		CHECK(req.server_ms > local_ms - (int64_t)DAY &&
			      req.server_ms < local_ms + (int64_t)DAY,
		      "%lld is no time of today", (long long)req.server_ms);
		earlier_ms = req.server_ms;
	}
}

#define CASE(f) {#f, f}
const struct conformance_case conformance_cases[] = {
	CASE(nothing_is_there_before_it_was_put),
	CASE(what_was_put_is_got),
	CASE(an_empty_object_is_an_object),
	CASE(a_large_object_is_whole),
	CASE(ranges_are_exact),
	CASE(a_tail_needs_no_size),
	CASE(a_get_into_memory_or_behind_other_bytes),
	CASE(a_put_replaces_and_may_be_repeated),
	CASE(create_only_replaces_nothing),
	CASE(create_only_has_one_winner),
	CASE(a_reader_sees_the_old_or_the_new),
	CASE(each_key_is_listed_once),
	CASE(a_cursor_survives_deletes),
	CASE(malformed_requests_are_not_taken),
	CASE(canceled_requests_are_answered_once),
	CASE(close_waits_for_the_last_answer),
	CASE(an_answer_may_submit_again),
	CASE(a_store_has_one_owner),
	CASE(a_thaw_of_what_is_hot_is_nothing),
	CASE(a_time_that_is_told_is_plausible),
	{0},
};

void conformance_run(conformance_open_fn *open, void *arg)
{
	for (const struct conformance_case *at = conformance_cases; at->promise; at++) {
		struct backend *backend = open(arg);
		struct buf why = BUF_INIT;

		promise_now = at->promise;
		CHECK(backend, "cannot open");
		CHECK(backend_init(backend, conformance_fs_id, &why) == 0, "%s", buf_str(&why));
		buf_release(&why);
		at->run(backend);
	}
}
