package merge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// stateOf returns the content of Flujo's tables and sequences as text.
func stateOf(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	var all []string
	for _, table := range mergeTables {
		all = append(all, flujotest.One(t, conn, fmt.Sprintf("SELECT string_agg('%s ' || to_jsonb(t)::text, E'\n' "+
			"ORDER BY to_jsonb(t)::text) FROM flujo.%[1]s t", table)))
	}
	for _, table := range []string{"steps", "spans", "evaluations"} {
		all = append(all,
			flujotest.One(t, conn, fmt.Sprintf("SELECT format('%s continues with %%s', last_value + is_called::int) "+
				"FROM flujo.%[1]s_id_seq", table)))
	}
	return strings.Join(all, "\n")
}

// mergeOptions returns the options that merge file into url.
func mergeOptions(t testing.TB, file, url string) migrate.Options {
	t.Helper()
	o := flujotest.Options(t, file, url)
	o.Merge = true
	return o
}

// testMerge merges file into a database with the rows of target. It tests a dry run, the merge, a second merge, which
// must change nothing, the verdict of verify, and Flujo's next inserts.
func testMerge(t *testing.T, target, file side, allocated map[string]int64) {
	t.Helper()
	want := mergeModel(t, target, file, allocated)
	url, path := target.database(t, allocated), file.file(t)
	conn := flujotest.Connect(t, url)
	before, schemas := stateOf(t, conn), flujotest.Leftovers(t, conn)
	o := mergeOptions(t, path, url)
	o.DryRun, o.Verify = true, report.VerifyCounts
	dryRun := flujotest.Migrate(t, o)
	want.checkReport(t, dryRun)
	if after := stateOf(t, conn); after != before || flujotest.Leftovers(t, conn) != schemas {
		t.Errorf("got after the dry run\n%s\n%s\nwant\n%s\n%s", after, flujotest.Leftovers(t, conn), before, schemas)
	}
	o.DryRun, o.Verify = false, report.VerifyContent
	result := flujotest.Migrate(t, o)
	want.check(t, conn, result)
	if got := flujotest.Leftovers(t, conn); got != want.withOwnTables(schemas) {
		t.Errorf("the merge left in the database: %s", got)
	}
	once := stateOf(t, conn)
	again := flujotest.Migrate(t, o)
	if twice := stateOf(t, conn); twice != once {
		t.Errorf("got after the second merge\n%s\nwant\n%s", twice, once)
	}
	for _, u := range again.Merge.Units {
		if u.Added+u.TakenOver != 0 || len(again.Merge.Renumbered) > 0 {
			t.Errorf("got %+v and renumbered %v from the second merge, want none", u, again.Merge.Renumbered)
		}
	}
	verified, differences, err := flujotest.Verify(t, path, url)
	if err != nil || verified.Verdict != report.Merged && verified.Verdict != report.Equal || len(differences) > 0 {
		t.Errorf("got %+v, differences %v and error %v from verify, want merged or equal", verified, differences, err)
	}
	insertAsFlujo(t, conn, want.want)
}

