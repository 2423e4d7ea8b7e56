package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
)

// Replaced describes the rows that the target held before, and their archive
// schema.
type Replaced struct {
	ArchiveSchema string          `json:"archive_schema"`
	Tables        []ArchivedTable `json:"tables"` // Flujo's, and those of flujo-port if they existed
	// UndoSQL are statements for psql, one a line, that restore the archived rows
	// in one transaction. They delete the rows that the tables hold by then. After
	// a dry run they name a schema that was rolled back.
	UndoSQL []string `json:"undo_sql"`
	// DropSQL is the statement that deletes the archive schema.
	DropSQL string `json:"drop_sql"`
}

// ArchivedTable is one table of the archive schema.
type ArchivedTable struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// writeReplaced writes which rows were archived, and where.
func (m *Migration) writeReplaced(w io.Writer) {
	r := m.Replaced
	if r == nil {
		return
	}
	var tables []string
	for _, t := range r.Tables {
		tables = append(tables, t.Name+" "+humanize.Comma(t.Rows))
	}
	counts := strings.Join(tables, ", ")
	if m.Committed {
		printf(w, "replaced: the previous rows are archived in schema %q until you drop it: %s\n",
			r.ArchiveSchema, counts)
		return
	}
	printf(w, "replaced, then rolled back: the real run archives the existing rows in a schema such as %q, "+
		"and prints the SQL that restores them: %s\n", r.ArchiveSchema, counts)
}

// writeUndo writes the SQL that restores the archived rows, and the SQL that
// deletes them.
func (m *Migration) writeUndo(w io.Writer) {
	if m.Replaced == nil || !m.Committed {
		return
	}
	fmt.Fprintf(w, `
To restore the archived rows, stop Flujo and paste these lines into psql.
They delete the rows that the tables hold by then. If you need those, save them
first with "flujo-port restore".

%s

To delete the archived rows for good, when they are no longer needed:

%s
`, indented(m.Replaced.UndoSQL), indented([]string{m.Replaced.DropSQL}))
}

func indented(lines []string) string { return "    " + strings.Join(lines, "\n    ") }
