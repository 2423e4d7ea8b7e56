package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"
)

// Update changes columns of the row with the given rowid. columns are positions
// in row, which has the values in the order of Insert.
func (f *stateFile) Update(
	ctx context.Context,
	table *mapping.Table,
	rowid int64,
	columns []int,
	row []sqlite.Value,
) error {
	rowID, err := f.rowID(ctx, table)
	if err != nil {
		return err
	}
	sets := make([]string, len(columns))
	values := make([]sqlite.Value, len(columns), len(columns)+1)
	for i, at := range columns {
		sets[i], values[i] = sqltext.Ident(table.Columns[at].Name)+" = ?", row[at]
	}
	return f.exec(
		ctx,
		fmt.Sprintf("UPDATE OR ABORT %s SET %s WHERE %s = ?",
			sqltext.Ident(table.Name), strings.Join(sets, ", "), rowID),
		append(values, sqlite.IntegerValue(rowid)),
	)
}

// Delete deletes the row with the given rowid.
func (f *stateFile) Delete(ctx context.Context, table *mapping.Table, rowid int64) error {
	rowID, err := f.rowID(ctx, table)
	if err != nil {
		return err
	}
	return f.exec(
		ctx,
		fmt.Sprintf("DELETE FROM %s WHERE %s = ?", sqltext.Ident(table.Name), rowID),
		[]sqlite.Value{sqlite.IntegerValue(rowid)},
	)
}

// rowID returns a name of the table's rowid that no column has.
func (f *stateFile) rowID(ctx context.Context, table *mapping.Table) (string, error) {
	if name := f.rowIDs[table.Name]; name != "" {
		return name, nil
	}
	names := []string{"rowid", "_rowid_", "oid"}
	err := f.each(ctx, "SELECT lower(name) FROM pragma_table_xinfo(?)", func(row []sqlite.Value) error {
		names = slices.DeleteFunc(names, func(name string) bool { return name == string(row[0].Bytes) })
		return nil
	}, sqlite.TextValue(table.Name))
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("write %q: columns of the base's table %s have every name of its rowid",
				f.path, table.Name),
			Hint:   nothingWritten,
			Advice: clierr.Advice{Topic: clierr.NoBase},
		}
	}
	f.rowIDs[table.Name] = names[0]
	return names[0], nil
}

// Triggers returns the names of the table's triggers.
func (f *stateFile) Triggers(ctx context.Context, table string) (names []string, err error) {
	err = f.each(ctx, "SELECT name FROM sqlite_master WHERE lower(type) = 'trigger' AND lower(tbl_name) = ? ORDER BY 1",
		func(row []sqlite.Value) error { names = append(names, string(row[0].Bytes)); return nil },
		sqlite.TextValue(table))
	return names, err
}

// AddColumns adds to a table the columns of Flujo 0.6 that are not in have.
func (f *stateFile) AddColumns(ctx context.Context, table *mapping.Table, have []string) error {
	for _, c := range table.FileColumns() {
		if slices.Contains(have, c.Name) {
			continue
		}
		// SQLite would evaluate the CHECK constraints of a STRICT table.
		add := fmt.Sprintf(
			"PRAGMA ignore_check_constraints = 1; ALTER TABLE %s ADD COLUMN %s %s; PRAGMA ignore_check_constraints = 0",
			sqltext.Ident(table.Name),
			sqltext.Ident(c.Name),
			c.Declaration,
		)
		if err := f.run(ctx, add); err != nil {
			return err
		}
	}
	return nil
}

// Version returns the file's user_version.
func (f *stateFile) Version(ctx context.Context) (version int, err error) {
	err = f.each(ctx, "PRAGMA user_version", func(row []sqlite.Value) error { version = int(row[0].Int); return nil })
	return version, err
}

// Sequences returns the last allocated id of each table with AUTOINCREMENT, by its
// name in lower case; 0 if it never allocated one.
func (f *stateFile) Sequences(ctx context.Context) (last map[string]int64, err error) {
	last = map[string]int64{}
	err = f.each(
		ctx,
		"SELECT lower(name) FROM sqlite_master WHERE lower(type) = 'table' AND sql LIKE '%AUTOINCREMENT%'",
		func(row []sqlite.Value) error {
			last[string(row[0].Bytes)] = 0
			return nil
		},
	)
	if err != nil || len(last) == 0 {
		return last, err
	}
	// SQLite finds its row by the name that the table was created with.
	err = f.each(
		ctx,
		"SELECT lower(name), seq FROM sqlite_sequence WHERE name IN (SELECT name FROM sqlite_master)",
		func(row []sqlite.Value) error {
			last[string(row[0].Bytes)] = row[1].Int
			return nil
		},
	)
	return last, err
}

