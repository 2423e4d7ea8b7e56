package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"

	"github.com/dustin/go-humanize/english"
)

// RestoreOptions says what to bring back where.
type RestoreOptions struct {
	SQLite       string // the file to be made; nothing may be there
	Base         string // the file that was migrated; "" without one
	Postgres     string
	Schema       string
	Merge        bool // with Base: take what either side has, as MigrateOptions.Merge does
	DryRun       bool
	NaiveZone    *time.Location          // of times that name none, instead of the receipt's; may be nil
	OnDifference func(report.Difference) // called for every difference that the verification finds; may be nil
	OnProgress   func(Progress)          // may be nil
}

// The phases of a restoration are PhaseConnect, PhaseRead, PhaseIndexes,
// PhaseVerify and PhaseName.

// Restore brings what a schema holds, in one read-only snapshot, into a new
// SQLite file that Flujo opens. The file is made next to its final path, verified
// cell by cell, and then named; on any error nothing is left.
func Restore(ctx context.Context, o RestoreOptions) (*report.Restoration, error) {
	started := time.Now()
	if o.OnProgress == nil {
		o.OnProgress = func(Progress) {}
	}
	file, err := sink.NewStateFile(o.SQLite)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer file.Discard()
	r := &restoration{
		RestoreOptions: o,
		file:           file,
		originals:      map[string]bool{},
		inferredTimes:  map[uint64]bool{},
		rejectedRows:   map[uint64]bool{},
	}
	r.report = &report.Restoration{
		Format: report.Format, Command: "restore", DryRun: o.DryRun, Started: started.UTC().Truncate(time.Millisecond),
		Lost: []report.Change{}, Warnings: []string{}, Notes: []string{},
	}
	if o.Merge {
		err = r.mergeBase(ctx)
	} else {
		o.OnProgress(Progress{Phase: PhaseConnect})
		err = r.restoreSnapshot(ctx)
	}
	r.report.Seconds = time.Since(started).Seconds()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && r.report.Differing > 0:
		return r.report, err
	case err != nil:
		return nil, err
	}
	return r.report, nil
}

// restoreSnapshot restores what the schema holds.
func (r *restoration) restoreSnapshot(ctx context.Context) (err error) {
	if r.stored, err = source.OpenDatabaseSnapshot(ctx, r.Postgres, r.Schema, postgres.LockWait); err != nil {
		return err
	}
	defer r.stored.Close()
	return r.run(ctx)
}

// mergeBase restores what the schema would hold if the base were merged into it:
// that is done, in a transaction that is rolled back, and so both ways to merge
// have one result. Flujo's tables are locked meanwhile.
func (r *restoration) mergeBase(ctx context.Context) error {
	there, err := source.OpenDatabaseSnapshot(
		ctx,
		r.Postgres,
		r.Schema,
		postgres.LockWait,
	) // or else there is nothing to merge
	if err != nil {
		return err
	}
	there.Close()
	_, err = Migrate(ctx, MigrateOptions{
		SQLite: r.Base, Postgres: r.Postgres, Schema: r.Schema, NaiveZone: r.NaiveZone, Merge: true, Quarantine: true, DryRun: true,
		WithoutPGVector: true, // a table of memories that is there is used all the same
		OnProgress:      r.OnProgress,
		then: func(ctx context.Context, m *migration) (err error) {
			if r.stored, err = m.stored(ctx); err != nil {
				return err
			}
			r.report.Merge = m.report.Merge
			r.report.Warnings = append(r.report.Warnings, m.report.Warnings...)
			if rows, _ := m.findings.Count(); rows > 0 {
				r.warn("PostgreSQL rejects %d rows of the base: they are unchanged in the new file and were not merged", rows)
			}
			if m.report.Merge == nil {
				r.warn("schema %q holds no rows: the new file contains only the base", r.Schema)
			}
			return r.run(ctx)
		},
	})
	return err
}

// restoration is one run of Restore.
type restoration struct {
	RestoreOptions
	file           *sink.StateFile
	stored         *source.DatabaseSnapshot
	receipt        *report.Receipt
	mappingOptions mapping.Options // as the migration read the file
	report         *report.Restoration
	originals      map[string]bool // tables of which originals are kept
	originalCount  int64           // originals that there are
	inferredTimes  map[uint64]bool // cells whose time was inferred, by cellHash
	rejectedRows   map[uint64]bool // rows that were rejected, by cellHash
}

