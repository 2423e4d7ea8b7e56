package transfer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"

	"github.com/dustin/go-humanize/english"
)

// merging is what a migration does whose target holds rows that are to stay
// where they were written last.
type merging struct {
	sides  *sink.Merge
	handed map[string]int64              // by table, the highest id that its sequence has handed out
	before map[string]map[int64]bool     // by table, the transactions that wrote its rows, but for this one
	marks  map[string]report.MergedTable // by table, what the receipt says of the merge
}

// merge loads the file into tables beside the target's and compares them with
// the file, as a migration does with the target's, then takes each run, each
// key of system_state and each memory from the side that wrote it last.
func (m *migration) merge(ctx context.Context) (err error) {
	g := m.merging
	if g.sides, err = m.tx.BeginMerge(ctx, m.schema); err != nil {
		return err
	}
	if err := m.loadBeside(ctx); err != nil {
		return err
	}
	m.begin(PhaseMerge)
	for _, name := range m.found.Widened {
		table, column, _ := strings.Cut(name, ".")
		if err := m.into.Widen(ctx, m.layout.Plan(table).Table, column); err != nil {
			return err
		}
	}
	m.report.Merge = &report.Merge{Renumbered: []report.Renumbered{}}
	if m.report.Merge.Units, err = g.sides.Decide(ctx, m.modified); err != nil {
		return err
	}
	for i := range m.schema.Tables() {
		if table := &m.schema.Tables()[i]; table.Serial() != "" {
			if err := m.renumber(ctx, table); err != nil {
				return err
			}
		}
	}
	if err := m.noteWriters(ctx); err != nil {
		return err
	}
	if err := g.sides.Apply(ctx); err != nil {
		return err
	}
	m.report.Originals = g.sides.Originals
	return nil
}

// loadBeside reads the file into the tables beside the target's and compares
// them with it.
func (m *migration) loadBeside(ctx context.Context) error {
	beside := *m
	beside.tx, beside.schema, beside.merging = m.merging.sides.Beside, m.merging.sides.BesideSchema, nil
	m.into = target{Tx: beside.tx, schema: beside.schema}
	if err := m.all(ctx); err != nil {
		return err
	}
	if err := beside.judge(ctx); err != nil {
		return err
	}
	m.begin(PhaseVerify)
	if err := beside.verify(ctx); err != nil {
		return err
	}
	m.into = target{Tx: m.tx, schema: m.schema}
	m.merging.marks = map[string]report.MergedTable{}
	for _, row := range m.report.Tables {
		m.merging.marks[row.Name] = report.MergedTable{FileRows: row.InPostgres, FileDigest: row.Digest}
	}
	return nil
}

// renumber gives new ids to rows whose id a row of the target has that stays,
// past all that either side ever handed out. Where they need it the column is
// made bigint.
func (m *migration) renumber(ctx context.Context, table *mapping.Table) error {
	last, err := m.lastOf(ctx, table)
	if err != nil {
		return err
	}
	n, err := m.merging.sides.Renumber(ctx, table, last)
	if err != nil || n == 0 {
		return err
	}
	if name := table.Name + "." + table.Serial(); last+n > math.MaxInt32 && !m.types.Wide[name] {
		m.found.Widened = append(m.found.Widened, name)
		for _, into := range []target{{Tx: m.merging.sides.Beside, schema: m.merging.sides.BesideSchema}, {Tx: m.tx, schema: m.schema}} {
			if err := into.Widen(ctx, table, table.Serial()); err != nil {
				return err
			}
		}
	}
	mark := m.merging.marks[table.Name]
	mark.FirstNew = last + 1
	m.merging.marks[table.Name] = mark
	m.report.Merge.Renumbered = append(m.report.Merge.Renumbered, report.Renumbered{Table: table.Name, Rows: n, First: last + 1})
	return nil
}

