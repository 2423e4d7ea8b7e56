package merge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// stateFile is a state file of a migration of several.
type stateFile struct {
	name     string
	rows     side   // as they are in the file, without rejected ones
	rejected side   // rows that Flujo's tables cannot hold
	written  string // its modification time, as a timestamp
	path     string
}

// write writes the file.
func (f *stateFile) write(t testing.TB) {
	t.Helper()
	all := flujotest.NewFile(t, flujotest.Format06)
	for _, table := range mergeTables {
		for _, row := range append(slices.Clone(f.rows[table]), f.rejected[table]...) {
			all.Insert(table, row)
		}
	}
	f.path = all.Close()
	at, err := time.Parse(time.RFC3339, f.written)
	if err == nil {
		err = os.Chtimes(f.path, at, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// unitRows are the rows of a unit as PostgreSQL stores them: their content without the id, by table, in the order of
// their ids.
type unitRows map[string][]storedRow

type storedRow struct {
	content string
	id      int64 // 0 without one
}

// String returns the content of all rows.
func (u unitRows) String() string {
	var lines []string
	for table, rows := range u {
		for _, row := range rows {
			lines = append(lines, table+" "+row.content)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// withIDs returns the content of all rows with their ids.
func (u unitRows) withIDs() string {
	var lines []string
	for table, rows := range u {
		for _, row := range rows {
			lines = append(lines, fmt.Sprint(table, row.id, row.content))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (u unitRows) count() (n int64) {
	for _, rows := range u {
		n += int64(len(rows))
	}
	return n
}

// add adds a row to the unit with that key.
func add(units map[string]unitRows, key, table string, row storedRow) {
	if units[key] == nil {
		units[key] = unitRows{}
	}
	units[key][table] = append(units[key][table], row)
}

// asStored returns a row of a file as PostgreSQL is expected to store it: the rules of docs/values.md for the values
// that these tests use, and the timestamps that the file lacks.
func (f *stateFile) asStored(table string, given flujotest.Cells) flujotest.Cells {
	row := maps.Clone(given)
	for column, cell := range row {
		text, ok := cell.(string)
		if !ok {
			continue
		}
		kind := flujotest.CellKinds[table][column]
		switch {
		case kind == "json" && text == "null" && column != "value":
			row[column] = nil
		case kind == "json" && !json.Valid([]byte(text)):
			quoted, _ := json.Marshal(text)
			row[column] = string(quoted)
		case kind == "text":
			row[column] = strings.ReplaceAll(text, "\x00", "")
		}
		if at, isTime := f.inferred(table, column, given); isTime {
			row[column] = at
		}
	}
	return row
}

// isMissing reports whether a cell is a timestamp that cannot be read.
func isMissing(cell any) bool { return cell == "" || cell == "?" }

// inferred returns the timestamp for a cell without one: that of the row's unit for a child, the other one of a run,
// or the file's time. The tests leave out timestamps only where this is the rule.
func (f *stateFile) inferred(table, column string, row flujotest.Cells) (at string, missing bool) {
	if column != "created_at" && column != "updated_at" || !isMissing(row[column]) {
		return "", false
	}
	switch table {
	case "system_state":
		return f.written, true
	case "runs":
		for _, other := range []string{"created_at", "updated_at"} {
			if at := row[other].(string); !isMissing(at) {
				return at, true
			}
		}
		return f.written, true
	}
	for _, parent := range []string{"workflow_state", "runs"} {
		for _, of := range f.rows[parent] {
			if of["run_id"] == row["run_id"] {
				return of["updated_at"].(string), true
			}
		}
	}
	panic("a child without a run")
}

// fileUnit is a unit of a file.
type fileUnit struct {
	rows unitRows
	last string // the latest time in its rows that is in the file, "" if there is none
}

// units returns the file's units as PostgreSQL is expected to store them. conn is that of any database with Flujo's
// tables: the server says how it prints rows.
func (f *stateFile) units(t testing.TB, conn *pgx.Conn) map[string]*fileUnit {
	t.Helper()
	units, last := map[string]unitRows{}, map[string]string{}
	for _, table := range mergeTables {
		records := []json.RawMessage{}
		var rows []flujotest.Cells
		for _, row := range f.rows[table] {
			stored := f.asStored(table, row)
			rows, records = append(rows, stored), append(records, json.RawMessage(recordJSON(t, table, stored)))
			for _, column := range []string{"created_at", "updated_at"} {
				if at, ok := stored[column].(string); ok && at != f.written {
					last[unitKey(table, row)] = max(last[unitKey(table, row)], at)
				}
			}
		}
		for i, content := range printed(t, conn, table, records) {
			id, _ := rows[i]["id"].(int64)
			add(units, unitKey(table, rows[i]), table, storedRow{content, id})
		}
	}
	all := map[string]*fileUnit{}
	for key, rows := range units {
		all[key] = &fileUnit{rows: rows, last: last[key]}
	}
	return all
}

// printed returns rows, given as JSON, as the server prints those of a table, without their ids.
func printed(t testing.TB, conn *pgx.Conn, table string, records []json.RawMessage) (all []string) {
	t.Helper()
	list, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(context.Background(), "SELECT (to_jsonb(r) - 'id' - 'ordinality')::text FROM ROWS FROM "+
		"(jsonb_populate_recordset(NULL::printed."+table+", $1::text::jsonb)) WITH ORDINALITY r ORDER BY ordinality",
		string(list))
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		t.Fatalf("%s: %v: %.500s", table, err, list)
	}
	return all
}

// createPrinted creates the types of rows that printed uses, whose integers are wide.
func createPrinted(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	flujotest.Exec(t, conn, "CREATE SCHEMA printed")
	for _, table := range mergeTables {
		flujotest.Exec(t, conn, fmt.Sprintf("CREATE TABLE printed.%s (LIKE flujo.%[1]s)", table))
		for column := range strings.SplitSeq(flujotest.Tables[table], ", ") {
			if words := strings.Fields(column); strings.HasPrefix(words[1], "I") {
				flujotest.Exec(t, conn, fmt.Sprintf("ALTER TABLE printed.%s ALTER %s TYPE bigint", table, words[0]))
			}
		}
	}
}

// storedUnits returns the units of the schema.
func storedUnits(t testing.TB, conn *pgx.Conn) map[string]unitRows {
	t.Helper()
	units := map[string]unitRows{}
	for _, table := range mergeTables {
		key, id := "run_id", "0"
		if table == "system_state" {
			key = "key"
		}
		if flujotest.Keys[table] == "id" {
			id = "id"
		}
		rows, err := conn.Query(context.Background(), fmt.Sprintf(
			"SELECT %s, %s::bigint, (to_jsonb(r) - 'id')::text FROM flujo.%s r ORDER BY 2", key, id, table))
		var row storedRow
		var of string
		if err == nil {
			_, err = pgx.ForEachRow(rows, []any{&of, &row.id, &row.content}, func() error {
				add(units, unitKey(table, flujotest.Cells{"key": of, "run_id": of}), table, row)
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return units
}

// keptUnits returns the units in the originals, by receipt, and the receipts of units that were equal, by the receipt
// of their file.
func keptUnits(t testing.TB, conn *pgx.Conn) (kept map[int64]map[string]unitRows, equal map[int64]map[string]int64) {
	t.Helper()
	kept, equal = map[int64]map[string]unitRows{}, map[int64]map[string]int64{}
	if flujotest.One(t, conn, "SELECT to_regclass('flujo.flujo_port_originals')") == "NULL" {
		return kept, equal
	}
	rows, err := conn.Query(context.Background(), "SELECT receipt, table_name, row_key, reason, storage_class, "+
		"convert_from(original, 'UTF8') FROM flujo.flujo_port_originals WHERE column_name = '' ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		receipt                                  int64
		table, key, reason, storageClass, record string
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (one row, err error) {
		err = r.Scan(&one.receipt, &one.table, &one.key, &one.reason, &one.storageClass, &one.record)
		return one, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if one.reason == "equal" {
			if equal[one.receipt] == nil {
				equal[one.receipt] = map[string]int64{}
			}
			var of int64
			if _, err := fmt.Sscan(one.record, &of); err != nil {
				t.Fatal(err)
			}
			equal[one.receipt][one.table+" "+one.key] = of
			continue
		}
		if one.reason == "superseded-unit" || one.reason == "not-taken-unit" {
			continue // loseKept fails without it
		}
		if one.reason != "superseded" || one.storageClass != "row" {
			t.Fatalf("got an original with reason %q and storage class %q", one.reason, one.storageClass)
		}
		var cells map[string]*string
		if err := json.Unmarshal([]byte(one.record), &cells); err != nil {
			t.Fatal(err)
		}
		given := flujotest.Cells{}
		for column, text := range cells {
			if given[column] = nil; text != nil {
				given[column] = *text
			}
		}
		var id int64
		if flujotest.Keys[one.table] == "id" {
			if _, err := fmt.Sscan(one.key, &id); err != nil || one.key != given["id"] {
				t.Fatalf("got the key %q of the row %s", one.key, one.record)
			}
		}
		content := printed(t, conn, one.table, []json.RawMessage{json.RawMessage(recordJSON(t, one.table, given))})[0]
		if kept[one.receipt] == nil {
			kept[one.receipt] = map[string]unitRows{}
		}
		add(kept[one.receipt], unitKey(one.table, given), one.table, storedRow{content, id})
	}
	return kept, equal
}

// severalModel is the expected result of merging files one after the other, computed independently of the program. A
// unit is taken from the file in which its latest time is the latest. On a tie it is taken from the file that is named
// first, unless both are equal anyway. Times that are not in the file do not count.
type severalModel struct {
	units []map[string]*fileUnit // of each file
	owner map[string]int         // the file whose version of a unit is in the tables
	kept  []map[string]bool      // by file, the units that are in the originals with its receipt
	equal []map[string]int       // by file, the units that were there already, with the file from which they were
	tied  map[string]bool        // the units in whose decision the order of the files mattered
}

func newSeveralModel(units []map[string]*fileUnit) *severalModel {
	m := &severalModel{units: units, owner: map[string]int{}, tied: map[string]bool{}}
	for i, file := range units {
		m.kept, m.equal = append(m.kept, map[string]bool{}), append(m.equal, map[string]int{})
		for key, u := range file {
			owner, there := m.owner[key]
			if !there {
				m.owner[key] = i
				continue
			}
			switch has := units[owner][key]; {
			case has.rows.String() == u.rows.String():
				m.equal[i][key] = owner
			case u.last > has.last:
				m.kept[owner][key] = true
				m.owner[key] = i
			default:
				m.kept[i][key] = true
			}
		}
	}
	for key := range m.owner {
		m.tied[key] = m.isTied(key)
	}
	return m
}

// isTied reports whether different versions of a unit share the latest time.
func (m *severalModel) isTied(key string) bool {
	last := m.units[m.owner[key]][key]
	for _, file := range m.units {
		if u := file[key]; u != nil && u.last == last.last && u.rows.String() != last.rows.String() {
			return true
		}
	}
	return false
}

// status returns what verify is expected to say of a unit of a file, and the file that superseded it.
func (m *severalModel) status(file int, key string, stored map[string]unitRows) (status string, by int) {
	u := m.units[file][key]
	switch owner := m.owner[key]; {
	case m.units[owner][key].rows.String() != u.rows.String():
		return report.UnitSuperseded, owner
	case stored[key].withIDs() != u.rows.withIDs():
		return report.UnitRenumbered, 0
	}
	return report.UnitEqual, 0
}

// check compares the tables and the originals with the model. receipts are those of the files.
func (m *severalModel) check(t testing.TB, conn *pgx.Conn, receipts []int64) map[string]unitRows {
	t.Helper()
	stored := storedUnits(t, conn)
	for key := range stored {
		if _, ok := m.owner[key]; !ok {
			t.Errorf("unexpected: %s", key)
		}
	}
	for key, owner := range m.owner {
		if got, want := stored[key].String(), m.units[owner][key].rows.String(); got != want {
			t.Errorf("%s: got\n%s\nwant that of file %d:\n%s", key, got, owner, want)
		}
	}
	kept, equal := keptUnits(t, conn)
	for i, id := range receipts {
		for key := range kept[id] {
			if !m.kept[i][key] {
				t.Errorf("%s of file %d is unexpectedly in the originals", key, i)
			}
		}
		for key := range m.kept[i] {
			if got, want := kept[id][key].String(), m.units[i][key].rows.String(); got != want {
				t.Errorf("%s of file %d: got in the originals\n%s\nwant\n%s", key, i, got, want)
			}
		}
		want := map[string]int64{}
		for key, of := range m.equal[i] {
			want[key] = receipts[of]
		}
		if len(want)+len(equal[id]) > 0 && !maps.Equal(equal[id], want) {
			t.Errorf("file %d: got equal units %v, want %v", i, equal[id], want)
		}
		// Whatever the model says: every row is in a table, or in the originals.
		for key, u := range m.units[i] {
			places := []string{stored[key].String(), kept[id][key].String(), kept[equal[id][key]][key].String()}
			if !slices.Contains(places, u.rows.String()) {
				t.Errorf("%s of file %d is in no table and not in the originals", key, i)
			}
		}
	}
	return stored
}
