package transfer_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/transfer"
)

// restoreMerged merges a file and a database into a new file.
func restoreMerged(t testing.TB, url, base string, dryRun bool) (string, *report.Restoration) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "merged.db")
	result, err := transfer.Restore(context.Background(),
		transfer.RestoreOptions{SQLite: path, Base: base, Postgres: url, Schema: schema, Merge: true, DryRun: dryRun})
	if err != nil {
		t.Fatal(err)
	}
	return path, result
}

// sides is a file and a database that were one and that both wrote since, in
// every way that the two can differ in a run: absent, older, newer, equal; with
// ids that both allocated.
func sides(t testing.TB) (file, url string) {
	t.Helper()
	f := newFile(t, format06)
	for _, key := range []string{"equal", "newer in file", "newer in postgres", "gone from file",
		"gone from postgres"} {
		f.insert("runs", cells{"run_id": key})
		f.insert("steps", cells{"run_id": key, "output": `{"b": 1.50, "a": [1,  2]}`})
		f.insert("spans", cells{"run_id": key, "span_id": key})
		f.insert("evaluations", cells{"run_id": key})
		f.insert("workflow_state", cells{"run_id": key})
		f.insert("system_state", cells{"key": key, "value": `{"x":  1}`})
	}
	before := f.close()
	url = pgtest.Database(t)
	migrate(t, options(t, before, url))
	file = copyOf(t, before)
	const late, later = "'2027-01-01T00:00:00+00:00'", "'2027-01-02T00:00:00+00:00'"
	for _, statement := range []string{
		"UPDATE runs SET status = 'by file', updated_at = " + later + " WHERE run_id = 'newer in file'",
		"UPDATE runs SET status = 'by file', updated_at = " + late + " WHERE run_id = 'newer in postgres'",
		"UPDATE system_state SET value = '2', updated_at = " + later + " WHERE key = 'newer in file'",
		"UPDATE system_state SET value = '2', updated_at = " + late + " WHERE key = 'newer in postgres'",
		"DELETE FROM steps WHERE run_id = 'gone from file'", "DELETE FROM spans WHERE run_id = 'gone from file'",
		"DELETE FROM evaluations WHERE run_id = 'gone from file'",
		"DELETE FROM workflow_state WHERE run_id = 'gone from file'",
		"DELETE FROM runs WHERE run_id = 'gone from file'",
		"INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) " +
			"VALUES ('new in file', 'p', 'n', '1', 'completed', " + late + ", " + late + ")",
		`INSERT INTO steps (run_id, step_name, step_index, status, output, created_at) ` +
			`VALUES ('new in file', 's', 0, 'completed', '{"z":  1}', ` + late + ")",
	} {
		commitTo(t, file, statement)
	}
	run(t, connect(t, url),
		"SET search_path = flujo",
		"SET timezone = 'UTC'",
		"UPDATE runs SET status = 'by postgres', updated_at = "+late+" WHERE run_id = 'newer in file'",
		"UPDATE runs SET status = 'by postgres', updated_at = "+later+" WHERE run_id = 'newer in postgres'",
		"UPDATE system_state SET value = '3', updated_at = "+late+" WHERE key = 'newer in file'",
		"UPDATE system_state SET value = '3', updated_at = "+later+" WHERE key = 'newer in postgres'",
		"DELETE FROM runs WHERE run_id = 'gone from postgres'",
		"DELETE FROM workflow_state WHERE run_id = 'gone from postgres'",
		"INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) "+
			"VALUES ('new in postgres', 'p', 'n', '1', 'completed', "+late+", "+late+")",
		"INSERT INTO steps (run_id, step_name, step_index, status, output, created_at) "+
			"VALUES ('new in postgres', 's', 0, 'completed', '{\"y\": 1}', "+late+")")
	return file, url
}

// TestRestoreMerge: a run that one side has is taken, one that both have is
// taken whole from the side that wrote it last, and what is equal is the base's,
// byte for byte.
func TestRestoreMerge(t *testing.T) {
	t.Parallel()
	file, url := sides(t)
	before := one(t, connect(t, url), "SELECT string_agg(r::text, E'\\n' ORDER BY r::text) FROM flujo.runs r")
	_, dryRun := restoreMerged(t, url, file, true)
	path, result := restoreMerged(t, url, file, false)
	if fmt.Sprintf("%+v", dryRun.Merge) != fmt.Sprintf("%+v", result.Merge) {
		t.Errorf("dry run %+v, done %+v", dryRun.Merge, result.Merge)
	}
	got, want := dump(t, path), dump(t, file)
	status := map[string]string{}
	for _, row := range got["runs"] {
		status[between(row, "run_id=text '", "'")] = between(row, "status=text '", "'")
	}
	if fmt.Sprint(status) != "map[equal:completed gone from file:completed gone from postgres:completed new in "+
		"file:completed new in "+
		"postgres:completed "+
		"newer in file:by file newer in postgres:by postgres]" {
		t.Errorf("runs %v", status)
	}
	for _, row := range want["steps"] { // they have ids of their own still, but for the one that both allocated
		if !slices.Contains(got["steps"], row) && !strings.Contains(row, "new in file") &&
			!strings.Contains(row, "newer in postgres") {
			t.Errorf("not as it was: %s", row)
		}
	}
	for _, key := range []string{"equal", "gone from file", "gone from postgres", "new in file", "new in postgres",
		"newer in file", "newer in postgres"} {
		n := 0
		for _, row := range got["steps"] {
			if strings.Contains(row, "run_id=text '"+key+"'") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d steps of run %q", n, key)
		}
	}
	if values := strings.Join(got["system_state"], "; "); !strings.Contains(values,
		"key=text 'newer in file' updated_at=text '2027-01-02T00:00:00+00:00' value=text '2'") ||
		!strings.Contains(values,
			"key=text 'newer in postgres' updated_at=text '2027-01-02T00:00:00+00:00' value=text '3'") ||
		!strings.Contains(values,
			`key=text 'equal' updated_at=text '2026-01-05T09:00:00+00:00' value=text '{"x":  1}'`) {
		t.Errorf("system_state %s", values)
	}
	if after := one(t, connect(t, url),
		"SELECT string_agg(r::text, E'\\n' ORDER BY r::text) FROM flujo.runs r"); after != before {
		t.Error("PostgreSQL was changed")
	}
	// Twice is once, in both ways.
	again, second := restoreMerged(t, url, path, false)
	sameDump(t, dump(t, again), got)
	for _, row := range second.Tables {
		if row.Written+row.Removed != 0 {
			t.Errorf("the second time %+v", row)
		}
	}
	o := options(t, file, url)
	o.Merge = true
	migrate(t, o)
	there, _ := restore(t, url, "")
	other := pgtest.Database(t)
	migrate(t, options(t, path, other))
	here, _ := restore(t, other, "")
	sameDump(t, dump(t, here), dump(t, there)) // merging into the file and into PostgreSQL is one
}

// between gives what stands between two texts.
func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// TestRestoreMergeRefuses: a merge needs Flujo's tables, which it locks.
func TestRestoreMergeRefuses(t *testing.T) {
	t.Parallel()
	file, url := sides(t)
	role := pgtest.Role(t, url, "")
	_, err := transfer.Restore(context.Background(), transfer.RestoreOptions{
		SQLite:   filepath.Join(t.TempDir(), "new.db"),
		Base:     file,
		Postgres: role,
		Schema:   schema,
		Merge:    true,
	})
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("error %v", err)
	}
}
