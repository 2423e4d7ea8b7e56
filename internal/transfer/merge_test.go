package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/transfer"

	"github.com/jackc/pgx/v5"
)

// side is what one side of a merge has: rows by table.
type side map[string][]cells

// mergeTables are Flujo's tables but for memories, parents first.
var mergeTables = []string{"runs", "workflow_state", "steps", "spans", "traces", "evaluations", "system_state"}

// add adds a row: the defaults of its table with what is given instead.
func (s side) add(table string, given cells) {
	row := maps.Clone(defaults[table])
	maps.Copy(row, given)
	s[table] = append(s[table], row)
}

// file writes what the side has into a file.
func (s side) file(t testing.TB) string {
	t.Helper()
	f := newFile(t, format06)
	for _, table := range mergeTables {
		for _, row := range s[table] {
			f.insert(table, row)
		}
	}
	return f.close()
}

// fill writes what the side has into the tables of a schema.
func (s side) fill(t testing.TB, conn *pgx.Conn, schema string) {
	t.Helper()
	for _, table := range mergeTables {
		for _, row := range s[table] {
			_, err := conn.Exec(context.Background(), fmt.Sprintf("INSERT INTO %s.%s SELECT * FROM "+
				"jsonb_populate_record(NULL::%[1]s.%[2]s, $1::text::jsonb)", schema, table), asRecord(t, table, row))
			if err != nil {
				t.Fatalf("%s %v: %v", table, row, err)
			}
		}
	}
}

