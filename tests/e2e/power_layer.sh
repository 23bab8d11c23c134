# SPDX-License-Identifier: Apache-2.0
#
# The disk that forgets (tests/lib/powerfs.c) does so: what a program did not
# sync is lost, what it did is not, in every mode.  The tests that rest on it
# mean nothing otherwise.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

power_on
fails() { # MODE SEED
	lost=$(power lose "$@") || die "$lost"
	must_fail stat "$FS/kept" 2>/dev/null
	must_fail touch "$FS/kept" 2>/dev/null
	power boot >/dev/null
}
write_all() {
	python3 - "$FS" "$1" <<'END'
import mmap, os, sys
top, n = sys.argv[1:]
def put(name, data, sync, flags=os.O_WRONLY | os.O_CREAT):
    fd = os.open(f"{top}/{name}", flags, 0o600)
    os.write(fd, data)
    if sync:
        os.fsync(fd)
    os.close(fd)
def sync_dir(name):
    fd = os.open(f"{top}/{name}", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
os.makedirs(f"{top}/{n}/sub")
sync_dir("."); sync_dir(n)
put(f"{n}/kept", b"k" * 10000, True)
put(f"{n}/no-bytes", b"b" * 10000, False)
put(f"{n}/old", b"o" * 10000, True)
put(f"{n}/target", b"t" * 100, True)
put(f"{n}/source", b"s" * 100, True)
sync_dir(n)
# Not synced from here on.
put(f"{n}/no-name", b"n" * 10000, True)
put(f"{n}/old", b"N" * 9000, False)
os.rename(f"{top}/{n}/source", f"{top}/{n}/target")
os.unlink(f"{top}/{n}/kept")
os.link(f"{top}/{n}/old", f"{top}/{n}/linked")
put(f"{n}/sub/lost", b"l" * 10, True)
# Shared memory is what SQLite's index is made of.
fd = os.open(f"{top}/{n}/mapped", os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, 8192)
m = mmap.mmap(fd, 8192)
m[0:4] = b"shm!"
assert os.pread(fd, 4, 0) == b"shm!"
m.flush()
m.close()
os.close(fd)
os.rename(f"{top}/{n}/mapped", f"{top}/{n}/mapped2")
END
}
has() { # FILE SIZE LETTER
	[ "$(stat -c %s "$FS/$1")" -eq "$2" ] || die "$1 has $(stat -c %s "$FS/$1") bytes, not $2: $lost"
	[ "$2" -eq 0 ] || [ "$(tr -d "$3" <"$FS/$1" | wc -c)" -eq 0 ] || die "$1 has other bytes: $lost"
}
lacks() {
	[ ! -e "$FS/$1" ] || die "$1 is there: $lost"
}

write_all 1
fails drop 1
has 1/kept 10000 k
has 1/no-bytes 0 -
has 1/old 10000 o
has 1/target 100 t
has 1/source 100 s
lacks 1/no-name
lacks 1/linked
lacks 1/mapped2
lacks 1/sub/lost

write_all 2
fails names 1
lacks 2/kept
has 2/no-bytes 0 -
has 2/no-name 10000 n
has 2/old 10000 o
has 2/target 100 s
lacks 2/source
[ "$(stat -c %i "$FS/2/linked")" = "$(stat -c %i "$FS/2/old")" ]

write_all 3
fails data 1
has 3/no-bytes 10000 b
[ "$(head -c 9000 "$FS/3/old" | tr -d N | wc -c)" -eq 0 ]
lacks 3/no-name

write_all 4
fails keep 1
lacks 4/kept
has 4/target 100 s
[ "$(head -c 4 "$FS/4/mapped2")" = 'shm!' ]

# At random: each of the losses is seen, what was synced is always there.
declare -A seen
for ((i = 0; i < 40; i++)); do
	write_all "r$i"
	fails random "$i"
	has "r$i/no-bytes" "$(stat -c %s "$FS/r$i/no-bytes")" 'b\0'
	[ "$(stat -c %s "$FS/r$i/old")" -eq 10000 ]
	[ "$(tr -d 'oN' <"$FS/r$i/old" | wc -c)" -eq 0 ] || die "old has other bytes: $lost"
	[ -e "$FS/r$i/source" ] && has "r$i/target" 100 t || has "r$i/target" 100 s
	for name in no-name kept linked; do
		[ ! -e "$FS/r$i/$name" ] || seen[$name]=1
	done
	[ "$(tr -d o <"$FS/r$i/old" | wc -c)" -eq 0 ] || seen[bytes]=1
	[ "$(stat -c %s "$FS/r$i/no-bytes")" -eq 0 ] || seen[size]=1
done
[ "${#seen[@]}" -eq 5 ] || die "never seen: only ${!seen[*]}"

# One seed, one loss.
for i in a b; do
	write_all "$i"
	fails random 7
	(cd "$FS/$i" && find . -type f -printf '%p %s\n' | sort) >"$TMPDIR/$i"
done
cmp "$TMPDIR/a" "$TMPDIR/b"

# SQLite in WAL mode keeps what a FULL transaction committed.
python3 - "$FS/index.db" <<'END' 2>/dev/null || true
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE t(v)")
for i in range(50):
    db.execute("INSERT INTO t VALUES(?)", (i,))
os.fsync(os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY))
os.kill(os.getpid(), 9)
END
fails random 3
[ "$(python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM t").fetchone()[0])' "$FS/index.db")" -eq 50 ]

# A disk that lies loses what was synced: that is how the tests on it can fail.
power lie >/dev/null
write_all liar
fails drop 1
lacks liar
power_off
