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

	"flujo-port/internal/migrate"

	"github.com/jackc/pgx/v5"
)

// side holds the rows of one side of a merge, by table.
type side map[string][]cells

// mergeTables holds Flujo's tables except for memories, parents first.
var mergeTables = []string{"runs", "workflow_state", "steps", "spans", "traces", "evaluations", "system_state"}

// add adds a row: the given cells, and the table's defaults for the other columns.
func (s side) add(table string, given cells) {
	row := maps.Clone(defaults[table])
	maps.Copy(row, given)
	s[table] = append(s[table], row)
}

// file writes a file with the rows and returns its path.
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

// fill inserts the rows into the tables of a schema.
func (s side) fill(t testing.TB, conn *pgx.Conn, schema string) {
	t.Helper()
	for _, table := range mergeTables {
		for _, row := range s[table] {
			_, err := conn.Exec(context.Background(), fmt.Sprintf("INSERT INTO %s.%s SELECT * FROM "+
				"jsonb_populate_record(NULL::%[1]s.%[2]s, $1::text::jsonb)", schema, table), recordJSON(t, table, row))
			if err != nil {
				t.Fatalf("%s %v: %v", table, row, err)
			}
		}
	}
}

// recordJSON returns a row as JSON for jsonb_populate_record. The content of JSON columns is not quoted.
func recordJSON(t testing.TB, table string, row cells) string {
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

// database creates a database whose schema flujo has the rows. Its sequences continue after the given ids, or after
// the highest id of the rows if that is higher. It returns the database's address.
func (s side) database(t testing.TB, allocated map[string]int64) string {
	t.Helper()
	url := pgtest.Database(t)
	mustInitialize(t, url, "")
	conn := connect(t, url)
	s.fill(t, conn, "flujo")
	for _, table := range []string{"steps", "spans", "evaluations"} {
		if last := max(allocated[table], highestID(s[table])); last > 0 {
			run(t, conn, fmt.Sprintf("SELECT setval('flujo.%s_id_seq', %d)", table, last))
		}
	}
	return url
}

// highestID returns the highest id of rows, or 0.
func highestID(rows []cells) (id int64) {
	for _, row := range rows {
		id = max(id, row["id"].(int64))
	}
	return id
}

// model is the expected result of a merge, computed independently of the program.
type model struct {
	want       side
	units      map[string]*report.MergedUnits
	renumbered map[string]int64
}

// unitKey returns the key of the unit (a run, or a row of system_state) to which a row belongs.
func unitKey(table string, row cells) string {
	if table == "system_state" {
		return "system_state " + row["key"].(string)
	}
	return "runs " + row["run_id"].(string)
}

// units groups the rows by unit.
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

// content returns the rows of a unit as text, without their ids, and the time of the latest write to it.
func (s side) content(t testing.TB) (content, last string) {
	var lines []string
	for table, rows := range s {
		for _, row := range rows {
			row = maps.Clone(row)
			delete(row, "id")
			lines = append(lines, table+" "+recordJSON(t, table, row))
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

// mergeModel computes the result of merging file into target.
func mergeModel(t testing.TB, target, file side, allocated map[string]int64) *model {
	m := &model{
		want:       side{},
		units:      map[string]*report.MergedUnits{"runs": {}, "system_state": {}},
		renumbered: map[string]int64{},
	}
	theirs, ours := file.units(), target.units()
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
				row["id"] = max(highestID(target[table]), highestID(file[table]), allocated[table]) +
					m.renumbered[table]
			}
			m.want[table] = append(m.want[table], row)
		}
	}
	return m
}

// check compares the database and the report with the model.
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
			query = "SELECT string_agg(x.to_jsonb::text, E'\n') FROM (" + fmt.Sprintf(query, table) + ") x"
			if got := one(t, conn, query); got != "NULL" {
				t.Errorf("%s: %s:\n%s", table, what, got)
			}
		}
		if row := tableReport(t, result, table); row.InPostgres != int64(len(m.want[table])) || !row.Match {
			t.Errorf("got report %+v, want a match and %d rows", row, len(m.want[table]))
		}
	}
	run(t, conn, "DROP SCHEMA expected CASCADE")
}

