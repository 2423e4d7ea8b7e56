package migrate

import (
	"context"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/load"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/sink"
)

// archiveRows copies the rows of Flujo's tables to an archive schema, verifies the copy,
// and empties the tables.
func archiveRows(ctx context.Context, into sink.Loader, onProgress progress.Func) (*sink.Archive, error) {
	archive, err := into.Tx.ArchiveRows(ctx, into.Schema, func(table string) {
		onProgress.Report(progress.Event{Phase: progress.Replace, Table: table})
	})
	if err != nil {
		return nil, err
	}
	if err := verifyArchive(ctx, into, archive); err != nil {
		return nil, err
	}
	return archive, into.Tx.Empty(ctx, into.Schema)
}

// verifyArchive compares every row of the archive with the tables, which are emptied
// next. It does so in every verification mode.
func verifyArchive(ctx context.Context, into sink.Loader, archive *sink.Archive) error {
	live, err := load.Snapshot(ctx, into)
	if err != nil {
		return err
	}
	conn := *into.Tx.Conn
	conn.Schema = archive.Schema
	schema := into.Schema
	copies, err := postgres.InTransaction(ctx, &conn, schema.Tables(), schema.Types, schema.VectorSchema())
	if err != nil {
		return err
	}
	for _, table := range schema.Tables() {
		original, err := live.Digest(ctx, &table)
		if err != nil {
			return err
		}
		archived, err := copies.Digest(ctx, &table)
		if err != nil {
			return err
		}
		if archived != original {
			return &clierr.Error{
				Kind: clierr.Mismatch,
				Message: fmt.Sprintf("the copy of table %q in schema %q differs from the table "+
					"(%d rows; the table has %d)", table.Name, archive.Schema, archived.Rows, original.Rows),
				Hint: "look for event triggers that change new tables, and run again",
			}
		}
	}
	return nil
}
