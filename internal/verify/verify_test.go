package verify_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/initialize"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

func TestVerifyEqual(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"0.6.11":               flujotest.Fixture,
		"every kind of change": flujotest.RepairedFile(t),
		"0.4.35":               "../../testdata/flujo_0.4.35.db",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := flujotest.Options(t, file, url)
			o.Quarantine = true
			flujotest.Migrate(t, o)
			result, differences := flujotest.WantVerdict(t, file, url, report.Equal, 0)
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

// TestVerifyDrift tests that Flujo's writes after the migration are reported and counted as drift.
func TestVerifyDrift(t *testing.T) {
	t.Parallel()
	var run1, run2 string
	db, err := sql.Open("sqlite", "file:"+flujotest.Fixture+"?mode=ro&immutable=1")
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
			flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
			flujotest.Exec(t, flujotest.Connect(t, url), tc.statements...)
			result, differences := flujotest.WantVerdict(t, flujotest.Fixture, url, report.Drift, 0)
			c := flujotest.Comparison(t, result, tc.table)
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
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	flujotest.Exec(
		t,
		flujotest.Connect(t, url),
		"UPDATE flujo.steps SET output = output::text::jsonb",
		"VACUUM (FULL, FREEZE) flujo.runs",
	)
	flujotest.WantVerdict(t, flujotest.Fixture, url, report.Equal, 0)
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
			flujotest.Tamperer(t, url)(tc.damage)
			o := flujotest.Options(t, flujotest.Fixture, url)
			o.Verify = report.VerifyCounts
			flujotest.Migrate(t, o)
			flujotest.Exec(t, flujotest.Connect(t, url), tc.since)
			result, _ := flujotest.WantVerdict(t, flujotest.Fixture, url, report.CopyMismatch, clierr.Mismatch)
			if c := flujotest.Comparison(t, result, tc.table); c.Mismatched != tc.bad {
				t.Errorf("got %+v, want %d mismatched", c, tc.bad)
			}
		})
	}
}

// TestVerifyAfterCounts tests that verify identifies the file by its bytes after migrate --verify counts.
func TestVerifyAfterCounts(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.Verify = report.VerifyCounts
	flujotest.Migrate(t, o)
	flujotest.WantVerdict(t, flujotest.Fixture, url, report.Equal, 0)
	flujotest.Exec(t, flujotest.Connect(t, url), "DELETE FROM flujo.evaluations WHERE id = 3")
	result, _ := flujotest.WantVerdict(t, flujotest.Fixture, url, report.Drift, 0)
	if c := flujotest.Comparison(t, result, "evaluations"); c.Deleted != 1 {
		t.Errorf("got %+v, want 1 deleted", c)
	}
	_, _, err := flujotest.Verify(
		t,
		flujotest.Changed(t, "VACUUM"),
		url,
	) // the same rows in other bytes; the receipt has no digests
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got error %v, want a refusal", err)
	}
	url = pgtest.Database(t)
	o.Postgres, o.Cutover = url, flujotest.Cutover(t, url)
	flujotest.Migrate(t, o)
	flujotest.WantVerdict(
		t,
		flujotest.Changed(t, "VACUUM"),
		url,
		report.Equal,
		0,
	) // without drift, equal rows are enough
}