// checkReport compares the report with the model.
func (m *model) checkReport(t testing.TB, result *report.Migration) {
	t.Helper()
	if result.Merge == nil {
		t.Fatal("got a report without a merge")
	}
	for _, u := range result.Merge.Units {
		want := m.units[u.Kind]
		if want == nil {
			t.Errorf("got units of the unknown kind %q", u.Kind)
			continue
		}
		if u.Equal != want.Equal || u.Kept != want.Kept || u.Alone != want.Alone || u.Tied != want.Tied ||
			u.Added != want.Added || u.TakenOver != want.TakenOver {
			t.Errorf("got %+v, want %+v", u, want)
		}
		if len(u.FirstTakenOver) != int(min(u.TakenOver, 10)) || len(u.FirstTied) != int(min(u.Tied, 10)) ||
			len(u.FirstNewer) != int(min(u.Kept-u.Alone-u.Tied, 10)) {
			t.Errorf("got %+v, want the first 10 keys of each list", u)
		}
	}
	got := map[string]int64{}
	for _, r := range result.Merge.Renumbered {
		got[r.Table] = r.Rows
	}
	if !maps.Equal(got, m.renumbered) {
		t.Errorf("got renumbered %v, want %v", got, m.renumbered)
	}
}

// tableReport returns the report's row of a table.
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

// stateOf returns the content of Flujo's tables and sequences and of the originals as text.
func stateOf(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	var all []string
	tables := mergeTables
	if one(t, conn, "SELECT to_regclass('flujo.flujo_port_originals')") != "NULL" {
		tables = append(slices.Clone(tables), "flujo_port_originals")
	}
	for _, table := range tables {
		all = append(all, one(t, conn, fmt.Sprintf("SELECT string_agg('%s ' || to_jsonb(t)::text, E'\n' "+
			"ORDER BY to_jsonb(t)::text) FROM flujo.%[1]s t", table)))
	}
	for _, table := range []string{"steps", "spans", "evaluations"} {
		all = append(all,
			one(t, conn, fmt.Sprintf("SELECT format('%s continues with %%s', last_value + is_called::int) "+
				"FROM flujo.%[1]s_id_seq", table)))
	}
	return strings.Join(all, "\n")
}

// mergeOptions returns the options that merge file into url.
func mergeOptions(t testing.TB, file, url string) migrate.Options {
	t.Helper()
	o := options(t, file, url)
	o.Merge = true
	return o
}

// testMerge merges file into a database with the rows of target. It tests a dry run, the merge, a second merge, which
// must change nothing, the verdict of verify, and Flujo's next inserts.
func testMerge(t *testing.T, target, file side, allocated map[string]int64) {
	t.Helper()
	want := mergeModel(t, target, file, allocated)
	url, path := target.database(t, allocated), file.file(t)
	conn := connect(t, url)
	before, schemas := stateOf(t, conn), leftovers(t, conn)
	o := mergeOptions(t, path, url)
	o.DryRun = true
	dryRun := mustMigrate(t, o)
	want.checkReport(t, dryRun)
	if after := stateOf(t, conn); after != before || leftovers(t, conn) != schemas {
		t.Errorf("got after the dry run\n%s\n%s\nwant\n%s\n%s", after, leftovers(t, conn), before, schemas)
	}
	o.DryRun = false
	result := mustMigrate(t, o)
	want.check(t, conn, result)
	if got := leftovers(t, conn); got != withReceipts(schemas) {
		t.Errorf("the merge left in the database: %s", got)
	}
	once := stateOf(t, conn)
	again := mustMigrate(t, o)
	if twice := stateOf(t, conn); twice != once {
		t.Errorf("got after the second merge\n%s\nwant\n%s", twice, once)
	}
	for _, u := range again.Merge.Units {
		if u.Added+u.TakenOver != 0 || len(again.Merge.Renumbered) > 0 {
			t.Errorf("got %+v and renumbered %v from the second merge, want none", u, again.Merge.Renumbered)
		}
	}
	verified, differences, err := runVerify(t, path, url)
	if err != nil || verified.Verdict != report.Merged && verified.Verdict != report.Equal || len(differences) > 0 {
		t.Errorf("got %+v, differences %v and error %v from verify, want merged or equal", verified, differences, err)
	}
	insertAsFlujo(t, conn, want.want)
}

