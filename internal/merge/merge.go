// Package merge merges a state file into tables that hold rows, unit by unit, in one
// transaction. A unit is a run with all of its rows in all tables, or a row of a table
// that does not belong to runs. Each unit is taken as a whole from the side that
// wrote it last.
package merge

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"

	"github.com/dustin/go-humanize/english"
)

// Merged is a merge that was run.
type Merged struct {
	// Loaded is what was loaded into the staging tables; nil if an error occurred
	// before.
	Loaded *load.Loaded
	// Staged is the result of comparing the staging tables with the file; nil if an
	// error occurred before.
	Staged    *load.Verified
	Report    *report.Merge
	Originals int64 // number of original values that were added to the target
	// Allocated holds the last allocated id of each sequence of the target, by table.
	Allocated map[string]int64

	tables         *tables
	earlierWriters map[string]map[int64]bool // the transactions that wrote rows before the merge, by table
	marks          map[string]receipt.Merged // the merge's part of the receipt, by table
}

// Run loads the file into staging tables, verifies them, and then takes each unit from
// the side that wrote it last. into must be adapted to the types that the file needs.
//
// If the options do not permit what was found in the file, or the staging tables
// differ from it, Run returns what was found and the error of load.Rows or
// load.Loaded.Verify.
func Run(
	ctx context.Context,
	into sink.Loader,
	snapshot *source.Snapshot,
	config extract.Config,
	o load.Options,
) (*Merged, error) {
	t, err := newTables(ctx, into)
	if err != nil {
		return nil, err
	}
	m := &Merged{tables: t, Report: &report.Merge{Renumbered: []report.Renumbered{}}, Allocated: map[string]int64{}}
	if err := m.loadStaging(ctx, extract.New(snapshot, config), o); err != nil {
		return m, err
	}
	o.OnProgress.Start(progress.Merge)
	for _, name := range m.Loaded.File.Findings.Widened {
		table, column, _ := strings.Cut(name, ".")
		if err := into.Widen(ctx, mapping.TableOf(table), column); err != nil {
			return nil, err
		}
	}
	if m.Report.Units, err = t.decide(ctx, config.WrittenAt); err != nil {
		return nil, err
	}
	for _, table := range into.Schema.Tables() {
		if table.Serial() == "" {
			continue
		}
		if err := m.renumber(ctx, snapshot, config.Format.Mapping(table.Name)); err != nil {
			return nil, err
		}
	}
	if m.earlierWriters, err = writersOf(ctx, into); err != nil {
		return nil, err
	}
	m.Originals, err = t.apply(ctx)
	return m, err
}

// loadStaging loads the file into the staging tables and verifies them.
func (m *Merged) loadStaging(ctx context.Context, file *extract.Extraction, o load.Options) (err error) {
	if m.Loaded, err = load.Rows(ctx, file, m.tables.staging, o); err != nil {
		return err
	}
	o.OnProgress.Start(progress.Verify)
	stored, err := load.Snapshot(ctx, m.tables.staging)
	if err != nil {
		return err
	}
	if m.Staged, err = m.Loaded.Verify(ctx, stored, o); err != nil {
		return err
	}
	m.marks = map[string]receipt.Merged{}
	for _, v := range m.Staged.Tables {
		m.marks[v.Name] = receipt.Merged{FileRows: v.Stored.Rows, FileDigest: v.Stored.Sum}
	}
	return nil
}

// renumber assigns new ids to rows of the file whose id is used by a row that remains
// in the target. The new ids are greater than any id that either side allocated. The
// column is widened to bigint if they require it.
func (m *Merged) renumber(ctx context.Context, snapshot *source.Snapshot, tm *mapping.TableMapping) error {
	table := tm.Table
	last, err := m.lastAllocatedID(ctx, snapshot, tm)
	if err != nil {
		return err
	}
	n, err := m.tables.renumber(ctx, table, last)
	if err != nil || n == 0 {
		return err
	}
	into, staging := m.tables.target, m.tables.staging
	if name := table.Name + "." + table.Serial(); last+n > math.MaxInt32 && !into.Schema.Types.Wide[name] {
		m.Loaded.File.Findings.Widened = append(m.Loaded.File.Findings.Widened, name)
		for _, side := range []sink.Loader{staging, into} {
			if err := side.Widen(ctx, table, table.Serial()); err != nil {
				return err
			}
		}
	}
	mark := m.marks[table.Name]
	mark.FirstNew = last + 1
	m.marks[table.Name] = mark
	m.Report.Renumbered = append(m.Report.Renumbered, report.Renumbered{Table: table.Name, Rows: n, First: last + 1})
	return nil
}

