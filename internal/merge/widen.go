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
	rememberReceipts = sqltext.New(`CREATE {{.persistence}}TABLE {{.rewritten}} AS
SELECT * FROM (SELECT {{ident .primaryKey}} AS key, {{.receipt}} AS receipt FROM {{.target}}) t WHERE receipt <> 0;
CREATE INDEX ON {{.rewritten}} (receipt); ANALYZE {{.rewritten}}`)

	rewriteRows = sqltext.New(`UPDATE {{.target}} t SET {{ident .primaryKey}} = t.{{ident .primaryKey}}
FROM {{.rewritten}} r WHERE r.key = t.{{ident .primaryKey}} AND r.receipt = $1`)

	rewrittenBy = sqltext.New(`SELECT t.xmin::text::bigint FROM {{.target}} t
JOIN {{.rewritten}} r ON r.key = t.{{ident .primaryKey}} WHERE r.receipt = $1 LIMIT 1`)
)

// widen makes an integer column of the target bigint. Since the server then writes all
// rows of the table again, as one transaction, the rows of each receipt are written once
// more, and the receipts get the new writers. It is unknown who wrote the other rows.
func (m *Merged) widen(ctx context.Context, table *mapping.Table, column string) error {
	t, parts := m.state.tables[table.Name], m.tables.parts(table)
	parts["rewritten"], parts["receipt"] = m.tables.name(rewrittenRows), m.tables.receiptOf(table.Name, "")
	step := fmt.Sprintf("widen a column of table %q", table.Name)
	if err := m.tables.run(ctx, step, rememberReceipts.Fill(parts)); err != nil {
		return err
	}
	err := m.inSavepoint(ctx, step, func() error { return m.tables.target.Widen(ctx, table, column) })
	if err != nil {
		return err
	}
	writers := map[*receipt.Receipt]int64{}
	for _, r := range m.state.Receipts {
		writer, err := m.rewrite(ctx, step, parts, r.ID)
		if err != nil {
			return err
		}
		if writer != 0 {
			writers[r] = writer
		}
	}
	if err := m.tables.run(ctx, step, "DROP TABLE "+m.tables.name(rewrittenRows)); err != nil {
		return err
	}
	rows, err := writersOf(ctx, m.tables.target, table)
	if err != nil {
		return err
	}
	if (&tableState{rows: rows}).count() != t.count() {
		return nil // State.Check says so
	}
	t.rows, t.rewritten = rows, nil
	for w := range rows {
		if !slices.Contains(slices.Collect(maps.Values(writers)), w) {
			t.rewritten = append(t.rewritten, w)
		}
	}
	slices.Sort(t.rewritten)
	return m.state.Receipts.SetWriters(ctx, m.tables.conn(), table.Name, writers)
}

// rewrite writes the rows of a receipt again and returns their writer, 0 without rows.
func (m *Merged) rewrite(ctx context.Context, step string, parts sqltext.Parts, id int64) (writer int64, err error) {
	var n int64
	err = m.inSavepoint(ctx, step, func() (err error) {
		if n, err = m.tables.exec(ctx, rewriteRows.Fill(parts), id); err != nil {
			return m.tables.conn().WrapError(step, err)
		}
		return nil
	})
	if err != nil || n == 0 {
		return 0, err
	}
	if err := m.tables.conn().QueryRow(ctx, rewrittenBy.Fill(parts), id).Scan(&writer); err != nil {
		return 0, m.tables.conn().WrapError(step, err)
	}
	return writer, nil
}

// inSavepoint calls change in a savepoint, so that the rows that it writes have a writer of
// their own.
func (m *Merged) inSavepoint(ctx context.Context, step string, change func() error) error {
	if err := m.tables.run(ctx, step, "SAVEPOINT flujo_port_widen"); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return m.tables.run(ctx, step, "RELEASE flujo_port_widen")
}
