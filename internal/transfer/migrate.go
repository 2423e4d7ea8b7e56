// Package transfer is the order of things: what a migration does step by step,
// from the file to the committed schema.
package transfer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
	"flujo-port/internal/stateuri"
)

// MigrateOptions says what to move where.
type MigrateOptions struct {
	SQLite          string           // path of the file
	Postgres        string           // what to connect with; "" when the PG* variables say it
	Schema          string           // never empty
	Cutover         stateuri.Address // tried before and after the commit
	DryRun          bool
	WithoutPGVector bool
	Strict          bool                  // refuse a file of which anything would arrive changed
	SetAside        bool                  // let rows without a place go to the table of originals
	ExactFloats     bool                  // double precision where Flujo has real
	NaiveZone       *time.Location        // of times that name no zone; nil: UTC, which nobody vouched for
	Found           func(mapping.Finding) // called for every finding, when all are known; may be nil
	LockWait        time.Duration         // for each lock; sink.LockWait when 0
	Progress        func(Progress)        // called from one goroutine at a time; may be nil
}

// The phases of a migration, in their order.
const (
	PhaseConnect   = "connect"
	PhaseSchema    = "schema"
	PhaseCopy      = "copy"
	PhaseOriginals = "originals"
	PhaseIndexes   = "indexes"
	PhaseVerify    = "verify"
	PhaseCommit    = "commit"
)

// Progress is how far a migration is. One comes at the beginning of each
// phase; in PhaseCopy one for every row, and one more when a table is done.
type Progress struct {
	Phase     string
	Table     string // the table that is copied; empty in other phases
	Rows, Of  int64  // of the table
	All, Rest int64  // rows of all tables: copied, still to come
	Done      bool   // the server has taken the whole table
}

// Migrate moves the state in one transaction and gives the report of it. On
// any error nothing is committed, but for *sink.CommitUnknownError, which says
// so itself. Where what is in the file is refused there is a report too. What
// goes wrong after the commit is a warning in the report.
func Migrate(ctx context.Context, o MigrateOptions) (*report.Migration, error) {
	started := time.Now()
	snapshot, layout, err := open(ctx, o.SQLite)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer snapshot.Close()
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	o.Progress(Progress{Phase: PhaseConnect})
	trial, err := sink.TryAddress(ctx, o.Cutover.Reveal())
	if err != nil {
		return nil, interrupted(ctx, addressFault(err))
	}
	tx, err := sink.Begin(ctx, o.Postgres, o.Schema, cmp.Or(o.LockWait, sink.LockWait))
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer tx.Rollback()
	if err := trial.Unfit(tx.Server(), o.Schema); err != nil {
		return nil, err
	}
	m := &migration{MigrateOptions: o, snapshot: snapshot, layout: layout, tx: tx, report: &report.Migration{
		Format: report.Format, Command: "migrate", DryRun: o.DryRun, Started: started.UTC().Truncate(time.Millisecond),
		Source:  report.Source{Path: snapshot.Path(), Bytes: snapshot.Size(), Layout: layout.Generation},
		Ignored: layout.Others, Notes: []string{}, Derived: []report.Derived{}, Changes: []report.Change{},
		Warnings: []string{}, Widened: []string{}, Naive: []report.Naive{}, Rounded: []report.Rounded{},
	}, aside: map[string]map[int64]mapping.Reason{}, keys: map[string]*keys{}, lostRuns: map[string]bool{}}
	err = m.fill(ctx)
	m.report.Seconds = time.Since(started).Seconds()
	if err != nil && m.report.Refused && ctx.Err() == nil {
		return m.report, err
	}
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	if err := m.end(ctx); err != nil {
		return nil, err
	}
	m.report.Seconds = time.Since(started).Seconds()
	if m.report.Committed {
		m.useAddress(ctx)
	}
	return m.report, nil
}

// open opens the file and finds out how it is laid out.
func open(ctx context.Context, path string) (*source.Snapshot, *mapping.Layout, error) {
	snapshot, err := source.Open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	layout, err := mapping.Detect(snapshot.Tables())
	if err != nil {
		snapshot.Close()
		return nil, nil, &fault.Error{
			Kind: fault.Refused, What: fmt.Sprintf("%q can't be moved", snapshot.Path()), Err: err,
			Do: "give the file that Flujo's state_uri names",
		}
	}
	return snapshot, layout, nil
}

// migration is one run of Migrate.
type migration struct {
	MigrateOptions
	snapshot  *source.Snapshot
	layout    *mapping.Layout
	tx        *sink.Tx
	schema    *sink.Schema
	convert   mapping.Options
	report    *report.Migration
	aside     map[string]map[int64]mapping.Reason // rows that share a key, by table and rowid
	keys      map[string]*keys                    // of the tables whose keys may collide
	asideRuns []mapping.Value                     // run_ids of runs without a place
	lostRuns  map[string]bool                     // of these, the keys that no other run has
	copied    int64                               // rows so far
	total     int64                               // rows in the file
}

