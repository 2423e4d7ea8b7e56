package transfer

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// VerifyOptions are the options of Verify.
type VerifyOptions struct {
	SQLite        string                  // path of the state file
	Postgres      string                  // connection string; "" to use only the PG* variables
	Schema        string                  // must not be empty
	SkipIntegrity bool                    // skip quick_check
	NaiveZone     *time.Location          // zone of timestamps without one; nil means the receipt's, or UTC
	OnDifference  func(report.Difference) // called for each difference; may be nil
	LockWait      time.Duration           // timeout for the lock on each table; 0 means postgres.LockWait
	OnProgress    func(Progress)          // may be nil
}

// Verify compares a state file with the rows of a schema, in one read-only
// snapshot. It uses the migration's receipt to classify differences. It returns a
// clierr.Mismatch error for a copy mismatch or, without a receipt, any difference,
// and a clierr.Refused error if the file is not the one that was migrated. With
// both it also returns the report.
func Verify(ctx context.Context, o VerifyOptions) (*report.Verification, error) {
	started := time.Now()
	snapshot, format, err := open(ctx, o.SQLite)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer snapshot.Close()
	if o.OnProgress == nil {
		o.OnProgress = func(Progress) {}
	}
	o.OnProgress(Progress{Phase: PhaseConnect})
	stored, err := source.OpenDatabaseSnapshot(ctx, o.Postgres, o.Schema, cmp.Or(o.LockWait, postgres.LockWait))
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer stored.Close()
	v := &verification{VerifyOptions: o, extraction: newExtraction(snapshot, format), stored: stored}
	v.report = &report.Verification{
		Format:   report.Format,
		Command:  "verify",
		Started:  started.UTC().Truncate(time.Millisecond),
		Source:   describeSource(snapshot, format),
		Warnings: []string{},
		Notes:    []string{},
	}
	if err := v.run(ctx); err != nil {
		return nil, interrupted(ctx, err)
	}
	v.report.Seconds = time.Since(started).Seconds()
	return v.report, v.verdict()
}

// verification is one run of Verify.
type verification struct {
	VerifyOptions
	*extraction
	stored  *source.DatabaseSnapshot
	receipt *report.Receipt
	report  *report.Verification
}

func (v *verification) run(ctx context.Context) (err error) {
	if v.report.Source.Integrity, err = checkIntegrity(ctx, v.snapshot, v.SkipIntegrity, v.OnProgress); err != nil {
		return err
	}
	if v.receipt, err = v.stored.Receipt(ctx); err != nil {
		return err
	}
	hash := startFileHasher(ctx, v.snapshot)
	defer hash.stop()
	server := v.stored.Server()
	v.report.Target = report.Target{Server: server.Name, Database: server.Database, Role: server.Role, Schema: v.Schema}
	readCtx, cancel := context.WithCancel(ctx)
	digests := v.startDigester(readCtx, cancel)
	defer func() { cancel(); <-digests.done }()
	if err := v.extract(readCtx); err != nil && readCtx.Err() == nil {
		return err
	}
	<-digests.done
	if digests.err != nil {
		return digests.err
	}
	if _, _, err = hash.wait(); err != nil {
		return err
	}
	v.describeReceipt(hash)
	if err := v.needUnchanged(); err != nil {
		return err
	}
	if err := v.compare(ctx, digests); err != nil {
		return err
	}
	if err := v.compareOriginals(ctx); err != nil {
		return err
	}
	return v.needUnchanged()
}

