package source

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/mapping"

	sqlite3 "modernc.org/sqlite/lib"
)

// sameAs compares a column with the first parameter, storage class and all: by
// the column's declared type SQLite takes '5' for 5.
func sameAs(column string) string {
	return fmt.Sprintf("%[1]s = ?1 AND typeof(%[1]s) = typeof(?1)", quote(column))
}

// Values gives the values of a column in the rows whose key column holds key,
// of its storage class. Nothing where the file has no such table or columns.
// The bytes are the caller's.
func (s *Snapshot) Values(
	ctx context.Context,
	table, column, keyColumn string,
	key mapping.Value,
) (values []mapping.Value, err error) {
	if !slices.Contains(s.tables[table], column) || !slices.Contains(s.tables[table], keyColumn) {
		return nil, nil
	}
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s", stored([]string{column}), quote(table), sameAs(keyColumn))
	err = s.each(ctx, query, func(row []mapping.Value) {
		v := row[0]
		v.Bytes = slices.Clone(v.Bytes)
		values = append(values, v)
	}, key)
	return values, err
}

// Holds reports whether a column holds the value, of its storage class, in any
// row.
func (s *Snapshot) Holds(ctx context.Context, table, column string, value mapping.Value) (found bool, err error) {
	if !slices.Contains(s.tables[table], column) {
		return false, nil
	}
	query := fmt.Sprintf("SELECT 1 FROM %s WHERE %s LIMIT 1", quote(table), sameAs(column))
	err = s.each(ctx, query, func([]mapping.Value) { found = true }, value)
	return found, err
}

// CountWhere counts the rows in which a column holds the value, of its storage
// class; 0 where the file has no such table or column.
func (s *Snapshot) CountWhere(ctx context.Context, table, column string, value mapping.Value) (n int64, err error) {
	if !slices.Contains(s.tables[table], column) {
		return 0, nil
	}
	query := fmt.Sprintf("SELECT count(*) FROM %s WHERE %s", quote(table), sameAs(column))
	err = s.each(ctx, query, func(row []mapping.Value) { n = row[0].Int }, value)
	return n, err
}

// Row gives the named columns of the first row whose key column holds key, of
// its storage class, or nil. Columns that the file does not have are NULL. The
// bytes are the caller's.
func (s *Snapshot) Row(
	ctx context.Context,
	table, keyColumn string,
	key mapping.Value,
	columns []string,
) (found []mapping.Value, err error) {
	if !slices.Contains(s.tables[table], keyColumn) {
		return nil, nil
	}
	return s.firstRow(ctx, table, columns, sameAs(keyColumn), key)
}

// RowAt gives the named columns of the row with a rowid, or nil, as Row does.
func (s *Snapshot) RowAt(ctx context.Context, table string, rowid int64, columns []string) ([]mapping.Value, error) {
	name, err := s.rowID(ctx, table)
	if err != nil {
		return nil, err
	}
	return s.firstRow(ctx, table, columns, name+" = ?1", mapping.IntegerValue(rowid))
}

func (s *Snapshot) firstRow(
	ctx context.Context,
	table string,
	columns []string,
	where string,
	key mapping.Value,
) (found []mapping.Value, err error) {
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s LIMIT 1", s.storedOrNull(table, columns), quote(table), where)
	err = s.each(ctx, query, func(row []mapping.Value) {
		for _, v := range row {
			v.Bytes = slices.Clone(v.Bytes)
			found = append(found, v)
		}
	}, key)
	return found, err
}

// Keys reads rowid and key of every row of a table, in no order that is
// promised. The caller closes it.
func (s *Snapshot) Keys(ctx context.Context, table, column string) (*Rows, error) {
	rowID, err := s.rowID(ctx, table)
	if err != nil {
		return nil, err
	}
	query := fmt.Sprintf("SELECT %s, %s FROM %s", rowID, stored([]string{column}), quote(table))
	if rowID == inScanOrder {
		query += " NOT INDEXED"
	}
	return s.query(ctx, query)
}

// KeyKind says what SQLite guarantees of a key column.
type KeyKind int

// The kinds of keys.
const (
	FreeKey   KeyKind = iota // nothing: two rows may have the same
	UniqueKey                // no two rows have the same value of the same storage class; NULL may come often
	RowIDKey                 // it is the rowid: an integer, unique, never NULL
)

