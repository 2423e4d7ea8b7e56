package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Finding is one cell that was converted with loss, or one rejected row.
type Finding struct {
	File        string `json:"file,omitempty"` // path of the state file, if there are several
	Table       string `json:"table"`
	Key         string `json:"key"`
	RowID       int64  `json:"source_rowid"`
	Column      string `json:"column"` // empty for a row
	Reason      string `json:"reason"`
	Explanation string `json:"explanation"`
	Rejected    bool   `json:"rejected"`
	Cells       []Cell `json:"cells,omitzero"` // all of a rejected row; omitted for others
}

// Cell is a value of the state file.
type Cell struct {
	Column string `json:"column"`
	Value  string `json:"value"` // shortened to one line
}

// List is a list of a report that is not held in memory: Each calls yield with
// one member after the other.
type List struct {
	Name string // the list's key in the JSON report
	Each func(yield func(any) error) error
}

// ListOf returns a List whose members are those that each passes to yield.
func ListOf[T any](name string, each func(yield func(T) error) error) List {
	return List{Name: name, Each: func(yield func(any) error) error {
		return each(func(one T) error { return yield(one) })
	}}
}

// JSON writes a report, which must be a struct or a pointer to one, as one JSON
// object. The lists are its last members.
func JSON(w io.Writer, report any, lists ...List) error {
	head, err := encode(report, "  ")
	if err != nil {
		return err
	}
	if _, err := w.Write(bytes.TrimSuffix(head, []byte("\n}"))); err != nil {
		return err
	}
	for _, list := range lists {
		if _, err := fmt.Fprintf(w, ",\n  %q: [", list.Name); err != nil {
			return err
		}
		separator := "\n    "
		err := list.Each(func(one any) error {
			line, err := encode(one, "")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "%s%s", separator, line)
			separator = ",\n    "
			return err
		})
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, "]"); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, "\n}\n")
	return err
}

func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return escapeUnprinted(bytes.TrimSpace(b.Bytes())), err
}

// escapeUnprinted returns JSON in which characters that a terminal would act upon, or not
// show, are escape sequences. They occur only in strings; the encoder escapes those of
// ASCII.
func escapeUnprinted(text []byte) []byte {
	unprinted := func(r rune) bool { return r > unicode.MaxASCII && r != utf8.RuneError && !unicode.IsPrint(r) }
	if bytes.IndexFunc(text, unprinted) < 0 {
		return text
	}
	var b []byte
	for _, r := range string(text) {
		if !unprinted(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			b = fmt.Appendf(b, `\u%04x`, unit)
		}
	}
	return b
}