// withOwnTables adds the program's own tables to a list of leftovers: the receipts, and the originals if both sides
// have a unit.
func (m *model) withOwnTables(leftovers string) string {
	all := strings.Split(leftovers, ", ")
	all = append(all, "relation flujo.flujo_port_receipts", "relation flujo.flujo_port_receipts_pkey")
	both := int64(0)
	for _, u := range m.units {
		both += u.Equal + u.TakenOver + u.Kept - u.Alone
	}
	if both > 0 {
		for _, suffix := range []string{"", "_id_seq", "_pkey"} {
			all = append(all, "relation flujo.flujo_port_originals"+suffix)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// insertAsFlujo inserts a run and its children as Flujo does, and tests that their ids are higher than those of rows.
func insertAsFlujo(t testing.TB, conn *pgx.Conn, rows side) {
	t.Helper()
	flujotest.Exec(t, conn,
		"INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, "+
			"updated_at) VALUES ('next', 'p', 'n', '1', 'running', now(), now())",
		"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('next', 's', 0, 'completed', now())",
		"INSERT INTO flujo.spans (run_id, span_id, name, start_time, status, created_at) "+
			"VALUES ('next', 's', 'n', 1, 'completed', now())",
		"INSERT INTO flujo.evaluations (run_id, score) VALUES ('next', 1)")
	for _, table := range []string{"steps", "spans", "evaluations"} {
		query := fmt.Sprintf("SELECT id > %d FROM flujo.%s WHERE run_id = 'next'", highestID(rows[table]), table)
		if got := flujotest.One(t, conn, query); got != "true" {
			t.Errorf("%s: the next id is not higher than %d", table, highestID(rows[table]))
		}
	}
}

// TestMergePairs tests every pair of absent, older, newer and equal, for runs and for keys of system_state, with ids
// that collide and ids that do not.
func TestMergePairs(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("only-target", "h", 3, 1)
	target.addRun("older-target", "h", 3, 3)
	target.addRun("newer-target", "h", 5, 5)
	target.addRun("equal", "same", 3, 7)
	target.addRun("equal-other-ids", "same", 3, 9)
	target.addRun("tied", "h", 3, 11)
	file.addRun("only-file", "f", 3, 1)
	file.addRun("older-target", "f", 4, 3)
	file.addRun("newer-target", "f", 4, 5)
	file.addRun("equal", "same", 3, 7)
	file.addRun("equal-other-ids", "same", 3, 20)
	file.addRun("tied", "f", 3, 11)
	file.addRun("only-file-free-ids", "f", 3, 30)
	for key, times := range map[string][2]int{
		"only-target": {3, -1}, "only-file": {-1, 3}, "older-target": {3, 4}, "newer-target": {4, 3}, "tied": {3, 3},
	} {
		for i, s := range []side{target, file} {
			if times[i] >= 0 {
				s.add("system_state",
					flujotest.Cells{"key": key, "value": fmt.Sprintf(`{"by": %d}`, i), "updated_at": at(times[i])})
			}
		}
	}
	for _, s := range []side{target, file} {
		s.add("system_state", flujotest.Cells{"key": "equal", "value": `{"a": 1}`, "updated_at": at(3)})
	}
	testMerge(t, target, file, nil)
}

// TestMergeReplacesChildren tests that all rows of a run are replaced by those of the newer side, which may have
// fewer rows, other rows, or none in a table.
func TestMergeReplacesChildren(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("fewer", "h", 3, 1)
	file.add("runs", flujotest.Cells{"run_id": "fewer", "created_at": at(0), "updated_at": at(9)})
	target.add("runs", flujotest.Cells{"run_id": "more", "created_at": at(0), "updated_at": at(3)})
	file.addRun("more", "f", 4, 1)
	// A child is the latest write of its run.
	target.addRun("child", "h", 3, 5)
	file.addRun("child", "f", 2, 5)
	file.add("evaluations", flujotest.Cells{"run_id": "child", "id": int64(7), "created_at": at(8)})
	// Runs that are only in workflow_state, on one side or both.
	target.addRun("state", "h", 3, 9)
	file.add("workflow_state", flujotest.Cells{"run_id": "state", "updated_at": at(4)})
	file.add("workflow_state", flujotest.Cells{"run_id": "state-only-file", "updated_at": at(4)})
	target.add("workflow_state", flujotest.Cells{"run_id": "state-only-target", "updated_at": at(4)})
	target.add("workflow_state", flujotest.Cells{"run_id": "state-to-run", "updated_at": at(4)})
	file.addRun("state-to-run", "f", 5, 11)
	testMerge(t, target, file, map[string]int64{"steps": 100, "spans": 5})
}

// TestMergeEqual tests a merge of the file that was migrated.
func TestMergeEqual(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := mergeOptions(t, flujotest.Fixture, url)
	if first := flujotest.Migrate(t, o); first.Merge != nil || !first.Committed ||
		!slices.ContainsFunc(first.Notes, func(n string) bool { return strings.Contains(n, "no rows to merge with") }) {
		t.Errorf("got merge %+v and notes %q for an empty target, want a migration and a note", first.Merge,
			first.Notes)
	}
	conn := flujotest.Connect(t, url)
	before := stateOf(t, conn)
	writers := flujotest.One(t, conn, "SELECT string_agg(xmin::text, ',' ORDER BY run_id) FROM flujo.runs")
	copied := flujotest.Changed(t, "CREATE TABLE notes (a)") // equal rows, other bytes
	o.SQLite = copied
	result := flujotest.Migrate(t, o)
	if u := result.Merge.Units[0]; u.Equal != 60 || u.Kept+u.Added+u.TakenOver != 0 {
		t.Errorf("got %+v, want 60 equal", u)
	}
	if after := stateOf(t, conn); after != before ||
		flujotest.One(t, conn, "SELECT string_agg(xmin::text, ',' ORDER BY run_id) FROM flujo.runs") != writers {
		t.Error("the merge wrote rows that are equal")
	}
	for _, file := range []string{flujotest.Fixture, copied} {
		flujotest.WantVerdict(t, file, url, report.Equal, 0)
	}
	// The receipts still have the writers of the migration.
	flujotest.Exec(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 4")
	flujotest.WantVerdict(t, copied, url, report.Drift, 0)
	result2, _ := flujotest.WantVerdict(t, flujotest.Fixture, url, report.Drift, 0)
	if c := result2.Files[0].Units[0]; c.Changed != 1 || c.Equal != 59 || c.Mismatched != 0 {
		t.Errorf("got %+v, want 1 changed and 0 mismatched", c)
	}
	if got := flujotest.One(
		t,
		conn,
		"SELECT count(*) FROM flujo.flujo_port_receipts WHERE options->>'merged' = 'true' "+
			"AND jsonb_array_length(tables->2->'writers') > 0",
	); got != "1" {
		t.Errorf("got %s receipts of a merge with the migration's writers, want 1", got)
	}
}

// TestMergeAfterRollback tests a migration, writes to PostgreSQL, a rollback to the file, writes to the file, and a
// merge.
func TestMergeAfterRollback(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	conn := flujotest.Connect(t, url)
	run0, run1, run2 := flujotest.One(t, conn, "SELECT min(run_id) FROM flujo.runs"),
		flujotest.One(t, conn, "SELECT max(run_id) FROM flujo.runs"),
		flujotest.One(t, conn, "SELECT run_id FROM flujo.runs ORDER BY run_id OFFSET 5 LIMIT 1")
	const step = "INSERT INTO %ssteps (run_id, step_name, step_index, status, output, created_at) " +
		"VALUES ('%s', '%s', 99, 'completed', '{\"by\": \"%[3]s\"}', '%s')"
	flujotest.Exec(t, conn, fmt.Sprintf(step, "flujo.", run0, "pg", "2027-01-01T00:00:00+00:00"),
		fmt.Sprintf(step, "flujo.", run1, "pg", "2027-01-01T00:00:00+00:00"),
		fmt.Sprintf("DELETE FROM flujo.runs WHERE run_id = '%s'", run2),
		fmt.Sprintf("DELETE FROM flujo.workflow_state WHERE run_id = '%s'", run2))
	file := flujotest.Changed(t, fmt.Sprintf(step, "", run1, "file", "2027-01-02T00:00:00+00:00"),
		fmt.Sprintf(step, "", run0, "file", "2026-12-31T00:00:00+00:00"),
		"INSERT INTO spans (run_id, span_id, name, start_time, status, created_at) VALUES ('"+run1+
			"', 'new', 'late', 1.5e9, 'ok', '2027-01-02T00:00:00+00:00')")
	result := flujotest.Migrate(t, mergeOptions(t, file, url))
	u := result.Merge.Units[0]
	if u.Equal != 57 || u.Kept != 1 || u.Added != 1 || u.TakenOver != 1 ||
		!slices.Equal(u.FirstTakenOver, []string{run1}) ||
		!slices.Equal(u.FirstNewer, []string{run0}) {
		t.Errorf("got %+v, want 57 equal, 1 kept, 1 added, 1 taken over", u)
	}
	for r, by := range map[string]string{run0: "pg", run1: "file"} {
		const names = "SELECT string_agg(step_name, ',') FROM flujo.steps WHERE step_index = 99 AND run_id = $1"
		if got := flujotest.One(t, conn, names, r); got != by {
			t.Errorf("run %s: got the step of %s, want %s", r, got, by)
		}
	}
	if got := flujotest.One(t, conn, "SELECT trace_data::text LIKE '%late%' FROM flujo.traces WHERE run_id = $1",
		run1); got != "true" {
		t.Error("the trace is not derived from the spans of the file")
	}
	if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.traces WHERE run_id = $1", run2); got != "1" {
		t.Errorf("got %s traces of the run that was deleted in PostgreSQL, want 1", got)
	}
	flujotest.WantVerdict(t, file, url, report.Merged, 0)
	first, _ := flujotest.WantVerdict(t, flujotest.Fixture, url, report.Drift, 0) // the file before
	if u := first.Files[0].Units[0]; u.Equal != 58 || u.Superseded != 1 || u.Changed != 1 ||
		!slices.Equal(u.FirstSuperseded, []string{run1}) || !slices.Equal(u.FirstChanged, []string{run0}) {
		t.Errorf("got %+v, want 58 equal, 1 superseded by the second file and 1 changed by Flujo", u)
	}
	flujotest.Exec(t, conn, fmt.Sprintf("UPDATE flujo.runs SET status = 'other' WHERE run_id = '%s'", run1))
	flujotest.WantVerdict(t, file, url, report.Drift, 0)
	_, _, err := flujotest.Verify(t, flujotest.Changed(t, "DELETE FROM system_state"), url)
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got error %v, want a refusal", err)
	}
}

// TestMergeOriginals tests that the originals of the rows that are taken from the file are stored under their new ids,
// and that those of all other rows are stored too, with the receipt of their file.
func TestMergeOriginals(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	first := flujotest.NewFile(t, flujotest.Format06)
	for _, r := range []string{"equal", "older", "newer"} {
		first.Insert("runs", flujotest.Cells{"run_id": r, "error_message": "x\x00", "updated_at": at(10)})
		first.Insert("steps", flujotest.Cells{"run_id": r, "output": "no JSON", "created_at": at(1)}) // ids 1 to 3
	}
	first.Insert("steps", flujotest.Cells{"run_id": "equal", "step_name": nil, "created_at": at(1)}) // 4, rejected
	o := flujotest.Options(t, first.Close(), url)
	o.Quarantine = true
	flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn,
		"UPDATE flujo.runs SET updated_at = '"+at(12)+"', error_message = 'new' WHERE run_id = 'newer'",
		"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('newer', 's', 5, 'completed', '"+at(2)+"')") // id 5

	second := flujotest.NewFile(t, flujotest.Format06)
	second.Insert("runs", flujotest.Cells{"run_id": "equal", "error_message": "x\x00", "updated_at": at(10)})
	second.Insert("runs", flujotest.Cells{"run_id": "older", "error_message": "y\x00", "updated_at": at(11)})
	second.Insert("runs", flujotest.Cells{"run_id": "newer", "error_message": "z\x00", "updated_at": at(11)})
	second.Insert("runs", flujotest.Cells{"run_id": "added", "error_message": "w\x00", "updated_at": at(11)})
	second.Insert("steps", flujotest.Cells{"id": int64(1), "run_id": "equal", "output": "no JSON", "created_at": at(1)})
	second.Insert("steps", flujotest.Cells{"id": int64(2), "run_id": "older", "output": "other", "created_at": at(1)})
	second.Insert("steps", flujotest.Cells{"id": int64(3), "run_id": "newer", "output": "other", "created_at": at(1)})
	second.Insert("steps", flujotest.Cells{"id": int64(4), "run_id": "equal", "step_name": nil, "created_at": at(1)})
	second.Insert("steps", flujotest.Cells{"id": int64(5), "run_id": "added", "output": "more", "created_at": at(1)})
	second.Insert("steps", flujotest.Cells{"id": int64(6), "run_id": "older", "status": nil, "created_at": at(1)})
	o.SQLite, o.Merge = second.Close(), true
	result := flujotest.Migrate(t, o)
	var rejected []flujotest.Original
	for _, one := range []struct {
		id   int64
		null string
	}{{4, "step_name"}, {4, "step_name"}, {6, "status"}} { // the first row is in both files
		id, null := one.id, one.null
		run := map[int64]string{4: "equal", 6: "older"}[id]
		row := flujotest.Cells{
			"id":                id,
			"run_id":            run,
			"step_name":         "s",
			"step_index":        int64(0),
			"status":            "completed",
			"output":            nil,
			"raw_response":      nil,
			"cost_usd":          nil,
			"token_counts":      nil,
			"execution_time_ms": nil,
			"created_at":        at(1),
		}
		row[null] = nil
		for column, cell := range row {
			rejected = append(
				rejected,
				flujotest.OriginalCell("steps", fmt.Sprint(id), id, column, "missing-value", cell),
			)
		}
	}
	flujotest.WantOriginals(t, conn, append(rejected,
		flujotest.OriginalCell("runs", "equal", 1, "error_message", "nul-removed", "x\x00"),
		flujotest.OriginalCell("steps", "1", 1, "output", "invalid-json", "no JSON"),
		flujotest.OriginalCell("runs", "older", 2, "error_message", "nul-removed", "y\x00"),
		flujotest.OriginalCell("steps", "2", 2, "output", "invalid-json", "other"),
		flujotest.OriginalCell("runs", "newer", 3, "error_message", "nul-removed", "x\x00"),
		flujotest.OriginalCell("steps", "3", 3, "output", "invalid-json", "no JSON"),
		flujotest.OriginalCell("runs", "equal", 1, "error_message", "nul-removed", "x\x00"),
		flujotest.OriginalCell("steps", "1", 1, "output", "invalid-json", "no JSON"),
		flujotest.OriginalCell("runs", "older", 2, "error_message", "nul-removed", "x\x00"),
		flujotest.OriginalCell("steps", "2", 2, "output", "invalid-json", "no JSON"),
		flujotest.OriginalCell("runs", "newer", 3, "error_message", "nul-removed", "z\x00"),
		flujotest.OriginalCell("steps", "3", 3, "output", "invalid-json", "other"),
		flujotest.OriginalCell("runs", "added", 4, "error_message", "nul-removed", "w\x00"),
		flujotest.OriginalCell("steps", "7", 5, "output", "invalid-json", "more")))
	if got := flujotest.One(
		t,
		conn,
		"SELECT string_agg(n, ' ' ORDER BY n) FROM (SELECT receipt || ':' || count(*) AS n "+
			"FROM flujo.flujo_port_originals WHERE column_name <> '' GROUP BY receipt) x",
	); got != "1:17 2:30" {
		t.Errorf("got the numbers of originals by receipt %s", got)
	}
	if want := int64(4*2 + 2*11); result.Originals != want { // two of each run, and the rejected rows
		t.Errorf("got %d originals, want %d", result.Originals, want)
	}
	once := stateOf(t, conn)
	if again := flujotest.Migrate(t, o); again.Originals != result.Originals || stateOf(t, conn) != once {
		t.Errorf("got %d originals and other rows from the second merge, want no change", again.Originals)
	}
	o.Quarantine = false
	flujotest.Change(t, o.SQLite, "UPDATE runs SET pipeline_id = 'other'")
	if _, err := migrate.Run(context.Background(), o); clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got error %v, want a refusal", err)
	}
	if stateOf(t, conn) != once {
		t.Error("the refused merge changed the database")
	}
}

