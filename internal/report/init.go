package report

import (
	"cmp"
	"io"
	"strings"

	"flujo-port/internal/stateuri"
)

// Init is the report of the command init.
type Init struct {
	Format      int      `json:"format"`
	Command     string   `json:"command"`
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

// Text writes the report as text.
func (r *Init) Text(w io.Writer) error {
	var b strings.Builder
	if r.FlujoRole != r.Role {
		printf(&b, "Schema %q of database %q is ready for Flujo, which connects as role %q.\n", r.Schema, r.Database,
			r.FlujoRole)
	} else if r.CutoverTried {
		printf(&b, "Schema %q of database %q is ready for Flujo.\n", r.Schema, r.Database)
	} else {
		printf(
			&b,
			"Schema %q of database %q has Flujo's tables, but the cutover address does not work for Flujo yet.\n",
			r.Schema,
			r.Database,
		)
	}
	created := cmp.Or(strings.Join(r.Created, ", "), "nothing; everything existed already")
	printf(&b, "created  %s\n", created)
	if len(r.Existing) > 0 {
		printf(&b, "existing %s\n", strings.Join(r.Existing, ", "))
	}
	if r.Owner != "" {
		printf(&b, "owner    role %q; what Flujo does at its start was tried as this role\n", r.Owner)
	}
	if r.GrantedTo != "" {
		printf(&b, "granted  to role %q: to read and write the tables, for Flujo without its migrations\n",
			r.GrantedTo)
	}
	if r.GrantedRead != "" {
		printf(&b, "granted  to role %q: to read the tables, for verify\n", r.GrantedRead)
	}
	writeMessages(&b, r.Warnings, r.Notes)
	if r.Cutover != "" {
		printf(&b, "cutover  FLUJO_STATE_URI=%s\n", r.Cutover)
	}
	return writeText(w, b.String())
}
