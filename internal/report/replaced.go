package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
)

// Replaced is what the target held before, and where it is archived.
type Replaced struct {
	ArchiveSchema string          `json:"archive_schema"`
	Tables        []ArchivedTable `json:"tables"` // Flujo's, and the program's own where they were there
	// UndoSQL are statements for psql, a line each, that put it all back in
	// one transaction; what is in the tables then is lost. Those of a dry run
	// name a schema that was rolled back.
	UndoSQL []string `json:"undo_sql"`
	// DropSQL is the statement that throws it away.
	DropSQL string `json:"drop_sql"`
}

// ArchivedTable is an archived table.
type ArchivedTable struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// writeReplaced says what was replaced.
func (m *Migration) writeReplaced(w io.Writer) {
	r := m.Replaced
	if r == nil {
		return
	}
	var tables []string
	for _, t := range r.Tables {
		tables = append(tables, t.Name+" "+humanize.Comma(t.Rows))
	}
	if m.Committed {
		fmt.Fprintf(
			w,
			"replaced: the rows that were there are archived in schema %q until you drop it: %s\n",
			r.ArchiveSchema,
			strings.Join(tables, ", "),
		)
		return
	}
	fmt.Fprintf(
		w,
		"replaced, and rolled back: the real run archives the rows that are there in a schema such as %q, and prints the SQL that leads back to them: %s\n",
		r.ArchiveSchema,
		strings.Join(tables, ", "),
	)
}

// writeUndo gives the lines that lead back to what was replaced.
func (m *Migration) writeUndo(w io.Writer) {
	if m.Replaced == nil || !m.Committed {
		return
	}
	fmt.Fprintf(w, `
To go back to the replaced rows, stop Flujo and paste these lines into psql. What the tables hold by then is lost:
save it first with "flujo-port restore", if it is wanted.

%s

When the replaced rows are not wanted any more, and only then:

%s
`, indented(m.Replaced.UndoSQL), indented([]string{m.Replaced.DropSQL}))
}

func indented(lines []string) string { return "    " + strings.Join(lines, "\n    ") }
