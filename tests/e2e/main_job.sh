# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# The main job on real input: a file system as ./quickstart makes it, rsync -aHAX
# of programs' documentation and modules into it, three copies of every shard on
# three directories, everything read back after a remount and after a kill.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

fs_make
fs_mount -o allow_other

# Real files, 150 MB of them at most.
mkdir "$TMPDIR/share"
bytes=0
for dir in /usr/share/doc /usr/share/perl /usr/share/man /usr/include /usr/share/zoneinfo; do
	[ -d "$dir" ] || continue
	size=$(du -sbx "$dir" | cut -f 1)
	[ $((bytes + size)) -lt 150000000 ] || continue
	bytes=$((bytes + size))
	tar -C / --xattrs --acls -cf - "${dir#/}" | tar -C "$TMPDIR/share" --xattrs --acls -xpf -
done
[ "$bytes" -gt 5000000 ]
tree=$TMPDIR/share/usr
ln "$(find "$tree" -type f -print -quit)" "$tree/hard-link"
setfattr -n user.canary -v yes "$tree/hard-link"
setfacl -m u:1234:rw "$tree/hard-link"

same_tree() {
	local changes
	diff -r --no-dereference "$tree" "$MNT/share"
	changes=$(rsync -aHAXni --delete "$tree/" "$MNT/share/")
	[ -z "$changes" ] || die "rsync would change: $changes"
}
status_of() {
	getfattr --only-values -n user.shardfs.status "$1" 2>/dev/null
}
shards() { # PROVIDER: names, whatever directory they lie in
	find "$FS/providers/$1" -type f -regextype posix-extended -regex '.*/[0-9a-f]{32}' \
		-printf '%f\n' | sort
}

seconds=$SECONDS
rsync -aHAX "$tree/" "$MNT/share/"
echo "rsync of $(find "$tree" | wc -l) names, $((bytes / 1000000)) MB: $((SECONDS - seconds)) s"
rc=0
shardctl wait --timeout 600s "$MNT/share" >/dev/null || rc=$?
[ "$rc" -eq 0 ] || die "wait says $rc"
[ "$(status_of "$MNT/share")" = protected ]
[ "$(status_of "$MNT/share/hard-link")" = protected ]
[ "$(getfattr --only-values -n user.shardfs.copies "$MNT/share" 2>/dev/null)" = 3/3 ]
same_tree

# Three copies of each shard, and nothing of ours to be seen.
[ "$(shards primary | wc -l)" -ge 2 ]
same_shards() { # what is moved by itself now and then is at each in its own time
	shards primary >"$TMPDIR/shards"
	shards secondary | cmp -s "$TMPDIR/shards" && shards tertiary | cmp -s "$TMPDIR/shards"
}
eventually 60 same_shards
for shard in $(sed -n 1,20p "$TMPDIR/shards"); do
	cmp "$FS"/providers/primary/${shard:0:2}/"$shard" "$FS"/providers/tertiary/${shard:0:2}/"$shard"
done
echo "$(shards primary | wc -l) shards at each provider"

# What no two providers could hold is not waited for.
rc=0
shardctl wait --copies 4 --timeout 1s "$MNT/share" >/dev/null 2>&1 || rc=$?
[ "$rc" -ne 0 ] || die 'four copies at three providers'
rc=0
shardctl wait "$TMPDIR/nowhere" >/dev/null 2>&1 || rc=$?
[ "$rc" -eq 2 ] || [ "$rc" -eq 3 ] || die "wait of nothing says $rc"
rc=0
shardctl wait --copies 0 "$MNT/share" >/dev/null 2>&1 || rc=$?
[ "$rc" -eq 2 ] || die "wait for 0 copies says $rc"

fs_umount
fs_mount -o allow_other
same_tree
[ "$(status_of "$MNT/share")" = protected ]
fs_kill
fs_mount -o allow_other
same_tree
# The second run of a backup that changed a little.
echo changed >>"$tree/hard-link"
rm -rf "$tree/share/man" "$tree/share/perl"
mkdir -p "$tree/new/dir"
head -c 200000 /dev/urandom >"$tree/new/dir/file"
rsync -aHAX --delete "$tree/" "$MNT/share/"
same_tree
shardctl wait --timeout 600s "$MNT/share" >/dev/null
fs_umount
fs_check
