package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// Text writes the report as text.
func (v *Verification) Text(w io.Writer) error {
	var b strings.Builder
	printf(&b, "%s (%.1f s)\n\n", v.headline(), v.Seconds)
	database := func() {
		printf(&b, "database  schema %q of database %q, PostgreSQL %s\n",
			v.Target.Schema, v.Target.Database, v.Target.Server)
	}
	if len(v.Files) > 0 {
		database()
		fmt.Fprintln(&b)
		v.filesText(&b)
		writeMessages(&b, v.Warnings, v.Notes)
		return writeText(w, b.String())
	}
	printf(&b, "file      %s\n", &v.Source)
	database()
	writeReceipt(&b, v.Receipt, v.Verdict)
	fmt.Fprintln(&b)
	v.table(&b)
	v.differences(&b)
	writeMessages(&b, v.Warnings, v.Notes)
	return writeText(w, b.String())
}

// writeReceipt writes what a receipt says, which may be nil.
func writeReceipt(w io.Writer, r *ReceiptNote, verdict string) {
	if r == nil {
		fmt.Fprintln(w, "receipt   none in this schema: "+
			"changes after the migration cannot be distinguished from a copy mismatch")
		return
	}
	checksum := "the state file's checksum equals the receipt's"
	if !r.SameBytes {
		checksum = "the state file's checksum differs from the receipt's"
		if verdict != SourceMismatch {
			checksum += ", but its rows are the same, as after a checkpoint"
		}
	}
	at := r.MigratedAt.Format(time.DateTime)
	printf(w, "receipt   %d, %s UTC, of %s, by flujo-port %s, verified by %s; %s\n",
		r.ID, at, r.Path, r.Version, r.Verify, checksum)
	if r.Elsewhere {
		printf(w, "          written in another database, before a dump and a restore, or a copy of the database: "+
			"every row that differs counts as changed since\n")
	}
}

// headline returns one sentence that begins with the verdict.
func (v *Verification) headline() string {
	switch v.Verdict {
	case Equal:
		return "Equal: every cell in PostgreSQL equals the state file."
	case Merged:
		return "Merged: every run, key and memory of the state file is in PostgreSQL, with other ids or in another " +
			"file's newer version, and what was superseded is kept."
	case Drift:
		if v.Receipt != nil && v.Receipt.Verify == "counts" {
			return "Drift: every row of the migration that was not changed since equals the state file. " +
				"Rows changed or deleted since cannot be checked (rows were counted at the migration)."
		}
		return "Drift: the copy was correct; rows were added, changed or deleted after the migration."
	case CopyMismatch:
		return "Copy mismatch: rows that the migration wrote differ from the state file."
	case SourceMismatch:
		if len(v.Files) > 0 {
			return "Source mismatch: a state file is none of those that were migrated, " +
				"or it was written to after the migration. The files from it on were not compared."
		}
		return "Source mismatch: the state file is not the one that was migrated, " +
			"or it was written to after the migration. Rows were not compared."
	}
	return "Mismatch: rows in PostgreSQL differ from the state file."
}

func (v *Verification) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{
		"table", "rows in state file", "at migration", "in PostgreSQL now",
		"added since", "changed since", "deleted since", "mismatched",
	}
	fmt.Fprintf(t, "%s\t\t\n", strings.Join(head, "\t"))
	for _, c := range v.Tables {
		mark := "✗"
		switch {
		case c.Match:
			mark = "✓"
		case c.Mismatched == 0 && v.Verdict == Drift:
			mark = "~"
		}
		atMigration := humanize.Comma(c.AtReceipt)
		if v.Receipt == nil {
			atMigration = "?"
		}
		printf(t, "%s\t%s\t%s", c.Name, humanize.Comma(c.InFile), atMigration)
		for _, n := range []int64{c.InPostgres, c.Added, c.Changed, c.Deleted, c.Mismatched} {
			fmt.Fprintf(t, "\t%s", humanize.Comma(n))
		}
		fmt.Fprintf(t, "\t%s\t\n", mark)
	}
	t.Flush()
}

func (v *Verification) differences(w io.Writer) {
	for _, c := range v.Tables {
		if len(c.First) == 0 {
			continue
		}
		printf(w, "\nThe first differences in %s (the JSON report lists all):\n", c.Name)
		for _, d := range c.First {
			when := ""
			if d.Since {
				when = " (since the migration)"
			}
			printf(w, "  %s%s\n", d, when)
		}
	}
}
