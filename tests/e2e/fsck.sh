#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
#
# Damage of many kinds is planted in copies of one file system.  Each is found by its name with -n,
# which changes nothing; -y repairs it or says why not, and what it repaired is sound and whole.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

mkfs.shardfs() {
	command mkfs.shardfs --kdf-cost 10 "$@"
}
sql() { # STATEMENTS
	sqlite3 "$FS/index.db" "$1"
}
flip() { # FILE OFFSET: all bits of a byte
	local byte
	byte=$(od -An -tu1 -j "$2" -N1 "$1" | tr -d ' ')
	printf '%b' "\\x$(printf %02x $((byte ^ 255)))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
sums() {
	find "$FS" -type f ! -name lock -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
	find "$FS" | LC_ALL=C sort
}
fsck_is() { # STATUS OPTION...: and what it says is in $TMPDIR/fsck.json
	local want=$1 rc=0
	shift
	fsck.shardfs --json "${depth[@]}" "$@" "$CONF" >"$TMPDIR/fsck.json" \
		2>"$TMPDIR/fsck.err" || rc=$?
	[ "$rc" -eq "$want" ] || {
		cat "$TMPDIR/fsck.json" "$TMPDIR/fsck.err" >&2
		die "$damage: fsck.shardfs $*: exit status $rc, not $want"
	}
}
found() { # KIND
	grep -qF "{\"kind\":\"$1\"," "$TMPDIR/fsck.json"
}
tree_is_whole() {
	fs_mount
	diff -r --no-dereference "$TMPDIR/source" "$MNT/tree" || die "$damage: another tree"
	fs_umount
}
count=0
depth=(--deep --providers)
# The copy in $FS was damaged; afterwards it is fresh again.
judge() { # KIND repaired|left|noticed: noticed is no damage, the next mount sees to it
	local damage=$1 status=4
	count=$((count + 1))
	sums >"$TMPDIR/before"
	[ "$2" != noticed ] || status=0
	fsck_is "$status" -n
	found "$1" || {
		cat "$TMPDIR/fsck.json" >&2
		die "$1: was not found"
	}
	grep -q "^$1 " "$TMPDIR/kinds" || die "$1: no such kind"
	sums | diff "$TMPDIR/before" - || die "$1: -n changed something"
	if [ "$2" = repaired ]; then
		fsck_is 1 -y
		grep -qF '"repairs":[{' "$TMPDIR/fsck.json" ||
			die "$1: it does not say what it repaired"
	else
		fsck_is "$status" -y
	fi
	if [ "${3:-}" = whole ]; then
		[ "$2" != repaired ] || fsck_is 0 -n
		tree_is_whole
	fi
	fresh
}
fresh() {
	rm -rf "$FS"
	cp -a "$TMPDIR/good" "$FS"
}
plant() { # KIND repaired|left STATEMENTS [whole]
	sql "$3"
	judge "$1" "$2" "${4:-}"
}

fsck.shardfs --kinds >"$TMPDIR/kinds"
fs_make
fs_mount
mkdir -p "$TMPDIR/source/dir/below" "$TMPDIR/source/other"
head -c 300K /dev/urandom >"$TMPDIR/source/dir/big"
head -c 300K /dev/urandom >"$TMPDIR/source/dir/below/second"
echo small >"$TMPDIR/source/other/small"
ln -s ../dir/big "$TMPDIR/source/other/link"
setfattr -n user.colour -v blue "$TMPDIR/source/other/small"
rsync -aHAX "$TMPDIR/source/" "$MNT/tree/"
shardctl wait "$MNT" >/dev/null
# another shard
head -c 400K /dev/urandom >"$TMPDIR/source/dir/third"
rsync -aHAX "$TMPDIR/source/" "$MNT/tree/"
shardctl wait "$MNT" >/dev/null
fs_umount
cp -a "$FS" "$TMPDIR/good"
damage=nothing
fsck_is 0 -n
sums >"$TMPDIR/before"
fsck_is 0 -y
sums | diff "$TMPDIR/before" - || die 'nothing was wrong and something was changed'

depth=()
# ---- what follows from other rows of the index ----
BIG="(SELECT ino FROM dirent WHERE name=x'626967')"
SMALL="(SELECT ino FROM dirent WHERE name=x'736d616c6c')"
BELOW="(SELECT ino FROM dirent WHERE name=x'62656c6f77')"
LINK="(SELECT ino FROM dirent WHERE name=x'6c696e6b')"
plant directory-nlink repaired "UPDATE inode SET nlink=9 WHERE ino=1"
plant directory-parent repaired "UPDATE inode SET parent=1 WHERE ino=$BELOW"
plant file-nlink repaired "UPDATE inode SET nlink=3 WHERE ino=$BIG"
plant xattr-flag repaired "UPDATE inode SET flags=flags&~4 WHERE ino=$SMALL"
LOCK="x'757365722e736861726466732e6c6f636b2d756e74696c'" # user.shardfs.lock-until
plant lock-flag repaired "INSERT INTO xattr SELECT ino,$LOCK,birth,
	x'323130312d30312d30315430303a30303a30305a' FROM inode WHERE ino=$SMALL"
plant lock-date repaired "UPDATE inode SET flags=flags|1024 WHERE ino=$SMALL"
plant orphan-without-inode repaired "INSERT INTO orphan VALUES(999)"
plant orphan-without-flag repaired "INSERT INTO orphan VALUES($BIG)"
plant inode-history-unseen repaired "INSERT INTO inode_history SELECT ino,birth,mode,uid,gid,nlink,
	rdev,size,times,flags,parent,policy_root,birth+1 FROM inode WHERE ino=1"
plant name-history-unseen repaired "INSERT INTO dirent_history SELECT parent,cookie,birth,name,ino,
	type,birth+1 FROM dirent LIMIT 1"
plant xattr-history-unseen repaired "INSERT INTO xattr_history VALUES(5,x'61',1,x'62',2)"
plant symlink-history-unseen repaired "INSERT INTO symlink_history VALUES(5,1,x'62',2)"
plant extent-history-unseen repaired "INSERT INTO extent_history SELECT ino,off,birth,birth+1,len,
	chunk_off,chunk_no FROM extent LIMIT 1"
plant chunk-refs repaired "UPDATE chunk SET refs=refs+3 WHERE chunk_no=1" whole
plant chunk-name-missing repaired "DELETE FROM chunk_name WHERE chunk_no=1"
plant chunk-name-extra repaired "INSERT INTO chunk_name VALUES(5,77)"
plant shard-sums repaired "UPDATE shard SET total_bytes=1, dead_bytes=1"
plant copy-shard repaired "INSERT INTO copy SELECT 888,states,verified,copies FROM copy LIMIT 1"
plant copy-states repaired "UPDATE copy SET states=2"
plant copy-verified repaired "UPDATE copy SET verified=5"
plant counters repaired "UPDATE dir_counter SET bytes=bytes+5"
plant counters-of-other-type repaired "INSERT INTO dir_counter(ino,files,directories,bytes,as_of)
	VALUES($BIG,0,0,0,1)"
plant highest-ino repaired "UPDATE meta SET highest_ino=1"
plant highest-cookie repaired "UPDATE meta SET highest_cookie=1"
plant highest-chunk repaired "UPDATE meta SET highest_chunk=0"
plant highest-shard repaired "UPDATE meta SET highest_shard=0"
plant highest-provider repaired "UPDATE meta SET highest_provider=0"
plant sum-inodes repaired "UPDATE meta SET inodes=1"
plant sum-directories repaired "UPDATE meta SET directories=99"
plant sum-bytes repaired "UPDATE meta SET bytes=0"
plant sum-chunks repaired "UPDATE meta SET chunks=0"
plant sum-stored repaired "UPDATE meta SET chunk_stored_bytes=0"
plant sum-shards repaired "UPDATE meta SET shards=0" whole

# ---- what only the providers know: the index is rebuilt ----
plant inode-born-late repaired "UPDATE inode SET birth=99999 WHERE ino=$BIG"
plant name-dangling repaired "DELETE FROM inode WHERE ino=$BIG" whole
plant name-type repaired "UPDATE dirent SET type=4 WHERE name=x'626967'"
plant name-parent repaired "UPDATE dirent SET parent=$BIG WHERE name=x'736d616c6c'"
plant directory-names repaired "DELETE FROM dirent WHERE name=x'62656c6f77'" whole
plant directory-unreached repaired "UPDATE dirent SET parent=$BELOW WHERE name=x'646972'"
plant inode-nameless repaired "DELETE FROM dirent WHERE name=x'626967'"
plant orphan-named repaired "UPDATE inode SET flags=flags|128 WHERE ino=$BIG"
plant root-missing repaired "UPDATE inode SET mode=33188 WHERE ino=1"
plant xattr-without-inode repaired "INSERT INTO xattr VALUES(999,x'61',1,x'62')"
plant symlink-without-inode repaired "INSERT INTO symlink VALUES(999,1,x'62')"
plant symlink-without-target repaired "DELETE FROM symlink WHERE ino=$LINK" whole
plant target-of-other-type repaired "INSERT INTO symlink VALUES($BIG,1,x'62')"
plant extent-without-inode repaired "INSERT INTO extent VALUES(999,0,5,0,0,1)"
plant extent-of-other-type repaired "INSERT INTO extent VALUES($LINK,0,5,0,0,1)"
plant extent-overlap repaired "INSERT INTO extent VALUES($BIG,1,5,0,0,1)" whole
S='INSERT INTO snapshot(snapshot_no,name,root,seq,created_sec) VALUES'
plant snapshot-name repaired "$S(8,'a',1,5,0),(9,'a',1,5,0)"
plant snapshot-root repaired "$S(8,'a',999,5,0)"
plant snapshot-late repaired "$S(8,'a',1,999999,0)"
plant snapshot-dangling repaired "$S(8,'a',1,(SELECT applied_seq FROM meta),0);
	INSERT INTO dirent_history SELECT 1,999,1,x'61',999,8,applied_seq+1 FROM meta"
plant snapshot-overlap repaired "$S(8,'a',1,(SELECT applied_seq FROM meta),0);
	INSERT INTO extent_history SELECT $BIG,1,1,applied_seq+1,5,0,0 FROM meta"
plant extent-chunk repaired "UPDATE extent SET chunk_no=777 WHERE ino=$BIG"
plant chunk-shard repaired "UPDATE chunk SET shard_no=777 WHERE chunk_no=1"
plant shard-twice repaired "UPDATE shard SET id=(SELECT id FROM shard LIMIT 1)"
plant copy-list repaired "UPDATE copy SET copies=x'0105'"
plant audit-gap repaired "DELETE FROM audit WHERE audit_no=1"
plant copy-provider repaired "DELETE FROM provider WHERE provider_no=3"

# ---- the file of the index ----
rm "$FS/index.db"
judge index-missing repaired whole
dd if=/dev/zero of="$FS/index.db" bs=100 count=1 conv=notrunc status=none
judge index-unreadable repaired whole
sql 'PRAGMA application_id=5'
judge index-unreadable repaired
sql 'PRAGMA user_version=99'
judge index-newer left
head -c 8192 /dev/urandom | dd of="$FS/index.db" bs=4096 seek=3 conv=notrunc status=none
judge index-page repaired whole
truncate -s 12288 "$FS/index.db"
damage=truncated
fsck_is 4 -n
fsck_is 1 -y
tree_is_whole
count=$((count + 1))
fresh

depth=(--deep)
# ---- the rest of home ----
rm "$FS/superblock"
judge superblock-missing repaired
flip "$FS/superblock" 20
judge superblock-damaged repaired whole
rm "$FS/lock" && mkdir "$FS/lock"
judge lock-odd repaired
echo foreign >"$FS/journal/notes.txt"
judge journal-foreign repaired
echo foreign >"$FS/oplog/notes.txt"
judge oplog-foreign repaired
mkdir -p "$FS/spool" && echo foreign >"$FS/spool/notes.txt"
judge spool-foreign repaired
head -c 1000 /dev/urandom >"$FS/cache/0123456789abcdef0123456789abcdef"
damage='garbage in the cache'
fsck_is 0 -n
tree_is_whole
count=$((count + 1))
fresh

# ---- providers ----
depth=(--deep --providers)
shard=$(find "$FS/providers/primary" -type f -printf '%f\n' | grep -xE '[0-9a-f]{32}' | sort | sed -n 1p)
another=$(find "$FS/providers/primary" -type f -printf '%f\n' | grep -xE '[0-9a-f]{32}' | sort | tail -n 1)
[ "$shard" != "$another" ]
file() { # PROVIDER NAME
	find "$FS/providers/$1" -type f -name "$2" | sed -n 1p
}
rm "$(file primary superblock)"
judge provider-superblock-missing repaired
flip "$(file secondary superblock)" 20
judge provider-superblock-damaged repaired
mv "$FS/providers/tertiary" "$FS/away"
judge provider-absent left
rm "$(file primary "$shard")"
judge copy-missing left whole
truncate -s 100 "$(file primary "$shard")"
judge copy-length left whole
flip "$(file primary "$shard")" 5000
judge copy-damaged left whole
cp "$(file primary "$another")" "$(file primary "$shard")"
judge copy-swapped left whole
object=$(find "$FS/providers/primary" -path '*index/*' -name 'log-*' -o -path '*index/*' -name 'snap-*' | sort | sed -n 1p)
flip "$object" 60
judge provider-oplog-damaged left
find "$FS/providers/primary" -path '*index/*' -type f ! -name superblock -delete
judge provider-oplog-incomplete left

# No provider has the newest state: nothing is thrown away.
find "$FS/providers" -path '*index/*' -type f ! -name superblock -delete
sql "DELETE FROM inode WHERE ino=$BIG"
judge name-dangling left

# ---- objects that are older, or that nobody knows ----
fs_mount
cp -a "$FS/superblock" "$TMPDIR/older"
echo 'another passphrase' >"$TMPDIR/another"
chmod 0600 "$TMPDIR/another"
eventually 60 providers_answer
SHARDFS_MOUNT=$MNT shardctl key add --passphrase-file "$TMPDIR/another" >/dev/null
shardctl wait "$MNT" >/dev/null
fs_umount
must_fail cmp -s "$FS/superblock" "$TMPDIR/older"
rm -rf "$TMPDIR/good"
cp -a "$FS" "$TMPDIR/good"
cp "$TMPDIR/older" "$FS/superblock"
judge superblock-older repaired whole
cp "$TMPDIR/older" "$FS/providers/secondary/index/superblock"
judge provider-superblock-older repaired whole
cp "$(file primary "$shard")" "$FS/providers/primary/ff/0123456789abcdef0123456789abcdef" 2>/dev/null || {
	install -d -m 0700 "$FS/providers/primary/01"
	cp "$(file primary "$shard")" "$FS/providers/primary/01/0123456789abcdef0123456789abcdef"
}
judge object-unknown noticed whole

# ---- what a crash leaves at home: records that no provider has, shards that owe copies ----
sed -i 's/^settings:/&\n  segment_delay_max: 1h/' "$CONF"
fs_mount
for name in primary secondary tertiary; do
	mv "$FS/providers/$name" "$FS/$name.away"
done
head -c 500K /dev/urandom >"$TMPDIR/source/dir/fourth"
cp "$TMPDIR/source/dir/fourth" "$MNT/tree/dir/fourth"
sync "$MNT/tree/dir/fourth"
fs_kill
for name in primary secondary tertiary; do
	mv "$FS/$name.away" "$FS/providers/$name"
done
rm -rf "$TMPDIR/good"
cp -a "$FS" "$TMPDIR/good"
depth=(--deep --providers)
damage='a crash'
fsck_is 0 -n
tree_is_whole
fresh
journal=$(find "$FS/journal" -name '*.journal' | LC_ALL=C sort | tail -n 1)
spooled=$(find "$FS/spool" -type f -size +300k | sed -n 1p)
[ -s "$journal" ] && [ -s "$spooled" ] || die 'the crash left nothing'
printf 'torn in the midst of a frame' >>"$journal"
judge journal-torn noticed whole
flip "$journal" 100 # its header
judge journal-damaged left
flip "$journal" 200 # a frame before the mark
judge journal-damaged left
flip "$spooled" 5000
judge spool-record-only left
truncate -s 1000 "$spooled"
judge spool-record-only left
cp "$spooled" "$(dirname "$spooled")/0123456789abcdef0123456789abcdef"
judge spool-unknown noticed whole
rm "$spooled"
judge shard-lost left

# Every kind is in the manual.
while read -r kind _; do
	grep -qxF ".It $kind" "$SHARDFS_SRCDIR/man/fsck.shardfs.8" || die "$kind: not in fsck.shardfs(8)"
done <"$TMPDIR/kinds"
echo "$count kinds of damage planted"
