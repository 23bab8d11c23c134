#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# What has no chain to be written to, and what the daemon does by itself: failed unlocks, fsck,
# recovery, repairs, orphans; and the log taken away as a file.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

has_entry() { # KIND TEXT
	shardctl -m "$MNT" --json audit list --kind "$1" | has -F -- "$2"
}
count_entries() { # KIND
	shardctl -m "$MNT" --json audit list --kind "$1" | jq '.entries | length'
}
wrong() { # COMMAND...: with another passphrase
	local rc=0
	mv "$FS/passphrase" "$FS/passphrase.right"
	(umask 077 && echo 'not the right one' >"$FS/passphrase")
	"$@" >>"$LOG" 2>&1 || rc=$?
	mv "$FS/passphrase.right" "$FS/passphrase"
	[ "$rc" -ne 0 ] || die "a wrong passphrase opened it: $*"
}

fs_make 'shard_size: 1MiB' 'shard_idle: 100ms' 'deletion_hold: 0s'
start=$(date -u +%Y-%m-%dT%H:%M:%SZ)
fs_mount
[ "$(count_entries unlock)" -eq 0 ]
head -c 3000000 /dev/urandom >"$MNT/file"
shardctl wait "$MNT" >/dev/null
fs_umount

# Failed unlocks of every program, with who tried.
wrong shardfs "$CONF" "$MNT"
wrong fsck.shardfs "$CONF"
wrong fsck.shardfs -n "$CONF"
wrong shardfs-recover --list "$CONF"
[ "$(stat -c %a "$FS/audit-pending")" = 600 ]
[ "$(wc -l <"$FS/audit-pending")" -eq 5 ] # its head, and four
fs_mount
[ ! -s "$FS/audit-pending" ] || die 'what was taken is still there'
[ "$(count_entries unlock)" -eq 4 ]
has_entry unlock EKEYREJECTED
has_entry unlock fsck.shardfs
has_entry unlock shardfs-recover
shardctl -m "$MNT" --json audit list --kind unlock |
	jq -e '.entries | all(.uid == 0 and .pid > 0 and (.details.happened | test("^20..-")))' >/dev/null
fs_umount
fs_mount
[ "$(count_entries unlock)" -eq 4 ] # once
fs_umount

# Somebody writes into it, or fills it: one word of that each, and the mount goes on.
printf '%020u\nrubbish\n\n12\tx\n' 0 >"$FS/audit-pending"
fs_mount
[ "$(count_entries damaged)" -eq 3 ]
fs_umount
line=$(printf '1\t0\t0\t1\tunlock\tEKEYREJECTED\t/bin/true\t%0300u' 0)
{
	printf '%020u\n' 0
	for _ in $(seq 190); do echo "$line"; done
} >"$FS/audit-pending"
for _ in 1 2 3; do
	truncate -s 65530 "$FS/audit-pending" # full to the last line
	wrong fsck.shardfs "$CONF"
done
head -c 20 "$FS/audit-pending" | has -x 00000000000000000003
[ "$(stat -c %s "$FS/audit-pending")" -le 65536 ]
fs_mount
has_entry pending '"left_out":3'
fs_umount

# What fsck repaired.
sqlite3 "$FS/index.db" 'UPDATE dir_counter SET bytes=bytes+5'
rc=0
fsck.shardfs -y "$CONF" >"$TMPDIR/fsck" 2>&1 || rc=$?
[ "$rc" -eq 1 ] || die "fsck -y: $rc: $(cat "$TMPDIR/fsck")"
fs_mount
has_entry fsck 'rows recomputed'

# Copies that are repaired, orphans that are deleted.
eventually 60 providers_answer
shard=$(find "$FS/providers/secondary" -type f -size +500k -name '????????????????????????????????' |
	sed -n 1p)
rm "$shard"
shardctl -m "$MNT" scrub >/dev/null || [ $? -eq 4 ]
[ -f "$shard" ] || die 'it was not repaired'
eventually 60 has_entry repair "$(basename "$shard")"
has_entry repair '"was":"missing"'
log=$(find "$FS/providers/tertiary/index" -name 'snap-*-p000000' | sed -n 1p)
rm "$log"
shardctl -m "$MNT" scrub >/dev/null || [ $? -eq 4 ]
[ -f "$log" ]
has_entry repair 'index objects were written again at provider tertiary'
shardctl -m "$MNT" audit verify
fs_umount

# The recovered home has the log of the one before, and says what it comes from.  A shard that its
# state does not know is an orphan.
{
	printf 'home: %s\npassphrase_file: %s\nsettings: {deletion_hold: 0s}\nproviders:\n' \
		"$TMPDIR/second" "$FS/passphrase"
	for provider in primary secondary tertiary; do
		printf '  - {name: %s, type: dir, path: %s}\n' "$provider" "$FS/providers/$provider"
	done
} >"$TMPDIR/second.yaml"
cp -a "$FS/providers/primary/index" "$TMPDIR/index"
fs_mount
head -c 1500000 /dev/urandom >"$MNT/unknown"
shardctl wait "$MNT" >/dev/null
fs_umount
for provider in primary secondary tertiary; do # its records are lost, its shard is not
	rm -r "$FS/providers/$provider/index"
	cp -a "$TMPDIR/index" "$FS/providers/$provider/index"
done
shardfs-recover "$TMPDIR/second.yaml"
shardfs "$TMPDIR/second.yaml" "$MNT" >>"$LOG" 2>&1
has_entry recover 'generation'
has_entry unlock EKEYREJECTED
shardctl -m "$MNT" --json audit list --kind recover | jq -e '.entries | length == 1' >/dev/null
shardctl -m "$MNT" wait "$MNT" >/dev/null
gone() {
	shardctl -m "$MNT" cleanup run --orphans >/dev/null 2>&1 || true
	has_entry delete 'orphans were deleted at provider primary'
}
# the history of the writer before must have gone
for provider in primary secondary tertiary; do
	find "$FS/providers/$provider/index" -ignore_readdir_race -name '*-00000001-*' -delete
done
eventually 60 gone
has_entry delete 'orphans are to be deleted at provider primary'
shardctl -m "$MNT" audit verify

# --since, and all of it as a file that proves itself to whoever has the key.
# (something may be added between two questions)
since_is_all() {
	all=$(shardctl -m "$MNT" --json audit list | jq '.entries | length')
	[ "$(shardctl -m "$MNT" --json audit list --since "$start" | jq '.entries | length')" -eq "$all" ]
}
eventually 60 since_is_all
shardctl -m "$MNT" --json audit list --since 2100-01-01 | jq -e '.entries | length == 0' >/dev/null
rc=0
shardctl -m "$MNT" audit list --since yesterday 2>/dev/null || rc=$?
[ "$rc" -eq 2 ]
shardctl -m "$MNT" audit export "$TMPDIR/log.jsonl"
[ "$(wc -l <"$TMPDIR/log.jsonl")" -ge "$all" ]
jq -es '[.[].number] == [range(1; length + 1)] and all(.[]; .mac | test("^[0-9a-f]{64}$"))' \
	"$TMPDIR/log.jsonl" >/dev/null
jq -r .body "$TMPDIR/log.jsonl" | jq -es 'all(.[]; has("kind") and has("result"))' >/dev/null
exports_agree() {
	shardctl -m "$MNT" audit export "$TMPDIR/again.jsonl" &&
		shardctl -m "$MNT" audit export - | cmp - "$TMPDIR/again.jsonl"
}
eventually 60 exports_agree
fs_umount
