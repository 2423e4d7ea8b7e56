// Package verify compares a state file with the rows that a migration stored in
// PostgreSQL, at any later time.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/compare"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/source"
)

// Options are the options of Run.
type Options struct {
	SQLite        string                  // path of the state file
	More          []string                // paths of further state files
	Postgres      string                  // connection string; "" to use only the PG* variables
	Schema        string                  // must not be empty
	SkipIntegrity bool                    // skip integrity_check
	NaiveZone     *time.Location          // zone of timestamps without one; nil means the receipt's, or UTC
	OnFinding     func(mapping.Finding)   // called for each finding in a file that was compared; may be nil
	OnDifference  func(report.Difference) // called for each difference; may be nil
	OnUnit        func(report.Unit)       // called for each unit, if files are compared by unit; may be nil
	LockWait      time.Duration           // timeout for the lock on each table; 0 means postgres.LockWait
	OnProgress    progress.Func
}

// Run compares state files with the rows of a schema, in one read-only snapshot. It
// uses the migrations' receipts to classify differences. If the schema holds the rows of
// one file that was loaded into empty tables, it compares row by row; otherwise unit by
// unit. It returns a clierr.Mismatch for a copy mismatch or, without a receipt, any
// difference, and a clierr.Refused if a file is not one that was migrated. With both it
// also returns the report.
func Run(ctx context.Context, o Options) (*report.Verification, error) {
	v := &verification{options: o, maxUnits: maxUnits}
	return v.measure(ctx)
}

// IfMigrated is Run for files that may not have been migrated. It returns no report if one of them, as it is now, has
// no receipt among those of the rows in the schema, even if its rows equal these. last is the id of the schema's last
// receipt, or 0 if there is none.
//
// If rows of a file were deleted since, the comparison is by unit, so that the report tells runs that Flujo continued
// from those of which rows are missing.
func IfMigrated(ctx context.Context, o Options) (result *report.Verification, last int64, err error) {
	v := &verification{options: o, maxUnits: maxUnits, ifMigrated: true}
	result, err = v.measure(ctx)
	if errors.Is(err, errNotMigrated) || errors.Is(err, postgres.ErrNoTables) {
		return nil, v.lastReceipt, nil
	}
	return result, v.lastReceipt, err
}

// errNotMigrated is the error of IfMigrated's steps for a file that was not migrated.
var errNotMigrated = errors.New("the file is none of those whose rows the schema holds")

// verification is what the steps of one run share.
type verification struct {
	options     Options
	maxUnits    int64
	ifMigrated  bool // the run is that of IfMigrated
	stored      *postgres.Snapshot
	receipts    receipt.Receipts // of the files whose rows the schema holds
	lastReceipt int64            // its id; 0 if there is none
	result      *report.Verification
	listed      bool // OnFinding was called for the file, which is compared again

	found     map[unitKey]bool // units with rewritten rows that a file has
	rewritten int64            // rewritten rows of these units
	// unrecorded are the kinds of units of which it is unknown which were superseded.
	unrecorded map[string]bool
}