// TestVerifySourceMismatch tests that a file with other rows than the migrated file is refused, and that one with the
// same rows in other bytes is not.
func TestVerifySourceMismatch(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	for name, statement := range map[string]string{
		"an extra row":  "INSERT INTO system_state VALUES ('new', '1', '2026-01-05T09:00:00+00:00')",
		"a missing row": "DELETE FROM evaluations WHERE id = 3",
		"another cell":  "UPDATE steps SET step_name = step_name || '!' WHERE id = 7",
	} {
		t.Run(name, func(t *testing.T) {
			result, differences, err := flujotest.Verify(t, flujotest.Changed(t, statement), url)
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
	result, _ := flujotest.WantVerdict(t, flujotest.Changed(t, "VACUUM"), url, report.Equal, 0)
	if result.Receipt.SameBytes {
		t.Error("got the same bytes for a vacuumed file")
	}
}

// TestVerifyWithoutReceipt tests that any difference is a mismatch without a receipt.
func TestVerifyWithoutReceipt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	flujotest.WantVerdict(t, flujotest.Fixture, url, report.Equal, 0)
	flujotest.Exec(
		t,
		conn,
		"UPDATE flujo.steps SET status = 'other' WHERE id = 4",
		"DELETE FROM flujo.evaluations WHERE id = 3",
	)
	result, _ := flujotest.WantVerdict(t, flujotest.Fixture, url, report.Mismatch, clierr.Mismatch)
	if result.Receipt != nil || flujotest.Comparison(t, result, "steps").Mismatched != 1 ||
		flujotest.Comparison(t, result, "evaluations").Mismatched != 1 {
		t.Errorf("got %+v, want no receipt and 1 mismatched step and evaluation", result)
	}
}

// TestVerifyAsReader tests that a role that may only read can verify, regardless of its timeouts and its search_path.
func TestVerifyAsReader(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	reader := pgtest.Role(t, url, "")
	conn := flujotest.Connect(t, url)
	name := flujotest.One(t, flujotest.Connect(t, reader), "SELECT current_user")
	flujotest.Exec(
		t,
		conn,
		"GRANT USAGE ON SCHEMA flujo TO "+name,
		"GRANT SELECT ON ALL TABLES IN SCHEMA flujo TO "+name,
		"ALTER ROLE "+name+" SET default_transaction_read_only = on",
		"ALTER ROLE "+name+" SET search_path = ''",
		"ALTER ROLE "+name+" SET idle_in_transaction_session_timeout = '1ms'",
	)
	flujotest.WantVerdict(t, flujotest.Fixture, reader, report.Equal, 0)
	// Rows that a policy hides are not reported as deleted.
	flujotest.Exec(t, conn,
		"ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY few ON flujo.steps USING (id < 10)")
	if _, _, err := flujotest.Verify(
		t,
		flujotest.Fixture,
		reader,
	); err == nil ||
		!strings.Contains(err.Error(), "row-level security") {
		t.Errorf("got error %v, want one on row-level security", err)
	}
}

// TestVerifyOnStandby tests verify on a standby.
func TestVerifyOnStandby(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.PrimaryAndStandby(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, primary))
	deadline := time.Now().Add(time.Minute)
	for {
		result, _, err := flujotest.Verify(t, flujotest.Fixture, standby)
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
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	app := pgtest.Role(t, url, "")
	_, err := initialize.Run(context.Background(), initialize.Options{
		Postgres:        url,
		Schema:          flujotest.Schema,
		WithoutPGVector: true,
		GrantTo:         flujotest.One(t, flujotest.Connect(t, app), "SELECT current_user"),
	})
	if err != nil {
		t.Fatal(err)
	}
	flujotest.WantVerdict(t, flujotest.Fixture, app, report.Equal, 0)
}

// TestVerifyOriginals tests that verify compares flujo_port_originals.
func TestVerifyOriginals(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), flujotest.RepairedFile(t)
	o := flujotest.Options(t, file, url)
	o.Quarantine = true
	flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	result, _ := flujotest.WantVerdict(t, file, url, report.Equal, 0)
	if c := flujotest.Comparison(
		t,
		result,
		"flujo_port_originals",
	); !c.Match || c.InFile == 0 ||
		c.InFile != c.InPostgres {
		t.Errorf("got %+v, want a match with rows", c)
	}
	flujotest.Exec(t, conn,
		"UPDATE flujo.flujo_port_originals SET original = 'other' WHERE column_name = 'output' AND row_key = '1'")
	flujotest.WantVerdict(t, file, url, report.CopyMismatch, clierr.Mismatch)
	flujotest.Exec(t, conn, "DROP TABLE flujo.flujo_port_originals")
	flujotest.WantVerdict(t, file, url, report.Mismatch, clierr.Mismatch)
}

// TestVerifyChangedValues tests files that were written to since the migration so that their rows are converted to the
// same, but from other values. The rows and original values in PostgreSQL are those of the file that was migrated.
func TestVerifyChangedValues(t *testing.T) {
	t.Parallel()
	const (
		toNUL   = "UPDATE runs SET status = 'done' || char(0) WHERE rowid = 1"
		toClean = "UPDATE runs SET status = 'done' WHERE rowid = 1"
		toFront = "UPDATE runs SET status = char(0) || 'done' WHERE rowid = 1"
		other   = "UPDATE steps SET status = status || char(0) WHERE id = 4"
	)
	for name, tc := range map[string]struct {
		before, after []string
		merge         bool
	}{
		"one, and none when it was migrated": {[]string{toClean}, []string{toNUL}, false},
		"none, and one when it was migrated": {[]string{toNUL}, []string{toClean}, false},
		"one of another table":               {[]string{toNUL}, []string{toClean, other}, false},
		"another in the same place":          {[]string{toNUL}, []string{toFront}, false},
		"one more":                           {[]string{toNUL}, []string{other}, false},
		"one, merged":                        {[]string{toClean}, []string{toNUL}, true},
		"another, merged":                    {[]string{toNUL}, []string{toFront}, true},
		"none, merged":                       {[]string{toNUL}, []string{toClean}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, file := pgtest.Database(t), flujotest.Changed(t, tc.before...)
			o := flujotest.Options(t, file, url)
			if o.Merge = tc.merge; o.Merge {
				migrateEarlier(t, url)
			}
			flujotest.Migrate(t, o)
			flujotest.WantVerdict(t, file, url, report.Equal, 0)
			for _, statement := range tc.after {
				flujotest.Change(t, file, statement)
			}
			result, _, err := flujotest.Verify(t, file, url)
			if clierr.KindOf(err) != clierr.Refused || result.Verdict != report.SourceMismatch ||
				!strings.Contains(err.Error(), "written to since") || strings.Contains(err.Error(), "no longer") {
				t.Errorf("got %+v and error %v, want a source mismatch", result, err)
			}
		})
	}
	// A drift, and a file that is another one: the rows were not compared one by one.
	t.Run("and drift", func(t *testing.T) {
		t.Parallel()
		url, file := pgtest.Database(t), flujotest.Changed(t, toNUL)
		flujotest.Migrate(t, flujotest.Options(t, file, url))
		flujotest.ExecAt(t, url, "UPDATE flujo.steps SET status = 'x' WHERE id = 4")
		flujotest.Change(t, file, toFront)
		_, differences, err := flujotest.Verify(t, file, url)
		if clierr.KindOf(err) != clierr.Refused || len(differences) > 0 {
			t.Errorf("got error %v and differences %v, want a source mismatch and none", err, differences)
		}
	})
	t.Run("none, and the table was dropped", func(t *testing.T) {
		t.Parallel()
		url, file := pgtest.Database(t), flujotest.Changed(t, toNUL)
		flujotest.Migrate(t, flujotest.Options(t, file, url))
		flujotest.ExecAt(t, url, "DROP TABLE flujo.flujo_port_originals")
		flujotest.Change(t, file, toClean)
		flujotest.WantVerdict(t, file, url, report.SourceMismatch, clierr.Refused)
	})
	// Rowids of tables with a text key are no content, as a dump and its restoration number rows again.
	for _, merge := range []bool{false, true} {
		t.Run(fmt.Sprintf("other rowids, merged %t", merge), func(t *testing.T) {
			t.Parallel()
			url, file := pgtest.Database(t), flujotest.Changed(t, toNUL, other)
			if merge {
				migrateEarlier(t, url)
			}
			o := flujotest.Options(t, file, url)
			o.Merge = merge
			flujotest.Migrate(t, o)
			flujotest.Change(t, file, "UPDATE runs SET rowid = rowid + 1000")
			flujotest.WantVerdict(t, file, url, report.Equal, 0)
			if path, _ := flujotest.Restore(t, url, file); !merge {
				flujotest.WantVerdict(t, path, url, report.Equal, 0)
			}
		})
	}
	// The rowids differ, but that is not why the original values do.
	for _, tamper := range []string{
		"UPDATE flujo.flujo_port_originals SET row_key = '5' WHERE table_name = 'steps'",
		"UPDATE flujo.flujo_port_originals SET row_key = 'x' WHERE table_name = 'runs'",
		"UPDATE flujo.flujo_port_originals SET source_rowid = 5 WHERE table_name = 'steps'",
		"INSERT INTO flujo.flujo_port_originals SELECT 7, table_name, row_key, source_rowid, column_name, reason, " +
			"storage_class, original FROM flujo.flujo_port_originals",
	} {
		t.Run(tamper, func(t *testing.T) {
			t.Parallel()
			url, file := pgtest.Database(t), flujotest.Changed(t, toNUL, other)
			flujotest.Migrate(t, flujotest.Options(t, file, url))
			flujotest.Change(t, file, "UPDATE runs SET rowid = rowid + 1000")
			flujotest.WantVerdict(t, file, url, report.Equal, 0)
			flujotest.ExecAt(t, url, tamper)
			flujotest.WantVerdict(t, file, url, report.CopyMismatch, clierr.Mismatch)
		})
	}
	url, file := pgtest.Database(t), flujotest.Changed(t, toNUL)
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	flujotest.ExecAt(t, url, "UPDATE flujo.flujo_port_originals SET original = 'other'")
	flujotest.Change(t, file, "VACUUM")
	flujotest.WantVerdict(t, file, url, report.CopyMismatch, clierr.Mismatch)
	flujotest.ExecAt(t, url, "DROP TABLE flujo.flujo_port_originals")
	flujotest.WantVerdict(t, file, url, report.Mismatch, clierr.Mismatch)
}

