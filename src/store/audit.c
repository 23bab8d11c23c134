/* SPDX-License-Identifier: Apache-2.0 */
#include "store/audit.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VERIFY_PAGE	256u
#define CUT_MAX		4096u /* entries with one record */
#define CUT_KIND	"cut"
#define TEXT_LEN_MAX	1024u /* of each text in a body */
#define DETAILS_LEN_MAX 8192u

struct audit {
	struct index *index;
	struct sequencer *sequencer;
	struct keyring *keyring;
	struct mac_ctx *check_mac; /* verify_lock */
	struct lock verify_lock;   /* LOCK_CTL */
	struct lock lock;	   /* LOCK_AUDIT: guards all below */
	struct mac_ctx *mac;
	uint64_t last_no, lost;
	struct digest head;
};

struct audit_who audit_who(uint32_t uid, uint32_t gid, uint32_t pid)
{
	struct audit_who who = {.uid = uid, .gid = gid, .pid = pid};
	char path[40];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/exe", pid);
	len = pid ? readlink(path, who.exe, sizeof(who.exe) - 1) : -1;
	who.exe[len > 0 ? len : 0] = '\0';
	return who;
}

/* ---- one entry ---- */

/* As a JSON string.  Bytes above 127 that may be no UTF-8 are shown as U+00XX. */
static int put_text(struct buf *out, const char *key, const char *text)
{
	size_t len = strnlen(text, TEXT_LEN_MAX);
	int r = buf_printf(out, "\"%s\":\"", key);

	for (size_t i = 0; i < len && r >= 0; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			r = buf_printf(out, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			r = buf_printf(out, "\\u%04x", c);
		else
			r = buf_append(out, bytes_of(&text[i], 1));
	}
	return r < 0 ? r : buf_printf(out, "\",");
}

static int put_body(struct buf *out, const struct audit_event *event, uint64_t lost)
{
	const struct audit_who *who = &event->who;
	int r = buf_printf(out, "{");

	if (r >= 0)
		r = put_text(out, "kind", event->kind);
	if (r >= 0)
		r = put_text(out, "what", event->what);
	if (r >= 0 && who->is_system)
		r = buf_printf(out, "\"who\":\"system\",");
	else if (r >= 0)
		r = buf_printf(out, "\"uid\":%" PRIu32 ",\"gid\":%" PRIu32 ",\"pid\":%" PRIu32 ",",
			       who->uid, who->gid, who->pid);
	if (r >= 0 && who->exe[0])
		r = put_text(out, "exe", who->exe);
	if (r >= 0 && lost > 0)
		r = buf_printf(out, "\"lost\":%" PRIu64 ",", lost);
	if (r >= 0 && event->details && strlen(event->details) <= DETAILS_LEN_MAX)
		r = buf_printf(out, "\"details\":%s,", event->details);
	else if (r >= 0 && event->details)
		r = buf_printf(out, "\"details\":{\"left_out\":true},");
	if (r >= 0)
		r = put_text(out, "result", event->result ? event->result : "ok");
	if (r < 0)
		return r;
	out->ptr[out->len - 1] = '}'; /* instead of the last comma */
	return 0;
}

static int chain(struct mac_ctx *mac, const struct digest *before, const struct audit_row *row,
		 struct digest *out)
{
	uint8_t fixed[20];
	struct bytes parts[] = {
		bytes_of(before->b, sizeof(before->b)),
		bytes_of(fixed, sizeof(fixed)),
		row->body,
	};

	for (unsigned i = 0; i < 8; i++) {
		fixed[i] = (uint8_t)(row->audit_no >> (8 * i));
		fixed[8 + i] = (uint8_t)((uint64_t)row->time.sec >> (8 * i));
	}
	for (unsigned i = 0; i < 4; i++)
		fixed[16 + i] = (uint8_t)(row->time.nsec >> (8 * i));
	return mac_digest_parts(mac, parts, ARRAY_COUNT(parts), out);
}

/* The last entry that was removed; no 0: none was. */
struct cut {
	uint64_t no, entries;
	struct digest mac;
};

/* In the details of the entry, and in the setting. */
static void print_mac(const struct digest *mac, char out[65])
{
	for (size_t i = 0; i < sizeof(mac->b); i++)
		snprintf(out + 2 * i, 3, "%02x", mac->b[i]);
}

static void record_cut(struct record *record, const struct cut *cut)
{
	char text[96], mac[65];

	print_mac(&cut->mac, mac);
	snprintf(text, sizeof(text), "%" PRIu64 " %s", cut->no, mac);
	record_cut_audit(record, cut->no);
	record_put_setting(record, bytes_of_str(AUDIT_CUT_SETTING), bytes_of_str(text));
}

/* cut: goes with the entry in one record; NULL: none. */
static int put_locked(struct audit *audit, const struct audit_event *event, const struct cut *cut)
{
	AUTO(buf) body = BUF_INIT;
	struct audit_row row = {.audit_no = audit->last_no + 1, .time = clock_wall()};
	struct digest digest;
	struct record *record;
	uint64_t seq;
	int r = put_body(&body, event, audit->lost);

	if (r < 0)
		return r;
	row.body = buf_bytes(&body);
	if (row.body.len > AUDIT_BODY_LEN_MAX)
		return -E2BIG;
	r = chain(audit->mac, &audit->head, &row, &digest);
	if (r < 0)
		return r;
	memcpy(row.mac, digest.b, sizeof(row.mac));
	record = record_new();
	if (!record)
		return -ENOMEM;
	record_put_audit(record, &row);
	if (cut)
		record_cut(record, cut);
	r = sequencer_submit(audit->sequencer, record, &seq);
	if (r < 0)
		return r;
	audit->last_no = row.audit_no;
	audit->head = digest;
	audit->lost = 0;
	return 0;
}

static int put(struct audit *audit, const struct audit_event *event, const struct cut *cut)
{
	int r;

	LOCK_SCOPE(&audit->lock);
	r = put_locked(audit, event, cut);
	if (r < 0) {
		audit->lost++;
		log_warn("audit-entry-lost", "kind=%s error=%s next=\"the next entry counts it\"",
			 event->kind, err_name(r));
	}
	return r;
}

int audit_put(struct audit *audit, const struct audit_event *event)
{
	return put(audit, event, NULL);
}

/* ---- cutting ---- */

struct cutting {
	int64_t limit_sec;
	uint64_t last_no; /* the newest of all, which stays */
	struct cut cut;
};

static int cut_row(void *ctx, const struct audit_row *row)
{
	struct cutting *cutting = ctx;

	if (row->time.sec >= cutting->limit_sec || row->audit_no >= cutting->last_no)
		return 1;
	cutting->cut.no = row->audit_no;
	cutting->cut.entries++;
	memcpy(cutting->cut.mac.b, row->mac, sizeof(row->mac));
	return 0;
}

static char *print_cut(const struct cut *cut)
{
	char mac[65];

	print_mac(&cut->mac, mac);
	return mem_printf("{\"upto\":%" PRIu64 ",\"mac\":\"%s\"", cut->no, mac);
}

int audit_cut(struct audit *audit, struct index_reader *reader, int64_t limit_sec)
{
	struct cutting cutting = {.limit_sec = limit_sec};
	struct audit_event event = {.kind = CUT_KIND, .who = AUDIT_SYSTEM,
				    .what = "older entries than audit_keep were removed"};
	int r = index_last_audit(audit->index, reader, &cutting.last_no, cutting.cut.mac.b);

	if (r == 0)
		r = index_list_audit(audit->index, reader, 0, CUT_MAX, cut_row, &cutting);
	if (r == 0 && cutting.cut.entries > 0) {
		AUTO_STR proof = print_cut(&cutting.cut);
		AUTO_STR details = proof ? mem_printf("%s,\"entries\":%" PRIu64 "}", proof,
						      cutting.cut.entries)
					 : NULL;

		event.details = details;
		r = details ? put(audit, &event, &cutting.cut) : -ENOMEM;
	}
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return cutting.cut.entries == CUT_MAX;
}

int audit_settle(struct audit *audit)
{
	return sequencer_wait_synced(audit->sequencer, sequencer_last_seq(audit->sequencer));
}

/* ---- verifying ---- */

struct verifying {
	struct audit *audit;
	struct digest before;
	uint64_t last_no;
	char *proof; /* what the entry that proves the cut says; NULL: nothing was cut, or it was met */
	struct audit_verdict *verdict;
};

static int verdict_bad(struct audit_verdict *verdict, uint64_t no, const char *why)
{
	verdict->bad_no = no;
	verdict->why = why;
	return 1;
}

/* The kind is first in a body, and a quote within a text has a backslash before it. */
static bool is_proof(struct bytes body, const char *proof)
{
	static const char kind[] = "{\"kind\":\"" CUT_KIND "\",";

	return body.len > sizeof(kind) && memcmp(body.ptr, kind, sizeof(kind) - 1) == 0 &&
	       memmem(body.ptr, body.len, proof, strlen(proof));
}

static int verify_row(void *ctx, const struct audit_row *row)
{
	struct verifying *v = ctx;
	struct digest digest;
	int r;

	if (row->audit_no != v->last_no + 1)
		return verdict_bad(v->verdict, v->last_no + 1, "is missing");
	r = chain(v->audit->check_mac, &v->before, row, &digest);
	if (r < 0)
		return r;
	if (memcmp(digest.b, row->mac, sizeof(row->mac)) != 0)
		return verdict_bad(v->verdict, row->audit_no, "was altered");
	if (v->proof && is_proof(row->body, v->proof)) {
		mem_free(v->proof);
		v->proof = NULL;
	}
	v->before = digest;
	v->last_no = row->audit_no;
	v->verdict->entries++;
	return 0;
}

/* Where the chain begins, as the setting says; what it says must be proven by an entry. */
static int begin_behind_cut(struct verifying *v, struct index_reader *reader)
{
	AUTO(buf) text = BUF_INIT;
	struct cut cut = {0};
	char hex[65];
	int r = index_get_setting(v->audit->index, reader, AUDIT_CUT_SETTING, &text);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!buf_str(&text))
		return -ENOMEM;
	if (sscanf(buf_str(&text), "%" SCNu64 " %64[0-9a-f]", &cut.no, hex) != 2 || cut.no == 0 ||
	    strlen(hex) != 64)
		return -EUCLEAN;
	for (size_t i = 0; i < sizeof(cut.mac.b); i++)
		sscanf(hex + 2 * i, "%2hhx", &cut.mac.b[i]);
	v->proof = print_cut(&cut);
	v->last_no = cut.no;
	v->before = cut.mac;
	return v->proof ? 0 : -ENOMEM;
}

