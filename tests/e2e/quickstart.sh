# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
#
# What README promises of ./quickstart: it makes a file system, a second call
# changes nothing, a third mounts again what is there, a killed daemon is
# cleared away, and another SHARDFS_HOME is another file system.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

export SHARDFS_PREFIX=$TMPDIR/usr SHARDFS_BUILD=$TMPDIR/build SHARDFS_HOME=$TMPDIR/home
PATH=$SHARDFS_PREFIX/bin:$SHARDFS_PREFIX/sbin:$PATH
quickstart() {
	"$SHARDFS_SRCDIR/quickstart" "$@"
}
count_shards() { # PROVIDER
	find "$SHARDFS_HOME/providers/$1" -type f -regextype posix-extended \
		-regex '.*/[0-9a-f]{32}' | wc -l
}
has_shards() {
	[ "$(count_shards primary)" -gt 0 ] && [ "$(count_shards secondary)" -gt 0 ] &&
		[ "$(count_shards tertiary)" -gt 0 ]
}

must_fail quickstart
quickstart --help >"$TMPDIR/said"
grep -q SHARDFS_HOME "$TMPDIR/said"

# The first call makes everything, and the caller of sudo owns the root.
SUDO_UID=1234 SUDO_GID=1235 quickstart "$MNT" | tee "$TMPDIR/said"
grep -q 'Made a file system' "$TMPDIR/said"
[ "$(wc -l <"$TMPDIR/said")" -lt 20 ]
for name in shardfs.yaml passphrase index.db journal spool cache providers/primary \
	providers/secondary providers/tertiary; do
	[ -e "$SHARDFS_HOME/$name" ] || die "there is no $name"
done
[ "$(stat -c %a "$SHARDFS_HOME/passphrase")" = 600 ]
[ "$(stat -c %a "$SHARDFS_HOME/index.db")" = 600 ]
[ "$(stat -c %u:%g "$MNT")" = 1234:1235 ]
options=$(awk -v dir="$MNT" '$5 == dir' /proc/self/mountinfo)
[[ $options == *allow_other* && $options == *default_permissions* ]]
[[ $options == *fuse.shardfs* ]]
passphrase=$(cat "$SHARDFS_HOME/passphrase")
[ "${#passphrase}" -ge 32 ]
must_fail grep -q "$passphrase" "$TMPDIR/said"

cp -r "$SHARDFS_SRCDIR/src" "$MNT/"
setpriv --reuid 1234 --regid 1235 --clear-groups touch "$MNT/mine"
eventually 180 has_shards

# The second call finds it mounted; after umount it mounts what is there.
quickstart "$MNT" >"$TMPDIR/said"
grep -q 'mounted already' "$TMPDIR/said"
fs_umount
[ -z "$(ls -A "$MNT")" ]
quickstart "$MNT" >"$TMPDIR/said"
grep -q 'Mounted the file system' "$TMPDIR/said"
diff -r "$SHARDFS_SRCDIR/src" "$MNT/src"
# What it proposes works as it is printed.
mkdir "$MNT/doc"
bash -c "$(grep 'shardctl wait' "$TMPDIR/said")" >/dev/null
[ "$(stat -c %u:%g "$MNT")" = 1234:1235 ]
[ "$(cat "$SHARDFS_HOME/passphrase")" = "$passphrase" ]

# The mount of a killed daemon answers ENOTCONN until quickstart clears it.
pid=$(fs_pid)
kill -9 "$pid"
eventually 60 pid_is_gone "$pid"
must_fail ls "$MNT"
quickstart "$MNT" | tee "$TMPDIR/said"
grep -q 'cleared the dead mount' "$TMPDIR/said"
diff -r "$SHARDFS_SRCDIR/src" "$MNT/src"

# A second file system, with a passphrase of its own, beside the first.
printf 'correct horse battery staple' >"$TMPDIR/words"
chmod 0600 "$TMPDIR/words"
SHARDFS_HOME=$TMPDIR/home2 SHARDFS_PASSPHRASE_FILE=$TMPDIR/words quickstart "$TMPDIR/mnt2"
[ ! -e "$TMPDIR/home2/passphrase" ]
echo second >"$TMPDIR/mnt2/file"
[ ! -e "$MNT/file" ]
[ "$(stat -c %u "$TMPDIR/mnt2")" = 0 ]
fs_umount "$TMPDIR/mnt2"
must_fail env SHARDFS_HOME="$TMPDIR/home2" SHARDFS_PASSPHRASE_FILE="$TMPDIR/nowhere" \
	"$SHARDFS_SRCDIR/quickstart" "$TMPDIR/mnt2"
chmod 0644 "$TMPDIR/words"
SHARDFS_HOME=$TMPDIR/home3 SHARDFS_PASSPHRASE_FILE=$TMPDIR/words quickstart "$TMPDIR/mnt2"
[ "$(stat -c %a "$TMPDIR/home3/passphrase")" = 600 ]
cmp "$TMPDIR/words" "$TMPDIR/home3/passphrase"
fs_umount "$TMPDIR/mnt2"
# Something else at DIR stays.
must_fail quickstart /proc
must_fail env SHARDFS_HOME="$TMPDIR/home2" SHARDFS_PASSPHRASE_FILE="$TMPDIR/words" \
	"$SHARDFS_SRCDIR/quickstart" "$MNT"
fs_umount
