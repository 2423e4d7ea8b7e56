package verify_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

// ifMigrated runs verify.IfMigrated.
func ifMigrated(url string, paths ...string) (*report.Verification, int64, error) {
	return verify.IfMigrated(context.Background(), verify.Options{
		SQLite: paths[0], More: paths[1:], Postgres: url, Schema: flujotest.Schema,
	})
}

// wantMigrated tests that the files count as migrated, and returns the report.
func wantMigrated(t *testing.T, url, verdict string, paths ...string) *report.Verification {
	t.Helper()
	result, _, err := ifMigrated(url, paths...)
	if err != nil || result == nil || result.Verdict != verdict {
		t.Fatalf("got %+v and error %v, want the verdict %s", result, err, verdict)
	}
	return result
}

// wantNotMigrated tests that the files do not count as migrated, and the id of the last receipt.
func wantNotMigrated(t *testing.T, url string, last int64, paths ...string) {
	t.Helper()
	if result, id, err := ifMigrated(url, paths...); err != nil || result != nil || id != last {
		t.Errorf("got %+v, receipt %d and error %v, want no report and receipt %d", result, id, err, last)
	}
}

// TestIfMigrated tests which files count as migrated.
func TestIfMigrated(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	other := flujotest.Changed(t, "UPDATE steps SET step_name = step_name || '!' WHERE id = 7")

	wantNotMigrated(t, url, 0, flujotest.Fixture)
	flujotest.Initialize(t, url, "")
	wantNotMigrated(t, url, 0, flujotest.Fixture)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	if result := wantMigrated(t, url, report.Equal, flujotest.Fixture); !result.Receipt.SameBytes ||
		result.Receipt.ID != 1 || len(result.Tables) == 0 {
		t.Errorf("got %+v", result)
	}
	if result := wantMigrated(
		t, url, report.Equal, flujotest.Changed(t, "VACUUM"),
	); result.Receipt.SameBytes {
		t.Error("got the same bytes for a vacuumed file")
	}
	wantNotMigrated(t, url, 1, other)
	wantNotMigrated(t, url, 1, flujotest.Fixture, other)
	wantNotMigrated(t, url, 1, other, flujotest.Fixture)

	// A file with all rows of PostgreSQL is not the one of the receipt.
	flujotest.Exec(t, conn, "UPDATE flujo.steps SET step_name = step_name || '!' WHERE id = 7")
	flujotest.WantVerdict(t, other, url, report.Equal, 0)
	wantNotMigrated(t, url, 1, other)
	wantMigrated(t, url, report.Drift, flujotest.Fixture)

	o := flujotest.Options(t, other, url)
	o.Replace = true
	flujotest.Migrate(t, o)
	wantNotMigrated(t, url, 2, flujotest.Fixture)
	wantMigrated(t, url, report.Equal, other)

	o = flujotest.Options(t, flujotest.Fixture, url)
	o.Merge = true
	flujotest.Migrate(t, o)
	wantMigrated(t, url, report.Equal, other)
	wantMigrated(t, url, report.Merged, flujotest.Fixture)
	wantMigrated(t, url, report.Merged, flujotest.Fixture, other)
	wantNotMigrated(t, url, 3, flujotest.Fixture, flujotest.Changed(t, "DELETE FROM system_state"))

	flujotest.Exec(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	wantNotMigrated(t, url, 0, flujotest.Fixture)
}

// TestIfMigratedAfterCounts tests that without digests only the bytes of a file show that it was migrated.
func TestIfMigratedAfterCounts(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.Verify = report.VerifyCounts
	flujotest.Migrate(t, o)
	wantMigrated(t, url, report.Equal, flujotest.Fixture)
	vacuumed := flujotest.Changed(t, "VACUUM")
	flujotest.WantVerdict(t, vacuumed, url, report.Equal, 0)
	wantNotMigrated(t, url, 1, vacuumed)
}

// TestIfMigratedErrors tests that what verify refuses or finds to differ is an error here too.
func TestIfMigratedErrors(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	if result, _, err := ifMigrated(url, "none.db"); clierr.KindOf(err) != clierr.Usage || result != nil {
		t.Errorf("without a file: got %+v and error %v", result, err)
	}
	flujotest.Tamperer(t, url)("UPDATE steps SET token_counts = 1 WHERE id = 3")
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.Verify = report.VerifyCounts
	flujotest.Migrate(t, o)
	result, _, err := ifMigrated(url, flujotest.Fixture)
	if clierr.KindOf(err) != clierr.Mismatch || result == nil || result.Verdict != report.CopyMismatch {
		t.Errorf("with a wrong copy: got %+v and error %v", result, err)
	}
	flujotest.ExecAt(t, url, "DROP TABLE flujo.evaluations")
	result, _, err = ifMigrated(url, flujotest.Fixture)
	if clierr.KindOf(err) != clierr.Mismatch || result == nil || result.Verdict != report.Mismatch {
		t.Errorf("without a table: got %+v and error %v", result, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	result, _, err = verify.IfMigrated(ctx, verify.Options{
		SQLite: flujotest.Fixture, Postgres: url, Schema: flujotest.Schema,
	})
	if clierr.KindOf(err) != clierr.Interrupted || result != nil {
		t.Errorf("interrupted: got %+v and error %v", result, err)
	}
}

// TestIfMigratedDeleted tests that units of which rows were deleted are counted, except for runs that Flujo continued:
// it writes all spans of such a run anew.
func TestIfMigratedDeleted(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+flujotest.Fixture+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var run, other string
	if err := db.QueryRow("SELECT quote(min(run_id)), quote(max(run_id)) FROM spans").Scan(&run, &other); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name       string
		statements []string
		missing    int64
		incomplete int64
	}{
		{"a run", []string{"DELETE FROM flujo.runs WHERE run_id = " + run,
			"DELETE FROM flujo.workflow_state WHERE run_id = " + run}, 1, 0},
		{"a run, and not its state", []string{"DELETE FROM flujo.runs WHERE run_id = " + run}, 0, 1},
		{"a key", []string{"DELETE FROM flujo.system_state WHERE key = 'tracker:4'"}, 1, 0},
		{"steps", []string{"DELETE FROM flujo.steps WHERE run_id = " + run}, 0, 1},
		{"every trace", []string{"DELETE FROM flujo.traces"}, 0, 60},
		{"all rows", []string{"DELETE FROM flujo.runs", "DELETE FROM flujo.workflow_state",
			"DELETE FROM flujo.system_state"}, 65, 0},
		{"a run continues", []string{
			"CREATE TEMP TABLE saved AS SELECT * FROM flujo.spans WHERE run_id = " + run,
			"DELETE FROM flujo.spans WHERE run_id IN (SELECT run_id FROM saved)",
			"INSERT INTO flujo.spans (run_id, span_id, parent_span_id, name, start_time, end_time, status, " +
				"attributes, created_at) SELECT run_id, span_id, parent_span_id, name, start_time, end_time, " +
				"status, attributes, now() FROM saved",
		}, 0, 0},
		{"a run ends", []string{
			"UPDATE flujo.runs SET status = 'completed', updated_at = now() WHERE run_id = " + run,
			"DELETE FROM flujo.workflow_state WHERE run_id = " + run,
		}, 0, 0},
		{"a run continues, and another one is deleted", []string{
			"UPDATE flujo.runs SET status = 'completed', updated_at = now() WHERE run_id = " + run,
			"DELETE FROM flujo.workflow_state WHERE run_id = " + run,
			"DELETE FROM flujo.runs WHERE run_id = " + other,
			"DELETE FROM flujo.workflow_state WHERE run_id = " + other,
		}, 1, 0},
	} {
		for _, merged := range []bool{false, true} {
			if merged && tc.missing+tc.incomplete > 1 {
				continue // the same in another number
			}
			t.Run(fmt.Sprintf("%s, merged %t", tc.name, merged), func(t *testing.T) {
				t.Parallel()
				url := pgtest.Database(t)
				o := flujotest.Options(t, flujotest.Fixture, url)
				if merged {
					o.SQLite = flujotest.FullFile(t)
					flujotest.Migrate(t, o)
					o.SQLite, o.Merge = flujotest.Fixture, true
				}
				flujotest.Migrate(t, o)
				flujotest.ExecAt(t, url, tc.statements...)
				result := wantMigrated(t, url, report.Drift, flujotest.Fixture)
				if len(result.Files) != 1 {
					t.Fatalf("got %d files", len(result.Files))
				}
				var missing, incomplete int64
				for _, u := range result.Files[0].Units {
					missing += u.Missing
					incomplete += u.Incomplete
					if int64(len(u.FirstIncomplete)) != min(u.Incomplete, 10) || u.Incomplete > u.Changed {
						t.Errorf("got %+v", u)
					}
				}
				if missing != tc.missing || incomplete != tc.incomplete || result.Incomplete() != missing+incomplete {
					t.Errorf("got %d missing and %d incomplete units, want %d and %d: %+v",
						missing, incomplete, tc.missing, tc.incomplete, result.Files[0].Units)
				}
			})
		}
	}
}

// TestIfMigratedWhileChecked tests that a file that was not migrated ends the verification as such, although the check
// of its integrity has not ended, among several files and by itself in a schema of several.
func TestIfMigratedWhileChecked(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	other := flujotest.Options(t, flujotest.Changed(t, "UPDATE runs SET run_id = 'b' || run_id"), url)
	other.Merge = true
	flujotest.Migrate(t, other)
	large := flujotest.Changed(t, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "+
		"INSERT INTO steps (run_id, step_name, step_index, status, created_at) "+
		"SELECT (SELECT min(run_id) FROM runs), 's', i, 'completed', '2026-01-05' FROM n")
	for _, files := range [][]string{{flujotest.Fixture, large}, {large}} {
		for range 2 {
			wantNotMigrated(t, url, 2, files...)
		}
	}
}
