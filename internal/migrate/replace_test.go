package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/sqltext"
	"flujo-port/internal/verify"

	"github.com/jackc/pgx/v5"
)

// writesToPostgres holds statements that Flujo executes in PostgreSQL after a cutover.
var writesToPostgres = []string{
	`INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at,
		memory_usage_mb)
		VALUES ('of postgres', 'p', 'p', '1', 'completed', now(), now(), 0.1)`,
	`INSERT INTO steps (run_id, step_name, step_index, status, output, cost_usd, created_at)
		VALUES ('of postgres', 's', 0, 'completed', '{"a": 1.10, "b": "ü"}', 0.1, now()),
			('of postgres', 't', 1, 'failed', NULL, NULL, now())`,
	`INSERT INTO spans (run_id, span_id, name, start_time, status, attributes, created_at) ` +
		`VALUES ('of postgres', 'a', 'root', 1767603600.85748, 'completed', '{}', now())`,
	`INSERT INTO traces (run_id, trace_data, created_at) VALUES ('of postgres', '{"span_id": "a"}', now())`,
	`INSERT INTO workflow_state (run_id, pipeline_id, pipeline_name, pipeline_version, current_step_index,
		pipeline_context, status, created_at, updated_at)
		VALUES ('of postgres', 'p', 'p', '1', 1, '{"x": [1, null, "y"]}', 'paused', now(), now())`,
	`INSERT INTO evaluations (run_id, step_name, score) VALUES ('of postgres', 's', 0.25)`,
	`INSERT INTO system_state (key, value) VALUES ('of postgres', '1')`,
	`UPDATE runs SET status = 'failed', error_message = 'late' WHERE run_id = (SELECT run_id FROM steps WHERE id = 7)`,
	`DELETE FROM runs WHERE run_id = (SELECT run_id FROM steps WHERE id = 1)`,
}

// writesToFile holds statements that Flujo executes on the file after a rollback.
var writesToFile = []string{
	"PRAGMA foreign_keys = ON",
	`INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at)
		VALUES ('of the file', 'p', 'p', '1', 'completed', '2026-01-06T09:00:00+00:00', '2026-01-06T09:00:01+00:00')`,
	`INSERT INTO steps (run_id, step_name, step_index, status, output, cost_usd, created_at)
		VALUES ('of the file', 's', 0, 'completed', '{"a": 1}', 0.7, '2026-01-06T09:00:00+00:00')`,
	`UPDATE workflow_state SET status = 'cancelled' WHERE rowid = 2`,
	`DELETE FROM runs WHERE run_id = (SELECT run_id FROM steps WHERE id = 100)`,
	`DELETE FROM system_state WHERE rowid = 1`,
}

// migrateAndDiverge migrates the fixture and then writes to the database and to a copy of the fixture. It returns a
// connection with the schema on its search_path, and the path of the copy.
func migrateAndDiverge(t testing.TB, url string) (conn *pgx.Conn, file string) {
	t.Helper()
	o := flujotest.Options(t, flujotest.Fixture, url)
	flujotest.Migrate(t, o)
	conn = flujotest.Connect(t, o.Cutover.Reveal())
	flujotest.Exec(t, conn, writesToPostgres...)
	return conn, flujotest.Changed(t, writesToFile...)
}

// replaceOptions returns the options of migrate --replace.
func replaceOptions(t testing.TB, file, url string) migrate.Options {
	t.Helper()
	o := flujotest.Options(t, file, url)
	o.Replace = true
	return o
}

// replaceNow runs a migration with --replace. It repeats it if the archive schema of this second exists.
func replaceNow(t testing.TB, o migrate.Options) *report.Migration {
	t.Helper()
	for {
		result, err := migrate.Run(context.Background(), o)
		if err == nil {
			return result
		}
		if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "already exists") {
			t.Fatal(err)
		}
	}
}

// stateTables returns the tables that hold state, without memories.
func stateTables() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(flujotest.Tables)),
		func(name string) bool { return name == "flujo_schema_versions" })
}

// copySchema copies the tables of state, and the given ones, to a new schema.
func copySchema(t testing.TB, conn *pgx.Conn, to string, tables ...string) {
	t.Helper()
	flujotest.Exec(t, conn, "CREATE SCHEMA "+sqltext.Ident(to))
	for _, table := range slices.Concat(stateTables(), tables) {
		flujotest.Exec(t, conn, fmt.Sprintf("CREATE TABLE %s.%s AS TABLE %s", sqltext.Ident(to), table, table))
	}
}

