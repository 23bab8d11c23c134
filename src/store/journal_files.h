/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_JOURNAL_FILES_H
#define SHARDFS_STORE_JOURNAL_FILES_H

/* The directory of a journal: names of its files.  Private to store/journal*.c. */

#include "util/buf.h"

#include <stddef.h>
#include <stdint.h>

#define JOURNAL_NAME_SIZE 32

/* "0000000000000001.journal" */
const char *journal_file_name(uint64_t number, char name[JOURNAL_NAME_SIZE]);

/* Numbers of the files in dir, ascending; *numbers is the caller's (mem_free).  -errno. */
int journal_list_files(int dir_fd, uint64_t **numbers, size_t *count);

#endif
