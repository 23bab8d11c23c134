# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# Key slots as a user has them: added, changed, removed at every provider (also one that was away),
# two factors, a recovery key, shares for custodians, slots kept elsewhere; wrong ones are told.
# Nothing secret is in a log, in home, at a provider, or on a command line.  Each step of a change is
# killed: the old credentials or the new ones open it.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

export SHARDFS_MOUNT=$MNT
log=$FS/shardfs.log
secret() { # FILE: a fresh passphrase
	(umask 077 && head -c 24 /dev/urandom | base64 >"$1")
}
opens() { # PASSPHRASE_FILE [KEY_FILE]: a mount with just these
	{
		printf 'home: %s\npassphrase_file: %s\n' "$FS" "$1"
		[ -z "${2:-}" ] || printf 'key_file: %s\n' "$2"
		sed -n '/^providers:/,$p' "$CONF"
	} >"$TMPDIR/other.yaml"
	shardfs "$TMPDIR/other.yaml" "$MNT" >"$TMPDIR/opens.log" 2>&1 || return 1
	fs_umount
}
fails_with() { # STATUS COMMAND...
	local want=$1 rc=0
	shift
	"$@" >"$TMPDIR/out" 2>&1 || rc=$?
	[ "$rc" -eq "$want" ] || die "status $rc, not $want: $*: $(cat "$TMPDIR/out")"
}
says() {
	grep -q -- "$1" "$TMPDIR/out" || die "does not say $1: $(cat "$TMPDIR/out")"
}
superblocks_agree() {
	local name
	for name in primary secondary tertiary; do
		cmp -s "$FS/superblock" "$FS/providers/$name/index/superblock" || return 1
	done
}
slot_count() {
	shardctl --json key list | jq '.slots | length'
}
all_confirmed() {
	[ "$(shardctl --json key status | jq .pending)" -eq 0 ]
}

fs_make
sed "s|^passphrase_file: .*|passphrase_file: $TMPDIR/third|" "$CONF" >"$TMPDIR/wrong.yaml"
fs_mount
eventually 60 providers_answer
echo hello >"$MNT/file"
secret "$TMPDIR/second"
secret "$TMPDIR/third"
secret "$TMPDIR/keyfile"

# Two factors: only both open it.
fails_with 2 shardctl key add
shardctl --json key add --passphrase-file "$TMPDIR/second" --key-file "$TMPDIR/keyfile" \
	--label 'both of us' >"$TMPDIR/added"
slot=$(jq .slot "$TMPDIR/added")
[ "$(jq .pending "$TMPDIR/added")" -eq 0 ]
superblocks_agree
shardctl key list | has 'both of us *passphrase and key file'
chmod 644 "$TMPDIR/keyfile"
fails_with 7 shardctl key add --key-file "$TMPDIR/keyfile"
chmod 600 "$TMPDIR/keyfile"
fs_umount
fails_with 7 shardfs "$TMPDIR/wrong.yaml" "$MNT"
must_fail opens "$TMPDIR/second"
grep -q 'wrong passphrase or key file' "$TMPDIR/opens.log"
opens "$TMPDIR/second" "$TMPDIR/keyfile"
must_fail opens "$TMPDIR/second" "$TMPDIR/third"
opens "$FS/passphrase"

# Changed: the new ones open it, the old ones do not.
fs_mount
eventually 60 providers_answer # who has not yet counts as away
shardctl key change "$slot" --passphrase-command "cat $TMPDIR/third" >/dev/null
fails_with 2 shardctl key change 77 --passphrase-file "$TMPDIR/third"
says 'no such slot'
fs_umount
must_fail opens "$TMPDIR/second" "$TMPDIR/keyfile"
opens "$TMPDIR/third"