// withReceipts adds the receipts to a list of leftovers.
func withReceipts(leftovers string) string {
	all := strings.Split(leftovers, ", ")
	all = append(all, "relation flujo.flujo_port_receipts", "relation flujo.flujo_port_receipts_pkey")
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// insertAsFlujo inserts a run and its children as Flujo does, and tests that their ids are higher than those of rows.
func insertAsFlujo(t testing.TB, conn *pgx.Conn, rows side) {
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
		query := fmt.Sprintf("SELECT id > %d FROM flujo.%s WHERE run_id = 'next'", highestID(rows[table]), table)
		if got := one(t, conn, query); got != "true" {
			t.Errorf("%s: the next id is not higher than %d", table, highestID(rows[table]))
		}
	}
}

// at returns the timestamp of second n.
func at(n int) string { return fmt.Sprintf("2026-01-05T09:00:%02d+00:00", n) }

// addRun adds a run with a row in every table, two of them in steps and spans. The run's updated_at is at(when), the
// ids start at id, and every row contains the text what.
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
					cells{"key": key, "value": fmt.Sprintf(`{"by": %d}`, i), "updated_at": at(times[i])})
			}
		}
	}
	for _, s := range []side{target, file} {
		s.add("system_state", cells{"key": "equal", "value": `{"a": 1}`, "updated_at": at(3)})
	}
	testMerge(t, target, file, nil)
}

// TestMergeReplacesChildren tests that all rows of a run are replaced by those of the newer side, which may have
// fewer rows, other rows, or none in a table.
func TestMergeReplacesChildren(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("fewer", "h", 3, 1)
	file.add("runs", cells{"run_id": "fewer", "created_at": at(0), "updated_at": at(9)})
	target.add("runs", cells{"run_id": "more", "created_at": at(0), "updated_at": at(3)})
	file.addRun("more", "f", 4, 1)
	// A child is the latest write of its run.
	target.addRun("child", "h", 3, 5)
	file.addRun("child", "f", 2, 5)
	file.add("evaluations", cells{"run_id": "child", "id": int64(7), "created_at": at(8)})
	// Runs that are only in workflow_state, on one side or both.
	target.addRun("state", "h", 3, 9)
	file.add("workflow_state", cells{"run_id": "state", "updated_at": at(4)})
	file.add("workflow_state", cells{"run_id": "state-only-file", "updated_at": at(4)})
	target.add("workflow_state", cells{"run_id": "state-only-target", "updated_at": at(4)})
	target.add("workflow_state", cells{"run_id": "state-to-run", "updated_at": at(4)})
	file.addRun("state-to-run", "f", 5, 11)
	testMerge(t, target, file, map[string]int64{"steps": 100, "spans": 5})
}

