#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# `shardctl snapshot diff` names what changed: a known list, and random changes against what a walk
# over both trees finds.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

diff_is() { # ARGUMENT... : the expected lines on standard input
	cat >"$TMPDIR/want"
	shardctl -m "$MNT" snapshot diff "$@" >"$TMPDIR/got"
	diff "$TMPDIR/want" "$TMPDIR/got" || die "snapshot diff $*"
}
snap() {
	shardctl -m "$MNT" snapshot create "$@" >/dev/null
}

seed_random
fs_make
fs_mount
mkdir -p "$MNT/keep/deep" "$MNT/work/sub" "$MNT/gone/below" "$MNT/moves/inside"
for f in keep/a keep/deep/b work/c work/sub/d gone/e gone/below/f moves/g moves/inside/h work/i; do
	echo "$f" >"$MNT/$f"
done
ln -s c "$MNT/work/link"
ln "$MNT/work/c" "$MNT/work/hard"
snap one
diff_is one </dev/null
diff_is one "$MNT/" </dev/null
echo more >>"$MNT/work/sub/d"
chmod 600 "$MNT/work/i"
rm -r "$MNT/gone"
mv "$MNT/moves" "$MNT/work/moved"
echo new >"$MNT/work/moved/new"
rm "$MNT/work/moved/g"
mv "$MNT/work/moved/inside/h" "$MNT/keep/h2"
echo other >"$MNT/keep/.new" && mv "$MNT/keep/.new" "$MNT/keep/a"
mkdir "$MNT/added"
echo x >"$MNT/added/x"
mv "$MNT/keep/deep" "$MNT/added/deep"
setfattr -n user.x -v y "$MNT/work/sub"
cat >"$TMPDIR/changes" <<'END'
+  added/
R  keep/deep/ -> added/deep/
+  added/x
-  gone/
-  gone/below/
-  gone/below/f
-  gone/e
M  keep/a
R  moves/inside/h -> keep/h2
A  work/i
R  moves/ -> work/moved/
-  work/moved/g
+  work/moved/new
A  work/sub/
M  work/sub/d
END
diff_is one <"$TMPDIR/changes"
snap two
diff_is one two <"$TMPDIR/changes"
diff_is two </dev/null
echo later >"$MNT/later"
diff_is one two <"$TMPDIR/changes"
diff_is two <<<'+  later'
diff_is one "$MNT/keep" <<'END'
M  a
-  deep/
-  deep/b
+  h2
END
shardctl -m "$MNT" snapshot diff two one | grep -x 'R  added/deep/ -> keep/deep/'
shardctl -m "$MNT" snapshot diff two one | grep -x -- '-  added/x'
must_fail shardctl -m "$MNT" snapshot diff none >"$TMPDIR/out"
must_fail shardctl -m "$MNT" snapshot diff one none >"$TMPDIR/out"
must_fail shardctl snapshot diff one "$MNT/added" >"$TMPDIR/out" # was not there
shardctl -m "$MNT" --json snapshot diff two | grep '"change": \?"added"'

# ---- what did not change is not looked at ----
names_read() {
	shardctl -m "$MNT" --json counters | tr -d ' \n' | sed 's/.*"snapshot_diff_names":\([0-9]*\).*/\1/'
}
mkdir -p "$MNT/many/below" "$MNT/few"
for i in $(seq 1500); do
	: >"$MNT/many/below/$i"
