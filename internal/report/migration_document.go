package report

import (
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/document"

	"github.com/dustin/go-humanize"
)

// Document returns the report as a document for a terminal.
func (m *Migration) Document() *document.Document {
	if m.AlreadyMigrated != nil {
		v := *m.AlreadyMigrated
		v.Error = nil // it is said once, at the end
		return m.alreadyMigrated(v.Document())
	}
	d := &document.Document{Title: "flujo-port migrate", Outcome: m.outcome(), Headline: m.headline()}
	d.Add("", append(m.from(), append(document.Facts{fact("To", m.Target.lines()...)}, m.proof()...)...))
	m.addFile(d, &m.FileResult, 1, m.Source.Path)
	for i, further := range m.Further {
		m.addFile(d, &further.FileResult, i+2, further.Source.Path)
	}
	m.addDifferences(d)
	m.addReplaced(d)
	addMessages(d, m.Warnings, m.Notes)
	for _, further := range m.Further {
		addMessages(d, nil, further.Notes)
	}
	m.addWaysOn(d)
	return d
}

// from describes the state files.
func (m *Migration) from() document.Facts {
	facts := m.Source.facts("From")
	for _, further := range m.Further {
		facts = append(facts, further.Source.facts("and")...)
	}
	return facts
}

func (m *Migration) outcome() document.Outcome {
	rejected, changed := m.count()
	switch {
	case m.Refused || m.Differing > 0 || m.Error != nil:
		return document.Bad
	case rejected > 0 || changed > 0 || len(m.Warnings) > 0:
		return document.Attention
	}
	return document.Good
}

// files returns the results of all files.
func (m *Migration) files() []*FileResult {
	files := []*FileResult{&m.FileResult}
	for _, further := range m.Further {
		files = append(files, &further.FileResult)
	}
	return files
}

// count returns the numbers of rejected rows and of changed values of all files.
func (m *Migration) count() (rejected, changed int64) {
	for _, f := range m.files() {
		if f.Findings != nil {
			r, c := f.Count()
			rejected, changed = rejected+r, changed+c
		}
	}
	return rejected, changed
}

// inPostgres returns the number of rows in the tables after the last file.
func (m *Migration) inPostgres() (n int64) {
	for _, f := range m.files() {
		if f.Findings == nil || f.SameAs != "" || len(f.Tables) == 0 {
			continue
		}
		n = 0
		for _, t := range f.Tables {
			n += t.InPostgres
		}
	}
	return n
}

// mergedUnits says what became of the runs, keys and memories of the files.
func (m *Migration) mergedUnits() string {
	equal, added, takenOver, kept := m.countUnits()
	return fmt.Sprintf("%s added, %s taken over, %s equal, %s not taken",
		humanize.Comma(added), humanize.Comma(takenOver), humanize.Comma(equal), humanize.Comma(kept))
}

// versions says how many runs, keys and memories had different versions in several files; "" if none had.
func (m *Migration) versions() string {
	_, _, takenOver, kept := m.countUnits()
	if takenOver+kept == 0 {
		return ""
	}
	return fmt.Sprintf(" (runs, keys and memories in different versions: %s taken over, %s not taken)",
		humanize.Comma(takenOver), humanize.Comma(kept))
}

// countUnits counts the runs, keys and memories of the files that were merged. kept are those that were not taken.
func (m *Migration) countUnits() (equal, added, takenOver, kept int64) {
	for _, f := range m.files() {
		if f.Merge == nil {
			continue
		}
		for _, u := range f.Merge.Units {
			equal, added, takenOver = equal+u.Equal, added+u.Added, takenOver+u.TakenOver
			kept += u.Kept - u.Alone
		}
	}
	return equal, added, takenOver, kept
}

