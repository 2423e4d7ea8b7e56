package transfer

import (
	"cmp"
	"context"
	"math"

	"flujo-port/internal/mapping"
)

// setSequences makes the next id free, also where the file's highest was
// deleted: an id in an audit trail is not handed out twice. An insert on trial
// sees that it is.
func (m *migration) setSequences(ctx context.Context) error {
	for i := range m.layout.Plans {
		plan := &m.layout.Plans[i]
		if plan.Table.Serial() == "" {
			continue
		}
		last, err := m.lastID(ctx, plan)
		if err != nil {
			return err
		}
		stored, err := m.tx.LastID(ctx, plan.Table) // where the file's ids are not all integers
		if err != nil {
			return err
		}
		if m.merging != nil {
			last = max(last, m.merging.handed[plan.Table.Name])
		}
		if last = max(last, stored); last >= math.MaxInt32 {
			if err := m.widen(ctx, plan.Table, plan.Table.Serial()); err != nil {
				return err
			}
		}
		next := max(last, 0)
		if next < math.MaxInt64 {
			next++
		} else {
			m.note("%s has the highest id that there is: inserts that ask for the next one fail, as they do in SQLite", plan.Table.Name)
		}
		free := next > last
		tried, err := m.tx.SetSequence(ctx, plan.Table, next, free)
		if err != nil {
			return err
		}
		if free && !tried && m.DryRun {
			m.note("%s: Flujo's next insert was not tried: the sequence belongs to another role, and would not be as it was; the real run tries it right before its commit", plan.Table.Name)
		}
	}
	return nil
}

// lastID gives the highest id that the file has handed out in a table; 0 where
// it has none.
func (r *reading) lastID(ctx context.Context, plan *mapping.Plan) (int64, error) {
	if !plan.InFile {
		return 0, nil
	}
	return r.snapshot.LastID(ctx, plan.Table.Name, cmp.Or(plan.KeyColumn(), "rowid"))
}
