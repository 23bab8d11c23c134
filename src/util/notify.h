/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_NOTIFY_H
#define SHARDFS_UTIL_NOTIFY_H

/*
 * Readiness protocol of the service manager (sd_notify(3)): a datagram to
 * $NOTIFY_SOCKET.  Without that variable these do nothing.  Any thread.
 */
void notify_ready(const char *status); /* one line for people; NULL: none */
void notify_stopping(void);
void notify_watchdog(void);

#endif
