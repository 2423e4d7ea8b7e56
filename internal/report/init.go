package report

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
