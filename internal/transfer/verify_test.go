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
	"flujo-port/internal/initialize"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

// verify compares a file with a database and returns the report and the differences.
func runVerify(t testing.TB, file, url string) (*report.Verification, []report.Difference, error) {
	t.Helper()
	return verifyIn(t, file, url, nil)
}

// verifyIn is verify with a zone for naive timestamps.
func verifyIn(t testing.TB, file, url string, zone *time.Location) (*report.Verification, []report.Difference, error) {
	t.Helper()
	var differences []report.Difference
	result, err := verify.Run(context.Background(), verify.Options{
		SQLite: file, Postgres: url, Schema: schema, NaiveZone: zone,
		OnDifference: func(d report.Difference) { differences = append(differences, d) },
	})
	return result, differences, err
}

// wantVerdict runs verify and tests its verdict and the kind of its error; 0 is no error.
func wantVerdict(
	t testing.TB,
	file, url, verdict string,
	kind clierr.Kind,
) (*report.Verification, []report.Difference) {
	t.Helper()
	result, differences, err := runVerify(t, file, url)
	if kind == 0 && err != nil || kind != 0 && clierr.KindOf(err) != kind || result == nil {
		t.Fatalf("got error %v, want kind %d", err, kind)
	}
	if result.Verdict != verdict {
		t.Errorf("got verdict %q, want %q: %+v", result.Verdict, verdict, differences)
	}
	return result, differences
}

// comparison returns the report's row of a table.
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
			mustMigrate(t, o)
			result, differences := wantVerdict(t, file, url, report.Equal, 0)
			if len(differences) != 0 || !result.Receipt.SameBytes || result.Receipt.Verify != "content" {
				t.Errorf("got %d differences and receipt %+v, want none and the same bytes", len(differences),
					result.Receipt)
			}
			for _, c := range result.Tables {
				if !c.Match || c.InFile != c.InPostgres || c.AtReceipt != c.InFile {
					t.Errorf("got %+v, want a match and equal numbers of rows", c)
				}
			}
		})
	}
}

// repairedFile writes a file with cells that are converted with loss, inferred timestamps and rejected rows, and
// returns its path.
func repairedFile(t testing.TB) string {
	t.Helper()
	return changed(t,
		"UPDATE steps SET output = 'no JSON', created_at = '' WHERE id = 1",
		"UPDATE steps SET output = '{\"a\": NaN, \"b\": \"x\\u0000y\"}', token_counts = 5000000000 WHERE id = 2",
		"UPDATE steps SET output = x'ff7b7d', created_at = '2025-09-01T08:00:00.783607' WHERE id = 3",
		"INSERT INTO spans (run_id, span_id, name, start_time, status, created_at) "+
			"VALUES ('lost', 'a', 'b', 1, 'ok', '')",
		"INSERT INTO system_state VALUES (NULL, '{}', '2026-01-05')",
		"INSERT INTO system_state VALUES (x'61', '{}', '2026-01-05'), ('a', '[]', '2026-01-05')")
}

