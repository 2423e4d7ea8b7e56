package report

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"flujo-port/internal/document"
	"flujo-port/internal/sqltext"

	"github.com/dustin/go-humanize"
)

// Details are what a record lists besides its report. A list that a command does not have is nil.
type Details struct {
	Findings    iter.Seq[Finding]
	Differences iter.Seq[Difference]
	Units       iter.Seq[Unit]
	Meanings    []Meaning // of all reasons
	JSON        document.Data
}

// Meaning explains a reason: what was found in the state file, and what became of it.
type Meaning struct{ Name, Found, Outcome string }

// longTable is the number of rows from which on the page shows a table only if the reader opens it, and maxListed that
// of the rows that it shows at all.
const (
	longTable = 200
	maxListed = 100_000
)

// addRun adds who ran what, when and where.
func (r *Run) addRun(d *document.Document) {
	build := "flujo-port " + r.Version
	if r.Commit != "" {
		build += ", commit " + r.Commit
	}
	facts := document.Facts{
		fact("Command", r.commandLine()),
		fact("Started", moment(r.Started)+", for "+seconds(r.Seconds)),
		fact("Program", build),
		fact("Machine", r.Host),
		fact("Exit code", fmt.Sprint(r.ExitCode)),
	}
	if e := r.Error; e != nil {
		facts = append(facts, fact("Error", sentence(e.Message), sentence(e.Consequence), sentence(e.Hint)))
	}
	d.Add("Run", facts)
}

// commandLine returns the command as a POSIX shell reads it.
func (r *Run) commandLine() string {
	words := []string{"flujo-port"}
	for _, arg := range r.Arguments {
		words = append(words, ShellWord(arg))
	}
	return strings.Join(words, " ")
}

// addEnd adds a place to sign and the JSON.
func addEnd(d *document.Document, x *Details) {
	d.Add("Read and approved", document.Form{"Name", "Date", "Signature"})
	d.Add("For programs", x.JSON)
}

// Record returns the report of a command without results.
func (f *Failed) Record(x *Details) *document.Document {
	d := f.Document()
	f.addRun(d)
	var named document.Facts
	if len(f.Files) > 0 {
		named = append(named, fact("State file", f.Files...))
	}
	if f.Database != "" {
		named = append(named, fact("Database", f.Database))
	}
	if len(named) > 0 {
		d.Add("What the command was to use", named)
	}
	addEnd(d, x)
	return d
}

// Document returns the report as a document for a terminal.
func (f *Failed) Document() *document.Document {
	d := &document.Document{Title: "flujo-port " + f.Command, Outcome: document.Bad, Headline: f.headline()}
	if f.Error != nil && f.Error.Consequence != "" {
		d.Add("", document.Paragraph(sentence(f.Error.Consequence)))
	}
	addHint(d, f.Error)
	return d
}

func (f *Failed) headline() string {
	what := map[int]string{2: "Usage error", 3: "Refused", 4: "Verification failed", 130: "Interrupted"}[f.ExitCode]
	if f.Error == nil || f.ExitCode == 130 {
		return what + "."
	}
	return cmp.Or(what, "Failed") + ": " + f.Error.Message + "."
}

// Record returns the report with everything that an auditor needs.
func (m *Migration) Record(x *Details) *document.Document {
	if m.AlreadyMigrated != nil {
		d := m.alreadyMigrated(m.AlreadyMigrated.record(x))
		addEnd(d, x)
		return d
	}
	d := &document.Document{
		Title: "flujo-port migrate", Outcome: m.outcome(), Headline: m.headline(), Kept: m.Committed,
	}
	m.addRun(d)
	d.Add("State file", m.from())
	d.Add("Database", document.Facts{fact("To", m.Target.lines()...)}, m.proof())
	for i, f := range m.files() {
		title := "Reconciliation"
		if len(m.Further) > 0 {
			title += fmt.Sprintf(" of file %d: %s", i+1, m.path(i))
		}
		m.reconcile(d, title, f)
		if f.Merge != nil && m.Differing == 0 && f.stored() {
			f.Merge.add(d)
		}
	}
	m.addFound(d, x)
	m.addOriginals(d)
	addDifferenceRows(d, x, m.Differing)
	m.addReplaced(d)
	var notes []string
	for _, f := range m.files() {
		if f.Findings != nil {
			notes = append(notes, f.Notes...)
		}
	}
	addMessages(d, m.Warnings, notes)
	m.addReceipt(d)
	m.addWaysOn(d)
	addEnd(d, x)
	return d
}

