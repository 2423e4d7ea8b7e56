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

// RestoreOptions are the options of Restore.
type RestoreOptions struct {
	SQLite       string // path of the new file, which must not exist
	Base         string // path of the state file that was migrated; may be empty
	Postgres     string // connection string; "" to use only the PG* variables
	Schema       string // must not be empty
	Merge        bool   // merge Base and PostgreSQL as MigrateOptions.Merge does
	DryRun       bool
	NaiveZone    *time.Location          // zone of timestamps without one; nil means the receipt's
	OnDifference func(report.Difference) // called for each difference that the verification finds; may be nil
	OnProgress   func(Progress)          // may be nil
}

// The phases of a restoration are PhaseConnect, PhaseRead, PhaseIndexes,
// PhaseVerify and PhaseName.

// Restore copies the rows of a schema, from one read-only snapshot, to a new
// SQLite file that Flujo can open. It creates the file next to its final path,
// verifies every cell, and renames it. After an error no file is left. If the
// verification fails, Restore returns both a report and a clierr.Mismatch error.
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

// restoreSnapshot restores the rows of the schema.
func (r *restoration) restoreSnapshot(ctx context.Context) (err error) {
	if r.stored, err = source.OpenDatabaseSnapshot(ctx, r.Postgres, r.Schema, postgres.LockWait); err != nil {
		return err
	}
	defer r.stored.Close()
	return r.run(ctx)
}

// mergeBase merges the base into the schema in a transaction, restores the result,
// and rolls back. So a merge has the same result in both directions. Flujo's
// tables are locked until the end.
func (r *restoration) mergeBase(ctx context.Context) error {
	// Refuse a schema without Flujo's tables, which Migrate would create.
	existing, err := source.OpenDatabaseSnapshot(ctx, r.Postgres, r.Schema, postgres.LockWait)
	if err != nil {
		return err
	}
	existing.Close()
	_, err = Migrate(ctx, MigrateOptions{
		SQLite:          r.Base,
		Postgres:        r.Postgres,
		Schema:          r.Schema,
		NaiveZone:       r.NaiveZone,
		Merge:           true,
		Quarantine:      true,
		DryRun:          true,
		WithoutPGVector: true, // an existing memories table is used anyway
		OnProgress:      r.OnProgress,
		then: func(ctx context.Context, m *migration) (err error) {
			if r.stored, err = m.stored(ctx); err != nil {
				return err
			}
			r.report.Merge = m.report.Merge
			r.report.Warnings = append(r.report.Warnings, m.report.Warnings...)
			if rows, _ := m.findings.Count(); rows > 0 {
				r.warn("PostgreSQL rejects %d rows of the base: they were not merged and are unchanged in the new file",
					rows)
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
	mappingOptions mapping.Options // of the migration
	report         *report.Restoration
	originals      map[string]bool // tables that have original values
	originalCount  int64           // number of original values
	inferredTimes  map[uint64]bool // cells with an inferred timestamp, by cellHash
	rejectedRows   map[uint64]bool // rejected rows, by cellHash
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
			continue // Flujo creates the table if memory indexing is used
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

// warnOfAbsent adds a warning for each of Flujo's tables that the schema does not
// have. The new file has such a table only if the base has it.
func (r *restoration) warnOfAbsent() {
	for _, table := range mapping.Tables {
		exists := slices.ContainsFunc(r.stored.Tables(), func(t mapping.Table) bool { return t.Name == table.Name })
		switch {
		case exists, table.Name == mapping.Memories: // a server without pgvector has no memories table
		case r.Base != "":
			r.warn("schema %q has no table %s: the new file contains the rows of the base", r.Schema, table.Name)
		default:
			r.warn("schema %q has no table %s, so the new file has none; "+
				"for its rows, use the file that was migrated as --base", r.Schema, table.Name)
		}
	}
}

// finish renames the file to its final path. In a dry run it does not.
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
		r.warn("the file was restored, but its folder cannot be synced (%v); "+
			"after a crash, check that the file exists", err)
	}
	return nil
}

// rewrite writes all rows to an empty file. Unchanged rows get the bytes that they
// have in old, which may be nil.
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
		if row.Name == mapping.Traces { // spans are looked up by run_id
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

// tables returns the tables of the new file.
func (r *restoration) tables() (all []mapping.Table) {
	for _, row := range r.report.Tables {
		all = append(all, *tableOf(row.Name))
	}
	return all
}

// tableOf returns Flujo's table of that name, or nil.
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

// unrepresentable adds a hint to a *mapping.UnrepresentableError. It returns other
// errors unchanged.
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

// writers returns the transactions of the migration that wrote a table. It is
// empty without a receipt.
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

// addLost adds the values of a table that SQLite cannot represent to the report.
func (r *restoration) addLost(reverse *mapping.ReverseConverter) {
	for column, n := range reverse.Nulls {
		r.report.Lost = append(r.report.Lost, report.Change{
			Table:       reverse.Table.Name,
			Column:      column,
			Reason:      mapping.NonFiniteNumber.String(),
			Explanation: "NaN became NULL, because SQLite has no NaN",
			Count:       n,
			Keys:        []string{},
		})
	}
}

// setSequences sets AUTOINCREMENT to the last allocated ids in PostgreSQL.
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

// verify extracts the new file and compares the result with PostgreSQL.
func (r *restoration) verify(ctx context.Context) error {
	r.OnProgress(Progress{Phase: PhaseVerify})
	debug.FreeOSMemory() // lowers peak memory: long cells were held to write them, and are read next
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

// options returns the options with which the migration converted the file.
func (r *restoration) options() (o mapping.Options, err error) {
	o.JSONDepth = r.stored.Server().JSONDepth()
	if r.receipt != nil {
		o.JSONDepth = r.receipt.Options.JSONDepth
	}
	o.NaiveZone, err = naiveZone(r.NaiveZone, r.receipt)
	return o, err
}

// naiveZone returns requested, or the receipt's zone for timestamps without one if
// requested is nil. Without a receipt it returns nil.
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

// extractionOf returns an extraction of a file with the options of the migration.
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

// compare compares a table of a file with PostgreSQL's. It calls found with each
// difference that is not expected, and changed, unless it is nil, with each row
// that has one.
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
	reported := map[string]bool{} // key of the row of the last reported difference
	c.onDifference = func(d report.Difference) {
		if r.expected(d) {
			return
		}
		clear(reported)
		reported[d.Key] = true
		found(d)
	}
	if changed != nil {
		c.onChange = func(ch rowChange) error {
			if ch.kind == report.CellDiffer && !reported[ch.key] ||
				ch.kind == report.RowMissing &&
					r.expected(report.Difference{Table: name, Key: ch.key, Kind: ch.kind, Derived: ch.rowid == noRow}) {
				return nil
			}
			return changed(ch)
		}
	}
	return c.run()
}

// expected reports whether a difference is unavoidable.
func (r *restoration) expected(d report.Difference) bool {
	switch d.Kind {
	case report.RowMissing:
		// If PostgreSQL has spans and no trace, a trace is derived from the file; and
		// a row that was rejected may be accepted now.
		return d.Table == mapping.Traces && d.Derived || r.rejectedRows[cellHash(d.Table, d.Key, "")]
	case report.CellDiffer:
		return r.inferredTimes[cellHash(d.Table, d.Key, d.Column)]
	}
	return false
}

// sameToFlujo reports whether unequal cells have the same meaning to Flujo: JSON's
// null and NULL; zeros of either sign, since SQLite does not store the sign; and
// NULL in the file for NaN.
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