// wantSameRows tests that the tables of two schemas have the same rows, as text.
func wantSameRows(t testing.TB, conn *pgx.Conn, a, b string, tables ...string) {
	t.Helper()
	for _, table := range slices.Concat(stateTables(), tables) {
		a, b := sqltext.Ident(a)+"."+table, sqltext.Ident(b)+"."+table
		got := flujotest.One(t, conn, fmt.Sprintf(`SELECT count(*) FROM (
			(SELECT x::text FROM %[1]s x EXCEPT ALL SELECT x::text FROM %[2]s x)
			UNION ALL (SELECT x::text FROM %[2]s x EXCEPT ALL SELECT x::text FROM %[1]s x)) y`, a, b))
		if got != "0" {
			t.Errorf("%s and %s: got %s rows in only one of them, want 0", a, b, got)
		}
	}
}

// addObjects adds grants, views, policies and other objects that users may add to Flujo's tables.
func addObjects(t testing.TB, conn *pgx.Conn, auditor string) {
	t.Helper()
	auditor = sqltext.Ident(auditor)
	flujotest.Exec(t, conn,
		"GRANT USAGE ON SCHEMA flujo TO "+auditor,
		"GRANT SELECT ON flujo.runs, flujo.spans TO "+auditor,
		"GRANT SELECT (id, run_id, status) ON flujo.steps TO "+auditor,
		"ALTER TABLE flujo.evaluations OWNER TO "+auditor,
		"GRANT USAGE ON SEQUENCE flujo.steps_id_seq TO "+auditor,
		"CREATE SCHEMA audit",
		"CREATE VIEW audit.failures AS SELECT run_id, count(*) n FROM flujo.steps GROUP BY 1",
		"CREATE MATERIALIZED VIEW audit.totals AS SELECT status, count(*) FROM flujo.runs GROUP BY 1",
		"ALTER TABLE flujo.runs ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY theirs ON flujo.runs FOR SELECT TO "+auditor+" USING (pipeline_name <> 'secret')",
		"COMMENT ON TABLE flujo.runs IS 'the audit trail'",
		"COMMENT ON COLUMN flujo.steps.cost_usd IS 'in dollars'",
		"CREATE INDEX by_version ON flujo.runs (pipeline_version)",
		"ALTER TABLE flujo.steps ALTER output SET STORAGE EXTERNAL",
		"ALTER TABLE flujo.spans SET (fillfactor = 80)",
		"CREATE STATISTICS flujo.together ON run_id, step_name FROM flujo.steps")
}

// describeObjects lists the objects of addObjects and of Flujo, with their oids.
func describeObjects(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	return flujotest.One(t, conn, `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT format('relation %s %s %s %s %s %s %s %s', oid, relname, relkind, relowner::regrole, relacl,
			relrowsecurity, reloptions, relpersistence)
			FROM pg_class WHERE relnamespace IN ('flujo'::regnamespace, 'audit'::regnamespace)
		UNION ALL SELECT format('column %s %s %s %s %s', attrelid::regclass, attname, attacl, attstorage,
			format_type(atttypid, atttypmod))
			FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'flujo'::regnamespace
				AND relkind = 'r' AND attnum > 0
		UNION ALL SELECT format('policy %s on %s %s %s', polname, polrelid::regclass, polroles::regrole[],
			pg_get_expr(polqual, polrelid)) FROM pg_policy
		UNION ALL SELECT format('view %s %s', oid::regclass, pg_get_viewdef(oid)) FROM pg_class
			WHERE relnamespace = 'audit'::regnamespace
		UNION ALL SELECT format('comment %s %s', objoid::regclass, description) FROM pg_description
			JOIN pg_class ON objoid = pg_class.oid
			WHERE classoid = 'pg_class'::regclass AND relnamespace = 'flujo'::regnamespace
		UNION ALL SELECT format('constraint %s %s %s', oid, conrelid::regclass, pg_get_constraintdef(oid))
			FROM pg_constraint WHERE connamespace = 'flujo'::regnamespace
		UNION ALL SELECT format('default %s %s', adrelid::regclass, pg_get_expr(adbin, adrelid)) FROM pg_attrdef
			JOIN pg_class c ON c.oid = adrelid
			WHERE relnamespace = 'flujo'::regnamespace
		UNION ALL SELECT format('schema %s %s %s', oid, nspname, nspacl) FROM pg_namespace
			WHERE nspname = 'flujo') x(line)`)
}

