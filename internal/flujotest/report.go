package flujotest

import (
	"strings"
	"testing"

	"flujo-port/internal/document"
)

// ReportLines returns the lines of a report on a terminal that is wide enough, with single spaces between words.
func ReportLines(t testing.TB, d *document.Document) (lines []string) {
	t.Helper()
	var b strings.Builder
	if err := d.Text(&b, 1<<20); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}
