package transfer

import (
	"context"
	"errors"
	"math"
	"slices"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
)

// rowReader reads rows: a rowid followed by the columns.
type rowReader interface {
	// Next returns the next row, or io.EOF after the last. The row is valid until
	// the next call of Next or Close.
	Next() ([]sqlite.Value, error)
	Close()
}

// tuples converts rows to tuples. It implements sink.Tuples.
type tuples struct {
	converter *mapping.Converter
	rows      rowReader
	read      int64 // rows read so far
	rejected  int64 // rejected rows so far
	bytes     int64 // size of the rows so far, by sizeOf
	onRow     func(read, bytes int64)
	onChange  func(row []sqlite.Value) // called for a row that is changed or rejected; may be nil
	onRetry   func()                   // called before the rows are read again; may be nil
	digest    *mapping.Digest          // of the tuples; may be nil
	derived   bool                     // the rows are not in the file
	rowID     *int64                   // set to the rowid of each tuple's row, or to noRow
}

// Append implements sink.Tuples. It skips rejected rows.
func (t *tuples) Append(dst []byte) ([]byte, error) {
	for {
		row, err := t.rows.Next()
		if err != nil {
			return dst, err
		}
		out, accepted, err := t.converter.Append(dst, row)
		if err != nil {
			return dst, err
		}
		t.read++
		t.bytes += sizeOf(row)
		if t.onChange != nil && len(t.converter.Changes()) > 0 {
			t.onChange(row)
		}
		t.onRow(t.read, t.bytes)
		if accepted {
			if *t.rowID = row[0].Int; t.derived {
				*t.rowID = noRow
			}
			if t.digest != nil {
				t.digest.Add(out[len(dst):])
			}
			return out, nil
		}
		t.rejected++
	}
}

// noRow is the rowid of a row that the file does not have. It is SQLite's lowest
// rowid, which SQLite never allocates.
const noRow = math.MinInt64

// sizeOf returns the size of a row's texts and blobs in bytes, which approximates
// the row's size in the file.
func sizeOf(row []sqlite.Value) (n int64) {
	for i := range row {
		n += int64(len(row[i].Bytes))
	}
	return n
}

// load loads rows into a table and returns the size of their tuples in bytes. If
// a column must be widened to bigint, it widens the column, calls done.onRetry
// and starts again.
func (r *extraction) load(
	ctx context.Context,
	converter *mapping.Converter,
	open func() (rowReader, error),
	done *tuples,
) (sent int64, err error) {
	table := converter.Mapping.Table
	for {
		rows, err := open()
		if err != nil {
			return 0, err
		}
		t := *done
		t.converter, t.rows, t.rowID = converter, rows, &r.rowID
		if r.withDigest {
			t.digest = mapping.NewDigest(table)
		}
		sent, err := r.dst.Copy(ctx, table, &t)
		rows.Close()
		wide, ok := errors.AsType[*mapping.WidenError](err)
		switch {
		case err == nil:
			done.read, done.rejected = t.read, t.rejected
			r.addDigest(table.Name, t.digest)
			return sent, nil
		case !ok:
			return sent, err
		}
		if err := r.widen(ctx, table, wide.Column); err != nil {
			return 0, err
		}
		converter.Naive, converter.Rounded = nil, nil
		if done.onRetry != nil {
			done.onRetry()
		}
	}
}

// addDigest adds the digest of a part of a table's rows.
func (r *extraction) addDigest(table string, d *mapping.Digest) {
	switch {
	case d == nil:
	case r.digests[table] == nil:
		r.digests[table] = d
	default:
		r.digests[table].Join(d)
	}
}

// widen changes a column to bigint, if it is not.
func (r *extraction) widen(ctx context.Context, table *mapping.Table, column string) error {
	name := table.Name + "." + column
	if r.types.Wide[name] {
		return nil
	}
	if !slices.Contains(r.findings.Widened, name) {
		r.findings.Widened = append(r.findings.Widened, name)
	}
	return r.dst.Widen(ctx, table, column)
}

// converter returns the converter for a table mapping.
func (r *extraction) converter(ctx context.Context, tm *mapping.TableMapping) *mapping.Converter {
	return &mapping.Converter{
		Mapping: tm, Options: r.options, Types: r.types, Rejected: r.duplicates[tm.Table.Name],
		InferTime: func(table, column string, row []sqlite.Value) (mapping.Time, string, error) {
			return r.inferTime(ctx, tm, table, column, row)
		},
	}
}
