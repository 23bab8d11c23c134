/* SPDX-License-Identifier: Apache-2.0 */
/*
 *	sought --majority, or an operator's word--> held --somebody else's claim--> lost
 *	sought -------------- somebody else holds this epoch -------------------> lost
 *
 * INVARIANT: an epoch is written under by one machine.  A claim is created, never replaced: of two
 * that ask a provider one wins there, and two majorities share a provider.  home/writer says "held"
 * only after the majority (or the operator) said so, and "lost" before the first refusal, so that a
 * crash in between asks again.
 *
 * A home that was set back (a restored machine) remembers "held", but providers show records of its
 * epoch that it does not know: it has lost against itself.
 */
#include "store/epoch.h"

#include "crypto/crypto.h"
#include "store/oplog_format.h"
#include "store/oplog_private.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/file.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"
#include "util/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STATE_NAME    "writer"
#define CLAIM_VERSION 1u
#define CLAIMS_READ_MAX 64u /* that are not authentic */
#define CLAIMS_TOLD_MAX 16u
#define LOOK_MS_MAX   5000u
#define LOOK_STEP_MS  200u
#define KEY_SIZE      (sizeof(EPOCH_KEY_PREFIX) + 8)

enum state { STATE_SOUGHT, STATE_HELD, STATE_LOST };
static const char *const state_names[] = {"sought", "held", "lost"};

/* Claims at a provider that are not authentic and were told. */
struct told {
	uint32_t epochs[CLAIMS_TOLD_MAX];
	unsigned count;
};

struct epoch {
	struct epoch_settings set;
	char *home;
	uint8_t machine[16];
	_Atomic bool may_write;
	struct lock lock;      /* LOCK_LEAF: guards all below */
	struct cond changed;
	enum state state;
	char why[EPOCH_WHY_SIZE];
	uint64_t begun, ended; /* looks of the watch */
	bool is_stopping, is_running, is_wanted;
	pthread_t thread;
	/* Providers where our claim was made or read: whoever looks.  Nobody replaces a claim, so
	 * that it is enough to find it listed there. */
	bool is_confirmed[PLACEMENT_PROVIDERS_MAX];
	struct told told[PLACEMENT_PROVIDERS_MAX];
	struct oplog_files unreal[PLACEMENT_PROVIDERS_MAX]; /* sorted: read once, and none of ours */
};

/* ---- requests ---- */

/* A provider of a mount, which is not waited for without end; or the bare backend of a tool. */
struct place {
	struct transfer *transfer; /* NULL: backend */
	unsigned no;
	struct backend *backend;
};

static struct place place_of(struct backend *backend)
{
	return (struct place){.backend = backend};
}

static int run(const struct place *place, struct transfer_request *request)
{
	struct backend_req req = {.op = request->op,	.flags = request->flags, .key = request->key,
				  .body = request->body, .len = request->len,	  .out = request->out,
				  .list = request->list};

	if (place->transfer)
		return transfer_request(place->transfer, place->no, request);
	if (request->list)
		req.cursor = request->list->cursor;
	return backend_run(place->backend, &req);
}

/* ---- claims ---- */

static const char *claim_key(uint32_t epoch, char out[KEY_SIZE])
{
	snprintf(out, KEY_SIZE, EPOCH_KEY_PREFIX "%08" PRIx32, epoch);
	return out;
}

int epoch_key_parse(const char *key, uint32_t *epoch)
{
	const char *digits = key + strlen(EPOCH_KEY_PREFIX);

	if (strncmp(key, EPOCH_KEY_PREFIX, strlen(EPOCH_KEY_PREFIX)) != 0 ||
	    strspn(digits, "0123456789abcdef") != 8 || digits[8])
		return -EINVAL;
	*epoch = (uint32_t)strtoul(digits, NULL, 16);
	return *epoch ? 0 : -EINVAL;
}

static struct oplog_name claim_name(uint32_t epoch)
{
	return (struct oplog_name){.kind = OPLOG_CLAIM, .epoch = epoch};
}

int epoch_claim_write(const struct epoch_claim *claim, struct buf *out)
{
	int r = wire_put_u32(out, CLAIM_VERSION);

	if (r == 0)
		r = wire_put_raw(out, claim->machine, sizeof(claim->machine));
	if (r == 0)
		r = wire_put_u64(out, claim->generation);
	if (r == 0)
		r = wire_put_i64(out, claim->made_sec);
	if (r == 0)
		r = wire_put_u8(out, claim->is_take_over);
	return r < 0 ? r : wire_put_blob(out, bytes_of_str(claim->host));
}

