package restore

import (
	"context"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/sqlite"

	"github.com/dustin/go-humanize"
)

// originals describe the original values in the database.
type originals struct {
	tables map[string]bool // tables that have original values
	left   int64           // original values that were not restored yet
}

// loadOriginals copies the original values from PostgreSQL to a temporary table of the
// new file.
func (r *restoration) loadOriginals(ctx context.Context) (*originals, error) {
	if err := r.file.CreateOriginals(ctx); err != nil {
		return nil, err
	}
	all := &originals{tables: map[string]bool{}}
	inFile := r.idsInFile()
	err := r.stored.Originals(ctx, func(o postgres.Original) error {
		if r.options.FromReceipt != 0 {
			if o.Receipt != r.migrated.ID {
				return nil
			}
			o.Key = keyInFile(o, inFile[o.Table])
		}
		all.tables[o.Table] = true
		all.left++
		r.expectInferred(o)
		return r.file.AddOriginal(ctx, o.Receipt, o.Table, o.Key, o.RowID, o.Column, o.Reason, o.Value)
	})
	if err != nil {
		return nil, err
	}
	return all, r.file.IndexOriginals(ctx)
}

// idsInFile returns the ranges that lead to the ids in the file of the receipt that is
// restored, by table. Without such a receipt there are none.
func (r *restoration) idsInFile() map[string]receipt.IDRanges {
	all := map[string]receipt.IDRanges{}
	if r.options.FromReceipt == 0 {
		return all
	}
	for _, t := range r.migrated.Tables {
		if t.Merged != nil {
			all[t.Name] = t.Merged.IDs.Inverted()
		}
	}
	return all
}

// keyInFile returns the key of an original value's row in the file. inFile leads from the
// ids in PostgreSQL to those in the file. Keys of rows that were not taken, or rejected,
// are those of the file, and smaller than any of inFile.
func keyInFile(o postgres.Original, inFile receipt.IDRanges) string {
	id, err := strconv.ParseInt(o.Key, 10, 64)
	if len(inFile) == 0 || err != nil {
		return o.Key
	}
	id, _ = inFile.StoredID(id)
	return strconv.FormatInt(id, 10)
}

// restoreOriginals sets cells of row, which has not changed since the migration with the
// given receipt, to their original values, and returns the number of these cells.
func (r *restoration) restoreOriginals(
	ctx context.Context,
	receipt int64,
	table *mapping.Table,
	key string,
	row []sqlite.Value,
) (n int64, err error) {
	err = r.file.OriginalsOf(ctx, table.Name, key, func(originals OriginalCells) error {
		if originals.Receipt != receipt || isRejectedRow(table, originals) {
			return nil // they belong to a rejected row, or another file's, with the same key
		}
		for i, c := range table.FileColumns() {
			original, ok := originals.Values[c.Name]
			switch {
			case !ok:
			case c.Preserves(original):
				row[i] = original
				n++
			}
		}
		return nil
	})
	return n, err
}

// isRejectedRow reports whether the original values are those of a rejected row.
func isRejectedRow(table *mapping.Table, originals OriginalCells) bool {
	return table.IsRejectedRow(slices.Collect(maps.Keys(originals.Values)), originals.Common)
}

// restoreRejected writes the rows that PostgreSQL rejected, unchanged. Rows that
// Flujo's SQLite tables reject too remain in the table of originals.
func (r *restoration) restoreRejected(ctx context.Context, row *report.RestoredTable, all *originals) error {
	if !all.tables[row.Name] {
		return nil
	}
	table := mapping.TableOf(row.Name)
	columns := table.FileColumns()
	values := make([]sqlite.Value, len(columns))
	return r.file.Originals(ctx, row.Name, func(originals OriginalCells) error {
		if !isRejectedRow(table, originals) {
			return nil
		}
		fits := true
		for i, c := range columns {
			values[i] = originals.Values[c.Name]
			fits = fits && c.Preserves(values[i])
		}
		for name, v := range originals.Values {
			if v.Class != sqlite.Null &&
				!slices.ContainsFunc(columns, func(c mapping.FileColumn) bool { return c.Name == name }) {
				r.result.Note(
					"%s.%s has no column in Flujo's SQLite file; its values remain in %s",
					row.Name,
					name,
					mapping.Originals.Name,
				)
			}
		}
		var err error
		if fits {
			err = r.file.Insert(ctx, table, values)
		}
		if !fits || clierr.KindOf(err) == clierr.Refused {
			r.result.Warn("a row of %s that PostgreSQL rejected cannot be stored in Flujo's SQLite file either; "+
				"it remains in %s (source_rowid %d)", row.Name, mapping.Originals.Name, originals.RowID)
			return nil
		}
		row.Rejected++
		all.left -= int64(len(originals.Values))
		// It may be accepted now, if the row with the same key was deleted.
		r.expected.rejectedRow(row.Name, originals.Key)
		return err
	})
}

// noteLeft adds the number of original values that were not restored.
func (r *restoration) noteLeft(all *originals) {
	left := all.left
	for _, row := range r.result.Tables {
		left -= row.Originals
	}
	if left > 0 {
		r.result.Note(
			"original values that remain in %s: %s (of rows that were rejected or may have been written after the "+
				"migration, or that Flujo's SQLite file would not store unchanged)",
			mapping.Originals.Name, humanize.Comma(left))
	}
}

// isDerived reports whether a trace equals the one that Flujo's SQLite backend
// derives from the run's spans, which are in the file already. Such a trace is not
// written.
// cells are those of the trace's encoding.
func (r *restoration) isDerived(ctx context.Context, cells [][]byte, all *originals) (bool, error) {
	trace := &mapping.Trace{Options: r.conversion}
	add := func(row []sqlite.Value) error { trace.Add(row); return nil }
	err := r.file.Spans(ctx, sqlite.Value{Class: sqlite.Text, Bytes: cells[0]}, add)
	if err == nil && trace.Len() == 0 && all.tables[mapping.Runs] { // the original run_id may differ
		err = r.file.OriginalsOf(ctx, mapping.Runs, string(cells[0]), func(originals OriginalCells) error {
			if run, ok := originals.Values["run_id"]; ok {
				return r.file.Spans(ctx, run, add)
			}
			return nil
		})
	}
	if err != nil || !trace.IsStored(cells) {
		return false, err
	}
	if trace.CreatedAt().Class == sqlite.Null { // no span has a created_at
		r.expected.inferredTime(mapping.Traces, string(cells[0]), "created_at")
	}
	return true, nil
}

// expectInferred expects a difference in the cell of an original value, if its
// timestamp was inferred.
func (r *restoration) expectInferred(o postgres.Original) {
	if strings.Contains(o.Reason, mapping.TimeInferred.String()) {
		r.expected.inferredTime(o.Table, o.Key, o.Column)
	}
}

// cellHash returns a hash that identifies a cell, or a row if column is "".
func cellHash(table, key, column string) uint64 {
	h := fnv.New64a()
	for _, part := range []string{table, key, column} {
		io.WriteString(h, part)
		h.Write([]byte{0})
	}
	return h.Sum64()
}
