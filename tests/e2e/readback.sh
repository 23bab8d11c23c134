# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# Any one provider has it all (promise P2): after `shardctl wait` each of the
# three alone, without spool and cache, gives every byte back, with the saved index.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

fs_make 'shard_size: 4MiB'
fs_mount
mkdir "$TMPDIR/tree" "$TMPDIR/tree/bin"
cp -a "$SHARDFS_SRCDIR"/{src,fs,man} "$TMPDIR/tree/"
cp /usr/bin/{bash,openssl} "$TMPDIR/tree/bin/"
head -c 20000000 /dev/urandom >"$TMPDIR/tree/random"
truncate -s 5M "$TMPDIR/tree/sparse"
printf end >>"$TMPDIR/tree/sparse"
: >"$TMPDIR/tree/empty"
ln "$TMPDIR/tree/random" "$TMPDIR/tree/hard"
ln -s random "$TMPDIR/tree/soft"
setfattr -n user.kept -v value "$TMPDIR/tree/empty"
setfacl -m u:1234:r "$TMPDIR/tree/empty"
mkfifo "$TMPDIR/tree/fifo"
touch -d '1969-07-20 20:17:40.123456789' "$TMPDIR/tree/empty"
chown 1234:4321 "$TMPDIR/tree/sparse"
rsync -aHAX "$TMPDIR/tree/" "$MNT/tree/"
shardctl wait --timeout 600s "$MNT" >/dev/null
[ "$(getfattr --only-values -n user.shardfs.status "$MNT/tree" 2>/dev/null)" = protected ]
fs_umount
cp -a "$FS/index.db" "$TMPDIR/index.saved"
[ ! -e "$FS/index.db-wal" ] || [ ! -s "$FS/index.db-wal" ] || die "the index was left in pieces"

same_tree() {
	local changes
	diff -r --no-dereference "$TMPDIR/tree" "$MNT/tree" --exclude fifo
	# Names, owners, modes, times, links, xattrs, ACLs: rsync would change nothing.
	changes=$(rsync -aHAXnci --delete "$TMPDIR/tree/" "$MNT/tree/")
	[ -z "$changes" ] || die "differs: $changes"
}
for alone in primary secondary tertiary; do
	rm -rf "$FS/spool" "$FS/cache" "$FS/index.db"*
	cp -a "$TMPDIR/index.saved" "$FS/index.db"
	mkdir "$TMPDIR/hidden"
	for name in primary secondary tertiary; do
		[ "$name" = "$alone" ] || mv "$FS/providers/$name" "$TMPDIR/hidden/"
	done
	fs_mount
	[ -z "$(ls -A "$FS/spool")" ]
	same_tree
	fs_umount
	mv "$TMPDIR"/hidden/* "$FS/providers/"
	rmdir "$TMPDIR/hidden"
	fs_check
	# mounting is in the audit log, so the index has moved on
	cp -a "$FS/index.db" "$TMPDIR/index.saved"
	echo "$alone alone gives everything back"
done