done
snap three
echo x >"$MNT/few/x"
before=$(names_read)
diff_is three <<<'+  few/x'
[ "$(($(names_read) - before))" -lt 100 ]
# what moved costs a look at the directories, not one for each file
mkdir "$MNT/other"
mv "$MNT/many/below"/* "$MNT/other/"
before=$(names_read)
shardctl -m "$MNT" snapshot diff three >"$TMPDIR/got"
[ "$(grep -c '^R  many/below/.* -> other/' "$TMPDIR/got")" -eq 1500 ]
[ "$(($(names_read) - before))" -lt 10000 ]
rm -r "$MNT/many" "$MNT/few" "$MNT/other"

# ---- against a walk ----
mkdir "$MNT/random"
export SHARDFS_TEST_SEED
python3 - "$MNT" "$MNT/random" <<'END'
import json, os, random, stat, subprocess, sys

mnt, top = sys.argv[1:]
rng = random.Random(int(os.environ['SHARDFS_TEST_SEED']))
MASK = (1 << 40) - 1


def some(kind):
    found = [top] if kind == 'dir' else []
    for base, dirs, files in os.walk(top):
        found += [os.path.join(base, n) for n in (dirs if kind == 'dir' else files)]
    return rng.choice(found) if found else None


def name_in(directory):
    return os.path.join(directory, 'n%d' % rng.randrange(12))


def step():
    what = rng.randrange(10)
    f, d = some('file'), some('dir')
    try:
        if what < 3:
            with open(name_in(d), 'w') as out:
                out.write('x' * rng.randrange(1, 5000))
        elif what == 3:
            os.mkdir(name_in(d))
        elif what == 4 and f:
            with open(f, 'a') as out:
                out.write('more')
        elif what == 5 and f:
            os.chmod(f, rng.choice([0o600, 0o640, 0o644]))
        elif what == 6 and f:
            os.rename(f, name_in(d))
        elif what == 7 and d != top:
            os.rename(d, name_in(some('dir')))
        elif what == 8 and f:
            os.unlink(f)
        elif d != top and rng.randrange(4) == 0:
            subprocess.run(['rm', '-rf', d], check=True)
        elif d != top:
            os.chmod(d, rng.choice([0o700, 0o755]))
    except OSError:
        pass


def walk(root):
    names, inodes, paths = {}, {}, {}

    def below(path, ino, prefix):
        for n in os.listdir(path):
            p = os.path.join(path, n)
            st = os.lstat(p)
            i = st.st_ino & MASK
            names[(ino, n)] = i
            inodes[i] = st
            paths[i] = prefix + n
            if stat.S_ISDIR(st.st_mode):
                below(p, i, prefix + n + '/')

    ino = os.lstat(root).st_ino & MASK
    paths[ino] = ''
    below(root, ino, '')
    return names, inodes, paths


def expected(old, new):
    on, oi, op = old
    nn, ni, np = new
    lines = set()
    isdir = lambda st: stat.S_ISDIR(st.st_mode)
    slash = lambda st: '/' if isdir(st) else ''
    moved = lambda i: i in oi and i in ni

    def now(i):  # of a directory: the new path, or that of what is gone
        if i in np:
            return np[i]
        parent, name = next(k for k, v in on.items() if v == i)
        return joined(now(parent), name)

    def joined(base, name):
        return base + '/' + name if base else name

    def modified(i, has_moved=False):
        a, b = oi[i], ni[i]
        p = np[i] + slash(b)
        if not isdir(b) and (a.st_size, a.st_mtime_ns) != (b.st_size, b.st_mtime_ns):
            lines.add('M  ' + p)
        elif a.st_mode != b.st_mode:
            lines.add('A  ' + p)
        elif not has_moved and a.st_ctime_ns != b.st_ctime_ns and a.st_mtime_ns == b.st_mtime_ns:
            lines.add('A  ' + p)

    def replaced(k):
        a, b = on[k], nn[k]
        return not isdir(oi[a]) and not isdir(ni[b]) and not moved(a) and not moved(b)

    for k, i in nn.items():
        p = np[i] + slash(ni[i])
        if on.get(k) == i:
            modified(i)
        elif moved(i):
            lines.add('R  %s -> %s' % (op[i] + slash(oi[i]), p))
            modified(i, True)
        elif k in on and replaced(k):
            lines.add('M  ' + p)
        else:
            lines.add('+  ' + p)
    for k, i in on.items():
        if nn.get(k) == i or moved(i) or (k in nn and replaced(k)):
            continue
        lines.add('-  ' + joined(now(k[0]), k[1]) + slash(oi[i]))
    return lines


def shardctl(*args):
    return subprocess.run(['shardctl', '-m', mnt, *args], check=True, stdout=subprocess.PIPE,
                          universal_newlines=True).stdout


trees = {}
for s in range(6):
    for _ in range(rng.randrange(60)):
        step()
    shardctl('snapshot', 'create', 's%d' % s, top)
    trees[s] = walk(os.path.join(mnt, '.shardfs/snapshots/s%d' % s))
for _ in range(20):
    step()
shardctl('sync')
told = 0
for a in range(6):
    for b in range(a, 7):
        if b == 6:
            got = shardctl('snapshot', 'diff', 's%d' % a)
            want = expected(trees[a], walk(top))
        else:
            got = shardctl('snapshot', 'diff', 's%d' % a, 's%d' % b)
            want = expected(trees[a], trees[b])
        lines = got.splitlines()
        told += len(lines)
        if len(set(lines)) != len(lines) or set(lines) != want:
            print('from', a, 'to', b, file=sys.stderr)
            print('missing:', sorted(want - set(lines)), file=sys.stderr)
            print('too much:', sorted(set(lines) - want), file=sys.stderr)
            sys.exit(1)
assert told > 100, told
END
fs_umount
fs_check
