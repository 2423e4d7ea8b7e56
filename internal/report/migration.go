// Package report is what a command has to say at its end, as plain data, and
// that as text and as JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// Format is the version of the JSON form. It grows when a field changes its
// meaning or goes; a field that is added leaves it.
const Format = 1

// Migration is the report of migrate.
type Migration struct {
	Format    int       `json:"format"`
	Command   string    `json:"command"`
	Version   string    `json:"version"`
	DryRun    bool      `json:"dry_run"`
	Committed bool      `json:"committed"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	Source    Source    `json:"source"`
	Target    Target    `json:"target"`
	Tables    []Table   `json:"tables"`
	Derived   []Derived `json:"derived"`
	// Ignored are the file's tables that are not Flujo's.
	Ignored []string `json:"ignored_tables"`
	// Notes are what a person should know and needs to do nothing about.
	Notes []string `json:"notes"`
	// The two FLUJO_STATE_URI, masked unless the user asked otherwise.
	Cutover  string `json:"cutover"`
	Rollback string `json:"rollback"`
}

// Source is the file that was read.
type Source struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"` // with its -wal
}

// Target is where the rows went.
type Target struct {
	Server   string `json:"server"` // its version
	Database string `json:"database"`
	Role     string `json:"role"`
	Schema   string `json:"schema"`
	PGVector string `json:"pgvector"` // version; empty without it
	// What was created, and not just used.
	MadeSchema   bool `json:"made_schema"`
	MadePGVector bool `json:"made_pgvector"`
}

// Table is what became of one table.
type Table struct {
	Name       string  `json:"name"`
	RowsRead   int64   `json:"rows_read"`   // from the file
	Derived    int64   `json:"derived"`     // made from other tables' rows
	InPostgres int64   `json:"in_postgres"` // counted there, in the transaction
	Bytes      int64   `json:"bytes"`       // sent to the server
	Seconds    float64 `json:"seconds"`     // from the first row's reading to the last one's arrival
	Match      bool    `json:"match"`       // the counts agree
}

// Derived says which rows were made, and of what.
type Derived struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	From  string `json:"from"`
	Count int64  `json:"from_rows"`
	Why   string `json:"why"`
}

// JSON writes the report as one JSON object.
func (m *Migration) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(m)
}

// Text writes the report for a person.
func (m *Migration) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", m.headline())
	fmt.Fprintf(&b, "from  %s (%s)\n", m.Source.Path, humanize.IBytes(uint64(m.Source.Bytes)))
	fmt.Fprintf(&b, "to    schema %q of database %q, as role %q, PostgreSQL %s, %s\n\n",
		m.Target.Schema, m.Target.Database, m.Target.Role, m.Target.Server, m.pgvector())
	m.table(&b)
	for _, d := range m.Derived {
		fmt.Fprintf(&b, "derived: %s rows in %s from %s rows of %s: %s\n", humanize.Comma(d.Rows), d.Table, humanize.Comma(d.Count), d.From, d.Why)
	}
	if len(m.Ignored) > 0 {
		fmt.Fprintf(&b, "left alone: tables that are not Flujo's: %s\n", strings.Join(m.Ignored, ", "))
	}
	for _, n := range m.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	m.addresses(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (m *Migration) headline() string {
	if m.Committed {
		return fmt.Sprintf("Done: every table's rows were counted on both sides, then committed, in %.1f s.", m.Seconds)
	}
	return fmt.Sprintf("Rehearsed in %.1f s and rolled back: nothing was left in the database.", m.Seconds)
}

func (m *Migration) pgvector() string {
	switch {
	case m.Target.PGVector == "":
		return "without pgvector"
	case m.Target.MadePGVector:
		return "pgvector " + m.Target.PGVector + " (created)"
	}
	return "pgvector " + m.Target.PGVector
}

func (m *Migration) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "table\trows read\tderived\trows in Postgres\tbytes\tseconds\t\t")
	for _, row := range m.Tables {
		mark := "✗"
		if row.Match {
			mark = "✓"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t\n", row.Name, humanize.Comma(row.RowsRead), humanize.Comma(row.Derived),
			humanize.Comma(row.InPostgres), humanize.IBytes(uint64(row.Bytes)), row.Seconds, mark)
	}
	t.Flush()
	fmt.Fprintln(w)
}

func (m *Migration) addresses(w io.Writer) {
	fmt.Fprintf(w, "\ncutover   FLUJO_STATE_URI=%s\nrollback  FLUJO_STATE_URI=%s\n", m.Cutover, m.Rollback)
	if !m.Committed {
		fmt.Fprintf(w, "\nFor the cutover itself stop Flujo, then run the same command without --dry-run.\n")
	}
}
