package check_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/check"
	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
)

// TestCheckSeveralFiles tests that each file has its lines, findings and source, and that those of the server and the
// target are there once.
func TestCheckSeveralFiles(t *testing.T) {
	t.Parallel()
	good := flujotest.Copy(t, flujotest.Fixture)
	changed := flujotest.Changed(
		t,
		"UPDATE steps SET output = 'x' WHERE id < 4",
		"UPDATE runs SET status = 'completed'",
		"UPDATE workflow_state SET status = 'completed'",
	)
	again := flujotest.Copy(t, changed)
	o := severalOptions(t, pgtest.Database(t), good, changed, again)
	var found []string
	o.OnFinding = func(f mapping.Finding) { found = append(found, f.File+" "+f.Table+" "+f.Key) }
	read := 0
	o.OnProgress = func(p progress.Event) {
		if p.Phase == progress.Read && p.Table == "steps" && p.Done {
			read++
		}
	}
	result := checked(t, o)
	if !result.Ready || result.Source != nil || result.Findings != nil || len(result.Files) != 3 || read != 2 {
		t.Errorf("read %d times: %+v", read, result)
	}
	wantInFile(t, result, good, "findings", report.OK)
	wantInFile(t, result, good, "runs in progress", report.Warning, "4 running in runs")
	wantInFile(t, result, changed, "findings", report.Warning, "3 values")
	wantInFile(t, result, changed, "runs in progress", report.OK)
	wantInFile(t, result, changed, "integrity", report.OK)
	wantInFile(t, result, again, "content", report.OK, "that of", changed, "migrated once")
	for i, path := range o.More[:1] {
		if f := result.Files[i+1]; f.Path != path || f.Source == nil || f.Source.Path != path || len(f.Changes) != 1 ||
			f.Changes[0].Count != 3 {
			t.Errorf("got %+v", f)
		}
	}
	if f := inFile(t, result, again); f.SameAs != changed || f.Findings != nil || f.Source == nil {
		t.Errorf("got %+v", f)
	}
	flujotest.WantSame(t, "findings", found, []string{changed + " steps 1", changed + " steps 2", changed + " steps 3"})
	names := map[string]int{}
	for _, l := range result.Results {
		names[l.Name]++
		if l.Group == report.GroupFile {
			t.Errorf("a line about a file is among those of none: %+v", l)
		}
	}
	for _, name := range []string{"reachable", "disk", "schema", "dry run", "time", "Flujo startup", "runs"} {
		if names[name] != 1 {
			t.Errorf("%d lines %q", names[name], name)
		}
	}
	wantChecked(t, result, "time", report.OK, "merging the files takes additional time")
	wantChecked(t, result, "memories", report.OK, "files with the same content count as one")
	order := []string{report.GroupConflicts, report.GroupServer, report.GroupTarget}
	if !slices.IsSortedFunc(result.Results, func(a, b report.CheckResult) int {
		return slices.Index(order, a.Group) - slices.Index(order, b.Group)
	}) {
		t.Errorf("the groups are not in their order: %+v", result.Results)
	}
}

// TestCheckSameFile tests a file that is named twice.
func TestCheckSameFile(t *testing.T) {
	t.Parallel()
	file := flujotest.Copy(t, flujotest.Fixture)
	result := wantLine(t, severalOptions(t, "", file, file), "conflicts", report.OK, "the same content")
	if len(result.Conflicts) != 3 || result.Different() != 0 || result.Files[1].SameAs != file {
		t.Errorf("got %+v", result.Conflicts)
	}
}

