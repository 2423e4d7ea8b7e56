package transfer_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/transfer"
)

// verify compares a file with a database and gives what differs.
func verify(t testing.TB, file, url string) (*report.Verification, []report.Difference, error) {
	t.Helper()
	return verifyIn(t, file, url, nil)
}

func verifyIn(t testing.TB, file, url string, zone *time.Location) (*report.Verification, []report.Difference, error) {
	t.Helper()
	var differences []report.Difference
	result, err := transfer.Verify(context.Background(), transfer.VerifyOptions{
		SQLite: file, Postgres: url, Schema: schema, NaiveZone: zone, OnDifference: func(d report.Difference) { differences = append(differences, d) },
	})
	return result, differences, err
}

// wantVerdict verifies, and sees verdict and kind of error.
func wantVerdict(
	t testing.TB,
	file, url, verdict string,
	kind clierr.Kind,
) (*report.Verification, []report.Difference) {
	t.Helper()
	result, differences, err := verify(t, file, url)
	if kind == 0 && err != nil || kind != 0 && clierr.KindOf(err) != kind || result == nil {
		t.Fatalf("error %v, want kind %d", err, kind)
	}
	if result.Verdict != verdict {
		t.Errorf("verdict %q, want %q: %+v", result.Verdict, verdict, differences)
	}
	return result, differences
}

func comparison(t testing.TB, r *report.Verification, table string) report.Comparison {
	t.Helper()
	at := slices.IndexFunc(r.Tables, func(c report.Comparison) bool { return c.Name == table })
	if at < 0 {
		t.Fatalf("table %s is not in the report", table)
	}
	return r.Tables[at]
}

