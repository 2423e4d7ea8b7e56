package transfer

import (
	"context"
	"errors"
	"io"
	"slices"

	"flujo-port/internal/mapping"
)

// rowReader gives rows one after the other, a rowid and columns, io.EOF after
// the last. A row is good until the next call.
type rowReader interface {
	Next() ([]mapping.Value, error)
}

// tuples makes tuples of rows. It implements sink.Tuples.
type tuples struct {
	converter *mapping.Converter
	rows      rowReader
	read      int64 // rows so far
	aside     int64 // of these, rows without a place
	each      func(read int64)
	changed   func(row []mapping.Value) // called for a row that does not arrive as it was; may be nil
	again     func()                    // called when the rows are to be read once more; may be nil
}

// Append implements sink.Tuples: rows without a place are passed over.
func (t *tuples) Append(dst []byte) ([]byte, error) {
	for {
		row, err := t.rows.Next()
		if err != nil {
			return dst, err
		}
		out, placed, err := t.converter.Append(dst, row)
		if err != nil {
			return dst, err
		}
		t.read++
		if t.changed != nil && len(t.converter.Changes()) > 0 {
			t.changed(row)
		}
		t.each(t.read)
		if placed {
			return out, nil
		}
		t.aside++
	}
}

// load streams rows into a table, and again from the start where a column had
// to be made bigint for them; done.again is called before each new start.
func (m *migration) load(ctx context.Context, converter *mapping.Converter, open func() (rowReader, error), done *tuples) (sent int64, err error) {
	for {
		if err := m.tx.Savepoint(ctx); err != nil {
			return 0, err
		}
		rows, err := open()
		if err != nil {
			return 0, err
		}
		t := *done
		t.converter, t.rows = converter, rows
		sent, err := m.tx.Copy(ctx, converter.Plan.Table, converter.Plan.Target(), &t)
		if c, ok := rows.(io.Closer); ok {
			err = errors.Join(err, c.Close())
		}
		wide, ok := errors.AsType[*mapping.WidenError](err)
		switch {
		case err == nil:
			done.read, done.aside = t.read, t.aside
			return sent, m.tx.Release(ctx)
		case !ok:
			return sent, err
		}
		if err := m.tx.RollbackTo(ctx); err != nil {
			return 0, err
		}
		if err := m.widen(ctx, converter.Plan.Table, wide.Column); err != nil {
			return 0, err
		}
		converter.Naive, converter.Rounded = nil, nil
		if done.again != nil {
			done.again()
		}
	}
}

// widen makes a column bigint, once.
func (m *migration) widen(ctx context.Context, table *mapping.Table, column string) error {
	name := table.Name + "." + column
	if m.schema.Types.Wide[name] {
		return nil
	}
	if !slices.Contains(m.report.Widened, name) {
		m.report.Widened = append(m.report.Widened, name)
	}
	return m.tx.Widen(ctx, m.schema, table, column)
}

// converter makes the converter for a plan.
func (m *migration) converter(ctx context.Context, plan *mapping.Plan) *mapping.Converter {
	return &mapping.Converter{
		Plan: plan, Options: m.convert, Types: m.schema.Types, Aside: m.aside[plan.Table.Name],
		Witness: func(table, column string, row []mapping.Value) (mapping.Time, string, error) {
			return m.witness(ctx, plan, table, column, row)
		},
	}
}