// lastOf gives the highest id that either side has, or has handed out.
func (m *migration) lastOf(ctx context.Context, table *mapping.Table) (last int64, err error) {
	if plan := m.layout.Plan(table.Name); plan.InFile {
		if last, err = m.snapshot.LastID(ctx, table.Name, cmp.Or(plan.KeyColumn(), "rowid")); err != nil {
			return 0, err
		}
	}
	if m.merging.handed[table.Name], err = m.tx.Handed(ctx, table); err != nil {
		return 0, err
	}
	last = max(last, m.merging.handed[table.Name])
	for _, side := range []*sink.Tx{m.tx, m.merging.sides.Beside} {
		id, err := side.LastID(ctx, table)
		if err != nil {
			return 0, err
		}
		last = max(last, id)
	}
	return last, nil
}

// noteWriters remembers which transactions wrote the rows that are there.
func (m *migration) noteWriters(ctx context.Context) error {
	stored, err := m.stored(ctx)
	if err != nil {
		return err
	}
	m.merging.before = map[string]map[int64]bool{}
	for _, table := range m.schema.Tables() {
		writers, err := stored.Writers(ctx, &table)
		if err != nil {
			return err
		}
		m.merging.before[table.Name] = map[int64]bool{}
		for _, w := range writers {
			m.merging.before[table.Name][w] = true
		}
	}
	return nil
}

// checkMerge sees that the target has of every unit what was decided, and
// describes its tables. What was merged from goes.
func (m *migration) checkMerge(ctx context.Context) error {
	wrong, first, err := m.merging.sides.Check(ctx)
	if err != nil {
		return err
	}
	if wrong > 0 {
		return &fault.Error{
			Kind: fault.Different,
			What: fmt.Sprintf("%s in PostgreSQL not as the side that it was taken from has it, the first: %s",
				english.Plural(int(wrong), "run, key or memory is", "runs, keys or memories are"), strings.Join(first, ", ")),
			Do: "look for triggers, rules or whatever else changes rows on their way into these tables, and run again",
		}
	}
	stored, err := m.stored(ctx)
	if err != nil {
		return err
	}
	for i := range m.report.Tables {
		row := &m.report.Tables[i]
		if row.InPostgres, row.Digest, err = stored.Digest(ctx, m.layout.Plan(row.Name).Table); err != nil {
			return err
		}
	}
	return m.merging.sides.Drop(ctx)
}

// merged makes what the receipt says of a table that was merged. Its writers
// are those of rows that the file or one that was migrated before gave, and
// that nobody changed since.
func (g *merging) merged(t report.ReceiptTable, last *report.Receipt) report.ReceiptTable {
	earlier := map[int64]bool{}
	if last != nil {
		for _, w := range receiptTable(last, t.Name).Writers {
			earlier[w] = true
		}
	}
	mark := g.marks[t.Name]
	mark.Writers = []int64{}
	all := t.Writers
	t.Writers = []int64{}
	for _, w := range all {
		if !g.before[t.Name][w] {
			mark.Writers = append(mark.Writers, w)
		} else if !earlier[w] {
			continue
		}
		t.Writers = append(t.Writers, w)
	}
	t.Merged = &mark
	return t
}

// mergeReceipt makes a receipt that of a merge.
func (m *migration) mergeReceipt(ctx context.Context, r *report.Receipt) error {
	if m.merging == nil {
		return nil
	}
	last, err := m.tx.LastReceipt(ctx)
	if err != nil {
		return err
	}
	r.Options.Merged = true
	for i, t := range r.Tables {
		r.Tables[i] = m.merging.merged(t, last)
	}
	return nil
}

// afterMerge says of a difference between a file and a table that it was merged
// into what that means: a row that the merge wrote, under the id that it has in
// the file, has to be as it is there; every other may be PostgreSQL's own, or
// have got a new id.
func afterMerge(t *report.ReceiptTable, d report.Difference) report.Difference {
	if t != nil && t.Merged != nil && d.Kind == report.RowExtra && t.Merged.IsNew(d.Key) {
		d.Since = true
	}
	return d
}

// copyWriters gives the transactions whose rows have to be as the file has
// them.
func copyWriters(t *report.ReceiptTable) []int64 {
	if t.Merged != nil {
		return t.Merged.Writers
	}
	return t.Writers
}
