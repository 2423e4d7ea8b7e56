package source

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"

	sqlite3 "modernc.org/sqlite/lib"
)

// sameAs returns the SQL that compares a column with the first parameter,
// storage class included. Otherwise SQLite would convert by the column's
// declared type, and '5' would equal 5, or compare by the column's collation.
func sameAs(column string) string {
	name := sqltext.Ident(column)
	return name + " = ?1 COLLATE BINARY AND typeof(" + name + ") = typeof(?1)"
}

// Values returns the values of a column in the rows whose key column holds key,
// of the same storage class. It returns none if the file does not have the
// table or the columns. The caller owns the bytes.
func (s *Snapshot) Values(
	ctx context.Context,
	table, column, keyColumn string,
	key sqlite.Value,
) (values []sqlite.Value, err error) {
	if !s.has(table, column) || !s.has(table, keyColumn) {
		return nil, nil
	}
	query := fmt.Sprintf(
		"SELECT %s FROM %s WHERE %s",
		stored([]string{column}),
		sqltext.Ident(table),
		sameAs(keyColumn),
	)
	err = s.each(ctx, query, func(row []sqlite.Value) {
		v := row[0]
		v.Bytes = slices.Clone(v.Bytes)
		values = append(values, v)
	}, key)
	return values, err
}

// Holds reports whether a column holds the value, of the same storage class, in
// any row. It reports false if the file does not have the column.
func (s *Snapshot) Holds(ctx context.Context, table, column string, value sqlite.Value) (found bool, err error) {
	if !s.has(table, column) {
		return false, nil
	}
	query := fmt.Sprintf("SELECT 1 FROM %s WHERE %s LIMIT 1", sqltext.Ident(table), sameAs(column))
	err = s.each(ctx, query, func([]sqlite.Value) { found = true }, value)
	return found, err
}

// CountWhere returns the number of rows in which a column holds the value, of
// the same storage class. It returns 0 if the file does not have the table or
// the column.
func (s *Snapshot) CountWhere(ctx context.Context, table, column string, value sqlite.Value) (n int64, err error) {
	if !s.has(table, column) {
		return 0, nil
	}
	query := fmt.Sprintf("SELECT count(*) FROM %s WHERE %s", sqltext.Ident(table), sameAs(column))
	err = s.each(ctx, query, func(row []sqlite.Value) { n = row[0].Int }, value)
	return n, err
}

// Row returns the named columns of the first row whose key column holds key, of
// the same storage class, or nil if there is none. Columns that the file does
// not have are NULL. The caller owns the bytes.
func (s *Snapshot) Row(
	ctx context.Context,
	table, keyColumn string,
	key sqlite.Value,
	columns []string,
) (found []sqlite.Value, err error) {
	if !s.has(table, keyColumn) {
		return nil, nil
	}
	return s.firstRow(ctx, table, columns, sameAs(keyColumn), key)
}

// RowAt returns the named columns of the row with the given rowid, or nil, as
// Row does.
func (s *Snapshot) RowAt(ctx context.Context, table string, rowid int64, columns []string) ([]sqlite.Value, error) {
	name, err := s.rowID(ctx, table)
	if err != nil {
		return nil, err
	}
	return s.firstRow(ctx, table, columns, name+" = ?1", sqlite.IntegerValue(rowid))
}

func (s *Snapshot) firstRow(
	ctx context.Context,
	table string,
	columns []string,
	where string,
	key sqlite.Value,
) (found []sqlite.Value, err error) {
	query := fmt.Sprintf(
		"SELECT %s FROM %s WHERE %s LIMIT 1",
		s.storedOrNull(table, columns),
		sqltext.Ident(table),
		where,
	)
	err = s.each(ctx, query, func(row []sqlite.Value) {
		for _, v := range row {
			v.Bytes = slices.Clone(v.Bytes)
			found = append(found, v)
		}
	}, key)
	return found, err
}

// Keys returns the rowid and key of every row of a table, in no particular
// order. The caller closes the Rows.
func (s *Snapshot) Keys(ctx context.Context, table, column string) (*Rows, error) {
	rowID, err := s.rowID(ctx, table)
	if err != nil {
		return nil, err
	}
	query := fmt.Sprintf("SELECT %s, %s FROM %s", rowID, stored([]string{column}), sqltext.Ident(table))
	if rowID == inScanOrder {
		query += " NOT INDEXED"
	}
	return s.query(ctx, query)
}

// KeyKind is what SQLite guarantees of a key column.
type KeyKind int

// The kinds of keys.
const (
	FreeKey   KeyKind = iota // nothing: two rows may have the same key
	UniqueKey                // no two rows have the same value and storage class, except for NULL
	RowIDKey                 // the key is the rowid: an integer, unique, never NULL
)

// KeyKind returns what the table's declaration guarantees of a column.
func (s *Snapshot) KeyKind(ctx context.Context, table, column string) (kind KeyKind, err error) {
	keys := 0
	// A primary key that is the rowid has no index. Not every INTEGER PRIMARY KEY
	// is the rowid: those of WITHOUT ROWID tables and with DESC are not.
	err = s.each(
		ctx,
		`SELECT name, (SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk')
		FROM pragma_table_info(?1) WHERE pk > 0`,
		func(row []sqlite.Value) {
			if keys++; sqlite.FoldName(string(row[0].Bytes)) != sqlite.FoldName(column) {
				return
			}
			if kind = UniqueKey; row[1].Int == 0 {
				kind = RowIDKey
			}
		},
		sqlite.TextValue(table),
	)
	if err != nil || keys > 1 {
		return FreeKey, err
	}
	return kind, nil
}

