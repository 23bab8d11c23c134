# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# Every step that has a place in util/hook.h fails, once and then three times in
# a row, before and after it was done, with EIO and with ENOSPC, while a program
# writes.  What it gets is an error or the truth: what was acknowledged reads back
# at once, after a loss of power, and after a clean end.  The daemon lives, and
# the next operation succeeds.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

mapfile -t places < <(hook_places)
[ "${#places[@]}" -ge 20 ]
power_on
fs_make 'shard_size: 1MiB' 'chunk_min: 4KiB' 'chunk_avg: 16KiB' 'chunk_max: 64KiB' \
	'commit_interval: 100ms' 'shard_idle: 100ms' 'cache_size: 0' 'chunk_memory: 0' \
	'deletion_hold: 0s' 'segment_delay_max: 500ms' 'retry_delay: 10ms'
sync "$CONF" "$FS/passphrase" "$FS" "$FS/providers"
cat >"$TMPDIR/work.py" <<'END'
import errno, json, os, random, sys, time
top, memory, hooks, mode = sys.argv[1:5]
must = os.environ["MUST"].split()
known = json.load(open(memory)) if os.path.exists(memory) else {}

def rules(*lines):
    with open(hooks + ".new", "w") as file:
        file.write("".join(line + "\n" for line in lines))
    os.rename(hooks + ".new", hooks)

def check(where):
    for name, seed in known.items():
        with open(f"{top}/{name}", "rb") as file:
            assert file.read() == content(seed), f"{where}: {name} has other bytes"

def content(seed):
    return random.Random(seed).randbytes(15000 + seed % 60 * 256)

def put(name, seed):
    """True: acknowledged.  What fails leaves the name in doubt, and it is never used again."""
    try:
        fd = os.open(f"{top}/{name}.new", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.write(fd, content(seed))
            os.fsync(fd)
            assert os.pread(fd, 1 << 20, 0) == content(seed)
        finally:
            os.close(fd)
        os.rename(f"{top}/{name}.new", f"{top}/{name}")
        fd = os.open(top, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        assert error.errno in (errno.EIO, errno.ENOSPC), error
        return False
    return True

def insist(name, seed):
    """With nothing failing any more it succeeds, in a moment."""
    end = time.monotonic() + 120
    for attempt in range(1 << 30):
        if put(f"{name}-{attempt}", seed):
            known[f"{name}-{attempt}"] = seed
            return
        assert time.monotonic() < end, f"{name}: never succeeds again"
        time.sleep(0.05)

if mode == "check":
    check("afterwards")
    print(f"{len(known)} files are as they were acknowledged")
    sys.exit()
refused = 0
seed = max(known.values(), default=0) # no content comes twice
for place in sys.argv[5:]:
    for error, count in (("EIO", 1), ("ENOSPC", 3)):
        rules(*(f"fail {place} {error} {n + 1}" for n in range(count)))
        for i in range(3):
            seed += 1
            name = f"{place}-{error}-{i}"
            if put(name, seed):
                known[name] = seed
            else:
                refused += 1
        # What is done behind the program's back comes a little later.
        for _ in range(0 if error != "EIO" else 1000 if place in must else 8):
            if os.path.exists(f"{hooks}-fail-{place}"):
                break
            time.sleep(0.03)
    if os.path.exists(f"{hooks}-fail-{place}"):
        print(f"failed: {place}")
    rules()
    seed += 1
    insist(f"{place}-again", seed)
    # Room is made, and something for reclaiming.
    for name in list(known)[:max(0, len(known) - 60)]:
        try:
            os.unlink(f"{top}/{name}")
        except OSError:
            pass
        del known[name]
    json.dump(known, open(memory, "w"))
check("at once")
print(f"{refused} operations were refused")
END
# These must have failed at least once.
must='spool-append-before spool-append-after spool-sync-before spool-sync-after journal-append-before
journal-append-after journal-sync-before journal-sync-after journal-mark-before journal-mark-after
index-apply-before index-apply-after index-checkpoint-before index-checkpoint-after shard-seal-before
shard-seal-after dir-put-before dir-publish-before dir-publish-after copies-note-before
oplog-segment-before oplog-segment-after oplog-put-before'
export MUST=$must
part=8
for ((from = 0; from < ${#places[@]}; from += part)); do
	hooks
	fs_mount
	pid=$(fs_pid)
	python3 "$TMPDIR/work.py" "$MNT" "$TMPDIR/known" "$SHARDFS_HOOKS" work "${places[@]:from:part}" |
		tee -a "$TMPDIR/failed"
	[ "$(fs_pid)" = "$pid" ]
	if [ $((from / part % 2)) -eq 0 ]; then
		power_fail drop
	else
		fs_umount
	fi
	fs_mount
	python3 "$TMPDIR/work.py" "$MNT" "$TMPDIR/known" "$SHARDFS_HOOKS" check
	fs_umount
done
fs_check
for place in $must; do
	grep -qx "failed: $place" "$TMPDIR/failed" || die "$place never failed"
done
echo "$(sort -u "$TMPDIR/failed" | grep -c '^failed') of ${#places[@]} places failed"
power_off