// TestVerifyDrift tests that Flujo's writes after the migration are reported and counted as drift.
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
		{"a run is saved", []string{"INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, " +
			"status, created_at, updated_at) VALUES ('new', 'p', 'n', '1', 'running', now(), now())"},
			"runs", 1, 0, 0, `runs "new" is in PostgreSQL but not in the state file`},
		{"a step is saved",
			[]string{fmt.Sprintf("INSERT INTO flujo.steps (run_id, step_name, step_index, status, output, created_at) "+
				"VALUES ('%s', 's', 9, 'completed', '{\"a\": 1}', now())", run1)},
			"steps", 1, 0, 0, `steps "214" is in PostgreSQL but not in the state file`},
		{"a run ends", []string{fmt.Sprintf("UPDATE flujo.runs SET status = 'ended', updated_at = now() "+
			"WHERE run_id = '%s'", run1)},
			"runs", 0, 1, 0, `column status`},
		{"a workflow is saved again", []string{fmt.Sprintf("INSERT INTO flujo.workflow_state (run_id, pipeline_id, "+
			"pipeline_name, pipeline_version, current_step_index, pipeline_context, status, created_at, updated_at) "+
			"VALUES ('%s', 'p', 'n', '1', 3, '{\"x\": 1}', 'paused', now(), now()) ON CONFLICT (run_id) DO UPDATE SET "+
			"pipeline_context = EXCLUDED.pipeline_context, status = EXCLUDED.status", run1)},
			"workflow_state", 0, 1, 0, `column pipeline_context: the state file has {`},
		{"a run is deleted", []string{fmt.Sprintf("DELETE FROM flujo.runs WHERE run_id = '%s'", run2)},
			"steps", 0, 0, steps2, "is not in PostgreSQL"},
		{"state is saved", []string{"INSERT INTO flujo.system_state (key, value, updated_at) " +
			"VALUES ('k', '1', now()), ('tracker:3', '2', now()) " +
			"ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, updated_at = EXCLUDED.updated_at",
			"DELETE FROM flujo.system_state WHERE key = 'tracker:4'"},
			"system_state", 1, 1, 1, `system_state "tracker:3", column value`},
		{"an evaluation is saved", []string{fmt.Sprintf("INSERT INTO flujo.evaluations (run_id, score) "+
			"VALUES ('%s', 0.5)", run1)},
			"evaluations", 1, 0, 0, `evaluations "16"`},
		{"a trace is saved again", []string{fmt.Sprintf("INSERT INTO flujo.traces (run_id, trace_data, created_at) "+
			"VALUES ('%s', '{}', now()) ON CONFLICT (run_id) DO UPDATE SET trace_data = EXCLUDED.trace_data", run1)},
			"traces", 0, 1, 0, "column trace_data"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			mustMigrate(t, options(t, fixture, url))
			run(t, connect(t, url), tc.statements...)
			result, differences := wantVerdict(t, fixture, url, report.Drift, 0)
			c := comparison(t, result, tc.table)
			if c.Added != tc.added || c.Changed != tc.changed || c.Deleted != tc.deleted || c.Mismatched != 0 ||
				c.Match {
				t.Errorf("got %+v, want %d added, %d changed and %d deleted", c, tc.added, tc.changed, tc.deleted)
			}
			found := false
			for _, d := range differences {
				found = found || strings.Contains(d.String(), tc.difference)
				if !d.Since {
					t.Errorf("got difference %+v, want one since the migration", d)
				}
			}
			if !found {
				t.Errorf("got differences %v, want %q among them", differences, tc.difference)
			}
		})
	}
}

// TestVerifyUpdatedToTheSame tests that rows rewritten with the same content are equal.
func TestVerifyUpdatedToTheSame(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	run(t, connect(t, url), "UPDATE flujo.steps SET output = output::text::jsonb", "VACUUM (FULL, FREEZE) flujo.runs")
	wantVerdict(t, fixture, url, report.Equal, 0)
}

// TestVerifyCopyMismatch tests that rows that the migration copied wrongly, and that were not written later, are
// distinguished from drift.
func TestVerifyCopyMismatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, damage, since string
		table               string
		bad                 int64
	}{
		{"a changed cell", "UPDATE steps SET token_counts = 1 WHERE id = 3", "SELECT", "steps", 1},
		{"another key", "UPDATE evaluations SET id = 99 WHERE id = 3", "SELECT", "evaluations", 1},
		{"together with drift", "UPDATE steps SET token_counts = 1 WHERE id = 3",
			"UPDATE flujo.steps SET status = 'other' WHERE id = 4", "steps", 1},
		{"frozen later", "UPDATE steps SET token_counts = 1 WHERE id = 3", "VACUUM (FULL, FREEZE) flujo.steps",
			"steps", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			tamperer(t, url)(tc.damage)
			o := options(t, fixture, url)
			o.Verify = report.VerifyCounts
			mustMigrate(t, o)
			run(t, connect(t, url), tc.since)
			result, _ := wantVerdict(t, fixture, url, report.CopyMismatch, clierr.Mismatch)
			if c := comparison(t, result, tc.table); c.Mismatched != tc.bad {
				t.Errorf("got %+v, want %d mismatched", c, tc.bad)
			}
		})
	}
}

// TestVerifyAfterCounts tests that verify identifies the file by its bytes after migrate --verify counts.
func TestVerifyAfterCounts(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := options(t, fixture, url)
	o.Verify = report.VerifyCounts
	mustMigrate(t, o)
	wantVerdict(t, fixture, url, report.Equal, 0)
	run(t, connect(t, url), "DELETE FROM flujo.evaluations WHERE id = 3")
	result, _ := wantVerdict(t, fixture, url, report.Drift, 0)
	if c := comparison(t, result, "evaluations"); c.Deleted != 1 {
		t.Errorf("got %+v, want 1 deleted", c)
	}
	_, _, err := runVerify(t, changed(t, "VACUUM"), url) // the same rows in other bytes; the receipt has no digests
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got error %v, want a refusal", err)
	}
	url = pgtest.Database(t)
	o.Postgres, o.Cutover = url, cutover(t, url)
	mustMigrate(t, o)
	wantVerdict(t, changed(t, "VACUUM"), url, report.Equal, 0) // without drift, equal rows are enough
}

