/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CTL_CTL_PRIVATE_H
#define SHARDFS_CTL_CTL_PRIVATE_H

/* Shared by the files of verbs. */

#include "ctl/ctl.h"

/* The tables of verbs; each ends with a NULL name. */
extern const struct ctl_verb ctl_verbs_base[], ctl_verbs_audit[], ctl_verbs_clone[],
	ctl_verbs_key[], ctl_verbs_scrub[], ctl_verbs_snapshot[];

static inline json_t *ctl_number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static inline void ctl_put(json_t *object, const char *key, json_t *value)
{
	json_object_set_new(object, key, value);
}

/* Everything of the inode of the call (or, for a directory, everything) is durable here. */
int ctl_sync(struct ctl_call *call);
/* What is buffered of the inode is in the spool, and its records in the journal. */
int ctl_push(struct ctl_call *call, struct inode *inode);

/* Of the request; NULL: not given, or no text. */
static inline const char *ctl_text_arg(struct ctl_call *call, const char *key)
{
	return json_string_value(json_object_get(call->args, key));
}

/* verbs_clone.c: takes away what clones of a dead process left; until the watch is cancelled. */
void ctl_sweep_clones(struct ctl *ctl, struct index_reader *reader);

/* What every answer begins with. */
void ctl_put_common_keys(struct ctl_call *call);

/* Lists every provider for objects that nobody knows: key "orphans" of the answer. */
int ctl_put_orphans(struct ctl_call *call, bool deletes, struct scrub_report *report);

#endif
