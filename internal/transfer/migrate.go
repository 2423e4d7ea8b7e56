// Package transfer is the order of things: what a migration does step by step,
// from the file to the committed schema.
package transfer

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
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
	Cutover         stateuri.Address // tried before and after the commit; zero where Flujo is not to use it
	DryRun          bool
	WithoutPGVector bool
	Strict          bool                                    // refuse a file of which anything would arrive changed
	Quarantine      bool                                    // let rejected rows go to the table of originals
	ExactFloats     bool                                    // double precision where Flujo has real
	NaiveZone       *time.Location                          // of times that name no zone; nil: UTC, which nobody vouched for
	Verify          string                                  // VerifyContent, which "" is too, or VerifyCounts
	SkipIntegrity   bool                                    // do without SQLite's quick_check of the file
	Replace         bool                                    // keep the rows that are there in a schema of their own, and put the file's in their place
	Merge           bool                                    // take what either side has: each run, key and memory from the side that wrote it last; not with Replace
	Version         string                                  // of this program, for the receipt
	OnFinding       func(mapping.Finding)                   // called for every finding, when all are known; may be nil
	OnDifference    func(report.Difference)                 // called for every difference that is found before the commit; may be nil
	then            func(context.Context, *migration) error // called when all is done but the end; may be nil
	LockWait        time.Duration                           // for each lock; postgres.LockWait when 0
	OnProgress      func(Progress)                          // called from one goroutine at a time; may be nil
}

// The phases of a migration, in their order.
const (
	PhaseIntegrity = "integrity"
	PhaseConnect   = "connect"
	PhaseSchema    = "schema"
	PhaseReplace   = "replace" // a progress for each table
	PhaseCopy      = "copy"
	PhaseRead      = "read" // instead of copy, where nothing is written
	PhaseOriginals = "originals"
	PhaseMerge     = "merge"
	PhaseIndexes   = "indexes"
	PhaseVerify    = "verify"
	PhaseCommit    = "commit"
	PhaseName      = "name" // of restore: the file gets its name
)

// Progress is how far a migration is. One comes at the beginning of each
// phase; in PhaseCopy and PhaseRead one for every row, and one more when a table is done.
type Progress struct {
	Phase     string
	Table     string // the table that is copied; empty in other phases
	Rows, Of  int64  // of the table
	All, Rest int64  // rows of all tables: copied, still to come
	Bytes     int64  // of the texts and blobs of all rows so far, those of derived traces too
	OfBytes   int64  // of all there are, about, until all are read; 0 where that is not known
	Done      bool   // the server has taken the whole table
}

// Migrate moves the state in one transaction and gives the report of it. On
// any error nothing is committed, but for *sink.CommitUnknownError, which says
// so itself. Where what is in the file is refused there is a report too. What
// goes wrong after the commit is a warning in the report.
func Migrate(ctx context.Context, o MigrateOptions) (*report.Migration, error) {
	started := time.Now()
	snapshot, format, err := open(ctx, o.SQLite)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer snapshot.Close()
	if o.OnProgress == nil {
		o.OnProgress = func(Progress) {}
	}
	o.Verify = cmp.Or(o.Verify, VerifyContent)
	sound, err := checkIntegrity(ctx, snapshot, o.SkipIntegrity, o.OnProgress)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	o.OnProgress(Progress{Phase: PhaseConnect})
	var trial postgres.AddressTrial
	if !o.Cutover.IsZero() {
		if trial, err = postgres.TryAddress(ctx, o.Cutover.Reveal()); err != nil {
			return nil, interrupted(ctx, addressError(err))
		}
	}
	tx, err := sink.Begin(ctx, o.Postgres, o.Schema, cmp.Or(o.LockWait, postgres.LockWait))
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer tx.Rollback()
	if !o.Cutover.IsZero() {
		if err := trial.CheckSession(tx.Server, o.Schema); err != nil {
			return nil, err
		}
	}
	m := &migration{MigrateOptions: o, extraction: newExtraction(snapshot, format), tx: tx, addressTrial: trial}
	m.progress, m.phase, m.withDigest, m.allowChanges = o.OnProgress, PhaseCopy, o.Verify == VerifyContent, o.DryRun
	m.report = &report.Migration{
		Format: report.Format, Command: "migrate", DryRun: o.DryRun, Started: started.UTC().Truncate(time.Millisecond),
		Source: describeSource(snapshot, format), Verify: o.Verify, Findings: m.findings, Warnings: []string{},
	}
	m.report.Source.Integrity = sound
	err = m.run(ctx)
	m.report.Seconds = time.Since(started).Seconds()
	if err != nil && (m.report.Refused || m.report.Differing > 0) && ctx.Err() == nil {
		return m.report, err
	}
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	if err := m.finish(ctx); err != nil {
		return nil, interrupted(ctx, err)
	}
	m.report.Seconds = time.Since(started).Seconds()
	if m.report.Committed {
		m.checkAddress(ctx)
	}
	return m.report, nil
}

