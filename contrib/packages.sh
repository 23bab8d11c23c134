# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Sourced by ./check and ./quickstart: which Debian packages (12 and 13) are
# needed, and how they get here.  Nothing is touched when all are there.

packages_build='build-essential autoconf automake pkgconf libfuse3-dev fuse3 libsqlite3-dev
	libssl-dev libzstd-dev libisal-dev libyaml-dev libjansson-dev'
packages_test='libcriterion-dev clang libclang-rt-dev mandoc xz-utils attr acl rsync jq fio
	python3 sqlite3 git util-linux procps openssl'

# Runs a command as root: as it is, or through sudo, which must not ask.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -n -- "$@"
	fi
}

# packages_missing PACKAGE...: prints those that are not installed.
packages_missing() {
	local package
	for package; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
			grep -qx installed || printf '%s\n' "$package"
	done
}

# packages_install PACKAGE...: installs what is missing; says what.
packages_install() {
	local missing
	if ! command -v dpkg-query >/dev/null; then
		echo 'no dpkg here: the packages must be there already' >&2
		return 0
	fi
	mapfile -t missing < <(packages_missing "$@")
	[ "${#missing[@]}" -gt 0 ] || return 0
	echo "installing ${missing[*]}"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends "${missing[@]}" >/dev/null
}