// fill does everything up to the commit.
func (m *migration) fill(ctx context.Context) (err error) {
	if m.snapshot.Locked() {
		m.warn("another process has the file open: what it writes from now on is not in PostgreSQL; is Flujo stopped?")
	}
	m.phase(PhaseSchema)
	m.convert = mapping.Options{NaiveZone: m.NaiveZone, JSONDepth: m.tx.Server().JSONDepth()}
	types := mapping.NewTypes(m.ExactFloats)
	if types.VectorSize, err = m.vectorSize(ctx); err != nil {
		return err
	}
	if m.schema, err = m.tx.Prepare(ctx, m.WithoutPGVector, types); err != nil {
		return err
	}
	if err := m.needEmpty(ctx); err != nil {
		return err
	}
	if err := m.tx.Adapt(ctx, m.schema); err != nil {
		return err
	}
	if err := m.count(ctx); err != nil {
		return err
	}
	for i := range m.report.Tables {
		if err := m.copyTable(ctx, &m.report.Tables[i]); err != nil {
			return err
		}
	}
	if err := m.judge(ctx); err != nil {
		return err
	}
	m.phase(PhaseIndexes)
	if err := m.tx.Finish(ctx, m.schema); err != nil {
		return err
	}
	if err := m.setSequences(ctx); err != nil {
		return err
	}
	m.describeTarget()
	m.phase(PhaseVerify)
	if err := m.tx.CheckConstraints(ctx); err != nil {
		return err
	}
	if err := m.compareCounts(ctx); err != nil {
		return err
	}
	return m.needUnchanged()
}

// end commits, or rolls the rehearsal back.
func (m *migration) end(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.DryRun {
		m.tx.Rollback()
		return nil
	}
	m.phase(PhaseCommit)
	if err := m.tx.Commit(); err != nil {
		return err
	}
	m.report.Committed = true
	return nil
}

func (m *migration) note(format string, args ...any) {
	m.report.Notes = append(m.report.Notes, fmt.Sprintf(format, args...))
}

func (m *migration) phase(name string) {
	m.Progress(Progress{Phase: name, All: m.copied, Rest: m.total - m.copied})
}

func (m *migration) describeTarget() {
	server := m.tx.Server()
	m.report.Target = report.Target{
		Server: server.Name, Database: server.Database, Role: server.Role, Schema: m.Schema,
		PGVector: m.schema.PGVector, MadeSchema: m.schema.Made, MadePGVector: m.schema.MadeTypes,
	}
	m.report.Notes = append(m.report.Notes, m.schema.Notes...)
	if m.WithoutPGVector {
		m.note("--without-pgvector: Flujo starts and works here, without memory indexing")
	}
}

// needEmpty refuses a target that holds rows.
func (m *migration) needEmpty(ctx context.Context) error {
	var existing []mapping.Table
	for _, t := range m.schema.Tables() {
		if m.schema.Existing[t.Name] {
			existing = append(existing, t)
		}
	}
	counts, err := m.tx.CountRows(ctx, existing)
	if err != nil {
		return err
	}
	var full []string
	for _, t := range existing {
		if n := counts[t.Name]; n > 0 {
			full = append(full, fmt.Sprintf("%s has %d", t.Name, n))
		}
	}
	originals, err := m.tx.OriginalsRows(ctx)
	if err != nil {
		return err
	}
	if originals > 0 {
		full = append(full, fmt.Sprintf("%s has %d", mapping.Originals.Name, originals))
	}
	if len(full) == 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.Refused,
		What: fmt.Sprintf("schema %q already holds rows: %s", m.Schema, strings.Join(full, ", ")),
		Do:   "was it migrated already? nothing was added; name another schema with --schema, or empty these tables if their rows are not wanted",
	}
}

// count lays out the report's table: what there is to read.
func (m *migration) count(ctx context.Context) error {
	for i := range m.layout.Plans {
		plan := &m.layout.Plans[i]
		var rows int64
		if plan.InFile {
			var err error
			if rows, err = m.snapshot.Count(ctx, plan.Table.Name); err != nil {
				return err
			}
		}
		if !m.schema.Has(plan.Table.Name) {
			if rows > 0 {
				return &fault.Error{
					Kind: fault.Refused,
					What: fmt.Sprintf("the file holds %d memories, and without pgvector there is no table for them", rows),
					Do:   "install pgvector on the server and run without --without-pgvector",
				}
			}
			continue
		}
		m.total += rows
		m.report.Tables = append(m.report.Tables, report.Table{Name: plan.Table.Name, RowsRead: rows})
	}
	return nil
}

