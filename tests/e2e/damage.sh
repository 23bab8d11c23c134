# SPDX-License-Identifier: Apache-2.0
# time-limit: 400
#
# Three providers.  Any one is damaged in every way: everything reads right, from nothing but
# providers, and scrub heals it to the byte; then another one: right again.  With all copies of
# something damaged: an error, never wrong bytes, named by path; other files are not affected.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

PROVIDERS='primary secondary tertiary'
SHARD_NAME='????????????????????????????????'
export SHARDFS_MOUNT=$MNT

# Background scrub is off: what is found here is found by what is called here.
fs_make 'shard_size: 1MiB' 'shard_idle: 100ms' 'cache_size: 0' 'chunk_memory: 0' 'read_ahead: 0' \
	'scrub_period: 0' 'scrub_list_period: 0' 'deletion_hold: 0s' 'retry_attempts: 1'
for name in $PROVIDERS; do
	: >"$TMPDIR/fault-$name"
	sed -i "s,^    path: .*/$name\$,&\n    fault_file: $TMPDIR/fault-$name," "$CONF"
done

make_tree() { # DIR
	local i
	mkdir -p "$1/small" "$1/deep/er"
	for i in $(seq 20); do
		head -c "$((i * 2113))" /dev/urandom >"$1/small/$i"
	done
	head -c 12M /dev/urandom >"$1/big"
	head -c 100000 /dev/urandom | tee "$1/deep/twice" >"$1/deep/er/twice"
	head -c 64K /dev/urandom >"$1/sparse"
	truncate -s 3M "$1/sparse"
	: >"$1/nothing"
	ln "$1/small/3" "$1/deep/hard"
	ln -s ../big "$1/deep/soft"
	setfattr -n user.colour -v blue "$1/small/4"
}
describe() { # DIR
	(cd "$1" && find . -type d -printf '%p %m\n' -o -printf '%p %y %m %s %l\n' | LC_ALL=C sort &&
		getfattr -R -h -d -m '^user\.' . | LC_ALL=C sort &&
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}
spool_is_empty() {
	[ -z "$(find "$FS/spool" -type f)" ]
}
# Nothing local is left to read from: all comes from providers, as the command leaves them.
remount() { # [COMMAND...]: while nobody writes to them
	eventually 60 spool_is_empty
	fs_umount
	rm -rf "$FS/cache"
	"$@"
	fs_mount
	[ "$*" = take_away ] || eventually 60 providers_answer
}
reads_right() {
	describe "$MNT/tree" >"$TMPDIR/found"
	diff "$TMPDIR/expected" "$TMPDIR/found" || die "$1: another tree"
}
shards_of() { # PROVIDER
	find "$FS/providers/$1" -type f -name "$SHARD_NAME" | sort
}
flip() { # FILE OFFSET
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
	printf "\\x$(printf %02x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
# All objects of a provider but its marker; the daemon may write a segment meanwhile.
empty_provider() { # PROVIDER
	eventually 60 rm -rf "$FS/providers/$1"/*
}
save() {
	for name in $PROVIDERS; do
		(cd "$FS/providers/$name" && find ./?? -type f -print0 | xargs -0 sha256sum) \
			>"$TMPDIR/saved-$name"
	done
}
primary_is_ok() {
	shardctl provider list | has '^primary .* ok '
}
scrub() { # EXPECTED-EXIT ARGUMENT...: the answer is in $TMPDIR/scrub.json
	local rc=0 want=$1
	shift
	shardctl --json scrub "$@" >"$TMPDIR/scrub.json" 2>"$TMPDIR/scrub.err" || rc=$?
	[ "$rc" -eq "$want" ] || die "scrub $*: exit $rc: $(cat "$TMPDIR/scrub.json" "$TMPDIR/scrub.err")"
}
told() { # KEY: its value
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
		"$TMPDIR/scrub.json" "$1"
}
# All copies are what they were, to the byte, and everything authenticates.
is_healed() { # ROUND
	echo "$SECONDS s: $1"
	scrub 0 --deep
	[ "$(told verified_ok)" -eq "$((3 * $(told shards)))" ] || die "$1: $(cat "$TMPDIR/scrub.json")"
	for name in $PROVIDERS; do
		(cd "$FS/providers/$name" && sha256sum --quiet -c "$TMPDIR/saved-$name") ||
			die "$1: $name has other bytes"
	done
}

# Every object in one of these ways.
damage_each() { # PROVIDER
	python3 - "$FS/providers/$1" <<'END'
import glob, os, sys
root = sys.argv[1]

def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 16]))

shards = sorted(glob.glob(root + "/??/" + "?" * 32))
assert len(shards) >= 11, len(shards)
for i, path in enumerate(shards[2:]):
    size = os.path.getsize(path)
    blocks = (size + 1048575) // 1048576
    kind = i % 9
    if kind < 5:
        flip(path, [10,                       # header
                    2000,                     # record
                    size - 72 - 16 * blocks - 20, # footer
                    size - 72 - 8,            # MAC of a block
                    size - 40][kind])         # MAC of the whole
    elif kind == 5:
        os.truncate(path, size // 2)
    elif kind == 6:
        os.truncate(path, 0)
    elif kind == 7:
        os.unlink(path)
    else:
        open(path, "ab").write(b"more")
one, other = open(shards[0], "rb").read(), open(shards[1], "rb").read()
open(shards[0], "wb").write(other)
open(shards[1], "wb").write(one)
for i, path in enumerate(sorted(glob.glob(root + "/index/*"))):
    size = os.path.getsize(path)
    if i % 4 == 0:
        os.unlink(path)
    elif i % 4 == 1:
        flip(path, size // 2)
    else:
        os.truncate(path, 0 if i % 4 == 2 else size - 1)
open(root + "/README.txt", "w").write("foreign")
os.mkdir(root + "/photos")
open(root + "/photos/cat.jpg", "w").write("foreign")
END
}

fs_mount
mkdir "$MNT/tree"
shardctl wait "$MNT" >/dev/null
make_tree "$TMPDIR/source"
cp -a "$FS/providers/primary/index" "$TMPDIR/old-index" # of before
cp -a "$TMPDIR/source/." "$MNT/tree/"
sync "$MNT/tree/big"
describe "$TMPDIR/source" >"$TMPDIR/expected"
shardctl wait "$MNT" >/dev/null
shardctl cleanup run >/dev/null # nothing is left to be moved by itself, later
save
[ "$(shards_of primary | wc -l)" -ge 11 ] || die 'too few shards'
remount
reads_right 'undamaged'
is_healed 'undamaged'
oldest() {
	shardctl --json scrub status |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["oldest_verified"])'
}
verified=$(oldest)
[[ $verified == 20* ]]
remount # what was read back is remembered
[ "$(oldest)" = "$verified" ]

for provider in $PROVIDERS; do
	remount damage_each "$provider"
	reads_right "$provider damaged"
	scrub 4 --deep
	[ "$(told lost)" -eq 0 ] && [ "$(told unrepaired)" -eq 0 ] && [ "$(told foreign)" -eq 2 ] ||
		die "$(cat "$TMPDIR/scrub.json")"
	is_healed "$provider damaged"
	[ "$(cat "$FS/providers/$provider/photos/cat.jpg")" = foreign ]
	rm -r "$FS/providers/$provider"/{photos,README.txt}

	# emptied, the marker left
	remount empty_provider "$provider"
	reads_right "$provider emptied" # and readers tell repair, which may be done at once
	rc=0
	shardctl scrub >/dev/null || rc=$?
	[ "$rc" -eq 0 ] || [ "$rc" -eq 4 ] || die "$provider emptied: scrub: exit $rc"
	shardctl wait "$MNT" >/dev/null # what readers told is repaired apart from what scrub finds
	is_healed "$provider emptied"
	empty_provider "$provider"
	scrub 4
	[ "$(told missing)" -gt 0 ]
	is_healed "$provider emptied again"
done

# The marker gone too: the provider is away until it is there again.
take_away() {
	cp -a "$FS/providers/primary" "$TMPDIR/primary"
	find "$FS/providers/primary" -mindepth 1 -delete
}
remount take_away
reads_right 'without marker'
scrub 3
grep -q 'not listed: primary' "$TMPDIR/scrub.err"
find "$TMPDIR/primary" -maxdepth 1 -name '.*' -type f -exec cp -a {} "$FS/providers/primary/" \;
eventually 120 primary_is_ok
scrub 4
is_healed 'marker is back'

# Index objects of long ago, superblock and all; at once, for the daemon writes there.
cp -a "$TMPDIR/old-index" "$FS/providers/secondary/.old-index"
python3 - "$FS/providers/secondary" <<'END'
import ctypes, os, sys
os.chdir(sys.argv[1])
RENAME_EXCHANGE = 2
if ctypes.CDLL(None, use_errno=True).renameat2(-100, b".old-index", -100, b"index", RENAME_EXCHANGE) < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
END
eventually 60 rm -rf "$FS/providers/secondary/.old-index"
scrub 4
[ "$(told index_bad)" -gt 0 ] && [ "$(told unrepaired)" -eq 0 ] || die "$(cat "$TMPDIR/scrub.json")"
is_healed 'rolled back'

# One object that its provider cannot read.
object=$(basename "$(shards_of tertiary | sed -n 1p)")
echo "GET EIO prefix=$object" >"$TMPDIR/fault-tertiary"
scrub 4 --deep --provider tertiary
[ "$(told unreadable)" -eq 1 ] && [ "$(told unrepaired)" -eq 1 ] || die "$(cat "$TMPDIR/scrub.json")"
[ "$(getfattr --only-values -n user.shardfs.integrity "$MNT/tree")" = corrupt ]
: >"$TMPDIR/fault-tertiary"
is_healed 'unreadable'
[[ $(getfattr --only-values -n user.shardfs.integrity "$MNT/tree") == verified\ * ]]

# Two at once: what is left of each shard is the third.
two_at_once() {
	damage_each tertiary
	empty_provider primary
}
remount two_at_once
reads_right 'one left'
scrub 4 --deep
is_healed 'one left'
rm -r "$FS/providers/tertiary"/{photos,README.txt}

# All copies of one shard: an error, and only where it is used.
for name in $PROVIDERS; do shards_of "$name"; done >"$TMPDIR/before"
head -c 300000 /dev/urandom >"$MNT/alone"
sum=$(sha256sum <"$MNT/alone")
shardctl wait "$MNT" >/dev/null
for name in $PROVIDERS; do shards_of "$name"; done >"$TMPDIR/after"
mapfile -t objects < <(comm -13 <(sort "$TMPDIR/before") <(sort "$TMPDIR/after"))
[ "${#objects[@]}" -eq 3 ] || die "objects: ${objects[*]}"
cp -a "${objects[1]}" "$TMPDIR/good"
flip "${objects[0]}" 5000
: >"${objects[1]}"
rm "${objects[2]}"
remount
if cat "$MNT/alone" >"$TMPDIR/read" 2>"$TMPDIR/read.err"; then
	die 'what nobody has was read'
fi
grep -q 'Input/output error' "$TMPDIR/read.err"
cmp "$TMPDIR/read" <(head -c "$(stat -c %s "$TMPDIR/read")" /dev/zero) 2>/dev/null &&
	[ -s "$TMPDIR/read" ] && die 'zeros were read'
reads_right 'others'
scrub 1 --deep
[ "$(told lost)" -eq 1 ]
[ "$(told lost_files)" -eq 1 ]
[ "$(told lost_paths)" = "['/alone']" ]
[ "$(shardctl --json stat "$MNT/alone" | python3 -c 'import json, sys; print(json.load(sys.stdin)["status"])')" = lost ]
[ "$(getfattr --only-values -n user.shardfs.status "$MNT/tree")" = protected ]
# one good copy comes back by hand: all is well again
cp "$TMPDIR/good" "${objects[1]}"
scrub 4 --deep
[ "$(told lost)" -eq 0 ] && [ "$(told unrepaired)" -eq 0 ] || die "$(cat "$TMPDIR/scrub.json")"
scrub 0 --deep "$MNT/alone"
remount
[ "$(sha256sum <"$MNT/alone")" = "$sum" ]

# An object that comes back after its deletion is an orphan.
rm "$MNT/alone"
shardctl cleanup run >/dev/null
must_fail test -e "${objects[1]}"
cp "$TMPDIR/good" "${objects[1]}"
touch -d '1 hour ago' "${objects[1]}"
echo mine >"$FS/providers/secondary/mine"
shardctl cleanup run --dry-run >"$TMPDIR/plan"
grep -q "^orphan [a-z]* $(basename "${objects[1]}")" "$TMPDIR/plan"
test -e "${objects[1]}"
shardctl cleanup run >/dev/null
test -e "${objects[1]}"
shardctl cleanup run --orphans >/dev/null
must_fail test -e "${objects[1]}"
[ "$(cat "$FS/providers/secondary/mine")" = mine ]
reads_right 'after it all'
fs_umount
fs_check
