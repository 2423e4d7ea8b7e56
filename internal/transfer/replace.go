package transfer

import (
	"context"
	"fmt"

	"flujo-port/internal/fault"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// replace keeps what Flujo's tables hold in a schema of its own, and empties
// them when all of it was read back there and is the same.
func (m *migration) replace(ctx context.Context) (err error) {
	m.kept, err = m.tx.Keep(ctx, m.schema, func(table string) {
		m.progress(Progress{Phase: PhaseReplace, Table: table, All: m.copied, Rest: m.total - m.copied})
	})
	if err != nil {
		return err
	}
	if err := m.readKept(ctx); err != nil {
		return err
	}
	return m.tx.Empty(ctx, m.schema)
}

// readKept compares the copies with the tables that are about to be emptied,
// whatever --verify says: nothing is thrown away that was not read back.
func (m *migration) readKept(ctx context.Context) error {
	live, err := m.stored(ctx)
	if err != nil {
		return err
	}
	conn := *m.tx.Conn
	conn.Schema = m.kept.Schema
	copies, err := source.InTransaction(ctx, &conn, m.schema.Tables(), m.types, m.schema.VectorSchema())
	if err != nil {
		return err
	}
	for _, table := range m.schema.Tables() {
		rows, digest, err := live.Digest(ctx, &table)
		if err != nil {
			return err
		}
		kept, same, err := copies.Digest(ctx, &table)
		if err != nil {
			return err
		}
		if kept != rows || same != digest {
			return &fault.Error{
				Kind: fault.Different, What: fmt.Sprintf("the copy of table %q in schema %q is not what the table holds: %d rows, not %d, or others", table.Name, m.kept.Schema, kept, rows),
				Do: "nothing was taken out of the table; look for event triggers or whatever else changes new tables, and run again",
			}
		}
	}
	return nil
}

// describeReplaced says what was replaced, when nothing stands in the way of
// the commit any more.
func (m *migration) describeReplaced() {
	if m.kept == nil {
		return
	}
	r := &report.Replaced{Schema: m.kept.Schema, BackToIt: m.kept.Back, DropIt: m.kept.Drop}
	for _, table := range m.kept.Tables {
		r.Tables = append(r.Tables, report.KeptTable(table))
	}
	m.report.Replaced = r
}

// replacedSchema names the schema that what was replaced is kept in; "" where
// nothing was.
func (m *migration) replacedSchema() string {
	if m.kept == nil {
		return ""
	}
	return m.kept.Schema
}