int epoch_claim_seal(struct keyring *keyring, const struct epoch_claim *claim, struct buf *out)
{
	struct oplog_name name = claim_name(claim->epoch);
	struct aead_ctx *ctx = NULL;
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = aead_ctx_new(&ctx);

	if (r == 0)
		r = epoch_claim_write(claim, &body);
	if (r == 0)
		r = oplog_seal(keyring, ctx, &name, buf_bytes(&body), out, &hash);
	aead_ctx_free(ctx);
	return r;
}

int epoch_claim_read(struct bytes body, struct epoch_claim *claim)
{
	struct wire_reader r = wire_reader_of(body);
	uint32_t version = wire_get_u32(&r);
	struct bytes host;
	uint8_t flag;

	if (wire_reader_check(&r) == 0 && version > CLAIM_VERSION)
		return -EPROTONOSUPPORT;
	wire_get_raw(&r, claim->machine, sizeof(claim->machine));
	claim->generation = wire_get_u64(&r);
	claim->made_sec = wire_get_i64(&r);
	flag = wire_get_u8(&r);
	host = wire_get_blob(&r, EPOCH_HOST_MAX);
	if (wire_reader_end(&r) < 0 || version != CLAIM_VERSION || flag > 1 ||
	    (host.len > 0 && memchr(host.ptr, 0, host.len)))
		return -EBADMSG;
	claim->is_take_over = flag;
	if (host.len > 0)
		memcpy(claim->host, host.ptr, host.len);
	claim->host[host.len] = '\0';
	return 0;
}

int epoch_claim_open(struct keyring *keyring, uint32_t epoch, struct bytes object,
		     struct epoch_claim *out)
{
	struct oplog_name name = claim_name(epoch);
	struct epoch_claim claim = {.epoch = epoch};
	struct aead_ctx *ctx = NULL;
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = aead_ctx_new(&ctx);

	if (r == 0)
		r = oplog_open_object(keyring, ctx, &name, object, &body, &hash);
	if (r == 0)
		r = epoch_claim_read(buf_bytes(&body), &claim);
	aead_ctx_free(ctx);
	if (r == 0)
		*out = claim;
	return r;
}

static int put_claim(const struct place *place, uint32_t epoch, struct bytes sealed)
{
	char key[KEY_SIZE];
	struct transfer_request put = {.op = BACKEND_PUT, .flags = BACKEND_CREATE_ONLY,
				       .key = claim_key(epoch, key), .body = sealed};

	return run(place, &put);
}

static int get_claim(const struct place *place, struct keyring *keyring, uint32_t epoch,
		     struct epoch_claim *out)
{
	AUTO(buf) object = BUF_INIT;
	char key[KEY_SIZE];
	struct transfer_request get = {.op = BACKEND_GET, .flags = BACKEND_TAIL,
				       .key = claim_key(epoch, key),
				       .len = EPOCH_CLAIM_BYTES_MAX + 1, .out = &object};
	int r = run(place, &get);

	if (r == 0 && object.len > EPOCH_CLAIM_BYTES_MAX)
		r = -EBADMSG;
	return r < 0 ? r : epoch_claim_open(keyring, epoch, buf_bytes(&object), out);
}

/* The highest number under which a claim is listed, below `below`; 0: none. */
static int find_claim(const struct place *place, uint64_t below, uint32_t *epoch)
{
	struct backend_list list = BACKEND_LIST_INIT;
	uint32_t highest = 0;
	int r;

	do {
		struct transfer_request page = {.op = BACKEND_LIST, .key = EPOCH_KEY_PREFIX,
						.list = &list};
		uint32_t one;

		r = run(place, &page);
		for (size_t i = 0; i < list.count && r == 0; i++)
			if (epoch_key_parse(list.entries[i].key, &one) == 0 && one < below)
				highest = MAX(highest, one);
	} while (r == 0 && list.cursor[0]);
	backend_list_release(&list);
	if (r == 0)
		*epoch = highest;
	return r;
}

static void tell_damaged(const struct place *place, uint32_t number, struct told *told)
{
	for (unsigned i = 0; i < told->count; i++)
		if (told->epochs[i] == number)
			return;
	if (told->count == CLAIMS_TOLD_MAX)
		return;
	told->epochs[told->count++] = number;
	log_warn("epoch-claim-damaged", "provider=%s epoch=%" PRIu32 " next=\"not believed\"",
		 backend_name(place->backend), number);
}

