package report

import (
	"fmt"

	"flujo-port/internal/document"

	"github.com/dustin/go-humanize"
)

// Document returns the report as a document for a terminal.
func (v *Verification) Document() *document.Document {
	d := &document.Document{Title: "flujo-port verify", Outcome: outcomeOf(v.Verdict),
		Headline: v.headline() + " (" + seconds(v.Seconds) + ")"}
	if len(v.Files) > 0 {
		d.Add("", document.Facts{fact("Database", v.Target.lines()...)})
		v.addFiles(d)
	} else {
		d.Add("", append(v.Source.facts("File"), fact("Database", v.Target.lines()...),
			v.Receipt.fact(v.Verdict)))
		d.Add("", v.table(), v.legend())
		d.Add("", v.originalsNote())
	}
	v.addDifferences(d)
	addMessages(d, v.Warnings, v.Notes)
	addHint(d, v.Error)
	return d
}

// addHint adds what to do about an error, which may be nil.
func addHint(d *document.Document, err *Failure) {
	if err != nil && err.Hint != "" {
		d.Add("To go on", document.Paragraph(sentence(err.Hint)))
	}
}

func outcomeOf(verdict string) document.Outcome {
	switch verdict {
	case Equal, Merged:
		return document.Good
	case Drift:
		return document.Attention
	}
	return document.Bad
}

// fact says what a receipt says. r may be nil.
func (r *ReceiptNote) fact(verdict string) document.Fact {
	if r == nil {
		return fact("Receipt", "none in this schema: changes after the migration cannot be told from a copy mismatch")
	}
	checksum := "the file's checksum equals the receipt's"
	if !r.SameBytes {
		checksum = "the file's checksum differs from the receipt's"
		if verdict != SourceMismatch {
			checksum += ", but its rows are the same, as after a checkpoint"
		}
	}
	elsewhere := ""
	if r.Elsewhere {
		elsewhere = "written in another database, before a dump and a restore, or a copy of the database: " +
			"every row that differs counts as changed since"
	}
	return fact("Receipt",
		fmt.Sprintf("%d of %s, flujo-port %s, verified by %s", r.ID, moment(r.MigratedAt), r.Version, r.Verify),
		"for "+r.Path+": "+checksum, elsewhere)
}

// headline returns one sentence that begins with the verdict.
func (v *Verification) headline() string {
	switch v.Verdict {
	case Equal:
		if found := v.found(); found != "" {
			return "Equal: PostgreSQL holds what a migration stores of the state file" + found + "."
		}
		but := ""
		if n := v.rounded(); n > 0 {
			but = ", apart from " + plural(n, "value") + " rounded to real, the type of Flujo's columns"
		}
		return "Equal: every cell in PostgreSQL equals the state file" + but + "."
	case Merged:
		return "Merged: every run, key and memory of the state file is in PostgreSQL, with other ids or in another " +
			"file's newer version, and what was superseded is kept."
	case Drift:
		if v.Receipt != nil && v.Receipt.Verify == VerifyCounts {
			return "Drift: every row of the migration that was not changed since equals the state file. " +
				"Rows changed or deleted since cannot be checked (rows were counted at the migration)."
		}
		return "Drift: the copy was correct; rows were added, changed or deleted after the migration."
	case CopyMismatch:
		return "Copy mismatch: rows that the migration wrote differ from the state file."
	case SourceMismatch:
		if len(v.Files) > 0 {
			return "Source mismatch: a state file is none of those whose rows the schema holds, " +
				"or it was written to after the migration. The files from it on were not compared."
		}
		return "Source mismatch: the state file is not the one whose rows the schema holds, " +
			"or it was written to after the migration. Rows were not compared one by one."
	}
	return "Mismatch: rows in PostgreSQL differ from the state file."
}

// found says how many rows of the files are rejected and values changed.
func (v *Verification) found() string {
	var rejected, changed int64
	for _, f := range v.findings() {
		r, c := f.Count()
		rejected, changed = rejected+r, changed+c
	}
	return found(rejected, changed)
}

// rounded returns the number of floats in the files that a real column rounded.
func (v *Verification) rounded() (n int64) {
	for _, f := range v.findings() {
		n += f.RoundedCount()
	}
	return n
}

// findings returns what was found in the files.
func (v *Verification) findings() (all []foundIn) {
	if v.Found != nil {
		all = append(all, foundIn{v.Source.Path, v.Found})
	}
	for _, f := range v.Files {
		if f.Found != nil {
			all = append(all, foundIn{f.Source.Path, f.Found})
		}
	}
	return all
}

// table returns the table of the rows. File, rejected, derived, added and deleted add up to PostgreSQL, unless rows are
// missing for another reason.
func (v *Verification) table() *document.Table {
	columns := document.Words("Table").
		Numbers("File", "Rejected", "Derived", "Migrated", "Added", "Deleted", "PostgreSQL", "Changed", "Mismatched").
		Words("")
	var all [][]string
	for _, c := range v.Tables {
		if c.Name == originalsTable {
			continue
		}
		migrated := c.AtReceipt
		if v.Verdict != SourceMismatch {
			migrated = 0 // equals what the file has
		}
		all = append(all, append(numbers(c.Name, c.RowsRead, c.Rejected, c.Derived, migrated, c.Added, -c.Deleted,
			c.InPostgres, c.Changed, c.Mismatched), v.result(&c)))
	}
	return numberTable(columns, 2, true, all)
}

