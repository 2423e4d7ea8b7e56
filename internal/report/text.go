package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"flujo-port/internal/clierr"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// Text writes the report as text.
func (m *Migration) Text(w io.Writer) error {
	if m.AlreadyMigrated != nil {
		return m.alreadyMigratedText(w)
	}
	var b strings.Builder
	printf(&b, "%s\n\n", m.headline())
	printf(&b, "from  %s\n", &m.Source)
	printf(&b, "to    schema %q of database %q, as role %q, PostgreSQL %s, %s\n\n",
		m.Target.Schema, m.Target.Database, m.Target.Role, m.Target.Server, m.pgvector())
	m.writeFile(&b, &m.FileResult)
	for _, further := range m.Further {
		printf(&b, "\nthen  %s\n\n", &further.Source)
		m.writeFile(&b, &further.FileResult)
	}
	if m.Differing > 0 {
		printf(&b, "differences between PostgreSQL and the state file: %s. "+
			"The first of each table (the JSON report lists all):\n", rows(m.Differing))
		for _, d := range m.Differences {
			printf(&b, "  %s\n", d)
		}
		fmt.Fprintln(&b)
	}
	m.writeReplaced(&b)
	writeMessages(&b, m.Warnings, m.Notes)
	for _, further := range m.Further {
		writeMessages(&b, nil, further.Notes)
	}
	if !m.Refused && m.Differing == 0 {
		m.addresses(&b)
	}
	m.writeUndo(&b)
	return writeText(w, b.String())
}

// writeFile writes the result of one state file.
func (m *Migration) writeFile(w io.Writer, f *FileResult) {
	if f.SameAs != "" {
		printf(w, "the content is that of %s: it was not migrated again\n", f.SameAs)
		return
	}
	if len(f.Tables) == 0 {
		fmt.Fprintln(w, "this file was not read, because of the error")
		return
	}
	writeTables(w, f.Tables, m.Refused && !f.stored())
	if f.Merge != nil && f.stored() && m.Differing == 0 {
		f.Merge.text(w)
	}
	if len(f.Changes) > 0 {
		refused := m.Refused && !f.stored()
		f.writeChanges(w, refused)
		if !refused {
			f.writeOriginals(w, m.Target.Schema)
		}
		fmt.Fprintln(w)
	}
	f.writeConversions(w)
}

// stored reports whether the rows of the file were stored and counted.
func (f *FileResult) stored() bool {
	return slices.ContainsFunc(f.Tables, func(t Table) bool { return t.Match })
}

// writeConversions lists what was derived, widened, interpreted, rounded or ignored.
func (f *Findings) writeConversions(w io.Writer) {
	for _, d := range f.Derived {
		printf(w, "derived: %s in %s from %s of %s: %s\n", rows(d.Rows), d.Table, rows(d.Count), d.From, d.Why)
	}
	if len(f.Widened) > 0 {
		printf(w, "widened to bigint, for values out of the range of PostgreSQL's integer: %s\n",
			strings.Join(f.Widened, ", "))
	}
	for _, n := range f.NaiveTimestamps {
		printf(w, "timestamps without a time zone, interpreted as %s: %s in %s\n",
			n.Zone, humanize.Comma(n.Count), n.Column)
	}
	for _, r := range f.Rounded {
		printf(w, "rounded to real, the column's type in Flujo: %s in %s, "+
			"by at most %.1g of the value\n",
			plural(r.Count, "value"), r.Column, r.Largest)
	}
	if len(f.Ignored) > 0 {
		printf(w, "ignored tables, which are not Flujo's: %s\n", clierr.Names(f.Ignored))
	}
}

// writeMessages writes the warnings and the notes, one a line.
func writeMessages(w io.Writer, warnings, notes []string) {
	for _, warning := range warnings {
		printf(w, "WARNING: %s\n", warning)
	}
	for _, note := range notes {
		printf(w, "note: %s\n", note)
	}
}

// rows returns n as a number of rows: "1 row", "2,000 rows".
func rows(n int64) string { return plural(n, "row") }

// plural returns n and a noun in its singular or plural.
func plural(n int64, noun string) string {
	return humanize.Comma(n) + " " + english.PluralWord(int(n), noun, "")
}

func (m *Migration) headline() string {
	const rolledBack = "the transaction was rolled back; the database was not changed."
	switch {
	case m.Committed:
		return fmt.Sprintf("Done in %.1f s: %s, then the transaction was committed.", m.Seconds, m.verified())
	case m.Differing > 0:
		return fmt.Sprintf("Verification failed after %.1f s: %s", m.Seconds, rolledBack)
	case m.Refused:
		return fmt.Sprintf("Refused after %.1f s: %s All findings are listed below.", m.Seconds, rolledBack)
	}
	return fmt.Sprintf("Dry run finished in %.1f s: %s, then %s", m.Seconds, m.verified(), rolledBack)
}