/* As find_claim, of those that are authentic; *claim is what it says.  Those up to `trusted` are
 * taken by their name, without a claim. */
static int find_highest(const struct place *place, struct keyring *keyring, uint32_t trusted,
			struct told *told, uint32_t *epoch, struct epoch_claim *claim)
{
	uint64_t below = (uint64_t)UINT32_MAX + 1;

	for (unsigned i = 0; i < CLAIMS_READ_MAX; i++) {
		int r = find_claim(place, below, epoch);

		if (r < 0 || *epoch <= trusted ||
		    get_claim(place, keyring, *epoch, claim) == 0)
			return r;
		tell_damaged(place, *epoch, told);
		below = *epoch;
	}
	return -EBADMSG;
}

int epoch_highest(struct backend *backend, struct keyring *keyring, uint32_t *epoch)
{
	struct place place = place_of(backend);
	struct told told = {.count = 0};
	struct epoch_claim claim;

	return find_highest(&place, keyring, 0, &told, epoch, &claim);
}

/* ---- what home remembers: "EPOCH MACHINE STATE\n" ---- */

static int save_state(const char *home, uint32_t epoch, const uint8_t machine[16],
		      enum state state)
{
	AUTO(buf) text = BUF_INIT;
	int r = buf_printf(&text, "%" PRIu32 " ", epoch);

	for (size_t i = 0; i < 16 && r == 0; i++)
		r = buf_printf(&text, "%02x", machine[i]);
	if (r == 0)
		r = buf_printf(&text, " %s\n", state_names[state]);
	return r < 0 ? r : oplog_dir_write(home, STATE_NAME, buf_bytes(&text), true);
}

/* A file that is missing or makes no sense: nothing is held. */
static void parse_state(struct epoch *epoch, const char *text)
{
	char hex[33], word[8];
	uint32_t number;

	if (sscanf(text, "%" SCNu32 " %32[0-9a-f] %7s", &number, hex, word) != 3 ||
	    strlen(hex) != 32)
		return;
	for (size_t i = 0; i < 16; i++) {
		unsigned byte;

		sscanf(hex + 2 * i, "%2x", &byte);
		epoch->machine[i] = (uint8_t)byte;
	}
	if (number != epoch->set.writer_epoch)
		return;
	for (enum state state = STATE_SOUGHT; state <= STATE_LOST; state++)
		if (strcmp(word, state_names[state]) == 0)
			epoch->state = state;
}

static int load_state(struct epoch *epoch)
{
	AUTO(buf) text = BUF_INIT;
	int r = crypto_random(epoch->machine, sizeof(epoch->machine));

	if (r == 0)
		r = oplog_dir_read(epoch->home, STATE_NAME, &text);
	if (r == 0) {
		const char *words = buf_str(&text);

		if (!words)
			return -ENOMEM;
		parse_state(epoch, words);
		return 0;
	}
	if (r != -ENOENT && r != -EFBIG)
		return r;
	return save_state(epoch->home, epoch->set.writer_epoch, epoch->machine, STATE_SOUGHT);
}

static void name_host(char out[EPOCH_HOST_MAX + 1])
{
	if (gethostname(out, EPOCH_HOST_MAX) < 0)
		out[0] = '\0';
	out[EPOCH_HOST_MAX] = '\0';
}

int epoch_claim_first(const char *home, struct keyring *keyring, struct backend *const *backends,
		      size_t count, struct buf *why)
{
	struct epoch_claim claim = {.epoch = 1, .made_sec = clock_wall().sec};
	AUTO(buf) sealed = BUF_INIT;
	int r = crypto_random(claim.machine, sizeof(claim.machine));

	name_host(claim.host);
	if (r == 0)
		r = epoch_claim_seal(keyring, &claim, &sealed);
	for (size_t i = 0; i < count && r == 0; i++) {
		struct place place = place_of(backends[i]);

		r = put_claim(&place, 1, buf_bytes(&sealed));
		if (r < 0)
			buf_printf(why, "provider %s: the writer's claim cannot be made: %s",
				   backend_name(backends[i]), err_sentence(r));
	}
	return r < 0 ? r : save_state(home, 1, claim.machine, STATE_HELD);
}

/* ---- changes of state ---- */

