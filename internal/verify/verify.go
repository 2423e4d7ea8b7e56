// Package verify compares a state file with the rows that a migration stored in
// PostgreSQL, at any later time.
package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"flujo-port/internal/compare"
	"flujo-port/internal/extract"
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
	Postgres      string                  // connection string; "" to use only the PG* variables
	Schema        string                  // must not be empty
	SkipIntegrity bool                    // skip integrity_check
	NaiveZone     *time.Location          // zone of timestamps without one; nil means the receipt's, or UTC
	OnDifference  func(report.Difference) // called for each difference; may be nil
	LockWait      time.Duration           // timeout for the lock on each table; 0 means postgres.LockWait
	OnProgress    progress.Func
}

// Run compares a state file with the rows of a schema, in one read-only snapshot. It
// uses the migration's receipt to classify differences. It returns a clierr.Mismatch
// for a copy mismatch or, without a receipt, any difference, and a clierr.Refused if
// the file is not the one that was migrated. With both it also returns the report.
func Run(ctx context.Context, o Options) (*report.Verification, error) {
	started := time.Now()
	result, migrated, err := run(ctx, o)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, postgres.FindBlocker(ctx, o.Postgres, err)
	}
	result.Started, result.Seconds = started.UTC().Truncate(time.Millisecond), time.Since(started).Seconds()
	result.Verdict, err = verdict(result, migrated)
	return result, err
}

// run compares the two sides and returns the report without its verdict, and the
// receipt, nil if there is none.
func run(ctx context.Context, o Options) (*report.Verification, *receipt.Receipt, error) {
	snapshot, format, err := extract.Open(ctx, o.SQLite)
	if err != nil {
		return nil, nil, err
	}
	defer snapshot.Close()
	o.OnProgress.Start(progress.Connect)
	stored, err := postgres.OpenSnapshot(ctx, o.Postgres, o.Schema, cmp.Or(o.LockWait, postgres.LockWait))
	if err != nil {
		return nil, nil, err
	}
	defer stored.Close()
	server := stored.Server()
	result := &report.Verification{
		Format: report.Format, Command: "verify", Warnings: []string{}, Notes: []string{},
		Source: extract.Describe(snapshot, format),
		Target: report.Target{Server: server.Name, Database: server.Database, Role: server.Role, Schema: o.Schema},
	}
	migrated, err := receipt.Last(ctx, stored.Conn())
	if err != nil {
		return nil, nil, err
	}
	options, err := migrated.MappingOptions(server, o.NaiveZone)
	if err != nil {
		return nil, nil, err
	}
	config := migrated.Config(snapshot, format, stored.Types(), options)
	config.OnProgress = o.OnProgress
	reading, integrity := ctx, (*source.Integrity)(nil)
	if !o.SkipIntegrity {
		result.Source.Integrity = source.IntegrityCheck
		reading, integrity = snapshot.StartIntegrityCheck(ctx)
		defer integrity.Stop()
	}
	both, err := readBoth(reading, extract.New(snapshot, config), snapshot, stored, integrity)
	if err != nil {
		return nil, nil, err
	}
	result.Source.SHA256 = both.sha256
	result.Notes = append(result.Notes, both.file.Findings.Notes...)
	result.Receipt = migrated.Note(both.sha256, both.walSHA256)
	if err := snapshot.CheckUnchanged(); err != nil {
		return nil, nil, err
	}
	compareDigests(result, both, migrated)
	if !sourceMismatch(result) { // differences from another file have no meaning
		if err := locateAll(ctx, result, both.file, stored, migrated, o.OnDifference); err != nil {
			return nil, nil, err
		}
		if err := compareOriginals(ctx, result, both.file, stored, migrated); err != nil {
			return nil, nil, err
		}
	}
	o.OnProgress.Start(progress.Integrity)
	if err := integrity.Wait(); err != nil {
		return nil, nil, err
	}
	return result, migrated, snapshot.CheckUnchanged()
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
		c := report.Comparison{Name: row.Name, InFile: mine.Rows, InPostgres: theirs.Rows, Digest: theirs.Sum,
			TableMissing: !exists, Match: exists && mine == theirs}
		if t := migrated.Table(row.Name); t != nil {
			same := result.Receipt.SameBytes
			c.AtReceipt = t.Rows
			c.SourceMismatch = !same && !c.Match && t.OfFile() != mine
			unchanged := exists && theirs == t.Stored()
			c.AsMerged = !c.Match && unchanged && t.Merged != nil
			if same && unchanged && !c.Match && !c.AsMerged {
				// The file and PostgreSQL's rows are unchanged since the migration, so
				// only this extraction differs.
				c.Match = true
				result.Notes = append(result.Notes,
					fmt.Sprintf("%s and the state file are unchanged since the migration, but this flujo-port "+
						"converts the file differently (another version, or another zone for "+
						"timestamps without one)", row.Name))
			}
			c.Match = c.Match || c.AsMerged
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
		if c.Match || c.TableMissing {
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
			d.Since = d.Since || t.IsRenumbered(d)
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
// with those of the file. Those of a merge come from several files.
func compareOriginals(
	ctx context.Context,
	result *report.Verification,
	file *extract.Result,
	stored *postgres.Snapshot,
	migrated *receipt.Receipt,
) error {
	if migrated == nil || migrated.Options.Merged {
		return nil
	}
	originals := file.Originals(ctx, nil)
	defer originals.Close()
	if _, err := (extract.Discard{}).Copy(ctx, &mapping.Originals, originals); err != nil {
		return err
	}
	mine, _ := originals.Digest()
	exists, err := stored.HasOriginals(ctx)
	if err != nil || !exists && mine.Rows == 0 {
		return err
	}
	theirs := rowdigest.Empty
	if exists {
		if theirs, err = stored.Digest(ctx, &mapping.Originals); err != nil {
			return err
		}
	}
	c := report.Comparison{Name: mapping.Originals.Name, InFile: mine.Rows, AtReceipt: mine.Rows,
		InPostgres: theirs.Rows, TableMissing: !exists}
	if exists {
		c.Digest = theirs.Sum
	}
	if c.Match = exists && theirs == mine; exists && !c.Match {
		c.Mismatched = max(1, mine.Rows-theirs.Rows)
	}
	result.Tables = append(result.Tables, c)
	return nil
}
