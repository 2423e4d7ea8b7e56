package extract_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

// severalFormats returns 8 files of different file formats, which have runs in common. The last one has rejected rows.
func severalFormats(t *testing.T) (paths []string) {
	t.Helper()
	for _, name := range []string{"0.4.29 to 0.4.32", "0.4.33 to 0.4.35", "0.4 opened by 0.6",
		"0.6 without three columns of runs", "extra columns"} {
		i := slices.IndexFunc(formatCases, func(c formatCase) bool { return c.name == name })
		paths = append(paths, formatCases[i].path(t))
	}
	return append(paths, flujotest.Copy(t, "../../testdata/flujo_0.4.35.db"),
		flujotest.Copy(t, "../../testdata/flujo_0.4.35_opened_by_0.6.11.db"), flujotest.RepairedFile(t))
}

// TestMigrateSeveralFormats tests a migration of 8 files of different file formats, of which one has rejected rows:
// without --quarantine none is migrated; with it every run and key of every file is found.
func TestMigrateSeveralFormats(t *testing.T) {
	t.Parallel()
	paths := severalFormats(t)
	url := pgtest.Database(t)
	o := flujotest.Options(t, paths[0], url)
	o.More = paths[1:]
	rejects := paths[7]
	result, err := migrate.Run(context.Background(), o)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), rejects) || result == nil ||
		!result.Refused || len(result.Further) != 7 {
		t.Errorf("got error %v, want a refusal of %s with a report", err, rejects)
	}
	if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
		t.Errorf("the refused migration left %s", got)
	}
	o.Quarantine, o.Strict = true, true
	flujotest.WantError(t, o, clierr.Refused, paths[0]) // steps of 0.4 have columns without a counterpart
	o.Strict, o.DryRun = false, true
	if result = flujotest.Migrate(t, o); result.Committed || result.Receipt != 0 || result.Further[6].Receipt != 0 {
		t.Errorf("got %+v, want a dry run without receipts", result)
	}
	if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
		t.Errorf("the dry run left %s", got)
	}
	o.DryRun = false
	result = flujotest.Migrate(t, o)
	formats := map[string]bool{result.Source.FileFormat: true}
	for i, further := range result.Further {
		formats[further.Source.FileFormat] = true
		if further.Source.Path != paths[i+1] || further.Receipt != int64(i+2) {
			t.Errorf("got %s with receipt %d, want %s with %d", further.Source.Path, further.Receipt, paths[i+1], i+2)
		}
	}
	if len(formats) != 4 {
		t.Errorf("got the file formats %v, want 4", formats)
	}
	for i, path := range paths {
		wantUnitsOf(t, path, url, int64(i+1))
	}
	all, err := verify.Run(context.Background(), verify.Options{
		SQLite: paths[0], More: paths[1:], Postgres: url, Schema: flujotest.Schema})
	if err != nil || len(all.Files) != 8 || all.Written.Since != 0 || len(all.Written.Others) > 0 {
		t.Errorf("got %+v and error %v, want all rows to be of the 8 files", all, err)
	}
}

// wantUnitsOf tests that verify finds the receipt of a file, and every run and key that a migration of this file alone
// stores.
func wantUnitsOf(t *testing.T, path, url string, receipt int64) {
	t.Helper()
	alone := pgtest.Database(t)
	o := flujotest.Options(t, path, alone)
	o.Quarantine = true
	flujotest.Migrate(t, o)
	missing := map[string]bool{}
	for key := range strings.SplitSeq(flujotest.OneAt(t, alone, `SELECT string_agg(key, E'\n') FROM (
		SELECT 'runs ' || run_id FROM flujo.runs UNION SELECT 'runs ' || run_id FROM flujo.workflow_state
		UNION SELECT 'system_state ' || key FROM flujo.system_state) x(key)`), "\n") {
		missing[key] = true
	}
	result, err := verify.Run(context.Background(), verify.Options{
		SQLite: path, Postgres: url, Schema: flujotest.Schema,
		OnUnit: func(u report.Unit) {
			if !missing[u.Kind+" "+u.Key] {
				t.Errorf("%s: unexpected %+v", path, u)
			}
			delete(missing, u.Kind+" "+u.Key)
			if !slices.Contains([]string{report.UnitEqual, report.UnitRenumbered, report.UnitSuperseded}, u.Status) {
				t.Errorf("%s: got %+v", path, u)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if f := result.Files[0]; len(missing) > 0 || f.Receipt.ID != receipt ||
		f.Verdict != report.Merged && f.Verdict != report.Equal {
		t.Errorf("%s: missing %v, got %s", path, missing, fmt.Sprintf("%+v", f))
	}
}
