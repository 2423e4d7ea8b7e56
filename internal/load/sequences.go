package load

import (
	"context"
	"fmt"
	"math"

	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
)

// Sequences is what SetSequences did.
type Sequences struct {
	Widened []string // columns that were changed to bigint for the next id, as table.column
	Notes   []string
}

// SetSequences sets each sequence past the last allocated id of the file, of the
// stored rows and of allocated, which may be nil and is by table. So an id in an
// audit trail is not allocated twice, even if its row was deleted. It tries an insert
// if possible.
func SetSequences(
	ctx context.Context,
	into sink.Loader,
	snapshot *source.Snapshot,
	format *mapping.Format,
	allocated map[string]int64,
	dryRun bool,
) (s Sequences, err error) {
	for i := range format.Mappings {
		tm := &format.Mappings[i]
		if tm.Table.Serial() == "" {
			continue
		}
		last, err := extract.LastID(ctx, snapshot, tm)
		if err != nil {
			return s, err
		}
		stored, err := into.Tx.LastID(ctx, tm.Table) // may be higher if some ids in the file are not integers
		if err != nil {
			return s, err
		}
		last = max(last, stored, allocated[tm.Table.Name], 0)
		name := tm.Table.Name + "." + tm.Table.Serial()
		if last >= math.MaxInt32 && !into.Schema.Types.Wide[name] {
			if err := into.Widen(ctx, tm.Table, tm.Table.Serial()); err != nil {
				return s, err
			}
			s.Widened = append(s.Widened, name)
		}
		next := last
		if next < math.MaxInt64 {
			next++
		} else {
			s.Notes = append(s.Notes, fmt.Sprintf(
				"%s has the highest possible id: inserts without an id fail, as in SQLite", tm.Table.Name))
		}
		free := next > last
		tried, err := into.Tx.SetSequence(ctx, tm.Table, next, free)
		if err != nil {
			return s, err
		}
		if free && !tried && dryRun {
			s.Notes = append(s.Notes, fmt.Sprintf(
				"%s: Flujo's next insert was not tried, because another role owns the sequence "+
					"and a rollback would not undo it; the migration tries it before the commit", tm.Table.Name))
		}
	}
	return s, nil
}