// headline says in one sentence what came of the migration.
func (m *Migration) headline() string {
	const unchanged = " Nothing was changed."
	switch {
	case m.Differing > 0:
		return fmt.Sprintf("Verification failed: %s in PostgreSQL differ from the state file. Rolled back.%s",
			rows(m.Differing), unchanged)
	case m.Refused && m.Error != nil:
		return "Refused: " + m.Error.Message + "." + unchanged
	case m.Refused:
		return "Refused." + unchanged
	}
	what := rows(m.inPostgres())
	if len(m.Further) > 0 {
		what += fmt.Sprintf(" of %d files", 1+len(m.Further))
	}
	what += " in " + seconds(m.Seconds) + m.versions()
	verb := "Migrated"
	if m.merged() {
		verb = "Merged"
	}
	if m.Verify == VerifyCounts {
		verb += ", counted but not compared"
	} else {
		verb += " and verified"
	}
	if m.merged() {
		what = m.mergedUnits()
		verb += " in " + seconds(m.Seconds)
	}
	if !m.Committed {
		verb = "Dry run, rolled back: " + strings.ToLower(verb[:1]) + verb[1:]
		if !m.merged() {
			return verb + " " + what + m.found() + "." + unchanged
		}
		return verb + ": " + what + m.found() + "." + unchanged
	}
	return verb + ": " + what + m.found()
}

// merged reports whether the tables held rows before.
func (m *Migration) merged() bool { return m.Merge != nil }

// found says how many rows were rejected and values changed.
func (m *Migration) found() string { return found(m.count()) }

