package transfer

import (
	"cmp"
	"context"
	"math"

	"flujo-port/internal/mapping"
)

// setSequences sets each sequence past the last allocated id, also if that row was
// deleted, so that an id in an audit trail is not allocated twice. It tries an
// insert if possible.
func (m *migration) setSequences(ctx context.Context) error {
	for i := range m.format.Mappings {
		tm := &m.format.Mappings[i]
		if tm.Table.Serial() == "" {
			continue
		}
		last, err := m.lastID(ctx, tm)
		if err != nil {
			return err
		}
		stored, err := m.tx.LastID(ctx, tm.Table) // may be higher if some ids in the file are not integers
		if err != nil {
			return err
		}
		if m.merger != nil {
			last = max(last, m.merger.lastAllocated[tm.Table.Name])
		}
		if last = max(last, stored); last >= math.MaxInt32 {
			if err := m.widen(ctx, tm.Table, tm.Table.Serial()); err != nil {
				return err
			}
		}
		next := max(last, 0)
		if next < math.MaxInt64 {
			next++
		} else {
			m.note("%s has the highest possible id: inserts without an id fail, as in SQLite", tm.Table.Name)
		}
		free := next > last
		tried, err := m.tx.SetSequence(ctx, tm.Table, next, free)
		if err != nil {
			return err
		}
		if free && !tried && m.DryRun {
			m.note(
				"%s: Flujo's next insert was not tried, because another role owns the sequence "+
					"and a rollback would not undo it; the migration tries it before the commit",
				tm.Table.Name)
		}
	}
	return nil
}

// lastID returns the last allocated id of a table in the file, or 0 if there is
// none.
func (r *extraction) lastID(ctx context.Context, tm *mapping.TableMapping) (int64, error) {
	if !tm.InFile {
		return 0, nil
	}
	return r.snapshot.LastID(ctx, tm.Table.Name, cmp.Or(tm.KeyColumn(), "rowid"))
}