func (r *restoration) run(ctx context.Context) (err error) {
	server := r.stored.Server()
	r.report.Source = report.Target{Server: server.Name, Database: server.Database, Role: server.Role, Schema: r.Schema}
	if err := r.stored.CheckNoExtraColumns(); err != nil {
		return err
	}
	if r.receipt, err = r.stored.Receipt(ctx); err != nil {
		return err
	}
	if r.mappingOptions, err = r.options(); err != nil {
		return err
	}
	r.warnOfAbsent()
	for _, table := range r.stored.Tables() {
		rows, err := r.stored.Count(ctx, &table)
		if err != nil {
			return err
		}
		if table.Name == mapping.Memories && rows == 0 && r.Base == "" {
			continue // Flujo makes the table when memory indexing is used
		}
		r.report.Tables = append(r.report.Tables, report.RestoredTable{Name: table.Name, InPostgres: rows})
	}
	if r.Base != "" {
		err = r.rebase(ctx)
	} else {
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

// warnOfAbsent says which of Flujo's tables the schema does not have. What the
// base has of them stays, and without it there is nothing.
func (r *restoration) warnOfAbsent() {
	for _, table := range mapping.Tables {
		there := slices.ContainsFunc(r.stored.Tables(), func(t mapping.Table) bool { return t.Name == table.Name })
		switch {
		case there, table.Name == mapping.Memories: // which a server without pgvector does not have
		case r.Base != "":
			r.warn("schema %q has no table %s: the new file contains the rows of the base", r.Schema, table.Name)
		default:
			r.warn(
				"schema %q has no table %s, so the new file has none; for its rows, use the file that was migrated as --base",
				r.Schema, table.Name)
		}
	}
}

// finish names the file, or removes it after a dry run.
func (r *restoration) finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err := filepath.Abs(r.SQLite)
	if err != nil {
		return err
	}
	r.report.File.Path = path
	if r.DryRun {
		return nil
	}
	r.OnProgress(Progress{Phase: PhaseName})
	if err := r.file.Commit(); err != nil {
		return err
	}
	r.report.Done = true
	if err := r.file.SyncError(); err != nil {
		r.warn("the file was restored, but its folder cannot be synced (%v); after a crash, check that the file exists", err)
	}
	return nil
}

// rewrite writes all rows anew, those that old knows with the bytes that they
// had; it may be nil.
func (r *restoration) rewrite(ctx context.Context, old *baseRows) error {
	if err := r.file.Open(ctx); err != nil {
		return err
	}
	if err := r.file.CreateTables(ctx, r.tables()); err != nil {
		return err
	}
	if err := r.loadOriginals(ctx); err != nil {
		return err
	}
	all := int64(0)
	for _, row := range r.report.Tables {
		all += row.InPostgres
	}
	done := int64(0)
	for i := range r.report.Tables {
		row := &r.report.Tables[i]
		if row.Name == mapping.Traces { // needs the spans by run
			r.OnProgress(Progress{Phase: PhaseIndexes})
			if err := r.file.CreateIndexes(ctx, r.tables()); err != nil {
				return err
			}
		}
		if err := r.table(ctx, row, old, done, all); err != nil {
			return err
		}
		done += row.InPostgres
	}
	r.noteLeft()
	if err := r.setSequences(ctx); err != nil {
		return err
	}
	return r.file.Finish(ctx, mapping.FileVersion)
}

// tables gives the tables that the file gets.
func (r *restoration) tables() (all []mapping.Table) {
	for _, row := range r.report.Tables {
		all = append(all, *tableOf(row.Name))
	}
	return all
}

func tableOf(name string) *mapping.Table {
	for i := range mapping.Tables {
		if mapping.Tables[i].Name == name {
			return &mapping.Tables[i]
		}
	}
	return nil
}

// table writes the rows of one table.
func (r *restoration) table(ctx context.Context, row *report.RestoredTable, old *baseRows, before, all int64) error {
	table := tableOf(row.Name)
	reverse := &mapping.ReverseConverter{Table: table, Types: r.stored.Types()}
	writers := r.writers(row.Name)
	n := int64(0)
	show := func(done bool) {
		r.OnProgress(
			Progress{
				Phase: PhaseRead,
				Table: row.Name,
				Rows:  n,
				Of:    row.InPostgres,
				All:   before + n,
				Rest:  all - before - n,
				Done:  done,
			},
		)
	}
	show(false)
	err := r.stored.Each(ctx, table, func(stored source.StoredEncoding) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n++
		show(false)
		values, err := reverse.Row(stored.Encoding)
		if err != nil {
			return unrepresentable(err)
		}
		if row.Name == mapping.Traces {
			if derived, err := r.isDerived(ctx, stored.Encoding); err != nil {
				return err
			} else if derived {
				row.Derived++
				return nil
			}
		}
		key := mapping.EncodingKey(table, stored.Encoding)
		if restored, err := old.restoreRow(ctx, table, key, values); err != nil {
			return err
		} else if restored {
			row.FromBase++
			return r.file.Insert(ctx, table, values)
		}
		if r.originals[row.Name] && writers[stored.Writer] {
			restored, err := r.restoreOriginals(ctx, table, key, values)
			if err != nil {
				return err
			}
			row.Originals += restored
		}
		row.Written++
		return r.file.Insert(ctx, table, values)
	})
	if err != nil {
		return err
	}
	r.addLost(reverse)
	if err := r.restoreRejected(ctx, row); err != nil {
		return err
	}
	show(true)
	return nil
}