// TestVerifySourceMismatch tests that a file with other rows than the migrated file is refused, and that one with the
// same rows in other bytes is not.
func TestVerifySourceMismatch(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	for name, statement := range map[string]string{
		"an extra row":  "INSERT INTO system_state VALUES ('new', '1', '2026-01-05T09:00:00+00:00')",
		"a missing row": "DELETE FROM evaluations WHERE id = 3",
		"another cell":  "UPDATE steps SET step_name = step_name || '!' WHERE id = 7",
	} {
		t.Run(name, func(t *testing.T) {
			result, differences, err := runVerify(t, changed(t, statement), url)
			if clierr.KindOf(err) != clierr.Refused || result == nil || result.Verdict != report.SourceMismatch ||
				len(differences) != 0 {
				t.Fatalf("got %d differences, %+v and error %v, want a source mismatch", len(differences), result, err)
			}
			if !strings.Contains(err.Error(), result.Receipt.SHA256) ||
				!strings.Contains(err.Error(), "not the file that was migrated") {
				t.Errorf("got error %v, want one with the receipt's SHA-256", err)
			}
		})
	}
	result, _ := wantVerdict(t, changed(t, "VACUUM"), url, report.Equal, 0)
	if result.Receipt.SameBytes {
		t.Error("got the same bytes for a vacuumed file")
	}
}

// TestVerifyWithoutReceipt tests that any difference is a mismatch without a receipt.
func TestVerifyWithoutReceipt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	conn := connect(t, url)
	run(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	wantVerdict(t, fixture, url, report.Equal, 0)
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 4", "DELETE FROM flujo.evaluations WHERE id = 3")
	result, _ := wantVerdict(t, fixture, url, report.Mismatch, clierr.Mismatch)
	if result.Receipt != nil || comparison(t, result, "steps").Mismatched != 1 ||
		comparison(t, result, "evaluations").Mismatched != 1 {
		t.Errorf("got %+v, want no receipt and 1 mismatched step and evaluation", result)
	}
}

// TestVerifyAsReader tests that a role that may only read can verify, regardless of its timeouts and its search_path.
func TestVerifyAsReader(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	reader := pgtest.Role(t, url, "")
	conn := connect(t, url)
	name := one(t, connect(t, reader), "SELECT current_user")
	run(t, conn, "GRANT USAGE ON SCHEMA flujo TO "+name, "GRANT SELECT ON ALL TABLES IN SCHEMA flujo TO "+name,
		"ALTER ROLE "+name+" SET default_transaction_read_only = on", "ALTER ROLE "+name+" SET search_path = ''",
		"ALTER ROLE "+name+" SET idle_in_transaction_session_timeout = '1ms'")
	wantVerdict(t, fixture, reader, report.Equal, 0)
	// Rows that a policy hides are not reported as deleted.
	run(t, conn,
		"ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY few ON flujo.steps USING (id < 10)")
	if _, _, err := runVerify(t, fixture, reader); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("got error %v, want one on row-level security", err)
	}
}

// TestVerifyOnStandby tests verify on a standby.
func TestVerifyOnStandby(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.PrimaryAndStandby(t)
	mustMigrate(t, options(t, fixture, primary))
	deadline := time.Now().Add(time.Minute)
	for {
		result, _, err := runVerify(t, fixture, standby)
		if err == nil && result.Verdict == report.Equal {
			return
		}
		if time.Now().After(deadline) { // the rows have not been replicated
			t.Fatalf("got %+v and error %v from the standby, want equal", result, err)
		}
	}
}

