// Package merge merges a state file into tables that hold rows, unit by unit, in one
// transaction. A unit is a run with all of its rows in all tables, or a row of a table
// that does not belong to runs. Each unit is taken as a whole from the side that
// wrote it last.
package merge

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
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

	tables  *tables
	state   *State
	applied applied
	marks   map[string]receipt.Merged // the merge's part of the receipt, by table

	direct  map[string]bool // tables of which all rows went directly to the target; nil if there are none
	widened map[string]bool // columns of the target that were made bigint for these rows
	runs    int64           // runs that went directly to the target
}

// Options are the options of Run.
type Options struct {
	load.Options
	// NeedIndexes creates the indexes and foreign keys of the target's tables. It is called
	// before the first query that needs them. It may be nil if they exist.
	NeedIndexes func(context.Context) error
}

// Run loads the file into staging tables, verifies them, and then takes each unit from
// the side that wrote it last. into must be adapted to the types that the file needs, and
// state is that of its tables. The cost depends on the file, and not on the other rows.
//
// If the options do not permit what was found in the file, or the staging tables
// differ from it, Run returns what was found and the error of load.Rows or
// load.Loaded.Verify.
func Run(
	ctx context.Context,
	into sink.Loader,
	snapshot *source.Snapshot,
	config extract.Config,
	state *State,
	o Options,
) (*Merged, error) {
	into.Tx.WritesInSavepoints()
	t, err := newTables(ctx, into, state, config.Receipt)
	if err != nil {
		return nil, err
	}
	m := &Merged{
		tables:    t,
		state:     state,
		Report:    &report.Merge{Renumbered: []report.Renumbered{}},
		Allocated: map[string]int64{},
	}
	if err := m.load(ctx, snapshot, config, o.Options); err != nil {
		return m, err
	}
	if m.direct == nil && o.NeedIndexes != nil {
		if err := o.NeedIndexes(ctx); err != nil {
			return nil, err
		}
	}
	o.OnProgress.Start(progress.Merge)
	for _, name := range m.Loaded.File.Findings.Widened {
		if m.widened[name] {
			continue
		}
		table, column, _ := strings.Cut(name, ".")
		if err := m.widen(ctx, mapping.TableOf(table), column); err != nil {
			return nil, err
		}
	}
	if m.Report.Units, err = t.decide(ctx, config.WrittenAt); err != nil {
		return nil, err
	}
	for _, table := range into.Schema.Tables() {
		if table.Serial() == "" || m.direct[table.Name] {
			continue
		}
		if err := m.renumber(ctx, snapshot, config.Format.Mapping(table.Name)); err != nil {
			return nil, err
		}
	}
	m.addAlone()
	ids := map[string]receipt.IDRanges{}
	for table, mark := range m.marks {
		ids[table] = mark.IDs
	}
	m.applied, err = t.apply(ctx, ids)
	m.Originals = m.applied.originals
	return m, err
}

// addAlone adds the units that only the target has to the report.
func (m *Merged) addAlone() {
	for i := range m.Report.Units {
		u := &m.Report.Units[i]
		if u.Kind == mapping.Runs {
			u.Added += m.runs
		}
		u.Alone = m.state.units[u.Kind] - u.Equal - u.Kept - u.TakenOver
		u.Kept += u.Alone
		m.state.units[u.Kind] += u.Added
	}
}

// load loads the file and verifies what was stored. If rows that went directly to the
// target differ from the file, or are of a run that the target has, it loads the file
// again, all of it into the staging tables, which are compared row by row.
func (m *Merged) load(ctx context.Context, snapshot *source.Snapshot, config extract.Config, o load.Options) error {
	const savepoint = "SAVEPOINT flujo_port_direct"
	before, types := m.state.clone(), m.tables.target.Schema.Types.Clone()
	if err := m.tables.run(ctx, "set a savepoint", savepoint); err != nil {
		return err
	}
	equal, err := m.loadInto(ctx, snapshot, config, o, true)
	if err != nil || equal {
		return err
	}
	err = m.tables.run(ctx, "roll back to the savepoint", "ROLLBACK TO flujo_port_direct; RELEASE flujo_port_direct")
	if err != nil {
		return err
	}
	m.state.restore(before)
	m.tables.receipts = before.Receipts
	*m.tables.target.Schema.Types = *types
	m.Report.Renumbered, m.direct, m.widened, m.runs = []report.Renumbered{}, nil, nil, 0
	if m.Loaded != nil {
		o.OnFinding = nil // it was called for all
	}
	_, err = m.loadInto(ctx, snapshot, config, o, false)
	return err
}