func (m *Migration) path(i int) string {
	if i == 0 {
		return m.Source.Path
	}
	return m.Further[i-1].Source.Path
}

// addOriginals says how to read the original values.
func (m *Migration) addOriginals(d *document.Document) {
	if !m.Committed || !slices.ContainsFunc(m.files(), func(f *FileResult) bool { return f.Originals > 0 }) {
		return
	}
	text := "The whole of each value:"
	switch rejected, changed := m.count(); {
	case rejected > 0 && changed > 0:
		text = "The whole of each value. The tables above do not show changed values, and may show the cells of " +
			"rejected rows shortened:"
	case rejected > 0:
		text = "The whole of each cell of a rejected row, which the table above may show shortened:"
	case changed > 0:
		text = "The whole of each changed value, which the tables above do not show:"
	}
	d.Add("Original values", document.Paragraph(text),
		document.Code{
			"SELECT table_name, source_rowid, row_key, column_name, reason, storage_class, original",
			"FROM " + sqltext.Name(m.Target.Schema, originalsTable),
			"ORDER BY receipt, table_name, source_rowid, column_name;",
		})
}

// reconcile adds the table of the rows of a file, with digests.
func (m *Migration) reconcile(d *document.Document, title string, f *FileResult) {
	if f.SameAs != "" {
		d.Add(title, document.Paragraph("The content is that of "+f.SameAs+": it was not migrated again."))
		return
	}
	if f.Findings == nil || len(f.Tables) == 0 {
		d.Add(title, document.Paragraph("This file was not read, because of the error."))
		return
	}
	var digests [][]string
	for _, t := range f.Tables {
		digests = append(digests, []string{t.Name, t.FileDigest, t.Digest})
	}
	if m.Refused && !f.stored() {
		d.Add(title, f.table(true), document.Paragraph("No row of this file was stored, because the migration was "+
			"refused."), digestTable(digests))
		return
	}
	all, columns := f.counts(document.Words("Table", "Result").Numbers("State file", "Rejected", "Derived"))
	for i, t := range f.Tables {
		all[i] = slices.Insert(all[i], 1, mark(t.Match))
	}
	d.Add(title, &document.Table{Columns: columns, Rows: slices.Values(all), Total: totalOf(columns, all)},
		document.Paragraph(m.reconciled(f)), digestTable(digests))
}

// digestTable shows the digests of both sides. A column without a digest is omitted, and a table without columns is
// nil.
func digestTable(rows [][]string) document.Block {
	columns := document.Words("Table")
	all := make([][]string, len(rows))
	for i, title := range []string{"Digest of the file's rows, converted", "Digest in PostgreSQL"} {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[i+1] != "" }) {
			continue
		}
		columns = columns.Digests(title)
		for at, row := range rows {
			all[at] = append(all[at], row[i+1])
		}
	}
	if len(columns) == 1 {
		return nil
	}
	for i, row := range rows {
		all[i] = slices.Insert(all[i], 0, row[0])
	}
	return &document.Table{Columns: columns, Rows: slices.Values(all)}
}

// digestTable shows the digests of the new file and of PostgreSQL.
func (r *Restoration) digestTable() document.Block {
	var digests [][]string
	for _, t := range r.Tables {
		digests = append(digests, []string{t.Name, t.FileDigest, t.Digest})
	}
	return digestTable(digests)
}

// digestNote explains digests that differ although the rows are the same to Flujo.
func (r *Restoration) digestNote() document.Block {
	if !slices.ContainsFunc(r.Tables, func(t RestoredTable) bool {
		return t.Match && t.FileDigest != "" && t.Digest != "" && t.FileDigest != t.Digest
	}) {
		return nil
	}
	return document.Paragraph("If the digests of a table with the result ok differ, its rows were compared one by " +
		"one, and only differences were found that cannot be avoided: JSON's null and NULL, a zero with a sign, NaN, " +
		"an inferred timestamp, a derived trace, or a row that was rejected.")
}

