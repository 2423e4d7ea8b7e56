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
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/stateuri"
)

// Options are the options of Run.
type Options struct {
	SQLite   string   // path of the state file
	More     []string // paths of further state files, which are merged with the rows of the first, one after the other
	Postgres string   // connection string; "" to use only the PG* variables
	Schema   string   // must not be empty

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

	// After is the id of the last receipt that the caller has seen in the schema, or 0 if there was none. If the
	// last one is another when no other migration can run any more, Run returns ErrMigratedSince and writes nothing.
	// nil accepts any.
	After *int64

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

// load returns the part of the options that is about loading rows of a file.
func (o *Options) load(path string) load.Options {
	found := o.OnFinding
	if found != nil && len(o.More) > 0 {
		found = func(f mapping.Finding) error {
			f.File = path
			return o.OnFinding(f)
		}
	}
	return load.Options{
		Strict:       o.Strict,
		Quarantine:   o.Quarantine,
		Verify:       o.Verify,
		OnFinding:    found,
		OnDifference: o.OnDifference,
		OnProgress:   o.OnProgress,
	}
}

// Run migrates the state files, all of them or none, and returns a report. After an error
// nothing is committed, except that a *sink.CommitUnknownError means that the outcome is
// unknown. If a file's rows are refused, or differ in PostgreSQL, Run returns both a
// report and an error. A failure after the commit is a warning in the report.
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

// ErrMigratedSince is the error for a schema whose last receipt is not Options.After.
var ErrMigratedSince = errors.New("another migration was committed since the receipts were read")

// run executes all steps to the commit. With an error it returns a report only if the
// rows of a file are refused or differ.
func run(ctx context.Context, o Options) (*report.Migration, error) {
	files, err := openFiles(ctx, o)
	if err != nil {
		return nil, err
	}
	defer files.close()
	files[0].startHash(ctx) // while the server is slow to answer
	files[0].startCheck(ctx, o)
	result := &report.Migration{
		DryRun: o.DryRun, Verify: o.Verify,
		Source: extract.Describe(files[0].Snapshot, files[0].Format), Warnings: []string{},
		Further: []*report.FurtherFile{},
	}
	session, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	tx := session.tx
	defer tx.Rollback()
	if err := checkLastReceipt(ctx, tx, o.After); err != nil {
		return nil, err
	}
	result.Address = session.address
	if err := session.trial.CheckPrepared(); err != nil {
		result.Warn("%v", err)
	}
	if message, hint := session.trial.PreparedUnknown(); message != "" {
		result.Warn("%s; %s", message, hint)
	}
	o.OnProgress.Start(progress.Schema)
	to, err := prepare(ctx, tx, session.trial, files, o)
	if err != nil {
		return nil, err
	}
	to.notes = append(session.notes, to.notes...)
	m := &migration{options: o, to: to, files: files, result: result}
	m.describeTarget()
	if refused, err := m.migrateAll(ctx); err != nil {
		if refused {
			return result, err
		}
		return nil, err
	}
	if err := m.checkAll(ctx); err != nil {
		return nil, err
	}
	if !to.tried {
		if err := tryStart(ctx, to, session.trial, o); err != nil {
			return nil, err
		}
	}
	result.Notes = append(result.Notes, to.into.Schema.Notes...)
	result.Replaced = describeArchive(to.archive)
	return finish(ctx, tx, files, result, o)
}

// checkLastReceipt returns ErrMigratedSince if the last receipt is not after, unless that is nil. tx holds Flujo's
// migration lock, so that no other migration runs.
func checkLastReceipt(ctx context.Context, tx *sink.Tx, after *int64) error {
	if after == nil {
		return nil
	}
	next, err := receipt.NextID(ctx, tx.Conn)
	if err == nil && next-1 != *after {
		err = ErrMigratedSince
	}
	return err
}

// session is a transaction, and what is known of the address that Flujo will use.
type session struct {
	tx      *sink.Tx
	address stateuri.Address // that was tried; zero if there is none
	trial   postgres.AddressTrial
	notes   []string
}

// connect tries the cutover address and begins the transaction: in the same session, if
// one by the other address would differ from it only in its search_path, which the
// transaction sets. Otherwise it does one after the other, since a server or a role may
// have a single session. If both fail, it returns the error of the transaction: the cutover
// address is derived from that address.
func connect(ctx context.Context, o Options) (s session, err error) {
	o.OnProgress.Start(progress.Connect)
	var conn *postgres.Conn // of the trial
	var addressErr error
	switch {
	case o.Cutover.IsZero():
	case postgres.OnlyAddsSearchPath(o.Cutover, o.Postgres):
		conn, s.address, s.trial, s.notes, addressErr = postgres.ResolveAddressOpen(
			ctx, o.Cutover, o.Schema, !o.WithoutPGVector)
	default:
		s.address, s.trial, s.notes, addressErr = postgres.ResolveAddress(ctx, o.Cutover, o.Schema, !o.WithoutPGVector)
	}
	lockWait := cmp.Or(o.LockWait, postgres.LockWait)
	if conn != nil {
		s.tx, err = sink.BeginOn(ctx, conn, lockWait)
	} else {
		s.tx, err = sink.Begin(ctx, o.Postgres, o.Schema, lockWait)
	}
	if err != nil {
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

// finish commits, or rolls back a dry run.
func finish(
	ctx context.Context,
	tx *sink.Tx,
	files files,
	result *report.Migration,
	o Options,
) (*report.Migration, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.DryRun {
		tx.Rollback()
		return withoutReceipts(result), files.warnOfChanges(result)
	}
	o.OnProgress.Start(progress.Commit)
	// The files are checked last, since a write after this check is not migrated.
	warnings, err := tx.Commit(files.checkUnchanged)
	if err != nil {
		return nil, err
	}
	result.Committed = true
	result.Warnings = append(result.Warnings, warnings...)
	return result, nil
}

// withoutReceipts removes the ids of the receipts that a dry run rolled back.
func withoutReceipts(result *report.Migration) *report.Migration {
	result.Receipt = 0
	for _, further := range result.Further {
		further.Receipt = 0
	}
	return result
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
