package document

import (
	"bufio"
	_ "embed"
	"html/template"
	"io"
	"strings"

	"flujo-port/internal/clierr"
)

//go:embed page.html.tmpl
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"show":   clierr.Printable,
	"kind":   kindOf,
	"class":  func(k Kind) string { return [...]string{"word", "number", "prose", "reason", "term"}[k] },
	"names":  func(cell string) []string { return strings.Split(cell, "+") },
	"anchor": func(name string) string { return "reason-" + name },
	"last":   func(i, n int) bool { return i == n-1 },
}).Parse(pageText))

// HTML writes the document as one HTML page, which has no script and needs nothing else.
func (d *Document) HTML(w io.Writer) error {
	b := bufio.NewWriter(w)
	var failed error
	data := struct {
		*Document
		Write func(Data) template.HTML
	}{d, nil}
	// The template cannot write to w itself, so that a page of any size needs no memory: what comes before the data is
	// written when it is reached.
	data.Write = func(one Data) template.HTML {
		if failed == nil {
			failed = one.Write(escaper{b})
		}
		return ""
	}
	if err := page.Execute(b, data); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return b.Flush()
}

// writer is io.Writer.
type writer = io.Writer

// escaper writes text as HTML that is shown as it is.
type escaper struct{ w io.Writer }

// Write implements io.Writer.
func (e escaper) Write(p []byte) (int, error) {
	counted := &countedWriter{w: e.w}
	template.HTMLEscape(counted, p)
	if counted.err != nil {
		return 0, counted.err
	}
	return len(p), nil
}

// countedWriter stores the first error, which template.HTMLEscape ignores.
type countedWriter struct {
	w   io.Writer
	err error
}

func (c *countedWriter) Write(p []byte) (n int, err error) {
	if c.err == nil {
		n, c.err = c.w.Write(p)
	}
	return n, c.err
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