// TestReplace tests that --replace archives the rows in PostgreSQL and stores those of the file, and that the tables
// and their dependent objects are unchanged.
func TestReplace(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	auditor := pgtest.Role(t, url, "")
	conn, file := migrateAndDiverge(t, url)
	addObjects(t, conn, flujotest.One(t, flujotest.Connect(t, auditor), "SELECT current_user"))
	before := describeObjects(t, conn)
	copySchema(t, conn, "mine", "flujo_port_receipts")
	counts := map[string]string{}
	for _, table := range append(stateTables(), "flujo_port_receipts") {
		counts[table] = flujotest.One(t, conn, "SELECT count(*) FROM "+table)
	}

	result := flujotest.Migrate(t, replaceOptions(t, file, url))
	if !result.Committed || result.Replaced == nil {
		t.Fatalf("got committed %v and replaced %v, want both", result.Committed, result.Replaced)
	}
	archived := result.Replaced.ArchiveSchema
	if !regexp.MustCompile(`^flujo_archive_\d{8}T\d{6}Z$`).MatchString(archived) {
		t.Errorf("got archive schema %q", archived)
	}
	for _, table := range result.Replaced.Tables {
		if counts[table.Name] != fmt.Sprint(table.Rows) {
			t.Errorf("%s: got %d archived rows, want %s", table.Name, table.Rows, counts[table.Name])
		}
		delete(counts, table.Name)
	}
	if len(counts) > 0 {
		t.Errorf("the report lacks the tables %v", counts)
	}
	wantSameRows(t, conn, "mine", archived, "flujo_port_receipts")
	if after := describeObjects(t, conn); after != before {
		t.Errorf("got objects\n%s\nwant as before\n%s", after, before)
	}
	flujotest.WantVerdict(t, file, url, report.Equal, 0)
	for query, want := range map[string]string{
		"SELECT count(*) FROM runs WHERE run_id = 'of postgres'":                        "0",
		"SELECT n FROM audit.failures WHERE run_id = 'of the file'":                     "1",
		"SELECT count(*) FROM flujo_port_receipts":                                      "2",
		"SELECT options->>'archive_schema' FROM flujo_port_receipts ORDER BY 1 LIMIT 1": archived,
		"SELECT string_agg(version::text, ',' ORDER BY 1) FROM flujo_schema_versions":   "1,2,3,4,5",
	} {
		if got := flujotest.One(t, conn, query); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	if got := queryValue(t, conn, "INSERT INTO steps (run_id, step_name, step_index, status, created_at) "+
		"VALUES ('of the file', 'n', 1, 's', now()) RETURNING id"); got != "215" {
		t.Errorf("got next id of steps %s, want 215", got)
	}
	// The archive does not depend on Flujo's schema.
	flujotest.Exec(t, conn, "DROP SCHEMA flujo CASCADE")
	wantSameRows(t, conn, "mine", archived)
}

// queryValue returns the one value that a statement returns.
func queryValue(t testing.TB, conn *pgx.Conn, statement string) (value string) {
	t.Helper()
	var v any
	if err := conn.QueryRow(context.Background(), statement).Scan(&v); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return fmt.Sprint(v)
}

// psql passes lines to psql and returns its output, which must contain an error exactly if wantError is set.
func psql(t testing.TB, url string, lines []string, wantError bool) string {
	t.Helper()
	bin, err := pgtest.FindBin()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, "psql")
	if _, err := os.Stat(program); err != nil {
		program = "psql"
	}
	c := exec.Command(program, "--no-psqlrc", url)
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := c.CombinedOutput()
	if err != nil || strings.Contains(string(out), "ERROR") != wantError {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return string(out)
}

// TestReplaceUndo tests that the report's statements restore the archived rows, next ids, originals and receipts, and
// keep the archive.
func TestReplaceUndo(t *testing.T) {
	t.Parallel()
	broken := []string{
		`UPDATE steps SET output = '{' WHERE id = 7`,
		`UPDATE steps SET token_counts = 3000000000 WHERE id = 8`,
	}
	for _, tc := range []struct {
		name        string
		first, next []string
		then        []string // executed in PostgreSQL before --replace
		originals   bool     // whether the first migration stores originals
	}{
		{name: "clean", next: writesToFile},
		{name: "originals in the archive", first: broken, next: writesToFile, originals: true},
		{name: "originals in the new rows", next: broken},
		{name: "originals in both", first: broken, next: append(broken, `UPDATE steps SET output = '[' WHERE id = 9`),
			originals: true},
		{name: "sequences beyond the rows", then: []string{
			"DELETE FROM steps WHERE id > 100", "SELECT setval('evaluations_id_seq', 900)",
			"DELETE FROM spans", "SELECT setval('spans_id_seq', 1, false)",
		}},
		{name: "only system_state", then: []string{"DELETE FROM runs", "DELETE FROM workflow_state"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			first := flujotest.Options(t, flujotest.Changed(t, tc.first...), url)
			flujotest.Migrate(t, first)
			conn := flujotest.Connect(t, first.Cutover.Reveal())
			flujotest.Exec(t, conn, writesToPostgres...)
			flujotest.Exec(t, conn, tc.then...)
			own := []string{"flujo_port_receipts"}
			if tc.originals {
				own = append(own, "flujo_port_originals")
			}
			copySchema(t, conn, "mine", own...)
			const next = `SELECT string_agg(format('%s %s', s, q.last), ',')
				FROM (VALUES ('steps'), ('spans'), ('evaluations')) v(s),
				LATERAL (SELECT query_to_xml('SELECT last_value, is_called FROM ' || s || '_id_seq',
					false, false, '')::text) q(last)`
			positions := flujotest.One(t, conn, next)

			result := flujotest.Migrate(t, replaceOptions(t, flujotest.Changed(t, tc.next...), url))
			psql(t, url, result.Replaced.UndoSQL, false)
			wantSameRows(t, conn, "mine", "flujo", own...)
			if got := flujotest.One(t, conn, next); got != positions {
				t.Errorf("got sequences %s, want %s as before", got, positions)
			}
			exists := flujotest.One(t, conn, "SELECT to_regclass('flujo.flujo_port_originals') IS NOT NULL")
			if exists != fmt.Sprint(tc.originals) {
				t.Errorf("got flujo_port_originals exists: %s, want %v", exists, tc.originals)
			}
			archived := result.Replaced.ArchiveSchema
			wantSameRows(t, conn, "mine", archived, "flujo_port_receipts")
			// A second execution fails without a change, or has the same result.
			psql(t, url, result.Replaced.UndoSQL, tc.originals)
			wantSameRows(t, conn, "mine", "flujo", own...)
			if _, _, err := flujotest.Verify(t, first.SQLite, url); err != nil {
				t.Errorf("verify with the first file: %v", err)
			}
			psql(t, url, []string{result.Replaced.DropSQL}, false)
			archives := flujotest.One(
				t,
				conn,
				"SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'flujo\\_archive%'",
			)
			if archives != "0" {
				t.Errorf("got %s archive schemas after the drop, want 0", archives)
			}
			wantSameRows(t, conn, "mine", "flujo", own...)
		})
	}
}

// TestReplaceTwice tests that each of two migrations with --replace archives the rows, and that each archive can be
// restored.
func TestReplaceTwice(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, file := migrateAndDiverge(t, url)
	copySchema(t, conn, "first")
	one := replaceNow(t, replaceOptions(t, file, url))
	copySchema(t, conn, "second")
	two := replaceNow(t, replaceOptions(t, flujotest.Fixture, url))
	if one.Replaced.ArchiveSchema == two.Replaced.ArchiveSchema {
		t.Fatalf("both migrations have the archive schema %s", one.Replaced.ArchiveSchema)
	}
	wantSameRows(t, conn, "first", one.Replaced.ArchiveSchema)
	wantSameRows(t, conn, "second", two.Replaced.ArchiveSchema)
	flujotest.WantVerdict(t, flujotest.Fixture, url, report.Equal, 0)
	psql(t, url, two.Replaced.UndoSQL, false)
	wantSameRows(t, conn, "second", "flujo")
	psql(t, url, one.Replaced.UndoSQL, false)
	wantSameRows(t, conn, "first", "flujo")
	psql(t, url, two.Replaced.UndoSQL, false)
	flujotest.WantVerdict(t, file, url, report.Equal, 0)
}

// databaseState returns the objects, rows and sequences of the database as text.
func databaseState(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	s := flujotest.Leftovers(t, conn) + flujotest.One(t, conn,
		"SELECT string_agg(format('%s %s %s', oid, relname, relfilenode), ',' ORDER BY oid) FROM pg_class "+
			"WHERE relnamespace = 'flujo'::regnamespace")
	for _, table := range stateTables() {
		s += flujotest.One(
			t,
			conn,
			fmt.Sprintf("SELECT md5(string_agg(x::text, '|' ORDER BY x::text)) FROM flujo.%s x", table),
		)
		if flujotest.Keys[table] == "id" {
			s += flujotest.One(t, conn, fmt.Sprintf("SELECT (last_value, is_called) FROM flujo.%s_id_seq", table))
		}
	}
	return s
}

func TestReplaceDryRunLeavesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, file := migrateAndDiverge(t, url)
	before := databaseState(t, conn)
	o := replaceOptions(t, file, url)
	o.DryRun = true
	result := flujotest.Migrate(t, o)
	if result.Committed || result.Replaced == nil || len(result.Replaced.Tables) != 8 {
		t.Errorf("got committed %v and replaced %+v, want 8 tables and no commit", result.Committed, result.Replaced)
	}
	text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n")
	for _, word := range []string{"rolled back", "The real run archives", "flujo_archive_", "runs 60"} {
		if !strings.Contains(text, word) {
			t.Errorf("the report does not say %q:\n%s", word, text)
		}
	}
	if strings.Contains(text, "TRUNCATE") {
		t.Error("the report of the dry run has statements for an archive schema that does not exist")
	}
	if after := databaseState(t, conn); after != before {
		t.Errorf("was %s\nis %s", before, after)
	}
}

