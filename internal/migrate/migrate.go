// Package migrate migrates a state file to PostgreSQL, in one transaction.
package migrate

import (
	"cmp"
	"context"
	"errors"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/merge"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
	"flujo-port/internal/stateuri"
)

// Options are the options of Run.
type Options struct {
	SQLite   string // path of the state file
	Postgres string // connection string; "" to use only the PG* variables
	Schema   string // must not be empty

	// Cutover is the address by which Flujo will connect. It is tried before and
	// after the commit, unless it is zero.
	Cutover stateuri.Address

	DryRun          bool
	WithoutPGVector bool           // do not create the extension and the memories table
	NoMigrations    bool           // Flujo will be started with FLUJO_AUTO_MIGRATE=false
	Strict          bool           // refuse a file of which any value would be converted
	Quarantine      bool           // store rejected rows with the original values
	ExactFloats     bool           // use double precision for columns that are real in Flujo
	NaiveZone       *time.Location // zone of timestamps without one; nil means UTC, and the report counts them
	Verify          string         // report.VerifyContent or VerifyCounts; "" means VerifyContent
	SkipIntegrity   bool           // skip integrity_check

	Replace bool // archive the rows in the schema, then replace them
	Merge   bool // take each run, key and memory from the side that wrote it last; excludes Replace

	Version  string        // version of the program, for the receipt
	LockWait time.Duration // timeout for each lock; 0 means postgres.LockWait
	// OutcomeWait is how long the server is asked for the outcome after the connection was
	// lost during COMMIT; 0 means a minute.
	OutcomeWait time.Duration

	// OnFinding is called for each finding when all are known, before the commit. Its error
	// ends the migration. It may be nil.
	OnFinding    func(mapping.Finding) error
	OnDifference func(report.Difference) // called for each difference found before the commit; may be nil
	OnProgress   progress.Func
}

// load returns the part of the options that is about loading rows.
func (o *Options) load() load.Options {
	return load.Options{
		Strict:       o.Strict,
		Quarantine:   o.Quarantine,
		Verify:       o.Verify,
		OnFinding:    o.OnFinding,
		OnDifference: o.OnDifference,
		OnProgress:   o.OnProgress,
	}
}

// Run migrates the state file and returns a report. After an error nothing is
// committed, except that a *sink.CommitUnknownError means that the outcome is unknown.
// If the file's rows are refused, or differ in PostgreSQL, Run returns both a report
// and an error. A failure after the commit is a warning in the report.
func Run(ctx context.Context, o Options) (*report.Migration, error) {
	started := time.Now()
	o.Verify = cmp.Or(o.Verify, report.VerifyContent)
	result, err := run(ctx, o)
	if _, unknown := errors.AsType[*sink.CommitUnknownError](err); unknown {
		return nil, err
	}
	if ctx.Err() != nil && (result == nil || !result.Committed) {
		return nil, ctx.Err()
	}
	if result == nil {
		return nil, postgres.FindBlocker(ctx, o.Postgres, err)
	}
	result.Started, result.Seconds = started.UTC().Truncate(time.Millisecond), time.Since(started).Seconds()
	if result.Committed {
		checkAddress(ctx, o, result)
	}
	return result, err
}

