package transfer

import (
	"context"
	"errors"
	"math"
	"slices"

	"flujo-port/internal/mapping"
)

// rowReader gives rows one after the other, a rowid and columns, io.EOF after
// the last. A row is good until the next call, of Close too.
type rowReader interface {
	Next() ([]mapping.Value, error)
	Close()
}

// tuples makes tuples of rows. It implements sink.Tuples.
type tuples struct {
	converter *mapping.Converter
	rows      rowReader
	read      int64 // rows so far
	aside     int64 // of these, rows without a place
	bytes     int64 // of the texts and blobs of the rows so far
	each      func(read, bytes int64)
	changed   func(row []mapping.Value) // called for a row that does not arrive as it was; may be nil
	again     func()                    // called when the rows are to be read once more; may be nil
	digest    *mapping.Digest           // sums the tuples up; may be nil
	derived   bool                      // the rows are none of the file's
	at        *int64                    // where the rowid of the row that a tuple is of goes; noRow for a derived one
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
		t.bytes += sizeOf(row)
		if t.changed != nil && len(t.converter.Changes()) > 0 {
			t.changed(row)
		}
		t.each(t.read, t.bytes)
		if placed {
			if *t.at = row[0].Int; t.derived {
				*t.at = noRow
			}
			if t.digest != nil {
				t.digest.Add(out[len(dst):])
			}
			return out, nil
		}
		t.aside++
	}
}

// noRow stands for the rowid of a row that the file does not have. SQLite has it
// too, as the least of all, which nothing hands out.
const noRow = math.MinInt64

// sizeOf gives how many bytes the texts and blobs of a row have: about what it
// takes in the file.
func sizeOf(row []mapping.Value) (n int64) {
	for i := range row {
		n += int64(len(row[i].Bytes))
	}
	return n
}

// load reads rows into a table, and again from the start where a column had to
// be made bigint for them; done.again is called before each new start.
func (r *reading) load(ctx context.Context, converter *mapping.Converter, open func() (rowReader, error), done *tuples) (sent int64, err error) {
	table := converter.Plan.Table
	for {
		rows, err := open()
		if err != nil {
			return 0, err
		}
		t := *done
		t.converter, t.rows, t.at = converter, rows, &r.at
		if r.digest {
			t.digest = mapping.NewDigest(table)
		}
		sent, err := r.into.Copy(ctx, table, &t)
		rows.Close()
		wide, ok := errors.AsType[*mapping.WidenError](err)
		switch {
		case err == nil:
			done.read, done.aside = t.read, t.aside
			r.sum(table.Name, t.digest)
			return sent, nil
		case !ok:
			return sent, err
		}
		if err := r.widen(ctx, table, wide.Column); err != nil {
			return 0, err
		}
		converter.Naive, converter.Rounded = nil, nil
		if done.again != nil {
			done.again()
		}
	}
}

// sum adds the digest of some of a table's rows.
func (r *reading) sum(table string, d *mapping.Digest) {
	switch {
	case d == nil:
	case r.digests[table] == nil:
		r.digests[table] = d
	default:
		r.digests[table].Join(d)
	}
}

// widen makes a column bigint, once.
func (r *reading) widen(ctx context.Context, table *mapping.Table, column string) error {
	name := table.Name + "." + column
	if r.types.Wide[name] {
		return nil
	}
	if !slices.Contains(r.found.Widened, name) {
		r.found.Widened = append(r.found.Widened, name)
	}
	return r.into.Widen(ctx, table, column)
}

// converter makes the converter for a plan.
func (r *reading) converter(ctx context.Context, plan *mapping.Plan) *mapping.Converter {
	return &mapping.Converter{
		Plan: plan, Options: r.convert, Types: r.types, Aside: r.aside[plan.Table.Name],
		Witness: func(table, column string, row []mapping.Value) (mapping.Time, string, error) {
			return r.witness(ctx, plan, table, column, row)
		},
	}
}