// lastAllocatedID returns the highest id that either side has or has allocated.
func (m *Merged) lastAllocatedID(
	ctx context.Context,
	snapshot *source.Snapshot,
	tm *mapping.TableMapping,
) (last int64, err error) {
	if last, err = extract.LastID(ctx, snapshot, tm); err != nil {
		return 0, err
	}
	into := m.tables.target.Tx
	allocated, known, err := into.LastAllocated(ctx, tm.Table)
	if err != nil {
		return 0, err
	}
	if !known {
		return 0, &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("role %q may not read the sequence of table %q", into.Server.Role, tm.Table.Name),
			Hint:    "grant it SELECT on the sequence; a column without a sequence must be made a serial column",
		}
	}
	m.Allocated[tm.Table.Name] = allocated
	last = max(last, allocated)
	for _, side := range []*sink.Tx{into, m.tables.staging.Tx} {
		id, err := side.LastID(ctx, tm.Table)
		if err != nil {
			return 0, err
		}
		last = max(last, id)
	}
	return last, nil
}

// writersOf returns, by table, which transactions wrote the rows of a schema.
func writersOf(ctx context.Context, into sink.Loader) (map[string]map[int64]bool, error) {
	stored, err := load.Snapshot(ctx, into)
	if err != nil {
		return nil, err
	}
	all := map[string]map[int64]bool{}
	for _, table := range into.Schema.Tables() {
		writers, err := stored.Writers(ctx, &table)
		if err != nil {
			return nil, err
		}
		all[table.Name] = map[int64]bool{}
		for _, w := range writers {
			all[table.Name][w] = true
		}
	}
	return all, nil
}

// Verify verifies that the target has the decided version of every unit, returns the
// digests of its tables, and drops the staging tables. If a unit differs, the error is
// a clierr.Mismatch.
func (m *Merged) Verify(ctx context.Context) (*load.Verified, error) {
	wrong, first, err := m.tables.check(ctx)
	if err != nil {
		return nil, err
	}
	if wrong > 0 {
		return nil, &clierr.Error{
			Kind: clierr.Mismatch,
			Message: fmt.Sprintf("%s from the merged version; first: %s",
				english.Plural(int(wrong),
					"run, key or memory in PostgreSQL differs", "runs, keys or memories in PostgreSQL differ"),
				strings.Join(first, ", ")),
			Hint: load.ChangedRowsHint,
		}
	}
	stored, err := load.Snapshot(ctx, m.tables.target)
	if err != nil {
		return nil, err
	}
	v := &load.Verified{Notes: m.Staged.Notes}
	for _, staged := range m.Staged.Tables {
		digest, err := stored.Digest(ctx, mapping.TableOf(staged.Name))
		if err != nil {
			return nil, err
		}
		v.Tables = append(v.Tables, load.VerifiedTable{Name: staged.Name, Stored: digest, Match: true})
	}
	return v, m.tables.drop(ctx)
}

// Complete returns the receipt of a merge, given that of a migration. A table's
// writers are the transactions of this merge and those of earlier migrations whose
// rows were not changed. last is the previous receipt, or nil.
func (m *Merged) Complete(r receipt.Receipt, last *receipt.Receipt) *receipt.Receipt {
	r.Options.Merged = true
	r.Tables = slices.Clone(r.Tables)
	for i, t := range r.Tables {
		r.Tables[i] = m.completeTable(t, last)
	}
	return &r
}

func (m *Merged) completeTable(t receipt.Table, last *receipt.Receipt) receipt.Table {
	earlier := map[int64]bool{}
	if last != nil {
		for _, w := range last.Table(t.Name).Writers {
			earlier[w] = true
		}
	}
	mark := m.marks[t.Name]
	mark.Writers = []int64{}
	all := t.Writers
	t.Writers = []int64{}
	for _, w := range all {
		if !m.earlierWriters[t.Name][w] {
			mark.Writers = append(mark.Writers, w)
		} else if !earlier[w] {
			continue
		}
		t.Writers = append(t.Writers, w)
	}
	t.Merged = &mark
	return t
}