// loadInto loads the file, into the staging tables only unless direct is set. It returns
// false if rows that went to the target differ from the file, or had to be merged.
func (m *Merged) loadInto(
	ctx context.Context, snapshot *source.Snapshot, config extract.Config, o load.Options, direct bool,
) (equal bool, err error) {
	m.marks = map[string]receipt.Merged{}
	for _, table := range m.tables.target.Schema.Tables() {
		m.marks[table.Name] = receipt.Merged{Writers: []int64{}, Rewritten: []int64{}, IDs: receipt.IDRanges{},
			EqualIDs: receipt.IDRanges{}}
	}
	l := &loader{
		Merged: m, snapshot: snapshot, format: config.Format, withDigests: config.WithDigests, direct: direct,
		rows: map[string]*directRows{}, widened: map[string]bool{},
	}
	if m.Loaded, err = load.RowsTo(ctx, extract.New(snapshot, config), l, m.tables.staging, o); err != nil {
		if l.direct && postgres.Code(err) == postgres.UniqueViolation {
			return false, nil // the target has a row of a run without a row in runs
		}
		return false, err
	}
	if l.direct {
		if err := l.decide(ctx); err != nil { // the file may have no table but runs
			return false, err
		}
	}
	o.OnProgress.Start(progress.Verify)
	if l.direct {
		o.Elsewhere = map[string]bool{}
		for _, table := range m.tables.target.Schema.Tables() {
			if kind, _ := table.Unit(); kind == mapping.Runs {
				o.Elsewhere[table.Name] = true
			}
		}
		if l.rows[mapping.Runs] != nil && l.withDigests {
			l.addSum(mapping.Runs, m.Loaded.File.Digest(mapping.Runs).Sum)
		}
		if shares, err := l.countRuns(ctx); err != nil || shares {
			return false, err
		}
		m.direct, m.widened = o.Elsewhere, l.widened
		if equal, err := l.verify(ctx); err != nil || !equal {
			return equal, err
		}
	}
	stored, err := load.Snapshot(ctx, m.tables.staging)
	if err != nil {
		return false, err
	}
	if m.Staged, err = m.Loaded.Verify(ctx, stored, o); err != nil {
		return false, err
	}
	for _, v := range m.Staged.Tables {
		mark := m.marks[v.Name]
		mark.FileRows, mark.FileDigest = v.Stored.Rows, v.Stored.Sum
		m.marks[v.Name] = mark
	}
	return true, nil
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
	if err != nil {
		return err
	}
	mark := m.marks[table.Name]
	if mark.IDs, mark.EqualIDs, err = m.tables.ids(ctx, table); err != nil {
		return err
	}
	m.marks[table.Name] = mark
	if n == 0 {
		return nil
	}
	into, staging := m.tables.target, m.tables.staging
	if name := table.Name + "." + table.Serial(); last+n > math.MaxInt32 && !into.Schema.Types.Wide[name] {
		m.Loaded.File.Findings.Widened = append(m.Loaded.File.Findings.Widened, name)
		if err := staging.Widen(ctx, table, table.Serial()); err != nil {
			return err
		}
		if err := m.widen(ctx, table, table.Serial()); err != nil {
			return err
		}
	}
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

// Verify verifies that the target has the decided version of every unit of the file,
// and returns the digests of its tables, as far as they are known. If a unit differs, the
// error is a clierr.Mismatch.
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
	v := &load.Verified{Notes: m.Staged.Notes}
	for _, staged := range m.Staged.Tables {
		removed, added, err := m.tables.changed(ctx, staged.Name)
		if err != nil {
			return nil, err
		}
		m.state.tables[staged.Name].change(m.applied.removed[staged.Name], removed, added, m.applied.writer)
		if mark := m.marks[staged.Name]; added.Rows > 0 {
			mark.Writers = append(mark.Writers, m.applied.writer)
			m.marks[staged.Name] = mark
		}
		stored, taken := m.state.digest(staged.Name), added.Rows
		if m.direct[staged.Name] {
			taken = staged.Stored.Rows
		}
		v.Tables = append(v.Tables, load.VerifiedTable{Name: staged.Name, Stored: stored, Match: true,
			NotStored: staged.Stored.Rows - taken, HeldBefore: stored.Rows - taken})
	}
	return v, nil
}

// Complete returns the receipt of the merge, given that of a migration without its
// tables, and adds it to the state. A table's writers are the transactions of this merge
// and those of earlier migrations whose rows were not changed.
func (m *Merged) Complete(r receipt.Receipt) *receipt.Receipt {
	r.Options.Merged = true
	for _, found := range m.Loaded.File.Findings.Tables {
		mark, stored := m.marks[found.Name], m.state.digest(found.Name)
		mark.Rewritten = append([]int64{}, m.state.tables[found.Name].rewritten...)
		mark.SharedUnits = m.applied.shared[found.Name]
		t := receipt.Table{
			Name: found.Name, RowsRead: found.RowsRead, Rejected: found.Rejected, Derived: found.Derived,
			Rows: stored.Rows, Digest: stored.Sum, Writers: []int64{}, Merged: &mark,
		}
		earlier := m.state.Receipts.Last().Table(found.Name).AllWriters()
		for _, w := range slices.Sorted(maps.Keys(m.state.tables[found.Name].rows)) {
			if earlier[w] || slices.Contains(mark.Writers, w) {
				t.Writers = append(t.Writers, w)
			}
		}
		r.Tables = append(r.Tables, t)
	}
	m.state.Receipts = append(m.state.Receipts, &r)
	return &r
}