func found(rejected, changed int64) string {
	var parts []string
	if rejected > 0 {
		parts = append(parts, rows(rejected)+" rejected")
	}
	if changed > 0 {
		parts = append(parts, plural(changed, "value")+" changed")
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + strings.Join(parts, ", ")
}

// proof returns what an auditor needs to find the migration again.
func (m *Migration) proof() document.Facts {
	if !m.Committed {
		return nil
	}
	var receipts []string
	var originals int64
	for _, f := range m.files() {
		originals += f.Originals
		if f.SameAs == "" {
			receipts = append(receipts, fmt.Sprint(f.Receipt))
		}
	}
	noun := "receipt "
	if len(receipts) > 1 {
		noun = "receipts "
	}
	facts := document.Facts{fact("Proof", fmt.Sprintf("%s%s of %s, flujo-port %s",
		noun, strings.Join(receipts, ", "), moment(m.Started), m.Version))}
	if originals > 0 {
		facts = append(facts, fact("Originals",
			fmt.Sprintf("%s, byte for byte, in %s", plural(originals, "value"), m.originals())))
	}
	return facts
}

// facts describes the state file.
func (s *Source) facts(label string) document.Facts {
	return append(document.Facts{fact(label, s.lines()...)}, s.hashes()...)
}

// hashes returns the SHA-256 of the file and of its -wal, if they are known.
func (s *Source) hashes() (facts document.Facts) {
	if s.SHA256 != "" {
		facts = append(facts, fact("SHA-256", s.SHA256))
	}
	if s.WALSHA256 != "" {
		facts = append(facts, fact("of -wal", s.WALSHA256))
	}
	return facts
}

// lines describes the state file.
func (s *Source) lines() []string {
	parts := []string{humanize.IBytes(uint64(s.Bytes)), s.FileFormat}
	if s.WAL {
		parts = append(parts, "with a -wal of "+plural(int64(s.Frames), "frame"))
	} else {
		parts = append(parts, "no -wal")
	}
	if s.IntegrityFailed {
		parts = append(parts, "integrity check failed")
	} else if s.Integrity == "" {
		parts = append(parts, "integrity not checked")
	} else {
		parts = append(parts, s.Integrity+" ok")
	}
	return []string{s.Path, strings.Join(parts, ", ")}
}

// lines describes the schema.
func (t *Target) lines() []string {
	where := fmt.Sprintf("schema %q of database %q", t.Schema, t.Database)
	if t.Host != "" {
		where += " at " + t.Host
	}
	server := []string{"PostgreSQL " + t.Server}
	if t.Role != "" {
		server = append(server, fmt.Sprintf("role %q", t.Role))
	}
	switch {
	case t.CreatedPGVector:
		server = append(server, "pgvector "+t.PGVector+" (created)")
	case t.PGVector != "":
		server = append(server, "pgvector "+t.PGVector)
	}
	return []string{where, strings.Join(server, ", ")}
}

// addFile adds the result of one state file, which is the nth.
func (m *Migration) addFile(d *document.Document, f *FileResult, n int, path string) {
	title := ""
	if len(m.Further) > 0 {
		title = fmt.Sprintf("File %d: %s", n, path)
	}
	if f.SameAs != "" {
		d.Add(title, document.Paragraph("The content is that of "+f.SameAs+": it was not migrated again."))
		return
	}
	if len(f.Tables) == 0 {
		d.Add(title, document.Paragraph("This file was not read, because of the error."))
		return
	}
	refused := m.Refused && !f.stored()
	if refused {
		if title != "" {
			d.Add(title, document.Paragraph("This file cannot be stored as it is."))
		}
		f.addRejected(d, "Rejected rows: "+rowsOf(f.Findings))
		f.addChanges(d, m.wouldChange(f))
		f.addConversions(d, "By design, in any migration of this file")
		d.Add("Rows of the state file", f.table(true))
		return
	}
	var held document.Block
	if f.heldRows() {
		held = document.Paragraph(f.sum())
	}
	d.Add(title, f.table(false), held)
	if f.Merge != nil && m.Differing == 0 {
		f.Merge.add(d)
	}
	_, changed := f.Count()
	rejectedTitle, changedTitle := "Rejected rows: "+rowsOf(f.Findings), "Changed values: "+humanize.Comma(changed)
	if m.Committed {
		rejectedTitle += ", kept in " + m.originals()
		changedTitle += ", originals in " + m.originals()
	}
	f.addRejected(d, rejectedTitle)
	f.addChanges(d, changedTitle)
	f.addConversions(d, "By design")
}

// originals returns the table of the original values.
func (m *Migration) originals() string { return m.Target.Schema + ".flujo_port_originals" }

func rowsOf(f *Findings) string {
	rejected, _ := f.Count()
	return humanize.Comma(rejected)
}

// wouldChange is the title of the changes of a file that is refused.
func (m *Migration) wouldChange(f *FileResult) string {
	rejected, changed := f.Count()
	if rejected > 0 {
		return "Would also be changed: " + plural(changed, "value")
	}
	return "Would be changed: " + plural(changed, "value")
}

// stored reports whether the rows of the file were stored and counted.
func (f *FileResult) stored() bool {
	return f.Findings != nil && slices.ContainsFunc(f.Tables, func(t Table) bool { return t.Match })
}

// sum says whether the numbers of rows in the table of a file add up to those in PostgreSQL, and explains the columns
// of a merge.
func (f *FileResult) sum() string {
	text := "The numbers of rows add up: state file − rejected + derived = PostgreSQL."
	if f.heldRows() {
		text = "The numbers of rows add up: state file − rejected + derived − not stored + before = PostgreSQL."
	}
	if wrong := f.notAddingUp(); len(wrong) > 0 {
		text = "The numbers of rows do not add up to those in PostgreSQL in " + strings.Join(wrong, ", ") + "."
	}
	if f.heldRows() {
		text += " Not stored: PostgreSQL's version of the run, key or memory stayed. Before: PostgreSQL held the row " +
			"before and still holds it."
	}
	return text
}

// notAddingUp returns the names of the tables whose number of rows in PostgreSQL is not the expected one.
func (f *FileResult) notAddingUp() (names []string) {
	for _, t := range f.Tables {
		if t.RowsRead-t.Rejected+t.Derived-t.NotStored+t.HeldBefore != t.InPostgres {
			names = append(names, t.Name)
		}
	}
	return names
}

// heldRows reports whether the tables held rows before.
func (f *FileResult) heldRows() bool {
	return slices.ContainsFunc(f.Tables, func(t Table) bool { return t.NotStored > 0 || t.HeldBefore > 0 })
}

// table returns the table of the rows, whose numbers add up to those in PostgreSQL.
func (f *FileResult) table(refused bool) *document.Table {
	columns := document.Words("Table").Numbers("File", "Rejected", "Derived")
	if refused {
		var all [][]string
		for _, t := range f.Tables {
			all = append(all, numbers(t.Name, t.RowsRead, t.Rejected, t.Derived))
		}
		return numberTable(columns, 2, true, all)
	}
	all, columns := f.counts(columns)
	for i := range all {
		all[i] = append(all[i], mark(f.Tables[i].Match))
	}
	columns = columns.Words("")
	return numberTable(columns, len(columns), true, all)
}

// counts returns a row of each table with its numbers of rows. It adds the columns after that of derived rows.
func (f *FileResult) counts(columns document.Columns) ([][]string, document.Columns) {
	var all [][]string
	held := f.heldRows()
	if held {
		columns = columns.Numbers("Not stored", "Before")
	}
	for _, t := range f.Tables {
		counts := []int64{t.RowsRead, t.Rejected, t.Derived}
		if held {
			counts = append(counts, t.NotStored, t.HeldBefore)
		}
		all = append(all, numbers(t.Name, append(counts, t.InPostgres)...))
	}
	return all, columns.Numbers("PostgreSQL")
}

// mark returns the last cell of the row of a table.
func mark(match bool) string {
	if match {
		return "ok"
	}
	return "DIFFERS"
}

// addRejected adds the first rejected rows.
func (f *Findings) addRejected(d *document.Document, title string) {
	rejected, _ := f.Count()
	if rejected == 0 {
		return
	}
	var all [][]string
	for _, r := range f.FirstRejected {
		all = append(all, []string{r.Table, fmt.Sprintf("rowid %d", r.RowID), r.Column, r.Value, r.reason()})
	}
	var more document.Block
	if rest := rejected - int64(len(f.FirstRejected)); rest > 0 && len(all) > 0 {
		more = document.Paragraph("… and " + humanize.Comma(rest) + " more, which the JSON report lists.")
	}
	d.Add(title, &document.Table{
		Columns: document.Words("Table", "Row", "Column").Prose("Value", "Reason"), Rows: slices.Values(all)}, more)
}

func (r *RejectedRow) reason() string { return r.Reason + ": " + r.Explanation }

// addChanges adds the changed values by column and reason.
func (f *Findings) addChanges(d *document.Document, title string) {
	var all [][]string
	for _, c := range f.Changes {
		if !c.Rejected {
			all = append(all, []string{c.Table + "." + clierr.Name(c.Column), humanize.Comma(c.Count),
				c.Reason + ": " + c.Explanation, fewOf(c.Keys, c.Count)})
		}
	}
	if len(all) > 0 {
		d.Add(title, &document.Table{
			Columns: document.Words("Column").Numbers("Values").Prose("Reason, and what is done", "First keys"),
			Rows:    slices.Values(all)})
	}
}

// addConversions adds what was derived, widened, interpreted, rounded or ignored.
func (f *Findings) addConversions(d *document.Document, title string) {
	if list := f.conversions(); len(list) > 0 {
		d.Add(title, list)
	}
}

func (f *Findings) conversions() (list document.List) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, one := range f.Derived {
		if one.Rows == 0 {
			continue
		}
		from := ""
		if one.Count > 0 {
			from = fmt.Sprintf(" from %s of %s", rows(one.Count), one.From)
		}
		add("%s: %s derived%s: %s", one.Table, rows(one.Rows), from, one.Why)
	}
	for _, n := range f.NaiveTimestamps {
		add("%s: %s without a time zone, read as %s", n.Column, plural(n.Count, "timestamp"), n.Zone)
	}
	for _, r := range f.Rounded {
		add("%s: %s rounded to real, the column's type in Flujo, by at most %s of the value",
			r.Column, plural(r.Count, "value"), upperBound(r.Largest))
	}
	if len(f.Widened) > 0 {
		add("widened to bigint, for values out of the range of integer: %s", strings.Join(f.Widened, ", "))
	}
	if len(f.Ignored) > 0 {
		add("ignored, since these tables are not Flujo's: %s", clierr.Names(f.Ignored))
	}
	return list
}