// run executes all steps to the commit. With an error it returns a report only if the
// file's rows are refused or differ.
func run(ctx context.Context, o Options) (*report.Migration, error) {
	snapshot, format, err := extract.Open(ctx, o.SQLite)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close()
	result := &report.Migration{
		Format: report.Format, Command: "migrate", DryRun: o.DryRun, Verify: o.Verify,
		Source: extract.Describe(snapshot, format), Warnings: []string{},
	}
	session, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	tx := session.tx
	defer tx.Rollback()
	result.Address = session.address
	if err := session.trial.CheckPrepared(); err != nil {
		result.Warn("%v", err)
	}
	if message, hint := session.trial.PreparedUnknown(); message != "" {
		result.Warn("%s; %s", message, hint)
	}
	hash := snapshot.StartHash(ctx)
	defer hash.Stop()
	if snapshot.Locked() {
		result.Warn("another process has the state file open, and what it writes from now on is not migrated: " +
			"stop Flujo before the cutover")
	}
	if n := snapshot.Links(); n > 1 {
		result.Warn("the state file has %d names (hard links); a -wal next to another name was not read", n)
	}
	o.OnProgress.Start(progress.Schema)
	to, err := prepare(ctx, tx, session.trial, snapshot, format, o)
	if err != nil {
		return nil, err
	}
	to.notes = append(session.notes, to.notes...)
	reading, integrity := startIntegrityCheck(ctx, snapshot, result, o)
	defer integrity.Stop()
	rows, err := copyRows(reading, to, snapshot, o)
	if rows.loaded != nil {
		describe(result, to, rows, o)
	}
	if err != nil {
		if damage := integrity.Wait(); damage != nil {
			return nil, damage
		}
		return refused(result, rows, err)
	}
	sequences, err := finishTables(ctx, to, snapshot, rows, o)
	if err == nil && !to.tried {
		err = tryStart(ctx, to, session.trial, o)
	}
	if err != nil {
		return nil, err
	}
	result.AddWidened(sequences.Widened)
	result.Notes = append(append(result.Notes, sequences.Notes...), to.into.Schema.Notes...)
	o.OnProgress.Start(progress.Verify)
	if err := tx.CheckConstraints(ctx); err != nil {
		return nil, err
	}
	if rows.verified, err = verify(ctx, to, rows, o); rows.verified != nil {
		addVerified(result, rows.verified)
	}
	if err != nil {
		return refused(result, rows, err)
	}
	o.OnProgress.Start(progress.Integrity)
	if err := integrity.Wait(); err != nil {
		return nil, err
	}
	result.Replaced = describeArchive(to.archive)
	if result.Source.SHA256, err = writeReceipt(ctx, to, snapshot, hash, rows, o); err != nil {
		return nil, err
	}
	return finish(ctx, tx, snapshot, result, o)
}

// startIntegrityCheck starts the check of the file's integrity beside the load, unless it
// is skipped. Its verdict comes before the commit.
func startIntegrityCheck(
	ctx context.Context,
	snapshot *source.Snapshot,
	result *report.Migration,
	o Options,
) (context.Context, *source.Integrity) {
	if o.SkipIntegrity {
		return ctx, nil
	}
	result.Source.Integrity = source.IntegrityCheck
	return snapshot.StartIntegrityCheck(ctx)
}

// session is a transaction, and what is known of the address that Flujo will use.
type session struct {
	tx      *sink.Tx
	address stateuri.Address // that was tried; zero if there is none
	trial   postgres.AddressTrial
	notes   []string
}

// connect tries the cutover address and begins the transaction. It does one after the
// other, since a server or a role may have a single session. If both fail, it returns the
// error of the transaction: the cutover address is derived from that address.
func connect(ctx context.Context, o Options) (s session, err error) {
	o.OnProgress.Start(progress.Connect)
	var addressErr error
	if !o.Cutover.IsZero() {
		s.address, s.trial, s.notes, addressErr = postgres.ResolveAddress(ctx, o.Cutover, o.Schema, !o.WithoutPGVector)
	}
	if s.tx, err = sink.Begin(ctx, o.Postgres, o.Schema, cmp.Or(o.LockWait, postgres.LockWait)); err != nil {
		return s, err
	}
	s.tx.OutcomeWait = cmp.Or(o.OutcomeWait, s.tx.OutcomeWait)
	switch {
	case addressErr != nil:
		err = addressError(addressErr)
	case !o.Cutover.IsZero():
		err = s.trial.CheckSession(s.tx.Server, o.Schema)
	}
	if err != nil {
		s.tx.Rollback()
	}
	return s, err
}

// target is a schema whose tables are ready for the rows of the file.
type target struct {
	into    sink.Loader
	config  extract.Config // with which the file is extracted
	merging bool           // the tables hold rows, with which those of the file are merged
	archive *sink.Archive  // the replaced rows; nil if none were replaced
	tried   bool           // what Flujo does at its start was tried
	notes   []string
}