// unrepresentable says of a cell that SQLite can't hold what to do.
func unrepresentable(err error) error {
	cell, ok := errors.AsType[*mapping.UnrepresentableError](err)
	if !ok {
		return err
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: "a SQLite file cannot store a value that PostgreSQL has",
		Err:     cell,
		Hint:    "change that value in PostgreSQL, then run again",
	}
}

// writers gives the transactions of the migration that wrote a table; none
// without a receipt.
func (r *restoration) writers(table string) map[int64]bool {
	writers := map[int64]bool{}
	if r.receipt != nil {
		if t := r.receipt.Table(table); t != nil {
			for _, w := range t.Writers {
				writers[w] = true
			}
		}
	}
	return writers
}

// addLost takes over what a table's cells could not keep.
func (r *restoration) addLost(reverse *mapping.ReverseConverter) {
	for column, n := range reverse.Nulls {
		r.report.Lost = append(r.report.Lost, report.Change{
			Table:       reverse.Table.Name,
			Column:      column,
			Reason:      "nan",
			Explanation: "NaN became NULL, because SQLite has no NaN",
			Count:       n,
			Keys:        []string{},
		})
	}
}

// setSequences makes AUTOINCREMENT go on where PostgreSQL's sequences are.
func (r *restoration) setSequences(ctx context.Context) error {
	for _, row := range r.report.Tables {
		table := tableOf(row.Name)
		if table.Serial() == "" {
			continue
		}
		last, err := r.lastID(ctx, table)
		if err != nil {
			return err
		}
		if err := r.file.SetSequence(ctx, row.Name, last); err != nil {
			return err
		}
	}
	return nil
}

// verify reads the new file as a migration would, and compares what that makes
// of it with what PostgreSQL holds.
func (r *restoration) verify(ctx context.Context) error {
	r.OnProgress(Progress{Phase: PhaseVerify})
	debug.FreeOSMemory() // what long cells took to be written is not to be added to what they take to be read
	snapshot, format, err := open(ctx, r.file.Path())
	if err != nil {
		return err
	}
	defer snapshot.Close()
	extraction := r.extractionOf(snapshot, format)
	if err := extraction.extractAll(ctx); err != nil {
		return err
	}
	for i := range r.report.Tables {
		row := &r.report.Tables[i]
		row.Match = true
		err := r.compare(ctx, extraction, row.Name, func(d report.Difference) {
			row.Match = false
			r.report.Differing++
			if r.OnDifference != nil {
				r.OnDifference(d)
			}
			if len(r.report.Differences) < report.FirstDifferences {
				r.report.Differences = append(r.report.Differences, d)
			}
		}, nil)
		if err != nil {
			return err
		}
	}
	if r.report.File.SHA256, _, err = snapshot.SHA256(ctx); err != nil {
		return err
	}
	r.report.File.Bytes = snapshot.Size()
	if r.report.Differing == 0 {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Mismatch,
		Message: fmt.Sprintf("%s from PostgreSQL; first: %s",
			english.Plural(int(r.report.Differing), "row in the new file differs", "rows in the new file differ"),
			r.report.Differences[0]),
		Hint: "this is a bug in flujo-port: keep the database, and report the bug with the output of --json",
	}
}