// TestCheckErrorInFile tests that an error in any file is one of the check, and that the error names the file.
func TestCheckErrorInFile(t *testing.T) {
	t.Parallel()
	good := flujotest.Copy(t, flujotest.Fixture)
	missing := filepath.Join(t.TempDir(), "missing.db")
	damaged := flujotest.Changed(t, `INSERT INTO system_state
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		SELECT 'k' || i, '"' || hex(randomblob(600)) || '"', '2026-01-05T09:00:01+00:00' FROM n`,
		"PRAGMA wal_checkpoint(TRUNCATE)")
	flujotest.OverwriteLeafPages(t, damaged)
	other := flujotest.Copy(t, flujotest.Fixture)
	flujotest.Change(t, other, "ALTER TABLE runs RENAME TO others")
	for _, table := range []string{"workflow_state", "steps", "spans", "traces", "evaluations", "system_state"} {
		flujotest.Change(t, other, "DROP TABLE "+table)
	}
	url := pgtest.Database(t)
	for _, tc := range []struct{ name, bad, line string }{
		{"missing", missing, "readable"},
		{"damaged", damaged, "integrity"},
		{"another program's", other, "file format"},
	} {
		for _, files := range [][]string{{tc.bad, good}, {good, tc.bad}} {
			result, err := check.Run(context.Background(), severalOptions(t, url, files...))
			if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), tc.bad) ||
				strings.Contains(err.Error(), good) || result.Ready {
				t.Errorf("%s: got error %v", tc.name, err)
			}
			wantInFile(t, result, tc.bad, tc.line, report.Error)
			wantInFile(t, result, good, "findings", report.OK)
			wantChecked(t, result, "conflicts", report.Warning, "could not be checked")
			wantChecked(t, result, "schema", report.OK)
			if result.Conflicts != nil {
				t.Errorf("%s: got conflicts %+v", tc.name, result.Conflicts)
			}
		}
	}
	rejected := flujotest.Changed(t, "INSERT INTO system_state VALUES (NULL, '1', '')")
	result := checked(t, severalOptions(t, "", good, rejected))
	wantInFile(t, result, rejected, "findings", report.Error, "1 row rejected")
	wantChecked(t, result, "runs", report.OK, "60 in several files, all equal")
}

// TestCheckSeveralWithTarget tests what depends on all files: the size, the memories, and the types of columns that
// only one of the files needs.
func TestCheckSeveralWithTarget(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	// The samples of steps and spans are of different files, which need other types.
	first := fileOf(t, times[0], insert("runs", flujotest.Cells{"execution_time_ms": int64(5_000_000_000)}))
	second := fileOf(t, times[0], all(insert("runs", flujotest.Cells{"run_id": "q"}),
		insert("steps", flujotest.Cells{"run_id": "q", "token_counts": int64(6_000_000_000)})))
	for _, files := range [][]string{{first, second}, {second, first}} {
		result := checked(t, severalOptions(t, url, files...))
		wantChecked(t, result, "dry run", report.OK)
		wantChecked(t, result, "time", report.OK, "about")
	}
	large := fileOf(
		t,
		times[0],
		insert("system_state", flujotest.Cells{"value": `"` + strings.Repeat("x", 1<<20) + `"`}),
	)
	larger := fileOf(
		t,
		times[0],
		insert("system_state", flujotest.Cells{"value": `"` + strings.Repeat("y", 2<<20) + `"`}),
	)
	one, both := checkedSpace(t, checkOptions(t, large, url)), checkedSpace(t, severalOptions(t, url, large, larger))
	if !strings.Contains(one, "3.2 MiB may be needed") || !strings.Contains(both, "9.3 MiB may be needed") {
		t.Errorf("one file: %s; both: %s", one, both)
	}
	if again := checkedSpace(t, severalOptions(t, url, large, flujotest.Copy(t, large))); again != one {
		t.Errorf("the same file twice: %s", again)
	}
	memories, all := flujotest.MemoriesFile(t)
	wantLine(t, severalOptions(t, url, first, memories), "pgvector", report.Error, fmt.Sprintf("%d memories", len(all)))
}

// checkedSpace returns the message on the disk space.
func checkedSpace(t testing.TB, o check.Options) string {
	t.Helper()
	result := checked(t, o)
	for _, l := range result.Results {
		if l.Name == "disk" {
			_, need, _ := strings.Cut(l.Message, "up to ")
			return need
		}
	}
	t.Fatalf("no line on the disk: %+v", result.Results)
	return ""
}
