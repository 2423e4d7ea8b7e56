package transfer

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// loadOriginals copies the original values from PostgreSQL to a temporary table of
// the new file.
func (r *restoration) loadOriginals(ctx context.Context) error {
	if err := r.file.CreateOriginals(ctx); err != nil {
		return err
	}
	err := r.stored.Originals(ctx, func(o source.Original) error {
		r.originals[o.Table] = true
		r.originalCount++
		r.expectInferred(o)
		return r.file.AddOriginal(ctx, o.Table, o.Key, o.RowID, o.Column, o.Reason, o.Value)
	})
	if err != nil {
		return err
	}
	return r.file.IndexOriginals(ctx)
}

// restoreOriginals sets cells of row, which has not changed since the migration, to
// their original values, and returns the number of these cells.
func (r *restoration) restoreOriginals(
	ctx context.Context,
	table *mapping.Table,
	key string,
	row []sqlite.Value,
) (n int64, err error) {
	err = r.file.OriginalsOf(ctx, table.Name, key, func(originals sink.OriginalCells) error {
		if isRejectedRow(table, originals) {
			return nil // they belong to a rejected row with the same key
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
func isRejectedRow(table *mapping.Table, originals sink.OriginalCells) bool {
	return table.IsRejectedRow(slices.Collect(maps.Keys(originals.Values)), originals.Common)
}

// restoreRejected writes the rows that PostgreSQL rejected, unchanged. Rows that
// Flujo's SQLite tables reject too remain in the table of originals.
func (r *restoration) restoreRejected(ctx context.Context, row *report.RestoredTable) error {
	if !r.originals[row.Name] {
		return nil
	}
	table := tableOf(row.Name)
	columns := table.FileColumns()
	values := make([]sqlite.Value, len(columns))
	return r.file.Originals(ctx, row.Name, func(originals sink.OriginalCells) error {
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
				r.note(
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
			r.warn("a row of %s that PostgreSQL rejected cannot be stored in Flujo's SQLite file either; "+
				"it remains in %s (source_rowid %d)", row.Name, mapping.Originals.Name, originals.RowID)
			return nil
		}
		row.Rejected++
		r.originalCount -= int64(len(originals.Values))
		// It may be accepted now, if the row with the same key was deleted.
		r.rejectedRows[cellHash(row.Name, originals.Key, "")] = true
		return err
	})
}

func (r *restoration) warn(format string, args ...any) {
	r.report.Warnings = append(r.report.Warnings, fmt.Sprintf(format, args...))
}

// noteLeft adds the number of original values that were not restored.
func (r *restoration) noteLeft() {
	left := r.originalCount
	for _, row := range r.report.Tables {
		left -= row.Originals
	}
	if left > 0 {
		r.note(
			"%d original values remain in %s: their rows were rejected or may have been written after the migration, "+
				"or Flujo's SQLite file would not store them unchanged",
			left, mapping.Originals.Name)
	}
}

func (r *restoration) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if !slices.Contains(r.report.Notes, note) {
		r.report.Notes = append(r.report.Notes, note)
	}
}

// isDerived reports whether a trace equals the one that Flujo's SQLite backend
// derives from the run's spans, which are in the file already. Such a trace is not
// written.
func (r *restoration) isDerived(ctx context.Context, encoding []byte) (bool, error) {
	cells := mapping.Cells(encoding)
	trace := &mapping.Trace{Options: r.mappingOptions}
	add := func(row []sqlite.Value) error { trace.Add(row); return nil }
	err := r.file.Spans(ctx, sqlite.Value{Class: sqlite.Text, Bytes: cells[0]}, add)
	if err == nil && trace.Len() == 0 && r.originals[mapping.Runs] { // the original run_id may differ
		err = r.file.OriginalsOf(ctx, mapping.Runs, string(cells[0]), func(originals sink.OriginalCells) error {
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
		r.inferredTimes[cellHash(mapping.Traces, string(cells[0]), "created_at")] = true
	}
	return true, nil
}

// expectInferred records a cell whose timestamp was inferred. Its original value
// has none, so the verification infers it again from rows that may have changed.
func (r *restoration) expectInferred(o source.Original) {
	if strings.Contains(o.Reason, mapping.TimeInferred.String()) {
		r.inferredTimes[cellHash(o.Table, o.Key, o.Column)] = true
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