// KeyKind finds out what the table's declaration guarantees of a column.
func (s *Snapshot) KeyKind(ctx context.Context, table, column string) (kind KeyKind, err error) {
	keys := 0
	// A key that is the rowid needs no index. INTEGER PRIMARY KEY is not always
	// one: not in a table without rowids, nor with DESC.
	err = s.each(
		ctx,
		`SELECT name, (SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk') FROM pragma_table_info(?1) WHERE pk > 0`,
		func(row []mapping.Value) {
			if keys++; string(row[0].Bytes) != column {
				return
			}
			if kind = UniqueKey; row[1].Int == 0 {
				kind = RowIDKey
			}
		},
		mapping.TextValue(table),
	)
	if err != nil || keys > 1 {
		return FreeKey, err
	}
	return kind, nil
}

// MissingRuns reads the run_ids that rows of the given tables have and no row
// of runs, as values of their storage class, each once, in SQLite's order but
// for reals, which come last. The caller closes it.
func (s *Snapshot) MissingRuns(ctx context.Context, children []string) (*Rows, error) {
	return s.query(ctx, s.missingRunsSQL(children))
}

func (s *Snapshot) missingRunsSQL(children []string) string {
	// 5 and 5.0 are one to UNION and two here, so reals come by themselves. An
	// index on run_id gives the order; numbers come before all text.
	query := s.missingRunsPart(children, "typeof(run_id) <> 'real'") + " UNION ALL "
	return query + s.missingRunsPart(children, "run_id < '' AND typeof(run_id) = 'real'")
}

func (s *Snapshot) missingRunsPart(children []string, condition string) string {
	parts := make([]string, len(children))
	for i, table := range children { // DISTINCT where UNION has nothing to do
		parts[i] = fmt.Sprintf("SELECT DISTINCT run_id FROM %s WHERE %s", quote(table), condition)
	}
	query := fmt.Sprintf("SELECT +run_id FROM (%s ORDER BY 1) c", strings.Join(parts, " UNION "))
	if _, ok := s.tables[mapping.Runs]; ok {
		query += fmt.Sprintf(
			" WHERE NOT EXISTS (SELECT 1 FROM %s r WHERE r.run_id = c.run_id AND typeof(r.run_id) = typeof(c.run_id))",
			mapping.Runs,
		)
	}
	return query
}

// sampled is how many rows of a table tell of the size of all.
const sampled = 64

// EstimateBytes gives about how many bytes the cells of a table's rows hold,
// numbers not counted: by some rows from the lowest rowid to the highest, since
// to know it each page would have to be read. 0 where it can't be told.
func (s *Snapshot) EstimateBytes(ctx context.Context, table string, rows int64) (bytes int64, err error) {
	rowID, err := s.rowID(ctx, table)
	if err != nil {
		return 0, err
	}
	cells := make([]string, len(s.tables[table]))
	for i, c := range s.tables[table] {
		cells[i] = fmt.Sprintf("iif(typeof(%[1]s) IN ('text', 'blob'), octet_length(%[1]s), 0)", quote(c))
	}
	size := fmt.Sprintf("SELECT avg(%s) FROM %s", strings.Join(append(cells, "0"), " + "), quote(table))
	query := fmt.Sprintf(
		`WITH RECURSIVE sampled_at(n, low, high) AS (SELECT 0, (SELECT min(%[3]s) FROM %[4]s), (SELECT max(%[3]s) FROM %[4]s)
			UNION ALL SELECT n + 1, low, high FROM sampled_at WHERE n < %[1]d)
		%[2]s WHERE %[3]s IN (SELECT (SELECT %[3]s FROM %[4]s WHERE %[3]s >= CAST(a.low + (1.0 * a.high - a.low) * a.n / %[1]d AS INTEGER)
			ORDER BY %[3]s LIMIT 1) FROM sampled_at a)`,
		sampled-1,
		size,
		rowID,
		quote(table),
	)
	if strings.HasPrefix(rowID, "row_number") { // by which no row is found
		query = strings.Replace(
			size,
			"FROM "+quote(table),
			fmt.Sprintf("FROM (SELECT * FROM %s LIMIT %d)", quote(table), sampled),
			1,
		)
	}
	err = s.each(ctx, query, func(row []mapping.Value) { bytes = int64(row[0].Real * float64(rows)) })
	if isOf(err, sqlite3.SQLITE_ERROR) { // a table of so many columns that SQLite does not add them up
		return 0, nil
	}
	return bytes, err
}

// VectorSizes counts the vectors of memories by their length in bytes.
func (s *Snapshot) VectorSizes(ctx context.Context) (map[int64]int64, error) {
	sizes := map[int64]int64{}
	err := s.each(ctx, "SELECT length(vector), count(*) FROM memories WHERE typeof(vector) = 'blob' GROUP BY 1",
		func(row []mapping.Value) { sizes[row[0].Int] = row[1].Int })
	return sizes, err
}