// TestMergeEqual tests a merge of the file that was migrated.
func TestMergeEqual(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := mergeOptions(t, fixture, url)
	if first := mustMigrate(t, o); first.Merge != nil || !first.Committed ||
		!slices.ContainsFunc(first.Notes, func(n string) bool { return strings.Contains(n, "--merge had no effect") }) {
		t.Errorf("got merge %+v and notes %q for an empty target, want a migration and a note", first.Merge,
			first.Notes)
	}
	conn := connect(t, url)
	before := stateOf(t, conn)
	writers := one(t, conn, "SELECT string_agg(xmin::text, ',' ORDER BY run_id) FROM flujo.runs")
	result := mustMigrate(t, o)
	if u := result.Merge.Units[0]; u.Equal != 60 || u.Kept+u.Added+u.TakenOver != 0 {
		t.Errorf("got %+v, want 60 equal", u)
	}
	if after := stateOf(t, conn); after != before ||
		one(t, conn, "SELECT string_agg(xmin::text, ',' ORDER BY run_id) FROM flujo.runs") != writers {
		t.Error("the merge wrote rows that are equal")
	}
	wantVerdict(t, fixture, url, report.Equal, 0)
	// The receipt still has the writers of the migration.
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 4")
	result2, _ := wantVerdict(t, fixture, url, report.Drift, 0)
	if c := comparison(t, result2, "steps"); c.Changed != 1 || c.Mismatched != 0 {
		t.Errorf("got %+v, want 1 changed and 0 mismatched", c)
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.flujo_port_receipts WHERE options->>'merged' = 'true' "+
		"AND jsonb_array_length(tables->2->'writers') > 0"); got != "1" {
		t.Errorf("got %s receipts of a merge with the migration's writers, want 1", got)
	}
}

// TestMergeAfterRollback tests a migration, writes to PostgreSQL, a rollback to the file, writes to the file, and a
// merge.
func TestMergeAfterRollback(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustMigrate(t, options(t, fixture, url))
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
	result := mustMigrate(t, mergeOptions(t, file, url))
	u := result.Merge.Units[0]
	if u.Equal != 57 || u.Kept != 1 || u.Added != 1 || u.TakenOver != 1 ||
		!slices.Equal(u.FirstTakenOver, []string{run1}) ||
		!slices.Equal(u.FirstNewer, []string{run0}) {
		t.Errorf("got %+v, want 57 equal, 1 kept, 1 added, 1 taken over", u)
	}
	for r, by := range map[string]string{run0: "pg", run1: "file"} {
		const names = "SELECT string_agg(step_name, ',') FROM flujo.steps WHERE step_index = 99 AND run_id = $1"
		if got := one(t, conn, names, r); got != by {
			t.Errorf("run %s: got the step of %s, want %s", r, got, by)
		}
	}
	if got := one(t, conn, "SELECT trace_data::text LIKE '%late%' FROM flujo.traces WHERE run_id = $1",
		run1); got != "true" {
		t.Error("the trace is not derived from the spans of the file")
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.traces WHERE run_id = $1", run2); got != "1" {
		t.Errorf("got %s traces of the run that was deleted in PostgreSQL, want 1", got)
	}
	wantVerdict(t, file, url, report.Merged, 0)
	run(t, conn, fmt.Sprintf("UPDATE flujo.runs SET status = 'other' WHERE run_id = '%s'", run0))
	wantVerdict(t, file, url, report.Drift, 0)
	_, _, err := runVerify(t, fixture, url) // not the file that was merged
	if clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got error %v, want a refusal", err)
	}
}

