// Package restore copies the rows that PostgreSQL stored to a new state file.
package restore

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"

	"github.com/dustin/go-humanize"
)

// Options are the options of Run.
type Options struct {
	SQLite       string // path of the new file, which must not exist
	Base         string // path of the state file that was migrated; may be empty
	Postgres     string // connection string; "" to use only the PG* variables
	Schema       string // must not be empty
	Merge        bool   // Flujo may have written to Base since: merge it with PostgreSQL's rows
	FromReceipt  int64  // id of the receipt of the file that is restored as it was; 0 for the rows as they are
	DryRun       bool
	NaiveZone    *time.Location          // zone of timestamps without one; nil means the receipt's
	OnDifference func(report.Difference) // called for each difference that the verification finds; may be nil
	OnProgress   progress.Func           // its phases are Connect, Read, Indexes, Verify and Rename
}

// Run copies the rows of a schema, from one read-only snapshot, to a new SQLite file
// that Flujo can open. It creates the file next to its final path, verifies every cell,
// and renames it. After an error no file is left. If the verification fails, Run
// returns both a report and a clierr.Mismatch.
func Run(ctx context.Context, o Options) (*report.Restoration, error) {
	started := time.Now()
	file, err := newStateFile(o.SQLite)
	if err != nil {
		return nil, err
	}
	defer file.Discard()
	result := &report.Restoration{
		DryRun: o.DryRun,
		Lost:   []report.Change{}, Warnings: []string{}, Notes: []string{},
	}
	if o.Merge {
		err = restoreMerged(ctx, file, result, o)
	} else {
		err = restoreSchema(ctx, file, result, o)
	}
	result.Started, result.Seconds = started.UTC().Truncate(time.Millisecond), time.Since(started).Seconds()
	switch {
	case ctx.Err() != nil && !result.Done:
		return nil, ctx.Err()
	case err != nil && result.Differing == 0:
		return nil, postgres.FindBlocker(ctx, o.Postgres, err)
	}
	return result, err
}

// restoreSchema restores the rows of the schema.
func restoreSchema(ctx context.Context, file *stateFile, result *report.Restoration, o Options) error {
	o.OnProgress.Start(progress.Connect)
	stored, err := postgres.OpenSnapshot(ctx, o.Postgres, o.Schema, postgres.LockWait)
	if err != nil {
		return err
	}
	defer stored.Close()
	receipts, err := receipt.Current(ctx, stored.Conn())
	if err != nil {
		return err
	}
	r := &restoration{
		options: o, file: file, stored: stored, receipts: receipts, migrated: receipts.Last(), result: result}
	if o.FromReceipt != 0 {
		return r.runFromReceipt(ctx)
	}
	return r.run(ctx)
}

// restoration is what the steps of one run share.
type restoration struct {
	options  Options
	file     *stateFile
	stored   *postgres.Snapshot
	receipts receipt.Receipts // of the files whose rows are stored
	migrated *receipt.Receipt // by whose settings the new file is read; nil without one
	result   *report.Restoration

	conversion mapping.Options             // of the migration
	digests    map[string]rowdigest.Digest // of the stored rows, by table; nil until extract has run
	expected   expectations
}

// describeSource adds the schema to the report.
func (r *restoration) describeSource() {
	server := r.stored.Server()
	r.result.Source = report.Target{
		Host: server.Host, Server: server.Name, Database: server.Database, Role: server.Role, Schema: r.options.Schema}
}

// run writes the file, verifies it and renames it.
func (r *restoration) run(ctx context.Context) (err error) {
	r.describeSource()
	if err := r.stored.CheckNoExtraColumns(); err != nil {
		return err
	}
	if r.conversion, err = r.migrated.MappingOptions(r.stored.Server(), r.options.NaiveZone); err != nil {
		return err
	}
	r.warnOfAbsent()
	if err := r.countRows(ctx); err != nil {
		return err
	}
	if r.options.Base != "" {
		err = r.fromBase(ctx)
	} else {
		r.noteRounded(r.receipts, nil)
		err = r.rewrite(ctx, nil)
	}
	if err != nil {
		return err
	}
	if err := r.verify(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

// countRows adds the tables of the schema to the report.
func (r *restoration) countRows(ctx context.Context) error {
	for _, table := range r.stored.Tables() {
		rows, err := r.stored.Count(ctx, &table)
		if err != nil {
			return err
		}
		if table.Name == mapping.Memories && rows == 0 && r.options.Base == "" {
			continue // Flujo creates the table if memory indexing is used
		}
		r.result.Tables = append(r.result.Tables, report.RestoredTable{Name: table.Name, InPostgres: rows})
	}
	return nil
}

// warnOfAbsent adds a warning for each of Flujo's tables that the schema does not have.
// The new file has such a table only if the base has it.
func (r *restoration) warnOfAbsent() {
	for _, table := range mapping.Tables {
		exists := slices.ContainsFunc(r.stored.Tables(), func(t mapping.Table) bool { return t.Name == table.Name })
		switch {
		case exists, table.Name == mapping.Memories: // a server without pgvector has no memories table
		case r.options.Base != "":
			r.result.Warn("schema %q has no table %s: the new file contains the rows of the base",
				r.options.Schema, table.Name)
		default:
			r.result.Warn("schema %q has no table %s, so the new file has none; "+
				"for its rows, use the file that was migrated as the base", r.options.Schema, table.Name)
		}
	}
}

// noteRounded adds which columns have values that migrations rounded, and that the new file has as PostgreSQL has them.
// base is the receipt of the base, or nil.
func (r *restoration) noteRounded(receipts receipt.Receipts, base *receipt.Receipt) {
	columns := map[string]int64{}
	for _, migrated := range receipts {
		if migrated == base {
			continue
		}
		for _, one := range migrated.Findings.Rounded {
			columns[one.Column] += one.Count
		}
	}
	names := slices.Sorted(maps.Keys(columns))
	switch {
	case len(names) == 0:
	case base != nil:
		r.result.Note("the new file has values of other files in %s as PostgreSQL has them, rounded to real",
			strings.Join(names, ", "))
	case len(receipts) > 1:
		r.result.Note(
			"the new file has values in %s as PostgreSQL has them, rounded to real",
			strings.Join(names, ", "),
		)
	default:
		for i, name := range names {
			names[i] = fmt.Sprintf("%s (%s)", name, humanize.Comma(columns[name]))
		}
		r.result.Note("the new file has the values that the migration rounded to real as PostgreSQL has them: %s; "+
			"with the file that was migrated as the base, it has that file's", strings.Join(names, ", "))
	}
}

// finish renames the file to its final path. In a dry run it does not.
func (r *restoration) finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err := filepath.Abs(r.options.SQLite)
	if err != nil {
		return &clierr.Error{
			Kind: clierr.Usage, Message: fmt.Sprintf("resolve the path %q", r.options.SQLite), Err: err}
	}
	r.result.File.Path = path
	if r.options.DryRun {
		return nil
	}
	r.options.OnProgress.Start(progress.Rename)
	warnings, err := r.file.Commit()
	if err != nil {
		return err
	}
	r.result.Done = true
	for _, warning := range warnings {
		r.result.Warn("the file was restored, but %s", warning)
	}
	return nil
}
