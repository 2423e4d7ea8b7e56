package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Finding is a cell that did not arrive as it was, or a row without a place.
type Finding struct {
	Table    string `json:"table"`
	Key      string `json:"key"`
	RowID    int64  `json:"source_rowid"`
	Column   string `json:"column"` // empty for a row
	Kind     string `json:"kind"`
	Done     string `json:"done"`
	SetAside bool   `json:"set_aside"`
}

// JSON writes the report as one JSON object. findings gives every finding one
// after the other, so that they need not be in memory; nil for none.
func (m *Migration) JSON(w io.Writer, findings func(yield func(Finding) error) error) error {
	var head bytes.Buffer
	e := json.NewEncoder(&head)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return err
	}
	open := bytes.TrimSuffix(bytes.TrimSpace(head.Bytes()), []byte("\n}"))
	if _, err := fmt.Fprintf(w, "%s,\n  \"findings\": [", open); err != nil {
		return err
	}
	separator := "\n    "
	if findings != nil {
		err := findings(func(f Finding) error {
			var line bytes.Buffer
			e := json.NewEncoder(&line)
			e.SetEscapeHTML(false)
			if err := e.Encode(f); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "%s%s", separator, bytes.TrimSpace(line.Bytes()))
			separator = ",\n    "
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "]\n}\n")
	return err
}
