package restore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/restore"
)

// restoreMerged merges a file and a database into a new file, and returns its path.
func restoreMerged(t testing.TB, url, base string, dryRun bool) (string, *report.Restoration) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "merged.db")
	result, err := restore.Run(context.Background(),
		restore.Options{SQLite: path, Base: base, Postgres: url, Schema: flujotest.Schema, Merge: true, DryRun: dryRun})
	if err != nil {
		t.Fatal(err)
	}
	return path, result
}

// divergedPair returns a file and a database that was migrated from it, both written to later. Their runs differ in
// every way (absent, older, newer, equal), and both have allocated the same ids.
func divergedPair(t testing.TB) (file, url string) {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	for _, key := range []string{"equal", "newer in file", "newer in postgres", "gone from file",
		"gone from postgres"} {
		f.Insert("runs", flujotest.Cells{"run_id": key})
		f.Insert("steps", flujotest.Cells{"run_id": key, "output": `{"b": 1.50, "a": [1,  2]}`})
		f.Insert("spans", flujotest.Cells{"run_id": key, "span_id": key})
		f.Insert("evaluations", flujotest.Cells{"run_id": key})
		f.Insert("workflow_state", flujotest.Cells{"run_id": key})
		f.Insert("system_state", flujotest.Cells{"key": key, "value": `{"x":  1}`})
	}
	before := f.Close()
	url = pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, before, url))
	file = flujotest.Copy(t, before)
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
		flujotest.Change(t, file, statement)
	}
	flujotest.Exec(t, flujotest.Connect(t, url),
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

// TestRestoreMerge tests that restore --merge takes each run that only one side has, the newer one of those that both
// have, and the bytes of the base where both are equal.
func TestRestoreMerge(t *testing.T) {
	t.Parallel()
	file, url := divergedPair(t)
	before := flujotest.One(
		t,
		flujotest.Connect(t, url),
		"SELECT string_agg(r::text, E'\\n' ORDER BY r::text) FROM flujo.runs r",
	)
	_, dryRun := restoreMerged(t, url, file, true)
	path, result := restoreMerged(t, url, file, false)
	if fmt.Sprintf("%+v", dryRun.Merge) != fmt.Sprintf("%+v", result.Merge) {
		t.Errorf("got merge %+v from the dry run, want %+v", dryRun.Merge, result.Merge)
	}
	got, want := flujotest.Dump(t, path), flujotest.Dump(t, file)
	status := map[string]string{}
	for _, row := range got["runs"] {
		status[textBetween(row, "run_id=text '", "'")] = textBetween(row, "status=text '", "'")
	}
	wantStatus := map[string]string{"equal": "completed", "gone from file": "completed",
		"gone from postgres": "completed", "new in file": "completed", "new in postgres": "completed",
		"newer in file": "by file", "newer in postgres": "by postgres"}
	if fmt.Sprint(status) != fmt.Sprint(wantStatus) {
		t.Errorf("got runs %v, want %v", status, wantStatus)
	}
	for _, row := range want["steps"] { // only an id that both sides allocated has changed
		if !slices.Contains(got["steps"], row) && !strings.Contains(row, "new in file") &&
			!strings.Contains(row, "newer in postgres") {
			t.Errorf("missing in steps: %s", row)
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
			t.Errorf("run %q: got %d steps, want 1", key, n)
		}
	}
	values := strings.Join(got["system_state"], "; ")
	for _, value := range []string{
		"key=text 'newer in file' updated_at=text '2027-01-02T00:00:00+00:00' value=text '2'",
		"key=text 'newer in postgres' updated_at=text '2027-01-02T00:00:00+00:00' value=text '3'",
		`key=text 'equal' updated_at=text '2026-01-05T09:00:00+00:00' value=text '{"x":  1}'`,
	} {
		if !strings.Contains(values, value) {
			t.Errorf("got system_state %s, want %s among it", values, value)
		}
	}
	after := flujotest.One(
		t,
		flujotest.Connect(t, url),
		"SELECT string_agg(r::text, E'\\n' ORDER BY r::text) FROM flujo.runs r",
	)
	if after != before {
		t.Error("restore changed PostgreSQL")
	}
	// A second merge changes nothing.
	again, second := restoreMerged(t, url, path, false)
	flujotest.WantSameDump(t, flujotest.Dump(t, again), got)
	for _, row := range second.Tables {
		if row.Written+row.Removed != 0 {
			t.Errorf("got %+v from the second merge, want no change", row)
		}
	}
	o := flujotest.Options(t, file, url)
	o.Merge = true
	flujotest.Migrate(t, o)
	mergedByMigrate, _ := flujotest.Restore(t, url, "")
	other := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, path, other))
	mergedByRestore, _ := flujotest.Restore(t, other, "")
	flujotest.WantSameDump(
		t,
		flujotest.Dump(t, mergedByRestore),
		flujotest.Dump(t, mergedByMigrate),
	) // both merges have the same result
}

// textBetween returns the part of s between two texts.
func textBetween(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// TestRestoreMergeRefuses tests that restore --merge is refused for a role that may not lock Flujo's tables.
func TestRestoreMergeRefuses(t *testing.T) {
	t.Parallel()
	file, url := divergedPair(t)
	role := pgtest.Role(t, url, "")
	_, err := restore.Run(context.Background(), restore.Options{
		SQLite:   filepath.Join(t.TempDir(), "new.db"),
		Base:     file,
		Postgres: role,
		Schema:   flujotest.Schema,
		Merge:    true,
	})
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got error %v, want a refusal", err)
	}
}