// asRecord writes a row as JSON, in which the columns of JSON are just that.
func asRecord(t testing.TB, table string, row cells) string {
	t.Helper()
	record := map[string]any{}
	for column, cell := range row {
		if text, ok := cell.(string); ok && strings.Contains(" "+flujoTables[table]+",", " "+column+" J") {
			cell = json.RawMessage(text)
		}
		record[column] = cell
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// inPostgres makes a database whose schema flujo has what the side has, and
// whose sequences go on after the given ids, where these are beyond.
func (s side) inPostgres(t testing.TB, allocated map[string]int64) string {
	t.Helper()
	url := pgtest.Database(t)
	initialize(t, url, "")
	conn := connect(t, url)
	s.fill(t, conn, "flujo")
	for _, table := range []string{"steps", "spans", "evaluations"} {
		if last := max(allocated[table], highest(s[table])); last > 0 {
			run(t, conn, fmt.Sprintf("SELECT setval('flujo.%s_id_seq', %d)", table, last))
		}
	}
	return url
}

func highest(rows []cells) (id int64) {
	for _, row := range rows {
		id = max(id, row["id"].(int64))
	}
	return id
}

// model is what a merge of two sides comes to, worked out once more.
type model struct {
	want       side
	units      map[string]*report.MergedUnits
	renumbered map[string]int64
}

// unitKey gives the unit that a row belongs to.
func unitKey(table string, row cells) string {
	if table == "system_state" {
		return "system_state " + row["key"].(string)
	}
	return "runs " + row["run_id"].(string)
}

// units sorts the rows of a side by unit.
func (s side) units() map[string]side {
	units := map[string]side{}
	for table, rows := range s {
		for _, row := range rows {
			key := unitKey(table, row)
			if units[key] == nil {
				units[key] = side{}
			}
			units[key][table] = append(units[key][table], row)
		}
	}
	return units
}

// content writes all that a unit has, but for ids; last is when it was written.
func (s side) content(t testing.TB) (content, last string) {
	var lines []string
	for table, rows := range s {
		for _, row := range rows {
			row = maps.Clone(row)
			delete(row, "id")
			lines = append(lines, table+" "+asRecord(t, table, row))
			for _, column := range []string{"created_at", "updated_at"} {
				if at, ok := row[column].(string); ok {
					last = max(last, at)
				}
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), last
}

func mergeModel(t testing.TB, here, file side, allocated map[string]int64) *model {
	m := &model{
		want:       side{},
		units:      map[string]*report.MergedUnits{"runs": {}, "system_state": {}},
		renumbered: map[string]int64{},
	}
	theirs, ours := file.units(), here.units()
	keys := map[string]bool{}
	for key := range theirs {
		keys[key] = true
	}
	for key := range ours {
		keys[key] = true
	}
	taken := side{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		kind, _, _ := strings.Cut(key, " ")
		u := m.units[kind]
		a, at := ours[key].content(t)
		b, bt := theirs[key].content(t)
		from, to := ours[key], m.want
		switch {
		case theirs[key] == nil:
			u.Kept++
			u.Alone++
		case ours[key] == nil:
			u.Added++
			from, to = theirs[key], taken
		case a == b:
			u.Equal++
		case bt > at:
			u.TakenOver++
			from, to = theirs[key], taken
		case bt == at:
			u.Kept++
			u.Tied++
		default:
			u.Kept++
		}
		for table, rows := range from {
			to[table] = append(to[table], rows...)
		}
	}
	for table, rows := range taken {
		used := map[int64]bool{}
		for _, row := range m.want[table] {
			if id, ok := row["id"].(int64); ok {
				used[id] = true
			}
		}
		_, serial := rows[0]["id"]
		if serial {
			slices.SortFunc(rows, func(a, b cells) int { return int(a["id"].(int64) - b["id"].(int64)) })
		}
		for _, row := range rows {
			if serial && used[row["id"].(int64)] {
				m.renumbered[table]++
				row = maps.Clone(row)
				row["id"] = max(highest(here[table]), highest(file[table]), allocated[table]) + m.renumbered[table]
			}
			m.want[table] = append(m.want[table], row)
		}
	}
	return m
}

// check compares database and report with the model.
func (m *model) check(t testing.TB, conn *pgx.Conn, result *report.Migration) {
	t.Helper()
	m.checkReport(t, result)
	run(t, conn, "DROP SCHEMA IF EXISTS expected CASCADE", "CREATE SCHEMA expected")
	for _, table := range mergeTables {
		run(t, conn, fmt.Sprintf("CREATE TABLE expected.%s (LIKE flujo.%[1]s)", table))
	}
	m.want.fill(t, conn, "expected")
	for _, table := range mergeTables {
		for what, query := range map[string]string{
			"missing":    "SELECT to_jsonb(t) FROM expected.%[1]s t EXCEPT ALL SELECT to_jsonb(t) FROM flujo.%[1]s t",
			"unexpected": "SELECT to_jsonb(t) FROM flujo.%[1]s t EXCEPT ALL SELECT to_jsonb(t) FROM expected.%[1]s t",
		} {
			if got := one(t, conn,
				"SELECT string_agg(x.to_jsonb::text, E'\n') FROM ("+fmt.Sprintf(query, table)+") x"); got != "NULL" {
				t.Errorf("%s: %s:\n%s", table, what, got)
			}
		}
		if row := tableReport(t, result, table); row.InPostgres != int64(len(m.want[table])) || !row.Match {
			t.Errorf("the report says %+v, and there are %d rows", row, len(m.want[table]))
		}
	}
	run(t, conn, "DROP SCHEMA expected CASCADE")
}

func (m *model) checkReport(t testing.TB, result *report.Migration) {
	t.Helper()
	if result.Merge == nil {
		t.Fatal("the report has nothing of a merge")
	}
	for _, u := range result.Merge.Units {
		want := m.units[u.Kind]
		if want == nil {
			t.Errorf("the report has units of kind %q", u.Kind)
			continue
		}
		if u.Equal != want.Equal || u.Kept != want.Kept || u.Alone != want.Alone || u.Tied != want.Tied ||
			u.Added != want.Added ||
			u.TakenOver != want.TakenOver {
			t.Errorf("the report says %+v, want %+v", u, want)
		}
		if len(u.FirstTakenOver) != int(min(u.TakenOver, 10)) || len(u.FirstTied) != int(min(u.Tied, 10)) ||
			len(u.FirstNewer) != int(min(u.Kept-u.Alone-u.Tied, 10)) {
			t.Errorf("keys %+v", u)
		}
	}
	got := map[string]int64{}
	for _, r := range result.Merge.Renumbered {
		got[r.Table] = r.Rows
	}
	if !maps.Equal(got, m.renumbered) {
		t.Errorf("renumbered %v, want %v", got, m.renumbered)
	}
}

func tableReport(t testing.TB, result *report.Migration, name string) report.Table {
	t.Helper()
	for _, row := range result.Tables {
		if row.Name == name {
			return row
		}
	}
	t.Fatalf("table %s is not in the report", name)
	return report.Table{}
}

// stateOf is all that Flujo's tables and sequences hold, and the originals.
func stateOf(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	var all []string
	tables := mergeTables
	if one(t, conn, "SELECT to_regclass('flujo.flujo_port_originals')") != "NULL" {
		tables = append(slices.Clone(tables), "flujo_port_originals")
	}
	for _, table := range tables {
		all = append(all,
			one(t, conn,
				fmt.Sprintf(
					"SELECT string_agg('%s ' || to_jsonb(t)::text, E'\n' ORDER BY to_jsonb(t)::text) "+
						"FROM flujo.%[1]s t",
					table,
				)))
	}
	for _, table := range []string{"steps", "spans", "evaluations"} {
		all = append(all, one(t, conn, fmt.Sprintf("SELECT format('%s goes on with %%s', last_value + is_called::int) "+
			"FROM flujo.%[1]s_id_seq", table)))
	}
	return strings.Join(all, "\n")
}

func mergeOptions(t testing.TB, file, url string) transfer.MigrateOptions {
	t.Helper()
	o := options(t, file, url)
	o.Merge = true
	return o
}

// checkMerging merges a file into a database in which here is, and sees that
// all of it is as it should be: a dry run, the merge, what Flujo inserts then
// and verify says, and that a second time nothing changes.
func checkMerging(t *testing.T, here, file side, allocated map[string]int64) {
	t.Helper()
	want := mergeModel(t, here, file, allocated)
	url, path := here.inPostgres(t, allocated), file.file(t)
	conn := connect(t, url)
	before, schemas := stateOf(t, conn), leftovers(t, conn)
	o := mergeOptions(t, path, url)
	o.DryRun = true
	dryRun := migrate(t, o)
	want.checkReport(t, dryRun)
	if after := stateOf(t, conn); after != before || leftovers(t, conn) != schemas {
		t.Errorf("the dry run changed\n%s\nto\n%s\n%s", before, after, leftovers(t, conn))
	}
	o.DryRun = false
	result := migrate(t, o)
	want.check(t, conn, result)
	if got := leftovers(t, conn); got != withReceipts(schemas) {
		t.Errorf("left in the database: %s", got)
	}
	once := stateOf(t, conn)
	again := migrate(t, o)
	if twice := stateOf(t, conn); twice != once {
		t.Errorf("the second merge made of\n%s\nthis:\n%s", once, twice)
	}
	for _, u := range again.Merge.Units {
		if u.Added+u.TakenOver != 0 || len(again.Merge.Renumbered) > 0 {
			t.Errorf("the second merge says %+v, %v", u, again.Merge.Renumbered)
		}
	}
	verified, differences, err := verify(t, path, url)
	if err != nil || verified.Verdict != report.Merged && verified.Verdict != report.Equal || len(differences) > 0 {
		t.Errorf("verify says %+v: %v, %v", verified, differences, err)
	}
	flujoInserts(t, conn, want.want)
}

func withReceipts(leftovers string) string {
	all := strings.Split(leftovers, ", ")
	all = append(all, "relation flujo.flujo_port_receipts", "relation flujo.flujo_port_receipts_pkey")
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// flujoInserts inserts a run and its children as Flujo does, with the next ids.
func flujoInserts(t testing.TB, conn *pgx.Conn, had side) {
	t.Helper()
	run(t, conn,
		"INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, "+
			"updated_at) VALUES ('next', 'p', 'n', '1', 'running', now(), now())",
		"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('next', 's', 0, 'completed', now())",
		"INSERT INTO flujo.spans (run_id, span_id, name, start_time, status, created_at) "+
			"VALUES ('next', 's', 'n', 1, 'completed', now())",
		"INSERT INTO flujo.evaluations (run_id, score) VALUES ('next', 1)")
	for _, table := range []string{"steps", "spans", "evaluations"} {
		if got := one(t, conn, fmt.Sprintf("SELECT id > %d FROM flujo.%s WHERE run_id = 'next'", highest(had[table]),
			table)); got != "true" {
			t.Errorf("%s: the next id is not beyond %d", table, highest(had[table]))
		}
	}
}

// at is a time, the later the greater n is.
func at(n int) string { return fmt.Sprintf("2026-01-05T09:00:%02d+00:00", n) }

// addRun adds a whole run, written at a time, with two steps and two spans; ids
// begin at id. what it says is in every row.
func (s side) addRun(run, what string, when int, id int64) {
	times := cells{"run_id": run, "created_at": at(0), "updated_at": at(when), "error_message": what}
	s.add("runs", times)
	s.add("workflow_state", maps.Clone(times))
	for i := range int64(2) {
		s.add("steps", cells{
			"run_id":     run,
			"id":         id + i,
			"step_name":  what,
			"step_index": i,
			"created_at": at(0),
			"output":     fmt.Sprintf(`{"what": %q}`, what),
			"cost_usd":   0.25,
		})
		s.add("spans", cells{"run_id": run, "id": id + i, "span_id": fmt.Sprint(what, i), "created_at": at(0)})
	}
	s.add("traces", cells{"run_id": run, "trace_data": fmt.Sprintf(`{"name": %q}`, what), "created_at": at(0)})
	s.add("evaluations", cells{"run_id": run, "id": id, "feedback": what, "created_at": at(0)})
}

// TestMergePairs: every pair of absent, older, newer and equal, for runs and
// for keys of system_state, with ids that collide and some that do not.
func TestMergePairs(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("only-here", "h", 3, 1)
	here.addRun("older-here", "h", 3, 3)
	here.addRun("newer-here", "h", 5, 5)
	here.addRun("equal", "same", 3, 7)
	here.addRun("equal-other-ids", "same", 3, 9)
	here.addRun("tied", "h", 3, 11)
	file.addRun("only-file", "f", 3, 1)
	file.addRun("older-here", "f", 4, 3)
	file.addRun("newer-here", "f", 4, 5)
	file.addRun("equal", "same", 3, 7)
	file.addRun("equal-other-ids", "same", 3, 20)
	file.addRun("tied", "f", 3, 11)
	file.addRun("only-file-free-ids", "f", 3, 30)
	for key, times := range map[string][2]int{"only-here": {3, -1}, "only-file": {-1, 3}, "older-here": {3, 4},
		"newer-here": {4, 3}, "tied": {3, 3}} {
		for i, s := range []side{here, file} {
			if times[i] >= 0 {
				s.add("system_state",
					cells{"key": key, "value": fmt.Sprintf(`{"by": %d}`, i), "updated_at": at(times[i])})
			}
		}
	}
	for _, s := range []side{here, file} {
		s.add("system_state", cells{"key": "equal", "value": `{"a": 1}`, "updated_at": at(3)})
	}
	checkMerging(t, here, file, nil)
}

// TestMergeKeepsChildrenWhole: the later side may have fewer rows, none in a
// table, or other ones; what the earlier one had of the run goes.
func TestMergeKeepsChildrenWhole(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("fewer", "h", 3, 1)
	file.add("runs", cells{"run_id": "fewer", "created_at": at(0), "updated_at": at(9)})
	here.add("runs", cells{"run_id": "more", "created_at": at(0), "updated_at": at(3)})
	file.addRun("more", "f", 4, 1)
	// Written last by what a child says.
	here.addRun("child", "h", 3, 5)
	file.addRun("child", "f", 2, 5)
	file.add("evaluations", cells{"run_id": "child", "id": int64(7), "created_at": at(8)})
	// Only in workflow_state, on one side or both.
	here.addRun("state", "h", 3, 9)
	file.add("workflow_state", cells{"run_id": "state", "updated_at": at(4)})
	file.add("workflow_state", cells{"run_id": "state-only-file", "updated_at": at(4)})
	here.add("workflow_state", cells{"run_id": "state-only-here", "updated_at": at(4)})
	here.add("workflow_state", cells{"run_id": "state-to-run", "updated_at": at(4)})
	file.addRun("state-to-run", "f", 5, 11)
	checkMerging(t, here, file, map[string]int64{"steps": 100, "spans": 5})
}

// TestMergeNothingToDo: the very file that was migrated.
func TestMergeNothingToDo(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := mergeOptions(t, fixture, url)
	if first := migrate(t, o); first.Merge != nil || !first.Committed ||
		!slices.ContainsFunc(first.Notes, func(n string) bool { return strings.Contains(n, "nothing to merge with") }) {
		t.Errorf("into an empty target: %+v, %q", first.Merge, first.Notes)
	}
	conn := connect(t, url)
	before := stateOf(t, conn)
	writers := one(t, conn, "SELECT string_agg(xmin::text, ',' ORDER BY run_id) FROM flujo.runs")
	result := migrate(t, o)
	if u := result.Merge.Units[0]; u.Equal != 60 || u.Kept+u.Added+u.TakenOver != 0 {
		t.Errorf("%+v", u)
	}
	if after := stateOf(t, conn); after != before ||
		one(t, conn, "SELECT string_agg(xmin::text, ',' ORDER BY run_id) FROM flujo.runs") != writers {
		t.Error("rows that are equal were written")
	}
	wantVerdict(t, fixture, url, report.Equal, 0)
	// The receipt knows still which rows a migration wrote.
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 4")
	result2, _ := wantVerdict(t, fixture, url, report.Drift, 0)
	if c := comparison(t, result2, "steps"); c.Changed != 1 || c.Mismatched != 0 {
		t.Errorf("%+v", c)
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.flujo_port_receipts WHERE options->>'merged' = 'true' "+
		"AND jsonb_array_length(tables->2->'writers') > 0"); got != "1" {
		t.Errorf("%s receipts of a merge that know the migration's rows", got)
	}
}

// TestMergeAfterRollback is the story: migrated, a day on PostgreSQL, rolled
// back to the file, a day on the file, and again to PostgreSQL.
func TestMergeAfterRollback(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	conn := connect(t, url)
	run0, run1, run2 := one(t, conn, "SELECT min(run_id) FROM flujo.runs"),
		one(t, conn, "SELECT max(run_id) FROM flujo.runs"),
		one(t, conn, "SELECT run_id FROM flujo.runs ORDER BY run_id OFFSET 5 LIMIT 1")
	const step = "INSERT INTO %ssteps (run_id, step_name, step_index, status, output, created_at) " +
		"VALUES ('%s', '%s', 99, 'completed', '{\"by\": \"%[3]s\"}', '%s')"
	run(t, conn, fmt.Sprintf(step, "flujo.", run0, "pg", "2027-01-01T00:00:00+00:00"),
		fmt.Sprintf(step, "flujo.", run1, "pg", "2027-01-01T00:00:00+00:00"),
		fmt.Sprintf("DELETE FROM flujo.runs WHERE run_id = '%s'", run2),
		fmt.Sprintf("DELETE FROM flujo.workflow_state WHERE run_id = '%s'", run2))
	file := changed(t, fmt.Sprintf(step, "", run1, "file", "2027-01-02T00:00:00+00:00"),
		fmt.Sprintf(step, "", run0, "file", "2026-12-31T00:00:00+00:00"),
		"INSERT INTO spans (run_id, span_id, name, start_time, status, created_at) VALUES ('"+run1+
			"', 'new', 'late', 1.5e9, 'ok', '2027-01-02T00:00:00+00:00')")
	result := migrate(t, mergeOptions(t, file, url))
	u := result.Merge.Units[0]
	if u.Equal != 57 || u.Kept != 1 || u.Added != 1 || u.TakenOver != 1 ||
		!slices.Equal(u.FirstTakenOver, []string{run1}) ||
		!slices.Equal(u.FirstNewer, []string{run0}) {
		t.Errorf("%+v", u)
	}
	for r, by := range map[string]string{run0: "pg", run1: "file"} {
		if got := one(t, conn,
			"SELECT string_agg(step_name, ',') FROM flujo.steps WHERE step_index = 99 AND run_id = $1", r); got != by {
			t.Errorf("run %s has the step of %s, want %s", r, got, by)
		}
	}
	if got := one(t, conn, "SELECT trace_data::text LIKE '%late%' FROM flujo.traces WHERE run_id = $1",
		run1); got != "true" {
		t.Error("the trace is not that of the file's spans")
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.traces WHERE run_id = $1", run2); got != "1" {
		t.Error("the run that PostgreSQL did not have any more has no trace")
	}
	wantVerdict(t, file, url, report.Merged, 0)
	run(t, conn, fmt.Sprintf("UPDATE flujo.runs SET status = 'other' WHERE run_id = '%s'", run0))
	wantVerdict(t, file, url, report.Drift, 0)
	_, _, err := verify(t, fixture, url) // not the file that was merged
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("error %v", err)
	}
}

// TestMergeOriginals: what did not arrive as it is comes with the rows that are
// taken from the file, under their new ids, and no other; what is said of rows
// that are taken over goes, and rejected rows are kept once.
func TestMergeOriginals(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	first := newFile(t, format06)
	for _, r := range []string{"equal", "older", "newer"} {
		first.insert("runs", cells{"run_id": r, "error_message": "x\x00", "updated_at": at(10)})
		first.insert("steps", cells{"run_id": r, "output": "no JSON", "created_at": at(1)}) // ids 1 to 3
	}
	first.insert("steps", cells{"run_id": "equal", "step_name": nil, "created_at": at(1)}) // 4, rejected
	o := options(t, first.close(), url)
	o.Quarantine = true
	migrate(t, o)
	conn := connect(t, url)
	run(t, conn,
		"UPDATE flujo.runs SET updated_at = '"+at(12)+"', error_message = 'new' WHERE run_id = 'newer'",
		"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('newer', 's', 5, 'completed', '"+at(
			2,
		)+"')") // id 5

	second := newFile(t, format06)
	second.insert("runs", cells{"run_id": "equal", "error_message": "x\x00", "updated_at": at(10)})
	second.insert("runs", cells{"run_id": "older", "error_message": "y\x00", "updated_at": at(11)})
	second.insert("runs", cells{"run_id": "newer", "error_message": "z\x00", "updated_at": at(11)})
	second.insert("runs", cells{"run_id": "added", "error_message": "w\x00", "updated_at": at(11)})
	second.insert("steps", cells{"id": int64(1), "run_id": "equal", "output": "no JSON", "created_at": at(1)})
	second.insert("steps", cells{"id": int64(2), "run_id": "older", "output": "other", "created_at": at(1)})
	second.insert("steps", cells{"id": int64(3), "run_id": "newer", "output": "other", "created_at": at(1)})
	second.insert("steps", cells{"id": int64(4), "run_id": "equal", "step_name": nil, "created_at": at(1)})
	second.insert("steps", cells{"id": int64(5), "run_id": "added", "output": "more", "created_at": at(1)})
	second.insert("steps", cells{"id": int64(6), "run_id": "older", "status": nil, "created_at": at(1)})
	o.SQLite, o.Merge = second.close(), true
	result := migrate(t, o)
	var rejected []originalRow
	for id, null := range map[int64]string{4: "step_name", 6: "status"} {
		run := map[int64]string{4: "equal", 6: "older"}[id]
		row := cells{
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
			rejected = append(rejected, originalCell("steps", fmt.Sprint(id), id, column, "missing-value", cell))
		}
	}
	wantOriginalRows(t, conn, append(rejected, originalCell("runs", "equal", 1, "error_message", "nul-removed",
		"x\x00"), originalCell("steps", "1", 1, "output", "invalid-json", "no JSON"),
		originalCell("runs", "older", 2, "error_message", "nul-removed", "y\x00"),
		originalCell("steps", "2", 2, "output", "invalid-json", "other"),
		originalCell("runs", "newer", 3, "error_message", "nul-removed", "x\x00"),
		originalCell("steps", "3", 3, "output", "invalid-json", "no JSON"),
		originalCell("runs", "added", 4, "error_message", "nul-removed", "w\x00"),
		originalCell("steps", "7", 5, "output", "invalid-json", "more")))
	if want := int64(4 + 11); result.Originals != want { // older's and added's two each, and the rejected row
		t.Errorf("%d originals were added, want %d", result.Originals, want)
	}
	once := stateOf(t, conn)
	if again := migrate(t, o); again.Originals != 0 || stateOf(t, conn) != once {
		t.Errorf("the second merge added %d originals", again.Originals)
	}
	o.Quarantine = false
	if _, err := transfer.Migrate(context.Background(), o); clierr.KindOf(err) != clierr.Refused {
		t.Errorf("error %v", err)
	}
	if stateOf(t, conn) != once {
		t.Error("a merge that was refused changed something")
	}
}

// TestMergeAfterRestore: what was restored after a day on PostgreSQL is equal
// to what is there, and only what the file was given since is taken over.
func TestMergeAfterRestore(t *testing.T) {
	t.Parallel()
	for name, base := range map[string]string{"without base": "", "with base": fixture} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			migrate(t, options(t, fixture, url))
			conn := connect(t, url)
			run(
				t,
				conn,
				aDay(one(t, conn, "SELECT min(run_id) FROM flujo.runs"),
					one(t, conn, "SELECT max(run_id) FROM flujo.runs"))...)
			before := stateOf(t, conn)
			path, _ := restore(t, url, base)
			result := migrate(t, mergeOptions(t, path, url))
			if u := result.Merge.Units; u[0].Equal != 60 ||
				u[0].Kept+u[0].Added+u[0].TakenOver+u[1].Kept+u[1].Added+u[1].TakenOver != 0 {
				t.Errorf("%+v", u)
			}
			if stateOf(t, conn) != before {
				t.Error("what is equal was changed")
			}
			change(t, path,
				"UPDATE runs SET status = 'file', updated_at = '2099-01-01T00:00:00+00:00' WHERE run_id = 'new'")
			change(t, path,
				"INSERT INTO evaluations (run_id, score, created_at) VALUES ('new', 1, '2099-01-01T00:00:00+00:00')")
			result = migrate(t, mergeOptions(t, path, url))
			if u := result.Merge.Units[0]; u.Equal != 59 || u.TakenOver != 1 || len(result.Merge.Renumbered) != 0 {
				t.Errorf("%+v", result.Merge)
			}
			if got := one(t, conn, "SELECT status || (SELECT string_agg(id::text, ',' ORDER BY id) "+
				"FROM flujo.evaluations e WHERE e.run_id = r.run_id) FROM flujo.runs r "+
				"WHERE run_id = 'new'"); got != "file16,18" {
				t.Errorf("the run is now %s", got)
			}
		})
	}
}

// TestMergeMakesOriginals: also where the target has no table of them yet, and
// none when nothing was taken.
func TestMergeMakesOriginals(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("r", "h", 5, 1)
	file.addRun("r", "f", 3, 1)
	file["runs"][0]["error_message"] = "x\x00"
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	if result := migrate(t, mergeOptions(t, file.file(t), url)); result.Originals != 0 {
		t.Errorf("%d originals of rows that were not taken", result.Originals)
	}
	wantOriginalRows(t, conn, nil)
	file["runs"][0]["updated_at"] = at(6)
	if result := migrate(t, mergeOptions(t, file.file(t), url)); result.Originals != 1 {
		t.Errorf("%d originals", result.Originals)
	}
	wantOriginalRows(t, conn, []originalRow{originalCell("runs", "r", 1, "error_message", "nul-removed", "x\x00")})
}

// TestMergeWidens: columns of the target become bigint where the file needs it,
// and where new ids do.
func TestMergeWidens(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("h", "h", 3, 1)
	here["steps"][1]["id"] = int64(1<<31 - 2)
	file.addRun("f", "f", 3, 1)
	file["steps"][0]["token_counts"] = int64(5e9)
	file["evaluations"][0]["id"] = int64(6e9)
	file["steps"][1]["id"] = int64(1<<31 - 2)
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	o := mergeOptions(t, file.file(t), url)
	result := migrate(t, o)
	mergeModel(t, here, file, nil).check(t, conn, result)
	wantTypes(t, conn, map[string]string{
		"steps.id":           "bigint",
		"steps_id_seq":       "bigint",
		"steps.token_counts": "bigint",
		"evaluations.id":     "bigint",
		"evaluations_id_seq": "bigint",
	})
	if got := one(t, conn,
		"SELECT string_agg(id::text, ',' ORDER BY id) FROM flujo.steps"); got != "1,2147483646,2147483647,2147483648" {
		t.Errorf("ids of steps are %s", got)
	}
	if !slices.Equal(slices.Sorted(slices.Values(result.Widened)),
		[]string{"evaluations.id", "steps.id", "steps.token_counts"}) {
		t.Errorf("the report says of columns made bigint: %q", result.Widened)
	}
	once := stateOf(t, conn)
	migrate(t, o)
	if stateOf(t, conn) != once {
		t.Error("the second merge changed something")
	}
	flujoInserts(t, conn, mergeModel(t, here, file, nil).want)
}

// TestMergeNoIDsLeft: beyond the highest id that there is no row can go.
func TestMergeNoIDsLeft(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("h", "h", 3, 1)
	file.addRun("f", "f", 3, 1)
	file["steps"][1]["id"] = int64(1<<63 - 1)
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	before := stateOf(t, conn)
	wantError(t, mergeOptions(t, file.file(t), url), clierr.Refused, "steps", "9223372036854775807")
	if stateOf(t, conn) != before {
		t.Error("a merge that was refused changed something")
	}
}

// TestMergeTampered: whatever else changes rows before the commit is found, and
// nothing is committed.
func TestMergeTampered(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("kept", "h", 5, 1)
	file.addRun("kept", "f", 3, 1)
	here.addRun("taken", "h", 3, 3)
	file.addRun("taken", "f", 5, 3)
	file.addRun("added", "f", 5, 5)
	here.add("system_state", cells{"key": "k"})
	path := file.file(t)
	for name, tc := range map[string]struct{ damage, unit string }{
		"a cell of a kept run":  {"UPDATE steps SET status = 'other' WHERE id = 1", `runs "kept"`},
		"a cell of a taken run": {"UPDATE spans SET name = 'other' WHERE id = 3", `runs "taken"`},
		"a row of an added run": {"DELETE FROM evaluations WHERE run_id = 'added'", `runs "added"`},
		"a row more":            {"INSERT INTO system_state (key, value) VALUES ('more', '1')", `system_state "more"`},
		"a unit less":           {"DELETE FROM system_state", `system_state "k"`},
		"an id of a kept run":   {"UPDATE steps SET id = 99 WHERE id = 1", `runs "kept"`},
		"an id of an added run": {"UPDATE steps SET id = 99 WHERE id = 5", `runs "added"`},
		"ids of two rows changed": {"UPDATE steps SET id = 99 WHERE id = 1; UPDATE steps SET id = 1 " +
			"WHERE id = 2; UPDATE steps SET id = 2 WHERE id = 99", `runs "kept"`},
		"a row given to another run":   {"UPDATE steps SET run_id = 'taken' WHERE id = 5", `runs "added", runs "taken"`},
		"a trace of a run that is new": {`UPDATE traces SET trace_data = '{}' WHERE run_id = 'added'`, `runs "added"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := here.inPostgres(t, nil)
			conn := connect(t, url)
			tamperer(t, url)(tc.damage)
			before := stateOf(t, conn)
			o := mergeOptions(t, path, url)
			o.Verify = transfer.VerifyCounts // the merge itself is verified all the same
			wantError(t, o, clierr.Mismatch, tc.unit)
			if stateOf(t, conn) != before {
				t.Error("something was committed")
			}
		})
	}
}

// TestMergeTamperedStaging: what was loaded is compared with the file before
// anything is merged.
func TestMergeTamperedStaging(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("r", "h", 3, 1)
	file.addRun("r", "f", 5, 1)
	file["runs"][0]["error_message"] = "x\x00" // so that a table is made when all is loaded
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	run(t, conn, `CREATE FUNCTION public.staged() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE o text; BEGIN
			SELECT schema_name INTO o FROM pg_event_trigger_ddl_commands()
				WHERE object_identity ~ '^flujo_port_staging_.*\.flujo_port_originals$';
			IF o IS NOT NULL THEN EXECUTE format('UPDATE %I.steps SET step_name = ''other'' WHERE id = 2', o); END IF;
		END $$`, "CREATE EVENT TRIGGER staged ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION "+
		"public.staged()")
	before := stateOf(t, conn)
	result, err := transfer.Migrate(context.Background(), mergeOptions(t, file.file(t), url))
	if clierr.KindOf(err) != clierr.Mismatch || result == nil || result.Differing != 1 ||
		result.Differences[0].Column != "step_name" {
		t.Errorf("%+v: %v", result, err)
	}
	if stateOf(t, conn) != before {
		t.Error("something was committed")
	}
}

// TestMergeAsGranted: a role that owns nothing and may make no schema merges
// all the same, and leaves nothing behind.
func TestMergeAsGranted(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("r", "h", 3, 1)
	file.addRun("r", "f", 5, 1)
	file.addRun("s", "f", 5, 3)
	file["runs"][0]["error_message"] = "x\x00"
	here.addRun("q", "h", 5, 3)
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	role := pgtest.Role(t, url, "")
	name := one(t, connect(t, role), "SELECT current_user")
	initialize(t, url, name)
	o := mergeOptions(t, file.file(t), role)
	o.DryRun = true
	before := stateOf(t, conn)
	migrate(t, o)
	if stateOf(t, conn) != before {
		t.Error("the dry run changed something")
	}
	o.DryRun = false
	result := migrate(t, o)
	file["runs"][0]["error_message"] = "x"
	mergeModel(t, here, file, nil).check(t, conn, result)
	if got := one(t, conn, "SELECT count(*) FROM pg_class WHERE relname ~ '^flujo_port' "+
		"AND relnamespace <> 'flujo'::regnamespace AND relkind = 'r'"); got != "0" {
		t.Errorf("%s tables were left", got)
	}
	flujoInserts(t, conn, mergeModel(t, here, file, nil).want)
}

// TestMergeLeavesOthersTables: rows of others that refer to a run which is taken
// over stay.
func TestMergeLeavesOthersTables(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("r", "h", 3, 1)
	file.addRun("r", "f", 5, 1)
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	run(t, conn,
		"CREATE TABLE public.notes (run_id text REFERENCES flujo.runs ON DELETE CASCADE)",
		"INSERT INTO public.notes VALUES ('r')",
		"CREATE TABLE public.bills (run_id text REFERENCES flujo.runs)",
		"INSERT INTO public.bills VALUES ('r')")
	mergeModel(t, here, file, nil).check(t, conn, migrate(t, mergeOptions(t, file.file(t), url)))
	if got := one(t, conn,
		"SELECT (SELECT count(*) FROM public.notes) + (SELECT count(*) FROM public.bills)"); got != "2" {
		t.Errorf("%s rows of others are left", got)
	}
}

// TestMergeHiddenRows: rows that row-level security hides can't be merged.
func TestMergeHiddenRows(t *testing.T) {
	t.Parallel()
	here := side{}
	here.addRun("r", "h", 3, 1)
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	role := pgtest.Role(t, url, "")
	name := one(t, connect(t, role), "SELECT current_user")
	initialize(t, url, name)
	run(t, conn,
		"ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY visible ON flujo.steps USING (id > 1)")
	wantError(t, mergeOptions(t, fixture, role), clierr.Refused, "row-level security", "steps")
}

// TestVerifyAfterMerge: what is not as the file has it is PostgreSQL's own, or
// was changed since, or is a copy mismatch, and the three are told apart as far as
// that can be.
func TestVerifyAfterMerge(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("kept", "h", 5, 1)
	file.addRun("kept", "f", 3, 1)
	file.addRun("renumbered", "f", 3, 5)
	here.addRun("own", "h", 3, 5)
	file.addRun("taken", "f", 3, 3)
	url, path := here.inPostgres(t, nil), file.file(t)
	conn := connect(t, url)
	migrate(t, mergeOptions(t, path, url))
	result, _ := wantVerdict(t, path, url, report.Merged, 0)
	if !result.Receipt.Merged || !comparison(t, result, "steps").AsMerged ||
		comparison(t, result, "steps").Mismatched != 0 {
		t.Errorf("%+v", result)
	}
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE run_id = 'taken' AND id = 3")
	result, differences := wantVerdict(t, path, url, report.Drift, 0)
	if c := comparison(t, result, "steps"); c.Mismatched != 0 ||
		c.Changed != 5 { // the one, and those of which both sides have the id
		t.Errorf("%+v %v", c, differences)
	}
	// Had the merge itself written that row, it were a copy mismatch.
	run(t, conn, `UPDATE flujo.flujo_port_receipts SET tables = jsonb_set(tables, '{2,merged,writers}',
		(SELECT jsonb_agg(DISTINCT xmin::text::bigint) FROM flujo.steps WHERE run_id IN ('taken', 'renumbered')))`)
	result, _ = wantVerdict(t, path, url, report.CopyMismatch, clierr.Mismatch)
	if c := comparison(t, result, "steps"); c.Mismatched != 1 {
		t.Errorf("%+v", c)
	}
}

// TestMergeNulls: JSON's null is nothing else to Flujo than NULL, which it
// becomes on the way from the file.
func TestMergeNulls(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("equal", "same", 3, 1)
	file.addRun("equal", "same", 3, 1)
	here["workflow_state"][0]["metadata"], here["steps"][0]["output"] = "null", "null"
	file["workflow_state"][0]["last_step_output"], file["steps"][0]["output"] = "null", "null"
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	before := stateOf(t, conn)
	if u := migrate(t, mergeOptions(t, file.file(t), url)).Merge.Units[0]; u.Equal != 1 {
		t.Errorf("%+v", u)
	}
	if stateOf(t, conn) != before {
		t.Error("what is equal was changed")
	}
}

// TestMergeInferredTimes: a row of the file that does not tell when it was
// written takes nothing over, although it arrives with the time at which the
// file was written.
func TestMergeInferredTimes(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.add("system_state", cells{"key": "k", "value": "1"})
	file.add("system_state", cells{"key": "k", "value": "2", "updated_at": ""})
	file.add("system_state", cells{"key": "l", "value": "3", "updated_at": "?"})
	url := here.inPostgres(t, nil)
	conn := connect(t, url)
	result := migrate(t, mergeOptions(t, file.file(t), url))
	if u := result.Merge.Units[1]; u.Kept != 1 || u.Added != 1 {
		t.Errorf("%+v", u)
	}
	if got := one(t, conn,
		"SELECT string_agg(key || value::text, ' ' ORDER BY key) FROM flujo.system_state"); got != "k1 l3" {
		t.Errorf("state %s", got)
	}
}

// TestMergeExactFloats: the target's columns are made double precision, with
// what is in them; rows that were moved by that were not written by the merge.
func TestMergeExactFloats(t *testing.T) {
	t.Parallel()
	here, file := side{}, side{}
	here.addRun("equal", "same", 3, 1)
	file.addRun("equal", "same", 3, 1)
	here.addRun("kept", "h", 5, 3)
	file.addRun("kept", "f", 3, 3)
	here.addRun("taken", "h", 3, 5)
	file.addRun("taken", "f", 5, 5)
	file["steps"][4]["cost_usd"] = 0.1
	url, path := here.inPostgres(t, nil), file.file(t)
	conn := connect(t, url)
	o := mergeOptions(t, path, url)
	o.ExactFloats = true
	mergeModel(t, here, file, nil).check(t, conn, migrate(t, o))
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 1")
	result, differences := wantVerdict(t, path, url, report.Drift, 0)
	if c := comparison(t, result, "steps"); c.Mismatched != 0 || c.Changed != 3 { // the one, and the kept run's two
		t.Errorf("%+v: %v", c, differences)
	}
}
