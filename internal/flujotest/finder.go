package flujotest

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// renamedColumns holds, by table.column of an older file format, the column in PostgreSQL with the same meaning.
var renamedColumns = map[string]string{
	"runs.start_time": "created_at", "runs.end_time": "updated_at",
	"steps.start_time": "created_at", "steps.duration_ms": "execution_time_ms", "steps.cost": "cost_usd",
	"steps.tokens":      "token_counts",
	"steps.output_blob": "output",
}

// Finder finds the cells of a file in PostgreSQL.
type Finder struct {
	conn      *pgx.Conn
	Originals map[string]Original // by table, rowid and column
	used      map[string]bool     // the originals that were found
}

// NewFinder reads the originals on conn and returns a Finder that reads tables on it.
func NewFinder(t testing.TB, conn *pgx.Conn) *Finder {
	f := &Finder{conn: conn, Originals: map[string]Original{}, used: map[string]bool{}}
	for _, k := range Originals(t, conn) {
		f.Originals[fmt.Sprintf("%s %d %s", k.Table, k.RowID, k.Column)] = k
	}
	return f
}

// Unused returns the number of originals that belong to no cell.
func (f *Finder) Unused() int { return len(f.Originals) - len(f.used) }

// Find tests that every cell of a table is in the column with the same meaning, or unchanged in the originals. It
// returns the number of cells.
func (f *Finder) Find(t *testing.T, db *sql.DB, table string) (cells int) {
	t.Helper()
	names := columnsOf(t, db, table)
	if names == nil {
		return 0
	}
	have := f.rows(t, table)
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = "+" + `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	rows, err := db.Query(fmt.Sprintf("SELECT rowid, %s FROM %s ORDER BY rowid", strings.Join(list, ", "), table))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		row, into := make([]any, len(names)+1), make([]any, len(names)+1)
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		rowid := row[0].(int64)
		key := fmt.Sprint(rowid)
		if Keys[table] != "id" {
			key = string(OriginalBytes(row[1+slices.Index(names, Keys[table])]))
		}
		got, ok := have[key]
		if !ok {
			t.Errorf("%s: the row %q is not in PostgreSQL", table, key)
			continue
		}
		for i, name := range names {
			cells++
			f.findCell(t, table, key, rowid, name, row[i+1], got)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	if n != len(have) && table != "traces" && table != "runs" { // traces and runs also have derived rows
		t.Errorf("%s: got %d rows in PostgreSQL, want %d as in the file", table, len(have), n)
	}
	return cells
}

// findCell tests that one cell is in the row got, or in the originals.
func (f *Finder) findCell(t *testing.T, table, key string, rowid int64, name string, cell any, got map[string]*string) {
	t.Helper()
	column, isOld := renamedColumns[table+"."+name]
	if _, both := got[name]; both {
		column, isOld = name, true
	}
	position := fmt.Sprintf("%s %d %s", table, rowid, name)
	if isOld && column != name { // the originals of changed cells have the column's name in PostgreSQL
		if _, there := f.Originals[position]; !there {
			position = fmt.Sprintf("%s %d %s", table, rowid, column)
		}
	}
	original, isOriginal := f.Originals[position]
	if isOriginal {
		if original.Class == StorageClass(cell) && original.Hex == OriginalCell("", "", 0, "", "", cell).Hex &&
			original.Key == key {
			f.used[position] = true
			return
		}
	}
	if cell == nil && (!isOld || got[column] == nil || CellKinds[table][column] == "time") {
		return
	}
	if !isOld {
		t.Errorf("%s %q: %s %.60q is neither in a column nor in the originals: %+v", table, key, name, cell, original)
		return
	}
	kind := CellKinds[table][column]
	if table == "traces" {
		kind = map[string]string{"run_id": "text", "trace_data": "json", "created_at": "time"}[column]
	}
	if problem := Difference(kind, cell, got[column]); problem != "" {
		t.Errorf("%s %q %s: %s, original %+v", table, key, name, problem, original)
	}
}

// rows returns the rows of a table in PostgreSQL as text, by key.
func (f *Finder) rows(t *testing.T, table string) map[string]map[string]*string {
	t.Helper()
	rows, err := f.conn.Query(context.Background(), "SELECT * FROM flujo."+table,
		pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]*string{}
	for rows.Next() {
		row := map[string]*string{}
		for i, value := range rows.RawValues() {
			if value != nil {
				s := string(value)
				if rows.FieldDescriptions()[i].DataTypeOID == pgtype.BoolOID {
					s = map[string]string{"t": "true", "f": "false"}[s]
				}
				row[rows.FieldDescriptions()[i].Name] = &s
			} else {
				row[rows.FieldDescriptions()[i].Name] = nil
			}
		}
		if key := Keys[table]; key != "" {
			all[*row[key]] = row
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

// columnsOf returns the columns of a table of a file; nil if the table does not exist.
func columnsOf(t testing.TB, db *sql.DB, table string) (names []string) {
	t.Helper()
	rows, err := db.Query("SELECT name FROM pragma_table_info(?) ORDER BY cid", table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return names
}
