#!/bin/sh
# Demonstrates a cutover on a throwaway server: a dry run, the migration, and
# some queries of the audit trail. Run it with `make demo`. It refuses to run on
# a server that internal/pgtest/throwaway did not start.
set -eu

cd "$(dirname "$0")/.."
if [ "${FLUJO_PORT_THROWAWAY-}" != 1 ]; then
	echo "demo: it writes to the database that DATABASE_URL names, so it runs only on a throwaway server: run \`make demo\`" >&2
	exit 2
fi
command -v psql >/dev/null 2>&1 || {
	echo "demo: psql is not on PATH: install PostgreSQL's client programs" >&2
	exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

export PGCLIENTENCODING=UTF8 # independent of the terminal's locale
heading() { printf '== %s\n\n' "$*"; }
ask() {
	heading "$1"
	psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --pset=pager=off --pset=footer=off --command="$2"
}

CGO_ENABLED=0 go build -o "$work/flujo-port" ./cmd/flujo-port
set -- --sqlite testdata/flujo_state.db
vector=$(psql --no-psqlrc --tuples-only --no-align \
	--command="SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
if [ "$vector" = 0 ]; then
	set -- "$@" --without-pgvector # the server does not have pgvector
fi

heading "Dry run: flujo-port migrate $* --dry-run"
"$work/flujo-port" migrate "$@" --dry-run
echo

heading "Migration: flujo-port migrate $*"
"$work/flujo-port" migrate "$@"
echo

ask "Runs by status" "
	SELECT status, count(*) AS runs, min(created_at) AS first, max(created_at) AS last
	FROM flujo.runs GROUP BY status ORDER BY runs DESC, status"

ask "Cost per pipeline" "
	SELECT pipeline_name, count(DISTINCT run_id) AS runs, count(*) AS steps,
	       sum(token_counts) AS tokens, round(sum(cost_usd::numeric), 6) AS cost_usd
	FROM flujo.runs JOIN flujo.steps USING (run_id)
	GROUP BY pipeline_name ORDER BY cost_usd DESC NULLS LAST"

ask "Slowest steps" "
	SELECT step_name, steps.execution_time_ms, pipeline_name, run_id
	FROM flujo.steps JOIN flujo.runs USING (run_id)
	ORDER BY steps.execution_time_ms DESC NULLS LAST, id LIMIT 5"

ask "Failed runs" "
	SELECT run_id, created_at, split_part(error_message, E'\n', 1) AS error
	FROM flujo.runs WHERE status = 'failed' ORDER BY created_at"

ask "Traces: root spans and the number of their children" "
	SELECT run_id, trace_data->>'name' AS root_span,
	       jsonb_array_length(trace_data->'children') AS children
	FROM flujo.traces ORDER BY created_at, run_id LIMIT 5"
