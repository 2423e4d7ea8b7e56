package report

import (
	"fmt"
	"slices"

	"flujo-port/internal/document"

	"github.com/dustin/go-humanize"
)

// Restoration is the report of the command restore.
type Restoration struct {
	Run
	DryRun bool         `json:"dry_run"`
	Done   bool         `json:"done"`   // the new file has been created at File.Path
	Source Target       `json:"source"` // the schema that was read
	File   RestoredFile `json:"file"`
	// Base is the file that unchanged rows were copied from; nil without one.
	Base    *Source         `json:"base"    jsonschema:"nullable"`
	Receipt *ReceiptNote    `json:"receipt" jsonschema:"nullable"`
	Merge   *Merge          `json:"merge"   jsonschema:"nullable"` // nil without --merge
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
	// The digests of the new file's rows, as a migration converts them, and of the rows in PostgreSQL. They differ
	// if the file cannot hold a row exactly as PostgreSQL does, although every cell was compared. That of PostgreSQL
	// is empty for a copy of the file of a receipt.
	FileDigest string `json:"file_digest"`
	Digest     string `json:"digest"`
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

// Document returns the report as a document for a terminal.
func (r *Restoration) Document() *document.Document {
	d := &document.Document{Title: "flujo-port restore", Outcome: r.outcome(), Headline: r.headline()}
	d.Add("", r.facts())
	if r.Merge != nil && r.Differing == 0 {
		r.Merge.add(d)
	}
	d.Add("", r.table(), r.details())
	if r.Differing > 0 {
		d.Add("Differences", document.Paragraph("The first of each table. The JSON report lists all "+
			humanize.Comma(r.Differing)+"."), differenceList(r.Differences))
	}
	r.addLost(d)
	addMessages(d, r.Warnings, r.Notes)
	addHint(d, r.Error)
	if r.Done {
		d.Add("Roll back", document.Code{"FLUJO_STATE_URI=" + r.Rollback})
	}
	return d
}

// facts describes the schema, the base and the new file.
func (r *Restoration) facts() document.Facts {
	facts := document.Facts{fact("From", r.Source.lines()...)}
	if r.Base != nil {
		for _, f := range r.Base.facts("Base") {
			if f.Label == "SHA-256" {
				f.Label = "Base SHA-256"
			}
			facts = append(facts, f)
		}
	}
	facts = append(facts, fact("To", r.File.Path, humanize.IBytes(uint64(r.File.Bytes))))
	if r.File.SHA256 != "" {
		facts = append(facts, fact("New SHA-256", r.File.SHA256))
	}
	return facts
}

func (r *Restoration) outcome() document.Outcome {
	switch {
	case r.Differing > 0 || r.Error != nil:
		return document.Bad
	case len(r.Lost) > 0 || len(r.Warnings) > 0:
		return document.Attention
	}
	return document.Good
}

func (r *Restoration) headline() string {
	if r.Differing > 0 {
		return fmt.Sprintf("Verification failed: %s of the new state file differ from PostgreSQL. "+
			"The file was removed.", rows(r.Differing))
	}
	var n int64
	for _, t := range r.Tables {
		n += t.InPostgres
	}
	what := fmt.Sprintf("%s of PostgreSQL in %s", rows(n), seconds(r.Seconds))
	lost := ""
	if len(r.Lost) > 0 {
		var n int64
		for _, c := range r.Lost {
			n += c.Count
		}
		lost = "; " + plural(n, "value") + " lost"
	}
	if !r.Done {
		return "Dry run: restored and verified " + what + lost + ", then the new state file was removed."
	}
	return "Restored and verified: " + what + lost
}

// table returns the table of the rows. Converted, from the base and derived add up to PostgreSQL.
func (r *Restoration) table() *document.Table {
	columns := document.Words("Table").Numbers("PostgreSQL", "Converted", "From base", "Derived", "Rejected").Words("")
	var all [][]string
	for _, t := range r.Tables {
		all = append(all, append(numbers(t.Name, t.InPostgres, t.Written, t.FromBase, t.Derived, t.Rejected),
			mark(t.Match)))
	}
	return numberTable(columns, 3, true, all)
}

// details explains the columns of the table.
func (r *Restoration) details() document.Block {
	var derived, rejected, originals, removed int64
	for _, t := range r.Tables {
		derived, rejected = derived+t.Derived, rejected+t.Rejected
		originals, removed = originals+t.Originals, removed+t.Removed
	}
	var list document.List
	add := func(n int64, format string) {
		if n > 0 {
			list = append(list, fmt.Sprintf(format, humanize.Comma(n)))
		}
	}
	add(derived, "%s derived: omitted, because Flujo's SQLite backend derives these rows from others")
	add(rejected, "%s rejected: rows restored from flujo_port_originals, where the migration stored them")
	add(originals, "%s original values restored, byte for byte")
	add(removed, "%s rows of the base removed, because PostgreSQL no longer has them")
	if list == nil {
		return nil
	}
	return list
}

// addLost adds the values that SQLite cannot store.
func (r *Restoration) addLost(d *document.Document) {
	var all [][]string
	for _, c := range r.Lost {
		all = append(all, []string{c.Table + "." + c.Column, humanize.Comma(c.Count), c.Explanation})
	}
	if len(all) > 0 {
		d.Add("Lost values", &document.Table{Columns: document.Words("Column").Numbers("Values").Prose("Reason"),
			Rows: slices.Values(all)})
	}
}
