package source

import (
	"context"
	"fmt"
	"slices"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
)

// schema is what the file's sqlite_schema says of its tables.
type schema struct {
	// tables are the columns of each table, in their order, without those of computed.
	// Names that SQLite takes for Flujo's are spelled as Flujo's, others as in the file.
	tables map[string][]string
	// computed are the VIRTUAL generated columns of each table: SQLite does not store
	// their values.
	computed map[string][]string
	// conflict says what has the name of a table or column of Flujo's and cannot be
	// read as one; "" if nothing.
	conflict string
}

// objectsSQL returns the tables, views and indexes of the file, and the columns of its
// ordinary tables. SQLite begins the stored statement of an ordinary table with CREATE
// TABLE, in whatever form it was written. Columns of other objects are not read, since
// for a virtual table SQLite would run its module.
const objectsSQL = `SELECT lower(m.type), m.name, m.sql LIKE 'CREATE TABLE %', c.name, c.hidden FROM sqlite_master m
	LEFT JOIN pragma_table_xinfo(iif(m.sql LIKE 'CREATE TABLE %', m.name, NULL)) c
	WHERE lower(m.type) <> 'trigger' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, c.cid`

// The kinds of generated columns in the column "hidden" of pragma_table_xinfo.
const (
	virtualColumn = 2
	storedColumn  = 3
)

func (s *Snapshot) readSchema(ctx context.Context) (schema, error) {
	found := schema{tables: map[string][]string{}, computed: map[string][]string{}}
	err := s.each(ctx, objectsSQL, func(row []sqlite.Value) {
		kind, name := string(row[0].Bytes), string(row[1].Bytes)
		flujos := mapping.TableOf(sqlite.FoldName(name))
		if kind == "table" && row[2].Int == 0 {
			kind = "virtual table"
		}
		switch {
		case flujos == nil && kind != "table" && kind != "virtual table": // it holds no rows
		case flujos == nil:
			found.add(name, row[3], row[4].Int)
		case kind != "table":
			found.conflict = fmt.Sprintf("%q is a %s, but Flujo's %s is an ordinary table", name, kind, flujos.Name)
			if kind == "index" {
				found.conflict = fmt.Sprintf("%q is an index, but Flujo's %s is a table", name, flujos.Name)
			}
		default:
			found.addFlujos(flujos, row[3], row[4].Int)
		}
	})
	return found, err
}

// add adds a column of a table, or a table without columns if column is NULL.
func (f *schema) add(table string, column sqlite.Value, hidden int64) {
	switch {
	case column.Class == sqlite.Null:
		f.tables[table] = nil
	case hidden == virtualColumn:
		f.computed[table] = append(f.computed[table], string(column.Bytes))
	default:
		f.tables[table] = append(f.tables[table], string(column.Bytes))
	}
}

// addFlujos adds a column of one of Flujo's tables.
func (f *schema) addFlujos(table *mapping.Table, column sqlite.Value, hidden int64) {
	folded := sqlite.FoldName(string(column.Bytes))
	if !table.HasFileColumn(folded) {
		f.add(table.Name, column, hidden)
		return
	}
	if hidden == virtualColumn || hidden == storedColumn {
		f.conflict = fmt.Sprintf("%q of table %s is a generated column, but Flujo writes %s.%s itself",
			column.Bytes, table.Name, table.Name, folded)
	}
	f.add(table.Name, sqlite.TextValue(folded), hidden)
}

// check returns a clierr.Refused if something other than a table or column has the name
// of one of Flujo's. Flujo cannot have made that, and what SQLite reads there is
// computed by the file.
func (f *schema) check(path string) error {
	if f.conflict == "" {
		return nil
	}
	return refused(path, f.conflict, passStateFile+", or replace it in a copy of the file")
}

// Tables returns the columns of every table in the file, in their order. Tables and
// columns whose names SQLite takes for Flujo's, since it ignores the case of ASCII
// letters, have Flujo's spelling. SQLite's own tables are not included, nor VIRTUAL
// generated columns. A virtual table has no columns here, since only a program with
// its module can list them. The caller must not change the map.
func (s *Snapshot) Tables() map[string][]string { return s.schema.tables }

// Computed returns the VIRTUAL generated columns of Flujo's tables, as table.column in
// the order of mapping.Tables. They are not read, since SQLite does not store their
// values but computes them by expressions of the file.
func (s *Snapshot) Computed() (columns []string) {
	for _, table := range mapping.Tables {
		for _, column := range s.schema.computed[table.Name] {
			columns = append(columns, table.Name+"."+clierr.Name(column))
		}
	}
	return columns
}

// hasVirtual reports whether the file has virtual tables, which are the ones without
// columns.
func (f *schema) hasVirtual() bool {
	for _, columns := range f.tables {
		if columns == nil {
			return true
		}
	}
	return false
}

// has reports whether a table of the file stores the column.
func (s *Snapshot) has(table, column string) bool {
	return slices.Contains(s.schema.tables[table], column)
}
