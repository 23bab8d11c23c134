# SPDX-License-Identifier: Apache-2.0
# time-limit: 400
#
# Snapshots are made and deleted while the tree is written, cut, renamed, linked, cloned and removed,
# what is not needed is reclaimed, and the daemon ends in the midst, by umount or SIGKILL.  What each
# snapshot shows is what the tree was when it was made, to the byte.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

work() { # SEED: some rounds; what snapshots must show is kept in $TMPDIR/snapshots
	python3 - "$1" "$MNT" "$TMPDIR/snapshots" <<'END'
import hashlib, os, pickle, random, shutil, subprocess, sys

rng = random.Random(int(sys.argv[1]))
mnt, state = sys.argv[2], sys.argv[3]
live = mnt + "/live"
snapshots = pickle.load(open(state, "rb")) if os.path.exists(state) else {}
os.makedirs(live, exist_ok=True)

def ctl(*arguments, must=True):
    done = subprocess.run(["shardctl", "--mount", mnt, *arguments], capture_output=True, text=True)
    if must and done.returncode != 0:
        sys.exit(f"shardctl {arguments}: exit {done.returncode}: {done.stdout}{done.stderr}")

def describe(top):
    found = {}
    for at, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(at, name)
            st = os.lstat(path)
            told = [st.st_mode, st.st_uid]
            if os.path.islink(path):
                told.append(os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    told += [st.st_size, st.st_mtime_ns, hashlib.sha256(file.read()).hexdigest()]
                told += sorted((x, os.getxattr(path, x)) for x in os.listxattr(path))
            found[os.path.relpath(path, top)] = told
    return found

def verify(name):
    found = describe(f"{mnt}/.shardfs/snapshots/{name}/live")
    for path in sorted(set(found) | set(snapshots[name])):
        if found.get(path) != snapshots[name].get(path):
            sys.exit(f"{name}: {path}: {found.get(path)}, not {snapshots[name].get(path)}")

def some_file():
    files = [os.path.join(at, name) for at, _, names in os.walk(live) for name in names]
    return rng.choice(sorted(files)) if files else None

def some_place(name):
    return os.path.join(rng.choice(sorted(at for at, _, _ in os.walk(live))), name)

def overwrite(file):
    with open(file, "r+b") as out:
        out.seek(rng.randrange(400000))
        out.write(rng.randbytes(rng.choice([100, 70000])))

def write(file):
    with open(some_place(f"n{rng.randrange(40)}"), "wb") as out:
        out.write(rng.randbytes(rng.choice([10, 5000, 300000])))

STEPS = [
    (25, write),
    (15, overwrite),
    (10, lambda file: os.truncate(file, rng.randrange(300000))),
    (10, lambda file: os.rename(file, some_place(f"n{rng.randrange(40)}"))),
    (8, os.unlink),
    (6, lambda file: os.mkdir(some_place(f"d{rng.randrange(9)}"))),
    (6, lambda file: os.link(file, some_place(f"l{rng.randrange(30)}"))),
    (4, lambda file: os.symlink("x" * rng.randrange(1, 50), some_place(f"s{rng.randrange(30)}"))),
    (4, lambda file: os.chmod(file, rng.choice([0o600, 0o644, 0o755]))),
    (4, lambda file: os.setxattr(file, "user.a", rng.randbytes(20))),
    (3, lambda file: shutil.rmtree(some_place(f"d{rng.randrange(9)}"))),
    (5, lambda file: ctl("clone", file, f"{file}-c{rng.randrange(5)}", must=False)),
]

for turn in range(8):
    for _ in range(rng.randrange(5, 60)):
        step = rng.choices([s for _, s in STEPS], [w for w, _ in STEPS])[0]
        file = some_file()
        try:
            (step if file else write)(file)
        except OSError:
            pass  # a name that is taken, a directory in its place
    if rng.random() < 0.5 or not snapshots:
        name = f"s{sys.argv[1]}-{turn}"
        now = describe(live)
        ctl("snapshot", "create", name)
        snapshots[name] = now
    if rng.random() < 0.35 and len(snapshots) > 1:
        name = rng.choice(sorted(snapshots))
        ctl("snapshot", "delete", name)
        del snapshots[name]
    if rng.random() < 0.3:
        ctl("cleanup", "run", must=False)
    verify(rng.choice(sorted(snapshots)))
for name in sorted(snapshots):
    verify(name)
pickle.dump(snapshots, open(state, "wb"))
print(len(snapshots), "snapshots,", len(describe(live)), "entries now")
END
}

seed_random
cycles=4
[ -z "${SHARDFS_LONG:-}" ] || cycles=40
fs_make 'shard_size: 1MiB' 'shard_idle: 100ms' 'deletion_hold: 0s' 'segment_delay_max: 500ms' \
	'chunk_memory: 0' 'cache_size: 0'
fs_mount
for cycle in $(seq "$cycles"); do
	work $((SHARDFS_TEST_SEED % 1000000 + cycle))
	if [ $((RANDOM % 3)) -eq 0 ]; then
		fs_umount
	else
		fs_kill
	fi
	fs_mount
done
work $((SHARDFS_TEST_SEED % 1000000))
fs_umount
fsck.shardfs -n --deep --providers "$CONF"
