#!/bin/sh
# Checks what `make test` needs: the Go version of go.mod, gofmt, a C compiler
# that builds programs (for the race detector), Python (for the programs in docs),
# disk space, and PostgreSQL, which scripts/ensure-postgres.sh installs if it can. Prints nothing and exits with 0
# if nothing is missing. Otherwise lists on stderr what is missing and how to get
# it, and exits with 1 before anything is installed or built.
#
# GO names the go command, as in the Makefile.
set -u
cd "$(dirname "$0")/.." || exit 1

# Disk space that a run needs. Measured on two cores with empty caches: at most
# 590 MB in TMPDIR, the servers included, and 660 MB in the build cache after the run. More cores run
# more tests and servers at a time.
tmp_mb=1500
cache_mb=1000
modules_mb=800 # of modules, if they have not been downloaded

go=${GO:-go}
tmp=${TMPDIR:-/tmp}
missing=0

have() { command -v "$1" >/dev/null 2>&1; }

# lack WHAT HOW: reports what is missing and how to get it.
lack() {
	missing=$((missing + 1))
	printf 'ensure-test-tools: %s\n    %s\n' "$1" "$2" >&2
}

# install APT DNF APK BREW: prints the command that installs a package here.
install() {
	if have apt-get; then
		echo "apt-get install $1"
	elif have dnf; then
		echo "dnf install $2"
	elif have apk; then
		echo "apk add $3"
	elif have brew; then
		echo "$4"
	else
		echo "install it with your system's package manager (Debian: $1)"
	fi
}

# older GOVERSION VERSION: succeeds if the first is less than the second. Release
# candidates and development versions count as the release.
older() {
	printf '%s\n' "$1" "$2" | awk '
		{ sub(/.*go/, ""); sub(/[^0-9.].*/, ""); split($0, v, "."); n[NR] = (v[1] * 1000 + v[2]) * 1000 + v[3] }
		END { exit !(n[1] < n[2]) }'
}

check_go() {
	want=$(sed -n 's/^go //p' go.mod)
	get="install Go $want or later from https://go.dev/dl/ and put its folder bin on PATH"
	if ! have "$go"; then
		go=
		lack "Go is missing: no \"${GO:-go}\" on PATH" "$get"
		return
	fi
	# In this folder Go 1.21 or later reports the toolchain that go.mod requires.
	# With GOTOOLCHAIN=auto an older Go downloads that toolchain and fails if it
	# cannot; it reports both on stderr.
	[ -z "$("$go" env GOTOOLCHAIN 2>/dev/null)" ] || get="$get, or let go download it: GOTOOLCHAIN=auto"
	if ! version=$("$go" env GOVERSION); then
		lack "Go $want or later is needed, and $go does not provide it (see its message above)" "$get"
	elif older "$version" "$want"; then
		lack "Go is $version, and go.mod needs $want" "$get"
	fi
	have gofmt || lack "gofmt is not on PATH" "it is part of Go: put the folder $("$go" env GOROOT)/bin on PATH"
}

# check_tmp creates the folder $work.
check_tmp() {
	if ! work=$(mktemp -d "$tmp/ensure-test-tools.XXXXXX" 2>/dev/null); then
		work=
		lack "cannot create files in $tmp, the folder for temporary files" "set TMPDIR to a folder that you can write to"
		return
	fi
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
}

check_cc() {
	cc=${CC:-gcc}
	[ -z "$go" ] || cc=$("$go" env CC 2>/dev/null) || cc=${CC:-gcc}
	get=$(install "gcc libc6-dev" "gcc glibc-devel" "gcc musl-dev" "xcode-select --install")
	if ! have "${cc%% *}"; then
		lack "the C compiler, which the race detector needs, is missing: no \"${cc%% *}\" on PATH" "$get, or set CC"
		return
	fi
	[ -n "$work" ] || return
	# shellcheck disable=SC2086 # CC may hold arguments
	if ! printf '%s\n' '#include <stdlib.h>' '#include <pthread.h>' 'int main(void) { return 0; }' |
		$cc -x c -o "$work/program" - -lpthread 2>"$work/errors"; then
		lack "the C compiler \"$cc\" cannot build programs: $(awk '/error|cannot|not found/ { print; exit }' "$work/errors")" \
			"its headers or libraries are missing: $get"
	elif ! "$work/program" 2>/dev/null; then
		lack "cannot run programs in $tmp, the folder for temporary files, which go test uses" \
			"set TMPDIR to a folder on a file system that is not mounted noexec"
	fi
}

check_python() {
	get=$(install "python3" "python3" "python3 tzdata" "brew install python")
	if ! have python3; then
		lack "Python, which runs the programs in docs, is missing: no \"python3\" on PATH" "$get"
	elif ! python3 -c 'import sqlite3, zoneinfo; zoneinfo.ZoneInfo("Europe/Berlin")' 2>/dev/null; then
		lack "python3 is older than 3.9, or lacks sqlite3 or the time zones" "$get"
	fi
}

# existing PATH: prints PATH, or its nearest parent folder that exists.
existing() {
	path=$1
	while [ ! -d "$path" ] && [ "$path" != "${path%/*}" ]; do
		path=${path%/*}
	done
	echo "${path:-/}"
}

# check_space adds the needs of the two folders if they share a file system.
check_space() {
	cache=
	[ -z "$go" ] || cache=$("$go" env GOCACHE 2>/dev/null)
	# Modules are usually on the disk of the build cache.
	modules=
	[ -z "$go" ] || modules=$("$go" env GOMODCACHE 2>/dev/null)
	[ -z "$modules" ] || [ -d "$modules/modernc.org" ] || cache_mb=$((cache_mb + modules_mb))
	short=$(df -Pk "$(existing "$tmp")" "$(existing "${cache:-$tmp}")" 2>/dev/null | awk -v tmp="$tmp" -v cache="$cache" \
		-v tmp_mb=$tmp_mb -v cache_mb=$cache_mb '
		function tell(where, free, need) {
			if (free < need) printf "%d MB free in %s, %d MB needed\n", free, where, need
		}
		NR > 1 {
			for (i = NF; i > 1 && $i !~ /^[0-9]+%$/; i--);
			free[NR] = $(i - 1) / 1024
			disk[NR] = $1 " " $NF
		}
		END {
			if (NR != 3) exit
			if (cache == "") tell(tmp, free[2], tmp_mb)
			else if (disk[2] == disk[3]) tell(tmp " and " cache, free[2], tmp_mb + cache_mb)
			else { tell(tmp, free[2], tmp_mb); tell(cache, free[3], cache_mb) }
		}')
	[ -z "$short" ] || lack "too little disk space: $short" \
		"free some, or set TMPDIR (temporary files) or GOCACHE (Go's build cache) to a folder on another disk"
}

check_go
check_tmp
check_cc
check_python
check_space
scripts/ensure-postgres.sh --check || missing=$((missing + 1))
[ "$missing" -eq 0 ] || exit 1
scripts/ensure-postgres.sh
