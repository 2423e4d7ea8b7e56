package verify_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

// fileWith writes a file with the keys of system_state, each with a value, which was written at the second of the
// value. "x" is a run instead, whose steps have the value as their name.
func fileWith(t testing.TB, values map[string]int) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	for key, value := range values {
		at := fmt.Sprintf("2026-01-05T09:00:%02d+00:00", value)
		if key != "x" {
			f.Insert("system_state", flujotest.Cells{"key": key, "value": fmt.Sprint(value), "updated_at": at})
			continue
		}
		f.Insert("runs", flujotest.Cells{"run_id": key, "updated_at": at})
		for range 2 {
			f.Insert("steps", flujotest.Cells{"run_id": key, "step_name": fmt.Sprint("step ", value), "created_at": at})
		}
	}
	return f.Close()
}

// unitsOf verifies a file and returns the status of each unit, with the verdict under "".
func unitsOf(t testing.TB, url, path string) map[string]string {
	t.Helper()
	statuses := map[string]string{}
	result, err := verify.Run(context.Background(), verify.Options{
		SQLite: path, Postgres: url, Schema: flujotest.Schema,
		OnUnit: func(u report.Unit) { statuses[u.Key] = u.Status },
	})
	if err != nil && clierr.KindOf(err) != clierr.Mismatch {
		t.Fatal(err)
	}
	if statuses[""] = result.Verdict; (err != nil) != (result.Verdict == report.CopyMismatch) {
		t.Errorf("got verdict %s and error %v", result.Verdict, err)
	}
	return statuses
}

// step is a file that is merged, or a statement of Flujo's or of somebody else.
type step struct {
	file map[string]int
	sql  string
}

// TestUnits tests what verify says of the first file's units after merges of other files and statements. Whatever
// Flujo does is drift, and a copy mismatch is what Flujo does not do.
func TestUnits(t *testing.T) {
	t.Parallel()
	const (
		deleteStep = "DELETE FROM flujo.steps WHERE id = (SELECT max(id) FROM flujo.steps)"
		insertStep = "INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) " +
			"VALUES ('x', 'new', 2, 'new', '2026-01-05T09:00:01+00:00')"
		deleteKey   = "DELETE FROM flujo.system_state WHERE key = 'k'"
		insertOther = "INSERT INTO flujo.system_state VALUES ('z', '7', now())"
		updateKey   = "UPDATE flujo.system_state SET value = '9' WHERE key = 'k'"
		touch       = "UPDATE flujo.system_state SET value = value WHERE key = 'k'"
		touchRun    = "UPDATE flujo.runs SET status = status"
		lose        = "DELETE FROM flujo.flujo_port_originals"
		loseRows    = lose + " WHERE reason = 'superseded'"
		loseRecords = lose + " WHERE reason IN ('superseded-unit', 'not-taken-unit')"
		drop        = "DROP TABLE flujo.flujo_port_originals"
		asMigrated  = `UPDATE flujo.flujo_port_receipts SET tables = (SELECT jsonb_agg(
			CASE WHEN t->>'name' <> 'system_state' THEN t ELSE jsonb_set(t, '{writers}',
				(SELECT to_jsonb(array_agg(xmin::text::bigint)) FROM flujo.system_state)) END)
			FROM jsonb_array_elements(tables) t) WHERE id = 1`
	)
	k := func(value int) step { return step{file: map[string]int{"k": value}} }
	x := func(value int) step { return step{file: map[string]int{"x": value}} }
	other := step{file: map[string]int{"other": 1}}
	do := func(sql string) step { return step{sql: sql} }
	for name, tc := range map[string]struct {
		steps []step
		want  string // of the first file
		last  string // of the last file
	}{
		"equal, then Flujo deletes a row": {
			[]step{x(1), x(1), do(deleteStep)},
			report.UnitChanged, report.UnitChanged},
		"equal, then Flujo deletes all": {
			[]step{k(1), k(1), do(deleteKey)},
			report.UnitMissing, report.UnitMissing},
		"equal, then Flujo updates": {
			[]step{k(1), k(1), do(updateKey)},
			report.UnitChanged, report.UnitChanged},
		"a row touched, then equal": {
			[]step{x(1), do(touchRun), x(1)},
			report.UnitEqual, report.UnitEqual},
		"a row touched, equal, then superseded": {
			[]step{x(1), do(touchRun), x(1), x(2)},
			report.UnitSuperseded, report.UnitEqual},
		"deleted, then brought by another file": {
			[]step{k(1), do(deleteKey), do(insertOther), k(2)},
			report.UnitChanged, report.UnitEqual},
		"changed, then superseded": {
			[]step{k(1), do(updateKey), k(2)},
			report.UnitChanged, report.UnitEqual},
		"a row deleted, then superseded": {
			[]step{x(1), do(deleteStep), x(2)},
			report.UnitChanged, report.UnitEqual},
		"a row added, then superseded": {
			[]step{x(1), do(insertStep), x(2)},
			report.UnitSuperseded, report.UnitEqual},
		"superseded, then Flujo deletes": {
			[]step{k(1), k(2), do(deleteKey)},
			report.UnitMissing, report.UnitMissing},
		"superseded, then Flujo updates": {
			[]step{k(1), k(2), do(updateKey)},
			report.UnitSuperseded, report.UnitChanged},
		"superseded, not kept": {
			[]step{k(1), k(2), do(loseRows)},
			report.UnitMismatched, report.UnitEqual},
		"superseded, not kept, Flujo touches": {
			[]step{k(1), k(2), do(loseRows), do(touch)},
			report.UnitMismatched, report.UnitEqual},
		"superseded, not kept, Flujo deletes": {
			[]step{k(1), k(2), do(loseRows), do(deleteKey)},
			report.UnitMismatched, report.UnitMissing},
		"superseded, all lost, Flujo touches": {
			[]step{k(1), k(2), do(lose), do(touch)},
			report.UnitMismatched, report.UnitEqual},
		"superseded, dropped, Flujo touches": {
			[]step{k(1), k(2), do(drop), do(touch)},
			report.UnitMismatched, report.UnitEqual},
		"superseded, no record of it": {
			[]step{k(1), k(2), do(loseRecords)},
			report.UnitSuperseded, report.UnitEqual},
		"not taken, not kept, Flujo touches": {
			[]step{k(2), k(1), do(loseRows), do(touch)},
			report.UnitEqual, report.UnitMismatched},
		"not taken, Flujo deletes the other": {
			[]step{k(2), k(1), do(deleteKey)},
			report.UnitMissing, report.UnitMissing},
		"of another kind, all lost": {
			[]step{x(1), k(2), k(1), do(lose), do(deleteStep)},
			report.UnitChanged, report.UnitMismatched},
		"superseded twice with Flujo in between": {
			[]step{k(1), k(2), do(updateKey), k(10), do(updateKey), k(20)},
			report.UnitSuperseded, report.UnitEqual},
		"a row that was not copied": {
			[]step{k(1), other, do(updateKey), do(asMigrated)},
			report.UnitMismatched, report.UnitEqual},
		"an equal row that was not copied": {
			[]step{k(1), k(1), do(updateKey), do(asMigrated)},
			report.UnitMismatched, report.UnitMismatched},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			var paths []string
			var keys []string
			for _, s := range tc.steps {
				if s.sql != "" {
					flujotest.ExecAt(t, url, s.sql)
					continue
				}
				path := fileWith(t, s.file)
				o := flujotest.Options(t, path, url)
				o.Merge = len(paths) > 0
				flujotest.Migrate(t, o)
				paths = append(paths, path)
				for key := range s.file {
					keys = append(keys, key)
				}
			}
			for i, want := range map[int]string{0: tc.want, len(paths) - 1: tc.last} {
				got := unitsOf(t, url, paths[i])
				if got[keys[i]] != want {
					t.Errorf("file %d: got %q, want %q for %s", i, got, want, keys[i])
				}
			}
		})
	}
}