// TestMergeAfterRestore tests that a restored file is equal to the database, and that a merge takes over only what was
// written to the file later.
func TestMergeAfterRestore(t *testing.T) {
	t.Parallel()
	for name, base := range map[string]string{"without base": "", "with base": flujotest.Fixture} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
			conn := flujotest.Connect(t, url)
			run1 := flujotest.One(t, conn, "SELECT min(run_id) FROM flujo.runs")
			run2 := flujotest.One(t, conn, "SELECT max(run_id) FROM flujo.runs")
			flujotest.Exec(t, conn, flujotest.Writes(run1, run2)...)
			before := stateOf(t, conn)
			path, _ := flujotest.Restore(t, url, base)
			result := flujotest.Migrate(t, mergeOptions(t, path, url))
			if u := result.Merge.Units; u[0].Equal != 60 ||
				u[0].Kept+u[0].Added+u[0].TakenOver+u[1].Kept+u[1].Added+u[1].TakenOver != 0 {
				t.Errorf("got %+v, want all equal", u)
			}
			if stateOf(t, conn) != before {
				t.Error("the merge changed rows that are equal")
			}
			flujotest.Change(t, path,
				"UPDATE runs SET status = 'file', updated_at = '2099-01-01T00:00:00+00:00' WHERE run_id = 'new'")
			flujotest.Change(t, path,
				"INSERT INTO evaluations (run_id, score, created_at) VALUES ('new', 1, '2099-01-01T00:00:00+00:00')")
			result = flujotest.Migrate(t, mergeOptions(t, path, url))
			if u := result.Merge.Units[0]; u.Equal != 59 || u.TakenOver != 1 || len(result.Merge.Renumbered) != 0 {
				t.Errorf("got %+v, want 59 equal and 1 taken over", result.Merge)
			}
			got := flujotest.One(t, conn, "SELECT status || (SELECT string_agg(id::text, ',' ORDER BY id) "+
				"FROM flujo.evaluations e WHERE e.run_id = r.run_id) FROM flujo.runs r WHERE run_id = 'new'")
			if got != "file16,18" {
				t.Errorf("got the run %s, want file16,18", got)
			}
		})
	}
}

