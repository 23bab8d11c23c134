/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One object under index/, from whichever provider has it right.  While a recovery runs it is first
 * stored in home/recover, so that what was fetched once is not fetched again after an interruption.
 */
#include "store/recover_private.h"

#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>

/* Opens what lies in home/recover: 0, or an error when it is not there or not right. */
static int open_fetched(struct recovery *recovery, const struct oplog_name *name, struct buf *body,
			struct digest *hash)
{
	AUTO(buf) object = BUF_INIT;
	char text[OPLOG_NAME_SIZE];
	int r = oplog_dir_read(recovery->dir, oplog_name_print(name, text), &object);

	buf_clear(body);
	return r < 0 ? r
		     : oplog_open_object(recovery->keyring, recovery->ctx, name, buf_bytes(&object),
					 body, hash);
}

int recovery_fetch_from(struct recovery *recovery, struct source *source,
			const struct oplog_name *name, struct buf *body, struct digest *hash)
{
	char text[OPLOG_NAME_SIZE], key[sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE];
	AUTO(buf) object = BUF_INIT;
	struct backend_req req = {.op = BACKEND_GET, .flags = BACKEND_TAIL, .key = key,
				  .len = OPLOG_OBJECT_BYTES_MAX, .out = &object};
	int r;

	snprintf(key, sizeof(key), OPLOG_PREFIX "%s", oplog_name_print(name, text));
	r = backend_run(source->backend, &req);
	buf_clear(body);
	if (r == 0)
		r = oplog_open_object(recovery->keyring, recovery->ctx, name, buf_bytes(&object),
				      body, hash);
	if (r < 0) {
		recovery_note(recovery, "provider %s: %s: %s; another copy is looked for",
			      source->shown.name, key,
			      r == -EBADMSG ? "does not authenticate"
					    : (req.cause[0] ? req.cause : err_sentence(r)));
		return r;
	}
	return !recovery->keeps ? 0
				: oplog_dir_write(recovery->dir, text, buf_bytes(&object), false);
}

/* The body of an object, from an earlier try or from the first provider that has it right. */
int recovery_fetch(struct recovery *recovery, const struct oplog_name *name, struct buf *body,
		   struct digest *hash)
{
	int r = open_fetched(recovery, name, body, hash);

	if (r == 0)
		return 0;
	r = -ENOENT;
	for (unsigned i = 0; i < recovery->source_count && r != 0; i++) {
		struct source *source = &recovery->sources[i];

		if (oplog_files_find(&source->files, name))
			r = recovery_fetch_from(recovery, source, name, body, hash);
	}
	return r;
}

struct oplog_name recovery_part_name(const struct oplog_name *root, uint32_t part)
{
	struct oplog_name name = *root;

	name.kind = OPLOG_PART;
	name.part = part;
	return name;
}

int recovery_fetch_root(struct recovery *recovery, const struct oplog_name *name,
			struct oplog_root *out)
{
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = recovery_fetch(recovery, name, &body, &hash);

	if (r == 0)
		r = oplog_root_read(buf_bytes(&body), &root);
	if (r == 0 && (root.txn != name->last || root.chain_seq != name->first))
		r = -EBADMSG;
	if (r < 0)
		return r;
	*out = root;
	root.parts = NULL;
	return 0;
}
