package flujotest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Connect connects to a database and closes the connection at the end of the test.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// One returns the one value of a query as text; "NULL" for NULL.
func One(t testing.TB, conn *pgx.Conn, query string, args ...any) string {
	t.Helper()
	var v *string
	if err := conn.QueryRow(context.Background(), "SELECT ("+query+")::text", args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if v == nil {
		return "NULL"
	}
	return *v
}

// Exec executes statements on the server.
func Exec(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Leftovers lists what a run may have left in the database: schemas, extensions, relations (other than PostgreSQL's
// own) and advisory locks.
func Leftovers(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	return One(t, conn, `SELECT coalesce(string_agg(what, ', ' ORDER BY what), '') FROM (
		SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'
			AND nspname NOT IN ('public', 'information_schema')
		UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
		UNION ALL SELECT 'relation ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
		UNION ALL SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) x(what)`)
}

// Tamperer creates an event trigger that executes the statements passed to do inside the transaction of a migration,
// after the rows are copied and before they are verified: when the last sequence is set.
func Tamperer(t testing.TB, url string) (do func(damage string)) {
	t.Helper()
	conn := Connect(t, url)
	set := func(damage string) {
		Exec(t, conn, fmt.Sprintf(
			`CREATE OR REPLACE FUNCTION public.tamper() RETURNS event_trigger LANGUAGE plpgsql AS $tamper$ BEGIN
			IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'flujo.evaluations_id_seq')
				AND NOT EXISTS (SELECT FROM pg_settings WHERE name = 'tamper.done' AND setting = 'yes')
					AND current_setting('tamper.done', true) IS DISTINCT FROM 'yes' THEN
				PERFORM set_config('tamper.done', 'yes', true);
				SET LOCAL search_path = flujo, public;
				%s;
				SET LOCAL search_path = pg_catalog, pg_temp;
			END IF;
		END $tamper$`, damage))
	}
	set("NULL")
	Exec(t, conn, "CREATE EVENT TRIGGER tamper ON ddl_command_end WHEN TAG IN ('ALTER SEQUENCE') "+
		"EXECUTE FUNCTION public.tamper()")
	return set
}

// OneAt returns the one value of a query as text, on a new connection.
func OneAt(t testing.TB, url, query string, args ...any) string {
	t.Helper()
	conn := Connect(t, url)
	defer conn.Close(context.Background())
	return One(t, conn, query, args...)
}

// ExecAt executes statements on a new connection.
func ExecAt(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn := Connect(t, url)
	defer conn.Close(context.Background())
	Exec(t, conn, statements...)
}

// Catalog lists the names of all objects in a database.
func Catalog(t testing.TB, url string) string {
	t.Helper()
	return OneAt(t, url, `SELECT string_agg(what, E'\n' ORDER BY what) FROM (
		SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
		UNION ALL SELECT format('extension %s %s in %s', extname, extversion, extnamespace::regnamespace)
			FROM pg_extension
		UNION ALL SELECT format('relation %s.%s', relnamespace::regnamespace, relname) FROM pg_class
		UNION ALL SELECT 'type ' || oid::regtype FROM pg_type
		UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc
		UNION ALL SELECT 'access method ' || amname FROM pg_am
		UNION ALL SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) x(what)`)
}

// WantCatalog tests that the database has the same objects as before, a result of Catalog.
func WantCatalog(t testing.TB, url, before string) {
	t.Helper()
	want, got := strings.Split(before, "\n"), strings.Split(Catalog(t, url), "\n")
	for _, object := range got {
		if !slices.Contains(want, object) {
			t.Errorf("unexpected in the database: %s", object)
		}
	}
	for _, object := range want {
		if !slices.Contains(got, object) {
			t.Errorf("missing in the database: %s", object)
		}
	}
}

// Writes returns statements that Flujo executes in PostgreSQL: they add the run "new", update run1, delete run2
// and store state.
func Writes(run1, run2 string) []string {
	return []string{
		"SET search_path = flujo, public",
		"INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) " +
			"VALUES ('new', 'p', 'n', '1', 'running', now(), now())",
		`INSERT INTO workflow_state (run_id, pipeline_id, pipeline_name, pipeline_version, current_step_index,
			pipeline_context, last_step_output, status, created_at, updated_at, is_background_task)
			VALUES ('new', 'p', 'n', '1', 1, '{"z": 1.50, "a": [1e2, "x\u00e9"]}', 'null', 'running', now(),
				now(), true)`,
		`INSERT INTO steps (run_id, step_name, step_index, status, output, cost_usd, created_at)
			VALUES ('new', 's', 0, 'completed', NULL, 0.1, now()),
				('new', 't', 1, 'completed', '"text"', 2.5e-7, now())`,
		`INSERT INTO spans (run_id, span_id, name, start_time, status, attributes, created_at) ` +
			`VALUES ('new', 'r', 'root', 1767603600.123456789, 'ok', '{}', now())`,
		`INSERT INTO traces (run_id, trace_data, created_at) VALUES ('new', '{"span_id": "r", "own": true}', now())`,
		"INSERT INTO evaluations (run_id, score, feedback) VALUES ('new', 0.3, 'good')",
		fmt.Sprintf("UPDATE runs SET status = 'completed', updated_at = now(), memory_usage_mb = 1.1 "+
			"WHERE run_id = '%s'", run1),
		fmt.Sprintf(`UPDATE workflow_state SET pipeline_context = '{"now": true}', updated_at = now() `+
			`WHERE run_id = '%s'`, run1),
		fmt.Sprintf("UPDATE steps SET output = 'null' WHERE id = (SELECT min(id) FROM steps "+
			"WHERE run_id = '%s')", run1),
		fmt.Sprintf("DELETE FROM runs WHERE run_id = '%s'", run2),
		fmt.Sprintf("DELETE FROM workflow_state WHERE run_id = '%s'", run2),
		"INSERT INTO system_state (key, value, updated_at) VALUES ('tracker:3', '{\"k\": 4}', now()) " +
			"ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, updated_at = EXCLUDED.updated_at",
		"INSERT INTO evaluations (run_id, score) VALUES ('new', 0.1)",
		"DELETE FROM evaluations WHERE id = 17", // the row just inserted, so that 17 is the last allocated id
	}
}
