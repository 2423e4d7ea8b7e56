#!/bin/sh
# Installs the programs of a PostgreSQL server, version 13 or later, with
# apt-get, dnf, apk or brew, unless they are installed. It starts no service.
# Prints nothing and exits with 0 if they are installed; otherwise reports on
# stderr what it does.
#
# With --check it installs nothing. It fails if no server is installed and none
# could be installed, or if one is installed without the clients that the tests
# run, psql and pg_dump.
#
# FLUJO_PORT_PG_SEARCH, a colon-separated list of glob patterns, replaces the
# folders that are searched after PATH. The default is the list in
# internal/pgtest/findbin.go.
set -u

min_version=13
search=${FLUJO_PORT_PG_SEARCH-/usr/lib/postgresql/*/bin:/usr/pgsql-*/bin:/usr/libexec/postgresql*:/opt/homebrew/opt/postgresql@*/bin:/opt/homebrew/opt/postgresql/bin:/usr/local/opt/postgresql@*/bin:/usr/local/opt/postgresql/bin:/home/linuxbrew/.linuxbrew/opt/postgresql*/bin:/Applications/Postgres.app/Contents/Versions/*/bin}

say() { echo "ensure-postgres: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# usable DIR: succeeds if DIR holds initdb and a postgres that is new enough.
usable() {
	[ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
	major=$("$1/postgres" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9][0-9]*\).*/\1/p')
	[ -n "$major" ] && [ "$major" -ge "$min_version" ]
}

# has_clients DIR: succeeds if DIR holds psql and pg_dump.
has_clients() { [ -x "$1/psql" ] && [ -x "$1/pg_dump" ]; }

# some TEST: succeeds if TEST does for a folder on PATH or in the search list.
some() {
	test=$1
	old_ifs=$IFS
	IFS=:
	set -f # PATH holds no patterns
	# shellcheck disable=SC2086 # split at the colons
	set -- $PATH
	set +f # the search list's patterns expand
	# shellcheck disable=SC2086
	set -- "$@" $search
	IFS=$old_ifs
	for dir in "$@"; do
		"$test" "$dir" && return 0
	done
	return 1
}

found() { some usable; }

# as_root CMD…: runs CMD as root, with sudo if necessary.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif have sudo; then
		sudo "$@"
	else
		fail "the installation needs root, and sudo is not installed; as root run: $*"
	fi
}

install_apt() {
	say "installing PostgreSQL with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update >&2 || fail "apt-get update failed"
	# Debian's package creates and starts a "main" cluster unless this setting
	# disables it. The file is removed when this script ends.
	no_cluster=/etc/postgresql-common/createcluster.d/flujo-port.conf
	as_root mkdir -p "${no_cluster%/*}" || fail "cannot create ${no_cluster%/*}"
	trap 'as_root rm -f "$no_cluster"' EXIT
	trap 'exit 130' INT TERM
	echo "create_main_cluster = false" | as_root tee "$no_cluster" >/dev/null || fail "cannot write $no_cluster"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql >&2 ||
		fail "apt-get could not install postgresql"
}

install_dnf() {
	say "installing PostgreSQL with dnf"
	as_root dnf install -y postgresql-server >&2 || fail "dnf could not install postgresql-server"
}

install_apk() {
	say "installing PostgreSQL with apk"
	as_root apk add --no-cache postgresql postgresql-client >&2 || fail "apk could not install postgresql"
}

install_brew() {
	say "installing PostgreSQL with brew"
	brew install postgresql@17 >&2 || fail "brew could not install postgresql@17"
}

# check: implements --check.
check() {
	if found; then
		some has_clients && exit 0
		fail "a PostgreSQL server is installed, but its clients psql and pg_dump are not; install their package (Debian: postgresql-client)"
	fi
	for tool in apt-get dnf apk brew; do
		have "$tool" || continue
		if [ "$tool" = brew ] || [ "$(id -u)" -eq 0 ] || have sudo; then
			exit 0
		fi
		fail "found no PostgreSQL $min_version or later, and its installation with $tool needs root or sudo; as root run: scripts/ensure-postgres.sh"
	done
	fail "$none"
}

none="found neither PostgreSQL $min_version or later nor apt-get, dnf, apk or brew to install it; install the server's package manually"

[ "${1-}" != --check ] || check
found && exit 0
for tool in apt-get dnf apk brew; do
	have "$tool" || continue
	case $tool in
	apt-get) install_apt ;;
	*) "install_$tool" ;;
	esac
	found && exit 0
	fail "the PostgreSQL that $tool installed cannot be used: version $min_version or later with initdb and postgres is needed"
done
fail "$none"
