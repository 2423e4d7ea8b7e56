package document

import (
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"strings"

	"flujo-port/internal/clierr"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// MaxWidth is the number of columns of the text form on a wider terminal, and Width that without a terminal.
const (
	MaxWidth = 100
	Width    = 80
)

const (
	indent   = "  "
	minProse = 14 // columns that prose in a table needs
)

// Text writes the document as text for a terminal that is width columns wide. Only words that are longer, and code, are
// wider.
func (d *Document) Text(w io.Writer, width int) error {
	var b strings.Builder
	b.WriteString(Wrap(clierr.Printable(d.Headline), width, "", "") + "\n")
	for _, s := range d.Sections {
		body := s.text(width)
		if body == "" {
			continue
		}
		b.WriteString("\n")
		if s.Title != "" {
			b.WriteString(Wrap(clierr.Printable(s.Title), width, "", "") + "\n")
		}
		b.WriteString(body)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text returns the blocks, with an empty line before and after a table within them.
func (s *Section) text(width int) string {
	var b strings.Builder
	afterTable := false
	for _, block := range s.Blocks {
		text := textOf(block, width)
		if text == "" {
			continue
		}
		_, isTable := block.(*Table)
		if b.Len() > 0 && (afterTable || isTable) {
			b.WriteString("\n")
		}
		b.WriteString(text)
		afterTable = isTable
	}
	return b.String()
}

func textOf(block Block, width int) string {
	var b strings.Builder
	line := func(first, rest, text string) {
		b.WriteString(Wrap(clierr.Printable(text), width, indent+first, indent+rest) + "\n")
	}
	switch block := block.(type) {
	case Paragraph:
		line("", "", string(block))
	case Facts:
		label := 0
		for _, f := range block {
			label = max(label, text.StringWidth(f.Label))
		}
		for _, f := range block {
			first := clierr.Printable(f.Label)
			for _, one := range f.Lines {
				line(text.Pad(first, label, ' ')+indent, strings.Repeat(" ", label)+indent, one)
				first = ""
			}
		}
	case List:
		for _, one := range block {
			line("- ", "  ", one)
		}
	case Steps:
		for i, one := range block {
			line(fmt.Sprintf("%d  ", i+1), "   ", one)
		}
	case Code:
		for _, one := range block {
			b.WriteString(indent + clierr.Printable(one) + "\n")
		}
	case *Table:
		return block.text(width)
	case Form, Data: // for readers of the other forms
	}
	return b.String()
}

// text draws the table. If it cannot be made narrow enough, its rows are sentences.
func (t *Table) text(width int) string {
	var rows [][]string
	for row := range t.Rows {
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ""
	}
	if t.Total != nil {
		rows = append(rows, t.Total)
	}
	widths, least := make([]int, len(t.Columns)), make([]int, len(t.Columns))
	rest := width - len(indent)*len(t.Columns)
	prose := 0
	for i, c := range t.Columns {
		widths[i] = text.StringWidth(c.Title)
		for _, row := range rows {
			row[i] = clierr.Printable(row[i])
			widths[i] = max(widths[i], text.StringWidth(row[i]))
			for word := range strings.FieldsSeq(row[i]) {
				least[i] = max(least[i], text.StringWidth(word))
			}
		}
		if c.Kind != Prose {
			rest -= widths[i]
			continue
		}
		prose++
		least[i] = min(widths[i], max(minProse, least[i]))
		rest -= least[i]
	}
	if rest < 0 {
		return t.sentences(rows, width)
	}
	for i, c := range t.Columns { // from the left, each takes its share of what is left
		if c.Kind == Prose {
			more := min(widths[i]-least[i], max(rest/prose, rest-t.wanted(widths, least, i+1)))
			widths[i] = least[i] + more
			rest, prose = rest-more, prose-1
		}
	}
	return t.draw(rows, widths)
}

// wanted returns by how much the columns of prose from the given one on want to be wider than they must be.
func (t *Table) wanted(widths, least []int, from int) (n int) {
	for i := from; i < len(t.Columns); i++ {
		if t.Columns[i].Kind == Prose {
			n += widths[i] - least[i]
		}
	}
	return n
}

func (t *Table) draw(rows [][]string, widths []int) string {
	w := table.NewWriter()
	w.SetStyle(table.Style{
		Box:     table.BoxStyle{PaddingRight: indent, PageSeparator: "\n"},
		Options: table.OptionsNoBordersAndSeparators,
	})
	var head table.Row
	configs := make([]table.ColumnConfig, len(t.Columns))
	for i, c := range t.Columns {
		head = append(head, c.Title)
		configs[i] = table.ColumnConfig{
			Number: i + 1, WidthMax: widths[i],
			WidthMaxEnforcer: func(s string, max int) string { return Wrap(s, max, "", "") },
		}
		if c.Kind == Number {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	w.SetColumnConfigs(configs)
	w.AppendHeader(head)
	for _, row := range rows {
		var cells table.Row
		for _, cell := range row {
			cells = append(cells, cell)
		}
		w.AppendRow(cells)
	}
	var b strings.Builder
	for line := range strings.SplitSeq(w.Render(), "\n") {
		b.WriteString(strings.TrimRight(indent+line, " ") + "\n")
	}
	return b.String()
}

// sentences writes each row as its first cell, then the titles and cells of the others. A cell of prose begins a line.
func (t *Table) sentences(rows [][]string, width int) string {
	var b strings.Builder
	for _, row := range rows {
		var parts, prose []string
		for i, cell := range row[1:] {
			switch c := t.Columns[i+1]; {
			case cell == "", cell == "0" && c.Kind == Number:
			case c.Kind == Prose:
				prose = append(prose, strings.TrimSpace(c.Title+": "+cell))
			default:
				parts = append(parts, strings.TrimSpace(c.Title+" "+cell))
			}
		}
		line := row[0]
		if len(parts) > 0 {
			line += ": " + strings.Join(parts, ", ")
		}
		b.WriteString(Wrap(line, width, indent, indent+indent) + "\n")
		for _, one := range prose {
			b.WriteString(Wrap(one, width, indent+indent, indent+indent+indent) + "\n")
		}
	}
	return b.String()
}

// Wrap breaks text into lines of at most width columns, between words only. The first line begins with first, and the
// others with rest. Spaces within a line remain as they are. A quoted command of flujo-port is not broken if it fits
// into a line, so that it can be copied.
func Wrap(s string, width int, first, rest string) string {
	var lines []string
	line, column := first, text.StringWidth(first)
	empty := true
	for word := range words(s, width-text.StringWidth(rest)) {
		n := text.StringWidth(word)
		if !empty && n > 0 && column+1+n > width {
			lines = append(lines, strings.TrimRight(line, " "))
			line, column, empty = rest, text.StringWidth(rest), true
		}
		if !empty {
			line, column = line+" ", column+1
		}
		line, column, empty = line+word, column+n, false
	}
	return strings.Join(append(lines, line), "\n")
}

var quotedCommand = regexp.MustCompile(`"flujo-port [^"]*"`)

// words yields the texts between spaces. A quoted command of at most width columns is one.
func words(s string, width int) iter.Seq[string] {
	commands := slices.DeleteFunc(quotedCommand.FindAllStringIndex(s, -1), func(at []int) bool {
		from := strings.LastIndexByte(s[:at[0]], ' ') + 1 // with what is attached, such as a full stop
		after, _, _ := strings.Cut(s[at[1]:], " ")
		return text.StringWidth(s[from:at[1]]+after) > width
	})
	return func(yield func(string) bool) {
		start := 0
		for i := range len(s) {
			within := func(at []int) bool { return at[0] < i && i < at[1] }
			if s[i] != ' ' || slices.ContainsFunc(commands, within) {
				continue
			}
			if !yield(s[start:i]) {
				return
			}
			start = i + 1
		}
		yield(s[start:])
	}
}

// Cells returns rows that are held in memory.
func Cells(rows ...[]string) func(yield func([]string) bool) { return slices.Values(rows) }
