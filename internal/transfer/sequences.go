package transfer

import (
	"cmp"
	"context"
	"math"

	"flujo-port/internal/mapping"
)

// setSequences makes the next id free, also where the file's highest was
// deleted: an id in an audit trail is not allocated twice. An insert on trial
// sees that it is.
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
		stored, err := m.tx.LastID(ctx, tm.Table) // where the file's ids are not all integers
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
				"%s: Flujo's next insert was not tried, because another role owns the sequence and a rollback would not undo it; "+
					"the migration tries it before the commit",
				tm.Table.Name)
		}
	}
	return nil
}

// lastID gives the highest id that the file has allocated in a table; 0 where
// it has none.
func (r *extraction) lastID(ctx context.Context, tm *mapping.TableMapping) (int64, error) {
	if !tm.InFile {
		return 0, nil
	}
	return r.snapshot.LastID(ctx, tm.Table.Name, cmp.Or(tm.KeyColumn(), "rowid"))
}