func TestVerifyEqual(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"0.6.11": fixture, "every kind of change": repairedFile(t), "0.4.35": "../../testdata/flujo_0.4.35.db",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := options(t, file, url)
			o.Quarantine = true
			migrate(t, o)
			result, differences := wantVerdict(t, file, url, report.Equal, 0)
			if len(differences) != 0 || !result.Receipt.SameBytes || result.Receipt.Verify != "content" {
				t.Errorf("%d differences, receipt %+v", len(differences), result.Receipt)
			}
			for _, c := range result.Tables {
				if !c.Match || c.InFile != c.InPostgres || c.AtReceipt != c.InFile {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

// repairedFile is a file of which much arrives changed, or inferred.
func repairedFile(t testing.TB) string {
	t.Helper()
	return changed(
		t,
		"UPDATE steps SET output = 'no JSON', created_at = '' WHERE id = 1",
		"UPDATE steps SET output = '{\"a\": NaN, \"b\": \"x\\u0000y\"}', token_counts = 5000000000 WHERE id = 2",
		"UPDATE steps SET output = x'ff7b7d', created_at = '2025-09-01T08:00:00.783607' WHERE id = 3",
		"INSERT INTO spans (run_id, span_id, name, start_time, status, created_at) VALUES ('lost', 'a', 'b', 1, 'ok', '')",
		"INSERT INTO system_state VALUES (NULL, '{}', '2026-01-05')",
		"INSERT INTO system_state VALUES (x'61', '{}', '2026-01-05'), ('a', '[]', '2026-01-05')",
	)
}

// TestVerifyDrift: what Flujo does to its tables after the migration is drift,
// counted and named as such.
func TestVerifyDrift(t *testing.T) {
	t.Parallel()
	var run1, run2 string
	db, err := sql.Open("sqlite", "file:"+fixture+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT min(run_id), max(run_id) FROM runs").Scan(&run1, &run2); err != nil {
		t.Fatal(err)
	}
	var steps2 int64
	if err := db.QueryRow("SELECT count(*) FROM steps WHERE run_id = ?", run2).Scan(&steps2); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name       string
		statements []string
		table      string
		added      int64
		changed    int64
		deleted    int64
		difference string // one of them
	}{
		{"a run is saved", []string{"INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) " +
			"VALUES ('new', 'p', 'n', '1', 'running', now(), now())"}, "runs", 1, 0, 0, `runs "new" is in PostgreSQL but not in the state file`},
		{"a step is saved", []string{fmt.Sprintf("INSERT INTO flujo.steps (run_id, step_name, step_index, status, output, created_at) "+
			"VALUES ('%s', 's', 9, 'completed', '{\"a\": 1}', now())", run1)}, "steps", 1, 0, 0, `steps "214" is in PostgreSQL but not in the state file`},
		{"a run ends", []string{fmt.Sprintf("UPDATE flujo.runs SET status = 'ended', updated_at = now() WHERE run_id = '%s'", run1)}, "runs", 0, 1, 0, `column status`},
		{"a workflow is saved again", []string{fmt.Sprintf("INSERT INTO flujo.workflow_state (run_id, pipeline_id, pipeline_name, pipeline_version, current_step_index, "+
			"pipeline_context, status, created_at, updated_at) VALUES ('%s', 'p', 'n', '1', 3, '{\"x\": 1}', 'paused', now(), now()) ON CONFLICT (run_id) DO UPDATE SET "+
			"pipeline_context = EXCLUDED.pipeline_context, status = EXCLUDED.status", run1)}, "workflow_state", 0, 1, 0, `column pipeline_context: the state file has {`},
		{"a run is deleted", []string{fmt.Sprintf("DELETE FROM flujo.runs WHERE run_id = '%s'", run2)}, "steps", 0, 0, steps2, "is not in PostgreSQL"},
		{"state is kept", []string{"INSERT INTO flujo.system_state (key, value, updated_at) VALUES ('k', '1', now()), ('tracker:3', '2', now()) " +
			"ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, updated_at = EXCLUDED.updated_at", "DELETE FROM flujo.system_state WHERE key = 'tracker:4'"},
			"system_state", 1, 1, 1, `system_state "tracker:3", column value`},
		{"an evaluation is saved", []string{fmt.Sprintf("INSERT INTO flujo.evaluations (run_id, score) VALUES ('%s', 0.5)", run1)}, "evaluations", 1, 0, 0, `evaluations "16"`},
		{"a trace is saved again", []string{fmt.Sprintf("INSERT INTO flujo.traces (run_id, trace_data, created_at) VALUES ('%s', '{}', now()) "+
			"ON CONFLICT (run_id) DO UPDATE SET trace_data = EXCLUDED.trace_data", run1)}, "traces", 0, 1, 0, "column trace_data"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			migrate(t, options(t, fixture, url))
			run(t, connect(t, url), tc.statements...)
			result, differences := wantVerdict(t, fixture, url, report.Drift, 0)
			c := comparison(t, result, tc.table)
			if c.Added != tc.added || c.Changed != tc.changed || c.Deleted != tc.deleted || c.Mismatched != 0 ||
				c.Match {
				t.Errorf("%+v", c)
			}
			said := false
			for _, d := range differences {
				said = said || strings.Contains(d.String(), tc.difference)
				if !d.Since {
					t.Errorf("not said to be since: %+v", d)
				}
			}
			if !said {
				t.Errorf("nothing says %q: %v", tc.difference, differences)
			}
		})
	}
}

// TestVerifyUpdatedToTheSame: a row that was written again with the same
// content is no difference.
func TestVerifyUpdatedToTheSame(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	run(t, connect(t, url), "UPDATE flujo.steps SET output = output::text::jsonb", "VACUUM (FULL, FREEZE) flujo.runs")
	wantVerdict(t, fixture, url, report.Equal, 0)
}

// TestVerifyCopyMismatch: rows that the migration itself put there wrong, and that
// nobody wrote since, are told from drift; also next to it.
func TestVerifyCopyMismatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, damage, since string
		table               string
		bad                 int64
	}{
		{"a changed cell", "UPDATE steps SET token_counts = 1 WHERE id = 3", "SELECT", "steps", 1},
		{"a row for another", "UPDATE evaluations SET id = 99 WHERE id = 3", "SELECT", "evaluations", 1},
		{"next to drift", "UPDATE steps SET token_counts = 1 WHERE id = 3", "UPDATE flujo.steps SET status = 'other' WHERE id = 4", "steps", 1},
		{"frozen since", "UPDATE steps SET token_counts = 1 WHERE id = 3", "VACUUM (FULL, FREEZE) flujo.steps", "steps", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			tamperer(t, url)(tc.damage)
			o := options(t, fixture, url)
			o.Verify = transfer.VerifyCounts
			migrate(t, o)
			run(t, connect(t, url), tc.since)
			result, _ := wantVerdict(t, fixture, url, report.CopyMismatch, clierr.Mismatch)
			if c := comparison(t, result, tc.table); c.Mismatched != tc.bad {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestVerifyCountedAndGood: after --verify counts the file is known by its
// bytes.
func TestVerifyCountedAndGood(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := options(t, fixture, url)
	o.Verify = transfer.VerifyCounts
	migrate(t, o)
	wantVerdict(t, fixture, url, report.Equal, 0)
	run(t, connect(t, url), "DELETE FROM flujo.evaluations WHERE id = 3")
	result, _ := wantVerdict(t, fixture, url, report.Drift, 0)
	if c := comparison(t, result, "evaluations"); c.Deleted != 1 {
		t.Errorf("%+v", c)
	}
	_, _, err := verify(t, changed(t, "VACUUM"), url) // the same rows, other bytes, and no digest to know them by
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("error %v", err)
	}
	url = pgtest.Database(t)
	o.Postgres, o.Cutover = url, cutover(t, url)
	migrate(t, o)
	wantVerdict(t, changed(t, "VACUUM"), url, report.Equal, 0) // what is equal is equal
}

// TestVerifySourceMismatch: a file with other rows is not the one that was migrated;
// one with other bytes and the same rows is.
func TestVerifySourceMismatch(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	for name, statement := range map[string]string{
		"a row more": "INSERT INTO system_state VALUES ('new', '1', '2026-01-05T09:00:00+00:00')", "a row less": "DELETE FROM evaluations WHERE id = 3",
		"a cell": "UPDATE steps SET step_name = step_name || '!' WHERE id = 7",
	} {
		t.Run(name, func(t *testing.T) {
			result, differences, err := verify(t, changed(t, statement), url)
			if clierr.KindOf(err) != clierr.Refused || result == nil || result.Verdict != report.SourceMismatch ||
				len(differences) != 0 {
				t.Fatalf("%d differences, %+v: %v", len(differences), result, err)
			}
			if !strings.Contains(err.Error(), result.Receipt.SHA256) ||
				!strings.Contains(err.Error(), "not the file that was migrated") {
				t.Errorf("error %v", err)
			}
		})
	}
	result, _ := wantVerdict(t, changed(t, "VACUUM"), url, report.Equal, 0)
	if result.Receipt.SameBytes {
		t.Error("a vacuumed file is said to be the same byte for byte")
	}
}

// TestVerifyWithoutReceipt: then any difference is one.
func TestVerifyWithoutReceipt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	conn := connect(t, url)
	run(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	wantVerdict(t, fixture, url, report.Equal, 0)
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 4", "DELETE FROM flujo.evaluations WHERE id = 3")
	result, _ := wantVerdict(t, fixture, url, report.Mismatch, clierr.Mismatch)
	if result.Receipt != nil || comparison(t, result, "steps").Mismatched != 1 ||
		comparison(t, result, "evaluations").Mismatched != 1 {
		t.Errorf("%+v", result)
	}
}

// TestVerifyAsReader: a role that may only read can verify, whatever its
// timeouts and its search_path.
func TestVerifyAsReader(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	reader := pgtest.Role(t, url, "")
	conn := connect(t, url)
	name := one(t, connect(t, reader), "SELECT current_user")
	run(t, conn, "GRANT USAGE ON SCHEMA flujo TO "+name, "GRANT SELECT ON ALL TABLES IN SCHEMA flujo TO "+name,
		"ALTER ROLE "+name+" SET default_transaction_read_only = on", "ALTER ROLE "+name+" SET search_path = ''",
		"ALTER ROLE "+name+" SET idle_in_transaction_session_timeout = '1ms'")
	wantVerdict(t, fixture, reader, report.Equal, 0)
	// A policy that hides rows is not taken for rows that were deleted.
	run(
		t,
		conn,
		"ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY few ON flujo.steps USING (id < 10)",
	)
	if _, _, err := verify(t, fixture, reader); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("error %v", err)
	}
}

// TestVerifyOnStandby: a standby is as good as the primary.
func TestVerifyOnStandby(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.PrimaryAndStandby(t)
	migrate(t, options(t, fixture, primary))
	deadline := time.Now().Add(time.Minute)
	for {
		result, _, err := verify(t, fixture, standby)
		if err == nil && result.Verdict == report.Equal {
			return
		}
		if time.Now().After(deadline) { // it has not come yet
			t.Fatalf("%v", err)
		}
	}
}

// TestVerifyAsAppOfInit: the role that init granted to can verify.
func TestVerifyAsAppOfInit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	app := pgtest.Role(t, url, "")
	_, err := transfer.Init(
		context.Background(),
		transfer.InitOptions{
			Postgres:        url,
			Schema:          schema,
			WithoutPGVector: true,
			GrantTo:         one(t, connect(t, app), "SELECT current_user"),
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, fixture, app, report.Equal, 0)
}

// TestVerifyOriginals: the table of originals is part of what was migrated.
func TestVerifyOriginals(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), repairedFile(t)
	o := options(t, file, url)
	o.Quarantine = true
	migrate(t, o)
	conn := connect(t, url)
	result, _ := wantVerdict(t, file, url, report.Equal, 0)
	if c := comparison(t, result, "flujo_port_originals"); !c.Match || c.InFile == 0 || c.InFile != c.InPostgres {
		t.Errorf("%+v", c)
	}
	run(
		t,
		conn,
		"UPDATE flujo.flujo_port_originals SET original = 'other' WHERE column_name = 'output' AND row_key = '1'",
	)
	wantVerdict(t, file, url, report.CopyMismatch, clierr.Mismatch)
	run(t, conn, "DROP TABLE flujo.flujo_port_originals")
	wantVerdict(t, file, url, report.Mismatch, clierr.Mismatch)
}