// compareOriginals compares the stored original values, which only a migration
// writes, with those of the file.
func (v *verification) compareOriginals(ctx context.Context) error {
	if v.receipt == nil || v.receipt.Options.Merged || v.sourceMismatch() {
		return nil // they come from several files, or from another file
	}
	mine := mapping.NewDigest(&mapping.Originals)
	o := v.newOriginalTuples(ctx, nil)
	o.digest = mine
	defer o.close()
	for {
		if _, err := o.Append(nil); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	c := report.Comparison{Name: mapping.Originals.Name, InFile: mine.Rows, AtReceipt: mine.Rows}
	exists, err := v.stored.HasOriginals(ctx)
	if err != nil || !exists && mine.Rows == 0 {
		return err
	}
	if exists {
		if c.InPostgres, c.Digest, err = v.stored.Digest(ctx, &mapping.Originals); err != nil {
			return err
		}
	}
	c.TableMissing = !exists
	if c.Match = exists && c.InPostgres == mine.Rows && c.Digest == mine.String(); exists && !c.Match {
		c.Mismatched = max(1, mine.Rows-c.InPostgres)
	}
	v.report.Tables = append(v.report.Tables, c)
	return nil
}

// needUnchanged returns an error if the file was written to since it was opened,
// since the rows read may then belong to different states of the file.
func (v *verification) needUnchanged() error {
	if changed, err := v.snapshot.Changed(); err != nil || !changed {
		return err
	}
	return changedError(v.snapshot)
}

// extract extracts the file with the options of the migration.
func (v *verification) extract(ctx context.Context) (err error) {
	v.options = mapping.Options{JSONDepth: v.stored.Server().JSONDepth()}
	if r := v.receipt; r != nil {
		v.options.JSONDepth, v.modified = r.Options.JSONDepth, mapping.Time{Micros: r.Options.WrittenAt}
	}
	if v.options.NaiveZone, err = naiveZone(v.NaiveZone, v.receipt); err != nil {
		return err
	}
	v.progress, v.phase, v.withDigest, v.types = v.OnProgress, PhaseRead, true, v.stored.Types()
	v.dst = &tupleVisitor{types: v.types, visit: func([]byte) error { return nil }}
	return v.extractAll(ctx)
}

// digester has the server compute the digest of each table in the background. The
// fields are valid when done is closed.
type digester struct {
	done    chan struct{}
	rows    map[string]int64
	digests map[string]string
	err     error
}

// startDigester starts a digester. It calls failed if an error occurs.
func (v *verification) startDigester(ctx context.Context, failed func()) *digester {
	d := &digester{done: make(chan struct{}), rows: map[string]int64{}, digests: map[string]string{}}
	go func() {
		defer close(d.done)
		for _, table := range v.stored.Tables() {
			if d.rows[table.Name], d.digests[table.Name], d.err = v.stored.Digest(ctx, &table); d.err != nil {
				failed()
				return
			}
		}
	}()
	return d
}

// compare compares the digests of the file, of the receipt and of PostgreSQL for
// each table, and locates the rows that differ.
func (v *verification) compare(ctx context.Context, stored *digester) error {
	for _, row := range v.findings.Tables {
		table := v.format.Mapping(row.Name).Table
		mine := cmp.Or(v.digests[row.Name], mapping.NewDigest(table))
		digest, exists := stored.digests[row.Name]
		if !exists && mine.Rows == 0 {
			continue // memories, without pgvector
		}
		c := report.Comparison{Name: row.Name, InFile: mine.Rows, InPostgres: stored.rows[row.Name], Digest: digest}
		c.Match = exists && c.InFile == c.InPostgres && mine.String() == digest
		if atReceipt := v.receiptOf(row.Name); atReceipt != nil {
			c.AtReceipt = atReceipt.Rows
			same := v.report.Receipt.SameBytes
			rows, sum := atReceipt.OfFile()
			c.SourceMismatch = !same && !c.Match && (rows != mine.Rows || sum != mine.String())
			unchanged := exists && c.InPostgres == atReceipt.Rows && digest == atReceipt.Digest
			c.AsMerged = !c.Match && unchanged && atReceipt.Merged != nil
			if same && unchanged && !c.Match && !c.AsMerged {
				// The file and PostgreSQL's rows are unchanged since the migration, so
				// only this extraction differs.
				c.Match = true
				v.report.Notes = append(v.report.Notes,
					fmt.Sprintf("%s and the state file are unchanged since the migration, but this flujo-port "+
						"converts the file differently (another version, or another --naive-timezone)", row.Name))
			}
			c.Match = c.Match || c.AsMerged
		}
		v.report.Tables = append(v.report.Tables, c)
	}
	if v.sourceMismatch() {
		return nil // differences from another file have no meaning
	}
	for i := range v.report.Tables {
		if c := &v.report.Tables[i]; !c.Match {
			if err := v.locate(ctx, c, stored); err != nil {
				return err
			}
		}
	}
	return nil
}

// receiptOf returns the receipt of a table, or nil without a receipt.
func (v *verification) receiptOf(table string) *report.ReceiptTable {
	if v.receipt == nil {
		return nil
	}
	return receiptTable(v.receipt, table)
}

// receiptTable returns the receipt of a table. A table that the receipt does not
// name did not exist, so it has no rows.
func receiptTable(r *report.Receipt, table string) *report.ReceiptTable {
	return cmp.Or(r.Table(table), &report.ReceiptTable{Name: table, Digest: new(mapping.Sum).String()})
}

// sourceMismatch reports whether the file is not the one of the receipt.
func (v *verification) sourceMismatch() bool {
	return slices.ContainsFunc(v.report.Tables, func(c report.Comparison) bool { return c.SourceMismatch })
}

func (v *verification) describeReceipt(hash *fileHasher) {
	v.report.Source.SHA256 = hash.main
	v.report.Notes = append(v.report.Notes, v.findings.Notes...)
	r := v.receipt
	if r == nil {
		return
	}
	v.report.Receipt = &report.ReceiptNote{
		MigratedAt: r.MigratedAt, Version: r.Version, Path: r.File.Path, SHA256: r.File.SHA256, Verify: r.Verify,
		SameBytes: r.File.SHA256 == hash.main && r.File.WALSHA256 == hash.wal, Merged: r.Options.Merged,
	}
}

// locate finds the rows of a table that differ, and whether each was written after
// the migration.
func (v *verification) locate(ctx context.Context, c *report.Comparison, stored *digester) error {
	table := v.format.Mapping(c.Name).Table
	if _, exists := stored.digests[c.Name]; !exists {
		c.TableMissing = true
		return nil
	}
	var writers map[int64]bool
	atReceipt := v.receiptOf(c.Name)
	if atReceipt != nil {
		writers = map[int64]bool{}
		for _, w := range copyWriters(atReceipt) {
			writers[w] = true
		}
	}
	last := "" // key of the last row with a cell that differs; the row counts once
	search := comparer{
		ctx:        ctx,
		extraction: v.extraction,
		stored:     v.stored,
		table:      table,
		writers:    writers,
		onDifference: func(d report.Difference) {
			d = afterMerge(atReceipt, d)
			if v.OnDifference != nil {
				v.OnDifference(d)
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
	}
	if err := search.run(); err != nil {
		return err
	}
	if c.Match = search.rows == 0; c.Match {
		v.report.Notes = append(v.report.Notes, fmt.Sprintf(printedDifferently, c.Name))
	}
	return nil
}

// verdict sets the verdict of the report, and returns the error that it implies.
func (v *verification) verdict() error {
	r := v.report
	mismatched, drift, merged := int64(0), int64(0), false
	var changed, dropped []string
	for _, c := range r.Tables {
		if c.TableMissing {
			dropped = append(dropped, c.Name)
		}
		mismatched += c.Mismatched
		drift += c.Added + c.Changed + c.Deleted
		merged = merged || c.AsMerged
		if !c.SourceMismatch {
			continue
		}
		if had, _ := v.receiptOf(c.Name).OfFile(); had != c.InFile {
			changed = append(changed, fmt.Sprintf("%s has %d rows instead of %d", c.Name, c.InFile, had))
		} else {
			changed = append(changed, fmt.Sprintf("%s has different content", c.Name))
		}
	}
	switch {
	case len(changed) > 0:
		r.Verdict = report.SourceMismatch
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf(
				"%q is not the file that was migrated on %s, or was written to since: %s",
				r.Source.Path,
				r.Receipt.MigratedAt.Format(time.DateTime+" UTC"),
				strings.Join(changed, ", "),
			),
			Hint: fmt.Sprintf("use the file that was migrated, %q with SHA-256 %s", r.Receipt.Path, r.Receipt.SHA256),
		}
	case len(dropped) > 0:
		r.Verdict = report.Mismatch
		return &clierr.Error{
			Kind:    clierr.Mismatch,
			Message: fmt.Sprintf("the schema no longer has these tables: %s", strings.Join(dropped, ", ")),
			Hint:    "Flujo does not drop tables: restore them from a backup, or migrate the file into another schema",
		}
	case mismatched > 0 && v.receipt == nil:
		r.Verdict = report.Mismatch
		return &clierr.Error{
			Kind:    clierr.Mismatch,
			Message: rowsDiffer(mismatched),
			Hint:    "the schema has no receipt, so it is unknown whether the copy is wrong or they changed later",
		}
	case mismatched > 0:
		r.Verdict = report.CopyMismatch
		return &clierr.Error{
			Kind:    clierr.Mismatch,
			Message: rowsDiffer(mismatched) + ", although they were not written since the migration",
			Hint:    "Flujo did not change them: keep both, and migrate the state file into another schema",
		}
	case drift > 0:
		r.Verdict = report.Drift
	case merged:
		r.Verdict = report.Merged
	default:
		r.Verdict = report.Equal
	}
	return nil
}
