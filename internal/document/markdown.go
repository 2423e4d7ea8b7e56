package document

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"flujo-port/internal/clierr"
)

// Markdown writes the document as Markdown with tables, as GitHub and pandoc read it. Data is omitted.
func (d *Document) Markdown(w io.Writer) error {
	b := bufio.NewWriter(w) // keeps its first error, which Flush returns
	write(b, "# %s\n", plain(d.Title))
	if d.Kept {
		write(b, "\n%s\n", KeptMark)
	}
	write(b, "\n**%s**\n", plain(d.Headline))
	for _, s := range d.Sections {
		if _, hidden := s.Blocks[0].(Data); hidden {
			continue
		}
		if s.Title != "" {
			write(b, "\n## %s\n", plain(s.Title))
		}
		for _, block := range s.Blocks {
			write(b, "%s", "\n")
			writeMarkdown(b, block)
		}
	}
	return b.Flush()
}

func writeMarkdown(b *bufio.Writer, block Block) {
	switch block := block.(type) {
	case Paragraph:
		write(b, "%s\n", plain(string(block)))
	case Facts:
		for _, f := range block {
			lines := make([]string, len(f.Lines))
			for i, line := range f.Lines {
				lines[i] = plain(line)
			}
			write(b, "- **%s**: %s\n", plain(f.Label), joined(lines))
		}
	case List:
		for _, one := range block {
			write(b, "- %s\n", plain(one))
		}
	case Steps:
		for i, one := range block {
			write(b, "%d. %s\n", i+1, plain(one))
		}
	case Code:
		for _, one := range block {
			write(b, "    %s\n", clierr.Printable(one))
		}
	case Form:
		for _, one := range block {
			write(b, "- %s: ______________________________\n", plain(one))
		}
	case *Table:
		block.markdown(b)
	case Data: // is for programs
	}
}

// joined returns lines as one: after a sentence the next one follows, and other lines are separated by semicolons.
func joined(lines []string) string {
	var b strings.Builder
	for i, line := range lines {
		switch {
		case i == 0:
		case strings.HasSuffix(lines[i-1], "."):
			b.WriteString(" ")
		default:
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return b.String()
}

func (t *Table) markdown(b *bufio.Writer) {
	if t.Note != "" {
		write(b, "%s\n\n", plain(t.Note))
	}
	write(b, "%s", "|")
	for _, c := range t.Columns {
		write(b, " %s |", plain(c.Title))
	}
	write(b, "%s", "\n|")
	for _, c := range t.Columns {
		if c.Kind == Number {
			write(b, "%s", "---:|")
		} else {
			write(b, "%s", "---|")
		}
	}
	write(b, "%s", "\n")
	row := func(cells []string) {
		write(b, "%s", "|")
		for _, cell := range cells {
			write(b, " %s |", plain(cell))
		}
		write(b, "%s", "\n")
	}
	for cells := range t.Rows {
		row(cells)
	}
	if t.Total != nil {
		row(t.Total)
	}
}

// special are the characters that mean something to Markdown within a line, and HTML's.
var special = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "|", `\|`, "~", `\~`,
	"<", "&lt;", ">", "&gt;", "&", "&amp;", "#", `\#`, "$", `\$`,
)

// plain returns Markdown that is shown as s.
func plain(s string) string { return special.Replace(clierr.Printable(s)) }

// write writes to b, which keeps its first error for Flush.
func write(b *bufio.Writer, format string, args ...any) { _, _ = fmt.Fprintf(b, format, args...) }
