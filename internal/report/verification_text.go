package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// Text writes the report for a person.
func (v *Verification) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", v.headline())
	fmt.Fprintf(&b, "file      %s\n", &v.Source)
	fmt.Fprintf(
		&b,
		"database  schema %q of database %q, PostgreSQL %s\n",
		v.Target.Schema,
		v.Target.Database,
		v.Target.Server,
	)
	if r := v.Receipt; r != nil {
		same := "the file is the same, byte for byte"
		if !r.SameBytes {
			same = "the file's bytes are others now"
			if v.Verdict != SourceMismatch {
				same += ", and what PostgreSQL is to hold of it the same: a checkpoint does that"
			}
		}
		fmt.Fprintf(
			&b,
			"receipt   %s UTC, of %s, by flujo-port %s, verified by %s; %s\n",
			r.MigratedAt.Format(time.DateTime),
			r.Path,
			r.Version,
			r.Verify,
			same,
		)
	} else {
		fmt.Fprintf(&b, "receipt   none in this schema: what changed since can't be told\n")
	}
	if v.Receipt != nil && v.Receipt.Merged {
		fmt.Fprintf(
			&b,
			"          a merge: where rows changed since, those that PostgreSQL kept then and those that got new ids count among them\n",
		)
	}
	fmt.Fprintln(&b)
	v.table(&b)
	v.differences(&b)
	for _, warning := range v.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", warning)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (v *Verification) headline() string {
	in := fmt.Sprintf(" (%.1f s)", v.Seconds)
	switch v.Verdict {
	case Equal:
		return "Equal: every cell in PostgreSQL is what the file says." + in
	case Merged:
		return "Merged: PostgreSQL holds what the merge of this file left there, and read back: each run, key and memory from the side that wrote it last." + in
	case Drift:
		if v.Receipt != nil && v.Receipt.Verify == "counts" {
			return "No row that the migration wrote is wrong; of those that were changed or deleted since nobody can say how they were copied (--verify counts)." + in
		}
		return "The copy was good: what differs was written, changed or deleted after the migration." + in
	case CopyMismatch:
		return "COPY MISMATCH: rows that the migration wrote are not what the file says." + in
	case SourceMismatch:
		return "Not compared: this is not the file that was migrated, or it was written since." + in
	}
	return "Mismatch: rows in PostgreSQL are not what the file says." + in
}

func (v *Verification) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(
		t,
		"table\trows of the file\tat the migration\tin Postgres now\tadded since\tchanged since\tdeleted since\twrong\t\t\n",
	)
	for _, c := range v.Tables {
		mark := "✗"
		switch {
		case c.Match:
			mark = "✓"
		case c.Mismatched == 0 && v.Verdict == Drift:
			mark = "~"
		}
		then := humanize.Comma(c.AtReceipt)
		if v.Receipt == nil {
			then = "?"
		}
		fmt.Fprintf(
			t,
			"%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n",
			c.Name,
			humanize.Comma(c.InFile),
			then,
			humanize.Comma(c.InPostgres),
			humanize.Comma(
				c.Added,
			),
			humanize.Comma(c.Changed),
			humanize.Comma(c.Deleted),
			humanize.Comma(c.Mismatched),
			mark,
		)
	}
	t.Flush()
}

func (v *Verification) differences(w io.Writer) {
	for _, c := range v.Tables {
		if len(c.First) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s, the first differences (--json lists all):\n", c.Name)
		for _, d := range c.First {
			when := ""
			if d.Since {
				when = " (since the migration)"
			}
			fmt.Fprintf(w, "  %s%s\n", d, when)
		}
	}
}
