package report

import (
	"fmt"
	"io"
	"regexp"

	"flujo-port/internal/clierr"
)

// printf is fmt.Fprintf for a text report. Names and values come from the state file and
// the server, so it writes strings, errors and Stringers as clierr.Printable does, unless
// the verb is %q, which escapes as well.
func printf(w io.Writer, format string, args ...any) {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = printable(arg)
		case error:
			args[i] = printable(arg.Error())
		case fmt.Stringer:
			args[i] = printable(arg.String())
		}
	}
	_, _ = fmt.Fprintf(w, format, args...) // w is in memory and has no errors
}

// emptyLines matches several empty lines in a row.
var emptyLines = regexp.MustCompile(`\n{3,}`)

// writeText writes a text report. Parts of it may begin or end with an empty line, of which
// only one remains.
func writeText(w io.Writer, text string) error {
	_, err := io.WriteString(w, emptyLines.ReplaceAllLiteralString(text, "\n\n"))
	return err
}

// printable is a string that is printed as clierr.Printable writes it, except by %q.
type printable string

// Format implements fmt.Formatter.
func (s printable) Format(state fmt.State, verb rune) {
	text := string(s)
	if verb != 'q' {
		text = clierr.Printable(text)
	}
	_, _ = fmt.Fprintf(state, fmt.FormatString(state, verb), text)
}
