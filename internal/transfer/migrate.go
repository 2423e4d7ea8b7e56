// Package transfer is the order of things: what a migration does step by step,
// from the file to the committed schema.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	LockWait        time.Duration  // for each lock; sink.LockWait when 0
	Progress        func(Progress) // called from one goroutine at a time; may be nil
}

// The phases of a migration, in their order.
const (
	PhaseConnect = "connect"
	PhaseSchema  = "schema"
	PhaseCopy    = "copy"
	PhaseIndexes = "indexes"
	PhaseVerify  = "verify"
	PhaseCommit  = "commit"
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
// any error nothing is committed, with two exceptions that say so themselves:
// *sink.CommitUnknownError, and *AfterCommitError.
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
	if err := sink.ProbeAddress(ctx, o.Cutover.Reveal(), o.Schema, -1); err != nil {
		return nil, interrupted(ctx, addressFault(err))
	}
	tx, err := sink.Begin(ctx, o.Postgres, o.Schema, cmp.Or(o.LockWait, sink.LockWait))
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer tx.Rollback()
	m := &migration{MigrateOptions: o, snapshot: snapshot, layout: layout, tx: tx, report: &report.Migration{
		Format: report.Format, Command: "migrate", DryRun: o.DryRun, Started: started.UTC().Truncate(time.Millisecond),
		Source: report.Source{Path: snapshot.Path(), Bytes: snapshot.Size()}, Ignored: layout.Others,
	}}
	if err := m.fill(ctx); err != nil {
		return nil, interrupted(ctx, err)
	}
	if err := m.end(ctx); err != nil {
		return nil, err
	}
	m.report.Seconds = time.Since(started).Seconds()
	if m.report.Committed {
		if err := m.useAddress(ctx); err != nil {
			return m.report, err
		}
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
			Do: "give the file that Flujo's state_uri names, as a Flujo of version 0.6.1 to 0.6.11 keeps it",
		}
	}
	return snapshot, layout, nil
}

// migration is one run of Migrate.
type migration struct {
	MigrateOptions
	snapshot *source.Snapshot
	layout   *mapping.Layout
	tx       *sink.Tx
	schema   *sink.Schema
	report   *report.Migration
	copied   int64 // rows so far
	total    int64 // rows in the file
}

// fill does everything up to the commit.
func (m *migration) fill(ctx context.Context) (err error) {
	m.phase(PhaseSchema)
	if m.schema, err = m.tx.Prepare(ctx, m.WithoutPGVector); err != nil {
		return err
	}
	if err := m.needEmpty(ctx); err != nil {
		return err
	}
	m.describeTarget()
	if err := m.count(ctx); err != nil {
		return err
	}
	for i := range m.report.Tables {
		if err := m.copyTable(ctx, &m.report.Tables[i]); err != nil {
			return err
		}
	}
	m.phase(PhaseIndexes)
	if err := m.tx.Finish(ctx, m.schema); err != nil {
		return err
	}
	if err := m.setSequences(ctx); err != nil {
		return err
	}
	m.phase(PhaseVerify)
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
		m.report.Notes = append(m.report.Notes, "--without-pgvector: Flujo starts and works here, without memory indexing")
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
func (m *migration) copyTable(ctx context.Context, row *report.Table) error {
	started := time.Now()
	plan := m.layout.Plan(row.Name)
	expected := row.RowsRead
	show := func(n int64, done bool) {
		m.Progress(Progress{Phase: PhaseCopy, Table: row.Name, Rows: n, Of: expected, All: m.copied + n, Rest: m.total - m.copied - n, Done: done})
	}
	tuples := &tuples{plan: plan, each: func(n int64) { show(min(n, expected), false) }}
	if plan.InFile {
		rows, err := m.snapshot.Rows(ctx, row.Name, plan.Source())
		if err != nil {
			return err
		}
		defer rows.Close()
		tuples.rows = append(tuples.rows, rows)
	}
	var traces *traceRows
	if row.Name == mapping.Traces {
		var err error
		if traces, err = m.deriveTraces(ctx, plan); err != nil {
			return err
		}
		if traces != nil {
			defer traces.Close()
			tuples.rows = append(tuples.rows, traces)
		}
	}
	sent, err := m.tx.Copy(ctx, plan.Table, plan.Target, tuples)
	if err != nil {
		return cellFault(err)
	}
	row.RowsRead, row.Bytes = tuples.n, sent
	if traces != nil {
		row.Derived, row.RowsRead = traces.made, tuples.n-traces.made
		m.report.Derived = append(m.report.Derived, traces.derived())
	}
	if row.RowsRead != expected {
		return &fault.Error{
			Kind: fault.Different, What: fmt.Sprintf("read table %q: %d rows came, count(*) says %d", row.Name, row.RowsRead, expected),
			Do: "an index of the file may be damaged: see what sqlite3's PRAGMA integrity_check says of it",
		}
	}
	show(expected, true)
	m.copied += expected
	row.Seconds = time.Since(started).Seconds()
	return nil
}

// cellFault makes a cell that PostgreSQL cannot hold a refusal.
func cellFault(err error) error {
	if cell, ok := errors.AsType[*mapping.CellError](err); ok {
		return &fault.Error{Kind: fault.Refused, What: "a cell can't be moved as it is", Err: cell, Do: "mend it in a copy of the file, and give that"}
	}
	return err
}

// setSequences makes the next id free, also where the file's highest was
// deleted: an id in an audit trail is not handed out twice.
func (m *migration) setSequences(ctx context.Context) error {
	for i := range m.layout.Plans {
		plan := &m.layout.Plans[i]
		column := plan.Table.Serial()
		if column == "" {
			continue
		}
		var last int64
		if plan.InFile {
			var err error
			if last, err = m.snapshot.LastID(ctx, plan.Table.Name, column); err != nil {
				return err
			}
		}
		if err := m.tx.SetSequence(ctx, plan.Table, max(last, 0)+1); err != nil {
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
		row.Match = row.InPostgres == row.RowsRead+row.Derived
		if !row.Match {
			wrong = append(wrong, fmt.Sprintf("%s has %d, not %d", row.Name, row.InPostgres, row.RowsRead+row.Derived))
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
		m.report.Notes = append(m.report.Notes, "the file changed while it was read: stop Flujo before the cutover")
		return nil
	}
	return &fault.Error{
		Kind: fault.Refused, What: fmt.Sprintf("%q changed while it was read", m.snapshot.Path()), Do: "stop Flujo and run again",
	}
}

// AfterCommitError is returned when everything was committed and something
// after it went wrong.
type AfterCommitError struct{ Err error }

func (e *AfterCommitError) Error() string {
	return fmt.Sprintf("everything is committed, but the cutover address can't be used yet: %v", e.Err)
}

// Unwrap gives what went wrong.
func (e *AfterCommitError) Unwrap() error { return e.Err }

// useAddress sees that Flujo will find the rows by the address.
func (m *migration) useAddress(ctx context.Context) error {
	for _, row := range m.report.Tables {
		if row.Name != mapping.Runs {
			continue
		}
		if err := sink.ProbeAddress(ctx, m.Cutover.Reveal(), m.Schema, row.InPostgres); err != nil {
			return &AfterCommitError{Err: err}
		}
	}
	return nil
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
