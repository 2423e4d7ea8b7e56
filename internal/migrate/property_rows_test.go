package migrate_test

import (
	"context"
	"database/sql"
	"slices"
)

// propertyRow is a row of a file. Its cells are in the order of the columns.
type propertyRow struct {
	rowid   int64
	cells   []propertyCell
	outcome propertyOutcome
}

// propertyOutcome is the expected result of migrating a row.
type propertyOutcome struct {
	wants    []propertyWant // for each of Flujo's columns
	key      string         // in PostgreSQL
	hasKey   bool
	invalid  bool // rejected because of its own cells
	rejected bool // invalid, or another row has the key
}

// propertyRows holds the rows of one table of a file.
type propertyRows struct {
	spec            *propertyTable
	columns         []string
	rows            []propertyRow
	from            []int // the file's column for each of Flujo's columns; -1: the rowid, -2: none
	unmapped        []int // the unmapped columns of the file
	duplicateRowIDs bool  // two rows have the same rowid
}

// readPropertyFile reads all of Flujo's tables of a file with database/sql, and the names of other tables.
func readPropertyFile(ctx context.Context, path string) (tables []*propertyRows, others []string, err error) {
	db, err := sql.Open("sqlite", fileURI(path))
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	names, err := queryStrings(ctx, db,
		`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		at := slices.IndexFunc(propertyTables, func(s propertyTable) bool { return s.name == name })
		if at < 0 {
			others = append(others, name)
			continue
		}
		table := &propertyRows{spec: &propertyTables[at]}
		if table.columns, err = queryStrings(ctx, db, "SELECT name FROM pragma_table_info(?)", name); err != nil {
			return nil, nil, err
		}
		if err := table.read(ctx, db); err != nil {
			return nil, nil, err
		}
		table.mapColumns()
		tables = append(tables, table)
	}
	return tables, others, nil
}

// queryStrings returns the rows of a query with one column.
func queryStrings(ctx context.Context, db *sql.DB, query string, args ...any) (all []string, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// read reads the rows of the table.
func (r *propertyRows) read(ctx context.Context, db *sql.DB) error {
	rowid := "rowid"
	for _, other := range []string{"_rowid_", "oid"} {
		if slices.Contains(r.columns, rowid) {
			rowid = other
		}
	}
	query := "SELECT " + rowid
	for _, c := range r.columns {
		query += ", +" + propertyQuote(c)
	}
	rows, err := db.QueryContext(ctx, query+" FROM "+r.spec.name+" NOT INDEXED")
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := map[int64]bool{}
	for rows.Next() {
		row := propertyRow{cells: make([]propertyCell, len(r.columns))}
		into := []any{&row.rowid}
		for i := range row.cells {
			into = append(into, (*any)(&row.cells[i]))
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		r.duplicateRowIDs = r.duplicateRowIDs || seen[row.rowid]
		seen[row.rowid] = true
		r.rows = append(r.rows, row)
	}
	return rows.Err()
}

// mapColumns finds the file's column for each of Flujo's columns.
func (r *propertyRows) mapColumns() {
	used := make([]bool, len(r.columns))
	for _, c := range r.spec.columns {
		at := slices.Index(r.columns, c.name)
		if old := slices.Index(r.columns, propertyOlder[r.spec.name+"."+c.name]); at < 0 && old >= 0 {
			at = old
			used[at] = r.columns[old] != "end_time" // end_time is also stored as an unmapped column
		} else if at >= 0 {
			used[at] = true
		} else {
			at = -2
			if c.key && c.kind == 'I' {
				at = -1
			}
		}
		r.from = append(r.from, at)
	}
	for i := range used {
		if !used[i] {
			r.unmapped = append(r.unmapped, i)
		}
	}
}

// cell returns the file's cell for a column of Flujo.
func (r *propertyRows) cell(row *propertyRow, column int) propertyCell {
	switch at := r.from[column]; {
	case at >= 0:
		return row.cells[at]
	case at == -1:
		return row.rowid
	case r.spec.columns[column].name == "pipeline_id":
		return "unknown"
	}
	return nil
}

// absent reports whether the column gets PostgreSQL's default.
func (r *propertyRows) absent(column int) bool {
	return r.from[column] == -2 && r.spec.columns[column].name != "pipeline_id"
}

// reference returns the run to which a row belongs.
func (r *propertyRows) reference(row *propertyRow) (cell propertyCell, ok bool) {
	if at := slices.Index(r.columns, "run_id"); at >= 0 {
		return row.cells[at], true
	}
	return nil, false
}

// rejectedRows returns the number of rejected rows of the table.
func (r *propertyRows) rejectedRows() (n int64) {
	for i := range r.rows {
		if r.rows[i].outcome.rejected {
			n++
		}
	}
	return n
}
