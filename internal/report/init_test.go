package report

func inits() []golden {
	created := &Init{
		Format:       Format,
		Command:      "init",
		Database:     "med13",
		Schema:       "flujo",
		PGVector:     "0.8.0",
		Created:      []string{"extension pgvector 0.8.0", "schema flujo", "runs", "steps", "flujo_schema_versions"},
		Existing:     []string{},
		Owner:        "app",
		GrantedTo:    "worker",
		GrantedRead:  "audit",
		Notes:        []string{"FLUJO_STATE_URI is not set"},
		Cutover:      cutoverAddress,
		CutoverTried: true, Warnings: []string{},
	}
	existing := &Init{
		Format: Format, Command: "init", Database: "med13", Schema: "my schema", Created: []string{},
		Existing: []string{"runs", "steps", "flujo_schema_versions"}, Notes: []string{},
		Warnings: []string{"the cutover address does not work yet: connection refused"},
	}
	return []golden{{name: "init-created", report: created}, {name: "init-existing", report: existing}}
}
