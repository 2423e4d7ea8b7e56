package migrate_test

import (
	"context"
	"path/filepath"
	"testing"

	"flujo-port/internal/check"
	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/restore"
	"flujo-port/internal/verify"
)

// otherIndex returns a file in which an index disagrees with its table: it holds the entries of another column.
// SQLite's quick_check accepts it, and a query that uses the index finds no run.
func otherIndex(t *testing.T, index, column string) string {
	t.Helper()
	return flujotest.Changed(t, "PRAGMA writable_schema = ON",
		"UPDATE sqlite_master SET sql = replace(sql, '(run_id)', '("+column+")') WHERE name = '"+index+"'",
		"UPDATE sqlite_master SET sql = replace(sql, '(status)', '("+column+")') WHERE name = '"+index+"'",
		"PRAGMA writable_schema = RESET")
}

// TestIndexThatDisagrees tests that every command refuses a file whose index disagrees with its table, and that nothing
// is committed.
func TestIndexThatDisagrees(t *testing.T) {
	t.Parallel()
	for index, column := range map[string]string{
		"idx_runs_status": "pipeline_name", "idx_spans_run_id": "span_id", "idx_steps_run_id": "step_name",
	} {
		t.Run(index, func(t *testing.T) {
			t.Parallel()
			ctx, url, file := context.Background(), pgtest.Database(t), otherIndex(t, index, column)
			o := flujotest.Options(t, file, url)
			flujotest.WantError(t, o, clierr.Refused, "SQLite found", index, "the file is damaged")
			conn := flujotest.Connect(t, url)
			if got := flujotest.Leftovers(t, conn); got != "" {
				t.Errorf("the refused migration left %s", got)
			}
			checked, err := check.Run(ctx, check.Options{SQLite: file})
			if clierr.KindOf(err) != clierr.Refused || checked == nil || checked.Ready ||
				checked.Results[len(checked.Results)-1].Name != "integrity" ||
				checked.Results[len(checked.Results)-1].Status != report.Error {
				t.Errorf("check: got error %v and %+v", err, checked)
			}
			o.SkipIntegrity = true
			flujotest.Migrate(t, o)
			_, err = verify.Run(ctx, verify.Options{SQLite: file, Postgres: url, Schema: flujotest.Schema})
			if clierr.KindOf(err) != clierr.Refused {
				t.Errorf("verify: got error %v, want a refusal", err)
			}
			for _, merge := range []bool{false, true} {
				_, err = restore.Run(ctx, restore.Options{SQLite: filepath.Join(t.TempDir(), "new.db"), Base: file,
					Postgres: url, Schema: flujotest.Schema, Merge: merge})
				if clierr.KindOf(err) != clierr.Refused {
					t.Errorf("restore with a base, merge %v: got error %v, want a refusal", merge, err)
				}
			}
		})
	}
}
