package transfer

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// rebase begins with a copy of the base and changes in it what PostgreSQL has
// changed since; all else stays as it is, byte for byte. It gives the
// user_version that the file keeps.
func (r *restoration) rebase(ctx context.Context) (version int, err error) {
	base, layout, err := open(ctx, r.Base)
	if err != nil {
		return 0, err
	}
	defer base.Close()
	s := describeSource(base, layout)
	r.report.Base = &s
	if r.report.Base.Sound, err = checkIntegrity(ctx, base, false, r.Progress); err != nil {
		return 0, err
	}
	reading := r.reading(base, layout)
	reading.progress, reading.phase = r.Progress, PhaseRead
	if err := reading.all(ctx); err != nil {
		return 0, err
	}
	if err := r.needMigrated(ctx, base, reading); err != nil {
		return 0, err
	}
	if err := r.file.Fill(base.Content()); err != nil {
		return 0, err
	}
	if changed, err := base.Changed(); err != nil {
		return 0, err
	} else if changed {
		return 0, changedFault(base)
	}
	if err := r.stored.Originals(ctx, func(o source.Original) error { r.expectGuess(o); return nil }); err != nil {
		return 0, err
	}
	if err := r.file.Open(ctx); err != nil {
		return 0, err
	}
	for i := range r.report.Tables {
		if err := r.patch(ctx, reading, &r.report.Tables[i]); err != nil {
			return 0, err
		}
	}
	if err := r.raiseSequences(ctx); err != nil {
		return 0, err
	}
	return r.file.Version(ctx)
}

// needMigrated refuses a base that is not the file of the receipt.
func (r *restoration) needMigrated(ctx context.Context, base *source.Snapshot, reading *reading) error {
	if r.receipt == nil {
		return &fault.Error{Kind: fault.Refused, What: "there is no receipt of a migration in this schema, so what changed since can't be told", Do: "restore without --base"}
	}
	main, wal, err := base.SHA256(ctx)
	if err != nil {
		return err
	}
	r.report.Base.SHA256 = main
	same := r.receipt.File.SHA256 == main && r.receipt.File.WALSHA256 == wal
	r.report.Receipt = &report.ReceiptNote{MigratedAt: r.receipt.MigratedAt, Version: r.receipt.Version, Path: r.receipt.File.Path,
		SHA256: r.receipt.File.SHA256, Verify: r.receipt.Verify, SameBytes: same}
	if same {
		return nil
	}
	var others []string
	for _, row := range reading.found.Tables {
		rows, digest := receiptTable(r.receipt, row.Name).OfFile()
		mine := cmp.Or(reading.digests[row.Name], mapping.NewDigest(tableOf(row.Name)))
		if rows != mine.Rows || digest != mine.String() {
			others = append(others, row.Name)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.Refused,
		What: fmt.Sprintf("%q is not the file that was migrated, or it was written since: other rows in %s", base.Path(), strings.Join(others, ", ")),
		Do:   fmt.Sprintf("give the file that was migrated, %q with SHA-256 %s; to keep what both sides wrote, add --merge", r.receipt.File.Path, r.receipt.File.SHA256),
	}
}

// patch makes the rows of a table in the copy of the base those of PostgreSQL.
func (r *restoration) patch(ctx context.Context, reading *reading, row *report.RestoredTable) error {
	table := tableOf(row.Name)
	rows, digest, err := r.stored.Digest(ctx, table)
	if err != nil {
		return err
	}
	for _, t := range reading.found.Tables {
		if t.Name == row.Name {
			row.Derived = t.Derived
		}
	}
	p := &patching{restoration: r, ctx: ctx, plan: reading.layout.Plan(row.Name), row: row,
		back: &mapping.Back{Table: table, Types: r.stored.Types()}, generation: reading.layout.Generation}
	mine := cmp.Or(reading.digests[row.Name], mapping.NewDigest(table))
	if mine.Rows != rows || mine.String() != digest {
		c := comparing{ctx: ctx, reading: reading, stored: r.stored, table: table, same: sameToFlujo,
			found: func(report.Difference) {}, change: p.change}
		if err := c.run(); err != nil {
			return err
		}
	}
	r.lost(p.back)
	row.Kept = row.InPostgres - row.Written - row.Derived
	return nil
}

// patching changes the rows of one table in a copy of the base.
type patching struct {
	*restoration
	ctx        context.Context
	plan       *mapping.Plan
	row        *report.RestoredTable
	back       *mapping.Back
	generation string
	fitted     bool // the table has the columns that Flujo 0.6 gives it
}

// change makes one row what PostgreSQL has.
func (p *patching) change(kind, key string, columns []int, stored []byte) error {
	if err := p.fit(); err != nil {
		return err
	}
	table := p.plan.Table
	id := p.plan.PlainValue(key)
	if kind == report.RowMissing {
		n, err := p.file.Delete(p.ctx, table, id)
		p.row.Removed += n
		if n == 0 {
			p.row.Derived-- // nor does PostgreSQL have a row that was derived of the base
		}
		return err
	}
	values, err := p.back.Row(stored)
	if err != nil {
		return unholdable(err)
	}
	if kind == report.CellDiffer {
		n, err := p.file.Update(p.ctx, table, id, columns, values)
		if err != nil || n > 0 {
			p.row.Written += n
			return err
		}
		p.row.Derived-- // the base does not have the row that PostgreSQL has changed: it was derived
	}
	p.row.Written++
	return p.file.Insert(p.ctx, table, values)
}

// fit gives the table the columns that Flujo 0.6 gives it, before the first row
// is changed. What Flujo 0.4 laid out Flujo 0.6 can't write to, nor can this.
func (p *patching) fit() error {
	if p.fitted {
		return nil
	}
	p.fitted = true
	if !strings.HasPrefix(p.generation, "Flujo 0.6") {
		return &fault.Error{
			Kind: fault.Refused, What: fmt.Sprintf("PostgreSQL has changed %s since, and the base is laid out as by %s, which Flujo 0.6 can't write to", p.plan.Table.Name, p.generation),
			Do: "restore without --base, into a file as Flujo 0.6 lays it out",
		}
	}
	if !p.plan.InFile {
		if err := p.file.Make(p.ctx, []mapping.Table{*p.plan.Table}); err != nil {
			return err
		}
		return p.file.Index(p.ctx, []mapping.Table{*p.plan.Table})
	}
	return p.file.AddColumns(p.ctx, p.plan.Table, p.plan.Columns)
}

// raiseSequences makes AUTOINCREMENT go on behind the ids that PostgreSQL has
// handed out since.
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
		last, err := r.stored.LastID(ctx, tableOf(row.Name))
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
