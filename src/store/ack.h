/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_ACK_H
#define SHARDFS_STORE_ACK_H

/*
 * fsync at the acknowledgement level of the file's policy.  local: bytes and
 * records are durable on this machine.  Above: the shards that hold the file
 * are sealed, and the answer waits until each has its copies: one, a majority
 * of what the policy asks, or all.  Requests that arrive meanwhile share the
 * next batch, so that one sealing serves many.
 */

#include "store/store.h"

struct ack;

int ack_start(struct store *store, struct ack **out);
/* Whoever waits is told -ECANCELED; accepts NULL. */
void ack_stop(struct ack *ack);

/* Any thread, no lock held; waits for the disk if it has a worker, for nothing without. */
void ack_fsync(struct ack *ack, struct chunk_worker *worker, struct inode *inode,
	       struct waiter *waiter);

#endif