// TestMergeCreatesOriginals tests that a merge creates flujo_port_originals and stores the original values of every
// row, also of those that it does not take.
func TestMergeCreatesOriginals(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("r", "h", 5, 1)
	file.addRun("r", "f", 3, 1)
	file["runs"][0]["error_message"] = "x\x00"
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	if result := flujotest.Migrate(t, mergeOptions(t, file.file(t), url)); result.Originals != 1 {
		t.Errorf("got %d originals of rows that were not taken over, want 1", result.Originals)
	}
	original := flujotest.OriginalCell("runs", "r", 1, "error_message", "nul-removed", "x\x00")
	flujotest.WantOriginals(t, conn, []flujotest.Original{original})
	file["runs"][0]["updated_at"] = at(6)
	if result := flujotest.Migrate(t, mergeOptions(t, file.file(t), url)); result.Originals != 1 {
		t.Errorf("got %d originals, want 1", result.Originals)
	}
	flujotest.WantOriginals(t, conn, []flujotest.Original{original, original})
}

// TestMergeWidens tests that columns of the target become bigint where the file or new ids need it.
func TestMergeWidens(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("h", "h", 3, 1)
	target["steps"][1]["id"] = int64(1<<31 - 2)
	file.addRun("f", "f", 3, 1)
	file["steps"][0]["token_counts"] = int64(5e9)
	file["evaluations"][0]["id"] = int64(6e9)
	file["steps"][1]["id"] = int64(1<<31 - 2)
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	o := mergeOptions(t, file.file(t), url)
	result := flujotest.Migrate(t, o)
	mergeModel(t, target, file, nil).check(t, conn, result)
	flujotest.WantTypes(t, conn, map[string]string{
		"steps.id":           "bigint",
		"steps_id_seq":       "bigint",
		"steps.token_counts": "bigint",
		"evaluations.id":     "bigint",
		"evaluations_id_seq": "bigint",
	})
	const wantIDs = "1,2147483646,2147483647,4294967292"
	if got := flujotest.One(t, conn, "SELECT string_agg(id::text, ',' ORDER BY id) FROM flujo.steps"); got != wantIDs {
		t.Errorf("got ids of steps %s, want %s", got, wantIDs)
	}
	widened := slices.Sorted(slices.Values(result.Widened))
	flujotest.WantSame(t, "widened", widened, []string{"evaluations.id", "steps.id", "steps.token_counts"})
	once := stateOf(t, conn)
	flujotest.Migrate(t, o)
	if stateOf(t, conn) != once {
		t.Error("the second merge changed the database")
	}
	insertAsFlujo(t, conn, mergeModel(t, target, file, nil).want)
}

