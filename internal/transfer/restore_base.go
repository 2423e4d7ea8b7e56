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
)

// maxRounds is how often a copy of the base is patched before the verification
// has the word. What is derived of other rows is derived anew of the patched
// ones, so the first round need not be the last.
const maxRounds = 4

// rebase begins with a copy of the base and changes in it what PostgreSQL has
// changed since; all else stays as it is, byte for byte.
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
		r.warn("another process has the base open; what it writes from now on is not in the new file. Is Flujo stopped?")
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

// copyBase fills the new file with the base.
func (r *restoration) copyBase(base *source.Snapshot) error {
	if err := r.file.CopyFrom(base.Content()); err != nil {
		return err
	}
	if changed, err := base.Changed(); err != nil || !changed {
		return err
	}
	return changedError(base)
}

// patchAll changes the copy, in rounds, until an extraction of it gives what
// PostgreSQL holds. extraction is that of the base.
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
				// Of runs without a trace in PostgreSQL one is derived all the same.
				row.Derived = min(t.Derived, row.InPostgres-row.Written)
			}
		}
		row.FromBase = row.InPostgres - row.Written - row.Derived
	}
	return nil
}

// rewriteOlderBase restores into a file in the format of Flujo 0.6, where the base is in that
// of Flujo 0.4, which 0.6 can't write to: with nothing changed since it is
// copied, and otherwise the rows that PostgreSQL has not changed get the bytes
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

// baseRows knows the rows of a base that PostgreSQL has not changed since.
type baseRows struct {
	snapshot   *source.Snapshot
	extraction *extraction
	changed    map[uint64]bool // rows, by cellHash
}

// restoreRow gives the cells of a row the values that they have in the base, where the
// row is there, unchanged, and Flujo's file keeps them. o may be nil.
func (o *baseRows) restoreRow(
	ctx context.Context,
	table *mapping.Table,
	key string,
	row []mapping.Value,
) (restored bool, err error) {
	if o == nil || o.changed[cellHash(table.Name, key, "")] {
		return false, nil
	}
	tm := o.extraction.format.Mapping(table.Name)
	if !tm.InFile {
		return false, nil
	}
	var old []mapping.Value
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
			Message: fmt.Sprintf("the checksum of %q differs from the receipt's, and --verify counts stored no digests of its rows",
				base.Path()),
			Hint: fmt.Sprintf("use the file with SHA-256 %s, add --merge, or restore without --base", r.receipt.File.SHA256),
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

// patch makes the rows of a table in the copy of the base those of PostgreSQL,
// and reports whether there was anything to do.
func (r *restoration) patch(
	ctx context.Context,
	extraction *extraction,
	row *report.RestoredTable,
) (patched bool, err error) {
	p := &patcher{restoration: r, ctx: ctx, mapping: extraction.format.Mapping(row.Name), row: row,
		reverse: &mapping.ReverseConverter{
			Table: tableOf(row.Name),
			Types: r.stored.Types(),
		}, duplicates: extraction.duplicates[row.Name]}
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
	duplicates map[int64]mapping.Reason // rows of it that are rejected, for another has their key
	changed    bool                     // the table has the columns that Flujo 0.6 gives it
}

// change makes one row what PostgreSQL has.
func (p *patcher) change(c rowChange) error {
	table := p.mapping.Table
	if c.kind == report.RowMissing && c.rowid == noRow {
		return nil // it goes when the rows go that it is derived of
	}
	if err := p.ensureColumns(); err != nil {
		return err
	}
	if c.kind == report.RowMissing {
		if len(p.duplicates) > 0 { // one that was rejected may be accepted now
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

// ensureColumns gives the table the columns that Flujo 0.6 gives it, before the first row
// is changed.
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

// lastID gives the highest id that a table allocated, and warns where it may be
// higher.
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

// raiseSequences makes AUTOINCREMENT go on behind the ids that PostgreSQL has
// allocated since.
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