// migrateEarlier migrates another file, so that the next one is merged.
func migrateEarlier(t *testing.T, url string) {
	t.Helper()
	earlier := flujotest.NewFile(t, flujotest.Format06)
	earlier.Insert("runs", flujotest.Cells{"run_id": "earlier"})
	flujotest.Migrate(t, flujotest.Options(t, earlier.Close(), url))
}

// TestVerifyReplaced tests that verify says of a file whose rows were replaced where they are.
func TestVerifyReplaced(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	o := flujotest.Options(t, flujotest.Changed(t, "DELETE FROM evaluations WHERE id = 3"), url)
	o.Replace = true
	flujotest.Migrate(t, o)
	archive := flujotest.OneAt(t, url, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'flujo_archive_%'")
	flujotest.ExecAt(t, url, "ALTER SCHEMA \""+archive+"\" RENAME TO kept") // the next archive may have its name
	third := flujotest.Options(t, flujotest.Changed(t, "DELETE FROM evaluations WHERE id = 4"), url)
	third.Replace = true
	flujotest.Migrate(t, third)
	result, _, err := flujotest.Verify(t, flujotest.Fixture, url)
	if clierr.KindOf(err) != clierr.Refused || result.Verdict != report.SourceMismatch ||
		!strings.Contains(err.Error(), "were replaced at ") || !strings.Contains(err.Error(), archive) ||
		strings.Contains(err.Error(), "written to") {
		t.Errorf("got %+v and error %v, want that the rows are in %s", result, err, archive)
	}
	flujotest.WantVerdict(t, third.SQLite, url, report.Equal, 0)
}

// TestVerifyDroppedTable tests that a table that was dropped is reported.
func TestVerifyDroppedTable(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	flujotest.Exec(t, flujotest.Connect(t, url), "DROP TABLE flujo.spans")
	_, _, err := flujotest.Verify(t, flujotest.Fixture, url)
	if clierr.KindOf(err) != clierr.Mismatch || !strings.Contains(err.Error(), "no longer has these tables: spans") {
		t.Errorf("got error %v, want a mismatch of spans", err)
	}
}

// TestVerifyOtherTimezone tests that another zone for naive timestamps is not reported as a copy mismatch if the file
// and the rows are those that were verified.
func TestVerifyOtherTimezone(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(
		t,
	), flujotest.Changed(
		t,
		"UPDATE steps SET created_at = '2025-09-01T08:00:00' WHERE id < 9",
	)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	o := flujotest.Options(t, file, url)
	o.NaiveZone = berlin
	flujotest.Migrate(t, o)
	flujotest.WantVerdict(t, file, url, report.Equal, 0)
	result, differences, err := flujotest.VerifyIn(t, file, url, time.UTC)
	if err != nil || result.Verdict != report.Equal || len(differences) != 0 ||
		!strings.Contains(strings.Join(result.Notes, "; "), "converts the file differently") {
		t.Errorf("got %+v and error %v, want equal with a note", result, err)
	}
}

// TestVerifyDamagedIndex tests that a row that a sequential scan finds and an index scan does not is reported.
func TestVerifyDamagedIndex(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn,
		"UPDATE pg_index SET indisready = false WHERE indexrelid = 'flujo.steps_pkey'::regclass",
		"UPDATE flujo.steps SET run_id = run_id, step_index = 99 WHERE id = 7",
		"UPDATE pg_index SET indisready = true WHERE indexrelid = 'flujo.steps_pkey'::regclass",
		"ALTER DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+" SET enable_seqscan = off")
	result, differences, err := flujotest.Verify(t, flujotest.Fixture, url)
	if clierr.KindOf(err) != clierr.Mismatch || len(differences) != 1 ||
		!strings.Contains(differences[0].String(), "an index is damaged") {
		t.Errorf("got differences %v, %+v and error %v, want one on a damaged index", differences, result, err)
	}
}

// TestVerifyFileWrittenMeanwhile tests that verify is refused if the file is written while it is read.
func TestVerifyFileWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), flujotest.Copy(t, flujotest.Fixture)
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	for _, phase := range []progress.Phase{progress.Connect, progress.Read} {
		written := false
		_, err := verify.Run(context.Background(),
			verify.Options{SQLite: file, Postgres: url, Schema: flujotest.Schema, OnProgress: func(p progress.Event) {
				if p.Phase == phase && !written {
					written = true
					flujotest.Change(t, file, "UPDATE evaluations SET score = score + 1")
				}
			}})
		if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("written in phase %s: got error %v, want a refusal", phase, err)
		}
	}
}