// options gives what the migration read the file with.
func (r *restoration) options() (o mapping.Options, err error) {
	o.JSONDepth = r.stored.Server().JSONDepth()
	if r.receipt != nil {
		o.JSONDepth = r.receipt.Options.JSONDepth
	}
	o.NaiveZone, err = naiveZone(r.NaiveZone, r.receipt)
	return o, err
}

// naiveZone gives the zone of times that name none: the one that was asked for,
// or the one by which a file was migrated.
func naiveZone(requested *time.Location, receipt *report.Receipt) (*time.Location, error) {
	if requested != nil || receipt == nil {
		return requested, nil
	}
	zone, err := time.LoadLocation(receipt.Options.NaiveTimezone)
	if err != nil {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the receipt's time zone is unknown on this machine",
			Err:     err,
			Hint:    "name it with --naive-timezone",
		}
	}
	return zone, nil
}

// extractionOf returns an extraction of a file with the options of the migration
// did.
func (r *restoration) extractionOf(snapshot *source.Snapshot, format *mapping.Format) *extraction {
	extraction := newExtraction(snapshot, format)
	extraction.options = r.mappingOptions
	if r.receipt != nil {
		extraction.modified = mapping.Time{Micros: r.receipt.Options.WrittenAt}
	}
	extraction.types, extraction.withDigest = r.stored.Types(), true
	extraction.dst = &tupleVisitor{types: extraction.types, visit: func([]byte) error { return nil }}
	return extraction
}

// compare compares a table of a file with PostgreSQL's, and calls found with
// each difference that means something, and changed with each row that has one.
func (r *restoration) compare(
	ctx context.Context,
	extraction *extraction,
	name string,
	found func(report.Difference),
	changed func(rowChange) error,
) error {
	table := tableOf(name)
	rows, digest, err := r.stored.Digest(ctx, table)
	if err != nil {
		return err
	}
	if mine := extraction.digests[name]; mine != nil && mine.Rows == rows && mine.String() == digest ||
		mine == nil && rows == 0 {
		return nil
	}
	c := comparer{ctx: ctx, extraction: extraction, stored: r.stored, table: table, same: sameToFlujo}
	meant := map[string]bool{} // of the row that was told of last
	c.onDifference = func(d report.Difference) {
		if r.expected(d) {
			return
		}
		clear(meant)
		meant[d.Key] = true
		found(d)
	}
	if changed != nil {
		c.onChange = func(ch rowChange) error {
			if ch.kind == report.CellDiffer && !meant[ch.key] ||
				ch.kind == report.RowMissing &&
					r.expected(report.Difference{Table: name, Key: ch.key, Kind: ch.kind, Derived: ch.rowid == noRow}) {
				return nil
			}
			return changed(ch)
		}
	}
	return c.run()
}

// expected reports whether a difference is one that cannot but be.
func (r *restoration) expected(d report.Difference) bool {
	switch d.Kind {
	case report.RowMissing:
		// PostgreSQL may have spans and no trace, of which the SQLite backend makes
		// one; and a row that was rejected may have one by now.
		return d.Table == mapping.Traces && d.Derived || r.rejectedRows[cellHash(d.Table, d.Key, "")]
	case report.CellDiffer:
		return r.inferredTimes[cellHash(d.Table, d.Key, d.Column)]
	}
	return false
}

// sameToFlujo reports whether cells that differ read the same: JSON's null and
// NULL, which Flujo's PostgreSQL backend may hold both, and a zero with a sign,
// which SQLite keeps none of.
func sameToFlujo(kind mapping.Kind, mine, other []byte) bool {
	null := func(cell []byte) bool { return cell == nil || kind == mapping.KindJSON && string(cell[1:]) == "null" }
	zero := func(cell []byte) bool { return len(cell) == 8 && binary.BigEndian.Uint64(cell)<<1 == 0 }
	switch kind {
	case mapping.KindJSON:
		return null(mine) && null(other)
	case mapping.KindFloat4, mapping.KindFloat8:
		return zero(mine) && zero(other) ||
			mine == nil && len(other) == 8 && math.IsNaN(math.Float64frombits(binary.BigEndian.Uint64(other)))
	}
	return false
}
