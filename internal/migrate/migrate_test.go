package migrate_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
)

func TestDryRunLeavesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.DryRun = true
	result := flujotest.Migrate(t, o)
	if result.Committed || !result.DryRun {
		t.Errorf("got committed %v and dry run %v, want false and true", result.Committed, result.DryRun)
	}
	for _, row := range result.Tables {
		if !row.Match {
			t.Errorf("got %+v, want a match", row)
		}
	}
	if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

// TestDryRunLeavesSequences tests that a dry run does not use setval, which a rollback does not undo.
func TestDryRunLeavesSequences(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Initialize(t, url, "")
	conn := flujotest.Connect(t, url)
	state := func() string {
		return flujotest.One(t, conn,
			"SELECT string_agg(format('%s %s', sequencename, last_value), ', ' ORDER BY 1) FROM pg_sequences "+
				"WHERE schemaname = 'flujo'") +
			flujotest.One(t, conn, "SELECT format('%s %s', last_value, is_called) FROM flujo.steps_id_seq")
	}
	before := state()
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.DryRun = true
	flujotest.Migrate(t, o)
	if after := state(); after != before {
		t.Errorf("got sequences %s, want %s as before", after, before)
	}
}

// TestNextIDs tests that the next id is free, and that ids that the file has allocated are not allocated again.
func TestNextIDs(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	file := flujotest.Changed(t,
		"DELETE FROM steps WHERE id > 200",
		"DELETE FROM evaluations",
		"DELETE FROM sqlite_sequence WHERE name = 'evaluations'")
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	conn := flujotest.Connect(t, url)
	for table, want := range map[string]string{"steps": "214", "spans": "262", "evaluations": "1"} {
		if got := flujotest.One(t, conn, fmt.Sprintf("SELECT nextval('flujo.%s_id_seq')", table)); got != want {
			t.Errorf("%s: got next id %s, want %s", table, got, want)
		}
	}
}

func TestTargetWithRowsIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	conn := flujotest.Connect(t, url)
	const files = "SELECT string_agg(format('%s %s', relname, relfilenode), ',' ORDER BY relname) FROM pg_class " +
		"WHERE relnamespace = 'flujo'::regnamespace"
	before := flujotest.One(t, conn, files)
	flujotest.WantError(
		t,
		flujotest.Options(t, flujotest.Fixture, url),
		clierr.Refused,
		"runs has 60",
		"workflow_state has 60",
		"steps has 213",
		"spans has 261",
		"traces has 60",
		"evaluations has 15",
		"system_state has 5",
		"advice schema-holds-rows",
	)
	if after := flujotest.One(t, conn, files); after != before {
		t.Errorf("the refused migration changed relations from %s to %s", before, after)
	}
}

func TestMigrateIntoGrantedTables(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	conn := flujotest.Connect(t, url)
	name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
	flujotest.Initialize(t, url, name)
	const grants = "SELECT string_agg(format('%s %s %s', oid, relowner, relacl), E'\n' ORDER BY oid) FROM pg_class " +
		"WHERE relnamespace = 'flujo'::regnamespace AND relname NOT LIKE '%flujo_port%' " +
		"AND relname NOT LIKE 'pg_toast%'"
	before := flujotest.One(t, conn, grants)
	// The application's role owns no table, so Flujo has to be started without its migrations.
	o := flujotest.Options(t, flujotest.Fixture, role)
	flujotest.WantError(t, o, clierr.Refused, "Flujo would not start", "must be owner", name)
	o.NoMigrations = true
	o.DryRun = true
	flujotest.Migrate(t, o)
	if got := flujotest.One(t, conn, "SELECT last_value FROM flujo.steps_id_seq"); got != "1" {
		t.Errorf("the dry run set another owner's sequence to %s", got)
	}
	o.DryRun = false
	flujotest.Migrate(t, o)
	if after := flujotest.One(t, conn, grants); after != before {
		t.Errorf("got owners and grants\n%s\nwant as before\n%s", after, before)
	}
	if got := flujotest.One(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != "214" {
		t.Errorf("got next id of steps %s, want 214", got)
	}
}

// TestIncompleteSchemaIsCompleted tests a schema as Flujo leaves it if its migration 3 fails.
func TestIncompleteSchemaIsCompleted(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Initialize(t, url, "")
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn,
		"DROP TABLE flujo.evaluations",
		"DELETE FROM flujo.flujo_schema_versions WHERE version > 2",
		"DROP INDEX flujo.idx_spans_run_id")
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	versions := flujotest.One(
		t,
		conn,
		"SELECT string_agg(version::text, ',' ORDER BY version) FROM flujo.flujo_schema_versions",
	)
	if versions != "1,2,3,4,5" {
		t.Errorf("got versions %s, want 1,2,3,4,5", versions)
	}
	if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.evaluations"); got != "15" {
		t.Errorf("got %s evaluations, want 15", got)
	}
	if got := flujotest.One(t, conn, "SELECT to_regclass('flujo.idx_spans_run_id')"); got == "NULL" {
		t.Error("the missing index was not created")
	}
}

func TestSchemaDifferencesAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, change string
		words        []string
	}{
		{"column missing", "ALTER TABLE flujo.steps DROP COLUMN cost_usd", []string{"steps has no column cost_usd"}},
		{"column more", "ALTER TABLE flujo.runs ADD tenant text", []string{"runs has the extra column tenant"}},
		{"type", "ALTER TABLE flujo.steps ALTER output TYPE text", []string{"steps.output is text, not jsonb"}},
		{"not null", "ALTER TABLE flujo.runs ALTER error_message SET NOT NULL",
			[]string{"runs.error_message is NOT NULL"}},
		{"nullable", "ALTER TABLE flujo.runs ALTER status DROP NOT NULL", []string{"runs.status is nullable"}},
		{"default", "ALTER TABLE flujo.runs ALTER total_steps SET DEFAULT 7",
			[]string{`runs.total_steps has the default "7", not "0"`}},
		{"no sequence", "ALTER TABLE flujo.steps ALTER id DROP DEFAULT", []string{"steps.id has the default"}},
		{"primary key", "ALTER TABLE flujo.system_state DROP CONSTRAINT system_state_pkey",
			[]string{"system_state has the primary key (), not (key)"}},
		{"foreign key missing", "ALTER TABLE flujo.spans DROP CONSTRAINT spans_run_id_fkey",
			[]string{"spans has no foreign key run_id → flujo.runs"}},
		{"foreign key without cascade", "ALTER TABLE flujo.spans DROP CONSTRAINT spans_run_id_fkey, " +
			"ADD CONSTRAINT x FOREIGN KEY (run_id) REFERENCES flujo.runs",
			[]string{"spans has no foreign key", "spans has the extra constraint x"}},
		{"check", "ALTER TABLE flujo.runs ADD CONSTRAINT short CHECK (length(run_id) < 5)",
			[]string{"runs has the extra constraint short"}},
		{"view", "DROP TABLE flujo.system_state; CREATE VIEW flujo.system_state AS SELECT 1 AS key",
			[]string{"system_state is a view"}},
		{"index of another table",
			"DROP INDEX flujo.idx_runs_status; CREATE INDEX idx_runs_status ON flujo.runs (pipeline_name)",
			[]string{"idx_runs_status is runs.pipeline_name by btree, not runs.status by btree"}},
		{"index of another operator class", "DROP INDEX flujo.idx_runs_context_gin; " +
			"CREATE INDEX idx_runs_context_gin ON flujo.workflow_state USING gin (pipeline_context jsonb_path_ops)",
			[]string{"idx_runs_context_gin is workflow_state.pipeline_context by gin jsonb_path_ops, " +
				"not workflow_state.pipeline_context by gin"}},
		{"trigger", "CREATE FUNCTION flujo.f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL;END$$; " +
			"CREATE TRIGGER t BEFORE INSERT ON flujo.steps FOR EACH ROW EXECUTE FUNCTION flujo.f()",
			[]string{"steps has the trigger t"}},
		{"rule", "CREATE RULE r AS ON INSERT TO flujo.steps DO INSTEAD NOTHING", []string{"steps has the rule r"}},
		{"unlogged", "ALTER TABLE flujo.system_state SET UNLOGGED", []string{"system_state is unlogged"}},
		{"inherited", "CREATE TABLE flujo.child () INHERITS (flujo.system_state)",
			[]string{"system_state takes part in inheritance"}},
		{"foreign keys off", "ALTER TABLE flujo.steps DISABLE TRIGGER ALL",
			[]string{"steps has disabled foreign key triggers"}},
		{"another sequence",
			"CREATE SEQUENCE flujo.other; ALTER TABLE flujo.steps ALTER id SET DEFAULT nextval('flujo.other')",
			[]string{"steps.id has the default", "flujo.other", "one from a sequence of its own"}},
		{"newer Flujo", "INSERT INTO flujo.flujo_schema_versions (version) VALUES (6)", []string{"records version 6"}},
		{"several", "ALTER TABLE flujo.runs ADD a int; ALTER TABLE flujo.steps ADD b int; " +
			"ALTER TABLE flujo.spans DROP name",
			[]string{"runs has the extra column a", "steps has the extra column b", "spans has no column name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.Initialize(t, url, "")
			flujotest.Exec(t, flujotest.Connect(t, url), strings.Split(c.change, "; ")...)
			flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, url), clierr.Refused, c.words...)
		})
	}
}

