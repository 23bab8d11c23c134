# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# time-limit: 240
#
# One writer: a machine that was replaced, a writer that slept meanwhile, a home that was set back,
# a recovery from too few providers.  The loser reads on, refuses to write and says why; the winner
# notices nothing.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

may_write() { # DIR
	[ "$(shardctl --mount "$1" --json status | jq .writer.may_write)" = true ]
}
may_not_write() {
	! may_write "$1"
}
refuses() { # DIR: every kind of change, with EROFS
	local dir=$1 errno
	for change in 'os.mkdir(d + "/new")' 'open(d + "/new", "w")' 'open(d + "/a", "a")' \
		'os.unlink(d + "/a")' 'os.chmod(d + "/a", 0o600)' 'os.rename(d + "/a", d + "/moved")' \
		'os.setxattr(d + "/a", "user.x", b"1")' 'os.truncate(d + "/a", 0)' \
		'os.link(d + "/a", d + "/hard")' 'os.symlink("x", d + "/soft")'; do
		errno=$(python3 -c "
import os, sys
d = sys.argv[1]
try:
    $change
    print('done')
except OSError as e:
    print(e.errno)" "$dir")
		[ "$errno" = 30 ] || die "$change: $errno instead of EROFS"
	done
}
other_config() { # NAME PROVIDER...: another machine's home, with these providers
	local name=$1 provider
	shift
	{
		printf 'home: %s\npassphrase_file: %s\nsettings: {epoch_check: 200ms}\nproviders:\n' \
			"$TMPDIR/$name" "$FS/passphrase"
		for provider; do
			printf '  - {name: %s, type: dir, path: %s}\n' "$provider" "$FS/providers/$provider"
		done
	} >"$TMPDIR/$name.yaml"
}

fs_make 'epoch_check: 200ms'
fs_mount
echo one >"$MNT/a"
shardctl wait "$MNT" >/dev/null
may_write "$MNT"
for provider in primary secondary tertiary; do
	[ -s "$FS/providers/$provider/index/epoch-00000001" ] || die "no claim at $provider"
done

# A paused writer wakes up after another machine recovered.
kill -STOP "$(fs_pid)"
other_config second primary secondary tertiary
shardfs-recover "$TMPDIR/second.yaml"
mkdir -p "$TMPDIR/mnt2"
shardfs "$TMPDIR/second.yaml" "$TMPDIR/mnt2"
may_write "$TMPDIR/mnt2"
echo two >"$TMPDIR/mnt2/b"
shardctl wait "$TMPDIR/mnt2" >/dev/null
kill -CONT "$(fs_pid)"
eventually 60 may_not_write "$MNT"
refuses "$MNT"
[ "$(cat "$MNT/a")" = one ] # it reads on
shardctl --mount "$MNT" --json status | jq -e '.writer.cause | test("epoch 2")' >/dev/null
grep -q 'writer-epoch-lost' "$FS/shardfs.log"
rc=0
shardctl --mount "$MNT" cleanup run || rc=$?
[ "$rc" -eq 5 ] || die "cleanup run on the loser: $rc"
# ... and so it stays over a remount, with the providers away too.
fs_umount
mv "$FS/providers" "$FS/providers.away"
fs_mount
may_not_write "$MNT"
refuses "$MNT"
fs_umount
mv "$FS/providers.away" "$FS/providers"
# The winner goes on; what it has comes back from any provider.
echo three >"$TMPDIR/mnt2/c"
shardctl wait "$TMPDIR/mnt2" >/dev/null
may_write "$TMPDIR/mnt2"

# A home that is set back: copied, then used on, then the copy put in its place.
fs_umount "$TMPDIR/mnt2"
cp -a "$TMPDIR/second" "$TMPDIR/second.old"
shardfs "$TMPDIR/second.yaml" "$TMPDIR/mnt2"
echo four >"$TMPDIR/mnt2/d"
shardctl wait "$TMPDIR/mnt2" >/dev/null
fs_umount "$TMPDIR/mnt2"
mv "$TMPDIR/second" "$TMPDIR/second.new"
mv "$TMPDIR/second.old" "$TMPDIR/second"
(cd "$FS/providers/primary" && find index -name 'log-*' -o -name 'snap-*' | sort) >"$TMPDIR/before"
shardfs "$TMPDIR/second.yaml" "$TMPDIR/mnt2"
eventually 60 may_not_write "$TMPDIR/mnt2"
shardctl --mount "$TMPDIR/mnt2" --json status | jq -e '.writer.cause | test("set back")' >/dev/null
refuses "$TMPDIR/mnt2"
fs_umount "$TMPDIR/mnt2"
(cd "$FS/providers/primary" && find index -name 'log-*' -o -name 'snap-*' | sort) |
	diff "$TMPDIR/before" - # it sent nothing
rm -rf "$TMPDIR/second"
mv "$TMPDIR/second.new" "$TMPDIR/second"

# Another machine that reaches one provider of three reads; it writes only by an operator's word.
other_config third tertiary
shardfs-recover "$TMPDIR/third.yaml"
mkdir -p "$TMPDIR/mnt3"
shardfs "$TMPDIR/third.yaml" "$TMPDIR/mnt3"
may_not_write "$TMPDIR/mnt3"
[ "$(cat "$TMPDIR/mnt3/d")" = four ]
shardctl --mount "$TMPDIR/mnt3" --json status | jq -e '.writer.cause | test("take_over")' >/dev/null
refuses "$TMPDIR/mnt3"
fs_umount "$TMPDIR/mnt3"
shardfs "$TMPDIR/third.yaml" "$TMPDIR/mnt3" -o take_over
may_write "$TMPDIR/mnt3"
echo five >"$TMPDIR/mnt3/e"
fs_umount "$TMPDIR/mnt3"
shardfs "$TMPDIR/third.yaml" "$TMPDIR/mnt3" # remembered
may_write "$TMPDIR/mnt3"
fs_umount "$TMPDIR/mnt3"
# The one before sees it at that provider.
shardfs "$TMPDIR/second.yaml" "$TMPDIR/mnt2"
eventually 60 may_not_write "$TMPDIR/mnt2"
fs_umount "$TMPDIR/mnt2"

# A claim that does not authenticate stops nobody.
other_config fourth primary secondary tertiary
shardfs-recover "$TMPDIR/fourth.yaml"
shardfs "$TMPDIR/fourth.yaml" "$TMPDIR/mnt3"
may_write "$TMPDIR/mnt3"
head -c 300 /dev/urandom >"$FS/providers/primary/index/epoch-000000ff"
eventually 60 grep -q epoch-claim-damaged "$TMPDIR/fourth/shardfs.log"
may_write "$TMPDIR/mnt3"
fs_umount "$TMPDIR/mnt3"
