package transfer

import (
	"cmp"
	"context"
	"math"
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
		var last int64
		if plan.InFile {
			var err error
			if last, err = m.snapshot.LastID(ctx, plan.Table.Name, cmp.Or(plan.KeyColumn(), "rowid")); err != nil {
				return err
			}
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
