#!/bin/sh
# Makes sure that a PostgreSQL server, version 13 or later, is installed: its
# programs only, no service. Quiet and 0 when one is there; otherwise installs
# one with apt-get, dnf, apk or brew, and says so on stderr.
#
# With --check it installs nothing: it fails where none could be installed, and
# where there is one without the clients that the tests call, psql and pg_dump.
#
# FLUJO_PORT_PG_SEARCH, a colon-separated list of glob patterns, replaces the
# folders looked in apart from PATH. They are those of internal/pgtest/findbin.go.
set -u

min_version=13
search=${FLUJO_PORT_PG_SEARCH-/usr/lib/postgresql/*/bin:/usr/pgsql-*/bin:/usr/libexec/postgresql*:/opt/homebrew/opt/postgresql@*/bin:/opt/homebrew/opt/postgresql/bin:/usr/local/opt/postgresql@*/bin:/usr/local/opt/postgresql/bin:/home/linuxbrew/.linuxbrew/opt/postgresql*/bin:/Applications/Postgres.app/Contents/Versions/*/bin}

say() { echo "ensure-postgres: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# usable DIR: DIR holds initdb and a new enough postgres.
usable() {
	[ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
	major=$("$1/postgres" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9][0-9]*\).*/\1/p')
	[ -n "$major" ] && [ "$major" -ge "$min_version" ]
}

# has_clients DIR: DIR holds psql and pg_dump.
has_clients() { [ -x "$1/psql" ] && [ -x "$1/pg_dump" ]; }

# some TEST: TEST is true of some folder on PATH or of the search list.
some() {
	test=$1
	old_ifs=$IFS
	IFS=:
	set -f # PATH is taken as it is
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

# as_root CMD…: runs CMD as root, through sudo when need be.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif have sudo; then
		sudo "$@"
	else
		fail "installing needs root, and there is no sudo; as root run: $*"
	fi
}

install_apt() {
	say "installing PostgreSQL with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update >&2 || fail "apt-get update failed"
	# Debian makes a "main" cluster and starts it, unless told not to. The file
	# that tells it goes again when this script ends.
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

# check: what --check does.
check() {
	if found; then
		some has_clients && exit 0
		fail "a PostgreSQL server is installed, and its clients psql and pg_dump are not; install the package with them (Debian: postgresql-client)"
	fi
	for tool in apt-get dnf apk brew; do
		have "$tool" || continue
		if [ "$tool" = brew ] || [ "$(id -u)" -eq 0 ] || have sudo; then
			exit 0
		fi
		fail "no PostgreSQL $min_version or later found, and to install one with $tool needs root, or sudo; as root run: scripts/ensure-postgres.sh"
	done
	fail "$none"
}

none="no PostgreSQL $min_version or later found, and none of apt-get, dnf, apk, brew to install one with; install the server's package by hand"

[ "${1-}" != --check ] || check
found && exit 0
for tool in apt-get dnf apk brew; do
	have "$tool" || continue
	case $tool in
	apt-get) install_apt ;;
	*) "install_$tool" ;;
	esac
	found && exit 0
	fail "$tool installed a PostgreSQL that will not do: version $min_version or later is needed, with initdb and postgres"
done
fail "$none"