# A recovery key is shown once, and may be typed in any form.
fs_mount
eventually 60 providers_answer
shardctl key recovery >"$TMPDIR/paper"
grep -q 'SRK1-' "$TMPDIR/paper"
(umask 077 && sed -n '/SRK1/,$p' "$TMPDIR/paper" | tr 'A-Z' 'a-z' >"$TMPDIR/typed")
# Custodians: two of three.
mkdir "$TMPDIR/shares"
fails_with 2 shardctl key split --shares 2 --threshold 3
shardctl key split --shares 3 --threshold 2 --output "$TMPDIR/shares" >"$TMPDIR/split"
mapfile -t shares < <(ls "$TMPDIR"/shares/*)
[ "${#shares[@]}" -eq 3 ]
[ "$(stat -c %a "${shares[0]}")" = 600 ]
fails_with 7 shardctl key combine "${shares[0]}"
says '2 shares are needed'
fails_with 7 shardctl key combine "${shares[0]}" "${shares[0]}"
sed 's/\(SSK1-....-....-\)./\1Z/;t;' "${shares[1]}" >"$TMPDIR/wrong-share"
cmp -s "${shares[1]}" "$TMPDIR/wrong-share" ||
	fails_with 7 shardctl key combine "${shares[0]}" "$TMPDIR/wrong-share"
[ "$(slot_count)" -eq 4 ]
fs_umount
opens "$TMPDIR/typed"
{
	printf 'home: %s\n' "$FS"
	printf 'passphrase_command: shardctl key combine %s %s\n' "${shares[2]}" "${shares[0]}"
	sed -n '/^providers:/,$p' "$CONF"
} >"$TMPDIR/shares.yaml"
CONF=$TMPDIR/shares.yaml fs_mount
grep -qx hello "$MNT/file"
fs_umount

# Recovered from one provider with shares, on a machine that has nothing else.
sed -e "s|^home: .*|home: $TMPDIR/new-home|" -e '/^passphrase_command/d' "$TMPDIR/shares.yaml" \
	>"$TMPDIR/new.yaml"
fails_with 7 shardfs-recover --share "${shares[1]}" "$TMPDIR/new.yaml"
shardfs-recover --list --share "${shares[1]}" --share "${shares[2]}" "$TMPDIR/new.yaml" |
	has complete
rm -rf "$TMPDIR/new-home"

# Removed while a provider is away: pending, and named, until it is back.
fs_mount
eventually 60 providers_answer
mv "$FS/providers/tertiary" "$FS/providers/gone"
fails_with 6 shardctl key remove "$slot"
says tertiary
shardctl --json key status | jq -e '.providers.tertiary.superblock != "confirmed" and
	.providers.primary.superblock == "confirmed" and .pending == 1' >/dev/null
mv "$FS/providers/gone" "$FS/providers/tertiary"
eventually 120 all_confirmed
superblocks_agree
eventually 60 grep -q 'superblock-rewritten provider=tertiary' "$log"
fs_umount
must_fail opens "$TMPDIR/third"
opens "$FS/passphrase"

# The last one stays.
fs_mount
eventually 60 providers_answer
for no in $(shardctl --json key list | jq -r '.slots | keys[] | select(. != "0")'); do
	shardctl key remove "$no" >/dev/null
done
fails_with 5 shardctl key remove 0
says 'last slot'
# A damaged or older superblock at a provider is written again, and named.
cp "$FS/providers/primary/index/superblock" "$TMPDIR/older"
shardctl key change 0 --passphrase-file "$FS/passphrase" >/dev/null
fs_umount
cp "$TMPDIR/older" "$FS/providers/primary/index/superblock"
fs_mount
eventually 60 all_confirmed
superblocks_agree
eventually 60 grep -q 'superblock-older provider=primary' "$log"

# What the daemon is made of: no core, memory locked, no secret where one could look.
pid=$(fs_pid)
grep -q '^Max core file size *0 *0 ' "/proc/$pid/limits"
[ "$(awk '/^VmLck/ { print $2 }' "/proc/$pid/status")" -ge 1024 ] ||
	has secrets-not-locked "$log"
for file in "$FS/passphrase" "$TMPDIR/second" "$TMPDIR/third" "$TMPDIR/keyfile"; do
	word=$(head -n 1 "$file")
	must_fail grep -rqF -- "$word" "$LOG" "$log" "$FS/journal" "$FS/oplog" "$FS/providers" "$FS/index.db"
	must_fail grep -qF -- "$(printf %s "$word" | od -An -tx1 | tr -d ' \n')" "$LOG" "$log"
done
must_fail grep -rqE 'S[RS]K1-' "$LOG" "$log" "$FS/journal" "$FS/oplog" "$FS/providers"
if [ -r "/proc/$pid/mem" ] && secret "$TMPDIR/probe"; then
	# After the request the daemon's memory has the passphrase nowhere, in no form.
	shardctl key add --passphrase-file "$TMPDIR/probe" >/dev/null
	python3 - "$pid" "$TMPDIR/probe" <<'END'
import sys
pid, word = sys.argv[1], open(sys.argv[2], 'rb').read().strip()
bad = []
with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb') as mem:
    for line in maps:
        span, mode = line.split()[:2]
        if 'r' not in mode or 'w' not in mode:
            continue
        first, last = (int(x, 16) for x in span.split('-'))
        if last - first > 1 << 30:
            continue  # a sanitizer's shadow
        try:
            mem.seek(first)
            data = mem.read(last - first)
        except (OSError, ValueError):
            continue
        # a part from within: the allocator writes over the first bytes of what is freed
        if word[12:28] in data or word[12:28].hex().encode() in data:
            bad.append(line.strip())
sys.exit('the passphrase is in memory: ' + '; '.join(bad) if bad else 0)
END
fi
fs_umount
SHARDFS_SELF_TEST_SPOILT=aes-256-gcm fails_with 1 shardfs "$CONF" "$MNT"

# Slots elsewhere: nothing at a provider opens it.
sed "1a key_slots: detached\nslots_file: $TMPDIR/slots" "$CONF" >"$TMPDIR/detached.yaml"
plain=$CONF CONF=$TMPDIR/detached.yaml
fs_mount
eventually 60 all_confirmed
superblocks_agree
[ -s "$TMPDIR/slots" ]
shardctl key add --passphrase-file "$TMPDIR/second" >/dev/null
shardctl key export-slots "$TMPDIR/exported"
fs_umount
CONF=$plain
fails_with 7 shardfs "$CONF" "$MNT"
says 'kept elsewhere'
sed "1a slots_file: $TMPDIR/exported" "$CONF" >"$TMPDIR/attached.yaml"
CONF=$TMPDIR/attached.yaml fs_mount
eventually 60 all_confirmed
fs_umount
opens "$TMPDIR/second"

# Killed at each step of a change.
for place in key-home-before key-home-after superblock-heal-before superblock-heal-after; do
	fs_mount
	secret "$TMPDIR/new"
	pid=$(fs_pid)
	hooks "kill $place"
	shardctl key change 0 --passphrase-file "$TMPDIR/new" >/dev/null 2>&1 || true
	eventually 60 hook_killed "$place"
	fs_clear "$pid"
	hooks
	if opens "$FS/passphrase"; then
		[ "$place" = key-home-before ]
	else
		opens "$TMPDIR/new"
		cp "$TMPDIR/new" "$FS/passphrase"
	fi
	fs_mount
	eventually 60 all_confirmed
	superblocks_agree
	grep -qx hello "$MNT/file"
	fs_umount
done
fs_check