static void move(struct epoch *epoch, enum state state, const char *why)
{
	bool may_write = state == STATE_HELD;
	int r;

	lock_take(&epoch->lock);
	if (epoch->state == state || epoch->state == STATE_LOST) {
		lock_drop(&epoch->lock);
		return;
	}
	epoch->state = state;
	snprintf(epoch->why, sizeof(epoch->why), "%s", may_write ? "" : why);
	epoch->may_write = may_write;
	lock_drop(&epoch->lock);
	r = save_state(epoch->home, epoch->set.writer_epoch, epoch->machine, state);
	if (r < 0)
		log_warn("epoch-not-saved", "home=" LOG_Q " error=%s", epoch->home, err_name(r));
	if (may_write)
		log_info("writer-epoch-held", "epoch=%" PRIu32 " why=" LOG_Q,
			 epoch->set.writer_epoch, why);
	else
		log_error("writer-epoch-lost", "epoch=%" PRIu32 " why=" LOG_Q
			  " next=\"read-only from now on; recover on a new home to write again\"",
			  epoch->set.writer_epoch, why);
	epoch->set.changed(epoch->set.ctx, may_write, why);
}

void epoch_lose(struct epoch *epoch, const char *why)
{
	move(epoch, STATE_LOST, why);
}

bool epoch_may_write(const struct epoch *epoch)
{
	return atomic_load(&epoch->may_write);
}

void epoch_why(struct epoch *epoch, char out[EPOCH_WHY_SIZE])
{
	LOCK_SCOPE(&epoch->lock);
	memcpy(out, epoch->why, EPOCH_WHY_SIZE);
}

/* ---- looking ---- */

struct look {
	unsigned ours, theirs;
	char why[EPOCH_WHY_SIZE]; /* of having lost; "" */
};

static void tell_higher(const struct place *place, const struct epoch_claim *claim,
			struct look *look)
{
	char time[CLOCK_RFC3339_SIZE];

	snprintf(look->why, sizeof(look->why),
		 "machine %s writes under epoch %" PRIu32 " since %s, as provider %s says",
		 claim->host, claim->epoch,
		 clock_rfc3339((struct wall_time){.sec = claim->made_sec}, time),
		 backend_name(place->backend));
}

/* Ours is made there, or is there already, or is somebody else's. */
static void claim_at(struct epoch *epoch, const struct place *place, struct bytes sealed,
		     bool is_listed, struct look *look)
{
	struct epoch_claim claim;
	int r = -EEXIST;

	if (is_listed && epoch->is_confirmed[place->no]) {
		look->ours++;
		return;
	}
	epoch->is_confirmed[place->no] = false;
	if (!is_listed)
		r = put_claim(place, epoch->set.writer_epoch, sealed);
	if (r == 0) {
		epoch->is_confirmed[place->no] = true;
		look->ours++;
		return;
	}
	if (r != -EEXIST || get_claim(place, epoch->set.keyring, epoch->set.writer_epoch,
				      &claim) < 0)
		return;
	if (memcmp(claim.machine, epoch->machine, sizeof(claim.machine)) == 0) {
		epoch->is_confirmed[place->no] = true;
		look->ours++;
		return;
	}
	look->theirs++;
	if (look->why[0] == '\0')
		snprintf(look->why, sizeof(look->why),
			 "machine %s claimed epoch %" PRIu32 " first, as provider %s says",
			 claim.host, epoch->set.writer_epoch, backend_name(place->backend));
}

/* The segments of this epoch that reach beyond what this machine knows, by their names. */
static int list_unknown(struct epoch *epoch, const struct place *place, struct oplog_files *out)
{
	uint64_t known = epoch->set.last_seq(epoch->set.ctx);
	struct backend_list list = BACKEND_LIST_INIT;
	char prefix[32];
	int r;

	snprintf(prefix, sizeof(prefix), OPLOG_PREFIX "log-%08" PRIx32 "-",
		 epoch->set.writer_epoch);
	do {
		struct transfer_request page = {.op = BACKEND_LIST, .key = prefix, .list = &list};

		r = run(place, &page);
		for (size_t i = 0; i < list.count && r == 0; i++) {
			struct oplog_file file = {.len = list.entries[i].size};

			if (oplog_name_parse(list.entries[i].key + strlen(OPLOG_PREFIX),
					     &file.name) == 0 &&
			    file.name.last > known && file.len <= OPLOG_OBJECT_BYTES_MAX)
				r = oplog_files_add(out, &file);
		}
	} while (r == 0 && list.cursor[0]);
	backend_list_release(&list);
	return r;
}

