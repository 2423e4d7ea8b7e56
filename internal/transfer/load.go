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
	rejected  int64 // of these, rejected rows
	bytes     int64 // of the texts and blobs of the rows so far
	onRow     func(read, bytes int64)
	onChange  func(row []mapping.Value) // called for a row that does not arrive as it was; may be nil
	onRetry   func()                    // called when the rows are to be read once more; may be nil
	digest    *mapping.Digest           // sums the tuples up; may be nil
	derived   bool                      // the rows are none of the file's
	rowID     *int64                    // where the rowid of the row that a tuple is of goes; noRow for a derived one
}

// Append implements sink.Tuples: rejected rows are passed over.
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

// noRow stands for the rowid of a row that the file does not have. SQLite has it
// too, as the least of all, which nothing allocates.
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

// addDigest adds the digest of some of a table's rows.
func (r *extraction) addDigest(table string, d *mapping.Digest) {
	switch {
	case d == nil:
	case r.digests[table] == nil:
		r.digests[table] = d
	default:
		r.digests[table].Join(d)
	}
}

// widen makes a column bigint, once.
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

// converter makes the converter for a table mapping.
func (r *extraction) converter(ctx context.Context, tm *mapping.TableMapping) *mapping.Converter {
	return &mapping.Converter{
		Mapping: tm, Options: r.options, Types: r.types, Rejected: r.duplicates[tm.Table.Name],
		InferTime: func(table, column string, row []mapping.Value) (mapping.Time, string, error) {
			return r.inferTime(ctx, tm, table, column, row)
		},
	}
}