// TestFlujoStatementsAfterCutover executes Flujo's statements, with unqualified names, through the cutover address.
func TestFlujoStatementsAfterCutover(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Fixture, url)
	flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, o.Cutover.Reveal())
	flujotest.Exec(t, conn,
		`INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at)
			VALUES ('new', 'p', 'p', '1', 'running', now(), now())`,
		`INSERT INTO steps (run_id, step_name, step_index, status, output, raw_response, cost_usd, token_counts,
			execution_time_ms, created_at)
			VALUES ('new', 's', 0, 'completed', '{"a": 1}', NULL, 0.25, 10, 20, now()),
				('new', 't', 1, 'failed', NULL, NULL, NULL, NULL, NULL, now())`,
		`INSERT INTO spans (run_id, span_id, parent_span_id, name, start_time, end_time, status, attributes, created_at)
			VALUES ('new', 'a', NULL, 'root', 1767603600.85748, 1767603601.5, 'completed', '{}', now())`,
		`INSERT INTO traces (run_id, trace_data, created_at) VALUES ('new', '{"span_id": "a"}', now())
			ON CONFLICT (run_id) DO UPDATE SET trace_data = EXCLUDED.trace_data, created_at = EXCLUDED.created_at`,
		`INSERT INTO evaluations (run_id, step_name, score, feedback, metadata) `+
			`VALUES ('new', 's', 0.5, 'good', '{"judge": 1}')`,
		`INSERT INTO workflow_state (run_id, pipeline_id, pipeline_name, pipeline_version, current_step_index,
			pipeline_context, status, created_at, updated_at)
			SELECT run_id, pipeline_id, pipeline_name, '9', 3, '{"x": 1}', 'paused', now(), now()
				FROM workflow_state LIMIT 1
			ON CONFLICT (run_id) DO UPDATE SET pipeline_version = EXCLUDED.pipeline_version, status = EXCLUDED.status`,
		`INSERT INTO system_state (key, value, updated_at) VALUES ('tracker:0', '{"k": 99}', now()), ('new', '1', now())
			ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value`)
	for query, want := range map[string]string{
		"SELECT min(id) FROM steps WHERE run_id = 'new'":                   "214",
		"SELECT id FROM spans WHERE run_id = 'new'":                        "262",
		"SELECT id FROM evaluations WHERE run_id = 'new'":                  "16",
		"SELECT count(*) FROM workflow_state WHERE pipeline_version = '9'": "1",
		"SELECT value->>'k' FROM system_state WHERE key = 'tracker:0'":     "99",
		"SELECT count(*) FROM runs":                                        "61",
	} {
		if got := flujotest.One(t, conn, query); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	flujotest.Exec(t, conn, "DELETE FROM runs WHERE run_id = 'new'",
		"DELETE FROM runs WHERE run_id = (SELECT run_id FROM steps WHERE id = 1)")
	for _, table := range []string{"steps", "spans", "traces", "evaluations"} {
		got := flujotest.One(t, conn, fmt.Sprintf("SELECT count(*) FROM %s WHERE run_id = 'new' "+
			"OR NOT EXISTS (SELECT FROM runs r WHERE r.run_id = %s.run_id)", table, table))
		if got != "0" {
			t.Errorf("%s: got %s rows of deleted runs, want 0", table, got)
		}
	}
}