// originalsTable is the name of mapping.Originals, whose rows are not the state file's.
const originalsTable = "flujo_port_originals"

// originalsNote says whether the original values are there. It is nil if there are none.
func (v *Verification) originalsNote() document.Block {
	text := v.originals()
	if text == "" {
		return nil
	}
	return document.Paragraph(capitalized(text) + ".")
}

// originals says whether the original values are there; "" if there are none.
func (v *Verification) originals() string {
	for _, c := range v.Tables {
		if c.Name != originalsTable {
			continue
		}
		if c.Match {
			return fmt.Sprintf("original values in %s: %s, as in the state file", c.Name, humanize.Comma(c.InPostgres))
		}
		return fmt.Sprintf("original values: %s in the state file, %s in %s, NOT EQUAL",
			humanize.Comma(c.InFile), humanize.Comma(c.InPostgres), c.Name)
	}
	return ""
}

// result returns the last cell of the row of a table.
func (v *Verification) result(c *Comparison) string {
	if !c.Match && c.Mismatched == 0 && v.Verdict == Drift {
		return "drift"
	}
	return mark(c.Match)
}

// legend explains the columns of rows that were written since.
func (v *Verification) legend() document.Block {
	if v.Verdict != Drift {
		return nil
	}
	return document.Paragraph("Added, deleted and changed: since the migration, as Flujo does.")
}

// addDifferences adds the first differences of each table.
func (v *Verification) addDifferences(d *document.Document) {
	var all []Difference
	for _, c := range v.Tables {
		all = append(all, c.First...)
	}
	if len(all) > 0 {
		d.Add(
			"Differences",
			document.Paragraph("The first of each table. The JSON report lists all."),
			differenceList(all),
		)
	}
}

// addFiles adds the results by unit.
func (v *Verification) addFiles(d *document.Document) {
	for _, f := range v.Files {
		receipt := f.Receipt.fact(f.Verdict)
		if f.Verdict == SourceMismatch {
			receipt = fact("Receipt", "none of this file, as it is now, among those of the rows in the schema")
		}
		d.Add("", append(f.Source.facts("File"), receipt))
		d.Add("", f.table(), f.list())
	}
	if v.Written == nil {
		return
	}
	facts := document.Facts{
		fact("Of these files", rows(v.Written.Files)),
		fact("Written since", rows(v.Written.Since)),
	}
	if len(v.Written.Others) == 0 {
		d.Add("Rows in the schema", facts,
			document.Paragraph("Every row is of one of these files, or was written since, as Flujo does."))
		return
	}
	var others document.List // not facts, where a digest would be too far to the right
	for _, other := range v.Written.Others {
		others = append(others, fmt.Sprintf("%s of %s, which was not verified: receipt %d, SHA-256 %s",
			rows(other.Rows), other.Path, other.Receipt, other.SHA256))
	}
	d.Add("Rows in the schema", facts, others)
}

// table returns the table of the units. The numbers after the first add up to it.
func (f *VerifiedFile) table() *document.Table {
	var all [][]string
	for _, u := range f.Units {
		all = append(all,
			numbers(u.Kind, u.InFile, u.Equal, u.Renumbered, u.Superseded, u.Changed, u.Missing, u.Mismatched))
	}
	return numberTable(
		document.Words("Units").
			Numbers("In file", "Equal", "Other ids", "Superseded", "Changed", "Missing", "Mismatched"),
		3,
		false,
		all,
	)
}

func (f *VerifiedFile) list() document.Block {
	var list document.List
	for _, by := range f.Superseded {
		if by.Receipt == 0 {
			list = append(list, "superseded by a version without a receipt, as Flujo writes: "+humanize.Comma(by.Units))
			continue
		}
		list = append(list, fmt.Sprintf("superseded by %s of %s (receipt %d): %s",
			by.Path, moment(*by.MigratedAt), by.Receipt, humanize.Comma(by.Units)))
	}
	for _, u := range f.Units {
		for _, one := range []struct {
			n     int64
			what  string
			first []string
		}{
			{u.Changed, "changed since", u.FirstChanged},
			{u.Incomplete, "of these changed only by deleting rows", u.FirstIncomplete},
			{u.Missing, "no longer in PostgreSQL", u.FirstMissing},
			{u.Mismatched, "differ although Flujo did not write them, or the superseded version is not kept",
				u.FirstMismatched},
		} {
			if one.n > 0 {
				list = append(list, fmt.Sprintf("%s: %s %s: %s",
					u.Kind, humanize.Comma(one.n), one.what, firstOf(one.first, one.n)))
			}
		}
	}
	if o := f.Originals; o != nil && !o.Match {
		list = append(
			list,
			fmt.Sprintf("original values: %s in the state file, %s in flujo_port_originals, not all equal",
				humanize.Comma(o.InFile), humanize.Comma(o.InPostgres)),
		)
	}
	if list == nil {
		return nil
	}
	return list
}
