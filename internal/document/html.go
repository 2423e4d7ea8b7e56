package document

import (
	"bufio"
	_ "embed"
	"html"
	"html/template"
	"io"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
)

// PageBegins is how each page begins.
const PageBegins = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta name=\"generator\" content=\"flujo-port\">\n"

//go:embed page.html.tmpl
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"show":    clierr.Printable,
	"kind":    kindOf,
	"class":   func(k Kind) string { return classes[k] },
	"stacked": (*Table).stacked,
	"rows":    func(*Table) template.HTML { panic("set by HTML") },
	"data":    func(Data) template.HTML { panic("set by HTML") },
}).Parse(pageText))

// HTML writes the document as one HTML page, which has no script and needs nothing else.
func (d *Document) HTML(w io.Writer) error {
	b := bufio.NewWriter(w)
	if _, err := b.WriteString(PageBegins); err != nil {
		return err
	}
	if d.Kept {
		write(b, "%s\n", KeptMark)
	}
	var failed error
	// These write to the page where the template has come to, so that long tables and data need no memory, and little
	// time: a template takes ten times as long for a row.
	p := template.Must(page.Clone()).Funcs(template.FuncMap{
		"rows": func(t *Table) template.HTML {
			for row := range t.Rows {
				t.writeRow(b, row)
			}
			return ""
		},
		"data": func(one Data) template.HTML {
			if failed == nil {
				failed = one.Write(escaper{b})
			}
			return ""
		},
	})
	if err := p.Execute(b, d); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return b.Flush()
}

// writeRow writes the row of a table.
func (t *Table) writeRow(b *bufio.Writer, row []string) {
	write(b, "\n<tr>")
	stacked := t.stacked()
	for i, cell := range row {
		cell = html.EscapeString(clierr.Printable(cell))
		title := ""
		if stacked {
			title = ` data-title="` + html.EscapeString(t.Columns[i].Title) + `"`
		}
		switch kind := t.Columns[i].Kind; kind {
		case Term:
			write(b, `<td class="term"%s id="reason-%s">%[2]s</td>`, title, cell)
		case Reason:
			write(b, `<td class="reason"%s>`, title)
			for i, name := range strings.Split(cell, "+") {
				if i > 0 {
					write(b, " + ")
				}
				write(b, `<a href="#reason-%s">%[1]s</a>`, name)
			}
			write(b, "</td>")
		case Digest:
			write(b, `<td class="digest"%s>%s</td>`, title, strings.ReplaceAll(cell, ",", ",<wbr>"))
		default:
			write(b, `<td class="%s"%s>%s</td>`, classes[kind], title, cell)
		}
	}
	write(b, "</tr>")
}

// stacked reports whether a narrow page shows the cells of a row below each other, with their titles. A table of many
// rows has no titles in its rows, and one without prose fits or is scrolled.
func (t *Table) stacked() bool {
	return (t.Note == "" || t.Open) &&
		slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Kind == Prose || c.Kind == Digest })
}

// classes are the classes of cells, by the kind of the column.
var classes = [...]string{"word", "number", "prose", "reason", "term", "digest"}

// escaper writes text as the content of an element that is shown as it is. Nothing in it is part of an attribute.
type escaper struct{ w io.Writer }

var content = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// Write implements io.Writer.
func (e escaper) Write(p []byte) (int, error) {
	if _, err := content.WriteString(e.w, string(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// kindOf names the kind of a block for the page.
func kindOf(block Block) string {
	switch block.(type) {
	case Paragraph:
		return "paragraph"
	case Facts:
		return "facts"
	case List:
		return "list"
	case Steps:
		return "steps"
	case Code:
		return "code"
	case Form:
		return "form"
	case Data:
		return "data"
	}
	return "table"
}
