package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// Text writes the report for a person.
func (m *Migration) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", m.headline())
	fmt.Fprintf(&b, "from  %s\n", &m.Source)
	fmt.Fprintf(&b, "to    schema %q of database %q, as role %q, PostgreSQL %s, %s\n\n",
		m.Target.Schema, m.Target.Database, m.Target.Role, m.Target.Server, m.pgvector())
	m.table(&b)
	if m.Merge != nil && !m.Refused && m.Differing == 0 {
		m.Merge.text(&b)
	}
	if m.Differing > 0 {
		fmt.Fprintf(
			&b,
			"not in PostgreSQL as the file has them: %s, the first of each table (--json lists all):\n",
			rows(m.Differing),
		)
		for _, d := range m.Differences {
			fmt.Fprintf(&b, "  %s\n", d)
		}
		fmt.Fprintln(&b)
	}
	if len(m.Changes) > 0 {
		m.writeChanges(&b, m.Refused)
		if !m.Refused {
			fmt.Fprintf(
				&b,
				"original values%s: %s cells, byte for byte, in %s.flujo_port_originals\n",
				m.ofTaken(),
				humanize.Comma(m.Originals),
				m.Target.Schema,
			)
		}
		fmt.Fprintln(&b)
	}
	for _, d := range m.Derived {
		fmt.Fprintf(&b, "derived: %s in %s from %s of %s: %s\n", rows(d.Rows), d.Table, rows(d.Count), d.From, d.Why)
	}
	if len(m.Widened) > 0 {
		fmt.Fprintf(&b, "made bigint, for integers beyond PostgreSQL's integer: %s\n", strings.Join(m.Widened, ", "))
	}
	for _, n := range m.NaiveTimestamps {
		fmt.Fprintf(&b, "times without a zone, taken as %s: %s in %s\n", n.Zone, humanize.Comma(n.Count), n.Column)
	}
	for _, r := range m.Rounded {
		fmt.Fprintf(
			&b,
			"rounded to real, as Flujo's PostgreSQL tables hold it: %s values in %s, by at most %.1g of the value (--exact-floats keeps them)\n",
			humanize.Comma(r.Count),
			r.Column,
			r.Largest,
		)
	}
	if len(m.Ignored) > 0 {
		fmt.Fprintf(&b, "left alone: tables that are not Flujo's: %s\n", strings.Join(m.Ignored, ", "))
	}
	m.writeReplaced(&b)
	for _, w := range m.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", w)
	}
	for _, n := range m.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if !m.Refused && m.Differing == 0 {
		m.addresses(&b)
	}
	m.writeUndo(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// rows says how many.
func rows(n int64) string {
	return humanize.Comma(n) + " " + english.PluralWord(int(n), "row", "")
}

func (m *Migration) headline() string {
	switch {
	case m.Committed:
		return fmt.Sprintf("Done: %s, then committed, in %.1f s.", m.verified(), m.Seconds)
	case m.Differing > 0:
		return fmt.Sprintf(
			"Verification failed after %.1f s, and everything was rolled back: the database is as it was.",
			m.Seconds,
		)
	case m.Refused:
		return fmt.Sprintf(
			"Refused after %.1f s and rolled back: the database is as it was. This is the whole list of what stands in the way.",
			m.Seconds,
		)
	}
	return fmt.Sprintf(
		"Dry run finished in %.1f s: %s, then rolled back; the database is as it was.",
		m.Seconds,
		m.verified(),
	)
}

func (m *Migration) verified() string {
	if m.Merge != nil {
		return m.Merge.verified(m.Verify)
	}
	if m.Verify == "counts" {
		return "every table's rows were counted on both sides (--verify counts: their content was not compared)"
	}
	return "every cell was read back and compared with the file"
}

// String says what is known of the file, on one line.
func (s *Source) String() string {
	wal := "no -wal"
	if s.WAL {
		wal = fmt.Sprintf(
			"with a -wal of %s %s",
			humanize.Comma(int64(s.Frames)),
			english.PluralWord(s.Frames, "frame", ""),
		)
	}
	integrity := "quick_check ok"
	if s.Integrity == "" {
		integrity = "not checked for damage (--skip-integrity)"
	}
	return fmt.Sprintf(
		"%s (%s, %s, format %s, %s)",
		s.Path,
		humanize.IBytes(uint64(s.Bytes)),
		wal,
		s.FileFormat,
		integrity,
	)
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
	rejected := false
	for _, row := range m.Tables {
		rejected = rejected || row.Rejected > 0
	}
	column := func(title string) string {
		if rejected {
			return title + "\t"
		}
		return ""
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "table\trows read\t%sderived\trows in Postgres\tbytes\tseconds\t\t\n", column("rejected"))
	for _, row := range m.Tables {
		mark := "✗"
		switch {
		case m.Refused:
			mark = "" // not counted
		case row.Match:
			mark = "✓"
		}
		fmt.Fprintf(
			t,
			"%s\t%s\t%s%s\t%s\t%s\t%.2f\t%s\t\n",
			row.Name,
			humanize.Comma(row.RowsRead),
			column(humanize.Comma(row.Rejected)),
			humanize.Comma(
				row.Derived,
			),
			humanize.Comma(row.InPostgres),
			humanize.IBytes(uint64(row.Bytes)),
			row.Seconds,
			mark,
		)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// writeChanges lists what does not arrive as it is; refused says that rows without
// a place are what stands in the way.
func (f *Findings) writeChanges(w io.Writer, refused bool) {
	for _, c := range f.Changes {
		what := c.Table + "." + c.Column + ": changed: "
		if c.Rejected {
			what = c.Table + ": rows quarantined: "
			if refused {
				what = c.Table + ": rows rejected: "
			}
		} else if c.Reason == unmappedColumn {
			what = c.Table + "." + c.Column + ": original kept: "
		}
		keys := make([]string, len(c.Keys))
		for i, k := range c.Keys {
			keys[i] = fmt.Sprintf("%q", k)
		}
		more := ""
		if c.Count > int64(len(c.Keys)) {
			more = ", …"
		}
		fmt.Fprintf(
			w,
			"%s%s × %s (%s%s)\n",
			what,
			humanize.Comma(c.Count),
			c.Explanation,
			strings.Join(keys, ", "),
			more,
		)
	}
}

// unmappedColumn is the kind of what Flujo's tables have no column for.
const unmappedColumn = "unmapped-column"

func (m *Migration) addresses(w io.Writer) {
	fmt.Fprintf(w, "\ncutover   FLUJO_STATE_URI=%s\nrollback  FLUJO_STATE_URI=%s\n", m.Cutover, m.Rollback)
	if !m.Committed {
		fmt.Fprintf(w, "\nFor the cutover itself stop Flujo, then run the same command without --dry-run.\n")
	}
}