// reconciled explains the table of the rows of a file.
func (m *Migration) reconciled(f *FileResult) string {
	text := f.sum()
	if !m.Committed {
		text += " The rows in PostgreSQL were counted before the transaction was rolled back."
	}
	switch {
	case m.Verify == VerifyCounts:
		text += " Rows were counted and cells not compared, so PostgreSQL's digests were not computed."
	case f.heldRows():
		text += " PostgreSQL's digest is that of all its rows. It is not computed if Flujo wrote to the table since " +
			"the last receipt."
	}
	return text
}

// addFound adds what was rejected, changed and converted, of all files.
func (m *Migration) addFound(d *document.Document, x *Details) {
	var findings []foundIn
	for i, f := range m.files() {
		if f.Findings != nil {
			findings = append(findings, foundIn{m.path(i), f.Findings})
		}
	}
	addFound(d, x, findings, len(m.Further) > 0)
}

// foundIn are the findings in a file.
type foundIn struct {
	path string
	*Findings
}

// addFound adds the findings. With several, it names the file of each.
func addFound(d *document.Document, x *Details, all []foundIn, several bool) {
	var rejected, changed int64
	var changes []Change
	var conversions document.List
	for _, f := range all {
		r, c := f.Count()
		rejected, changed = rejected+r, changed+c
		file := ""
		if several {
			file = f.path + ": "
		}
		for _, one := range f.Changes {
			one.Table = file + one.Table
			changes = append(changes, one)
		}
		for _, one := range f.conversions() {
			conversions = append(conversions, file+one)
		}
	}
	if rejected > 0 {
		d.Add("Rejected rows: "+humanize.Comma(rejected), changeTable(changes, true), rejectedRows(x, rejected))
	}
	if changed > 0 {
		d.Add("Changed values: "+humanize.Comma(changed), changeTable(changes, false), changedCells(x, changed))
	}
	if used := meaningsOf(changes, x.Meanings); len(used) > 0 {
		d.Add("Reasons", &document.Table{
			Columns: document.Columns{}.Terms("Reason").
				Prose("In the state file", "In PostgreSQL"),
			Rows: slices.Values(used),
		}, document.Paragraph("The bytes of a changed value, and every cell of a rejected row that was quarantined, "+
			"are stored in flujo_port_originals by a migration. docs/values.md of this version of flujo-port has "+
			"the rules."))
	}
	if len(conversions) > 0 {
		d.Add("By design: derived, rounded, and read in a time zone", conversions)
	}
}

// changeTable counts the rejected rows, or the changed values, by reason.
func changeTable(changes []Change, rejected bool) document.Block {
	var all [][]string
	for _, c := range changes {
		if c.Rejected != rejected {
			continue
		}
		where := c.Table
		if !rejected {
			where += "." + c.Column
		}
		all = append(all, []string{where, c.Reason, humanize.Comma(c.Count), c.keys()})
	}
	columns := document.Words("Column").Reasons("Reason").Numbers("Values").Prose("First keys")
	if rejected {
		columns = document.Words("Table").Reasons("Reason").Numbers("Rows").Prose("First keys")
	}
	return &document.Table{Columns: columns, Rows: slices.Values(all)}
}

// meaningsOf returns the meanings of the reasons that occur.
func meaningsOf(changes []Change, meanings []Meaning) (used [][]string) {
	for _, m := range meanings {
		if slices.ContainsFunc(
			changes,
			func(c Change) bool { return slices.Contains(strings.Split(c.Reason, "+"), m.Name) },
		) {
			used = append(used, []string{m.Name, m.Found, m.Outcome})
		}
	}
	return used
}

// rejectedRows lists each rejected row with its cells.
func rejectedRows(x *Details, n int64) document.Block {
	return listed(
		x.Findings,
		n,
		"Every rejected row, with its cells",
		document.Words("Table").Numbers("rowid").Words("Key").Reasons("Reason").Prose("Cells"),
		func(f Finding) []string {
			if !f.Rejected {
				return nil
			}
			cells := make([]string, len(f.Cells))
			for i, c := range f.Cells {
				cells[i] = c.Column + " = " + c.Value
			}
			return []string{
				f.where(), fmt.Sprint(f.RowID), keyOf(f.Key, f.Reason), f.Reason, strings.Join(cells, "; "),
			}
		},
	)
}

