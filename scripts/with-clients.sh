#!/bin/sh
# Runs a command with FLUJO_PORT_TEST_PGBOUNCER and FLUJO_PORT_TEST_ASYNCPG set: the
# program pgbouncer, and a Python that has asyncpg, Flujo's driver. Usage:
# scripts/with-clients.sh COMMAND… Installs what is missing with apt-get; Debian's package
# of PgBouncer may start it as a service.
set -u

say() { echo "with-clients: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

pgbouncer() { PATH=$PATH:/usr/sbin command -v pgbouncer; }

python() {
	for program in python3 /usr/bin/python3; do
		"$program" -c 'import asyncpg' 2>/dev/null && command -v "$program" && return
	done
	return 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif have sudo; then
		sudo "$@"
	else
		fail "the installation needs root, and sudo is not installed; as root run: $*"
	fi
}

if ! pgbouncer >/dev/null || ! python >/dev/null; then
	have apt-get || fail "PgBouncer and asyncpg are needed: install the packages pgbouncer and python3-asyncpg of your system"
	say "installing pgbouncer and python3-asyncpg with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update >&2 || fail "apt-get update failed"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer python3-asyncpg >&2 ||
		fail "apt-get could not install pgbouncer and python3-asyncpg"
fi
FLUJO_PORT_TEST_PGBOUNCER=$(pgbouncer) || fail "the installed package has no program pgbouncer"
FLUJO_PORT_TEST_ASYNCPG=$(python) || fail "no Python has the installed package asyncpg"
export FLUJO_PORT_TEST_PGBOUNCER FLUJO_PORT_TEST_ASYNCPG
exec "$@"
