package transfer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"

	"github.com/dustin/go-humanize/english"
)

// merger is the state of a migration that merges into a target with rows. Its
// maps are by table.
type merger struct {
	tables         *sink.Merge
	lastAllocated  map[string]int64              // the highest id that the sequence has allocated
	earlierWriters map[string]map[int64]bool     // the transactions that wrote rows before the merge
	marks          map[string]report.MergedTable // the merge's part of the receipt
}

// mergeUnits loads the file into staging tables, verifies them, and then takes
// each unit (a run, a key of system_state, a memory) from the side that wrote it
// last.
func (m *migration) mergeUnits(ctx context.Context) (err error) {
	g := m.merger
	if g.tables, err = m.tx.BeginMerge(ctx, m.sinkSchema); err != nil {
		return err
	}
	if err := m.loadStaging(ctx); err != nil {
		return err
	}
	m.startPhase(PhaseMerge)
	for _, name := range m.findings.Widened {
		table, column, _ := strings.Cut(name, ".")
		if err := m.dst.Widen(ctx, m.format.Mapping(table).Table, column); err != nil {
			return err
		}
	}
	m.report.Merge = &report.Merge{Renumbered: []report.Renumbered{}}
	if m.report.Merge.Units, err = g.tables.Decide(ctx, m.modified); err != nil {
		return err
	}
	for i := range m.sinkSchema.Tables() {
		if table := &m.sinkSchema.Tables()[i]; table.Serial() != "" {
			if err := m.renumber(ctx, table); err != nil {
				return err
			}
		}
	}
	if err := m.recordWriters(ctx); err != nil {
		return err
	}
	if err := g.tables.Apply(ctx); err != nil {
		return err
	}
	m.report.Originals = g.tables.Originals
	return nil
}

// loadStaging loads the file into the staging tables and verifies them.
func (m *migration) loadStaging(ctx context.Context) error {
	staging := *m
	staging.tx, staging.sinkSchema, staging.merger = m.merger.tables.Staging, m.merger.tables.StagingSchema, nil
	m.dst = target{Tx: staging.tx, sinkSchema: staging.sinkSchema}
	if err := m.extractAll(ctx); err != nil {
		return err
	}
	if err := staging.checkFindings(ctx); err != nil {
		return err
	}
	m.startPhase(PhaseVerify)
	if err := staging.verifyRows(ctx); err != nil {
		return err
	}
	m.dst = target{Tx: m.tx, sinkSchema: m.sinkSchema}
	m.merger.marks = map[string]report.MergedTable{}
	for _, row := range m.report.Tables {
		m.merger.marks[row.Name] = report.MergedTable{FileRows: row.InPostgres, FileDigest: row.Digest}
	}
	return nil
}

// renumber assigns new ids to rows of the file whose id is used by a row that
// remains in the target. The new ids are greater than any id that either side
// allocated. The column is widened to bigint if they require it.
func (m *migration) renumber(ctx context.Context, table *mapping.Table) error {
	last, err := m.lastAllocatedID(ctx, table)
	if err != nil {
		return err
	}
	n, err := m.merger.tables.Renumber(ctx, table, last)
	if err != nil || n == 0 {
		return err
	}
	if name := table.Name + "." + table.Serial(); last+n > math.MaxInt32 && !m.types.Wide[name] {
		m.findings.Widened = append(m.findings.Widened, name)
		staging := target{Tx: m.merger.tables.Staging, sinkSchema: m.merger.tables.StagingSchema}
		for _, into := range []target{staging, {Tx: m.tx, sinkSchema: m.sinkSchema}} {
			if err := into.Widen(ctx, table, table.Serial()); err != nil {
				return err
			}
		}
	}
	mark := m.merger.marks[table.Name]
	mark.FirstNew = last + 1
	m.merger.marks[table.Name] = mark
	m.report.Merge.Renumbered = append(
		m.report.Merge.Renumbered,
		report.Renumbered{Table: table.Name, Rows: n, First: last + 1},
	)
	return nil
}