// measure executes run, and adds the times to its report.
func (v *verification) measure(ctx context.Context) (*report.Verification, error) {
	started := time.Now()
	result, err := v.run(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if result == nil {
		return nil, postgres.FindBlocker(ctx, v.options.Postgres, err)
	}
	result.Started, result.Seconds = started.UTC().Truncate(time.Millisecond), time.Since(started).Seconds()
	return result, err
}

// run compares the files and returns the report, with an error that its verdict implies.
// With any other error it returns no report.
func (v *verification) run(ctx context.Context) (_ *report.Verification, err error) {
	o := v.options
	var files []load.File
	for _, path := range append([]string{o.SQLite}, o.More...) {
		snapshot, format, err := extract.Open(ctx, path)
		if err != nil {
			return nil, err
		}
		defer snapshot.Close()
		files = append(files, load.File{Snapshot: snapshot, Format: format})
	}
	o.OnProgress.Start(progress.Connect)
	v.stored, err = postgres.OpenSnapshot(ctx, o.Postgres, o.Schema, cmp.Or(o.LockWait, postgres.LockWait))
	if err != nil {
		return nil, err
	}
	defer v.stored.Close()
	v.result = v.newReport(files[0])
	if v.receipts, err = receipt.Current(ctx, v.stored.Conn()); err != nil {
		return nil, err
	}
	last := v.receipts.Last()
	switch {
	case last != nil:
		v.lastReceipt = last.ID
	case v.ifMigrated:
		return nil, errNotMigrated
	}
	if len(files) == 1 && len(v.receipts) <= 1 && (last == nil || !last.Options.Merged) {
		if err := v.compareRows(ctx, files[0], last); err != nil {
			return nil, err
		}
		v.result.Verdict, err = verdict(v.result, last)
		if v.result.Verdict == report.SourceMismatch {
			replaced, failed := v.replaced(ctx, files[0], v.result.Source.SHA256, v.result.Source.WALSHA256)
			if failed != nil {
				return nil, failed
			}
			if replaced != nil {
				err = replaced
			}
		}
		if !v.ifMigrated || err != nil || v.result.Deleted() == 0 {
			return v.result, err
		}
		v.result = v.newReport(files[0])
	}
	if last == nil {
		return nil, &clierr.Error{
			Kind:    clierr.Refused,
			Message: "the schema has no receipt, so it is unknown which rows are of which file",
			Hint:    "verify one file",
		}
	}
	err = v.compareUnits(ctx, files)
	if v.result.Verdict == "" {
		return nil, err
	}
	return v.result, err
}

// newReport returns the report before anything was compared. file is the first one.
func (v *verification) newReport(file load.File) *report.Verification {
	server := v.stored.Server()
	return &report.Verification{
		Warnings: []string{}, Notes: []string{},
		Source: extract.Describe(file.Snapshot, file.Format),
		Target: report.Target{
			Host: server.Host, Server: server.Name, Database: server.Database, Role: server.Role,
			Schema: v.options.Schema,
		},
		Tables: []report.Comparison{}, Files: []*report.VerifiedFile{},
	}
}

// onFinding returns the function that is called for each finding in a file, or nil.
func (v *verification) onFinding(file load.File) func(mapping.Finding) error {
	if v.options.OnFinding == nil || v.listed {
		return nil
	}
	return func(one mapping.Finding) error {
		if len(v.options.More) > 0 {
			one.File = file.Path()
		}
		v.options.OnFinding(one)
		return nil
	}
}

// compareRows compares a file with the whole schema, row by row. migrated is its receipt, or nil.
func (v *verification) compareRows(ctx context.Context, file load.File, migrated *receipt.Receipt) error {
	o, stored, result := v.options, v.stored, v.result
	options, err := migrated.MappingOptions(stored.Server(), o.NaiveZone)
	if err != nil {
		return err
	}
	config := migrated.Config(file.Snapshot, file.Format, stored.Types(), options)
	config.OnProgress = o.OnProgress
	reading, integrity := v.startIntegrityCheck(ctx, file, &result.Source)
	defer integrity.Stop()
	both, err := readBoth(reading, extract.New(file.Snapshot, config), file.Snapshot, stored, integrity)
	if err != nil {
		return err
	}
	result.Source.SHA256, result.Source.WALSHA256 = both.sha256, both.walSHA256
	result.Notes = append(result.Notes, both.file.Findings.Notes...)
	result.Found = both.file.Findings
	result.Receipt = migrated.Note(both.sha256, both.walSHA256)
	if err := file.CheckUnchanged(); err != nil {
		return err
	}
	if v.ifMigrated && !result.Receipt.SameBytes {
		if same, err := hasContentOf(ctx, both.file, migrated); err != nil {
			return err
		} else if !same {
			return errNotMigrated
		}
	}
	compareDigests(result, both, migrated)
	if err := compareOriginals(ctx, result, both.file, stored, migrated, v.onFinding(file)); err != nil {
		return integrity.Explain(err)
	}
	v.listed = true
	if !sourceMismatch(result) { // differences from another file have no meaning
		if err := locateAll(ctx, result, both.file, stored, migrated, o.OnDifference); err != nil {
			return err
		}
	}
	o.OnProgress.Start(progress.Integrity)
	if err := integrity.Wait(); err != nil {
		return err
	}
	return file.CheckUnchanged()
}

// startIntegrityCheck starts the check of a file's integrity, unless it is skipped.
func (v *verification) startIntegrityCheck(
	ctx context.Context, file load.File, described *report.Source,
) (context.Context, *source.Integrity) {
	if v.options.SkipIntegrity {
		return ctx, nil
	}
	described.Integrity = source.IntegrityCheck
	return file.StartIntegrityCheck(ctx)
}

// both is what was read of both sides.
type both struct {
	file              *extract.Result
	sha256, walSHA256 string
	stored            map[string]rowdigest.Digest // by table; those that exist
}

// readBoth extracts the file and hashes it, while the server computes the digests of
// what it stored.
func readBoth(
	ctx context.Context,
	file *extract.Extraction,
	snapshot *source.Snapshot,
	stored *postgres.Snapshot,
	integrity *source.Integrity,
) (*both, error) {
	hash := snapshot.StartHash(ctx)
	defer hash.Stop()
	result, digests, err := compare.ReadBoth(ctx, file, stored, integrity.Explain)
	if err != nil {
		return nil, err
	}
	main, wal, err := hash.Wait()
	if err != nil {
		return nil, integrity.Explain(err)
	}
	return &both{file: result, sha256: main, walSHA256: wal, stored: digests}, nil
}

// compareDigests compares the digests of the file, of the receipt and of PostgreSQL for
// each table, and adds the results to the report.
func compareDigests(result *report.Verification, both *both, migrated *receipt.Receipt) {
	for _, row := range both.file.Findings.Tables {
		mine := both.file.Digest(row.Name)
		theirs, exists := both.stored[row.Name]
		if !exists && mine.Rows == 0 {
			continue // memories, without pgvector
		}
		c := report.Comparison{Name: row.Name, RowsRead: row.RowsRead, Rejected: row.Rejected, Derived: row.Derived,
			InFile: mine.Rows, FileDigest: mine.Sum, InPostgres: theirs.Rows, Digest: theirs.Sum,
			TableMissing: !exists, Match: exists && mine == theirs}
		if t := migrated.Table(row.Name); t != nil {
			same := result.Receipt.SameBytes
			c.AtReceipt = t.Rows
			c.SourceMismatch = !same && !c.Match && t.OfFile() != mine
			if unchanged := exists && theirs == t.Stored(); same && unchanged && !c.Match {
				// The file and PostgreSQL's rows are unchanged since the migration, so
				// only this extraction differs.
				c.Match = true
				result.Notes = append(result.Notes,
					fmt.Sprintf("%s and the state file are unchanged since the migration, but this flujo-port "+
						"converts the file differently (another version, or another zone for "+
						"timestamps without one)", row.Name))
			}
		}
		result.Tables = append(result.Tables, c)
	}
}

// sourceMismatch reports whether the file is not the one of the receipt.
func sourceMismatch(result *report.Verification) bool {
	return slices.ContainsFunc(result.Tables, func(c report.Comparison) bool { return c.SourceMismatch })
}

// locateAll finds the rows that differ, in each table whose digests do.
func locateAll(
	ctx context.Context,
	result *report.Verification,
	file *extract.Result,
	stored *postgres.Snapshot,
	migrated *receipt.Receipt,
	onDifference func(report.Difference),
) error {
	for i := range result.Tables {
		c := &result.Tables[i]
		if c.Match || c.TableMissing || c.Name == mapping.Originals.Name {
			continue
		}
		differing, err := locate(ctx, c, file, stored, migrated.Table(c.Name), onDifference)
		if err != nil {
			return err
		}
		if c.Match = differing == 0; c.Match {
			result.Notes = append(result.Notes, fmt.Sprintf(compare.PrintedDifferently, c.Name))
		}
	}
	return nil
}

// locate finds the rows of a table that differ, counts them in c by whether each was
// written after the migration, and returns their number. t is the table's receipt, or
// nil.
func locate(
	ctx context.Context,
	c *report.Comparison,
	file *extract.Result,
	stored *postgres.Snapshot,
	t *receipt.Table,
	onDifference func(report.Difference),
) (differing int64, err error) {
	last := "" // key of the last row with a cell that differs; the row counts once
	return compare.Rows(ctx, file, stored, mapping.TableOf(c.Name), compare.Options{
		Writers: t.CopyWriters(),
		OnDifference: func(d report.Difference) {
			if onDifference != nil {
				onDifference(d)
			}
			if len(c.First) < report.FirstDifferences {
				c.First = append(c.First, d)
			}
			if d.Kind == report.CellDiffer && d.Key == last {
				return
			}
			if last = ""; d.Kind == report.CellDiffer {
				last = d.Key
			}
			c.Count(d)
		},
	})
}

// compareOriginals compares the stored original values, which only a migration writes,
// with those of the file, unless there is no receipt or it is of another file. It calls
// found, which may be nil, for each finding in the file.
func compareOriginals(
	ctx context.Context,
	result *report.Verification,
	file *extract.Result,
	stored *postgres.Snapshot,
	migrated *receipt.Receipt,
	found func(mapping.Finding) error,
) error {
	if migrated == nil || sourceMismatch(result) {
		if found == nil {
			return nil
		}
		return file.EachFinding(ctx, found)
	}
	originals := file.Originals(ctx, found)
	defer originals.Close()
	if _, err := (extract.Discard{}).Copy(ctx, &mapping.Originals, originals); err != nil {
		return err
	}
	mine, _ := originals.Digest()
	exists, err := stored.HasOriginals(ctx)
	if err != nil || !exists && mine.Rows == 0 && migrated.HasOriginals(mine) {
		return err
	}
	theirs := rowdigest.Empty
	if exists {
		if theirs, err = stored.Digest(ctx, &mapping.Originals); err != nil {
			return err
		}
	}
	c := report.Comparison{Name: mapping.Originals.Name, InFile: mine.Rows, AtReceipt: mine.Rows,
		Derived: mine.Rows, FileDigest: mine.Sum, InPostgres: theirs.Rows, TableMissing: !exists}
	if exists {
		c.Digest = theirs.Sum
	}
	if c.Match = exists && theirs == mine; !c.Match && !result.Receipt.SameBytes {
		if c.Match, c.SourceMismatch, err = compareContent(ctx, file, stored, migrated, exists); err != nil {
			return err
		}
	}
	if exists && !c.Match && !c.SourceMismatch {
		c.Mismatched = max(1, mine.Rows-theirs.Rows)
	}
	result.Tables = append(result.Tables, c)
	return nil
}

// compareContent compares original values as those of a file that was written to since, whose rowids may be others. It
// reports whether the stored ones are the file's, and whether the file is another one than the receipt's. exists says
// that there is a table of them.
func compareContent(
	ctx context.Context,
	file *extract.Result,
	stored *postgres.Snapshot,
	migrated *receipt.Receipt,
	exists bool,
) (match, otherFile bool, err error) {
	content, err := file.OriginalsDigest(ctx, nil)
	if err != nil || !migrated.HasOriginals(content) {
		return false, true, err
	}
	mine, err := file.OriginalsWithoutRowIDs(ctx)
	if err != nil || !exists {
		return false, false, err
	}
	theirs, err := stored.OriginalsWithoutRowIDs(ctx)
	return mine == theirs, false, err
}
