package restore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/compare"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// maxRounds is the maximum number of times that a copy of the base is patched
// before it is verified. Patching rows can change what is derived from them, so
// one round may not suffice.
const maxRounds = 4

// openBase is extract.Open for the base.
func openBase(ctx context.Context, path string) (*source.Snapshot, *mapping.Format, error) {
	base, format, err := extract.Open(ctx, path)
	if e, ok := errors.AsType[*clierr.Error](err); ok && e.Advice.Topic == clierr.NameStateFile {
		e.Advice.Topic = clierr.NameBase
	}
	return base, format, err
}

// fromBase copies the base and changes the rows that PostgreSQL has changed since the
// migration. Everything else remains byte for byte.
func (r *restoration) fromBase(ctx context.Context) error {
	base, format, err := openBase(ctx, r.options.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	s := extract.Describe(base, format)
	r.result.Base = &s
	if base.Locked() && !r.options.Merge {
		r.result.Warn("another process has the base open; what it writes from now on is not in the new file. " +
			"Stop Flujo before the restore.")
	}
	if err := r.chooseReceipt(ctx, base); err != nil {
		return err
	}
	if r.migrated != nil && !r.options.Merge { // after a merge, an earlier receipt may be the base's
		r.noteRounded(r.receipts, r.migrated)
	}
	r.result.Base.Integrity = source.IntegrityCheck
	reading, integrity := base.StartIntegrityCheck(ctx)
	defer integrity.Stop()
	file, err := r.extract(reading, base, format, r.options.OnProgress, integrity)
	if err != nil {
		return err
	}
	r.options.OnProgress.Start(progress.Integrity)
	if err := integrity.Wait(); err != nil {
		return err
	}
	if err := r.needMigrated(ctx, base, file); err != nil {
		return err
	}
	if err := r.file.SetMode(base.Mode()); err != nil {
		return err
	}
	err = r.stored.Originals(ctx, func(o postgres.Original) error {
		r.expectInferred(o)
		return nil
	})
	if err != nil {
		return err
	}
	if old := strings.HasPrefix(format.Name, "Flujo 0.6"); !old {
		return r.rewriteOlderBase(ctx, base, format, file)
	}
	if err := r.copyBase(base); err != nil {
		return err
	}
	return r.patchAll(ctx, format, file)
}

// chooseReceipt makes the receipt of the base that of the restoration, if there are several.
func (r *restoration) chooseReceipt(ctx context.Context, base *source.Snapshot) error {
	if len(r.receipts) < 2 {
		return nil
	}
	main, wal, err := base.SHA256(ctx)
	if err != nil {
		return err
	}
	if own := r.receipts.OfFile(main, wal); own != nil {
		r.migrated = own
		r.conversion, err = own.MappingOptions(r.stored.Server(), r.options.NaiveZone)
	}
	return err
}

// copyBase copies the base to the new file.
func (r *restoration) copyBase(base *source.Snapshot) error {
	if err := r.file.CopyFrom(base.Content()); err != nil {
		return err
	}
	return base.CheckUnchanged()
}

// patchAll changes the copy, in rounds, until what is extracted from it equals the rows
// in PostgreSQL. format and file are the base's.
func (r *restoration) patchAll(ctx context.Context, format *mapping.Format, file *extract.Result) error {
	for round := range maxRounds {
		if err := r.file.Open(ctx); err != nil {
			return err
		}
		patched := false
		for i := range r.result.Tables {
			n, err := r.patch(ctx, format, file, &r.result.Tables[i])
			if err != nil {
				return err
			}
			patched = patched || n
		}
		if round == 0 {
			if err := r.raiseSequences(ctx); err != nil {
				return err
			}
		}
		version, err := r.file.Version(ctx)
		if err != nil {
			return err
		}
		if err := r.file.Finish(ctx, version); err != nil {
			return err
		}
		if !patched {
			break
		}
		debug.FreeOSMemory() // as in verify
		var patchedFile *source.Snapshot
		if patchedFile, format, err = extract.Open(ctx, r.file.Path()); err != nil {
			return err
		}
		defer patchedFile.Close()
		if file, err = r.extract(ctx, patchedFile, format, nil, nil); err != nil {
			return err
		}
	}
	for i := range r.result.Tables {
		row := &r.result.Tables[i]
		for _, t := range file.Findings.Tables {
			if t.Name == row.Name {
				// A trace is derived also for runs that have none in PostgreSQL.
				row.Derived = min(t.Derived, row.InPostgres-row.Written)
			}
		}
		row.FromBase = row.InPostgres - row.Written - row.Derived
	}
	return nil
}

// rewriteOlderBase restores a base in the format of Flujo 0.4, to which Flujo 0.6
// cannot write. If PostgreSQL has changed no row, it copies the base. Otherwise it
// writes a file in the format of Flujo 0.6, in which unchanged rows get the bytes
// that they have in the base.
func (r *restoration) rewriteOlderBase(
	ctx context.Context,
	base *source.Snapshot,
	format *mapping.Format,
	file *extract.Result,
) error {
	old := &baseRows{snapshot: base, format: format, changed: map[uint64]bool{}}
	for _, row := range r.result.Tables {
		err := r.compare(ctx, file, row.Name, func(report.Difference) {}, func(c compare.Row) error {
			old.changed[cellHash(row.Name, c.Key, "")] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(old.changed) == 0 {
		if err := r.copyBase(base); err != nil {
			return err
		}
		return r.patchAll(ctx, format, file)
	}
	r.result.Note(
		"the base is in the format of %s, to which Flujo 0.6 cannot write, and PostgreSQL has changed rows since; "+
			"the new file is in the format of Flujo 0.6",
		format.Name)
	return r.rewrite(ctx, old)
}

// baseRows are the rows of a base that PostgreSQL has not changed since the
// migration.
type baseRows struct {
	snapshot *source.Snapshot
	format   *mapping.Format
	changed  map[uint64]bool // rows, by cellHash
}

// restoreRow sets the cells of row to their values in the base, except those that
// Flujo's SQLite columns would convert. It returns false if the base does not have
// the row, if PostgreSQL changed it, or if o is nil.
func (o *baseRows) restoreRow(
	ctx context.Context,
	table *mapping.Table,
	key string,
	row []sqlite.Value,
) (restored bool, err error) {
	if o == nil || o.changed[cellHash(table.Name, key, "")] {
		return false, nil
	}
	tm := o.format.Mapping(table.Name)
	if !tm.InFile {
		return false, nil
	}
	var old []sqlite.Value
	if column := tm.KeyColumn(); column != "" {
		old, err = o.snapshot.Row(ctx, table.Name, column, tm.PlainValue(key), tm.Columns)
	} else {
		old, err = o.snapshot.RowAt(ctx, table.Name, tm.PlainValue(key).Int, tm.Columns)
	}
	if err != nil || old == nil {
		return false, err
	}
	for i, c := range table.FileColumns() {
		from := tm.Position(c.Name)
		if i < len(tm.Fields) {
			from = tm.Fields[i].Position()
		}
		if from > 0 && c.Preserves(old[from-1]) {
			row[i] = old[from-1]
		}
	}
	return true, nil
}

// needMigrated refuses a base that is not the file of the receipt.
func (r *restoration) needMigrated(ctx context.Context, base *source.Snapshot, file *extract.Result) error {
	if r.migrated == nil {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: "the schema has no receipt, so the rows that changed since the migration are unknown",
			Advice:  clierr.Advice{Topic: clierr.NoBase},
		}
	}
	main, wal, err := base.SHA256(ctx)
	if err != nil {
		return err
	}
	r.result.Base.SHA256, r.result.Base.WALSHA256 = main, wal
	r.result.Receipt = r.migrated.Note(main, wal)
	if r.migrated.SameFile(main, wal) {
		return nil
	}
	different, err := r.difference(ctx, file)
	if err != nil {
		return err
	}
	if different == "" {
		r.result.Note(
			"the base's checksum differs from the receipt's (%s), but the rows that were migrated are equal",
			r.migrated.File.Path)
		return nil
	}
	if r.migrated.Verify == report.VerifyCounts {
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("the checksum of %q differs from the receipt's, "+
				"and that migration, verified by counts, stored no digests of its rows", base.Path()),
			Hint:   fmt.Sprintf("use the file with SHA-256 %s", r.migrated.File.SHA256),
			Advice: clierr.Advice{Topic: clierr.NotMigratedBase},
		}
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf(
			"%q is not the file that was migrated, or was written to since: %s", base.Path(), different),
		Hint: fmt.Sprintf(
			"use the file that was migrated, %q with SHA-256 %s",
			r.migrated.File.Path,
			r.migrated.File.SHA256,
		),
		Advice: clierr.Advice{Topic: clierr.NotMigratedBase},
	}
}

// difference says how the content of a base differs from that of the file that was migrated. It returns "" if it does
// not.
func (r *restoration) difference(ctx context.Context, file *extract.Result) (string, error) {
	var tables []string
	for _, row := range file.Findings.Tables {
		if r.migrated.Table(row.Name).OfFile() != file.Digest(row.Name) {
			tables = append(tables, row.Name)
		}
	}
	if len(tables) > 0 {
		return "different rows in " + strings.Join(tables, ", "), nil
	}
	originals, err := file.OriginalsDigest(ctx, nil)
	if err != nil || r.migrated.HasOriginals(originals) {
		return "", err
	}
	return "values that are converted with loss, or rejected rows, differ", nil
}

// patch changes the rows of a table in the copy of the base to PostgreSQL's, and
// reports whether it changed any.
func (r *restoration) patch(
	ctx context.Context,
	format *mapping.Format,
	file *extract.Result,
	row *report.RestoredTable,
) (patched bool, err error) {
	p := &patcher{
		restoration: r,
		ctx:         ctx,
		mapping:     format.Mapping(row.Name),
		row:         row,
		reverse:     &mapping.ReverseConverter{Table: mapping.TableOf(row.Name), Types: r.stored.Types()},
		duplicates:  file.Duplicates(row.Name),
	}
	err = r.compare(ctx, file, row.Name, func(report.Difference) {}, p.change)
	r.addLost(p.reverse)
	return p.changed, err
}

// patcher changes the rows of one table in a copy of the base.
type patcher struct {
	restoration *restoration
	ctx         context.Context
	mapping     *mapping.TableMapping
	row         *report.RestoredTable
	reverse     *mapping.ReverseConverter
	duplicates  map[int64]mapping.Reason // rows that are rejected for a duplicate key
	changed     bool                     // ensureColumns was called
}

// change changes one row to PostgreSQL's.
func (p *patcher) change(c compare.Row) error {
	table := p.mapping.Table
	if c.Kind == report.RowMissing && c.RowID == extract.NoRow {
		return nil // a derived row disappears with the rows that it is derived from
	}
	if err := p.ensureColumns(); err != nil {
		return err
	}
	if c.Kind == report.RowMissing {
		if len(p.duplicates) > 0 { // a rejected row with this key may be accepted now
			p.restoration.expected.rejectedRow(table.Name, c.Key)
		}
		p.row.Removed++
		return p.restoration.file.Delete(p.ctx, table, c.RowID)
	}
	values, err := p.reverse.Row(c.Key, rowdigest.Cells(c.Stored))
	if err != nil {
		return unrepresentable(err)
	}
	p.row.Written++
	if c.Kind == report.CellDiffer && c.RowID != extract.NoRow {
		return p.restoration.file.Update(p.ctx, table, c.RowID, c.Columns, values)
	}
	return p.restoration.file.Insert(p.ctx, table, values)
}

// ensureColumns adds the columns of Flujo 0.6 to the table, or creates the table,
// before the first row is changed. It adds a warning if the table has triggers.
func (p *patcher) ensureColumns() error {
	if p.changed {
		return nil
	}
	p.changed = true
	if err := p.warnOfTriggers(); err != nil {
		return err
	}
	if !p.mapping.InFile {
		if err := p.restoration.file.CreateTables(p.ctx, []mapping.Table{*p.mapping.Table}); err != nil {
			return err
		}
		return p.restoration.file.CreateIndexes(p.ctx, []mapping.Table{*p.mapping.Table})
	}
	return p.restoration.file.AddColumns(p.ctx, p.mapping.Table, p.mapping.Columns)
}

// warnOfTriggers adds a warning, once, if the table has triggers.
func (p *patcher) warnOfTriggers() error {
	table, result := p.mapping.Table.Name, p.restoration.result
	triggers, err := p.restoration.file.Triggers(p.ctx, table)
	if err != nil || len(triggers) == 0 {
		return err
	}
	warning := fmt.Sprintf("the base has triggers on %s, which did not run for the rows that were restored: %s",
		table, clierr.Names(triggers))
	if !slices.Contains(result.Warnings, warning) { // a table may be patched in several rounds
		result.Warn("%s", warning)
	}
	return nil
}

// lastID returns the last allocated id of a table. If the role may not read the
// sequence, it returns the highest id and adds a warning.
func (r *restoration) lastID(ctx context.Context, table *mapping.Table) (int64, error) {
	last, known, err := r.stored.LastID(ctx, table)
	if err == nil && !known {
		r.result.Warn(
			"this role may not read the sequence of %s: ids of deleted rows may be allocated again",
			table.Name,
		)
	}
	return last, err
}

// raiseSequences sets AUTOINCREMENT to PostgreSQL's last allocated ids, if they are
// higher than the base's.
func (r *restoration) raiseSequences(ctx context.Context) error {
	remembered, err := r.file.Sequences(ctx)
	if err != nil {
		return err
	}
	for _, row := range r.result.Tables {
		before, ok := remembered[row.Name]
		if !ok {
			continue
		}
		last, err := r.lastID(ctx, mapping.TableOf(row.Name))
		if err != nil {
			return err
		}
		if last > before {
			if err := r.file.SetSequence(ctx, row.Name, last); err != nil {
				return err
			}
		}
	}
	return nil
}
