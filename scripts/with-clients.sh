#!/bin/sh
# Runs a command with FLUJO_PORT_TEST_PGBOUNCER, FLUJO_PORT_TEST_ASYNCPG,
# FLUJO_PORT_TEST_ZSH and FLUJO_PORT_TEST_FISH set: the programs pgbouncer, zsh and
# fish, and a Python that has asyncpg, Flujo's driver. Usage:
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

packages="pgbouncer python3-asyncpg zsh fish"
if ! pgbouncer >/dev/null || ! python >/dev/null || ! have zsh || ! have fish; then
	have apt-get || fail "PgBouncer, asyncpg, zsh and fish are needed: install the packages $packages of your system"
	say "installing $packages with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update >&2 || fail "apt-get update failed"
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages >&2 ||
		fail "apt-get could not install $packages"
fi
FLUJO_PORT_TEST_PGBOUNCER=$(pgbouncer) || fail "the installed package has no program pgbouncer"
FLUJO_PORT_TEST_ASYNCPG=$(python) || fail "no Python has the installed package asyncpg"
FLUJO_PORT_TEST_ZSH=$(command -v zsh) || fail "the installed package has no program zsh"
FLUJO_PORT_TEST_FISH=$(command -v fish) || fail "the installed package has no program fish"
export FLUJO_PORT_TEST_PGBOUNCER FLUJO_PORT_TEST_ASYNCPG FLUJO_PORT_TEST_ZSH FLUJO_PORT_TEST_FISH
exec "$@"
