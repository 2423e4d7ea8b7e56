package transfer_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sink"
	"flujo-port/internal/sqlite"

	"flujo-port/internal/initialize"
	"flujo-port/internal/migrate"
	"flujo-port/internal/progress"

	"github.com/jackc/pgx/v5/pgproto3"
)

// wantError runs a migration that must fail, and tests the kind and the words of its error.
func wantError(t testing.TB, o migrate.Options, kind clierr.Kind, words ...string) {
	t.Helper()
	_, err := migrate.Run(context.Background(), o)
	if err == nil {
		t.Fatal("got no error")
	}
	if got := clierr.KindOf(err); got != kind {
		t.Errorf("got kind %d, want %d: %v", got, kind, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

func TestDryRunLeavesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := options(t, fixture, url)
	o.DryRun = true
	result := mustMigrate(t, o)
	if result.Committed || !result.DryRun {
		t.Errorf("got committed %v and dry run %v, want false and true", result.Committed, result.DryRun)
	}
	for _, row := range result.Tables {
		if !row.Match {
			t.Errorf("got %+v, want a match", row)
		}
	}
	if got := leftovers(t, connect(t, url)); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

// TestDryRunLeavesSequences tests that a dry run does not use setval, which a rollback does not undo.
func TestDryRunLeavesSequences(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustInitialize(t, url, "")
	conn := connect(t, url)
	state := func() string {
		return one(t, conn,
			"SELECT string_agg(format('%s %s', sequencename, last_value), ', ' ORDER BY 1) FROM pg_sequences "+
				"WHERE schemaname = 'flujo'") +
			one(t, conn, "SELECT format('%s %s', last_value, is_called) FROM flujo.steps_id_seq")
	}
	before := state()
	o := options(t, fixture, url)
	o.DryRun = true
	mustMigrate(t, o)
	if after := state(); after != before {
		t.Errorf("got sequences %s, want %s as before", after, before)
	}
}

// initialize creates Flujo's empty tables. It grants their use to the role grantTo, unless that is empty.
func mustInitialize(t testing.TB, url, grantTo string) {
	t.Helper()
	o := initialize.Options{Postgres: url, Schema: schema, WithoutPGVector: true, GrantTo: grantTo}
	if _, err := initialize.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

// TestNextIDs tests that the next id is free, and that ids that the file has allocated are not allocated again.
func TestNextIDs(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	file := changed(t,
		"DELETE FROM steps WHERE id > 200",
		"DELETE FROM evaluations",
		"DELETE FROM sqlite_sequence WHERE name = 'evaluations'")
	mustMigrate(t, options(t, file, url))
	conn := connect(t, url)
	for table, want := range map[string]string{"steps": "214", "spans": "262", "evaluations": "1"} {
		if got := one(t, conn, fmt.Sprintf("SELECT nextval('flujo.%s_id_seq')", table)); got != want {
			t.Errorf("%s: got next id %s, want %s", table, got, want)
		}
	}
}

func TestTargetWithRowsIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	conn := connect(t, url)
	const files = "SELECT string_agg(format('%s %s', relname, relfilenode), ',' ORDER BY relname) FROM pg_class " +
		"WHERE relnamespace = 'flujo'::regnamespace"
	before := one(t, conn, files)
	wantError(t, options(t, fixture, url), clierr.Refused, "runs has 60", "workflow_state has 60", "steps has 213",
		"spans has 261", "traces has 60", "evaluations has 15", "system_state has 5", "--replace", "--merge")
	if after := one(t, conn, files); after != before {
		t.Errorf("the refused migration changed relations from %s to %s", before, after)
	}
}

func TestMigrateIntoGrantedTables(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	conn := connect(t, url)
	name := one(t, connect(t, role), "SELECT current_user")
	mustInitialize(t, url, name)
	const grants = "SELECT string_agg(format('%s %s %s', oid, relowner, relacl), E'\n' ORDER BY oid) FROM pg_class " +
		"WHERE relnamespace = 'flujo'::regnamespace AND relname NOT LIKE '%flujo_port%' " +
		"AND relname NOT LIKE 'pg_toast%'"
	before := one(t, conn, grants)
	// The application's role owns no table.
	o := options(t, fixture, role)
	o.DryRun = true
	mustMigrate(t, o)
	if got := one(t, conn, "SELECT last_value FROM flujo.steps_id_seq"); got != "1" {
		t.Errorf("the dry run set another owner's sequence to %s", got)
	}
	o.DryRun = false
	mustMigrate(t, o)
	if after := one(t, conn, grants); after != before {
		t.Errorf("got owners and grants\n%s\nwant as before\n%s", after, before)
	}
	if got := one(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != "214" {
		t.Errorf("got next id of steps %s, want 214", got)
	}
}

// TestIncompleteSchemaIsCompleted tests a schema as Flujo leaves it if its migration 3 fails.
func TestIncompleteSchemaIsCompleted(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustInitialize(t, url, "")
	conn := connect(t, url)
	run(t, conn,
		"DROP TABLE flujo.evaluations",
		"DELETE FROM flujo.flujo_schema_versions WHERE version > 2",
		"DROP INDEX flujo.idx_spans_run_id")
	mustMigrate(t, options(t, fixture, url))
	versions := one(t, conn, "SELECT string_agg(version::text, ',' ORDER BY version) FROM flujo.flujo_schema_versions")
	if versions != "1,2,3,4,5" {
		t.Errorf("got versions %s, want 1,2,3,4,5", versions)
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.evaluations"); got != "15" {
		t.Errorf("got %s evaluations, want 15", got)
	}
	if got := one(t, conn, "SELECT to_regclass('flujo.idx_spans_run_id')"); got == "NULL" {
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
			[]string{"steps.id has the default", "flujo.other", "steps_id_seq"}},
		{"newer Flujo", "INSERT INTO flujo.flujo_schema_versions (version) VALUES (6)", []string{"records version 6"}},
		{"several", "ALTER TABLE flujo.runs ADD a int; ALTER TABLE flujo.steps ADD b int; " +
			"ALTER TABLE flujo.spans DROP name",
			[]string{"runs has the extra column a", "steps has the extra column b", "spans has no column name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			mustInitialize(t, url, "")
			run(t, connect(t, url), strings.Split(c.change, "; ")...)
			wantError(t, options(t, fixture, url), clierr.Refused, c.words...)
		})
	}
}

// TestFlujoStatementsAfterCutover executes Flujo's statements, with unqualified names, through the cutover address.
func TestFlujoStatementsAfterCutover(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := options(t, fixture, url)
	mustMigrate(t, o)
	conn := connect(t, o.Cutover.Reveal())
	run(t, conn,
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
		if got := one(t, conn, query); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	run(t, conn, "DELETE FROM runs WHERE run_id = 'new'",
		"DELETE FROM runs WHERE run_id = (SELECT run_id FROM steps WHERE id = 1)")
	for _, table := range []string{"steps", "spans", "traces", "evaluations"} {
		got := one(t, conn, fmt.Sprintf("SELECT count(*) FROM %s WHERE run_id = 'new' "+
			"OR NOT EXISTS (SELECT FROM runs r WHERE r.run_id = %s.run_id)", table, table))
		if got != "0" {
			t.Errorf("%s: got %s rows of deleted runs, want 0", table, got)
		}
	}
}

// TestDamagedFile tests a file with damaged pages, with and without the integrity check.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	file := changed(t, `INSERT INTO steps (run_id, step_name, step_index, status, output, created_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		SELECT (SELECT run_id FROM runs LIMIT 1), 's', i, 'completed', '{"pad":"' || hex(randomblob(600)) || '"}',
			'2026-01-05T09:00:01+00:00' FROM n`,
		"PRAGMA wal_checkpoint(TRUNCATE)")
	overwriteLeafPages(t, file)
	url := pgtest.Database(t)
	o := options(t, file, url)
	wantError(t, o, clierr.Refused, "check", "page", "damaged")
	o.SkipIntegrity = true
	wantError(t, o, clierr.Refused, "malformed")
	if got := leftovers(t, connect(t, url)); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

// overwriteLeafPages sets the type of the table leaf pages in the last quarter of the file, where the rows added last
// are, to 0.
func overwriteLeafPages(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const page, tableLeaf = 4096, 13
	broken := 0
	for at := len(content) / page * 3 / 4 * page; at < len(content); at += page {
		if content[at] == tableLeaf {
			content[at] = 0
			broken++
		}
	}
	if broken == 0 {
		t.Fatal("found no table leaf page")
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionLostInCopy(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	copies := 0
	proxy.OnClientMessage(func(kind byte, _ []byte) bool {
		if kind == 'd' {
			copies++
		}
		return copies == 3 // inside steps
	})
	wantError(t, options(t, fixture, proxy.Rewrite(url)), clierr.Failed)
	conn := connect(t, url)
	run(t, conn, "SELECT pg_advisory_xact_lock(4059087070)") // waits until the server has ended the transaction
	if got := leftovers(t, conn); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

// isCommit reports whether a message of the client is the COMMIT.
func isCommit(kind byte, payload []byte) bool {
	var q pgproto3.Query
	return kind == 'Q' && q.Decode(payload) == nil && strings.TrimSpace(q.String) == "COMMIT"
}

// TestConnectionLostInCommit tests that the program finds out the outcome of a COMMIT whose answer is lost.
func TestConnectionLostInCommit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.CutAfterClientMessage(isCommit)
	result := mustMigrate(t, options(t, fixture, proxy.Rewrite(url)))
	if !result.Committed {
		t.Error("the report says that the migration was not committed")
	}
	if got := one(t, connect(t, url), "SELECT count(*) FROM flujo.runs"); got != "60" {
		t.Errorf("got %s runs, want 60", got)
	}
}

// TestConnectionLostBeforeCommit tests a COMMIT that does not reach the server.
func TestConnectionLostBeforeCommit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.OnClientMessage(isCommit)
	wantError(t, options(t, fixture, proxy.Rewrite(url)), clierr.Failed, "commit")
	if got := leftovers(t, connect(t, url)); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

func TestInterruptRollsBack(t *testing.T) {
	t.Parallel()
	for _, phase := range []progress.Phase{progress.Connect, progress.Schema, progress.Copy,
		progress.Indexes, progress.Verify, progress.Commit} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			o := options(t, fixture, url)
			o.OnProgress = func(p progress.Event) {
				if p.Phase == phase && (phase != progress.Copy || p.Table == "spans" && p.Rows == 100) {
					cancel()
				}
			}
			_, err := migrate.Run(ctx, o)
			conn := connect(t, url)
			if phase == progress.Commit {
				// An interrupt does not stop a COMMIT that has begun.
				if got := one(t, conn, "SELECT count(*) FROM flujo.runs"); got != "60" {
					t.Errorf("got %s runs, want 60", got)
				}
				return
			}
			if !errors.Is(err, context.Canceled) || clierr.KindOf(err) != clierr.Interrupted {
				t.Errorf("got error %v of kind %d, want an interruption", err, clierr.KindOf(err))
			}
			if got := leftovers(t, conn); got != "" {
				t.Errorf("got leftovers %s, want none", got)
			}
		})
	}
}

// TestMigrationLockIsHeld tests that a migration holds Flujo's migration lock, so that a starting Flujo waits.
func TestMigrationLockIsHeld(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := connect(t, url)
	o := options(t, fixture, url)
	asked := 0
	o.OnProgress = func(p progress.Event) {
		if p.Phase == progress.Copy || p.Phase == progress.Verify || p.Phase == progress.Commit {
			if p.Table == "" || p.Done {
				asked++
				if got := one(t, conn, "SELECT pg_try_advisory_xact_lock(x'F1F0C0DE'::bigint)"); got != "false" {
					t.Errorf("the lock is free in %s %s", p.Phase, p.Table)
				}
			}
		}
	}
	mustMigrate(t, o)
	if asked < 8 {
		t.Errorf("tested the lock %d times, want at least 8", asked)
	}
	if got := one(t, conn, "SELECT pg_try_advisory_xact_lock(x'F1F0C0DE'::bigint)"); got != "true" {
		t.Error("the lock was not released")
	}
}

// TestChangedFileIsRefused tests that a commit to the file in any phase of the migration refuses it, and that a dry run
// warns. A process that has the file open without writing to it is accepted.
func TestChangedFileIsRefused(t *testing.T) {
	t.Parallel()
	for _, phase := range []progress.Phase{progress.Connect, progress.Schema, progress.Copy,
		progress.Indexes, progress.Verify, progress.Commit} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			url, file := pgtest.Database(t), copyOf(t, fixture)
			o := options(t, file, url)
			written := false
			o.OnProgress = func(p progress.Event) {
				if p.Phase == phase && !written {
					written = true
					change(t, file,
						"INSERT INTO system_state VALUES (hex(randomblob(9)), '1', '2026-01-05T09:00:00+00:00')")
				}
			}
			wantError(t, o, clierr.Refused, "changed while it was read", "stop Flujo and run again")
			if got := leftovers(t, connect(t, url)); got != "" {
				t.Errorf("got leftovers %s, want none", got)
			}
			if phase == progress.Commit {
				return // a dry run does not commit
			}
			written, o.DryRun = false, true
			result := mustMigrate(t, o)
			warnings := strings.Join(result.Warnings, "\n")
			if !strings.Contains(warnings, "changed while it was read") {
				t.Errorf("the dry run does not warn that the file changed: %s", warnings)
			}
		})
	}
	t.Run("open without writes", func(t *testing.T) {
		t.Parallel()
		url, file := pgtest.Database(t), copyOf(t, fixture)
		keepOpen(t, file, "SELECT count(*) FROM runs", func() {
			if result := mustMigrate(t, options(t, file, url)); !result.Committed {
				t.Error("the migration was not committed")
			}
		})
	})
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
	mustMigrate(t, options(t, file, url))
	if got := one(t, connect(t, url), "SELECT status FROM flujo.runs WHERE run_id = 'in the wal'"); got != "running" {
		t.Errorf("got status %s of the run in the -wal, want running", got)
	}
	if after := folderDigests(t, filepath.Dir(file)); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("got files %v, want %v as before", after, before)
	}
}

// withWAL returns the path of a copy of the fixture with a run that is only in the -wal.
func withWAL(t testing.TB) string {
	t.Helper()
	live := changed(t, "PRAGMA journal_mode = WAL")
	file := filepath.Join(t.TempDir(), "flujo_state.db")
	keepOpen(t, live,
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
			"1 cell "},
		{"NUL in JSON", `UPDATE steps SET output = '"a\u0000b"' WHERE id = 7`,
			"SELECT output FROM flujo.steps WHERE id = 7", `"ab"`, "1 cell "},
		{"not a time", "UPDATE runs SET created_at = 'soon' WHERE rowid = 3",
			"SELECT count(*) FROM flujo.runs r JOIN flujo.workflow_state w USING (run_id) " +
				"JOIN flujo.flujo_port_originals o ON row_key = run_id WHERE r.created_at = w.created_at " +
				"AND original = 'soon'", "1", "1 cell "},
		{"beyond int4", "UPDATE steps SET token_counts = 3000000000 WHERE id = 7",
			"SELECT token_counts FROM flujo.steps WHERE id = 7", "3000000000", "1 column "},
		{"unmapped column", "UPDATE runs SET total_cost = 1.5 WHERE rowid = 3",
			"SELECT convert_from(original, 'UTF8') FROM flujo.flujo_port_originals WHERE column_name = 'total_cost'",
			"1.5", "1 cell "},
		{"child without its run",
			"PRAGMA foreign_keys = OFF; INSERT INTO evaluations (run_id, score) VALUES ('nobody', 1)",
			"SELECT format('%s %s %s', pipeline_id, pipeline_version, status) FROM flujo.runs WHERE run_id = 'nobody'",
			"unknown latest running", "1 stub run "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := options(t, changed(t, strings.Split(c.change, "; ")...), url)
			o.Strict = true
			wantError(t, o, clierr.Refused, "--strict", c.words)
			conn := connect(t, url)
			if got := leftovers(t, conn); got != "" {
				t.Errorf("got leftovers %s, want none", got)
			}
			o.Strict = false
			mustMigrate(t, o)
			if got := one(t, conn, c.query); got != c.want {
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
	mustMigrate(t, options(t, changed(t, table), url)) // an empty table needs no pgvector
	wantError(t, options(t, changed(t, table, "INSERT INTO memories (id, vector) VALUES ('a', zeroblob(6144))"),
		pgtest.Database(t)), clierr.Refused, "1 memories", "without --without-pgvector")
}

func TestServerWithoutPGVectorIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := connect(t, url)
	if one(t, conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") != "0" {
		run(t, conn, "CREATE EXTENSION IF NOT EXISTS vector") // other tests test a server with pgvector
		return
	}
	o := options(t, fixture, url)
	o.WithoutPGVector = false
	wantError(t, o, clierr.Refused, "pgvector", "install it", "an image that has it", "--without-pgvector")
	if got := leftovers(t, conn); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

func TestRefusedTargets(t *testing.T) {
	t.Parallel()
	t.Run("no right to create", func(t *testing.T) {
		t.Parallel()
		wantError(t, options(t, fixture, pgtest.Role(t, pgtest.Database(t), "")), clierr.Refused, "permission denied",
			"--grant-to")
	})
	t.Run("encoding", func(t *testing.T) {
		t.Parallel()
		wantError(t, options(t, fixture, pgtest.EncodedDatabase(t, "LATIN1")), clierr.Refused, "LATIN1", "UTF8")
	})
	t.Run("old server", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		proxy.RewriteServerParameter("server_version", "12.22 (Debian 12.22-1)")
		wantError(t, options(t, fixture, proxy.Rewrite(url)), clierr.Refused, "12.22", "older than 13")
	})
	t.Run("standby", func(t *testing.T) {
		t.Parallel()
		wantError(t, options(t, fixture, pgtest.Standby(t)), clierr.Refused, "standby", "primary")
	})
	t.Run("another role through the address", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		o := options(t, fixture, url)
		o.Cutover = cutover(t, pgtest.Role(t, url, ""))
		wantError(t, o, clierr.Refused, "has role")
		if got := leftovers(t, connect(t, url)); got != "" {
			t.Errorf("got leftovers %s, want none", got)
		}
	})
	t.Run("read-only through the address", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		conn := connect(t, url)
		run(t, conn, "ALTER DATABASE "+one(t, conn, "SELECT quote_ident(current_database())")+
			" SET default_transaction_read_only = on")
		wantError(t, options(t, fixture, url), clierr.Refused, "read-only", "default_transaction_read_only")
	})
	t.Run("replica role", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		conn := connect(t, url)
		run(t, conn, "ALTER DATABASE "+one(t, conn, "SELECT quote_ident(current_database())")+
			" SET session_replication_role = replica")
		wantError(t, options(t, fixture, url), clierr.Refused, "session_replication_role")
	})
	t.Run("row-level security", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		role := pgtest.Role(t, url, "")
		name := one(t, connect(t, role), "SELECT current_user")
		mustInitialize(t, url, name)
		run(t, connect(t, url), "ALTER TABLE flujo.runs ENABLE ROW LEVEL SECURITY")
		wantError(t, options(t, fixture, role), clierr.Refused, "row-level security", "owner")
	})
	t.Run("pooler that drops options", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		o := options(t, fixture, url)
		o.Schema = "elsewhere" // the search_path of the address is flujo
		wantError(t, o, clierr.Refused, "search_path", "pooler")
		if got := leftovers(t, connect(t, url)); got != "" {
			t.Errorf("got leftovers %s, want none", got)
		}
	})
}

func TestRoleTimeoutsAreIgnored(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := connect(t, url)
	name := one(t, conn, "SELECT quote_ident(current_database())")
	run(t, conn,
		"ALTER DATABASE "+name+" SET statement_timeout = '1ms'",
		"ALTER DATABASE "+name+" SET idle_in_transaction_session_timeout = '1ms'",
		"ALTER DATABASE "+name+" SET search_path = nowhere",
		"ALTER DATABASE "+name+" SET datestyle = 'German'")
	// The program's first statement, which resets the timeouts, is itself subject to them.
	url = pgtest.WithParameter(t, url, "statement_timeout", "0")
	mustMigrate(t, options(t, fixture, url))
	if got := one(t, connect(t, url), "SELECT count(*) FROM flujo.runs"); got != "60" {
		t.Errorf("got %s runs, want 60", got)
	}
}

func TestQuotedSchemaNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Flujo State", `we"ird`, "public", "flujo-2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := options(t, fixture, url)
			o.Schema, o.Cutover = name, cutoverFor(t, url, name)
			mustMigrate(t, o)
			conn := connect(t, o.Cutover.Reveal())
			if got := one(t, conn, "SELECT count(*) FROM runs"); got != "60" {
				t.Errorf("got %s runs, want 60", got)
			}
			wantError(t, o, clierr.Refused, "runs has 60")
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
	mustMigrate(t, options(t, changed(t, append(drops, "DROP TABLE evaluations", "CREATE TABLE notes (x)")...), url))
	conn := connect(t, url)
	const defaults = "SELECT count(*) FROM flujo.runs WHERE total_steps = 0 AND error_message IS NULL"
	if got := one(t, conn, defaults); got != "60" {
		t.Errorf("got %s runs with defaults, want 60", got)
	}
}

var _ mapping.Tuples = failingTuples{}

// failingTuples returns three tuples and then an error.
type failingTuples struct {
	n         *int
	converter *mapping.Converter
}

func (f failingTuples) Append(dst []byte) ([]byte, error) {
	if *f.n++; *f.n > 3 {
		return dst, errBroken
	}
	out, accepted, err := f.converter.Append(dst, []sqlite.Value{
		{},
		sqlite.TextValue(fmt.Sprint(*f.n)),
		sqlite.TextValue("1"),
		sqlite.TextValue("2026-01-01"),
	})
	if !accepted {
		err = errors.Join(err, errors.New("the row was rejected"))
	}
	return out, err
}

var errBroken = errors.New("the disk is broken")

// TestSourceErrorIsPreserved tests that COPY returns the error of its source, not the server's error that follows from
// it, and that the transaction has failed.
func TestSourceErrorIsPreserved(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tx, err := sink.Begin(ctx, pgtest.Database(t), schema, postgres.LockWait)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	types := mapping.NewTypes(false)
	if _, err := tx.Prepare(ctx, true, types); err != nil {
		t.Fatal(err)
	}
	tm := mapping.FullMapping("system_state")
	source := failingTuples{
		n:         new(int),
		converter: &mapping.Converter{Mapping: tm, Types: types, Options: mapping.Options{JSONDepth: 100}},
	}
	if _, err := tx.Copy(ctx, tm.Table, source); !errors.Is(err, errBroken) {
		t.Errorf("got error %v, want %v", err, errBroken)
	}
	if err := tx.Run(ctx, "SELECT"); err == nil {
		t.Error("a statement after the failed COPY succeeded")
	}
}