// prepare creates the schema and its tables, or compares them with Flujo's. It refuses
// tables that hold rows, unless Replace or Merge is set; with Replace it archives the
// rows and empties the tables.
func prepare(
	ctx context.Context,
	tx *sink.Tx,
	trial postgres.AddressTrial,
	snapshot *source.Snapshot,
	format *mapping.Format,
	o Options,
) (to target, err error) {
	to.into, to.config, to.notes, err = load.Prepare(ctx, tx, snapshot, format, load.TargetOptions{
		WithoutPGVector: o.WithoutPGVector, ExactFloats: o.ExactFloats, NaiveZone: o.NaiveZone,
	})
	if err != nil {
		return to, err
	}
	to.config.WithDigests, to.config.AllowWrites = o.Verify == report.VerifyContent, o.DryRun
	to.config.OnProgress = o.OnProgress
	if err := needMemoriesTable(ctx, snapshot, to.config); err != nil {
		return to, err
	}
	if to.into.Schema.Existing[mapping.Runs] && !o.Cutover.IsZero() {
		if err := trial.CheckSchema(o.Schema); err != nil {
			return to, err
		}
	}
	if len(to.into.Schema.Existing) > 0 { // now, and not after all rows were copied
		if err := tryStart(ctx, to, trial, o); err != nil {
			return to, err
		}
		to.tried = true
	}
	full, err := tx.TablesWithRows(ctx)
	if err != nil {
		return to, err
	}
	switch {
	case len(full) == 0 && o.Replace:
		to.notes = append(to.notes, "there were no rows to replace, because Flujo's tables were empty")
	case len(full) == 0 && o.Merge:
		to.notes = append(to.notes, "there were no rows to merge with, because Flujo's tables were empty")
	case len(full) == 0:
	case o.Merge:
		to.merging = true
	case o.Replace:
		if to.archive, err = archiveRows(ctx, to.into, o.OnProgress); err != nil {
			return to, err
		}
	default:
		return to, load.HoldsRows(o.Schema, full)
	}
	return to, tx.Adapt(ctx, to.into.Schema)
}

// tryStart tries what Flujo will do at its start, as the role that connects.
func tryStart(ctx context.Context, to target, trial postgres.AddressTrial, o Options) error {
	how := sink.FlujoStart{SearchPath: trial.SearchPath, NoMigrations: o.NoMigrations}
	return to.into.Tx.TryStart(ctx, to.into.Schema, "", how)
}

// needMemoriesTable refuses a file with memories if the target has no table for them.
func needMemoriesTable(ctx context.Context, snapshot *source.Snapshot, config extract.Config) error {
	if config.Exclude != mapping.Memories {
		return nil
	}
	n, err := extract.Memories(ctx, snapshot, config.Format)
	if err != nil || n == 0 {
		return err
	}
	return load.NeedsMemories(n)
}

// copied is what was copied to the target.
type copied struct {
	loaded    *load.Loaded   // nil if an error occurred before
	merged    *merge.Merged  // nil unless the rows were merged
	verified  *load.Verified // nil if an error occurred before
	originals int64          // original values that were stored
}

// copyRows loads the file into the target's tables, or merges it with their rows.
func copyRows(ctx context.Context, to target, snapshot *source.Snapshot, o Options) (rows copied, err error) {
	if !to.merging {
		rows.loaded, err = load.Rows(ctx, extract.New(snapshot, to.config), to.into, o.load())
		if err == nil {
			rows.originals = rows.loaded.Originals
		}
		return rows, err
	}
	merged, err := merge.Run(ctx, to.into, snapshot, to.config, o.load())
	if merged == nil {
		return rows, err
	}
	return copied{loaded: merged.Loaded, merged: merged, verified: merged.Staged, originals: merged.Originals}, err
}