// MissingRuns returns the run_ids, each once, that rows of the given tables
// have and no row of runs has, as values of their storage class. They are in
// SQLite's order, except that reals come last. The caller closes the Rows.
func (s *Snapshot) MissingRuns(ctx context.Context, children []string) (*Rows, error) {
	return s.query(ctx, s.missingRunsSQL(children))
}

func (s *Snapshot) missingRunsSQL(children []string) string {
	// UNION treats 5 and 5.0 as equal, but they are two keys here, so reals are
	// read separately. Numbers come before all text, so run_id < '' selects them
	// by an index on run_id.
	query := s.missingRunsPart(children, "typeof(run_id) <> 'real'") + " UNION ALL "
	return query + s.missingRunsPart(children, "run_id < '' AND typeof(run_id) = 'real'")
}

func (s *Snapshot) missingRunsPart(children []string, condition string) string {
	parts := make([]string, len(children))
	for i, table := range children { // DISTINCT, since there is no UNION for a single table
		parts[i] = fmt.Sprintf(
			"SELECT DISTINCT run_id COLLATE BINARY AS run_id FROM %s WHERE %s",
			sqltext.Ident(table),
			condition,
		)
	}
	query := fmt.Sprintf("SELECT +run_id FROM (%s ORDER BY 1) c", strings.Join(parts, " UNION "))
	if _, ok := s.schema.tables[mapping.Runs]; ok {
		query += fmt.Sprintf(` WHERE NOT EXISTS (SELECT 1 FROM %s r
			WHERE r.run_id = c.run_id COLLATE BINARY AND typeof(r.run_id) = typeof(c.run_id))`, mapping.Runs)
	}
	return query
}

// sampled is the number of rows from which EstimateBytes estimates the size of
// a table.
const sampled = 64

var (
	cellBytes = sqltext.New(`iif(typeof({{ident .cell}}) IN ('text', 'blob'), octet_length({{ident .cell}}), 0)`)

	// averageOfRows averages the rows at even distances from the lowest rowid to the
	// highest.
	averageOfRows = sqltext.New(`WITH RECURSIVE sampled_at(n, low, high) AS (
	SELECT 0, (SELECT min({{.rowID}}) FROM {{ident .table}}), (SELECT max({{.rowID}}) FROM {{ident .table}})
	UNION ALL SELECT n + 1, low, high FROM sampled_at WHERE n < {{.last}})
SELECT avg({{.bytes}}) FROM {{ident .table}} WHERE {{.rowID}} IN (SELECT (SELECT {{.rowID}} FROM {{ident .table}}
	WHERE {{.rowID}} >= CAST(a.low + (1.0 * a.high - a.low) * a.n / {{.last}} AS INTEGER)
	ORDER BY {{.rowID}} LIMIT 1) FROM sampled_at a)`)

	// averageOfFirst averages the first rows of a table without rowids.
	averageOfFirst = sqltext.New(
		`SELECT avg(bytes) FROM (SELECT {{.bytes}} AS bytes FROM {{ident .table}} LIMIT {{.last}} + 1)`)
)

// EstimateBytes returns the approximate number of bytes in the text and blob
// cells of a table with the given number of rows, or 0 if it cannot tell. It
// averages rows at even distances from the lowest rowid to the highest, since
// reading every page would take too long.
func (s *Snapshot) EstimateBytes(ctx context.Context, table string, rows int64) (bytes int64, err error) {
	rowID, err := s.rowID(ctx, table)
	if err != nil {
		return 0, err
	}
	cells := make([]string, len(s.schema.tables[table]))
	for i, c := range s.schema.tables[table] {
		cells[i] = cellBytes.Fill(sqltext.Parts{"cell": c})
	}
	average := averageOfRows
	if strings.HasPrefix(rowID, "row_number") { // a row number, which cannot be searched for
		average = averageOfFirst
	}
	query := average.Fill(sqltext.Parts{
		"rowID": rowID, "table": table, "last": sampled - 1, "bytes": strings.Join(append(cells, "0"), " + "),
	})
	err = s.each(ctx, query, func(row []sqlite.Value) { bytes = int64(row[0].Real * float64(rows)) })
	if isOf(err, sqlite3.SQLITE_ERROR) { // more columns than SQLite allows in one expression
		return 0, nil
	}
	return bytes, err
}

// VectorSizes returns the number of vectors in memories by their length in
// bytes.
func (s *Snapshot) VectorSizes(ctx context.Context) (map[int64]int64, error) {
	sizes := map[int64]int64{}
	err := s.each(ctx, "SELECT length(vector), count(*) FROM memories WHERE typeof(vector) = 'blob' GROUP BY 1",
		func(row []sqlite.Value) { sizes[row[0].Int] = row[1].Int })
	return sizes, err
}
