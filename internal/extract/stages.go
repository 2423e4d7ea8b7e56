package extract

import (
	"context"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sqlite"
)

// rowReader reads rows: a rowid followed by the columns.
type rowReader interface {
	// Next returns the next row, or io.EOF after the last. The row is valid until
	// the next call of Next or Close.
	Next() ([]sqlite.Value, error)
	Close()
}

// stage is one source of a table's rows.
type stage struct {
	mapping *mapping.TableMapping
	open    func(context.Context) (rowReader, error)
	// duplicates are the rows that are rejected for a duplicate key, by rowid.
	duplicates map[int64]mapping.Reason
	// describe adds what is to be said of derived rows to the findings. It is nil
	// for rows of the file.
	describe func(*report.Findings, *loaded)
}

// stages returns the sources of a table's rows, in their order: the rows of the
// file, and then those that are derived from other tables. Before a derived stage is
// opened, k must describe the rows of the stages before it.
func (e *Extraction) stages(tm *mapping.TableMapping, k *known) []stage {
	var all []stage
	if tm.InFile {
		all = append(all, stage{
			mapping:    tm,
			duplicates: k.keys[tm.Table.Name].duplicates(),
			open: func(ctx context.Context) (rowReader, error) {
				return e.snapshot.Rows(ctx, tm.Table.Name, tm.Columns)
			},
		})
	}
	switch tm.Table.Name {
	case mapping.Runs:
		all = append(all, e.stubRunStage(k)...)
	case mapping.Traces:
		all = append(all, e.traceStage(k)...)
	}
	return all
}
