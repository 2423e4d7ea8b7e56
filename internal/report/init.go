package report

import (
	"cmp"
	"fmt"
	"strings"

	"flujo-port/internal/document"
	"flujo-port/internal/stateuri"
)

// Init is the report of the command init.
type Init struct {
	Run
	Database    string   `json:"database"`
	Schema      string   `json:"schema"`
	PGVector    string   `json:"pgvector"`     // its version; empty without pgvector
	Created     []string `json:"created"`      // objects that init created
	Existing    []string `json:"existing"`     // tables that existed already
	Owner       string   `json:"owner"`        // role that was made the owner
	GrantedTo   string   `json:"granted_to"`   // role that may use the tables
	GrantedRead string   `json:"granted_read"` // role that may read the tables
	Role        string   `json:"role"`         // role that init ran as
	FlujoRole   string   `json:"flujo_role"`   // role that Flujo connects as
	Notes       []string `json:"notes"`
	// Cutover is masked, except with --reveal; empty if no session could be opened, or it
	// would name another role than Flujo's.
	Cutover string `json:"cutover"`
	// CutoverTried reports whether a session by the cutover address finds the tables.
	CutoverTried bool `json:"cutover_tried"`
	// Address is the cutover address by which a session was opened; zero if there is none.
	Address stateuri.Address `json:"-"`
	// Warnings need the user's attention.
	Warnings []string `json:"warnings"`
}

// Document returns the report as a document for a terminal.
func (r *Init) Document() *document.Document {
	d := &document.Document{Title: "flujo-port init", Outcome: document.Good, Headline: r.headline()}
	facts := document.Facts{
		fact("Created", cmp.Or(strings.Join(r.Created, ", "), "nothing; everything existed already")),
	}
	if len(r.Existing) > 0 {
		facts = append(facts, fact("Existing", strings.Join(r.Existing, ", ")))
	}
	if r.Owner != "" {
		facts = append(facts, fact("Owner",
			fmt.Sprintf("role %q; what Flujo does at its start was tried as this role", r.Owner)))
	}
	if r.GrantedTo != "" {
		facts = append(facts, fact("Granted", fmt.Sprintf(
			"to role %q: to read and write the tables, for Flujo without its migrations", r.GrantedTo)))
	}
	if r.GrantedRead != "" {
		facts = append(facts, fact("Granted", fmt.Sprintf("to role %q: to read the tables, for verify", r.GrantedRead)))
	}
	d.Add("", facts)
	addMessages(d, r.Warnings, r.Notes)
	if r.Cutover != "" {
		d.Add("Cut over", document.Code{"FLUJO_STATE_URI=" + r.Cutover})
	}
	return d
}

func (r *Init) headline() string {
	schema := fmt.Sprintf("Schema %q of database %q ", r.Schema, r.Database)
	switch {
	case r.FlujoRole != r.Role:
		return fmt.Sprintf("%sis ready for Flujo, which connects as role %q.", schema, r.FlujoRole)
	case r.CutoverTried:
		return schema + "is ready for Flujo."
	}
	return schema + "has Flujo's tables, but the cutover address does not work for Flujo yet."
}
