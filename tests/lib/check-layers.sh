#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The rules of the house that grep can check: no room includes one beside or
# above it, every source has its licence line, every source is in its
# local.mk, and nothing names a path of some machine or a host of some registry.
set -u
cd "${SHARDFS_SRCDIR:-$(dirname "$0")/../..}" || exit 99
bad=0
complain() {
	printf '%s\n' "$*"
	bad=1
}

declare -A height=(
	[util]=0
	[crypto]=1 [codec]=1 [config]=1
	[backends]=2 [index]=2
	[store]=3
	[ctl]=4
	[fs]=5 [tools]=5
)
prune=(-path ./.git -o -path './test-*' -type d -o -path './wt-*' -type d -o -path ./build -o -name _build -o -name _inst
	-o -name build-aux -o -name autom4te.cache -o -name '.deps' -o -path ./bin)
mapfile -t files < <(find . \( "${prune[@]}" \) -prune -o -type f \( -name '*.[ch]' -o -name '*.sh' \
	-o -name '*.mk' -o -name '*.sql' -o -name '*.am' -o -name '*.ac' -o -name '*.md' \
	-o -name '*.py' -o -name '*.[1-8]' -o -path ./check -o -path ./quickstart \
	-o -path ./bench/run -o -path ./.ci/run \) -print | sort)
[ "${#files[@]}" -gt 20 ] || complain "found only ${#files[@]} files: wrong directory?"

for file in "${files[@]}"; do
	case $file in
	*.md) ;;
	*) grep -q -m1 'SPDX-License-Identifier: Apache-2.0' "$file" ||
		complain "$file: no SPDX line" ;;
	esac
	case $file in
	./src/*/*.[ch]) room=${file#./src/} room=${room%%/*} ;;
	./backends/*.[ch]) room=backends ;;
	./fs/*.[ch]) room=fs ;;
	*) continue ;;
	esac
	grep -qF "${file#./}" "${file%/*}/local.mk" 2>/dev/null ||
		complain "$file is in no local.mk: \`make dist\` would leave it out"
	mine=${height[$room]-}
	if [ -z "$mine" ]; then
		complain "$file: $room is no room (tests/lib/check-layers.sh has the list)"
		continue
	fi
	while IFS=: read -r line include; do
		other=${include%%/*}
		[ "$include" = config.h ] && continue
		theirs=${height[$other]-}
		if [ "$other" = "$include" ] || [ -z "$theirs" ]; then
			complain "$file:$line: \"$include\" is not a full path from the top"
		elif [ "$other" != "$room" ] && [ "$theirs" -ge "$mine" ]; then
			complain "$file:$line: room $room may not include \"$include\""
		fi
	done < <(sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p;=' "$file" |
		awk '/^[0-9]+$/ { if (inc != "") print $0 ":" inc; inc = ""; next } { inc = $0 }')
done

# Brackets keep these patterns from finding themselves.
machine='/wor[k]/(wt|main|shared)|/roo[t]/|/hom[e]/[a-z]'
registry='pypi[.]org|pythonhosted[.]org|npmjs[.]|crates[.]io|proxy[.]golang|goprox[y]|docker[.]io'
registry="$registry|gh[c]r[.]io|deb[.]debian|artifactor[y]|nexu[s]/repository|:[/][/]10[.]|192[.]168[.]"
grep -nE "$machine" "${files[@]}" && complain 'the lines above name a path of some machine'
grep -nE "$registry" "${files[@]}" && complain 'the lines above name a host of some registry'
exit "$bad"