// finishTables creates indexes and foreign keys, gathers statistics and sets the
// sequences.
func finishTables(
	ctx context.Context,
	to target,
	snapshot *source.Snapshot,
	rows copied,
	o Options,
) (s load.Sequences, err error) {
	o.OnProgress.Start(progress.Indexes)
	if err := to.into.Tx.Finish(ctx, to.into.Schema); err != nil {
		return s, err
	}
	if err := to.into.Tx.Analyze(ctx, to.into.Schema); err != nil {
		return s, err
	}
	var allocated map[string]int64
	if rows.merged != nil {
		allocated = rows.merged.Allocated
	}
	return load.SetSequences(ctx, to.into, snapshot, to.config.Format, allocated, o.DryRun)
}

// verify compares what the server stored with the file, or with what the merge decided,
// in the transaction that wrote it.
func verify(ctx context.Context, to target, rows copied, o Options) (*load.Verified, error) {
	if rows.merged != nil {
		return rows.merged.Verify(ctx)
	}
	stored, err := load.Snapshot(ctx, to.into)
	if err != nil {
		return nil, err
	}
	return rows.loaded.Verify(ctx, stored, o.load())
}

// writeReceipt writes the receipt of the migration in its transaction, and returns the
// SHA-256 of the file.
func writeReceipt(
	ctx context.Context,
	to target,
	snapshot *source.Snapshot,
	hash *source.Hash,
	rows copied,
	o Options,
) (sha256 string, err error) {
	main, wal, err := hash.Wait()
	if err != nil {
		return "", err
	}
	stored, err := load.Snapshot(ctx, to.into)
	if err != nil {
		return "", err
	}
	tables, err := receipt.TablesOf(ctx, stored, rows.loaded.File.Findings.Tables, rows.verified.Digests())
	if err != nil {
		return "", err
	}
	r := &receipt.Receipt{
		Version: o.Version, FileFormat: to.config.Format.Name, Verify: o.Verify,
		File:     receipt.FileOf(snapshot, main, wal),
		Options:  receipt.OptionsOf(to.config),
		Tables:   tables,
		Findings: rows.loaded.File.Findings.WithoutKeys(),
	}
	r.Options.Quarantine = o.Quarantine
	if to.archive != nil {
		r.Options.ArchiveSchema = to.archive.Schema
	}
	if rows.merged != nil {
		last, err := receipt.Last(ctx, to.into.Tx.Conn)
		if err != nil {
			return "", err
		}
		r = rows.merged.Complete(*r, last)
	}
	return main, receipt.Write(ctx, to.into.Tx.Conn, r)
}

// finish commits, or rolls back a dry run.
func finish(
	ctx context.Context,
	tx *sink.Tx,
	snapshot *source.Snapshot,
	result *report.Migration,
	o Options,
) (*report.Migration, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.DryRun {
		tx.Rollback()
		changed, err := snapshot.Changed()
		if err != nil {
			return nil, err
		}
		if changed {
			result.Warn("the state file changed while it was read: stop Flujo before the cutover")
		}
		return result, nil
	}
	o.OnProgress.Start(progress.Commit)
	// The file is checked last, since a write after this check is not migrated.
	warnings, err := tx.Commit(snapshot.CheckUnchanged)
	if err != nil {
		return nil, err
	}
	result.Committed = true
	result.Warnings = append(result.Warnings, warnings...)
	return result, nil
}

// checkAddress adds a warning if the rows are not found by the cutover address.
func checkAddress(ctx context.Context, o Options, result *report.Migration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for _, row := range result.Tables {
		if row.Name != mapping.Runs {
			continue
		}
		if err := postgres.CheckAddress(ctx, result.Address.Reveal(), o.Schema, row.InPostgres); err != nil {
			result.Warn("the migration is committed, but the cutover address does not work yet: %v", err)
		}
	}
}

// addressError wraps err to say that it is about the cutover address and not about the
// connection that writes.
func addressError(err error) error {
	return &clierr.Error{Kind: clierr.KindOf(err), Message: "cannot use the cutover address", Err: err}
}
