# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# A policy that changes over data that is there: what is below follows, says so only once the
# copies exist, and a kill in the middle loses nothing of it.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

attr() { # NAME PATH
	getfattr --absolute-names --only-values -n "user.shardfs.$1" "$2"
}
attr_is() { # NAME VALUE PATH
	[ "$(attr "$1" "$3")" = "$2" ]
}
set_policy() { # TEXT PATH
	setfattr -n user.shardfs.policy -v "$1" "$2"
}
has_policy() { # WORD PATH
	[[ ",$(attr policy "$2")," == *",$1,"* ]]
}
shards_of() { # PROVIDER
	find "$FS/providers/$1" -type f -printf '%f\n' | grep -cxE '[0-9a-f]{32}' || true
}
make_tree() { # DIR
	mkdir -p "$1/a/b"
	for i in 1 2 3 4 5 6 7 8; do
		head -c 400000 /dev/urandom >"$1/a/b/file-$i"
		head -c $((i * 700)) /dev/urandom >"$1/a/small-$i"
	done
}

fs_make 'shard_size: 1MiB' 'shard_idle: 100ms' 'repack_bandwidth: 0'
fs_mount
set_policy copies=1 "$MNT"
make_tree "$TMPDIR/source"
mkdir "$MNT/top"
cp -a "$TMPDIR/source" "$MNT/top/tree"
shardctl sync "$MNT"
eventually 120 attr_is status protected "$MNT"
attr_is copies 1/1 "$MNT/top/tree/a/b/file-1"

# Stronger: protected means three copies, also for what lies deep below.
before=$(($(shards_of primary) + $(shards_of secondary) + $(shards_of tertiary)))
[ "$before" -gt 0 ]
set_policy copies=3 "$MNT/top/tree"
until attr_is status protected "$MNT/top/tree"; do
	must_fail attr_is status lost "$MNT/top/tree"
	sleep 0.05
done
attr_is copies 3/3 "$MNT/top/tree"
for file in a/b/file-1 a/small-8 a/b; do
	has_policy copies=3 "$MNT/top/tree/$file"
	attr_is copies 3/3 "$MNT/top/tree/$file"
done
must_fail has_policy copies=3 "$MNT/top"
diff -r "$TMPDIR/source" "$MNT/top/tree"
head -c 5000 /dev/urandom >"$MNT/top/tree/a/b/new"
has_policy copies=3 "$MNT/top/tree/a/b/new"
rm "$MNT/top/tree/a/b/new"

# Removed: back to the one above.
setfattr -x user.shardfs.policy "$MNT/top/tree"
eventually 120 has_policy copies=1 "$MNT/top/tree/a/b/file-1"
must_fail has_policy copies=3 "$MNT/top/tree/a"

# From one tree into another.
mkdir "$MNT/weak" "$MNT/strong"
set_policy copies=1 "$MNT/weak"
set_policy copies=2 "$MNT/strong"
make_tree "$TMPDIR/second"
cp -a "$TMPDIR/second" "$MNT/weak/tree"
mv "$MNT/weak/tree" "$MNT/strong/tree"
eventually 120 has_policy copies=2 "$MNT/strong/tree/a/b/file-3"
eventually 120 attr_is status protected "$MNT/strong"
attr_is copies 2/2 "$MNT/strong/tree/a/b/file-3"
diff -r "$TMPDIR/second" "$MNT/strong/tree"

# What asks for less than the tree around it does not hold that back.
mkdir "$MNT/more"
set_policy copies=3 "$MNT/more"
mkdir "$MNT/more/less"
set_policy copies=1 "$MNT/more/less"
head -c 100000 /dev/urandom >"$MNT/more/less/file"
shardctl wait "$MNT/more/less" >/dev/null
attr_is copies 1/1 "$MNT/more/less/file"
timeout 300 shardctl wait "$MNT/more" >/dev/null
attr_is status protected "$MNT/more"

# Killed at each step: the next mount goes on.
for place in converge-rows-before converge-rows-after converge-data-before converge-data-after \
	gc-move-commit-after converge-done-before; do
	dir=$MNT/killed-$place
	make_tree "$TMPDIR/$place"
	mkdir "$dir"
	cp -a "$TMPDIR/$place" "$dir/tree"
	shardctl sync "$MNT"
	eventually 120 attr_is status protected "$dir"
	pid=$(fs_pid)
	hooks "kill $place"
	set_policy copies=3 "$dir" || true # it may die before the answer
	eventually 60 hook_killed "$place"
	fs_clear "$pid"
	hooks
	fs_mount
	set_policy copies=3 "$dir" # what was not answered may be lost
	eventually 120 has_policy copies=3 "$dir/tree/a/b/file-8"
	eventually 120 attr_is status protected "$dir"
	attr_is copies 3/3 "$dir"
	diff -r "$TMPDIR/$place" "$dir/tree"
done
fs_umount
fsck.shardfs --deep "$CONF"
