/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_UNITS_H
#define SHARDFS_UTIL_UNITS_H

/*
 * Parse and print sizes, durations and counts.  The whole string must match.
 * Without regard to case, no blanks, at most nine decimals, rounded down.
 *   size:     "8MiB", "2MB" (10^6), "512", "1.5GiB"; B K KB KiB ... PiB; K = KiB
 *   duration: "250ms", "5s", "10m", "12h", "30d", "2w", "1y" (365 d); a bare number is seconds
 *   rate:     "50mbps"/"50Mbit" are bits per second, "6MB/s" and "6MB" bytes per second
 * -EINVAL: not of that form; -ERANGE: does not fit 64 bits; the result is then untouched.
 */

#include <stddef.h>
#include <stdint.h>

int units_parse_size(const char *text, uint64_t *bytes);
int units_parse_duration(const char *text, uint64_t *ms);
int units_parse_rate(const char *text, uint64_t *bytes_per_s);
int units_parse_count(const char *text, uint64_t *count); /* plain decimal */

#define UNITS_TEXT_SIZE 32
/*
 * Print what the parsers accept, exactly: the unit that needs the fewest
 * digits ("8MiB", "1536KiB", "2MB", "90m").  All return out.
 */
const char *units_print_size(uint64_t bytes, char *out);
const char *units_print_rate(uint64_t bytes_per_s, char *out); /* "6MB/s" */
const char *units_print_duration(uint64_t ms, char *out);
/* For people: "1.5 GiB", three digits. */
const char *units_human_size(uint64_t bytes, char *out);

#endif
