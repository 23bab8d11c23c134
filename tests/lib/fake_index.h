/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_FAKE_INDEX_H
#define SHARDFS_TESTS_FAKE_INDEX_H

/*
 * Stands in for the index behind a sequencer: remembers which records were
 * noted and applied, and in what order.  A program that uses it links it before
 * lib_index.a and must not call what only the real one has.
 */
#include "index/index.h"

#include <stdatomic.h>

struct index {
	_Atomic uint64_t noted_seq;   /* all up to here were noted, in order */
	_Atomic uint64_t applied_seq; /* ... applied */
	_Atomic uint64_t durable_seq;
	_Atomic int note_error, apply_error, checkpoint_error; /* while not 0 */
	_Atomic unsigned apply_error_every; /* each nth apply fails with -ENOSPC; 0: none */
	_Atomic uint64_t apply_calls, apply_failures, checkpoints;
	_Atomic bool is_order_broken;
	/* Asked before each apply: may the record be applied yet?  (NULL: yes) */
	bool (*may_apply)(void *ctx, uint64_t seq);
	void *ctx;
};

#endif
