package source

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"
)

// Rows is a running query. Its values are as they are stored, with their
// storage class.
type Rows struct {
	s    *Snapshot
	rows *sqlite.Rows
}

// Rows returns the rowid and the named columns of all rows of a table, in the
// order of their rowids. Rows of a table without rowids are numbered from 1, in
// the order of its primary key. The caller closes the Rows.
func (s *Snapshot) Rows(ctx context.Context, table string, columns []string) (*Rows, error) {
	rowID, err := s.rowID(ctx, table)
	if err != nil {
		return nil, err
	}
	return s.query(ctx, fmt.Sprintf("SELECT %s, %s FROM %s NOT INDEXED", rowID, stored(columns), sqltext.Ident(table)))
}

// inScanOrder numbers rows in the order of their rowids, in a query with NOT
// INDEXED.
const inScanOrder = "row_number() OVER ()"

// rowID returns the SQL expression of a table's rowid. SQLite has three names
// for it, each of which a column may have taken. It is looked up once.
func (s *Snapshot) rowID(ctx context.Context, table string) (expression string, err error) {
	if known, ok := s.rowIDs[table]; ok {
		return known, nil
	}
	defer func() {
		if s.rowIDs == nil {
			s.rowIDs = map[string]string{}
		}
		if err == nil {
			s.rowIDs[table] = expression
		}
	}()
	// The primary key of a table without rowids is an index that sqlite_master
	// does not list.
	var key []string
	err = s.each(
		ctx,
		`SELECT name FROM pragma_table_info(?1) WHERE pk > 0 AND EXISTS (SELECT 1 FROM pragma_index_list(?1)
		WHERE origin = 'pk' AND name NOT IN (SELECT name FROM sqlite_master)) ORDER BY pk`,
		func(row []sqlite.Value) { key = append(key, sqltext.Ident(string(row[0].Bytes))) },
		sqlite.TextValue(table),
	)
	if err != nil {
		return "", err
	}
	columns := slices.Concat(s.schema.tables[table], s.schema.computed[table])
	for _, name := range []string{"rowid", "_rowid_", "oid"} {
		taken := func(column string) bool { return sqlite.FoldName(column) == name }
		if key == nil && !slices.ContainsFunc(columns, taken) {
			return name, nil
		}
	}
	if key == nil {
		return inScanOrder, nil
	}
	return fmt.Sprintf("row_number() OVER (ORDER BY %s)", strings.Join(key, ", ")), nil
}

// SpansWithoutTrace returns the rowid and the named columns of the spans whose
// run, as a value of its storage class, has no row in traces. They are ordered
// by run and within a run by rowid. The caller closes the Rows.
func (s *Snapshot) SpansWithoutTrace(ctx context.Context, columns []string) (*Rows, error) {
	query, err := s.spansWithoutTraceSQL(ctx, columns)
	if err != nil {
		return nil, err
	}
	return s.query(ctx, query)
}

func (s *Snapshot) spansWithoutTraceSQL(ctx context.Context, columns []string) (string, error) {
	rowID, err := s.rowID(ctx, mapping.Spans)
	if err != nil {
		return "", err
	}
	query := fmt.Sprintf("SELECT %s, %s FROM %s s", rowID, s.storedOrNull(mapping.Spans, columns), mapping.Spans)
	if _, ok := s.schema.tables[mapping.Traces]; ok {
		query += fmt.Sprintf(` WHERE NOT EXISTS (SELECT 1 FROM %s t
			WHERE t.run_id = s.run_id COLLATE BINARY AND typeof(t.run_id) = typeof(s.run_id))`, mapping.Traces)
	}
	return query + " ORDER BY s.run_id COLLATE BINARY, 1", nil
}

// stored returns the list of the columns for a SELECT.
func stored(columns []string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = sqltext.Ident(c)
	}
	return strings.Join(parts, ", ")
}

// storedOrNull returns the list of the columns as stored does, with NULL for
// those that the table does not have.
func (s *Snapshot) storedOrNull(table string, columns []string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = "NULL"
		if s.has(table, c) {
			parts[i] = stored([]string{c})
		}
	}
	return strings.Join(parts, ", ")
}

func (s *Snapshot) query(ctx context.Context, query string, args ...sqlite.Value) (*Rows, error) {
	rows, err := s.conn.Query(ctx, query, args...)
	if err != nil {
		return nil, s.wrapError("read", err)
	}
	return &Rows{s: s, rows: rows}, nil
}

// Next returns the next row, or io.EOF after the last. The row and its bytes
// belong to the Rows and are valid until the next call of Next or Close.
func (r *Rows) Next() ([]sqlite.Value, error) {
	row, err := r.rows.Next()
	if err != nil && err != io.EOF {
		return nil, r.s.wrapError("read", err)
	}
	return row, err
}

// Close ends the query. It may be called more than once.
func (r *Rows) Close() { r.rows.Close() }