// describeSource says what is known of the file before it is read.
func describeSource(snapshot *source.Snapshot, format *mapping.Format) report.Source {
	s := report.Source{Path: snapshot.Path(), Bytes: snapshot.Size(), FileFormat: format.Name}
	s.WAL, s.Frames = snapshot.WAL()
	return s
}

// checkIntegrity has SQLite look for damage in the file, and says how.
func checkIntegrity(
	ctx context.Context,
	snapshot *source.Snapshot,
	skip bool,
	progress func(Progress),
) (how string, err error) {
	if skip {
		return "", nil
	}
	progress(Progress{Phase: PhaseIntegrity})
	return "quick_check", snapshot.QuickCheck(ctx)
}

// open opens the file and detects its format.
func open(ctx context.Context, path string) (*source.Snapshot, *mapping.Format, error) {
	snapshot, err := source.Open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	format, err := mapping.DetectFormat(snapshot.Tables())
	if err != nil {
		snapshot.Close()
		return nil, nil, &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("cannot migrate %q", snapshot.Path()),
			Err:     err,
			Hint:    "pass the file that Flujo's state_uri names",
		}
	}
	return snapshot, format, nil
}

// migration is one run of Migrate.
type migration struct {
	MigrateOptions
	*extraction
	tx           *sink.Tx
	sinkSchema   *sink.Schema
	addressTrial postgres.AddressTrial
	archive      *sink.Archive // what was replaced; nil where nothing was
	// merger is nil where the target holds no rows, or none that stay.
	merger *merger
	report *report.Migration
}

// target is the destination in PostgreSQL.
type target struct {
	*sink.Tx
	sinkSchema *sink.Schema
}

// Widen implements destination.
func (t target) Widen(ctx context.Context, table *mapping.Table, column string) error {
	return t.Tx.Widen(ctx, t.sinkSchema, table, column)
}

// run does everything up to the commit.
func (m *migration) run(ctx context.Context) (err error) {
	hash := startFileHasher(ctx, m.snapshot)
	defer hash.stop()
	if m.snapshot.Locked() {
		m.warn("another process has the state file open; what it writes from now on is not migrated. Is Flujo stopped?")
	}
	m.startPhase(PhaseSchema)
	m.options = mapping.Options{NaiveZone: m.NaiveZone, JSONDepth: m.tx.Server.JSONDepth()}
	m.types = mapping.NewTypes(m.ExactFloats)
	if m.types.VectorSize, err = m.vectorSize(ctx); err != nil {
		return err
	}
	if m.sinkSchema, err = m.tx.Prepare(ctx, m.WithoutPGVector, m.types); err != nil {
		return err
	}
	m.dst = target{Tx: m.tx, sinkSchema: m.sinkSchema}
	if !m.sinkSchema.Has(mapping.Memories) {
		m.absentTable, m.skipAbsent = mapping.Memories, m.then != nil
	}
	if err := m.needEmpty(ctx); err != nil {
		return err
	}
	if m.sinkSchema.Existing[mapping.Runs] && !m.Cutover.IsZero() {
		if err := m.addressTrial.CheckSchema(m.Schema); err != nil {
			return err
		}
	}
	if err := m.tx.Adapt(ctx, m.sinkSchema); err != nil {
		return err
	}
	if m.merger != nil {
		err = m.mergeUnits(ctx)
	} else if err = m.extractAll(ctx); err == nil {
		err = m.checkFindings(ctx)
	}
	if err != nil {
		return err
	}
	m.startPhase(PhaseIndexes)
	if err := m.tx.Finish(ctx, m.sinkSchema); err != nil {
		return err
	}
	if err := m.tx.Analyze(ctx, m.sinkSchema); err != nil {
		return err
	}
	if err := m.setSequences(ctx); err != nil {
		return err
	}
	m.describeTarget()
	m.startPhase(PhaseVerify)
	if err := m.tx.CheckConstraints(ctx); err != nil {
		return err
	}
	if err := m.verifyRows(ctx); err != nil {
		return err
	}
	m.describeReplaced()
	if err := m.writeReceipt(ctx, hash); err != nil || m.then == nil {
		return err
	}
	return m.then(ctx, m)
}

