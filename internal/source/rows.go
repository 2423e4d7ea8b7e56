package source

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"strings"
	"unsafe"

	"flujo-port/internal/mapping"
)

// Rows is a running query. Its values are what is stored, by storage class:
// a column's declared type has no say, since each is read as an expression.
type Rows struct {
	ctx  context.Context
	s    *Snapshot
	rows driver.Rows
	dest []driver.Value
	row  []mapping.Value
	done bool // a statement that is stepped after its end begins anew
	shut bool
}

// Rows reads the named columns of all rows of a table, in the order of their
// rowids. The caller closes it.
func (s *Snapshot) Rows(ctx context.Context, table string, columns []string) (*Rows, error) {
	return s.query(ctx, fmt.Sprintf("SELECT %s FROM %s NOT INDEXED", stored(columns), quote(table)))
}

// SpansWithoutTrace reads the named columns of the spans whose run has no row
// in traces, run by run, within a run in the order of their rowids. The caller
// closes it.
func (s *Snapshot) SpansWithoutTrace(ctx context.Context, columns []string) (*Rows, error) {
	return s.query(ctx, s.spansWithoutTrace(columns))
}

func (s *Snapshot) spansWithoutTrace(columns []string) string {
	query := fmt.Sprintf("SELECT %s FROM %s s", stored(columns), mapping.Spans)
	if _, ok := s.tables[mapping.Traces]; ok {
		query += fmt.Sprintf(" WHERE NOT EXISTS (SELECT 1 FROM %s t WHERE t.run_id = s.run_id)", mapping.Traces)
	}
	return query + " ORDER BY s.run_id, s.rowid"
}

// stored lists the columns so that modernc's driver hands over what is stored:
// the unary plus takes the declared type away, by which it would make times of
// DATETIME columns.
func stored(columns []string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = "+" + quote(c)
	}
	return strings.Join(parts, ", ")
}

func (s *Snapshot) query(ctx context.Context, query string) (*Rows, error) {
	rows, err := s.conn.(driver.QueryerContext).QueryContext(ctx, query, nil)
	if err != nil {
		return nil, s.fault("read", err)
	}
	n := len(rows.Columns())
	return &Rows{ctx: ctx, s: s, rows: rows, dest: make([]driver.Value, n), row: make([]mapping.Value, n)}, nil
}

// Next gives the next row, io.EOF after the last. The row and its bytes are
// the Rows' own and good until the next call.
func (r *Rows) Next() ([]mapping.Value, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if r.done {
		return nil, io.EOF
	}
	if err := r.rows.Next(r.dest); err != nil {
		r.done = true
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, r.s.fault("read", err)
	}
	for i, v := range r.dest {
		switch v := v.(type) {
		case nil:
			r.row[i] = mapping.Value{}
		case int64:
			r.row[i] = mapping.IntegerValue(v)
		case float64:
			r.row[i] = mapping.RealValue(v)
		case string:
			// The driver made the string for this row; its bytes are only read.
			r.row[i] = mapping.Value{Class: mapping.Text, Bytes: unsafe.Slice(unsafe.StringData(v), len(v))}
		case []byte:
			r.row[i] = mapping.BlobValue(v)
		default:
			return nil, fmt.Errorf("read %q: the driver gave a %T, which is none of SQLite's storage classes", r.s.path, v)
		}
	}
	return r.row, nil
}

// Close ends the query. A second one does nothing: the driver would free its
// memory twice.
func (r *Rows) Close() error {
	if r.shut {
		return nil
	}
	r.done, r.shut = true, true
	return r.rows.Close()
}
