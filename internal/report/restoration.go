package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// Restoration is the report of the command restore.
type Restoration struct {
	Format  int             `json:"format"`
	Command string          `json:"command"`
	Version string          `json:"version"`
	DryRun  bool            `json:"dry_run"`
	Done    bool            `json:"done"` // the new file has been created at File.Path
	Started time.Time       `json:"started"`
	Seconds float64         `json:"seconds"`
	Source  Target          `json:"source"` // the schema that was read
	File    RestoredFile    `json:"file"`
	Base    *Source         `json:"base"` // the file that unchanged rows were copied from; nil without one
	Receipt *ReceiptNote    `json:"receipt"`
	Merge   *Merge          `json:"merge"` // nil without --merge
	Tables  []RestoredTable `json:"tables"`
	// Lost counts the cells that SQLite cannot store and that became NULL.
	Lost []Change `json:"lost"`
	// Differing is the number of rows that differ between the new file and
	// PostgreSQL. If there are any, the file was removed.
	Differing   int64        `json:"differing_rows"`
	Differences []Difference `json:"-"`
	Warnings    []string     `json:"warnings"`
	Notes       []string     `json:"notes"`
	Rollback    string       `json:"rollback"` // FLUJO_STATE_URI that names the file
}

// RestoredFile is the file that was created.
type RestoredFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// RestoredTable is the result for one table.
type RestoredTable struct {
	Name       string `json:"name"`
	InPostgres int64  `json:"in_postgres"`
	// Written is the number of rows converted from PostgreSQL. With a base,
	// FromBase is the number of rows copied from it byte for byte, and Removed the
	// number of its rows that PostgreSQL no longer has.
	Written  int64 `json:"written"`
	FromBase int64 `json:"from_base"`
	Removed  int64 `json:"removed"`
	// Derived is the number of rows that were omitted, because Flujo's SQLite
	// backend derives them from other rows.
	Derived int64 `json:"derived"`
	// Originals is the number of cells whose original values were restored.
	Originals int64 `json:"originals"`
	// Rejected is the number of rejected rows that were restored from
	// flujo_port_originals.
	Rejected int64 `json:"rejected"`
	Match    bool  `json:"match"` // every cell was read back and compared
}

// Warn adds a warning.
func (r *Restoration) Warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// Note adds a note, once.
func (r *Restoration) Note(format string, args ...any) {
	if note := fmt.Sprintf(format, args...); !slices.Contains(r.Notes, note) {
		r.Notes = append(r.Notes, note)
	}
}

// Text writes the report as text.
func (r *Restoration) Text(w io.Writer) error {
	var b strings.Builder
	printf(&b, "%s\n\n", r.headline())
	printf(&b, "from  schema %q of database %q, as role %q, PostgreSQL %s\n",
		r.Source.Schema, r.Source.Database, r.Source.Role, r.Source.Server)
	if r.Base != nil {
		printf(&b, "base  %s\n", r.Base)
	}
	printf(&b, "to    %s (%s, SHA-256 %s)\n\n", r.File.Path, humanize.IBytes(uint64(r.File.Bytes)), r.File.SHA256)
	if r.Merge != nil && r.Differing == 0 {
		r.Merge.text(&b)
	}
	r.table(&b)
	if r.Differing > 0 {
		printf(&b, "differences between PostgreSQL and the state file: %s. "+
			"The first of each table (the JSON report lists all):\n", rows(r.Differing))
		for _, d := range r.Differences {
			printf(&b, "  %s\n", d)
		}
	}
	for _, c := range r.Lost {
		printf(&b, "%s.%s: %s × %s\n", c.Table, c.Column, humanize.Comma(c.Count), c.Explanation)
	}
	writeMessages(&b, r.Warnings, r.Notes)
	if r.Done {
		printf(&b, "\nrollback  FLUJO_STATE_URI=%s\n", r.Rollback)
	}
	return writeText(w, b.String())
}

func (r *Restoration) headline() string {
	const verified = "every cell of the new state file was read back and compared with PostgreSQL"
	switch {
	case r.Done:
		return fmt.Sprintf("Done in %.1f s: %s.", r.Seconds, verified)
	case r.Differing > 0:
		return fmt.Sprintf("Verification failed after %.1f s: the new state file was removed.", r.Seconds)
	}
	return fmt.Sprintf("Dry run finished in %.1f s: %s, then the new state file was removed.", r.Seconds, verified)
}

func (r *Restoration) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"table", "rows in PostgreSQL", "written"}
	if r.Base != nil {
		head = append(head, "copied from base", "removed from base")
	}
	head = append(head, "derived rows omitted", "original values restored", "rejected rows restored")
	fmt.Fprintf(t, "%s\t\t\n", strings.Join(head, "\t"))
	for _, row := range r.Tables {
		mark := "✗"
		if row.Match {
			mark = "✓"
		}
		numbers := []int64{row.InPostgres, row.Written}
		if r.Base != nil {
			numbers = append(numbers, row.FromBase, row.Removed)
		}
		printf(t, "%s", row.Name)
		for _, n := range append(numbers, row.Derived, row.Originals, row.Rejected) {
			fmt.Fprintf(t, "\t%s", humanize.Comma(n))
		}
		fmt.Fprintf(t, "\t%s\t\n", mark)
	}
	t.Flush()
	fmt.Fprintln(w)
}