// finish commits, or rolls the dry run back.
func (m *migration) finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.DryRun {
		m.tx.Rollback()
		return m.needUnchanged()
	}
	m.startPhase(PhaseCommit)
	// The file is looked at last: what is written to it from now on is lost.
	if err := m.tx.Commit(m.needUnchanged); err != nil {
		return err
	}
	m.report.Committed = true
	return nil
}

func (m *migration) startPhase(name string) {
	m.progress(Progress{Phase: name, All: m.rowsDone, Rest: m.totalRows - m.rowsDone})
}

func (m *migration) describeTarget() {
	server := m.tx.Server
	m.report.Target = report.Target{
		Server: server.Name, Database: server.Database, Role: server.Role, Schema: m.Schema,
		PGVector: m.sinkSchema.PGVector, MadeSchema: m.sinkSchema.Made, MadePGVector: m.sinkSchema.MadeTypes,
	}
	m.report.Notes = append(m.report.Notes, m.sinkSchema.Notes...)
	if m.WithoutPGVector {
		m.note("--without-pgvector: Flujo works without memory indexing")
	}
}

// needEmpty refuses a target that holds rows, or with Replace empties it.
func (m *migration) needEmpty(ctx context.Context) error {
	full, err := m.tx.TablesWithRows(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(full) == 0 && m.Replace:
		m.note("--replace had no effect, because Flujo's tables were empty")
		return nil
	case len(full) == 0 && m.Merge:
		m.note("--merge had no effect, because Flujo's tables were empty")
		return nil
	case len(full) == 0:
		return nil
	case m.Merge:
		m.merger = &merger{lastAllocated: map[string]int64{}}
		return nil
	case m.Replace:
		return m.archiveAndEmpty(ctx)
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("schema %q already holds rows (%s)", m.Schema, strings.Join(full, ", ")),
		Hint:    holdsRowsHint,
	}
}

// holdsRowsHint is the hint if the schema already holds rows.
const holdsRowsHint = "if it was migrated already, run verify; otherwise see --replace and --merge, " +
	"or use another schema (--schema)"

// needUnchanged refuses to commit when somebody wrote to the file meanwhile;
// a dry run only notes it.
func (m *migration) needUnchanged() error {
	changed, err := m.snapshot.Changed()
	if err != nil {
		return err
	}
	switch {
	case !changed:
		return nil
	case m.DryRun:
		m.warn("the state file changed while it was read: stop Flujo before the cutover")
		return nil
	}
	return changedError(m.snapshot)
}

// checkAddress sees that Flujo will find the rows by the address.
func (m *migration) checkAddress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for _, row := range m.report.Tables {
		if row.Name != mapping.Runs {
			continue
		}
		if err := postgres.CheckAddress(ctx, m.Cutover.Reveal(), m.Schema, row.InPostgres); err != nil {
			m.warn("the migration is committed, but the cutover address does not work yet: %v", err)
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

// addressError keeps what err says and adds that it is the cutover address,
// not --postgres, that was tried.
func addressError(err error) error {
	return &clierr.Error{Kind: clierr.KindOf(err), Message: "cannot use the cutover address", Err: err}
}
