package merge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/receipt"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sink"
	"flujo-port/internal/sqltext"
)

// State is what a transaction knows of the rows in the target's tables. It is read once,
// each merge changes it by the rows that it removed and added, and Check compares it with
// the tables at the end. So the cost of a merge does not depend on the rows that it does
// not touch.
type State struct {
	Receipts receipt.Receipts // of the files whose rows the tables hold; merges append theirs
	tables   map[string]*tableState
	units    map[string]int64 // number of units, by kind
	staging  *sink.Loader     // the staging tables of the merges; nil before the first
}

// tableState describes the rows of a table.
type tableState struct {
	rows   map[int64]int64 // number of rows, by the transaction that wrote them
	digest string          // of all rows; "" if it is not known
	// rewritten are the transactions as which rows of earlier writers are stored, since this
	// transaction changed the type of a column.
	rewritten []int64
}

// ReadState returns the state of the target's tables. The digest of a table is known if
// no row was written since the last receipt that has it.
func ReadState(ctx context.Context, target sink.Loader, receipts receipt.Receipts) (*State, error) {
	s := &State{Receipts: receipts, tables: map[string]*tableState{}, units: map[string]int64{}}
	var current int64
	if err := target.Tx.QueryRow(ctx, "SELECT pg_current_xact_id()::xid::text::bigint").Scan(&current); err != nil {
		return nil, target.Tx.WrapError("read the transaction's id", err)
	}
	keys := map[string][]string{} // selects the keys of units, by kind
	for _, table := range target.Schema.Tables() {
		rows, err := writersOf(ctx, target, &table)
		if err != nil {
			return nil, err
		}
		t := &tableState{rows: rows}
		if last := receipts.Last().Table(table.Name); last != nil && last.Rows == t.count() &&
			slices.Equal(slices.Sorted(maps.Keys(rows)), last.Writers) {
			t.digest = last.Digest
		}
		known := receipts.Writers(table.Name)
		for w := range rows {
			if w >= current && known[w] == nil {
				t.rewritten = append(t.rewritten, w)
			}
		}
		s.tables[table.Name] = t
		kind, key := table.Unit()
		keys[kind] = append(keys[kind], fmt.Sprintf("SELECT %s FROM %s",
			sqltext.Ident(key), target.Tx.Name(table.Name)))
	}
	for kind, selects := range keys {
		var n int64
		query := "SELECT count(*) FROM (" + strings.Join(selects, " UNION ") + ") keys"
		if err := target.Tx.QueryRow(ctx, query).Scan(&n); err != nil {
			return nil, target.Tx.WrapError("count the runs, keys and memories", err)
		}
		s.units[kind] = n
	}
	return s, nil
}

// writersOf returns the number of rows of a table by the transaction that wrote them.
func writersOf(ctx context.Context, target sink.Loader, table *mapping.Table) (map[int64]int64, error) {
	stored, err := load.Snapshot(ctx, target)
	if err != nil {
		return nil, err
	}
	return stored.CountByWriter(ctx, table)
}

// count returns the number of rows.
func (t *tableState) count() (n int64) {
	for _, rows := range t.rows {
		n += rows
	}
	return n
}

// change removes and adds rows. removed holds the number of rows by writer, and the
// digests are those of the rows.
func (t *tableState) change(removed map[int64]int64, without, with rowdigest.Digest, writer int64) {
	for w, n := range removed {
		if t.rows[w] -= n; t.rows[w] == 0 {
			delete(t.rows, w)
		}
	}
	if with.Rows > 0 {
		t.rows[writer] += with.Rows
	}
	if t.digest != "" {
		t.digest = rowdigest.Digest{Sum: t.digest}.Minus(without).Plus(with).Sum
	}
}

// clone returns a copy of what restore restores. Receipts are not changed, but replaced.
func (s *State) clone() *State {
	copied := &State{Receipts: s.Receipts, tables: map[string]*tableState{}}
	for name, t := range s.tables {
		copied.tables[name] = &tableState{
			rows: maps.Clone(t.rows), digest: t.digest, rewritten: slices.Clone(t.rewritten)}
	}
	return copied
}

// restore makes the state that of the copy.
func (s *State) restore(copied *State) {
	s.Receipts = copied.Receipts
	for name, t := range copied.tables {
		*s.tables[name] = *t
	}
}

// Close drops the staging tables after the last merge.
func (s *State) Close(ctx context.Context) error {
	if s.staging == nil {
		return nil
	}
	return s.staging.DropStaging(ctx, helpers)
}

// Check compares the numbers of rows and their writers with the tables. If they differ,
// something else than the merges changed rows, and the error is a clierr.Mismatch.
func (s *State) Check(ctx context.Context, target sink.Loader) error {
	var wrong []string
	for _, table := range target.Schema.Tables() {
		rows, err := writersOf(ctx, target, &table)
		if err != nil {
			return err
		}
		if want := s.tables[table.Name]; !maps.Equal(rows, want.rows) {
			have := tableState{rows: rows}
			wrong = append(wrong, fmt.Sprintf("%s (%d rows instead of %d, or others)",
				table.Name, have.count(), want.count()))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Mismatch,
		Message: "rows that were not merged changed in PostgreSQL: " + strings.Join(wrong, ", "),
		Hint:    load.ChangedRowsHint,
	}
}

// digest returns the digest of a table's rows; its Sum is "" if it is not known.
func (s *State) digest(table string) rowdigest.Digest {
	t := s.tables[table]
	return rowdigest.Digest{Rows: t.count(), Sum: t.digest}
}