/* 0; -EBADMSG: it is none of ours; or what the provider says. */
static int read_segment(struct epoch *epoch, const struct place *place,
			const struct oplog_name *name)
{
	char key[sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE], text[OPLOG_NAME_SIZE];
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) body = BUF_INIT;
	struct transfer_request get = {.op = BACKEND_GET, .flags = BACKEND_TAIL, .key = key,
				       .len = OPLOG_OBJECT_BYTES_MAX, .out = &object};
	struct aead_ctx *ctx = NULL;
	struct digest hash;
	int r;

	snprintf(key, sizeof(key), OPLOG_PREFIX "%s", oplog_name_print(name, text));
	r = run(place, &get);
	if (r == 0)
		r = aead_ctx_new(&ctx);
	if (r == 0)
		r = oplog_open_object(epoch->set.keyring, ctx, name, buf_bytes(&object), &body,
				      &hash);
	aead_ctx_free(ctx);
	return r;
}

/* Records of this epoch that this machine did not write.  A name alone proves nothing. */
static void judge_log(struct epoch *epoch, const struct place *place, struct look *look)
{
	struct oplog_files *unreal = &epoch->unreal[place->no];
	AUTO(oplog_files) unknown = OPLOG_FILES_INIT;
	size_t known = unreal->count; /* sorted up to there */
	int r = list_unknown(epoch, place, &unknown);

	for (size_t i = 0; i < unknown.count && r == 0 && look->why[0] == '\0'; i++) {
		const struct oplog_file *file = &unknown.files[i];
		struct oplog_files sorted = {.files = unreal->files, .count = known};

		if (oplog_files_find(&sorted, &file->name))
			continue;
		switch (read_segment(epoch, place, &file->name)) {
		case 0:
			snprintf(look->why, sizeof(look->why),
				 "provider %s has record %" PRIu64 " of this writer, which this home "
				 "does not know: it was set back, or copied to another machine",
				 backend_name(place->backend), file->name.last);
			break;
		case -EBADMSG:
			r = oplog_files_add(unreal, file);
			break;
		default: /* at the next look */
			break;
		}
	}
	oplog_files_sort(unreal);
}

static void look_at(struct epoch *epoch, const struct place *place, struct bytes sealed,
		    struct look *look)
{
	struct epoch_claim claim;
	uint32_t highest;

	if (find_highest(place, epoch->set.keyring, epoch->set.writer_epoch,
			 &epoch->told[place->no], &highest, &claim) < 0)
		return;
	if (highest > epoch->set.writer_epoch)
		tell_higher(place, &claim, look);
	if (look->why[0] == '\0')
		claim_at(epoch, place, sealed, highest == epoch->set.writer_epoch, look);
	if (look->why[0] == '\0')
		judge_log(epoch, place, look);
}

static int seal_own(struct epoch *epoch, struct buf *out)
{
	struct epoch_claim claim = {.epoch = epoch->set.writer_epoch,
				    .generation = epoch->set.last_seq(epoch->set.ctx),
				    .made_sec = clock_wall().sec,
				    .is_take_over = epoch->set.takes_over};

	memcpy(claim.machine, epoch->machine, sizeof(claim.machine));
	name_host(claim.host);
	return epoch_claim_seal(epoch->set.keyring, &claim, out);
}

static void conclude(struct epoch *epoch, const struct look *look, unsigned count)
{
	unsigned majority = count / 2 + 1;

	if (look->why[0]) {
		move(epoch, STATE_LOST, look->why);
		return;
	}
	lock_take(&epoch->lock);
	if (epoch->state == STATE_SOUGHT)
		snprintf(epoch->why, sizeof(epoch->why),
			 "%u of %u providers confirmed writer epoch %" PRIu32
			 ", %u must: mount with all of them, or with -o take_over if no other "
			 "machine writes this file system", look->ours, count,
			 epoch->set.writer_epoch, majority);
	lock_drop(&epoch->lock);
	if (look->ours >= majority)
		move(epoch, STATE_HELD, "a majority of the providers confirmed it");
}

static void look_once(struct epoch *epoch)
{
	unsigned count = transfer_provider_count(epoch->set.transfer);
	struct look look = {0};
	AUTO(buf) sealed = BUF_INIT;

	if (seal_own(epoch, &sealed) < 0)
		return;
	for (unsigned i = 0; i < count && look.why[0] == '\0'; i++) {
		bool is_present;
		struct place place = {epoch->set.transfer, i,
				      transfer_backend(epoch->set.transfer, i, &is_present)};

		if (place.backend)
			look_at(epoch, &place, buf_bytes(&sealed), &look);
	}
	conclude(epoch, &look, count);
}