// lastAllocatedID returns the highest id that either side has or has allocated.
func (m *migration) lastAllocatedID(ctx context.Context, table *mapping.Table) (last int64, err error) {
	if tm := m.format.Mapping(table.Name); tm.InFile {
		if last, err = m.snapshot.LastID(ctx, table.Name, cmp.Or(tm.KeyColumn(), "rowid")); err != nil {
			return 0, err
		}
	}
	if m.merger.lastAllocated[table.Name], err = m.tx.LastAllocated(ctx, table); err != nil {
		return 0, err
	}
	last = max(last, m.merger.lastAllocated[table.Name])
	for _, side := range []*sink.Tx{m.tx, m.merger.tables.Staging} {
		id, err := side.LastID(ctx, table)
		if err != nil {
			return 0, err
		}
		last = max(last, id)
	}
	return last, nil
}

// recordWriters records which transactions wrote the rows of the target.
func (m *migration) recordWriters(ctx context.Context) error {
	stored, err := m.stored(ctx)
	if err != nil {
		return err
	}
	m.merger.earlierWriters = map[string]map[int64]bool{}
	for _, table := range m.sinkSchema.Tables() {
		writers, err := stored.Writers(ctx, &table)
		if err != nil {
			return err
		}
		m.merger.earlierWriters[table.Name] = map[int64]bool{}
		for _, w := range writers {
			m.merger.earlierWriters[table.Name][w] = true
		}
	}
	return nil
}

// checkMerge verifies that the target has the decided version of every unit, adds
// the tables' digests to the report, and drops the staging tables.
func (m *migration) checkMerge(ctx context.Context) error {
	wrong, first, err := m.merger.tables.Check(ctx)
	if err != nil {
		return err
	}
	if wrong > 0 {
		return &clierr.Error{
			Kind: clierr.Mismatch,
			Message: fmt.Sprintf("%s from the merged version; first: %s",
				english.Plural(int(wrong),
					"run, key or memory in PostgreSQL differs", "runs, keys or memories in PostgreSQL differ"),
				strings.Join(first, ", ")),
			Hint: changedRowsHint,
		}
	}
	stored, err := m.stored(ctx)
	if err != nil {
		return err
	}
	for i := range m.report.Tables {
		row := &m.report.Tables[i]
		if row.InPostgres, row.Digest, err = stored.Digest(ctx, m.format.Mapping(row.Name).Table); err != nil {
			return err
		}
	}
	return m.merger.tables.Drop(ctx)
}

// tableReceipt completes the receipt of a table that was merged. Its writers are
// the transactions of this merge and those of earlier migrations whose rows were
// not changed. last is the previous receipt, or nil.
func (g *merger) tableReceipt(t report.ReceiptTable, last *report.Receipt) report.ReceiptTable {
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
		if !g.earlierWriters[t.Name][w] {
			mark.Writers = append(mark.Writers, w)
		} else if !earlier[w] {
			continue
		}
		t.Writers = append(t.Writers, w)
	}
	t.Merged = &mark
	return t
}

// mergeReceipt completes the receipt of a merge; without a merge it does nothing.
func (m *migration) mergeReceipt(ctx context.Context, r *report.Receipt) error {
	if m.merger == nil {
		return nil
	}
	last, err := m.tx.LastReceipt(ctx)
	if err != nil {
		return err
	}
	r.Options.Merged = true
	for i, t := range r.Tables {
		r.Tables[i] = m.merger.tableReceipt(t, last)
	}
	return nil
}

// afterMerge classifies a difference between a file and the table that it was
// merged into. An extra row with a new id is not a copy mismatch, since the merge
// assigned the id. t may be nil.
func afterMerge(t *report.ReceiptTable, d report.Difference) report.Difference {
	if t != nil && t.Merged != nil && d.Kind == report.RowExtra && t.Merged.IsNew(d.Key) {
		d.Since = true
	}
	return d
}

// copyWriters returns the transactions whose rows must equal the file's.
func copyWriters(t *report.ReceiptTable) []int64 {
	if t.Merged != nil {
		return t.Merged.Writers
	}
	return t.Writers
}