// TestReplaceFailures tests that a migration with --replace that fails changes nothing.
func TestReplaceFailures(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		prepare []string
		change  func(t testing.TB, o *migrate.Options)
		kind    clierr.Kind
		words   []string
	}{
		{name: "another table refers to runs", prepare: []string{
			"CREATE TABLE public.notes (run_id text CONSTRAINT noted REFERENCES flujo.runs ON DELETE CASCADE)",
			"INSERT INTO public.notes VALUES ('of postgres')"},
			kind:  clierr.Refused,
			words: []string{"public.notes refers to runs", "ALTER TABLE public.notes DROP CONSTRAINT noted"}},
		{name: "a rejected row", change: func(t testing.TB, o *migrate.Options) {
			o.SQLite = flujotest.Changed(t, "UPDATE system_state SET key = 'a' || char(0) WHERE rowid = 1")
		}, kind: clierr.Refused, words: []string{"rejected"}},
		{name: "--strict", change: func(t testing.TB, o *migrate.Options) {
			o.SQLite, o.Strict = flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7"), true
		}, kind: clierr.Refused, words: []string{"advice not-strict"}},
		{name: "a column that a view uses",
			prepare: []string{"CREATE VIEW public.costs AS SELECT cost_usd FROM flujo.steps"},
			change:  func(_ testing.TB, o *migrate.Options) { o.ExactFloats = true }, kind: clierr.Refused,
			words: []string{"steps.cost_usd", "view", "create them again"}},
		{name: "the archive schema exists", prepare: []string{`DO $$ BEGIN FOR i IN 0..300 LOOP
			EXECUTE format('CREATE SCHEMA %I', to_char((now() + i * interval '1 second') AT TIME ZONE 'UTC',
				'"flujo_archive_"YYYYMMDD"T"HH24MISS"Z"')); END LOOP; END $$`},
			kind: clierr.Refused, words: []string{"already exists", "run again"}},
		{name: "the archive differs", prepare: []string{
			`CREATE FUNCTION public.spoil() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE archive text; BEGIN
				SELECT schema_name INTO archive FROM pg_event_trigger_ddl_commands()
					WHERE object_identity LIKE 'flujo_archive%.evaluations'
						OR object_identity LIKE '"flujo_archive%.evaluations';
				IF archive IS NOT NULL THEN
					EXECUTE format('UPDATE %I.steps SET cost_usd = 9 WHERE id = 7', archive);
				END IF; END $$`,
			"CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') " +
				"EXECUTE FUNCTION public.spoil()"},
			kind: clierr.Mismatch, words: []string{`the copy of table "steps"`, "differs from the table"}},
		{name: "the connection is lost", change: func(t testing.TB, o *migrate.Options) {
			proxy := pgtest.NewProxy(t, pgtest.Upstream(t, o.Postgres))
			proxy.OnClientMessage(isCommit)
			o.Postgres = proxy.Rewrite(o.Postgres)
		}, kind: clierr.Failed, words: []string{"commit"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn, file := migrateAndDiverge(t, url)
			flujotest.Exec(t, conn, tc.prepare...)
			before := databaseState(t, conn)
			o := replaceOptions(t, file, url)
			if tc.change != nil {
				tc.change(t, &o)
			}
			flujotest.WantError(t, o, tc.kind, tc.words...)
			flujotest.Exec(t, conn,
				"BEGIN",
				"SELECT pg_advisory_xact_lock(4059087070)",
				"COMMIT") // waits until the server has ended the transaction
			if after := databaseState(t, conn); after != before {
				t.Errorf("was %s\nis %s", before, after)
			}
		})
	}
}