// TestVerifyDroppedTable: a table that is not there any more is said to be.
func TestVerifyDroppedTable(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	run(t, connect(t, url), "DROP TABLE flujo.spans")
	_, _, err := verify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Mismatch || !strings.Contains(err.Error(), "not in the schema any more: spans") {
		t.Errorf("error %v", err)
	}
}

// TestVerifyOtherTimezone: the file is the same and PostgreSQL holds what was
// verified: another reading of the file does not make a copy mismatch of it.
func TestVerifyOtherTimezone(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), changed(t, "UPDATE steps SET created_at = '2025-09-01T08:00:00' WHERE id < 9")
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, file, url)
	o.NaiveZone = berlin
	migrate(t, o)
	wantVerdict(t, file, url, report.Equal, 0)
	result, differences, err := verifyIn(t, file, url, time.UTC)
	if err != nil || result.Verdict != report.Equal || len(differences) != 0 ||
		!strings.Contains(strings.Join(result.Notes, "; "), "reads it otherwise") {
		t.Errorf("%+v: %v", result, err)
	}
}

// TestVerifyDamagedIndex: a row that a scan finds and its key does not is a
// difference, and not nothing.
func TestVerifyDamagedIndex(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	conn := connect(t, url)
	run(
		t,
		conn,
		"UPDATE pg_index SET indisready = false WHERE indexrelid = 'flujo.steps_pkey'::regclass",
		"UPDATE flujo.steps SET run_id = run_id, step_index = 99 WHERE id = 7",
		"UPDATE pg_index SET indisready = true WHERE indexrelid = 'flujo.steps_pkey'::regclass",
		"ALTER DATABASE "+one(t, conn, "SELECT quote_ident(current_database())")+" SET enable_seqscan = off",
	)
	result, differences, err := verify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Mismatch || len(differences) != 1 ||
		!strings.Contains(differences[0].String(), "an index is damaged") {
		t.Errorf("%v, %+v: %v", differences, result, err)
	}
}