// TestUnitsInParts tests that a comparison in parts finds what one of all units finds.
func TestUnitsInParts(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	fewer := []string{"DELETE FROM runs WHERE rowid % 6 > 0"} // a part reads the whole file
	for _, table := range []string{"workflow_state", "steps", "spans", "evaluations"} {
		fewer = append(fewer, "DELETE FROM "+table+" WHERE run_id NOT IN (SELECT run_id FROM runs)")
	}
	file := flujotest.Changed(t, fewer...)
	other := flujotest.Changed(t, append(fewer,
		"UPDATE runs SET updated_at = '2030-01-01T00:00:00+00:00', status = 'x' WHERE rowid % 5 = 0",
		"UPDATE steps SET step_name = 'older' WHERE id % 8 = 0", "DELETE FROM system_state WHERE rowid % 2 = 0")...)
	o := flujotest.Options(t, file, url)
	o.More = []string{other}
	flujotest.Migrate(t, o)
	flujotest.ExecAt(t, url, "UPDATE flujo.steps SET status = 'x' WHERE id % 7 = 0; "+
		"DELETE FROM flujo.runs WHERE run_id = (SELECT max(run_id) FROM flujo.runs)")
	type found struct {
		Verdict string
		Files   []*report.VerifiedFile
		Units   []report.Unit
	}
	compare := func(maxUnits int64) string {
		var units []report.Unit
		result, err := verify.RunInParts(t.Context(), verify.Options{
			SQLite: file, More: []string{other}, Postgres: url, Schema: flujotest.Schema,
			OnUnit: func(u report.Unit) { units = append(units, u) },
		}, maxUnits)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(units, func(a, b report.Unit) int {
			return cmp.Or(
				strings.Compare(a.Path, b.Path),
				strings.Compare(a.Kind, b.Kind),
				strings.Compare(a.Key, b.Key),
			)
		})
		for _, f := range result.Files {
			f.Found = nil // has times
			for _, u := range f.Units {
				for _, first := range [][]string{
					u.FirstSuperseded, u.FirstChanged, u.FirstIncomplete, u.FirstMissing, u.FirstMismatched,
				} {
					clear(first) // these are others
				}
			}
		}
		text, err := json.MarshalIndent(found{result.Verdict, result.Files, units}, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	whole := compare(1 << 40)
	for _, status := range []string{report.UnitEqual, report.UnitSuperseded, report.UnitChanged, report.UnitMissing} {
		if !strings.Contains(whole, `"`+status+`"`) {
			t.Fatalf("no unit is %s: the test compares too little", status)
		}
	}
	for _, maxUnits := range []int64{1, 4, 10} {
		if got := compare(maxUnits); got != whole {
			t.Errorf("%d units at a time: got\n%s\nwant\n%s", maxUnits, got, whole)
		}
	}
}
