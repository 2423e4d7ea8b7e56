// Package transfer implements the operations of flujo-port: Migrate, Verify,
// Check, Restore and Init.
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

// MigrateOptions are the options of Migrate.
type MigrateOptions struct {
	SQLite   string // path of the state file
	Postgres string // connection string; "" to use only the PG* variables
	Schema   string // must not be empty

	// Cutover is the address by which Flujo will connect. It is tried before and
	// after the commit, unless it is zero.
	Cutover stateuri.Address

	DryRun          bool
	WithoutPGVector bool           // do not create the extension and the memories table
	Strict          bool           // refuse a file of which any value would be converted
	Quarantine      bool           // store rejected rows with the original values
	ExactFloats     bool           // use double precision for columns that are real in Flujo
	NaiveZone       *time.Location // zone of timestamps without one; nil means UTC, and the report counts them
	Verify          string         // VerifyContent or VerifyCounts; "" means VerifyContent
	SkipIntegrity   bool           // skip quick_check

	Replace bool // archive the rows in the schema, then replace them
	Merge   bool // take each run, key and memory from the side that wrote it last; excludes Replace

	Version  string        // version of the program, for the receipt
	LockWait time.Duration // timeout for each lock; 0 means postgres.LockWait

	OnFinding    func(mapping.Finding)   // called for each finding when all are known; may be nil
	OnDifference func(report.Difference) // called for each difference found before the commit; may be nil
	OnProgress   func(Progress)          // called by one goroutine at a time; may be nil

	// then is called after all steps, before the transaction ends; it may be nil.
	then func(context.Context, *migration) error
}

// The phases of a migration, in their order.
const (
	PhaseIntegrity = "integrity"
	PhaseConnect   = "connect"
	PhaseSchema    = "schema"
	PhaseReplace   = "replace" // reported for each table
	PhaseCopy      = "copy"
	PhaseRead      = "read" // instead of PhaseCopy, if nothing is written to PostgreSQL
	PhaseOriginals = "originals"
	PhaseMerge     = "merge"
	PhaseIndexes   = "indexes"
	PhaseVerify    = "verify"
	PhaseCommit    = "commit"
	PhaseName      = "name" // only of Restore: the new file is renamed
)

// Progress is the progress of an operation. It is reported at the beginning of
// each phase; in PhaseCopy and PhaseRead also for each row, and when a table is
// done.
type Progress struct {
	Phase     string
	Table     string // the current table; empty in most phases
	Rows, Of  int64  // rows of the table: done, and in total
	All, Rest int64  // rows of all tables: done, and remaining
	Bytes     int64  // size of the texts and blobs of all rows so far, including derived traces
	OfBytes   int64  // estimate of the size of all rows; 0 if unknown
	Done      bool   // the table is done
}

// Migrate migrates the state file in one transaction and returns a report. After
// an error nothing is committed, except that a *sink.CommitUnknownError means
// that the outcome is unknown. If the file's rows are refused, or differ in
// PostgreSQL, Migrate returns both a report and an error. A failure after the
// commit is a warning in the report.
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

// describeSource returns what is known of the file before it is read.
func describeSource(snapshot *source.Snapshot, format *mapping.Format) report.Source {
	s := report.Source{Path: snapshot.Path(), Bytes: snapshot.Size(), FileFormat: format.Name}
	s.WAL, s.Frames = snapshot.WAL()
	return s
}

// checkIntegrity runs quick_check unless skip is set, and returns the name of the
// check that was run.
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
	archive      *sink.Archive // the replaced rows; nil if none were replaced
	// merger is nil unless the migration merges into a target with rows.
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

// run executes all steps before the commit.
func (m *migration) run(ctx context.Context) (err error) {
	hash := startFileHasher(ctx, m.snapshot)
	defer hash.stop()
	if m.snapshot.Locked() {
		m.warn("another process has the state file open, and what it writes from now on is not migrated: " +
			"stop Flujo before the cutover")
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

// finish commits, or rolls back a dry run.
func (m *migration) finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.DryRun {
		m.tx.Rollback()
		return m.needUnchanged()
	}
	m.startPhase(PhaseCommit)
	// The file is checked last, since a write after this check is not migrated.
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
		PGVector: m.sinkSchema.PGVector, CreatedSchema: m.sinkSchema.Created,
		CreatedPGVector: m.sinkSchema.CreatedPGVector,
	}
	m.report.Notes = append(m.report.Notes, m.sinkSchema.Notes...)
	if m.WithoutPGVector {
		m.note("--without-pgvector: Flujo works without memory indexing")
	}
}

// needEmpty refuses a target that holds rows, unless Replace or Merge is set. With
// Replace it archives the rows and empties the tables.
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

// needUnchanged returns an error if the file was written to since it was opened.
// In a dry run it only adds a warning.
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

// checkAddress adds a warning if the rows are not found by the cutover address.
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

// interrupted returns the error of ctx if ctx has ended, since that is the cause
// of err, and err otherwise.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// addressError wraps err to say that it is about the cutover address and not
// about --postgres.
func addressError(err error) error {
	return &clierr.Error{Kind: clierr.KindOf(err), Message: "cannot use the cutover address", Err: err}
}