// SetSequence sets the last allocated id that AUTOINCREMENT records for a
// table.
func (f *stateFile) SetSequence(ctx context.Context, table string, id int64) error {
	name := sqlite.TextValue(table)
	err := f.exec(ctx, "DELETE FROM sqlite_sequence WHERE name = ? COLLATE NOCASE", []sqlite.Value{name})
	if err != nil || id == 0 {
		return err
	}
	return f.exec(
		ctx,
		"INSERT INTO sqlite_sequence (name, seq) SELECT name, ?2 FROM sqlite_master "+
			"WHERE lower(type) = 'table' AND name = ?1 COLLATE NOCASE",
		[]sqlite.Value{name, sqlite.IntegerValue(id)},
	)
}

// Spans calls each with the spans of a run, in the form that mapping.Trace.Add
// takes.
func (f *stateFile) Spans(ctx context.Context, run sqlite.Value, each func(row []sqlite.Value) error) error {
	query := fmt.Sprintf(
		"SELECT rowid, %s FROM %s WHERE run_id = ? ORDER BY rowid",
		strings.Join(mapping.SpanColumns, ", "),
		mapping.Spans,
	)
	return f.each(ctx, query, each, run)
}

// CreateOriginals creates a temporary table of originals, which SQLite keeps on
// disk.
func (f *stateFile) CreateOriginals(ctx context.Context) error {
	return f.run(
		ctx,
		`CREATE TEMP TABLE originals (receipt INTEGER, table_name TEXT, row_key TEXT, source_rowid INTEGER,
			column_name TEXT, reason TEXT, original)`,
	)
}

// AddOriginal adds a cell to the temporary table of originals.
func (f *stateFile) AddOriginal(
	ctx context.Context,
	receipt int64,
	table, key string,
	rowid int64,
	column, reason string,
	original sqlite.Value,
) error {
	return f.exec(
		ctx,
		"INSERT INTO temp.originals VALUES (?, ?, ?, ?, ?, ?, ?)",
		[]sqlite.Value{
			sqlite.IntegerValue(receipt),
			sqlite.TextValue(table),
			sqlite.TextValue(key),
			sqlite.IntegerValue(rowid),
			sqlite.TextValue(column),
			sqlite.TextValue(reason),
			original,
		},
	)
}

// IndexOriginals creates the index that OriginalsOf uses. The caller calls it
// after the last AddOriginal.
func (f *stateFile) IndexOriginals(ctx context.Context) error {
	return f.run(ctx, "CREATE INDEX temp.originals_by_row ON originals (table_name, row_key)")
}

// OriginalCells are the original values of one row of a state file. The values
// own their bytes.
type OriginalCells struct {
	Receipt int64 // the id of the receipt of the file
	RowID   int64
	Key     string                  // the row's key in PostgreSQL; of a rejected row, the key that it would have had
	Values  map[string]sqlite.Value // by column
	Common  mapping.Reason          // the reasons that all cells share
}

// OriginalsOf calls each with the originals of every row that has the given key, in any
// receipt. There is more than one such row if rejected rows share the key, or several
// files have it.
func (f *stateFile) OriginalsOf(ctx context.Context, table, key string, each func(OriginalCells) error) error {
	return f.eachOriginals(
		ctx,
		"table_name = ? AND row_key = ?",
		each,
		sqlite.TextValue(table),
		sqlite.TextValue(key),
	)
}

// Originals calls each with the originals of every row of a table.
func (f *stateFile) Originals(ctx context.Context, table string, each func(OriginalCells) error) error {
	return f.eachOriginals(ctx, "table_name = ?", each, sqlite.TextValue(table))
}

func (f *stateFile) eachOriginals(
	ctx context.Context,
	where string,
	each func(OriginalCells) error,
	values ...sqlite.Value,
) error {
	newRow := func() OriginalCells {
		return OriginalCells{Values: map[string]sqlite.Value{}, Common: ^mapping.Reason(0)}
	}
	row := newRow()
	flush := func() error {
		if len(row.Values) == 0 {
			return nil
		}
		complete := row
		row = newRow()
		return each(complete)
	}
	err := f.each(
		ctx,
		"SELECT source_rowid, row_key, column_name, reason, original, receipt FROM temp.originals WHERE "+where+
			" ORDER BY receipt, source_rowid, row_key",
		func(cell []sqlite.Value) error {
			if cell[5].Int != row.Receipt || cell[0].Int != row.RowID || string(cell[1].Bytes) != row.Key {
				if err := flush(); err != nil {
					return err
				}
			}
			row.Receipt, row.RowID, row.Key = cell[5].Int, cell[0].Int, string(cell[1].Bytes)
			row.Values[string(cell[2].Bytes)] = cell[4].Clone()
			row.Common &= mapping.ParseReasons(string(cell[3].Bytes))
			return nil
		},
		values...)
	if err != nil {
		return err
	}
	return flush()
}