// TestMergeOriginals tests that the originals of the rows that are taken from the file are stored under their new ids,
// that those of replaced rows are deleted, and that rejected rows are stored once.
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
	mustMigrate(t, o)
	conn := connect(t, url)
	run(t, conn,
		"UPDATE flujo.runs SET updated_at = '"+at(12)+"', error_message = 'new' WHERE run_id = 'newer'",
		"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('newer', 's', 5, 'completed', '"+at(2)+"')") // id 5

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
	result := mustMigrate(t, o)
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
	wantOriginalRows(t, conn, append(rejected,
		originalCell("runs", "equal", 1, "error_message", "nul-removed", "x\x00"),
		originalCell("steps", "1", 1, "output", "invalid-json", "no JSON"),
		originalCell("runs", "older", 2, "error_message", "nul-removed", "y\x00"),
		originalCell("steps", "2", 2, "output", "invalid-json", "other"),
		originalCell("runs", "newer", 3, "error_message", "nul-removed", "x\x00"),
		originalCell("steps", "3", 3, "output", "invalid-json", "no JSON"),
		originalCell("runs", "added", 4, "error_message", "nul-removed", "w\x00"),
		originalCell("steps", "7", 5, "output", "invalid-json", "more")))
	if want := int64(4 + 11); result.Originals != want { // two each of older and added, and the rejected row
		t.Errorf("got %d originals, want %d", result.Originals, want)
	}
	once := stateOf(t, conn)
	if again := mustMigrate(t, o); again.Originals != 0 || stateOf(t, conn) != once {
		t.Errorf("got %d originals and other rows from the second merge, want no change", again.Originals)
	}
	o.Quarantine = false
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
	for name, base := range map[string]string{"without base": "", "with base": fixture} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			mustMigrate(t, options(t, fixture, url))
			conn := connect(t, url)
			run1 := one(t, conn, "SELECT min(run_id) FROM flujo.runs")
			run2 := one(t, conn, "SELECT max(run_id) FROM flujo.runs")
			run(t, conn, flujoWrites(run1, run2)...)
			before := stateOf(t, conn)
			path, _ := mustRestore(t, url, base)
			result := mustMigrate(t, mergeOptions(t, path, url))
			if u := result.Merge.Units; u[0].Equal != 60 ||
				u[0].Kept+u[0].Added+u[0].TakenOver+u[1].Kept+u[1].Added+u[1].TakenOver != 0 {
				t.Errorf("got %+v, want all equal", u)
			}
			if stateOf(t, conn) != before {
				t.Error("the merge changed rows that are equal")
			}
			change(t, path,
				"UPDATE runs SET status = 'file', updated_at = '2099-01-01T00:00:00+00:00' WHERE run_id = 'new'")
			change(t, path,
				"INSERT INTO evaluations (run_id, score, created_at) VALUES ('new', 1, '2099-01-01T00:00:00+00:00')")
			result = mustMigrate(t, mergeOptions(t, path, url))
			if u := result.Merge.Units[0]; u.Equal != 59 || u.TakenOver != 1 || len(result.Merge.Renumbered) != 0 {
				t.Errorf("got %+v, want 59 equal and 1 taken over", result.Merge)
			}
			got := one(t, conn, "SELECT status || (SELECT string_agg(id::text, ',' ORDER BY id) "+
				"FROM flujo.evaluations e WHERE e.run_id = r.run_id) FROM flujo.runs r WHERE run_id = 'new'")
			if got != "file16,18" {
				t.Errorf("got the run %s, want file16,18", got)
			}
		})
	}
}

