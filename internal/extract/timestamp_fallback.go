package extract

import (
	"context"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
)

// inferTime returns a timestamp for a column without one, and where it comes from:
// a column of the same run, or else the file's modification time.
func (e *Extraction) inferTime(
	ctx context.Context,
	tm *mapping.TableMapping,
	table, column string,
	row []sqlite.Value,
) (mapping.Time, string, error) {
	run := tm.Position("run_id")
	for _, t := range mapping.TimestampFallbacks[table+"."+column] {
		if run < 0 {
			break
		}
		values, err := e.fallbackValues(ctx, tm, t, row, row[run])
		if err != nil {
			return mapping.Time{}, "", err
		}
		if at, ok := e.pickTime(values, t.Latest); ok {
			return at, t.Table + "." + t.Column, nil
		}
	}
	return e.config.WrittenAt, "the modification time of the state file", nil
}

// fallbackValues returns the values of a fallback column: the row's own cell for
// its own table, otherwise the cells of all rows of the run.
func (e *Extraction) fallbackValues(
	ctx context.Context,
	tm *mapping.TableMapping,
	t mapping.TimestampFallback,
	row []sqlite.Value,
	run sqlite.Value,
) ([]sqlite.Value, error) {
	if t.Table == tm.Table.Name {
		if at := tm.Position(t.Column); at >= 0 {
			return []sqlite.Value{row[at]}, nil
		}
		return nil, nil
	}
	return e.snapshot.Values(ctx, t.Table, t.Column, "run_id", run)
}

// pickTime returns the earliest or latest of the values that are timestamps. ok is
// false if none is.
func (e *Extraction) pickTime(values []sqlite.Value, latest bool) (best mapping.Time, ok bool) {
	for _, v := range values {
		at, _, readable := e.config.Options.ReadTime(v)
		if readable && (!ok || latest == (at.Micros > best.Micros)) {
			best, ok = at, true
		}
	}
	return best, ok
}