// changedCells lists each changed value.
func changedCells(x *Details, n int64) document.Block {
	return listed(
		x.Findings,
		n,
		"Every changed value",
		document.Words("Column").Numbers("rowid").Words("Key").Reasons("Reason").Prose("What is done"),
		func(f Finding) []string {
			if f.Rejected {
				return nil
			}
			return []string{f.where() + "." + f.Column, fmt.Sprint(f.RowID), f.Key, f.Reason, f.Explanation}
		},
	)
}

func (f *Finding) where() string {
	if f.File != "" {
		return f.File + ": " + f.Table
	}
	return f.Table
}

// listed returns a table of the members of a list of which row makes a row and not nil. n is their number.
func listed[T any](
	list iter.Seq[T], n int64, title string, columns document.Columns, row func(T) []string,
) document.Block {
	if list == nil || n == 0 {
		return nil
	}
	note := fmt.Sprintf("%s: %s", title, humanize.Comma(n))
	if n > maxListed {
		note += fmt.Sprintf(" (the first %s are shown, the JSON report has all)", humanize.Comma(maxListed))
	}
	return &document.Table{Columns: columns, Note: note, Open: n <= longTable, Rows: func(yield func([]string) bool) {
		shown := 0
		for one := range list {
			cells := row(one)
			if cells == nil {
				continue
			}
			if shown++; shown > maxListed || !yield(cells) {
				return
			}
		}
	}}
}

// addDifferenceRows lists the rows that differ.
func addDifferenceRows(d *document.Document, x *Details, n int64) {
	block := listed(
		x.Differences,
		n,
		"Every difference",
		document.Words("Table", "Key", "Column", "Kind").Prose("State file", "PostgreSQL").Words("Written"),
		func(one Difference) []string {
			written := ""
			if one.Since {
				written = "since"
			}
			return []string{one.Table, one.Key, one.Column, one.Kind, one.InFile, one.InPostgres, written}
		},
	)
	d.Add("Differences: "+humanize.Comma(n), block)
}

// addReceipt explains the receipt, and how to compute its digests without this program.
func (m *Migration) addReceipt(d *document.Document) {
	if !m.Committed {
		return
	}
	table := sqltext.Name(m.Target.Schema, "flujo_port_receipts")
	d.Add(
		"Receipt",
		document.Paragraph("The transaction that wrote the rows also wrote its receipt, with the SHA-256 of "+
			"the state file and a digest for each table:"),
		document.Code{fmt.Sprintf("SELECT * FROM %s WHERE id = %d;", table, m.Receipt)},
		digestText(),
	)
}

// digestText defines the digests.
func digestText() document.Block {
	return document.List{
		"sha256sum prints the SHA-256 of the state file.",
		"A digest can be computed without this program. Take the row encoding of each row: what " +
			"PostgreSQL's record_send " +
			"returns for it, with integers as bigint, real as double precision and vectors as bytea. " +
			"Take the first 16 " +
			"bytes of the SHA-256 of each encoding as two signed 64-bit numbers, and sum them over " +
			"all rows of the table. " +
			"The digest is the two sums, separated by a comma.",
		"docs/audit.md of flujo-port has the statement that computes it in PostgreSQL, and " +
			"docs/digests.py is a program in " +
			"Python that computes it from the state file alone.",
	}
}

// Record returns the report with everything that an auditor needs.
func (v *Verification) Record(x *Details) *document.Document {
	d := v.record(x)
	addEnd(d, x)
	return d
}