// addDifferences adds the first rows that differ.
func (m *Migration) addDifferences(d *document.Document) {
	if m.Differing > 0 {
		d.Add("Differences", document.Paragraph("The first of each table. The JSON report lists all "+
			humanize.Comma(m.Differing)+"."), differenceList(m.Differences))
	}
}

func differenceList(differences []Difference) document.List {
	list := make(document.List, len(differences))
	for i, one := range differences {
		list[i] = one.String()
		if one.Since {
			list[i] += " (since the migration)"
		}
	}
	return list
}

// addMessages adds the warnings and the notes.
func addMessages(d *document.Document, warnings, notes []string) {
	for _, group := range []struct {
		title string
		texts []string
	}{{"Warnings", warnings}, {"Notes", notes}} {
		if len(group.texts) > 0 {
			d.Add(group.title, document.List(group.texts))
		}
	}
}

// addWaysOn adds what to do next, and how to go back.
func (m *Migration) addWaysOn(d *document.Document) {
	if m.Refused || m.Differing > 0 || m.Error != nil {
		if m.Error != nil && m.Error.Hint != "" {
			d.Add("To go on", document.Paragraph(sentence(m.Error.Hint)))
		}
		return
	}
	if len(m.Next) > 0 {
		d.Add("Next", document.Steps(m.Next))
	}
	cutOver, undo := "Cut over", "Undo"
	if !m.HasRows() {
		cutOver, undo = "For the cutover", "For a rollback"
	}
	d.Add(cutOver, document.Code{"FLUJO_STATE_URI=" + m.Cutover})
	back := document.Code{"FLUJO_STATE_URI=" + m.Rollback}
	text := "The state file is unchanged. "
	if len(m.Further) > 0 {
		text = "Each instance goes back to its own file: the state files are unchanged. "
	}
	for _, further := range m.Further {
		back = append(back, "FLUJO_STATE_URI="+further.Rollback)
	}
	text += fmt.Sprintf("\"%s\" creates a new file that also contains what Flujo has written to PostgreSQL.",
		m.RestoreCommand)
	d.Add(undo, back, document.Paragraph(text))
	m.addUndo(d)
}