// TestVerifyFileWrittenMeanwhile: then nothing is said of the copy.
func TestVerifyFileWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), copyOf(t, fixture)
	migrate(t, options(t, file, url))
	for _, phase := range []string{transfer.PhaseConnect, transfer.PhaseRead} {
		written := false
		_, err := transfer.Verify(
			context.Background(),
			transfer.VerifyOptions{SQLite: file, Postgres: url, Schema: schema, OnProgress: func(p transfer.Progress) {
				if p.Phase == phase && !written {
					written = true
					commitTo(t, file, "UPDATE evaluations SET score = score + 1")
				}
			}},
		)
		if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("written in phase %s: %v", phase, err)
		}
	}
}

// commitTo commits to a file as another program does.
func commitTo(t testing.TB, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", file+unsynced)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestReceiptsAreInOrder: the last migration's receipt counts, whatever the
// clocks say.
func TestReceiptsAreInOrder(t *testing.T) {
	t.Parallel()
	url, second := pgtest.Database(t), changed(t, "DELETE FROM evaluations WHERE id = 3")
	migrate(t, options(t, fixture, url))
	run(
		t,
		connect(t, url),
		"UPDATE flujo.flujo_port_receipts SET migrated_at = migrated_at + interval '1 hour'",
		"TRUNCATE flujo.runs, flujo.workflow_state, flujo.steps, flujo.spans, flujo.traces, flujo.evaluations, flujo.system_state",
	)
	migrate(t, options(t, second, url))
	wantVerdict(t, second, url, report.Equal, 0)
}

// TestPathThatIsNotText: a folder's name need not be UTF-8.
func TestPathThatIsNotText(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "d\xff")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Skipf("no such names here: %v", err)
	}
	file := filepath.Join(folder, "flujo_state.db")
	if err := os.Rename(copyOf(t, fixture), file); err != nil {
		t.Fatal(err)
	}
	url := pgtest.Database(t)
	migrate(t, options(t, file, url))
	wantVerdict(t, file, url, report.Equal, 0)
}

