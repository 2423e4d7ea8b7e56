package transfer

import (
	"context"
	"fmt"
	"slices"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
)

// keepOriginals takes the originals out of PostgreSQL into a temporary table of
// the new file.
func (r *restoration) keepOriginals(ctx context.Context) error {
	if err := r.file.MakeKept(ctx); err != nil {
		return err
	}
	err := r.stored.Originals(ctx, func(o source.Original) error {
		r.originals[o.Table] = true
		return r.file.Keep(ctx, o.Table, o.Key, o.RowID, o.Column, o.Value)
	})
	if err != nil {
		return err
	}
	return r.file.IndexKept(ctx)
}

// putBack gives cells of a row that has not changed since the migration the
// bytes that they had before, and gives their number.
func (r *restoration) putBack(ctx context.Context, table *mapping.Table, key string, row []mapping.Value) (n int64, err error) {
	err = r.file.KeptOf(ctx, table.Name, key, func(kept sink.Cells) error {
		if isWhole(table, kept) {
			return nil // a row without a place that has the same key
		}
		for i, c := range table.FileColumns() {
			original, ok := kept.Values[c.Name]
			if !ok || original.Class == mapping.Null && i < len(table.Columns) && table.Columns[i].NotNull {
				continue // a time that an older layout did not tell, and this one has to
			}
			row[i] = original
			n++
		}
		return nil
	})
	return n, err
}

// isWhole reports whether the originals are those of a row that had no place:
// all of its cells, and not just those that changed.
func isWhole(table *mapping.Table, kept sink.Cells) bool {
	for _, c := range table.Columns {
		if _, ok := kept.Values[c.Name]; c.NotNull && !ok {
			return false
		}
	}
	return true
}

// putAside writes the rows that had no place in PostgreSQL, as they were. What
// Flujo's SQLite file does not take either stays where it is, in the table of
// originals.
func (r *restoration) putAside(ctx context.Context, row *report.RestoredTable) error {
	if !r.originals[row.Name] {
		return nil
	}
	table := tableOf(row.Name)
	columns := table.FileColumns()
	values := make([]mapping.Value, len(columns))
	return r.file.Kept(ctx, row.Name, func(kept sink.Cells) error {
		if !isWhole(table, kept) {
			return nil
		}
		for i, c := range columns {
			values[i] = kept.Values[c.Name]
		}
		for name, v := range kept.Values {
			if v.Class != mapping.Null && !slices.ContainsFunc(columns, func(c mapping.FileColumn) bool { return c.Name == name }) {
				r.note("%s.%s has no place in Flujo's SQLite file; it is in %s", row.Name, name, mapping.Originals.Name)
			}
		}
		err := r.file.Insert(ctx, table, values)
		if err != nil && fault.KindOf(err) == fault.Refused {
			r.report.Warnings = append(r.report.Warnings, fmt.Sprintf("a row of %s that had no place in PostgreSQL has none in Flujo's SQLite file either: it is in %s, with source_rowid %d",
				row.Name, mapping.Originals.Name, kept.RowID))
			return nil
		}
		row.SetAside++
		return err
	})
}

func (r *restoration) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if !slices.Contains(r.report.Notes, note) {
		r.report.Notes = append(r.report.Notes, note)
	}
}

// isDerived reports whether a trace is what Flujo's SQLite backend makes of the
// run's spans, which are in the file already: then it is not written.
func (r *restoration) isDerived(ctx context.Context, image []byte) (bool, error) {
	cells := mapping.Cells(image)
	trace := &mapping.Trace{Options: r.convert}
	err := r.file.Spans(ctx, mapping.Value{Class: mapping.Text, Bytes: cells[0]}, func(row []mapping.Value) error { trace.Add(row); return nil })
	return err == nil && trace.IsStored(cells), err
}
