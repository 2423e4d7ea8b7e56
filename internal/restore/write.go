package restore

import (
	"context"
	"errors"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
)

// rewrite writes all rows to an empty file. Unchanged rows get the bytes that they
// have in old, which may be nil.
func (r *restoration) rewrite(ctx context.Context, old *baseRows) error {
	if err := r.file.Open(ctx); err != nil {
		return err
	}
	if err := r.file.CreateTables(ctx, r.tables()); err != nil {
		return err
	}
	originals, err := r.loadOriginals(ctx)
	if err != nil {
		return err
	}
	all := int64(0)
	for _, row := range r.result.Tables {
		all += row.InPostgres
	}
	done := int64(0)
	for i := range r.result.Tables {
		row := &r.result.Tables[i]
		if row.Name == mapping.Traces { // spans are looked up by run_id
			r.options.OnProgress.Start(progress.Indexes)
			if err := r.file.CreateIndexes(ctx, r.tables()); err != nil {
				return err
			}
		}
		if err := r.table(ctx, row, old, originals, done, all); err != nil {
			return err
		}
		done += row.InPostgres
	}
	r.noteLeft(originals)
	if err := r.setSequences(ctx); err != nil {
		return err
	}
	return r.file.Finish(ctx, mapping.FileVersion)
}

// tables returns the tables of the new file.
func (r *restoration) tables() (all []mapping.Table) {
	for _, row := range r.result.Tables {
		all = append(all, *mapping.TableOf(row.Name))
	}
	return all
}

// table writes the rows of one table.
func (r *restoration) table(
	ctx context.Context,
	row *report.RestoredTable,
	old *baseRows,
	originals *originals,
	before, all int64,
) error {
	table := mapping.TableOf(row.Name)
	reverse := &mapping.ReverseConverter{Table: table, Types: r.stored.Types()}
	writers := r.receipts.Writers(row.Name)
	n := int64(0)
	show := func(done bool) {
		r.options.OnProgress.Report(
			progress.Event{
				Phase: progress.Read,
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
	err := r.stored.Each(ctx, table, func(stored postgres.StoredEncoding) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n++
		show(false)
		key, cells := rowdigest.Key(table, stored.Encoding), rowdigest.Cells(stored.Encoding)
		values, err := reverse.Row(key, cells)
		if err != nil {
			return unrepresentable(err)
		}
		if row.Name == mapping.Traces {
			if derived, err := r.isDerived(ctx, cells, originals); err != nil {
				return err
			} else if derived {
				row.Derived++
				return nil
			}
		}
		if restored, err := old.restoreRow(ctx, table, key, values); err != nil {
			return err
		} else if restored {
			row.FromBase++
			return r.file.Insert(ctx, table, values)
		}
		written := writers[stored.Writer]
		if r.options.FromReceipt != 0 {
			written = r.migrated // all rows are of its file
		}
		if written != nil && originals.tables[row.Name] {
			restored, err := r.restoreOriginals(ctx, written.ID, table, key, values)
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
	if err := r.restoreRejected(ctx, row, originals); err != nil {
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

// addLost adds the values of a table that SQLite cannot represent to the report.
func (r *restoration) addLost(reverse *mapping.ReverseConverter) {
	for column, n := range reverse.Nulls {
		r.result.Lost = append(r.result.Lost, report.Change{
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
	for _, row := range r.result.Tables {
		table := mapping.TableOf(row.Name)
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