// TestVerifyNothingThere: a schema without Flujo's tables, or with others of
// their names, is refused in words.
func TestVerifyNothingThere(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	_, _, err := verify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "none of Flujo's tables") {
		t.Errorf("error %v", err)
	}
	run(t, connect(t, url), "CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id int)")
	_, _, err = verify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "runs.run_id is integer, not text") {
		t.Errorf("error %v", err)
	}
}

// TestReceipt: what it says is what the test reads itself, with the SQL that
// ARCHITECTURE.md gives.
func TestReceipt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := options(t, fixture, url)
	o.Version = "v1.2.3"
	result := migrate(t, o)
	conn := connect(t, url)
	for _, row := range result.Tables {
		digest := one(t, conn, digestSQL(t, row.Name))
		if got := one(t, conn, "SELECT t->>'digest' FROM flujo.flujo_port_receipts, jsonb_array_elements(tables) t WHERE t->>'name' = $1", row.Name); got != digest ||
			row.Digest != digest {
			t.Errorf("%s: digest %s in the receipt, %s in the report, %s computed", row.Name, got, row.Digest, digest)
		}
		if got := one(t, conn, "SELECT t->>'rows' FROM flujo.flujo_port_receipts, jsonb_array_elements(tables) t WHERE t->>'name' = $1", row.Name); got != fmt.Sprint(
			row.InPostgres,
		) {
			t.Errorf("%s: %s rows", row.Name, got)
		}
	}
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(SELECT .*?record_send.*?);\n```").FindSubmatch(text)
	if len(blocks) != 2 {
		t.Fatal("ARCHITECTURE.md does not say how a digest is computed")
	}
	if documented := one(t, conn, "SELECT digest FROM ("+string(blocks[1])+") documented"); documented != one(
		t,
		conn,
		digestSQL(t, "steps"),
	) {
		t.Errorf("as documented the digest of steps is %s", documented)
	}
	sum := strings.Fields(command(t, "sha256sum", fixture))[0]
	for column, want := range map[string]string{"version": "v1.2.3", "file_sha256": sum, "file_bytes": "434176", "wal_bytes": "0", "wal_sha256": "",
		"file_format": "Flujo 0.6", "verify": "content", "options->>'naive_timezone'": "UTC", "file_path": result.Source.Path} {
		if got := one(t, conn, "SELECT "+column+" FROM flujo.flujo_port_receipts"); got != want {
			t.Errorf("%s is %q, want %q", column, got, want)
		}
	}
}

// TestReceiptWriters: they are the xmin of the rows, however many COPYs a table
// took and whether the migration made it.
func TestReceiptWriters(t *testing.T) {
	t.Parallel()
	two := changed(
		t,
		"INSERT INTO traces SELECT run_id, '{}', '2026-01-05T09:00:00' FROM runs LIMIT 1", // and others are derived
		"INSERT INTO steps (run_id, step_name, step_index, status, created_at) VALUES ('of no run', 's', 0, 'completed', '2026-01-05T09:00:00')",
	)
	wide := changed(t, "UPDATE steps SET token_counts = 3000000000 WHERE id = 213") // copied anew
	for name, tc := range map[string]struct {
		file   string
		before string // done to the database
		many   string // tables with two writers
	}{
		"one COPY for each table": {fixture, "", ""},
		"two COPYs for two":       {two, "", "runs, traces"},
		"a table copied anew":     {wide, "", ""},
		"tables that were there":  {two, "flujo", "runs, traces"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			if tc.before != "" {
				if _, err := transfer.Init(t.Context(), transfer.InitOptions{Postgres: url, Schema: tc.before, WithoutPGVector: true}); err != nil {
					t.Fatal(err)
				}
			}
			result := migrate(t, options(t, tc.file, url))
			conn := connect(t, url)
			var many []string
			for _, row := range result.Tables {
				xmins := one(
					t,
					conn,
					"SELECT coalesce(jsonb_agg(DISTINCT xmin::text::bigint), 'null') FROM flujo."+row.Name,
				)
				if got := one(t, conn, "SELECT t->'writers' FROM flujo.flujo_port_receipts, jsonb_array_elements(tables) t WHERE t->>'name' = $1", row.Name); got != xmins &&
					!(got == "[]" && xmins == "null") {
					t.Errorf("%s: %s in the receipt, %s in the table", row.Name, got, xmins)
				}
				if strings.Contains(xmins, ",") {
					many = append(many, row.Name)
				}
			}
			if got := strings.Join(many, ", "); got != tc.many {
				t.Errorf("the tables with two writers are %s", got)
			}
		})
	}
}

// digestSQL is what ARCHITECTURE.md says of a digest, in SQL.
func digestSQL(t testing.TB, table string) string {
	t.Helper()
	var columns []string
	for column := range strings.SplitSeq(flujoTables[table], ", ") {
		name, kind, _ := strings.Cut(column, " ")
		switch kind[0] {
		case 'I':
			name += "::bigint"
		case 'R':
			name += "::double precision"
		}
		columns = append(columns, name)
	}
	return fmt.Sprintf(
		`SELECT coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint), 0) || ',' || coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint), 0)
		FROM (SELECT encode(sha256(record_send(ROW(%s))), 'hex') AS h FROM flujo.%s) rows`,
		strings.Join(columns, ", "),
		table,
	)
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}
