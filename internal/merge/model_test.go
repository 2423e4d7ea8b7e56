package merge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// side holds the rows of one side of a merge, by table.
type side map[string][]flujotest.Cells

// mergeTables holds Flujo's tables except for memories, parents first.
var mergeTables = []string{"runs", "workflow_state", "steps", "spans", "traces", "evaluations", "system_state"}

// add adds a row: the given cells, and the table's defaults for the other columns.
func (s side) add(table string, given flujotest.Cells) {
	row := maps.Clone(flujotest.Defaults[table])
	maps.Copy(row, given)
	s[table] = append(s[table], row)
}

// file writes a file with the rows and returns its path.
func (s side) file(t testing.TB) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	for _, table := range mergeTables {
		for _, row := range s[table] {
			f.Insert(table, row)
		}
	}
	return f.Close()
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
func recordJSON(t testing.TB, table string, row flujotest.Cells) string {
	t.Helper()
	record := map[string]any{}
	for column, cell := range row {
		if text, ok := cell.(string); ok && strings.Contains(" "+flujotest.Tables[table]+",", " "+column+" J") {
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
	flujotest.Initialize(t, url, "")
	conn := flujotest.Connect(t, url)
	s.fill(t, conn, "flujo")
	for _, table := range []string{"steps", "spans", "evaluations"} {
		if last := max(allocated[table], highestID(s[table])); last > 0 {
			flujotest.Exec(t, conn, fmt.Sprintf("SELECT setval('flujo.%s_id_seq', %d)", table, last))
		}
	}
	return url
}

// highestID returns the highest id of rows, or 0.
func highestID(rows []flujotest.Cells) (id int64) {
	for _, row := range rows {
		id = max(id, row["id"].(int64))
	}
	return id
}

// model is the expected result of a merge, computed independently of the program.
type model struct {
	want       side
	units      map[string]*report.MergedUnits
	renumbered map[string]int64 // rows of the file, by table
	notStored  map[string]int64 // rows of the file, by table
	heldBefore map[string]int64 // rows of the target, by table
}

// unitKey returns the key of the unit (a run, or a row of system_state) to which a row belongs.
func unitKey(table string, row flujotest.Cells) string {
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

// mergeModel computes the result of merging file into target. If no run is on both sides, all rows of a table get new
// ids with the same distances, unless the target's is empty; otherwise those whose id is used get consecutive ones.
func mergeModel(t testing.TB, target, file side, allocated map[string]int64) *model {
	m := &model{
		want:       side{},
		units:      map[string]*report.MergedUnits{"runs": {}, "system_state": {}},
		renumbered: map[string]int64{},
		notStored:  map[string]int64{},
		heldBefore: map[string]int64{},
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
	for _, table := range mergeTables {
		m.notStored[table], m.heldBefore[table] = int64(len(file[table])-len(taken[table])), int64(len(m.want[table]))
	}
	shared := false // a run is on both sides
	for key := range theirs {
		shared = shared || strings.HasPrefix(key, "runs ") && ours[key] != nil
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
			slices.SortFunc(rows, func(a, b flujotest.Cells) int { return int(a["id"].(int64) - b["id"].(int64)) })
		}
		for _, row := range rows {
			if serial && (used[row["id"].(int64)] || !shared && len(target[table]) > 0) {
				m.renumbered[table]++
				distance := m.renumbered[table]
				if !shared {
					distance = row["id"].(int64) - rows[0]["id"].(int64) + 1
				}
				row = maps.Clone(row)
				row["id"] = max(highestID(target[table]), highestID(file[table]), allocated[table]) + distance
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
	flujotest.Exec(t, conn, "DROP SCHEMA IF EXISTS expected CASCADE", "CREATE SCHEMA expected")
	for _, table := range mergeTables {
		flujotest.Exec(t, conn, fmt.Sprintf("CREATE TABLE expected.%s (LIKE flujo.%[1]s)", table))
	}
	m.want.fill(t, conn, "expected")
	for _, table := range mergeTables {
		for what, query := range map[string]string{
			"missing":    "SELECT to_jsonb(t) FROM expected.%[1]s t EXCEPT ALL SELECT to_jsonb(t) FROM flujo.%[1]s t",
			"unexpected": "SELECT to_jsonb(t) FROM flujo.%[1]s t EXCEPT ALL SELECT to_jsonb(t) FROM expected.%[1]s t",
		} {
			query = "SELECT string_agg(x.to_jsonb::text, E'\n') FROM (" + fmt.Sprintf(query, table) + ") x"
			if got := flujotest.One(t, conn, query); got != "NULL" {
				t.Errorf("%s: %s:\n%s", table, what, got)
			}
		}
	}
	flujotest.Exec(t, conn, "DROP SCHEMA expected CASCADE")
}

// checkReport compares the report with the model.
func (m *model) checkReport(t testing.TB, result *report.Migration) {
	t.Helper()
	if result.Merge == nil {
		t.Fatal("got a report without a merge")
	}
	for _, table := range mergeTables {
		if row := tableReport(t, result, table); row.InPostgres != int64(len(m.want[table])) || !row.Match ||
			row.NotStored != m.notStored[table] || row.HeldBefore != m.heldBefore[table] {
			t.Errorf("got report %+v, want a match, %d rows, %d not stored, %d held before",
				row, len(m.want[table]), m.notStored[table], m.heldBefore[table])
		}
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

// at returns the timestamp of second n.
func at(n int) string { return fmt.Sprintf("2026-01-05T09:00:%02d+00:00", n) }

// addRun adds a run with a row in every table, two of them in steps and spans. The run's updated_at is at(when), the
// ids start at id, and every row contains the text what.
func (s side) addRun(run, what string, when int, id int64) {
	times := flujotest.Cells{"run_id": run, "created_at": at(0), "updated_at": at(when), "error_message": what}
	s.add("runs", times)
	s.add("workflow_state", maps.Clone(times))
	for i := range int64(2) {
		s.add("steps", flujotest.Cells{
			"run_id":     run,
			"id":         id + i,
			"step_name":  what,
			"step_index": i,
			"created_at": at(0),
			"output":     fmt.Sprintf(`{"what": %q}`, what),
			"cost_usd":   0.25,
		})
		s.add(
			"spans",
			flujotest.Cells{"run_id": run, "id": id + i, "span_id": fmt.Sprint(what, i), "created_at": at(0)},
		)
	}
	s.add(
		"traces",
		flujotest.Cells{"run_id": run, "trace_data": fmt.Sprintf(`{"name": %q}`, what), "created_at": at(0)},
	)
	s.add("evaluations", flujotest.Cells{"run_id": run, "id": id, "feedback": what, "created_at": at(0)})
}
