package merge

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"flujo-port/internal/mapping"
	"flujo-port/internal/receipt"
	"flujo-port/internal/sqltext"
)

var (
	// noteWriters stores the writers of rows of files, since the server writes all rows again
	// when the type of a column changes.
	noteWriters = sqltext.New(`CREATE {{.persistence}}TABLE {{.writers}} AS
SELECT {{ident .primaryKey}} AS key, xmin::text::bigint AS writer FROM {{.target}}
WHERE xmin::text::bigint = ANY ({{.list}});
ANALYZE {{.writers}}`)

	// writeAgain writes the rows of one writer again.
	writeAgain = sqltext.New(`UPDATE {{.target}} t SET {{ident .column}} = t.{{ident .column}} FROM {{.writers}} w
WHERE w.key = t.{{ident .primaryKey}} AND w.writer = {{.writer}}`)

	newWriter = sqltext.New(`SELECT t.xmin::text::bigint FROM {{.target}} t JOIN {{.writers}} w
	ON w.key = t.{{ident .primaryKey}} WHERE w.writer = {{.writer}} LIMIT 1`)
)

// widen makes an integer column of the target bigint. Since the server writes all rows of
// the table again, it writes those of each file once more, in a savepoint for each of
// their writers, and changes the writers in the receipts. So it stays known which rows are
// of which file.
func (m *Merged) widen(ctx context.Context, table *mapping.Table, column string) error {
	t := m.state.tables[table.Name]
	known := m.state.Receipts.Writers(table.Name)
	of := m.marks[table.Name].Writers
	var writers []int64
	unknown := false // whether the writer of a row is unknown already
	rewritten := m.state.Receipts.Rewritten(table.Name)
	for _, w := range slices.Sorted(maps.Keys(t.rows)) {
		switch {
		case known[w] != nil, slices.Contains(of, w):
			writers = append(writers, w)
		case rewritten[w], slices.Contains(t.rewritten, w):
			unknown = true
		}
	}
	parts := m.tables.parts(table)
	parts["column"], parts["writers"] = column, m.tables.name(writersBefore)
	const step = "note which rows are of which file"
	if len(writers) > 0 {
		parts["list"] = bigints(writers)
		if err := m.tables.run(ctx, step, noteWriters.Fill(parts)); err != nil {
			return err
		}
	}
	if err := m.inSavepoint(ctx, func() error { return m.tables.target.Widen(ctx, table, column) }); err != nil {
		return err
	}
	moved := map[int64]int64{}
	for _, w := range writers {
		parts["writer"] = fmt.Sprint(w)
		err := m.inSavepoint(ctx, func() error {
			return m.tables.run(ctx, step, writeAgain.Fill(parts))
		})
		if err != nil {
			return err
		}
		var is int64
		if err := m.tables.conn().QueryRow(ctx, newWriter.Fill(parts)).Scan(&is); err != nil {
			return m.tables.conn().WrapError(step, err)
		}
		moved[w] = is
	}
	if len(writers) > 0 {
		if err := m.tables.run(ctx, step, "DROP TABLE "+parts["writers"].(string)); err != nil {
			return err
		}
	}
	if err := m.moveWriters(ctx, table.Name, moved); err != nil {
		return err
	}
	rows, err := writersOf(ctx, m.tables.target, table)
	if err != nil {
		return err
	}
	if (&tableState{rows: rows}).count() != t.count() {
		return nil // State.Check will say so
	}
	t.rows = rows
	if unknown {
		for w := range rows {
			if !slices.Contains(slices.Collect(maps.Values(moved)), w) {
				t.rewritten = append(t.rewritten, w)
			}
		}
	}
	return nil
}

// inSavepoint calls do in a savepoint, so that the rows that it writes have an xmin that no
// other rows have.
func (m *Merged) inSavepoint(ctx context.Context, do func() error) error {
	if err := m.tables.run(ctx, "set a savepoint", "SAVEPOINT flujo_port_widen"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return m.tables.run(ctx, "release the savepoint", "RELEASE flujo_port_widen")
}

// moveWriters replaces writers of a table in the receipts, in those of earlier files also
// in the database. It changes no receipt that a clone of the state has.
func (m *Merged) moveWriters(ctx context.Context, table string, moved map[int64]int64) error {
	if len(moved) == 0 {
		return nil
	}
	replace := func(writers []int64) (replaced []int64, changed bool) {
		replaced = slices.Clone(writers)
		for i, w := range writers {
			if is, ok := moved[w]; ok {
				replaced[i], changed = is, true
			}
		}
		slices.Sort(replaced)
		return replaced, changed
	}
	mark := m.marks[table]
	mark.Writers, _ = replace(mark.Writers)
	m.marks[table] = mark
	all := slices.Clone(m.state.Receipts)
	for i, r := range all {
		one := *r
		one.Tables = slices.Clone(r.Tables)
		changed := false
		for j := range one.Tables {
			t := &one.Tables[j]
			if t.Name != table {
				continue
			}
			t.Writers, changed = replace(t.Writers)
			if t.Merged != nil {
				merged, also := *t.Merged, false
				merged.Writers, also = replace(merged.Writers)
				t.Merged, changed = &merged, changed || also
			}
		}
		if !changed {
			continue
		}
		if err := receipt.UpdateTables(ctx, m.tables.conn(), &one); err != nil {
			return err
		}
		all[i] = &one
	}
	m.state.Receipts, m.tables.receipts = all, all
	return nil
}
