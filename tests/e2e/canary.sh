# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# No plaintext leaves the index (promise P5): canaries of content, names,
# targets and xattrs are looked for, raw and in the usual encodings, in everything
# that is on disk, while the daemon works, after a SIGKILL and at the end.  No
# core is written, nobody else may read what is there, and no key ever seals two
# plaintexts under one nonce.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

ulimit -c unlimited
export SHARDFS_NONCE_LOG=$TMPDIR/nonces
fs_make 'shard_size: 1MiB' 'chunk_min: 4KiB' 'chunk_avg: 16KiB' 'chunk_max: 64KiB' \
	'commit_interval: 200ms' 'shard_idle: 200ms' 'log_level: debug'
fs_mount

# Canaries do not compress, so that what was only compressed shows them too.
random_hex() {
	head -c "$1" /dev/urandom | xxd -p -c 0
}
canaries=()
canary() { # a word of 24 letters that nobody else has
	word=CANARY$(random_hex 9)
	canaries+=("$word")
}
plant() { # PATH: random bytes with a canary at every 4 KiB
	local i
	for ((i = 0; i < 64; i++)); do
		printf %s "$word"
		head -c 4072 /dev/urandom
	done >"$1"
}
canary; plant "$MNT/content"
canary; plant "$MNT/$word"
canary; mkdir "$MNT/dir-$word"
canary; plant "$MNT/renamed"; canary; mv "$MNT/renamed" "$MNT/$word"
canary; ln -s "$word" "$MNT/symlink"
canary; printf %s "$word" >"$MNT/small"
canary; setfattr -n "user.$word" -v x "$MNT/content"
canary; setfattr -n user.value -v "$word" "$MNT/content"
canary; setfattr -n user.long -v "$word$(random_hex 1000)" "$MNT/content"
canary; plant "$MNT/gone"; rm "$MNT/gone"
canary; plant "$MNT/copied"; cp --reflink=auto "$MNT/copied" "$MNT/copy"
passphrase=$(cat "$FS/passphrase")

# Every form of a word, one a line.
forms_of() {
	local i
	printf '%s\n' "$1" | rev
	printf '%s\n' "$1"
	printf %s "$1" | xxd -p -c 0
	printf %s "$1" | xxd -u -p -c 0
	# In base64 each of three alignments has an inner part that does not depend on the rest.
	for i in '' x xx; do
		printf %s "$i$1" | base64 -w 0 | cut -c 5-32
	done
}
for word in "${canaries[@]}" "$passphrase"; do
	forms_of "$word"
done | sort -u >"$TMPDIR/words"
# UTF-16: a pattern with NULs, which only -P takes.
wide=$(for word in "${canaries[@]}"; do
	printf '%s|' "$(printf %s "$word" | sed 's/./&\\x00/g')"
done | sed 's/|$//')

find_canaries() {
	local rc=0 hits
	hits=$(find "$FS" -xdev -type f ! -name 'index.db*' ! -name passphrase -print0 |
		LC_ALL=C xargs -0 grep -laF -f "$TMPDIR/words") || rc=$?
	[ -z "$hits" ] || die "plaintext in: $hits"
	hits=$(find "$FS" -xdev -type f ! -name 'index.db*' ! -name passphrase -print0 |
		LC_ALL=C xargs -0 grep -laP "$wide") || rc=$?
	[ -z "$hits" ] || die "plaintext (UTF-16) in: $hits"
	hits=$(find "$FS" -xdev | LC_ALL=C grep -F -f "$TMPDIR/words") || rc=$?
	[ -z "$hits" ] || die "plaintext in names: $hits"
	! LC_ALL=C grep -aF -f "$TMPDIR/words" "$LOG" || die "plaintext in the daemon's words"
	echo "$(find "$FS" -xdev -type f | wc -l) files: nothing"
}
find_open_doors() {
	local open
	open=$(find "$FS" -xdev -ignore_readdir_race \( -type f ! -perm 0600 ! -name shardfs.yaml \) -o \
		\( -type d ! -perm 0700 \))
	[ -z "$open" ] || die "others may look into: $open"
}
no_cores() {
	local limit cores
	limit=$(awk '/^Max core file size/ { print $5 }' "/proc/$(fs_pid)/limits")
	[ "$limit" = 0 ] || die "a core of $limit bytes may be written"
}

# This search finds what there is: the canaries are in the mount itself.
LC_ALL=C grep -qaF -f "$TMPDIR/words" "$MNT/content"
base64 "$MNT/small" | LC_ALL=C grep -qaF -f "$TMPDIR/words"
printf 'z%s' "$(cat "$MNT/small")" | base64 | LC_ALL=C grep -qaF -f "$TMPDIR/words"
LC_ALL=C grep -qaP "$wide" <(printf %s "$(cat "$MNT/small")" | iconv -t UTF-16LE)

no_cores
shardctl sync "$MNT"
find_canaries
shardctl wait "$MNT"
shardctl status --mount "$MNT" >/dev/null
find_canaries
find_open_doors
canary; plant "$MNT/late"; forms_of "$word" >>"$TMPDIR/words"

# A daemon that dies of a bug leaves no core.
pid=$(fs_pid)
(cd / && kill -SEGV "$pid")
fs_clear "$pid"
find_canaries
[ -z "$(find "$TMPDIR" / -maxdepth 1 -newer "$CONF" -name 'core*')" ]

fs_mount
for name in content late small copied copy; do
	cat "$MNT/$name" >/dev/null
done
echo 1 >/proc/sys/vm/drop_caches
cat "$MNT/content" >/dev/null
plant "$MNT/more"
fs_kill
fs_mount
shardctl wait "$MNT"
find_canaries
find_open_doors
fs_umount
find_canaries
fs_check

# key nonce plaintext: a pair of the first two has one of the third.
[ "$(wc -l <"$TMPDIR/nonces")" -gt 200 ]
sort -u "$TMPDIR/nonces" | awk '{ pair = $1 " " $2
	if (pair == last) { print "nonce used twice:", $0; bad = 1 }
	last = pair } END { exit bad }'