// TestVerifyAsGrantedRole tests that the role of init --grant-to can verify.
func TestVerifyAsGrantedRole(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	app := pgtest.Role(t, url, "")
	_, err := initialize.Run(context.Background(), initialize.Options{
		Postgres:        url,
		Schema:          schema,
		WithoutPGVector: true,
		GrantTo:         one(t, connect(t, app), "SELECT current_user"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, fixture, app, report.Equal, 0)
}

// TestVerifyOriginals tests that verify compares flujo_port_originals.
func TestVerifyOriginals(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), repairedFile(t)
	o := options(t, file, url)
	o.Quarantine = true
	mustMigrate(t, o)
	conn := connect(t, url)
	result, _ := wantVerdict(t, file, url, report.Equal, 0)
	if c := comparison(t, result, "flujo_port_originals"); !c.Match || c.InFile == 0 || c.InFile != c.InPostgres {
		t.Errorf("got %+v, want a match with rows", c)
	}
	run(t, conn,
		"UPDATE flujo.flujo_port_originals SET original = 'other' WHERE column_name = 'output' AND row_key = '1'")
	wantVerdict(t, file, url, report.CopyMismatch, clierr.Mismatch)
	run(t, conn, "DROP TABLE flujo.flujo_port_originals")
	wantVerdict(t, file, url, report.Mismatch, clierr.Mismatch)
}

// TestVerifyDroppedTable tests that a table that was dropped is reported.
func TestVerifyDroppedTable(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	run(t, connect(t, url), "DROP TABLE flujo.spans")
	_, _, err := runVerify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Mismatch || !strings.Contains(err.Error(), "no longer has these tables: spans") {
		t.Errorf("got error %v, want a mismatch of spans", err)
	}
}

// TestVerifyOtherTimezone tests that another zone for naive timestamps is not reported as a copy mismatch if the file
// and the rows are those that were verified.
func TestVerifyOtherTimezone(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), changed(t, "UPDATE steps SET created_at = '2025-09-01T08:00:00' WHERE id < 9")
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, file, url)
	o.NaiveZone = berlin
	mustMigrate(t, o)
	wantVerdict(t, file, url, report.Equal, 0)
	result, differences, err := verifyIn(t, file, url, time.UTC)
	if err != nil || result.Verdict != report.Equal || len(differences) != 0 ||
		!strings.Contains(strings.Join(result.Notes, "; "), "converts the file differently") {
		t.Errorf("got %+v and error %v, want equal with a note", result, err)
	}
}

// TestVerifyDamagedIndex tests that a row that a sequential scan finds and an index scan does not is reported.
func TestVerifyDamagedIndex(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
	conn := connect(t, url)
	run(t, conn,
		"UPDATE pg_index SET indisready = false WHERE indexrelid = 'flujo.steps_pkey'::regclass",
		"UPDATE flujo.steps SET run_id = run_id, step_index = 99 WHERE id = 7",
		"UPDATE pg_index SET indisready = true WHERE indexrelid = 'flujo.steps_pkey'::regclass",
		"ALTER DATABASE "+one(t, conn, "SELECT quote_ident(current_database())")+" SET enable_seqscan = off")
	result, differences, err := runVerify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Mismatch || len(differences) != 1 ||
		!strings.Contains(differences[0].String(), "an index is damaged") {
		t.Errorf("got differences %v, %+v and error %v, want one on a damaged index", differences, result, err)
	}
}

// TestVerifyFileWrittenMeanwhile tests that verify is refused if the file is written while it is read.
func TestVerifyFileWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), copyOf(t, fixture)
	mustMigrate(t, options(t, file, url))
	for _, phase := range []progress.Phase{progress.Connect, progress.Read} {
		written := false
		_, err := verify.Run(context.Background(),
			verify.Options{SQLite: file, Postgres: url, Schema: schema, OnProgress: func(p progress.Event) {
				if p.Phase == phase && !written {
					written = true
					change(t, file, "UPDATE evaluations SET score = score + 1")
				}
			}})
		if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("written in phase %s: got error %v, want a refusal", phase, err)
		}
	}
}

// TestReceiptsAreInOrder tests that verify uses the receipt of the last migration, regardless of the clock.
func TestReceiptsAreInOrder(t *testing.T) {
	t.Parallel()
	url, second := pgtest.Database(t), changed(t, "DELETE FROM evaluations WHERE id = 3")
	mustMigrate(t, options(t, fixture, url))
	run(t, connect(t, url),
		"UPDATE flujo.flujo_port_receipts SET migrated_at = migrated_at + interval '1 hour'",
		"TRUNCATE flujo.runs, flujo.workflow_state, flujo.steps, flujo.spans, flujo.traces, flujo.evaluations, "+
			"flujo.system_state")
	mustMigrate(t, options(t, second, url))
	wantVerdict(t, second, url, report.Equal, 0)
}

// TestPathWithInvalidUTF8 tests a path that is not valid UTF-8.
func TestPathWithInvalidUTF8(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "d\xff")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Skipf("the file system does not support the name: %v", err)
	}
	file := filepath.Join(folder, "flujo_state.db")
	if err := os.Rename(copyOf(t, fixture), file); err != nil {
		t.Fatal(err)
	}
	url := pgtest.Database(t)
	mustMigrate(t, options(t, file, url))
	wantVerdict(t, file, url, report.Equal, 0)
}

// TestVerifyWithoutTables tests that a schema without Flujo's tables, or with other tables of their names, is refused.
func TestVerifyWithoutTables(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	_, _, err := runVerify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "none of Flujo's tables") {
		t.Errorf("got error %v, want a refusal", err)
	}
	run(t, connect(t, url), "CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id int)")
	_, _, err = runVerify(t, fixture, url)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "runs.run_id is integer, not text") {
		t.Errorf("got error %v, want a refusal", err)
	}
}