// TestReplaceTampered tests that a mismatch changes nothing.
func TestReplaceTampered(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, file := migrateAndDiverge(t, url)
	flujotest.Tamperer(t, url)("UPDATE steps SET step_name = 'other' WHERE id = 7")
	before := databaseState(t, conn)
	o := replaceOptions(t, file, url)
	result, err := migrate.Run(context.Background(), o)
	if clierr.KindOf(err) != clierr.Mismatch || result == nil || result.Differing != 1 || result.Replaced != nil {
		t.Fatalf("got %+v and error %v, want a mismatch of one row", result, err)
	}
	if text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n"); !strings.Contains(text,
		"Rolled back. Nothing was changed.") {
		t.Errorf("got the report\n%s", text)
	}
	if after := databaseState(t, conn); after != before {
		t.Errorf("was %s\nis %s", before, after)
	}
}

// TestReplaceInterrupted tests that an interrupt in any phase changes nothing.
func TestReplaceInterrupted(t *testing.T) {
	t.Parallel()
	for _, phase := range []progress.Phase{progress.Replace, progress.Copy, progress.Verify} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn, file := migrateAndDiverge(t, url)
			before := databaseState(t, conn)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			o := replaceOptions(t, file, url)
			o.OnProgress = func(p progress.Event) {
				if p.Phase == phase && (phase == progress.Verify || p.Table == "steps") {
					cancel()
				}
			}
			if _, err := migrate.Run(ctx, o); !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v, want an interruption", err)
			}
			if after := databaseState(t, conn); after != before {
				t.Errorf("was %s\nis %s", before, after)
			}
		})
	}
}