int audit_verify(struct audit *audit, struct index_reader *reader, struct audit_verdict *out)
{
	struct verifying v = {.audit = audit, .verdict = out};
	struct digest head;
	uint64_t head_no, from;
	int r;

	*out = (struct audit_verdict){0};
	lock_take(&audit->lock);
	head_no = audit->last_no;
	head = audit->head;
	lock_drop(&audit->lock);
	r = sequencer_wait_applied(audit->sequencer, sequencer_last_seq(audit->sequencer));
	LOCK_SCOPE(&audit->verify_lock);
	if (r == 0)
		r = begin_behind_cut(&v, reader);
	out->first_no = v.last_no + 1;
	while (r == 0 && out->bad_no == 0 && v.last_no < head_no) {
		from = v.last_no;
		r = index_list_audit(audit->index, reader, from,
				     MIN(head_no - from, (uint64_t)VERIFY_PAGE), verify_row, &v);
		if (r == 0 && out->bad_no == 0 && v.last_no == from)
			verdict_bad(out, from + 1, "is missing");
	}
	if (r == 0 && out->bad_no == 0 && memcmp(v.before.b, head.b, sizeof(head.b)) != 0)
		verdict_bad(out, head_no, "is not the one that this mount wrote last");
	if (r == 0 && out->bad_no == 0 && v.proof)
		verdict_bad(out, out->first_no - 1, "is missing: no entry says that it was removed");
	out->last_no = v.last_no;
	mem_free(v.proof);
	return r;
}

