package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// Init is the report of init.
type Init struct {
	Format    int      `json:"format"`
	Command   string   `json:"command"`
	Database  string   `json:"database"`
	Schema    string   `json:"schema"`
	PGVector  string   `json:"pgvector"` // version; empty without it
	Made      []string `json:"made"`     // what was created
	Found     []string `json:"found"`    // tables that were there already
	GrantedTo string   `json:"granted_to"`
	Notes     []string `json:"notes"`
	Cutover   string   `json:"cutover"` // masked unless the user asked otherwise
}

// Text writes the report for a person.
func (r *Init) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Schema %q of database %q is ready for Flujo.\n", r.Schema, r.Database)
	fmt.Fprintf(&b, "made     %s\n", cmp.Or(strings.Join(r.Made, ", "), "nothing: it was all there"))
	if len(r.Found) > 0 {
		fmt.Fprintf(&b, "found    %s\n", strings.Join(r.Found, ", "))
	}
	if r.GrantedTo != "" {
		fmt.Fprintf(&b, "granted  to role %q: use of the schema, and reading and writing of its tables\n", r.GrantedTo)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	fmt.Fprintf(&b, "cutover  FLUJO_STATE_URI=%s\n", r.Cutover)
	_, err := io.WriteString(w, b.String())
	return err
}
