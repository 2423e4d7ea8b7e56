// Package document holds a report as headings, facts, tables and lists, and writes it as text for a terminal, as
// Markdown and as an HTML page.
//
// Strings may come from a state file or a server: every form writes them as [clierr.Printable] does, and escapes what
// has a meaning in the form.
package document

import (
	"io"
	"iter"
	"slices"
)

// Outcome is what a document reports. The page shows it in its colour.
type Outcome string

// The outcomes.
const (
	Good      Outcome = "good"
	Attention Outcome = "attention" // it worked, and there is something to read
	Bad       Outcome = "bad"
)

// Document is a report: one sentence that says what came of it, and sections. Sections without blocks are omitted.
type Document struct {
	Title    string // of the page; text for a terminal has none
	Kept     bool   // the page and the Markdown have KeptMark
	Outcome  Outcome
	Headline string
	Sections []Section
}

// KeptMark is a comment in a document whose file must not be replaced.
const KeptMark = "<!-- keep this file -->"

// Add adds a section, unless it has no blocks. Blocks that are nil, and facts without lines, are omitted.
func (d *Document) Add(title string, blocks ...Block) {
	s := Section{Title: title}
	for _, b := range blocks {
		if facts, ok := b.(Facts); ok {
			facts = slices.DeleteFunc(facts, func(f Fact) bool { return len(f.Lines) == 0 })
			if b = facts; len(facts) == 0 {
				continue
			}
		}
		if b != nil {
			s.Blocks = append(s.Blocks, b)
		}
	}
	if len(s.Blocks) > 0 {
		d.Sections = append(d.Sections, s)
	}
}

// Section is a part of a document.
type Section struct {
	Title  string // may be empty
	Blocks []Block
}

// Block is a part of a section: Paragraph, Facts, *Table, List, Steps, Code, Form or Data.
type Block interface{ block() }

// Paragraph is a sentence or several.
type Paragraph string

// Facts are labels and their values.
type Facts []Fact

// Fact is one label and its value, of which each line is a string.
type Fact struct {
	Label string
	Lines []string
}

// List is a list of sentences.
type List []string

// Steps is a numbered list of sentences.
type Steps []string

// Code is lines that the reader copies. They are never wrapped.
type Code []string

// Form is what the reader of a printed page fills in. Text for a terminal omits it.
type Form []string

// Data is a text that programs read, such as JSON. Only the page has it, closed. Text writes it to w.
type Data struct {
	Name  string // identifies the element of the page
	Title string
	Write func(w io.Writer) error
}

// Table is rows of cells.
type Table struct {
	Columns Columns
	Rows    iter.Seq[[]string]
	Total   []string // the last row; nil if there is none
	// Note is the sentence under which a page hides a long table; empty if it is always shown.
	Note string
	Open bool // a table with a Note is shown at first
}

// Columns are the columns of a table, from left to right.
type Columns []Column

// Column is a column of a table.
type Column struct {
	Title string
	Kind  Kind
}

// Kind is what the cells of a column hold.
type Kind int

// The kinds of columns.
const (
	Word   Kind = iota // is never wrapped
	Number             // is aligned at the right
	Prose              // is wrapped if the table is too wide
	Reason             // names of reasons joined by "+"; the page links each to the term of this name
	Term               // a name that reasons link to
	Digest             // two numbers with a comma
)

func (Paragraph) block() {}
func (Facts) block()     {}
func (List) block()      {}
func (Steps) block()     {}
func (Code) block()      {}
func (Form) block()      {}
func (Data) block()      {}
func (*Table) block()    {}

// Words returns columns of words. The methods of Columns add others.
func Words(titles ...string) Columns { return Columns{}.Words(titles...) }

// Words returns c, followed by columns of words.
func (c Columns) Words(titles ...string) Columns { return c.add(Word, titles) }

// Numbers returns c, followed by columns of numbers.
func (c Columns) Numbers(titles ...string) Columns { return c.add(Number, titles) }

// Prose returns c, followed by columns of prose.
func (c Columns) Prose(titles ...string) Columns { return c.add(Prose, titles) }

// Reasons returns c, followed by columns of the names of reasons.
func (c Columns) Reasons(titles ...string) Columns { return c.add(Reason, titles) }

// Terms returns c, followed by columns of terms.
func (c Columns) Terms(titles ...string) Columns { return c.add(Term, titles) }

// Digests returns c, followed by columns of digests.
func (c Columns) Digests(titles ...string) Columns { return c.add(Digest, titles) }

// add returns the columns and those of the titles, in memory of their own.
func (c Columns) add(kind Kind, titles []string) Columns {
	all := slices.Clip(c)
	for _, title := range titles {
		all = append(all, Column{Title: title, Kind: kind})
	}
	return all
}