int audit_compare(struct audit *audit, struct transfer *transfer, struct index_reader *reader,
		  void (*visit)(void *ctx, const struct audit_compared *compared), void *ctx)
{
	struct audit_place place = {.transfer = transfer, .index = audit->index,
				    .keyring = audit->keyring};

	lock_take(&audit->lock);
	place.head_no = audit->last_no;
	lock_drop(&audit->lock);
	return audit_compare_at(&place, reader, visit, ctx);
}

/* ---- life ---- */

static int load_head(struct audit *audit)
{
	struct index_reader *reader;
	int r = index_reader_open(audit->index, &reader);

	if (r < 0)
		return r;
	r = index_last_audit(audit->index, reader, &audit->last_no, audit->head.b);
	index_reader_close(reader);
	return r == -ENOENT ? 0 : r;
}

int audit_open(struct index *index, struct sequencer *sequencer, struct keyring *keyring,
	       struct audit **out)
{
	struct audit *audit = mem_alloc(sizeof(*audit));
	struct mac_key key;
	int r;

	if (!audit)
		return -ENOMEM;
	audit->index = index;
	audit->sequencer = sequencer;
	audit->keyring = keyring;
	lock_init(&audit->lock, LOCK_AUDIT);
	lock_init(&audit->verify_lock, LOCK_CTL);
	r = keyring_derive_mac(keyring, 0, KEY_AUDIT, bytes_of(NULL, 0), &key);
	if (r == 0)
		r = mac_ctx_new(&key, &audit->mac);
	if (r == 0)
		r = mac_ctx_new(&key, &audit->check_mac);
	mem_wipe(&key, sizeof(key));
	if (r == 0)
		r = load_head(audit);
	if (r < 0) {
		audit_close(audit);
		return r;
	}
	*out = audit;
	return 0;
}

void audit_close(struct audit *audit)
{
	if (!audit)
		return;
	mac_ctx_free(audit->mac);
	mac_ctx_free(audit->check_mac);
	lock_release(&audit->lock);
	lock_release(&audit->verify_lock);
	mem_free(audit);
}