// TestDamagedFile tests a file with damaged pages, with and without the integrity check.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	file := flujotest.Changed(t, `INSERT INTO steps (run_id, step_name, step_index, status, output, created_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		SELECT (SELECT run_id FROM runs LIMIT 1), 's', i, 'completed', '{"pad":"' || hex(randomblob(600)) || '"}',
			'2026-01-05T09:00:01+00:00' FROM n`,
		"PRAGMA wal_checkpoint(TRUNCATE)")
	flujotest.OverwriteLeafPages(t, file)
	url := pgtest.Database(t)
	o := flujotest.Options(t, file, url)
	flujotest.WantError(t, o, clierr.Refused, "check", "page", "damaged")
	o.SkipIntegrity = true
	flujotest.WantError(t, o, clierr.Refused, "malformed")
	if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

// TestMigrationLockIsHeld tests that a migration holds Flujo's migration lock, so that a starting Flujo waits.
func TestMigrationLockIsHeld(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	o := flujotest.Options(t, flujotest.Fixture, url)
	asked := 0
	o.OnProgress = func(p progress.Event) {
		if p.Phase == progress.Copy || p.Phase == progress.Verify || p.Phase == progress.Commit {
			if p.Table == "" || p.Done {
				asked++
				if got := flujotest.One(
					t,
					conn,
					"SELECT pg_try_advisory_xact_lock(x'F1F0C0DE'::bigint)",
				); got != "false" {
					t.Errorf("the lock is free in %s %s", p.Phase, p.Table)
				}
			}
		}
	}
	flujotest.Migrate(t, o)
	if asked < 8 {
		t.Errorf("tested the lock %d times, want at least 8", asked)
	}
	if got := flujotest.One(t, conn, "SELECT pg_try_advisory_xact_lock(x'F1F0C0DE'::bigint)"); got != "true" {
		t.Error("the lock was not released")
	}
}

// TestFileIsNotChanged tests that a migration changes neither the file nor its -wal, and reads the rows in the -wal.
func TestFileIsNotChanged(t *testing.T) {
	t.Parallel()
	file := withWAL(t)
	before := folderDigests(t, filepath.Dir(file))
	if len(before) != 2 {
		t.Fatalf("got files %v, want a file and its -wal", before)
	}
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	if got := flujotest.One(
		t,
		flujotest.Connect(t, url),
		"SELECT status FROM flujo.runs WHERE run_id = 'in the wal'",
	); got != "running" {
		t.Errorf("got status %s of the run in the -wal, want running", got)
	}
	if after := folderDigests(t, filepath.Dir(file)); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("got files %v, want %v as before", after, before)
	}
}

// withWAL returns the path of a copy of the fixture with a run that is only in the -wal.
func withWAL(t testing.TB) string {
	t.Helper()
	live := flujotest.Changed(t, "PRAGMA journal_mode = WAL")
	file := filepath.Join(t.TempDir(), "flujo_state.db")
	flujotest.KeepOpen(t, live,
		`INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at)
		VALUES ('in the wal', 'p', 'p', '1', 'running', '2026-01-05T09:00:01+00:00', '2026-01-05T09:00:01+00:00')`,
		func() {
			for _, suffix := range []string{"", "-wal"} {
				content, err := os.ReadFile(live + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file+suffix, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	return file
}

// folderDigests returns the digest of each file in a folder, by name.
func folderDigests(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return all
}

// TestConvertedCells tests cells that PostgreSQL cannot represent: they are converted and their originals stored, and
// --strict refuses them.
func TestConvertedCells(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, change, query, want string
		words                     string // in the refusal of --strict
	}{
		{"not JSON", "UPDATE steps SET output = '{' WHERE id = 7", "SELECT output FROM flujo.steps WHERE id = 7", `"{"`,
			"1 value "},
		{"NUL in JSON", `UPDATE steps SET output = '"a\u0000b"' WHERE id = 7`,
			"SELECT output FROM flujo.steps WHERE id = 7", `"ab"`, "1 value "},
		{"not a time", "UPDATE runs SET created_at = 'soon' WHERE rowid = 3",
			"SELECT count(*) FROM flujo.runs r JOIN flujo.workflow_state w USING (run_id) " +
				"JOIN flujo.flujo_port_originals o ON row_key = run_id WHERE r.created_at = w.created_at " +
				"AND original = 'soon'", "1", "1 value "},
		{"beyond int4", "UPDATE steps SET token_counts = 3000000000 WHERE id = 7",
			"SELECT token_counts FROM flujo.steps WHERE id = 7", "3000000000", "1 column "},
		{"unmapped column", "UPDATE runs SET total_cost = 1.5 WHERE rowid = 3",
			"SELECT convert_from(original, 'UTF8') FROM flujo.flujo_port_originals WHERE column_name = 'total_cost'",
			"1.5", "1 value "},
		{"child without its run",
			"PRAGMA foreign_keys = OFF; INSERT INTO evaluations (run_id, score) VALUES ('nobody', 1)",
			"SELECT format('%s %s %s', pipeline_id, pipeline_version, status) FROM flujo.runs WHERE run_id = 'nobody'",
			"unknown latest running", "1 stub run "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := flujotest.Options(t, flujotest.Changed(t, strings.Split(c.change, "; ")...), url)
			o.Strict = true
			flujotest.WantError(t, o, clierr.Refused, "advice not-strict", c.words)
			conn := flujotest.Connect(t, url)
			if got := flujotest.Leftovers(t, conn); got != "" {
				t.Errorf("got leftovers %s, want none", got)
			}
			o.Strict = false
			flujotest.Migrate(t, o)
			if got := flujotest.One(t, conn, c.query); got != c.want {
				t.Errorf("%s: got %s, want %s", c.query, got, c.want)
			}
		})
	}
}

func TestMemoriesNeedPGVector(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	table := "CREATE TABLE memories (id TEXT PRIMARY KEY, vector BLOB NOT NULL, payload TEXT, metadata TEXT, " +
		"created_at TEXT)"
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Changed(t, table), url)) // an empty table needs no pgvector
	flujotest.WantError(
		t,
		flujotest.Options(
			t,
			flujotest.Changed(t, table, "INSERT INTO memories (id, vector) VALUES ('a', zeroblob(6144))"),
			pgtest.Database(t),
		),
		clierr.Refused,
		"1 memories",
		"advice use-pgvector",
	)
}

func TestServerWithoutPGVectorIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	if flujotest.One(t, conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") != "0" {
		flujotest.Exec(t, conn, "CREATE EXTENSION IF NOT EXISTS vector") // other tests test a server with pgvector
		return
	}
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.WithoutPGVector = false
	flujotest.WantError(
		t,
		o,
		clierr.Refused,
		"pgvector",
		"install it",
		"an image that has it",
		"advice without-pgvector",
	)
	if got := flujotest.Leftovers(t, conn); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

func TestRefusedTargets(t *testing.T) {
	t.Parallel()
	t.Run("no right to create", func(t *testing.T) {
		t.Parallel()
		flujotest.WantError(
			t,
			flujotest.Options(t, flujotest.Fixture, pgtest.Role(t, pgtest.Database(t), "")),
			clierr.Refused,
			"permission denied",
			"advice own-by-init",
		)
	})
	t.Run("encoding", func(t *testing.T) {
		t.Parallel()
		flujotest.WantError(
			t,
			flujotest.Options(t, flujotest.Fixture, pgtest.EncodedDatabase(t, "LATIN1")),
			clierr.Refused,
			"LATIN1",
			"UTF8",
		)
	})
	t.Run("old server", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		proxy.RewriteServerParameter("server_version", "12.22 (Debian 12.22-1)")
		flujotest.WantError(
			t,
			flujotest.Options(t, flujotest.Fixture, proxy.Rewrite(url)),
			clierr.Refused,
			"12.22",
			"older than 13",
		)
	})
	t.Run("standby", func(t *testing.T) {
		t.Parallel()
		flujotest.WantError(
			t,
			flujotest.Options(t, flujotest.Fixture, pgtest.Standby(t)),
			clierr.Refused,
			"standby",
			"primary",
		)
	})
	t.Run("another role through the address", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		o := flujotest.Options(t, flujotest.Fixture, url)
		o.Cutover = flujotest.Cutover(t, pgtest.Role(t, url, ""))
		flujotest.WantError(t, o, clierr.Refused, "has role")
		if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
			t.Errorf("got leftovers %s, want none", got)
		}
	})
	t.Run("read-only through the address", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		conn := flujotest.Connect(t, url)
		flujotest.Exec(t, conn, "ALTER DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+
			" SET default_transaction_read_only = on")
		flujotest.WantError(
			t,
			flujotest.Options(t, flujotest.Fixture, url),
			clierr.Refused,
			"read-only",
			"default_transaction_read_only",
		)
	})
	t.Run("replica role", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		conn := flujotest.Connect(t, url)
		flujotest.Exec(t, conn, "ALTER DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+
			" SET session_replication_role = replica")
		flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, url), clierr.Refused, "session_replication_role")
	})
	t.Run("row-level security", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		role := pgtest.Role(t, url, "")
		name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
		flujotest.Initialize(t, url, name)
		flujotest.Exec(t, flujotest.Connect(t, url), "ALTER TABLE flujo.runs ENABLE ROW LEVEL SECURITY")
		o := flujotest.Options(t, flujotest.Fixture, role)
		o.NoMigrations = true
		flujotest.WantError(
			t,
			o,
			clierr.Refused,
			"row-level security",
			"owner",
		)
	})
	t.Run("pooler that drops options", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		proxy.ActAsPooler()
		o := flujotest.Options(t, flujotest.Fixture, proxy.Rewrite(url))
		flujotest.WantError(t, o, clierr.Refused, "search_path", "pooler")
		o = flujotest.Options(t, flujotest.Fixture, url)
		o.Schema = "elsewhere" // the search_path of the address is flujo
		flujotest.WantError(t, o, clierr.Refused, "does not lead to schema \"elsewhere\"", "ALTER ROLE")
		if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
			t.Errorf("got leftovers %s, want none", got)
		}
	})
}

func TestRoleTimeoutsAreIgnored(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	name := flujotest.One(t, conn, "SELECT quote_ident(current_database())")
	flujotest.Exec(t, conn,
		"ALTER DATABASE "+name+" SET statement_timeout = '1ms'",
		"ALTER DATABASE "+name+" SET idle_in_transaction_session_timeout = '1ms'",
		"ALTER DATABASE "+name+" SET search_path = nowhere",
		"ALTER DATABASE "+name+" SET datestyle = 'German'")
	// The program's first statement, which resets the timeouts, is itself subject to them.
	url = pgtest.WithParameter(t, url, "statement_timeout", "0")
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	if got := flujotest.One(t, flujotest.Connect(t, url), "SELECT count(*) FROM flujo.runs"); got != "60" {
		t.Errorf("got %s runs, want 60", got)
	}
}

func TestQuotedSchemaNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Flujo State", `we"ird`, "public", "flujo-2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := flujotest.Options(t, flujotest.Fixture, url)
			o.Schema, o.Cutover = name, flujotest.CutoverFor(t, url, name)
			flujotest.Migrate(t, o)
			conn := flujotest.Connect(t, o.Cutover.Reveal())
			if got := flujotest.One(t, conn, "SELECT count(*) FROM runs"); got != "60" {
				t.Errorf("got %s runs, want 60", got)
			}
			flujotest.WantError(t, o, clierr.Refused, "runs has 60")
		})
	}
}

func TestRunsWithSevenColumns(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	var drops []string
	for _, c := range []string{"execution_time_ms", "memory_usage_mb", "total_steps", "error_message", "end_time",
		"total_cost", "final_context_blob"} {
		drops = append(drops, "ALTER TABLE runs DROP COLUMN "+c)
	}
	flujotest.Migrate(
		t,
		flujotest.Options(
			t,
			flujotest.Changed(t, append(drops, "DROP TABLE evaluations", "CREATE TABLE notes (x)")...),
			url,
		),
	)
	conn := flujotest.Connect(t, url)
	const defaults = "SELECT count(*) FROM flujo.runs WHERE total_steps = 0 AND error_message IS NULL"
	if got := flujotest.One(t, conn, defaults); got != "60" {
		t.Errorf("got %s runs with defaults, want 60", got)
	}
}