// copyTable streams one table. RowsRead was what count(*) said; afterwards it
// is what was read.
func (m *migration) copyTable(ctx context.Context, row *report.Table) (err error) {
	started := time.Now()
	plan := m.layout.Plan(row.Name)
	expected := row.RowsRead
	of := expected
	if row.Name == mapping.Traces {
		of += m.report.Tables[0].RowsRead // a trace for each run, at most
	}
	show := func(n int64, done bool) {
		all := m.copied + min(n, expected)
		m.Progress(Progress{Phase: PhaseCopy, Table: row.Name, Rows: n, Of: max(of, n), All: all, Rest: m.total - all, Done: done})
	}
	show(0, false)
	if plan.InFile {
		if err := m.copyRows(ctx, row, plan, func(n int64) { show(n, false) }); err != nil {
			return err
		}
	}
	switch row.Name {
	case mapping.Runs:
		err = m.loadOrphans(ctx, row)
	case mapping.Traces:
		err = m.loadTraces(ctx, row, func(n int64) { show(expected+n, false) })
	}
	if err != nil {
		return err
	}
	if row.RowsRead != expected {
		return &fault.Error{
			Kind: fault.Different, What: fmt.Sprintf("read table %q: %d rows came, count(*) says %d", row.Name, row.RowsRead, expected),
			Do: "an index of the file may be damaged: see what sqlite3's PRAGMA integrity_check says of it",
		}
	}
	of = row.RowsRead + row.Derived
	show(of, true)
	m.copied += expected
	row.Seconds = time.Since(started).Seconds()
	return nil
}

// copyRows streams the rows that the file has of a table.
func (m *migration) copyRows(ctx context.Context, row *report.Table, plan *mapping.Plan, each func(n int64)) (err error) {
	if m.aside[row.Name], err = m.sameKeys(ctx, plan); err != nil {
		return err
	}
	converter := m.converter(ctx, plan)
	done := &tuples{each: each, changed: func(r []mapping.Value) { m.found(converter, r) }, again: func() { m.forget(row.Name) }}
	row.Bytes, err = m.load(ctx, converter, func() (rowReader, error) {
		return m.snapshot.Rows(ctx, row.Name, plan.Columns)
	}, done)
	if err != nil {
		return err
	}
	row.RowsRead, row.SetAside = done.read, done.aside
	m.tally(converter)
	return nil
}

// setSequences makes the next id free, also where the file's highest was
// deleted: an id in an audit trail is not handed out twice.
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
		if err := m.tx.SetSequence(ctx, plan.Table, next); err != nil {
			return err
		}
	}
	return nil
}

// compareCounts counts the rows in PostgreSQL, in the transaction.
func (m *migration) compareCounts(ctx context.Context) error {
	counts, err := m.tx.CountRows(ctx, m.schema.Tables())
	if err != nil {
		return err
	}
	var wrong []string
	for i := range m.report.Tables {
		row := &m.report.Tables[i]
		row.InPostgres = counts[row.Name]
		want := row.RowsRead - row.SetAside + row.Derived
		row.Match = row.InPostgres == want
		if !row.Match {
			wrong = append(wrong, fmt.Sprintf("%s has %d, not %d", row.Name, row.InPostgres, want))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.Different, What: "rows are missing or too many in Postgres: " + strings.Join(wrong, ", "),
		Do: "look for triggers or rules on these tables",
	}
}

// needUnchanged refuses to commit when somebody wrote to the file meanwhile;
// a rehearsal only notes it.
func (m *migration) needUnchanged() error {
	changed, err := m.snapshot.Changed()
	if err != nil {
		return err
	}
	switch {
	case !changed:
		return nil
	case m.DryRun:
		m.warn("the file changed while it was read: stop Flujo before the cutover")
		return nil
	}
	return &fault.Error{
		Kind: fault.Refused, What: fmt.Sprintf("%q changed while it was read", m.snapshot.Path()), Do: "stop Flujo and run again",
	}
}

// useAddress sees that Flujo will find the rows by the address.
func (m *migration) useAddress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for _, row := range m.report.Tables {
		if row.Name != mapping.Runs {
			continue
		}
		if err := sink.CheckAddress(ctx, m.Cutover.Reveal(), m.Schema, row.InPostgres); err != nil {
			m.warn("everything is committed, but the cutover address can't be used yet: %v", err)
		}
	}
}

func (m *migration) warn(format string, args ...any) {
	m.report.Warnings = append(m.report.Warnings, fmt.Sprintf(format, args...))
}

// interrupted gives ctx's error where ctx has ended, since what failed then
// failed by that, and err otherwise.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// addressFault keeps what err says and adds that it is the cutover address,
// not --postgres, that was tried.
func addressFault(err error) error {
	return &fault.Error{Kind: fault.KindOf(err), What: "the cutover address was tried first", Err: err}
}
