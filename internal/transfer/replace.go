package transfer

import (
	"context"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// archiveAndEmpty copies the rows of Flujo's tables to an archive schema, verifies
// the copy, and empties the tables.
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

// verifyArchive compares every row of the archive with the tables, which are
// emptied next. It does so in every verification mode.
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
				Message: fmt.Sprintf("the copy of table %q in schema %q differs from the table "+
					"(%d rows; the table has %d)", table.Name, m.archive.Schema, archived, rows),
				Hint: "look for event triggers that change new tables, and run again",
			}
		}
	}
	return nil
}

// describeReplaced adds the replaced rows to the report. It is called when only the
// receipt and the commit remain.
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

// archiveSchema returns the name of the archive schema, or "" if no rows were
// replaced.
func (m *migration) archiveSchema() string {
	if m.archive == nil {
		return ""
	}
	return m.archive.Schema
}