// TestMergeCreatesOriginals tests that a merge creates flujo_port_originals if it takes a changed row, and only then.
func TestMergeCreatesOriginals(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("r", "h", 5, 1)
	file.addRun("r", "f", 3, 1)
	file["runs"][0]["error_message"] = "x\x00"
	url := target.database(t, nil)
	conn := connect(t, url)
	if result := mustMigrate(t, mergeOptions(t, file.file(t), url)); result.Originals != 0 {
		t.Errorf("got %d originals of rows that were not taken over, want 0", result.Originals)
	}
	wantOriginalRows(t, conn, nil)
	file["runs"][0]["updated_at"] = at(6)
	if result := mustMigrate(t, mergeOptions(t, file.file(t), url)); result.Originals != 1 {
		t.Errorf("got %d originals, want 1", result.Originals)
	}
	wantOriginalRows(t, conn, []originalRow{originalCell("runs", "r", 1, "error_message", "nul-removed", "x\x00")})
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
	conn := connect(t, url)
	o := mergeOptions(t, file.file(t), url)
	result := mustMigrate(t, o)
	mergeModel(t, target, file, nil).check(t, conn, result)
	wantTypes(t, conn, map[string]string{
		"steps.id":           "bigint",
		"steps_id_seq":       "bigint",
		"steps.token_counts": "bigint",
		"evaluations.id":     "bigint",
		"evaluations_id_seq": "bigint",
	})
	const wantIDs = "1,2147483646,2147483647,2147483648"
	if got := one(t, conn, "SELECT string_agg(id::text, ',' ORDER BY id) FROM flujo.steps"); got != wantIDs {
		t.Errorf("got ids of steps %s, want %s", got, wantIDs)
	}
	widened := slices.Sorted(slices.Values(result.Widened))
	wantSame(t, "widened", widened, []string{"evaluations.id", "steps.id", "steps.token_counts"})
	once := stateOf(t, conn)
	mustMigrate(t, o)
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
	conn := connect(t, url)
	before := stateOf(t, conn)
	wantError(t, mergeOptions(t, file.file(t), url), clierr.Refused, "steps", "9223372036854775807")
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
	target.add("system_state", cells{"key": "k"})
	path := file.file(t)
	for name, tc := range map[string]struct{ damage, unit string }{
		"a cell of a kept run":  {"UPDATE steps SET status = 'other' WHERE id = 1", `runs "kept"`},
		"a cell of a taken run": {"UPDATE spans SET name = 'other' WHERE id = 3", `runs "taken"`},
		"a row of an added run": {"DELETE FROM evaluations WHERE run_id = 'added'", `runs "added"`},
		"an extra row":          {"INSERT INTO system_state (key, value) VALUES ('more', '1')", `system_state "more"`},
		"a missing unit":        {"DELETE FROM system_state", `system_state "k"`},
		"an id of a kept run":   {"UPDATE steps SET id = 99 WHERE id = 1", `runs "kept"`},
		"an id of an added run": {"UPDATE steps SET id = 99 WHERE id = 5", `runs "added"`},
		"ids of two rows changed": {"UPDATE steps SET id = 99 WHERE id = 1; UPDATE steps SET id = 1 " +
			"WHERE id = 2; UPDATE steps SET id = 2 WHERE id = 99", `runs "kept"`},
		"a row moved to another run": {
			"UPDATE steps SET run_id = 'taken' WHERE id = 5", `runs "added", runs "taken"`},
		"a trace of an added run": {`UPDATE traces SET trace_data = '{}' WHERE run_id = 'added'`, `runs "added"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := target.database(t, nil)
			conn := connect(t, url)
			tamperer(t, url)(tc.damage)
			before := stateOf(t, conn)
			o := mergeOptions(t, path, url)
			o.Verify = report.VerifyCounts // a merge verifies content even so
			wantError(t, o, clierr.Mismatch, tc.unit)
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
	file["runs"][0]["error_message"] = "x\x00" // flujo_port_originals is created after the load
	url := target.database(t, nil)
	conn := connect(t, url)
	run(t, conn, `CREATE FUNCTION public.staged() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE o text; BEGIN
			SELECT schema_name INTO o FROM pg_event_trigger_ddl_commands()
				WHERE object_identity ~ '^flujo_port_staging_.*\.flujo_port_originals$';
			IF o IS NOT NULL THEN EXECUTE format('UPDATE %I.steps SET step_name = ''other'' WHERE id = 2', o); END IF;
		END $$`,
		"CREATE EVENT TRIGGER staged ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.staged()")
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
	conn := connect(t, url)
	role := pgtest.Role(t, url, "")
	name := one(t, connect(t, role), "SELECT current_user")
	mustInitialize(t, url, name)
	o := mergeOptions(t, file.file(t), role)
	o.DryRun = true
	before := stateOf(t, conn)
	mustMigrate(t, o)
	if stateOf(t, conn) != before {
		t.Error("the dry run changed the database")
	}
	o.DryRun = false
	result := mustMigrate(t, o)
	file["runs"][0]["error_message"] = "x"
	mergeModel(t, target, file, nil).check(t, conn, result)
	if got := one(t, conn, "SELECT count(*) FROM pg_class WHERE relname ~ '^flujo_port' "+
		"AND relnamespace <> 'flujo'::regnamespace AND relkind = 'r'"); got != "0" {
		t.Errorf("the merge left %s tables", got)
	}
	insertAsFlujo(t, conn, mergeModel(t, target, file, nil).want)
}

// TestMergeKeepsReferringRows tests that rows of other tables that refer to a replaced run are kept.
func TestMergeKeepsReferringRows(t *testing.T) {
	t.Parallel()
	target, file := side{}, side{}
	target.addRun("r", "h", 3, 1)
	file.addRun("r", "f", 5, 1)
	url := target.database(t, nil)
	conn := connect(t, url)
	run(t, conn,
		"CREATE TABLE public.notes (run_id text REFERENCES flujo.runs ON DELETE CASCADE)",
		"INSERT INTO public.notes VALUES ('r')",
		"CREATE TABLE public.bills (run_id text REFERENCES flujo.runs)",
		"INSERT INTO public.bills VALUES ('r')")
	mergeModel(t, target, file, nil).check(t, conn, mustMigrate(t, mergeOptions(t, file.file(t), url)))
	got := one(t, conn, "SELECT (SELECT count(*) FROM public.notes) + (SELECT count(*) FROM public.bills)")
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
	conn := connect(t, url)
	role := pgtest.Role(t, url, "")
	name := one(t, connect(t, role), "SELECT current_user")
	mustInitialize(t, url, name)
	run(t, conn,
		"ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY visible ON flujo.steps USING (id > 1)")
	wantError(t, mergeOptions(t, fixture, role), clierr.Refused, "row-level security", "steps")
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
	conn := connect(t, url)
	mustMigrate(t, mergeOptions(t, path, url))
	result, _ := wantVerdict(t, path, url, report.Merged, 0)
	if !result.Receipt.Merged || !comparison(t, result, "steps").AsMerged ||
		comparison(t, result, "steps").Mismatched != 0 {
		t.Errorf("got %+v, want a merged receipt and no mismatched steps", result)
	}
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE run_id = 'taken' AND id = 3")
	result, differences := wantVerdict(t, path, url, report.Drift, 0)
	// The updated row, and the rows whose ids are on both sides.
	if c := comparison(t, result, "steps"); c.Mismatched != 0 || c.Changed != 5 {
		t.Errorf("got %+v and differences %v, want 5 changed and 0 mismatched", c, differences)
	}
	// If the merge were the writer of the row, it would be a copy mismatch.
	run(t, conn, `UPDATE flujo.flujo_port_receipts SET tables = jsonb_set(tables, '{2,merged,writers}',
		(SELECT jsonb_agg(DISTINCT xmin::text::bigint) FROM flujo.steps WHERE run_id IN ('taken', 'renumbered')))`)
	result, _ = wantVerdict(t, path, url, report.CopyMismatch, clierr.Mismatch)
	if c := comparison(t, result, "steps"); c.Mismatched != 1 {
		t.Errorf("got %+v, want 1 mismatched", c)
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
	conn := connect(t, url)
	before := stateOf(t, conn)
	if u := mustMigrate(t, mergeOptions(t, file.file(t), url)).Merge.Units[0]; u.Equal != 1 {
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
	target.add("system_state", cells{"key": "k", "value": "1"})
	file.add("system_state", cells{"key": "k", "value": "2", "updated_at": ""})
	file.add("system_state", cells{"key": "l", "value": "3", "updated_at": "?"})
	url := target.database(t, nil)
	conn := connect(t, url)
	result := mustMigrate(t, mergeOptions(t, file.file(t), url))
	if u := result.Merge.Units[1]; u.Kept != 1 || u.Added != 1 {
		t.Errorf("got %+v, want 1 kept and 1 added", u)
	}
	got := one(t, conn, "SELECT string_agg(key || value::text, ' ' ORDER BY key) FROM flujo.system_state")
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
	conn := connect(t, url)
	o := mergeOptions(t, path, url)
	o.ExactFloats = true
	mergeModel(t, target, file, nil).check(t, conn, mustMigrate(t, o))
	run(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 1")
	result, differences := wantVerdict(t, path, url, report.Drift, 0)
	// The updated row, and the two of the kept run.
	if c := comparison(t, result, "steps"); c.Mismatched != 0 || c.Changed != 3 {
		t.Errorf("got %+v and differences %v, want 3 changed and 0 mismatched", c, differences)
	}
}
