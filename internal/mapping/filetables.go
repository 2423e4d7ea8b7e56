package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/sqlite"
)

// FileColumn is a column of one of Flujo's tables in a SQLite file.
type FileColumn struct {
	Name        string
	Declaration string // type and constraints
}

// legacyColumns are the columns that a file created by Flujo 0.6 has and the table
// in PostgreSQL does not.
var legacyColumns = map[string][]FileColumn{
	Runs: {{"end_time", "TEXT"}, {"total_cost", "REAL"}, {"final_context_blob", "TEXT"}},
}

// unmapped04 are the columns of files of Flujo 0.4 that correspond to no column of
// Flujo 0.6.
var unmapped04 = map[string][]string{"steps": {"step_run_id", "input_blob", "error_blob"}}

// FileColumns returns the columns of the table in a SQLite file that Flujo 0.6
// creates: first those that the table has in PostgreSQL, in their order, then the
// legacy columns.
func (t *Table) FileColumns() []FileColumn {
	columns := make([]FileColumn, 0, len(t.Columns)+3)
	for _, c := range t.Columns {
		columns = append(columns, FileColumn{Name: c.Name, Declaration: t.declaration(c)})
	}
	return append(columns, legacyColumns[t.Name]...)
}

// HasFileColumn reports whether a file format has the column in the table, whether or
// not PostgreSQL has it.
func (t *Table) HasFileColumn(name string) bool {
	is := func(c FileColumn) bool { return c.Name == name }
	if slices.ContainsFunc(t.FileColumns(), is) {
		return true
	}
	for _, c := range t.Columns {
		key := t.Name + "." + c.Name
		older, ok := columns04[key]
		if ok && older.column == name || slices.Contains(columnFallbacks[key], name) {
			return true
		}
	}
	return slices.Contains(unmapped04[t.Name], name)
}

// declaration returns the type and constraints of a column in a SQLite file.
func (t *Table) declaration(c Column) string {
	kind := "TEXT"
	switch c.Kind {
	case KindInt, KindBool:
		kind = "INTEGER"
	case KindFloat4, KindFloat8:
		kind = "REAL"
	case KindVector:
		kind = "BLOB"
	}
	name := t.Name + "." + c.Name
	switch {
	case c.Serial:
		return "INTEGER PRIMARY KEY AUTOINCREMENT"
	case c.Name == t.PrimaryKey:
		return kind + " PRIMARY KEY"
	case name == "evaluations.created_at":
		return kind + " NOT NULL DEFAULT (DATETIME('now'))"
	case c.NotNull, c.Kind == KindVector:
		return kind + " NOT NULL"
	case c.Default == "0", c.Default == "false":
		return kind + " DEFAULT 0"
	}
	return kind
}

// Preserves reports whether the column stores v unchanged. SQLite converts numbers
// to text and text to numbers according to the declared type
// (https://www.sqlite.org/datatype3.html#type_affinity), and a column may be NOT
// NULL.
func (c FileColumn) Preserves(v sqlite.Value) bool {
	kind, constraint, _ := strings.Cut(c.Declaration, " ")
	switch {
	case strings.Contains(constraint, "AUTOINCREMENT"):
		return v.Class == sqlite.Integer
	case v.Class == sqlite.Null:
		return !strings.Contains(constraint, "NOT NULL")
	case v.Class == sqlite.Blob, kind == "BLOB":
		return true
	case kind == "TEXT":
		return v.Class == sqlite.Text
	}
	switch {
	case v.Class == sqlite.Text:
		return !isNumericText(string(v.Bytes))
	case kind == "REAL":
		return v.Class == sqlite.Real
	case v.Class == sqlite.Integer:
		return true
	}
	return float64(int64(v.Real)) != v.Real // SQLite stores a whole number as an integer
}

// isNumericText reports whether SQLite converts a text to a number if the column's type
// is numeric.
func isNumericText(s string) bool {
	s, _, _ = strings.Cut(s, "\x00")
	s = strings.Trim(s, " \t\n\v\f\r")
	if strings.Trim(s, "0123456789.eE+-") != "" {
		return false // excludes the words, hexadecimals and underscores that ParseFloat accepts
	}
	_, err := strconv.ParseFloat(s, 64)
	return err == nil || errors.Is(err, strconv.ErrRange) // 9e999 is a number to SQLite
}

// FileTable returns the statement that creates the table in a SQLite file.
func (t *Table) FileTable() string {
	var parts []string
	for _, c := range t.FileColumns() {
		parts = append(parts, c.Name+" "+c.Declaration)
	}
	if t.ChildOf != "" {
		parts = append(parts, fmt.Sprintf("FOREIGN KEY (run_id) REFERENCES %s(run_id) ON DELETE CASCADE", t.ChildOf))
	}
	return fmt.Sprintf("CREATE TABLE %s (%s)", t.Name, strings.Join(parts, ", "))
}

// FileIndexes returns the statements that create the table's indexes in a SQLite
// file. Indexes of types that only PostgreSQL has are left out.
func (t *Table) FileIndexes() (all []string) {
	for _, i := range t.Indexes {
		if i.Method == "btree" {
			all = append(all, fmt.Sprintf("CREATE INDEX %s ON %s(%s)", i.Name, t.Name, i.Column))
		}
	}
	return all
}

// FileVersion is the user_version of a file that Flujo 0.6 creates.
const FileVersion = 1
