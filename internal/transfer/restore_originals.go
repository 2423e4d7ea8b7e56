package transfer

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"

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
		r.kept++
		r.expectGuess(o)
		return r.file.Keep(ctx, o.Table, o.Key, o.RowID, o.Column, o.Reason, o.Value)
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
			switch {
			case !ok:
			case c.Keeps(original):
				row[i] = original
				n++
			}
		}
		return nil
	})
	return n, err
}

// isWhole reports whether the originals are those of a row that had no place.
func isWhole(table *mapping.Table, kept sink.Cells) bool {
	return table.IsWhole(slices.Collect(maps.Keys(kept.Values)), kept.Common)
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
		fits := true
		for i, c := range columns {
			values[i] = kept.Values[c.Name]
			fits = fits && c.Keeps(values[i])
		}
		for name, v := range kept.Values {
			if v.Class != mapping.Null && !slices.ContainsFunc(columns, func(c mapping.FileColumn) bool { return c.Name == name }) {
				r.note("%s.%s has no place in Flujo's SQLite file; it is in %s", row.Name, name, mapping.Originals.Name)
			}
		}
		var err error
		if fits {
			err = r.file.Insert(ctx, table, values)
		}
		if !fits || fault.KindOf(err) == fault.Refused {
			r.report.Warnings = append(r.report.Warnings, fmt.Sprintf("a row of %s that had no place in PostgreSQL has none in Flujo's SQLite file either: it is in %s, with source_rowid %d",
				row.Name, mapping.Originals.Name, kept.RowID))
			return nil
		}
		row.SetAside++
		r.kept -= int64(len(kept.Values))
		// It may have a place by now, when the one that had its key is gone.
		r.asides[cellHash(row.Name, kept.Key, "")] = true
		return err
	})
}

func (r *restoration) warn(format string, args ...any) {
	r.report.Warnings = append(r.report.Warnings, fmt.Sprintf(format, args...))
}

// noteLeft says how many originals did not go back.
func (r *restoration) noteLeft() {
	left := r.kept
	for _, row := range r.report.Tables {
		left -= row.Originals
	}
	if left > 0 {
		r.note("%d originals stay in %s: their rows were written after the migration (or it can't be told), had no place, or Flujo's SQLite file would not keep them as they were",
			left, mapping.Originals.Name)
	}
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
	add := func(row []mapping.Value) error { trace.Add(row); return nil }
	err := r.file.Spans(ctx, mapping.Value{Class: mapping.Text, Bytes: cells[0]}, add)
	if err == nil && trace.Len() == 0 && r.originals[mapping.Runs] { // they may have gone back to another run_id
		err = r.file.KeptOf(ctx, mapping.Runs, string(cells[0]), func(kept sink.Cells) error {
			if run, ok := kept.Values["run_id"]; ok {
				return r.file.Spans(ctx, run, add)
			}
			return nil
		})
	}
	if err != nil || !trace.IsStored(cells) {
		return false, err
	}
	if trace.CreatedAt().Class == mapping.Null { // no span tells when
		r.guesses[cellHash(mapping.Traces, string(cells[0]), "created_at")] = true
	}
	return true, nil
}

// expectGuess takes note of a time that goes back to a text that tells none: it
// is guessed from other rows, which may say something else by now.
func (r *restoration) expectGuess(o source.Original) {
	if strings.Contains(o.Reason, mapping.GuessedTime.String()) {
		r.guesses[cellHash(o.Table, o.Key, o.Column)] = true
	}
}

// cellHash stands for a cell in a set of many.
func cellHash(table, key, column string) uint64 {
	h := fnv.New64a()
	for _, part := range []string{table, key, column} {
		io.WriteString(h, part)
		h.Write([]byte{0})
	}
	return h.Sum64()
}