// TestReplaceWithoutRights tests that a role without the privileges for --replace is refused with a hint that names
// all statements to execute, and that --replace succeeds after them.
func TestReplaceWithoutRights(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	role := pgtest.Role(t, url, "")
	name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
	flujotest.Initialize(t, url, name)
	first := flujotest.Options(t, flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7"), role)
	first.NoMigrations = true
	flujotest.Migrate(t, first)
	flujotest.Exec(t, conn,
		"ALTER TABLE flujo.flujo_port_originals OWNER TO CURRENT_USER",
		"GRANT SELECT ON flujo.flujo_port_originals TO "+name,
		"REVOKE SELECT ON SEQUENCE flujo.spans_id_seq FROM "+name)
	before := databaseState(t, conn)
	o := replaceOptions(t, flujotest.Fixture, role)
	o.NoMigrations = true
	_, err := migrate.Run(context.Background(), o)
	var f *clierr.Error
	if !errors.As(err, &f) || f.Kind != clierr.Refused || !strings.Contains(f.Message, name) {
		t.Fatalf("got error %v, want a refusal that names %s", err, name)
	}
	if after := databaseState(t, conn); after != before {
		t.Errorf("was %s\nis %s", before, after)
	}
	_, statements, _ := strings.Cut(f.Hint, "run: ")
	flujotest.Exec(t, conn, strings.Split(statements, "; ")...)
	// The sequences belong to another role. A dry run does not change them.
	o.DryRun = true
	flujotest.Migrate(t, o)
	flujotest.Exec(t, conn,
		"REVOKE SELECT ON SEQUENCE flujo.spans_id_seq FROM "+name,
		"ALTER TABLE flujo.flujo_port_originals OWNER TO CURRENT_USER",
		"REVOKE CREATE ON DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+" FROM "+name)
	if after := databaseState(t, conn); after != before {
		t.Errorf("was %s\nis %s", before, after)
	}
	flujotest.Exec(t, conn, strings.Split(statements, "; ")...)
	o.DryRun = false
	copySchema(t, flujotest.Connect(t, flujotest.Cutover(t, url).Reveal()), "mine", "flujo_port_originals")
	result := flujotest.Migrate(t, o)
	wantSameRows(t, conn, "mine", result.Replaced.ArchiveSchema, "flujo_port_originals")
	flujotest.WantVerdict(t, flujotest.Fixture, url, report.Equal, 0)
	psql(t, role, result.Replaced.UndoSQL, false)
	wantSameRows(t, conn, "mine", "flujo", "flujo_port_originals")
	flujotest.WantVerdict(t, first.SQLite, url, report.Equal, 0)
}

// TestReplaceHiddenRows tests that --replace is refused if row-level security hides rows from the role, since they
// would not be archived.
func TestReplaceHiddenRows(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, file := migrateAndDiverge(t, url)
	role := pgtest.Role(t, url, "")
	name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
	flujotest.Exec(t, conn,
		"GRANT CREATE ON DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+" TO "+name,
		"GRANT ALL ON SCHEMA flujo TO "+name,
		"GRANT ALL ON ALL TABLES IN SCHEMA flujo TO "+name,
		"GRANT ALL ON ALL SEQUENCES IN SCHEMA flujo TO "+name,
		"ALTER TABLE flujo.system_state ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY theirs ON flujo.system_state USING (key <> 'of postgres')")
	before := databaseState(t, conn)
	// With no table to copy, COPY does not detect it.
	for _, path := range []string{file, flujotest.Changed(t, "DROP TABLE system_state")} {
		o := replaceOptions(t, path, role)
		o.NoMigrations = true
		flujotest.WantError(t, o, clierr.Refused, "row-level security", "system_state", "owner")
	}
	if after := databaseState(t, conn); after != before {
		t.Errorf("was %s\nis %s", before, after)
	}
	result := flujotest.Migrate(t, replaceOptions(t, file, url)) // a superuser sees all rows
	if got := flujotest.One(t, conn, "SELECT count(*) FROM "+sqltext.Ident(result.Replaced.ArchiveSchema)+
		".system_state WHERE key = 'of postgres'"); got != "1" {
		t.Error("the hidden row is not in the archive")
	}
}

// TestReplaceLockTimeout tests that --replace times out waiting for a reader and names it.
func TestReplaceLockTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, file := migrateAndDiverge(t, url)
	before := databaseState(t, conn)
	reader := flujotest.Connect(t, pgtest.WithParameter(t, url, "application_name", "dashboard-2"))
	flujotest.Exec(t, reader, "BEGIN", "SELECT count(*) FROM flujo.spans")
	o := replaceOptions(t, file, url)
	o.LockWait = 100 * time.Millisecond
	flujotest.WantError(t, o, clierr.Failed, `a lock on table "spans"`, "dashboard-2", "100ms", "reads it")
	if after := databaseState(t, conn); after != before {
		t.Errorf("was %s\nis %s", before, after)
	}
	flujotest.Exec(t, reader, "COMMIT")
	flujotest.Migrate(t, o)
}

// TestReplaceDuringVerify tests that a verify that starts during --replace sees the old or the new rows. It must not
// use a snapshot from before a TRUNCATE, in which the table is empty.
func TestReplaceDuringVerify(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, file := migrateAndDiverge(t, url)
	type verified struct {
		result *report.Verification
		err    error
	}
	done := make(chan verified, 1)
	o := replaceOptions(t, file, url)
	o.OnProgress = func(p progress.Event) {
		if p.Phase != progress.Indexes {
			return
		}
		go func() {
			result, err := verify.Run(context.Background(),
				verify.Options{SQLite: file, Postgres: url, Schema: flujotest.Schema})
			done <- verified{result, err}
		}()
		for flujotest.One(t, conn, `SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == "0" {
		}
	}
	flujotest.Migrate(t, o)
	v := <-done
	if v.err != nil || v.result.Verdict != report.Equal {
		t.Fatalf("got %+v and error %v, want equal", v.result, v.err)
	}
}

// TestReplaceNothing tests that --replace migrates into an empty target with a note.
func TestReplaceNothing(t *testing.T) {
	t.Parallel()
	for _, made := range []bool{false, true} {
		url := pgtest.Database(t)
		if made {
			flujotest.Initialize(t, url, "")
		}
		result := flujotest.Migrate(t, replaceOptions(t, flujotest.Fixture, url))
		if result.Replaced != nil || !strings.Contains(strings.Join(result.Notes, "\n"), "no rows to replace") {
			t.Errorf("got replaced %+v and notes %q, want only a note", result.Replaced, result.Notes)
		}
		archives := flujotest.One(
			t,
			flujotest.Connect(t, url),
			"SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%archive%'",
		)
		if archives != "0" {
			t.Errorf("got %s archive schemas, want 0", archives)
		}
	}
}

// TestReplaceQuotedSchemaNames tests that the name of the archive schema is quoted where necessary and shortened to
// PostgreSQL's limit.
func TestReplaceQuotedSchemaNames(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{
		"Flujo State": "Flujo State", `we"ird 'n'`: `we"ird 'n'`, "public": "public",
		strings.Repeat("x", 63):        strings.Repeat("x", 38),
		"z" + strings.Repeat("ü", 31):  "z" + strings.Repeat("ü", 18),
		"zz" + strings.Repeat("ü", 30): "zz" + strings.Repeat("ü", 18),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := flujotest.Options(t, flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7"), url)
			o.Schema, o.Cutover = name, flujotest.CutoverFor(t, url, name)
			flujotest.Migrate(t, o)
			conn := flujotest.Connect(t, o.Cutover.Reveal())
			flujotest.Exec(t, conn, writesToPostgres...)
			copySchema(t, conn, "mine", "flujo_port_originals")
			o.SQLite, o.Replace = flujotest.Changed(t, writesToFile...), true
			result := flujotest.Migrate(t, o)
			archived := result.Replaced.ArchiveSchema
			if !strings.HasPrefix(archived, prefix+"_archive_") || len(archived) > 63 {
				t.Errorf("got archive schema %q, want %q and at most 63 bytes", archived, prefix+"_archive_…")
			}
			wantSameRows(t, conn, "mine", archived, "flujo_port_originals")
			if got := flujotest.One(t, conn, "SELECT count(*) FROM runs WHERE run_id = 'of the file'"); got != "1" {
				t.Errorf("got %s new runs, want 1", got)
			}
			psql(t, url, result.Replaced.UndoSQL, false)
			wantSameRows(t, conn, "mine", name, "flujo_port_originals")
			psql(t, url, []string{result.Replaced.DropSQL}, false)
			if got := flujotest.One(
				t,
				conn,
				"SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%archive%'",
			); got != "0" {
				t.Error("the archive schema was not dropped")
			}
		})
	}
}

// TestReplaceWidens tests new rows that need wider columns, and that the archived rows can be restored into these.
func TestReplaceWidens(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, _ := migrateAndDiverge(t, url)
	copySchema(t, conn, "mine")
	o := replaceOptions(t, flujotest.Changed(t, "UPDATE steps SET id = 5000000000 WHERE id = 213",
		"UPDATE spans SET id = 6000000000 WHERE id = 1"), url)
	o.ExactFloats = true
	result := flujotest.Migrate(t, o)
	wantSameRows(t, conn, "mine", result.Replaced.ArchiveSchema)
	flujotest.WantVerdict(t, o.SQLite, url, report.Equal, 0)
	psql(t, url, result.Replaced.UndoSQL, false)
	for _, table := range stateTables() { // compared as values, since a double precision has another text than a real
		if got := flujotest.One(
			t,
			conn,
			fmt.Sprintf("SELECT count(*) FROM ((TABLE flujo.%[1]s EXCEPT ALL TABLE mine.%[1]s) "+
				"UNION ALL (TABLE mine.%[1]s EXCEPT ALL TABLE flujo.%[1]s)) x", table),
		); got != "0" {
			t.Errorf("%s: got %s rows that differ, want 0", table, got)
		}
	}
	if got := queryValue(t, conn, "INSERT INTO steps (run_id, step_name, step_index, status, created_at) "+
		"VALUES ('of postgres', 'n', 1, 's', now()) RETURNING id"); got != "216" {
		t.Errorf("got next id of steps %s, want 216", got)
	}
}

// TestPGVectorReplace tests --replace with memories whose vectors have another dimension, and that restoring the
// archive restores the dimension of the column.
func TestPGVectorReplace(t *testing.T) {
	url := pgtest.PGVector(t)
	first, memories := flujotest.MemoriesFile(t)
	flujotest.Migrate(t, flujotest.PGVectorOptions(t, first, url))
	f := flujotest.NewFile(
		t,
		map[string]string{
			"runs":     flujotest.Format06["runs"],
			"memories": "id K, vector T, payload T, metadata T, created_at T",
		},
	)
	f.Insert(
		"memories",
		flujotest.Cells{"id": "short", "vector": []byte{0, 0, 0x80, 0x3f, 0, 0, 0x80, 0x3f}, "payload": `"x"`},
	)
	o := flujotest.PGVectorOptions(t, f.Close(), url)
	o.Replace = true
	result := flujotest.Migrate(t, o)
	if got := flujotest.OneAt(
		t,
		url,
		"SELECT string_agg(id || vector::text, ',') FROM flujo.memories",
	); got != "short[1,1]" {
		t.Errorf("got memories %s, want short[1,1]", got)
	}
	archived := flujotest.OneAt(
		t,
		url,
		"SELECT count(*) FROM "+sqltext.Ident(result.Replaced.ArchiveSchema)+".memories",
	)
	if archived != "30" {
		t.Errorf("got %s archived memories, want 30", archived)
	}
	flujotest.ExecAt(t, url, strings.Join(result.Replaced.UndoSQL, "\n"))
	flujotest.WantMemories(t, url, memories)
	flujotest.WantMemoriesTable(t, url, "public")
}