// TestPathWithInvalidUTF8 tests a path that is not valid UTF-8.
func TestPathWithInvalidUTF8(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "d\xff")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Skipf("the file system does not support the name: %v", err)
	}
	file := filepath.Join(folder, "flujo_state.db")
	if err := os.Rename(flujotest.Copy(t, flujotest.Fixture), file); err != nil {
		t.Fatal(err)
	}
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	flujotest.WantVerdict(t, file, url, report.Equal, 0)
}

// TestVerifyWithoutTables tests that a schema without Flujo's tables, or with other tables of their names, is refused.
func TestVerifyWithoutTables(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	_, _, err := flujotest.Verify(t, flujotest.Fixture, url)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "none of Flujo's tables") {
		t.Errorf("got error %v, want a refusal", err)
	}
	flujotest.Exec(t, flujotest.Connect(t, url), "CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id int)")
	_, _, err = flujotest.Verify(t, flujotest.Fixture, url)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "runs.run_id is integer, not text") {
		t.Errorf("got error %v, want a refusal", err)
	}
}

// TestVerifyLockTimeout tests that verify times out waiting for a lock and names its holder.
func TestVerifyLockTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	flujotest.Exec(t, flujotest.Connect(t, url),
		"SET application_name = 'the-holder'",
		"BEGIN",
		"LOCK TABLE flujo.steps IN ACCESS EXCLUSIVE MODE")
	_, err := verify.Run(
		context.Background(),
		verify.Options{
			SQLite:   flujotest.Fixture,
			Postgres: url,
			Schema:   flujotest.Schema,
			LockWait: 100 * time.Millisecond,
		},
	)
	if clierr.KindOf(err) != clierr.Failed {
		t.Fatal(err)
	}
	for _, want := range []string{"AccessExclusiveLock on flujo.steps", "100ms", "the-holder", "run again"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "stop Flujo") {
		t.Errorf("the error advises to stop Flujo: %v", err)
	}
}