// addReplaced adds which rows were archived, and where.
func (m *Migration) addReplaced(d *document.Document) {
	r := m.Replaced
	if r == nil {
		return
	}
	var all [][]string
	for _, t := range r.Tables {
		all = append(all, numbers(t.Name, t.Rows))
	}
	title, text := "Replaced", fmt.Sprintf(
		"The previous rows are archived in schema %q until you drop it.",
		r.ArchiveSchema,
	)
	if !m.Committed {
		title, text = "Replaced, then rolled back", fmt.Sprintf(
			"The real run archives the existing rows in a schema such as %q, and prints the SQL that "+
				"restores them.",
			r.ArchiveSchema,
		)
	}
	d.Add(title, document.Paragraph(text), numberTable(document.Words("Table").Numbers("Archived rows"), 2, false, all))
}

// addUndo adds the SQL that restores the archived rows, and the SQL that deletes them.
func (m *Migration) addUndo(d *document.Document) {
	if m.Replaced == nil || !m.Committed {
		return
	}
	d.Add("To restore the archived rows", document.Paragraph(fmt.Sprintf("Stop Flujo and paste these lines into psql. "+
		"They delete the rows that the tables hold by then. If you need those, save them first with \"%s\".",
		m.RestoreCommand)), document.Code(m.Replaced.UndoSQL))
	d.Add("To delete the archived rows for good, when they are no longer needed",
		document.Code{m.Replaced.DropSQL})
}
