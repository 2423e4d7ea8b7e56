package transfer

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// maxRounds is the maximum number of times that a copy of the base is patched
// before it is verified. Patching rows can change what is derived from them, so
// one round may not suffice.
const maxRounds = 4

// rebase copies the base and changes the rows that PostgreSQL has changed since the
// migration. Everything else remains byte for byte.
func (r *restoration) rebase(ctx context.Context) error {
	base, format, err := open(ctx, r.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	s := describeSource(base, format)
	r.report.Base = &s
	if r.report.Base.Integrity, err = checkIntegrity(ctx, base, false, r.OnProgress); err != nil {
		return err
	}
	if base.Locked() && !r.Merge {
		r.warn("another process has the base open; what it writes from now on is not in the new file. " +
			"Stop Flujo before the restore.")
	}
	extraction := r.extractionOf(base, format)
	extraction.progress, extraction.phase = r.OnProgress, PhaseRead
	if err := extraction.extractAll(ctx); err != nil {
		return err
	}
	if err := r.needMigrated(ctx, base, extraction); err != nil {
		return err
	}
	if err := r.file.SetMode(base.Mode()); err != nil {
		return err
	}
	if err := r.stored.Originals(ctx, func(o source.Original) error { r.expectInferred(o); return nil }); err != nil {
		return err
	}
	if old := strings.HasPrefix(format.Name, "Flujo 0.6"); !old {
		return r.rewriteOlderBase(ctx, base, extraction)
	}
	if err := r.copyBase(base); err != nil {
		return err
	}
	return r.patchAll(ctx, extraction)
}

// copyBase copies the base to the new file.
func (r *restoration) copyBase(base *source.Snapshot) error {
	if err := r.file.CopyFrom(base.Content()); err != nil {
		return err
	}
	if changed, err := base.Changed(); err != nil || !changed {
		return err
	}
	return changedError(base)
}

// patchAll changes the copy, in rounds, until its extraction equals the rows in
// PostgreSQL. extraction is the base's.
func (r *restoration) patchAll(ctx context.Context, extraction *extraction) error {
	for round := range maxRounds {
		if err := r.file.Open(ctx); err != nil {
			return err
		}
		patched := false
		for i := range r.report.Tables {
			n, err := r.patch(ctx, extraction, &r.report.Tables[i])
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
		again, format, err := open(ctx, r.file.Path())
		if err != nil {
			return err
		}
		defer again.Close()
		extraction = r.extractionOf(again, format)
		if err := extraction.extractAll(ctx); err != nil {
			return err
		}
	}
	for i := range r.report.Tables {
		row := &r.report.Tables[i]
		for _, t := range extraction.findings.Tables {
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
func (r *restoration) rewriteOlderBase(ctx context.Context, base *source.Snapshot, extraction *extraction) error {
	old := &baseRows{snapshot: base, extraction: extraction, changed: map[uint64]bool{}}
	for _, row := range r.report.Tables {
		err := r.compare(ctx, extraction, row.Name, func(report.Difference) {}, func(c rowChange) error {
			old.changed[cellHash(row.Name, c.key, "")] = true
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
		return r.patchAll(ctx, extraction)
	}
	r.note(
		"the base is in the format of %s, to which Flujo 0.6 cannot write, and PostgreSQL has changed rows since; "+
			"the new file is in the format of Flujo 0.6",
		extraction.format.Name)
	return r.rewrite(ctx, old)
}

// baseRows are the rows of a base that PostgreSQL has not changed since the
// migration.
type baseRows struct {
	snapshot   *source.Snapshot
	extraction *extraction
	changed    map[uint64]bool // rows, by cellHash
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
	tm := o.extraction.format.Mapping(table.Name)
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
func (r *restoration) needMigrated(ctx context.Context, base *source.Snapshot, extraction *extraction) error {
	if r.receipt == nil {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: "the schema has no receipt, so the rows that changed since the migration are unknown",
			Hint:    "restore without --base",
		}
	}
	main, wal, err := base.SHA256(ctx)
	if err != nil {
		return err
	}
	r.report.Base.SHA256 = main
	same := r.receipt.File.SHA256 == main && r.receipt.File.WALSHA256 == wal
	r.report.Receipt = &report.ReceiptNote{
		MigratedAt: r.receipt.MigratedAt,
		Version:    r.receipt.Version,
		Path:       r.receipt.File.Path,
		SHA256:     r.receipt.File.SHA256,
		Verify:     r.receipt.Verify,
		SameBytes:  same,
	}
	if same {
		return nil
	}
	var others []string
	for _, row := range extraction.findings.Tables {
		rows, digest := receiptTable(r.receipt, row.Name).OfFile()
		mine := cmp.Or(extraction.digests[row.Name], mapping.NewDigest(tableOf(row.Name)))
		if rows != mine.Rows || digest != mine.String() {
			others = append(others, row.Name)
		}
	}
	if len(others) == 0 {
		r.note(
			"the base's checksum differs from the receipt's (%s), but the rows that were migrated are equal",
			r.receipt.File.Path)
		return nil
	}
	if r.receipt.Verify == VerifyCounts {
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("the checksum of %q differs from the receipt's, "+
				"and --verify counts stored no digests of its rows", base.Path()),
			Hint: fmt.Sprintf("use the file with SHA-256 %s, add --merge, or restore without --base",
				r.receipt.File.SHA256),
		}
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf(
			"%q is not the file that was migrated, or was written to since: different rows in %s",
			base.Path(),
			strings.Join(others, ", "),
		),
		Hint: fmt.Sprintf(
			"use the file that was migrated, %q with SHA-256 %s; to keep the changes of both sides, add --merge",
			r.receipt.File.Path,
			r.receipt.File.SHA256,
		),
	}
}

// patch changes the rows of a table in the copy of the base to PostgreSQL's, and
// reports whether it changed any.
func (r *restoration) patch(
	ctx context.Context,
	extraction *extraction,
	row *report.RestoredTable,
) (patched bool, err error) {
	p := &patcher{
		restoration: r,
		ctx:         ctx,
		mapping:     extraction.format.Mapping(row.Name),
		row:         row,
		reverse:     &mapping.ReverseConverter{Table: tableOf(row.Name), Types: r.stored.Types()},
		duplicates:  extraction.duplicates[row.Name],
	}
	err = r.compare(ctx, extraction, row.Name, func(report.Difference) {}, p.change)
	r.addLost(p.reverse)
	return p.changed, err
}

// patcher changes the rows of one table in a copy of the base.
type patcher struct {
	*restoration
	ctx        context.Context
	mapping    *mapping.TableMapping
	row        *report.RestoredTable
	reverse    *mapping.ReverseConverter
	duplicates map[int64]mapping.Reason // rows that are rejected for a duplicate key
	changed    bool                     // ensureColumns was called
}

// change changes one row to PostgreSQL's.
func (p *patcher) change(c rowChange) error {
	table := p.mapping.Table
	if c.kind == report.RowMissing && c.rowid == noRow {
		return nil // a derived row disappears with the rows that it is derived from
	}
	if err := p.ensureColumns(); err != nil {
		return err
	}
	if c.kind == report.RowMissing {
		if len(p.duplicates) > 0 { // a rejected row with this key may be accepted now
			p.rejectedRows[cellHash(table.Name, c.key, "")] = true
		}
		p.row.Removed++
		return p.file.Delete(p.ctx, table, c.rowid)
	}
	values, err := p.reverse.Row(c.stored)
	if err != nil {
		return unrepresentable(err)
	}
	p.row.Written++
	if c.kind == report.CellDiffer && c.rowid != noRow {
		return p.file.Update(p.ctx, table, c.rowid, c.columns, values)
	}
	return p.file.Insert(p.ctx, table, values)
}

// ensureColumns adds the columns of Flujo 0.6 to the table, or creates the table,
// before the first row is changed.
func (p *patcher) ensureColumns() error {
	if p.changed {
		return nil
	}
	p.changed = true
	if !p.mapping.InFile {
		if err := p.file.CreateTables(p.ctx, []mapping.Table{*p.mapping.Table}); err != nil {
			return err
		}
		return p.file.CreateIndexes(p.ctx, []mapping.Table{*p.mapping.Table})
	}
	return p.file.AddColumns(p.ctx, p.mapping.Table, p.mapping.Columns)
}

// lastID returns the last allocated id of a table. If the role may not read the
// sequence, it returns the highest id and adds a warning.
func (r *restoration) lastID(ctx context.Context, table *mapping.Table) (int64, error) {
	last, known, err := r.stored.LastID(ctx, table)
	if err == nil && !known {
		r.warn(
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
	for _, row := range r.report.Tables {
		before, ok := remembered[row.Name]
		if !ok {
			continue
		}
		last, err := r.lastID(ctx, tableOf(row.Name))
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
