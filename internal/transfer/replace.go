package transfer

import (
	"context"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// archiveAndEmpty keeps what Flujo's tables hold in a schema of its own, and empties
// them when all of it was read back there and is the same.
func (m *migration) archiveAndEmpty(ctx context.Context) (err error) {
	m.archive, err = m.tx.ArchiveRows(ctx, m.sinkSchema, func(table string) {
		m.progress(Progress{Phase: PhaseReplace, Table: table, All: m.rowsDone, Rest: m.totalRows - m.rowsDone})
	})
	if err != nil {
		return err
	}
	if err := m.verifyArchive(ctx); err != nil {
		return err
	}
	return m.tx.Empty(ctx, m.sinkSchema)
}

// verifyArchive compares the copies with the tables that are about to be emptied,
// whatever --verify says: nothing is thrown away that was not read back.
func (m *migration) verifyArchive(ctx context.Context) error {
	live, err := m.stored(ctx)
	if err != nil {
		return err
	}
	conn := *m.tx.Conn
	conn.Schema = m.archive.Schema
	copies, err := source.InTransaction(ctx, &conn, m.sinkSchema.Tables(), m.types, m.sinkSchema.VectorSchema())
	if err != nil {
		return err
	}
	for _, table := range m.sinkSchema.Tables() {
		rows, digest, err := live.Digest(ctx, &table)
		if err != nil {
			return err
		}
		archived, same, err := copies.Digest(ctx, &table)
		if err != nil {
			return err
		}
		if archived != rows || same != digest {
			return &clierr.Error{
				Kind: clierr.Mismatch,
				Message: fmt.Sprintf("the copy of table %q in schema %q differs from the table (%d rows, the table has %d)",
					table.Name, m.archive.Schema, archived, rows),
				Hint: "look for event triggers that change new tables, and run again",
			}
		}
	}
	return nil
}

// describeReplaced says what was replaced, when nothing stands in the way of
// the commit any more.
func (m *migration) describeReplaced() {
	if m.archive == nil {
		return
	}
	r := &report.Replaced{ArchiveSchema: m.archive.Schema, UndoSQL: m.archive.Undo, DropSQL: m.archive.Drop}
	for _, table := range m.archive.Tables {
		r.Tables = append(r.Tables, report.ArchivedTable(table))
	}
	m.report.Replaced = r
}

// archiveSchema names the schema that what was replaced is kept in; "" where
// nothing was.
func (m *migration) archiveSchema() string {
	if m.archive == nil {
		return ""
	}
	return m.archive.Schema
}