// record is Record without the end.
func (v *Verification) record(x *Details) *document.Document {
	d := &document.Document{Title: "flujo-port verify", Outcome: outcomeOf(v.Verdict), Headline: v.headline()}
	v.addRun(d)
	if len(v.Files) > 0 {
		d.Add("Compared", document.Facts{fact("Database", v.Target.lines()...)})
		v.addFiles(d)
	} else {
		d.Add("Compared", append(v.Source.facts("State file"), fact("Database", v.Target.lines()...)))
		d.Add("Receipt", document.Facts{v.Receipt.fact(v.Verdict)})
		var all, digests [][]string
		var differing int64
		for _, c := range v.Tables {
			differing += c.Added + c.Changed + c.Deleted + c.Mismatched
			digests = append(digests, []string{c.Name, c.FileDigest, c.Digest})
			if c.Name == originalsTable {
				continue
			}
			row := numbers(c.Name, c.RowsRead, c.Rejected, c.Derived, c.AtReceipt, c.Added, -c.Deleted,
				c.InPostgres, c.Changed, c.Mismatched)
			all = append(all, slices.Insert(row, 1, v.result(&c)))
		}
		columns := document.Words("Table", "Result").Numbers("State file", "Rejected", "Derived", "At the migration",
			"Added", "Deleted", "PostgreSQL", "Changed", "Mismatched")
		d.Add("Reconciliation", numberTable(columns, 6, true, all), v.legend(), v.originalsNote(), digestTable(digests))
		addDifferenceRows(d, x, differing)
	}
	v.addUnits(d, x)
	addFound(d, x, v.findings(), len(v.Files) > 1)
	addMessages(d, v.Warnings, v.Notes)
	d.Add("Digests", digestText())
	return d
}

// addUnits lists the units that are not equal.
func (v *Verification) addUnits(d *document.Document, x *Details) {
	var n int64
	for _, f := range v.Files {
		for _, u := range f.Units {
			n += u.InFile - u.Equal
		}
	}
	d.Add(
		"Runs, keys and memories",
		listed(
			x.Units,
			n,
			"Those that are not equal",
			document.Words("File", "Kind", "Key", "Status", "By receipt"),
			func(u Unit) []string {
				if u.Status == UnitEqual {
					return nil
				}
				by := ""
				if u.By > 0 {
					by = fmt.Sprint(u.By)
				}
				return []string{u.Path, u.Kind, u.Key, u.Status, by}
			},
		),
	)
}

// Record returns the report with everything that an auditor needs.
func (r *Restoration) Record(x *Details) *document.Document {
	d := &document.Document{Title: "flujo-port restore", Outcome: r.outcome(), Headline: r.headline(), Kept: r.Done}
	r.addRun(d)
	d.Add("Files and schema", r.facts())
	if r.Receipt != nil {
		d.Add("Receipt", document.Facts{r.Receipt.fact("")})
	}
	if r.Merge != nil && r.Differing == 0 {
		r.Merge.add(d)
	}
	d.Add("Reconciliation", r.table(), r.details(), r.digestTable(), r.digestNote())
	r.addLost(d)
	addDifferenceRows(d, x, r.Differing)
	addMessages(d, r.Warnings, r.Notes)
	d.Add("Digests", digestText())
	if r.Done {
		d.Add("Roll back", document.Code{"FLUJO_STATE_URI=" + r.Rollback})
	}
	addEnd(d, x)
	return d
}

// Record returns the report with everything that an auditor needs.
func (c *Check) Record(x *Details) *document.Document {
	d := &document.Document{Title: "flujo-port check", Outcome: c.outcome(), Headline: c.headline()}
	c.addRun(d)
	var checked document.Facts
	if c.Source != nil {
		checked = append(checked, c.Source.facts("State file")...)
	}
	for _, f := range c.Files {
		if f.Source != nil {
			checked = append(checked, f.Source.facts("State file")...)
		}
	}
	if c.Target != nil {
		checked = append(checked, fact("Database", c.Target.lines()...))
	}
	d.Add("Checked", checked)
	c.addResults(d, false)
	var findings []foundIn
	if c.Findings != nil {
		findings = append(findings, foundIn{"", c.Findings})
	}
	for _, f := range c.Files {
		if f.Findings != nil {
			findings = append(findings, foundIn{f.Path, f.Findings})
		}
	}
	addFound(d, x, findings, len(c.Files) > 0)
	for i := range c.Conflicts {
		c.Conflicts[i].add(d)
	}
	d.Add("", document.Paragraph(c.conclusion()))
	addEnd(d, x)
	return d
}