static void *watch_run(void *arg)
{
	struct epoch *epoch = arg;

	lock_take(&epoch->lock);
	while (!epoch->is_stopping && epoch->state != STATE_LOST) {
		epoch->is_wanted = false;
		epoch->begun++;
		lock_drop(&epoch->lock);
		look_once(epoch);
		lock_take(&epoch->lock);
		epoch->ended = epoch->begun;
		cond_wake_all(&epoch->changed);
		if (!epoch->is_stopping && !epoch->is_wanted)
			cond_wait_ms(&epoch->changed, &epoch->lock, epoch->set.check_ms);
	}
	lock_drop(&epoch->lock);
	return NULL;
}

/* By the watch, so that a provider that does not answer holds the caller only so long. */
int epoch_look(struct epoch *epoch)
{
	uint64_t until = clock_mono_ms() + LOOK_MS_MAX, wanted;
	bool is_seen;

	lock_take(&epoch->lock);
	wanted = epoch->begun + 1;
	epoch->is_wanted = true;
	cond_wake_all(&epoch->changed);
	while (epoch->ended < wanted && !epoch->is_stopping && epoch->state == STATE_HELD &&
	       clock_mono_ms() < until)
		cond_wait_ms(&epoch->changed, &epoch->lock, LOOK_STEP_MS);
	is_seen = epoch->ended >= wanted;
	lock_drop(&epoch->lock);
	if (!epoch_may_write(epoch))
		return -EROFS;
	return is_seen ? 0 : -ETIMEDOUT;
}

/* ---- life ---- */

int epoch_open(const struct epoch_settings *settings, struct epoch **out)
{
	struct epoch *epoch = mem_alloc(sizeof(*epoch));
	int r;

	if (!epoch)
		return -ENOMEM;
	epoch->set = *settings;
	lock_init(&epoch->lock, LOCK_LEAF);
	cond_init(&epoch->changed);
	epoch->home = mem_strdup(settings->home);
	r = epoch->home ? load_state(epoch) : -ENOMEM;
	if (r < 0) {
		epoch_free(epoch);
		return r;
	}
	epoch->may_write = epoch->state == STATE_HELD;
	if (epoch->state == STATE_LOST)
		snprintf(epoch->why, sizeof(epoch->why),
			 "another writer has taken this file system over: recover on a new home to "
			 "write again");
	*out = epoch;
	return 0;
}

int epoch_start(struct epoch *epoch)
{
	int r;

	if (epoch->set.takes_over && epoch->state == STATE_SOUGHT)
		move(epoch, STATE_HELD, "taken over by an operator's word");
	if (epoch->state == STATE_LOST) {
		log_error("writer-epoch-lost", "epoch=%" PRIu32 " why=" LOG_Q,
			  epoch->set.writer_epoch, epoch->why);
		epoch->set.changed(epoch->set.ctx, false, epoch->why);
		return 0;
	}
	if (epoch->state == STATE_SOUGHT)
		look_once(epoch);
	if (!epoch_may_write(epoch)) {
		log_warn("writer-epoch-not-held", "epoch=%" PRIu32 " why=" LOG_Q
			 " next=\"read-only; asked again\"", epoch->set.writer_epoch, epoch->why);
		epoch->set.changed(epoch->set.ctx, false, epoch->why);
	}
	r = thread_start(&epoch->thread, "epoch", watch_run, epoch);
	epoch->is_running = r == 0;
	return r;
}

void epoch_end(struct epoch *epoch)
{
	if (!epoch)
		return;
	lock_take(&epoch->lock);
	epoch->is_stopping = true;
	cond_wake_all(&epoch->changed);
	lock_drop(&epoch->lock);
}

void epoch_stop(struct epoch *epoch)
{
	if (!epoch || !epoch->is_running)
		return;
	epoch_end(epoch);
	pthread_join(epoch->thread, NULL);
	epoch->is_running = false;
}

void epoch_free(struct epoch *epoch)
{
	if (!epoch)
		return;
	epoch_stop(epoch);
	cond_release(&epoch->changed);
	lock_release(&epoch->lock);
	for (unsigned i = 0; i < PLACEMENT_PROVIDERS_MAX; i++)
		oplog_files_release(&epoch->unreal[i]);
	mem_free(epoch->home);
	mem_free(epoch);
}
