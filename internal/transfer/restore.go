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

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pg"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"

	"github.com/dustin/go-humanize/english"
)

// RestoreOptions says what to bring back where.
type RestoreOptions struct {
	SQLite    string // the file to be made; nothing may be there
	Base      string // the file that was migrated; "" without one
	Postgres  string
	Schema    string
	Merge     bool // with Base: take what either side has, as MigrateOptions.Merge does
	DryRun    bool
	NaiveZone *time.Location          // of times that name none, instead of the receipt's; may be nil
	Different func(report.Difference) // called for every difference that the verification finds; may be nil
	Progress  func(Progress)          // may be nil
}

// The phases of a restoration are PhaseConnect, PhaseRead, PhaseIndexes,
// PhaseVerify and PhaseName.

// Restore brings what a schema holds, in one read-only snapshot, into a new
// SQLite file that Flujo opens. The file is made beside its place, verified
// cell by cell, and then named; on any error nothing is left.
func Restore(ctx context.Context, o RestoreOptions) (*report.Restoration, error) {
	started := time.Now()
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	file, err := sink.NewFile(o.SQLite)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer file.Discard()
	r := &restoration{RestoreOptions: o, file: file, originals: map[string]bool{}, guesses: map[uint64]bool{}, asides: map[uint64]bool{}}
	r.report = &report.Restoration{
		Format: report.Format, Command: "restore", DryRun: o.DryRun, Started: started.UTC().Truncate(time.Millisecond),
		Lost: []report.Change{}, Warnings: []string{}, Notes: []string{},
	}
	if o.Merge {
		err = r.merged(ctx)
	} else {
		o.Progress(Progress{Phase: PhaseConnect})
		err = r.snapshot(ctx)
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

// snapshot restores what the schema holds.
func (r *restoration) snapshot(ctx context.Context) (err error) {
	if r.stored, err = source.OpenStored(ctx, r.Postgres, r.Schema, pg.LockWait); err != nil {
		return err
	}
	defer r.stored.Close()
	return r.run(ctx)
}

// merged restores what the schema would hold if the base were merged into it:
// that is done, in a transaction that is rolled back, and so both ways to merge
// have one result. Flujo's tables are locked meanwhile.
func (r *restoration) merged(ctx context.Context) error {
	there, err := source.OpenStored(ctx, r.Postgres, r.Schema, pg.LockWait) // or else there is nothing to merge
	if err != nil {
		return err
	}
	there.Close()
	_, err = Migrate(ctx, MigrateOptions{
		SQLite: r.Base, Postgres: r.Postgres, Schema: r.Schema, NaiveZone: r.NaiveZone, Merge: true, SetAside: true, DryRun: true,
		WithoutPGVector: true, // a table of memories that is there is used all the same
		Progress:        r.Progress,
		then: func(ctx context.Context, m *migration) (err error) {
			if r.stored, err = m.stored(ctx); err != nil {
				return err
			}
			r.report.Merge = m.report.Merge
			r.report.Warnings = append(r.report.Warnings, m.report.Warnings...)
			if rows, _ := m.found.Count(); rows > 0 {
				r.warn("%d rows of the base have no place in PostgreSQL: they are in the new file as they were, and were not merged", rows)
			}
			if m.report.Merge == nil {
				r.warn("schema %q holds no rows: the new file is the base alone", r.Schema)
			}
			return r.run(ctx)
		},
	})
	return err
}

// restoration is one run of Restore.
type restoration struct {
	RestoreOptions
	file      *sink.File
	stored    *source.Stored
	receipt   *report.Receipt
	convert   mapping.Options // as the migration read the file
	report    *report.Restoration
	originals map[string]bool // tables of which originals are kept
	kept      int64           // originals that there are
	guesses   map[uint64]bool // cells whose time is guessed, by cellHash
	asides    map[uint64]bool // rows that had no place, by cellHash
}

func (r *restoration) run(ctx context.Context) (err error) {
	server := r.stored.Server()
	r.report.Source = report.Target{Server: server.Name, Database: server.Database, Role: server.Role, Schema: r.Schema}
	if err := r.stored.NothingMore(); err != nil {
		return err
	}
	if r.receipt, err = r.stored.Receipt(ctx); err != nil {
		return err
	}
	if r.convert, err = r.options(); err != nil {
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
	return r.end(ctx)
}

// warnOfAbsent says which of Flujo's tables the schema does not have. What the
// base has of them stays, and without it there is nothing.
func (r *restoration) warnOfAbsent() {
	for _, table := range mapping.Tables {
		there := slices.ContainsFunc(r.stored.Tables(), func(t mapping.Table) bool { return t.Name == table.Name })
		switch {
		case there, table.Name == mapping.Memories: // which a server without pgvector does not have
		case r.Base != "":
			r.warn("schema %q has no table %s: what the base has of it is in the new file", r.Schema, table.Name)
		default:
			r.warn("schema %q has no table %s, and so the new file has none: give the file that was migrated with --base, if its rows are wanted", r.Schema, table.Name)
		}
	}
}

// end names the file, or removes it after a rehearsal.
func (r *restoration) end(ctx context.Context) error {
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
	r.Progress(Progress{Phase: PhaseName})
	if err := r.file.Commit(); err != nil {
		return err
	}
	r.report.Done = true
	if err := r.file.Synced(); err != nil {
		r.report.Warnings = append(r.report.Warnings, fmt.Sprintf("the file is whole and in its place, but its folder can't be synced (%v): should the machine crash now, look whether it is there", err))
	}
	return nil
}

// rewrite writes all rows anew, those that old knows with the bytes that they
// had; it may be nil.
func (r *restoration) rewrite(ctx context.Context, old *oldRows) error {
	if err := r.file.Open(ctx); err != nil {
		return err
	}
	if err := r.file.Make(ctx, r.tables()); err != nil {
		return err
	}
	if err := r.keepOriginals(ctx); err != nil {
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
			r.Progress(Progress{Phase: PhaseIndexes})
			if err := r.file.Index(ctx, r.tables()); err != nil {
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
func (r *restoration) table(ctx context.Context, row *report.RestoredTable, old *oldRows, before, all int64) error {
	table := tableOf(row.Name)
	back := &mapping.Back{Table: table, Types: r.stored.Types()}
	writers := r.writers(row.Name)
	n := int64(0)
	show := func(done bool) {
		r.Progress(Progress{Phase: PhaseRead, Table: row.Name, Rows: n, Of: row.InPostgres, All: before + n, Rest: all - before - n, Done: done})
	}
	show(false)
	err := r.stored.Each(ctx, table, func(stored source.StoredImage) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n++
		show(false)
		values, err := back.Row(stored.Image)
		if err != nil {
			return unholdable(err)
		}
		if row.Name == mapping.Traces {
			if derived, err := r.isDerived(ctx, stored.Image); err != nil {
				return err
			} else if derived {
				row.Derived++
				return nil
			}
		}
		key := mapping.ImageKey(table, stored.Image)
		if kept, err := old.put(ctx, table, key, values); err != nil {
			return err
		} else if kept {
			row.Kept++
			return r.file.Insert(ctx, table, values)
		}
		if r.originals[row.Name] && writers[stored.Writer] {
			kept, err := r.putBack(ctx, table, key, values)
			if err != nil {
				return err
			}
			row.Originals += kept
		}
		row.Written++
		return r.file.Insert(ctx, table, values)
	})
	if err != nil {
		return err
	}
	r.lost(back)
	if err := r.putAside(ctx, row); err != nil {
		return err
	}
	show(true)
	return nil
}

// unholdable says of a cell that SQLite can't hold what to do.
func unholdable(err error) error {
	cell, ok := errors.AsType[*mapping.UnholdableError](err)
	if !ok {
		return err
	}
	return &fault.Error{Kind: fault.Refused, What: "a SQLite file can't hold what PostgreSQL has", Err: cell, Do: "change that cell in PostgreSQL, then run again; no file was made"}
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

// lost takes over what a table's cells could not keep.
func (r *restoration) lost(back *mapping.Back) {
	for column, n := range back.Nulls {
		r.report.Lost = append(r.report.Lost, report.Change{
			Table: back.Table.Name, Column: column, Kind: "nan", Explain: "NaN became NULL, since SQLite holds none", Count: n, Keys: []string{},
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
	r.Progress(Progress{Phase: PhaseVerify})
	debug.FreeOSMemory() // what long cells took to be written is not to be added to what they take to be read
	snapshot, layout, err := open(ctx, r.file.Path())
	if err != nil {
		return err
	}
	defer snapshot.Close()
	reading := r.reading(snapshot, layout)
	if err := reading.all(ctx); err != nil {
		return err
	}
	for i := range r.report.Tables {
		row := &r.report.Tables[i]
		row.Match = true
		err := r.compare(ctx, reading, row.Name, func(d report.Difference) {
			row.Match = false
			r.report.Differing++
			if r.Different != nil {
				r.Different(d)
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
	return &fault.Error{
		Kind: fault.Different, What: fmt.Sprintf("%s in the new file not as PostgreSQL has them, the first: %s",
			english.Plural(int(r.report.Differing), "row is", "rows are"), r.report.Differences[0]),
		Do: "this is a mistake of flujo-port: no file was left; keep the database, and report it with the report's JSON",
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
func naiveZone(asked *time.Location, receipt *report.Receipt) (*time.Location, error) {
	if asked != nil || receipt == nil {
		return asked, nil
	}
	zone, err := time.LoadLocation(receipt.Options.NaiveTimes)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Usage, What: "the receipt's zone of times without one is not known here", Err: err, Do: "name it with --naive-times"}
	}
	return zone, nil
}

// reading is the reading of a file that says the same of it as the migration
// did.
func (r *restoration) reading(snapshot *source.Snapshot, layout *mapping.Layout) *reading {
	reading := newReading(snapshot, layout)
	reading.convert = r.convert
	if r.receipt != nil {
		reading.modified = mapping.Time{Micros: r.receipt.Options.WrittenAt}
	}
	reading.types, reading.digest = r.stored.Types(), true
	reading.into = &visitor{types: reading.types, each: func([]byte) error { return nil }}
	return reading
}

// compare compares a table of a file with PostgreSQL's, and calls found with
// each difference that means something, and changed with each row that has one.
func (r *restoration) compare(ctx context.Context, reading *reading, name string, found func(report.Difference), changed func(change) error) error {
	table := tableOf(name)
	rows, digest, err := r.stored.Digest(ctx, table)
	if err != nil {
		return err
	}
	if mine := reading.digests[name]; mine != nil && mine.Rows == rows && mine.String() == digest || mine == nil && rows == 0 {
		return nil
	}
	c := comparing{ctx: ctx, reading: reading, stored: r.stored, table: table, same: sameToFlujo}
	meant := map[string]bool{} // of the row that was told of last
	c.found = func(d report.Difference) {
		if r.expected(d) {
			return
		}
		clear(meant)
		meant[d.Key] = true
		found(d)
	}
	if changed != nil {
		c.change = func(ch change) error {
			if ch.kind == report.CellDiffer && !meant[ch.key] || ch.kind == report.RowMissing && r.expected(report.Difference{Table: name, Key: ch.key, Kind: ch.kind, Derived: ch.rowid == noRow}) {
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
		// one; and a row that had no place may have one by now.
		return d.Table == mapping.Traces && d.Derived || r.asides[cellHash(d.Table, d.Key, "")]
	case report.CellDiffer:
		return r.guesses[cellHash(d.Table, d.Key, d.Column)]
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
		return zero(mine) && zero(other) || mine == nil && len(other) == 8 && math.IsNaN(math.Float64frombits(binary.BigEndian.Uint64(other)))
	}
	return false
}