// verified says how the rows were verified.
func (m *Migration) verified() string {
	merge := m.Merge
	for _, further := range m.Further {
		merge = cmp.Or(merge, further.Merge)
	}
	if merge != nil {
		return merge.verified(m.Verify)
	}
	if m.Verify == "counts" {
		return "the rows of every table were counted (cells were not compared)"
	}
	return "every cell was read back and compared with the state file"
}

// String describes the state file on one line.
func (s *Source) String() string {
	wal := "no -wal"
	if s.WAL {
		wal = "with a -wal of " + plural(int64(s.Frames), "frame")
	}
	integrity := "integrity_check ok"
	if s.Integrity == "" {
		integrity = "integrity_check skipped"
	}
	size := humanize.IBytes(uint64(s.Bytes))
	return fmt.Sprintf("%s (%s, %s, format %s, %s)", s.Path, size, wal, s.FileFormat, integrity)
}

func (m *Migration) pgvector() string {
	switch {
	case m.Target.PGVector == "":
		return "without pgvector"
	case m.Target.CreatedPGVector:
		return "pgvector " + m.Target.PGVector + " (created)"
	}
	return "pgvector " + m.Target.PGVector
}

// writeTables writes the table of the rows. uncounted reports whether the rows in
// PostgreSQL were not counted.
func writeTables(w io.Writer, tables []Table, uncounted bool) {
	rejected := false
	for _, row := range tables {
		rejected = rejected || row.Rejected > 0
	}
	column := func(title string) string {
		if rejected {
			return title + "\t"
		}
		return ""
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "table\trows read\t%sderived\trows in PostgreSQL\tbytes\tseconds\t\t\n", column("rejected"))
	for _, row := range tables {
		mark := "✗"
		switch {
		case uncounted:
			mark = ""
		case row.Match:
			mark = "✓"
		}
		printf(t, "%s", row.Name)
		fmt.Fprintf(t, "\t%s\t%s", humanize.Comma(row.RowsRead), column(humanize.Comma(row.Rejected)))
		fmt.Fprintf(t, "%s\t%s\t", humanize.Comma(row.Derived), humanize.Comma(row.InPostgres))
		fmt.Fprintf(t, "%s\t%.2f\t%s\t\n", humanize.IBytes(uint64(row.Bytes)), row.Seconds, mark)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// writeChanges lists the changes and the rejected rows. refused reports whether
// the migration was refused, so that rejected rows were not quarantined.
func (f *Findings) writeChanges(w io.Writer, refused bool) {
	for _, c := range f.Changes {
		what := c.Table + "." + c.Column + ": changed"
		switch {
		case c.Rejected && refused:
			what = c.Table + ": rows rejected"
		case c.Rejected:
			what = c.Table + ": rows quarantined"
		case c.Reason == unmappedColumn:
			what = c.Table + "." + clierr.Name(c.Column) + ": original value stored"
		}
		printf(w, "%s: %s × %s (%s)\n", what, humanize.Comma(c.Count), c.Explanation, firstOf(c.Keys, c.Count))
	}
}

// firstOf returns the first keys of n, quoted, with an ellipsis if there are more.
func firstOf(first []string, n int64) string {
	keys := make([]string, len(first))
	for i, k := range first {
		keys[i] = strconv.Quote(k)
	}
	list := strings.Join(keys, ", ")
	if n > int64(len(first)) {
		list += ", …"
	}
	return list
}

// writeOriginals says where the original values are stored.
func (f *FileResult) writeOriginals(w io.Writer, schema string) {
	printf(w, "original values: %s, byte for byte, in %s.flujo_port_originals\n", plural(f.Originals, "cell"), schema)
}

// unmappedColumn is the name of mapping.UnmappedColumn.
const unmappedColumn = "unmapped-column"

// addresses writes FLUJO_STATE_URI for the cutover and for a rollback.
func (m *Migration) addresses(w io.Writer) {
	printf(w, "\ncutover   FLUJO_STATE_URI=%s\nrollback  FLUJO_STATE_URI=%s\n", m.Cutover, m.Rollback)
	for _, further := range m.Further {
		printf(w, "          FLUJO_STATE_URI=%s\n", further.Rollback)
	}
	if !m.Committed && m.Next != "" {
		printf(w, "\n%s\n", m.Next)
	}
}