// TestReceipt compares the receipt with values that the test computes, digests with the SQL in ARCHITECTURE.md.
func TestReceipt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := options(t, fixture, url)
	o.Version = "v1.2.3"
	result := mustMigrate(t, o)
	conn := connect(t, url)
	for _, row := range result.Tables {
		digest := one(t, conn, digestSQL(t, row.Name))
		const field = "SELECT t->>$1 FROM flujo.flujo_port_receipts, jsonb_array_elements(tables) t " +
			"WHERE t->>'name' = $2"
		if got := one(t, conn, field, "digest", row.Name); got != digest || row.Digest != digest {
			t.Errorf("%s: got digest %s in the receipt and %s in the report, want %s", row.Name, got,
				row.Digest, digest)
		}
		if got := one(t, conn, field, "rows", row.Name); got != fmt.Sprint(row.InPostgres) {
			t.Errorf("%s: got %s rows in the receipt, want %d", row.Name, got, row.InPostgres)
		}
	}
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(SELECT .*?record_send.*?);\n```").FindSubmatch(text)
	if len(blocks) != 2 {
		t.Fatal("ARCHITECTURE.md has no SQL of a digest")
	}
	want := one(t, conn, digestSQL(t, "steps"))
	if got := one(t, conn, "SELECT digest FROM ("+string(blocks[1])+") documented"); got != want {
		t.Errorf("got digest %s of steps with the SQL in ARCHITECTURE.md, want %s", got, want)
	}
	sum := strings.Fields(command(t, "sha256sum", fixture))[0]
	for column, want := range map[string]string{"version": "v1.2.3", "file_sha256": sum, "file_bytes": "434176",
		"wal_bytes": "0", "wal_sha256": "", "file_format": "Flujo 0.6", "verify": "content",
		"options->>'naive_timezone'": "UTC", "file_path": result.Source.Path} {
		if got := one(t, conn, "SELECT "+column+" FROM flujo.flujo_port_receipts"); got != want {
			t.Errorf("%s: got %q, want %q", column, got, want)
		}
	}
}

// TestReceiptWriters tests that the writers in the receipt are the xmin of the rows, for tables with one or several
// COPYs, created by the migration or before it.
func TestReceiptWriters(t *testing.T) {
	t.Parallel()
	two := changed(t,
		"INSERT INTO traces SELECT run_id, '{}', '2026-01-05T09:00:00' FROM runs LIMIT 1", // the others are derived
		"INSERT INTO steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('of no run', 's', 0, 'completed', '2026-01-05T09:00:00')")
	wide := changed(t, "UPDATE steps SET token_counts = 3000000000 WHERE id = 213") // copied again as bigint
	for name, tc := range map[string]struct {
		file  string
		exist bool   // whether the tables exist before the migration
		many  string // tables with two writers
	}{
		"one COPY for each table":  {fixture, false, ""},
		"two COPYs for two tables": {two, false, "runs, traces"},
		"a table copied again":     {wide, false, ""},
		"existing tables":          {two, true, "runs, traces"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			if tc.exist {
				mustInitialize(t, url, "")
			}
			result := mustMigrate(t, options(t, tc.file, url))
			conn := connect(t, url)
			var many []string
			for _, row := range result.Tables {
				xmins := one(t, conn,
					"SELECT coalesce(jsonb_agg(DISTINCT xmin::text::bigint), 'null') FROM flujo."+row.Name)
				got := one(t, conn, "SELECT t->'writers' FROM flujo.flujo_port_receipts, "+
					"jsonb_array_elements(tables) t WHERE t->>'name' = $1", row.Name)
				if got != xmins && !(got == "[]" && xmins == "null") {
					t.Errorf("%s: got writers %s in the receipt, want %s", row.Name, got, xmins)
				}
				if strings.Contains(xmins, ",") {
					many = append(many, row.Name)
				}
			}
			if got := strings.Join(many, ", "); got != tc.many {
				t.Errorf("got tables with two writers %q, want %q", got, tc.many)
			}
		})
	}
}

// digestSQL returns the SQL of a table's digest as in ARCHITECTURE.md.
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
	return fmt.Sprintf(`SELECT coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint), 0) || ',' ||
			coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint), 0)
		FROM (SELECT encode(sha256(record_send(ROW(%s))), 'hex') AS h FROM flujo.%s) rows`,
		strings.Join(columns, ", "), table)
}

// command returns the output of a program.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}
