package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
)

// Replaced is what the target held before, and where it is kept.
type Replaced struct {
	Schema string      `json:"schema"`
	Tables []KeptTable `json:"tables"` // Flujo's, and the program's own where they were there
	// BackToIt are statements for psql, a line each, that put it all back in
	// one transaction; what is in the tables then is lost. Those of a rehearsal
	// name a schema that was rolled back.
	BackToIt []string `json:"back_to_it"`
	// DropIt is the statement that throws it away.
	DropIt string `json:"drop_it"`
}

// KeptTable is a table that is kept.
type KeptTable struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// replaced says what was replaced.
func (m *Migration) replaced(w io.Writer) {
	r := m.Replaced
	if r == nil {
		return
	}
	var tables []string
	for _, t := range r.Tables {
		tables = append(tables, t.Name+" "+humanize.Comma(t.Rows))
	}
	if m.Committed {
		fmt.Fprintf(w, "replaced: the rows that were there are kept in schema %q until you drop it: %s\n", r.Schema, strings.Join(tables, ", "))
		return
	}
	fmt.Fprintf(w, "replaced, and rolled back: the real run keeps the rows that are there in a schema such as %q, and prints the SQL that leads back to them: %s\n",
		r.Schema, strings.Join(tables, ", "))
}

// wayBack gives the lines that lead back to what was replaced.
func (m *Migration) wayBack(w io.Writer) {
	if m.Replaced == nil || !m.Committed {
		return
	}
	fmt.Fprintf(w, `
To go back to the replaced rows, stop Flujo and paste these lines into psql. What the tables hold by then is lost:
save it first with "flujo-port restore", if it is wanted.

%s

When the replaced rows are not wanted any more, and only then:

%s
`, indented(m.Replaced.BackToIt), indented([]string{m.Replaced.DropIt}))
}

func indented(lines []string) string { return "    " + strings.Join(lines, "\n    ") }
