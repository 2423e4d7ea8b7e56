package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// Restoration is the report of restore.
type Restoration struct {
	Format  int             `json:"format"`
	Command string          `json:"command"`
	Version string          `json:"version"`
	DryRun  bool            `json:"dry_run"`
	Done    bool            `json:"done"` // the file is in its place
	Started time.Time       `json:"started"`
	Seconds float64         `json:"seconds"`
	Source  Target          `json:"source"` // the schema that was read
	File    RestoredFile    `json:"file"`
	Base    *Source         `json:"base"` // the file that unchanged rows were taken from; nil without one
	Receipt *ReceiptNote    `json:"receipt"`
	Merge   *Merge          `json:"merge"` // from which side what was taken; nil where nothing was merged
	Tables  []RestoredTable `json:"tables"`
	// Lost are cells that SQLite can't hold and that became NULL.
	Lost []Change `json:"lost"`
	// Differing is the number of rows that the verification found to be not as
	// they are in PostgreSQL; then there is no file.
	Differing   int64        `json:"differing_rows"`
	Differences []Difference `json:"-"`
	Warnings    []string     `json:"warnings"`
	Notes       []string     `json:"notes"`
	Rollback    string       `json:"rollback"` // FLUJO_STATE_URI of the file
}

// RestoredFile is the file that was made.
type RestoredFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// RestoredTable is what became of one table.
type RestoredTable struct {
	Name       string `json:"name"`
	InPostgres int64  `json:"in_postgres"`
	// Rows that were written anew, and, with a base, rows that were taken from
	// it byte for byte, and of its rows those that PostgreSQL has no more.
	Written  int64 `json:"written"`
	FromBase int64 `json:"from_base"`
	Removed  int64 `json:"removed"`
	// Derived are rows that were left out, because Flujo's SQLite backend makes
	// them of others.
	Derived int64 `json:"derived"`
	// Originals are cells that went back to the bytes that they once had.
	Originals int64 `json:"originals"`
	// Rejected are rows that were rejected in PostgreSQL and came back from the
	// table of originals.
	Rejected int64 `json:"rejected"`
	Match    bool  `json:"match"` // every cell was read back and compared
}

// Text writes the report for a person.
func (r *Restoration) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", r.headline())
	fmt.Fprintf(
		&b,
		"from  schema %q of database %q, as role %q, PostgreSQL %s\n",
		r.Source.Schema,
		r.Source.Database,
		r.Source.Role,
		r.Source.Server,
	)
	if r.Base != nil {
		fmt.Fprintf(&b, "base  %s\n", r.Base)
	}
	fmt.Fprintf(&b, "to    %s (%s, SHA-256 %s)\n\n", r.File.Path, humanize.IBytes(uint64(r.File.Bytes)), r.File.SHA256)
	if r.Merge != nil && r.Differing == 0 {
		r.Merge.text(&b)
	}
	r.table(&b)
	if r.Differing > 0 {
		fmt.Fprintf(
			&b,
			"not in the file as PostgreSQL has them: %s, the first of each table (--json lists all):\n",
			rows(r.Differing),
		)
		for _, d := range r.Differences {
			fmt.Fprintf(&b, "  %s\n", d)
		}
	}
	for _, c := range r.Lost {
		fmt.Fprintf(&b, "%s.%s: %s × %s\n", c.Table, c.Column, humanize.Comma(c.Count), c.Explanation)
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", warning)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if r.Done {
		fmt.Fprintf(&b, "\nrollback  FLUJO_STATE_URI=%s\n", r.Rollback)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Restoration) headline() string {
	switch {
	case r.Done:
		return fmt.Sprintf(
			"Done: every cell of the new file was read back and compared with PostgreSQL, in %.1f s.",
			r.Seconds,
		)
	case r.Differing > 0:
		return fmt.Sprintf("Verification failed after %.1f s: no file was left.", r.Seconds)
	}
	return fmt.Sprintf(
		"Dry run finished in %.1f s: every cell was read back and compared, then the file was removed.",
		r.Seconds,
	)
}

func (r *Restoration) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"table", "rows in Postgres", "written"}
	if r.Base != nil {
		head = append(head, "taken from the base", "removed from it")
	}
	fmt.Fprintf(t, "%s\tleft to be derived\tcells as they once were\trows quarantined\t\t\n", strings.Join(head, "\t"))
	for _, row := range r.Tables {
		mark := "✗"
		if row.Match {
			mark = "✓"
		}
		numbers := []int64{row.InPostgres, row.Written}
		if r.Base != nil {
			numbers = append(numbers, row.FromBase, row.Removed)
		}
		fmt.Fprint(t, row.Name)
		for _, n := range append(numbers, row.Derived, row.Originals, row.Rejected) {
			fmt.Fprintf(t, "\t%s", humanize.Comma(n))
		}
		fmt.Fprintf(t, "\t%s\t\n", mark)
	}
	t.Flush()
	fmt.Fprintln(w)
}
