#!/bin/sh
# Runs a command with FLUJO_PORT_TEST_PGBOUNCER, FLUJO_PORT_TEST_ASYNCPG,
# FLUJO_PORT_TEST_ALEMBIC, FLUJO_PORT_TEST_ZSH and FLUJO_PORT_TEST_FISH set: the programs
# pgbouncer, zsh and fish, a Python that has asyncpg, Flujo's driver, and one that has
# Alembic and psycopg2. Usage: scripts/with-clients.sh COMMAND… Installs what is missing
# with apt-get; Debian's package of PgBouncer may start it as a service.
set -u

say() { echo "with-clients: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

pgbouncer() { PATH=$PATH:/usr/sbin command -v pgbouncer; }

# python MODULES: prints a Python that has the modules.
python() {
	for program in python3 /usr/bin/python3; do
		"$program" -c "import $1" 2>/dev/null && command -v "$program" && return
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

packages="pgbouncer python3-asyncpg python3-alembic python3-psycopg2 zsh fish"
if ! pgbouncer >/dev/null || ! python asyncpg >/dev/null || ! python alembic,psycopg2 >/dev/null ||
	! have zsh || ! have fish; then
	have apt-get || fail "PgBouncer, asyncpg, Alembic, psycopg2, zsh and fish are needed: install the packages of your system (Debian: $packages)"
	say "installing $packages with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update >&2 || fail "apt-get update failed"
	# shellcheck disable=SC2086 # a list
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages >&2 ||
		fail "apt-get could not install $packages"
fi
FLUJO_PORT_TEST_PGBOUNCER=$(pgbouncer) || fail "the installed package has no program pgbouncer"
FLUJO_PORT_TEST_ASYNCPG=$(python asyncpg) || fail "no Python has the installed package asyncpg"
FLUJO_PORT_TEST_ALEMBIC=$(python alembic,psycopg2) || fail "no Python has the installed packages Alembic and psycopg2"
FLUJO_PORT_TEST_ZSH=$(command -v zsh) || fail "the installed package has no program zsh"
FLUJO_PORT_TEST_FISH=$(command -v fish) || fail "the installed package has no program fish"
export FLUJO_PORT_TEST_PGBOUNCER FLUJO_PORT_TEST_ASYNCPG FLUJO_PORT_TEST_ALEMBIC FLUJO_PORT_TEST_ZSH \
	FLUJO_PORT_TEST_FISH
exec "$@"