// TestMergeIDsExhausted tests that a merge is refused if it needs an id after the highest possible one.
func TestMergeIDsExhausted(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("h", "h", 3, 1)
	file.addRun("f", "f", 3, 1)
	file["steps"][1]["id"] = int64(1<<63 - 1)
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	before := stateOf(t, conn)
	flujotest.WantError(t, mergeOptions(t, file.file(t), url), clierr.Refused, "steps", "9223372036854775807")
	if stateOf(t, conn) != before {
		t.Error("the refused merge changed the database")
	}
}

// TestMergeTampered tests that rows that change before the commit are found, and that nothing is committed.
func TestMergeTampered(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("kept", "h", 5, 1)
	file.addRun("kept", "f", 3, 1)
	target.addRun("taken", "h", 3, 3)
	file.addRun("taken", "f", 5, 3)
	file.addRun("added", "f", 5, 5)
	target.add("system_state", flujotest.Cells{"key": "k"})
	target.addRun("other", "h", 3, 50)
	path := file.file(t)
	for name, tc := range map[string]struct{ damage, unit string }{
		"a cell of a kept run":  {"UPDATE steps SET status = 'other' WHERE id = 1", `runs "kept"`},
		"a cell of a taken run": {"UPDATE spans SET name = 'other' WHERE id = 3", `runs "taken"`},
		"a row of an added run": {"DELETE FROM evaluations WHERE run_id = 'added'", `runs "added"`},
		"an extra row": {"INSERT INTO system_state (key, value) VALUES ('more', '1')",
			"system_state (2 rows instead of 1, or others)"},
		"a missing unit":        {"DELETE FROM system_state", "system_state (0 rows instead of 1"},
		"another run's cell":    {"UPDATE steps SET status = 'other' WHERE run_id = 'other'", "steps ("},
		"another key's value":   {"UPDATE system_state SET value = '7'", "system_state (1 rows instead of 1"},
		"an id of a kept run":   {"UPDATE steps SET id = 99 WHERE id = 1", `runs "kept"`},
		"an id of an added run": {"UPDATE steps SET id = 99 WHERE id = 5", `runs "added"`},
		"ids of two rows changed": {"UPDATE steps SET id = 99 WHERE id = 1; UPDATE steps SET id = 1 " +
			"WHERE id = 2; UPDATE steps SET id = 2 WHERE id = 99", `runs "kept"`},
		"a row moved to another run": {
			"UPDATE steps SET run_id = 'taken' WHERE id = 5", `runs "added", runs "taken"`},
		"a trace of an added run": {
			`UPDATE traces SET trace_data = '{}' WHERE run_id = 'added'`, `runs "added"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := target.database(t, nil)
			conn := flujotest.Connect(t, url)
			flujotest.Tamperer(t, url)(tc.damage)
			before := stateOf(t, conn)
			o := mergeOptions(t, path, url)
			o.Verify = report.VerifyCounts // a merge verifies content even so
			flujotest.WantError(t, o, clierr.Mismatch, tc.unit)
			if stateOf(t, conn) != before {
				t.Error("the merge was committed")
			}
		})
	}
}

// TestMergeTamperedStaging tests that the staging tables are compared with the file before the merge.
func TestMergeTamperedStaging(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("r", "h", 3, 1)
	file.addRun("r", "f", 5, 1)
	file["runs"][0]["error_message"] = "x\x00" // flujo_port_originals is filled after the load
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(
		t,
		conn,
		`CREATE FUNCTION public.tamper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			EXECUTE format('UPDATE %I.steps SET step_name = ''other'' WHERE id = 2', TG_TABLE_SCHEMA);
			RETURN NULL;
		END $$`,
		`CREATE FUNCTION public.staged() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE o text; BEGIN
			SELECT schema_name INTO o FROM pg_event_trigger_ddl_commands()
				WHERE object_identity ~ '^flujo_port_staging_.*\.flujo_port_originals$';
			IF o IS NOT NULL THEN
				EXECUTE format('CREATE TRIGGER tamper AFTER INSERT ON %I.flujo_port_originals '
					'EXECUTE FUNCTION public.tamper()', o);
			END IF;
		END $$`,
		"CREATE EVENT TRIGGER staged ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.staged()",
	)
	before := stateOf(t, conn)
	result, err := migrate.Run(context.Background(), mergeOptions(t, file.file(t), url))
	if clierr.KindOf(err) != clierr.Mismatch || result == nil || result.Differing != 1 ||
		result.Differences[0].Column != "step_name" {
		t.Errorf("got %+v and error %v, want a mismatch of step_name", result, err)
	}
	if stateOf(t, conn) != before {
		t.Error("the merge was committed")
	}
}

// TestMergeWithoutOwnership tests that a role that owns no tables and may not create schemas can merge, and that the
// merge leaves nothing behind.
func TestMergeWithoutOwnership(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("r", "h", 3, 1)
	file.addRun("r", "f", 5, 1)
	file.addRun("s", "f", 5, 3)
	file["runs"][0]["error_message"] = "x\x00"
	target.addRun("q", "h", 5, 3)
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	role := pgtest.Role(t, url, "")
	name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
	flujotest.Initialize(t, url, name)
	o := mergeOptions(t, file.file(t), role)
	o.DryRun, o.NoMigrations = true, true
	before := stateOf(t, conn)
	flujotest.Migrate(t, o)
	if stateOf(t, conn) != before {
		t.Error("the dry run changed the database")
	}
	o.DryRun = false
	result := flujotest.Migrate(t, o)
	file["runs"][0]["error_message"] = "x"
	mergeModel(t, target, file, nil).check(t, conn, result)
	if got := flujotest.One(t, conn, "SELECT count(*) FROM pg_class WHERE relname ~ '^flujo_port' "+
		"AND relnamespace <> 'flujo'::regnamespace AND relkind = 'r'"); got != "0" {
		t.Errorf("the merge left %s tables", got)
	}
	insertAsFlujo(t, conn, mergeModel(t, target, file, nil).want)
}

// TestMergeWithoutTemporaryTables tests that a role that may create neither a schema nor temporary tables is told which
// privilege it lacks.
func TestMergeWithoutTemporaryTables(t *testing.T) {
	t.Parallel()
	target := side{}
	target.addRun("r", "h", 3, 1)
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	role := pgtest.Role(t, url, "")
	flujotest.InitializeFor(t, url, flujotest.OneAt(t, role, "SELECT current_user"))
	flujotest.Exec(
		t,
		conn,
		"DO $$ BEGIN EXECUTE format('REVOKE TEMP ON DATABASE %I FROM PUBLIC', current_database()); END $$",
	)
	o := mergeOptions(t, flujotest.Fixture, role)
	_, err := migrate.Run(context.Background(), o)
	f, ok := errors.AsType[*clierr.Error](err)
	if !ok || f.Kind != clierr.Refused || f.Advice.Topic != clierr.NoAdvice {
		t.Fatalf("got error %v, want a refusal without the advice to run init", err)
	}
	_, grant, _ := strings.Cut(f.Hint, "database run ")
	flujotest.Exec(t, conn, grant)
	flujotest.Migrate(t, o)
}

// TestMergeKeepsReferringRows tests that rows of other tables that refer to a replaced run are kept.
func TestMergeKeepsReferringRows(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("r", "h", 3, 1)
	file.addRun("r", "f", 5, 1)
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn,
		"CREATE TABLE public.notes (run_id text REFERENCES flujo.runs ON DELETE CASCADE)",
		"INSERT INTO public.notes VALUES ('r')",
		"CREATE TABLE public.bills (run_id text REFERENCES flujo.runs)",
		"INSERT INTO public.bills VALUES ('r')")
	mergeModel(t, target, file, nil).check(t, conn, flujotest.Migrate(t, mergeOptions(t, file.file(t), url)))
	got := flujotest.One(t, conn, "SELECT (SELECT count(*) FROM public.notes) + (SELECT count(*) FROM public.bills)")
	if got != "2" {
		t.Errorf("got %s referring rows, want 2", got)
	}
}

// TestMergeHiddenRows tests that a merge is refused if row-level security hides rows.
func TestMergeHiddenRows(t *testing.T) {
	t.Parallel()
	target := side{}
	target.addRun("r", "h", 3, 1)
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	role := pgtest.Role(t, url, "")
	name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
	flujotest.Initialize(t, url, name)
	flujotest.Exec(t, conn,
		"ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY visible ON flujo.steps USING (id > 1)")
	o := mergeOptions(t, flujotest.Fixture, role)
	o.NoMigrations = true
	flujotest.WantError(t, o, clierr.Refused, "row-level security", "steps")
}

// TestVerifyAfterMerge tests that verify distinguishes rows kept by the merge, rows changed later and rows that the
// merge copied wrongly.
func TestVerifyAfterMerge(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("kept", "h", 5, 1)
	file.addRun("kept", "f", 3, 1)
	file.addRun("renumbered", "f", 3, 5)
	target.addRun("own", "h", 3, 5)
	file.addRun("taken", "f", 3, 3)
	url, path := target.database(t, nil), file.file(t)
	conn := flujotest.Connect(t, url)
	flujotest.Migrate(t, mergeOptions(t, path, url))
	result, _ := flujotest.WantVerdict(t, path, url, report.Merged, 0)
	if runs := result.Files[0].Units[0]; !result.Receipt.Merged || runs.InFile != 3 || runs.Equal != 1 ||
		runs.Renumbered != 1 || runs.Superseded+runs.Changed != 1 {
		t.Errorf("got %+v, want a merged receipt, and one run each equal, renumbered and not taken", result.Files[0])
	}
	flujotest.Exec(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE run_id = 'taken' AND id = 3")
	result, differences := flujotest.WantVerdict(t, path, url, report.Drift, 0)
	if c := result.Files[0].Units[0]; c.Mismatched != 0 || c.Changed != 1 || c.Equal != 0 {
		t.Errorf("got %+v and differences %v, want 1 changed and 0 mismatched", c, differences)
	}
	// If the merge were the writer of the row, it would be a copy mismatch.
	flujotest.Exec(t, conn, `UPDATE flujo.flujo_port_receipts SET tables = jsonb_set(tables, '{2,merged,writers}',
		(SELECT jsonb_agg(DISTINCT xmin::text::bigint) FROM flujo.steps WHERE run_id IN ('taken', 'renumbered')))`)
	result, differences = flujotest.WantVerdict(t, path, url, report.CopyMismatch, clierr.Mismatch)
	if c := result.Files[0].Units[0]; c.Mismatched != 1 || c.Changed != 0 || len(differences) != 1 ||
		differences[0].Table != "steps" || differences[0].Key != "3" {
		t.Errorf("got %+v and differences %v, want 1 mismatched", c, differences)
	}
}

// TestMergeNulls tests that JSON null and NULL are equal. Flujo does not distinguish them, and a migration converts
// JSON null to NULL.
func TestMergeNulls(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("equal", "same", 3, 1)
	file.addRun("equal", "same", 3, 1)
	target["workflow_state"][0]["metadata"], target["steps"][0]["output"] = "null", "null"
	file["workflow_state"][0]["last_step_output"], file["steps"][0]["output"] = "null", "null"
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	before := stateOf(t, conn)
	if u := flujotest.Migrate(t, mergeOptions(t, file.file(t), url)).Merge.Units[0]; u.Equal != 1 {
		t.Errorf("got %+v, want 1 equal", u)
	}
	if stateOf(t, conn) != before {
		t.Error("the merge changed rows that are equal")
	}
}

// TestMergeInferredTimes tests that a row of the file without a timestamp replaces no row, although it gets the
// file's modification time.
func TestMergeInferredTimes(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.add("system_state", flujotest.Cells{"key": "k", "value": "1"})
	file.add("system_state", flujotest.Cells{"key": "k", "value": "2", "updated_at": ""})
	file.add("system_state", flujotest.Cells{"key": "l", "value": "3", "updated_at": "?"})
	url := target.database(t, nil)
	conn := flujotest.Connect(t, url)
	result := flujotest.Migrate(t, mergeOptions(t, file.file(t), url))
	if u := result.Merge.Units[1]; u.Kept != 1 || u.Added != 1 {
		t.Errorf("got %+v, want 1 kept and 1 added", u)
	}
	got := flujotest.One(t, conn, "SELECT string_agg(key || value::text, ' ' ORDER BY key) FROM flujo.system_state")
	if got != "k1 l3" {
		t.Errorf("got system_state %s, want k1 l3", got)
	}
}

// TestMergeExactFloats tests that --exact-floats makes columns of the target double precision, and that rows rewritten
// by that do not count as written by the merge.
func TestMergeExactFloats(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("equal", "same", 3, 1)
	file.addRun("equal", "same", 3, 1)
	target.addRun("kept", "h", 5, 3)
	file.addRun("kept", "f", 3, 3)
	target.addRun("taken", "h", 3, 5)
	file.addRun("taken", "f", 5, 5)
	file["steps"][4]["cost_usd"] = 0.1
	url, path := target.database(t, nil), file.file(t)
	conn := flujotest.Connect(t, url)
	o := mergeOptions(t, path, url)
	o.ExactFloats = true
	mergeModel(t, target, file, nil).check(t, conn, flujotest.Migrate(t, o))
	flujotest.Exec(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 1")
	result, differences := flujotest.WantVerdict(t, path, url, report.Drift, 0)
	if c := result.Files[0].Units[0]; c.Mismatched != 0 || c.Changed != 1 || c.Superseded != 1 || c.Equal != 1 {
		t.Errorf("got %+v and differences %v, want 1 changed, superseded and equal", c, differences)
	}
}

// TestMergeLongKey tests keys that are as long as the index of Flujo's table permits, on both sides.
func TestMergeLongKey(t *testing.T) {
	t.Parallel()
	random := flujotest.Random(1, 0)
	target, file := side{}, side{}
	for range 10 {
		var key strings.Builder
		for key.Len() < 2680 {
			fmt.Fprintf(&key, "%016x", random.Uint64())
		}
		for i, s := range []side{target, file} {
			s.add("system_state", flujotest.Cells{"key": key.String(), "value": fmt.Sprint(i), "updated_at": at(3 + i)})
		}
	}
	testMerge(t, target, file, nil)
}
