package report

func inits() []golden {
	created := &Init{
		Run: run("init", 0.1), Database: "med13",
		Schema:       "flujo",
		PGVector:     "0.8.0",
		Created:      []string{"extension pgvector 0.8.0", "schema flujo", "runs", "steps", "flujo_schema_versions"},
		Existing:     []string{},
		Owner:        "app",
		GrantedTo:    "worker",
		GrantedRead:  "audit",
		Role:         "postgres",
		FlujoRole:    "app",
		Notes:        []string{"no cutover address is printed"},
		CutoverTried: false, Warnings: []string{},
	}
	own := &Init{
		Run: run("init", 0.1), Database: "med13",
		Schema:       "flujo",
		Created:      []string{"schema flujo", "runs"},
		Existing:     []string{},
		Role:         "app",
		FlujoRole:    "app",
		Notes:        []string{"FLUJO_STATE_URI is not set"},
		Cutover:      cutoverAddress,
		CutoverTried: true,
		Warnings:     []string{},
	}
	existing := &Init{
		Run: run("init", 0.1), Database: "med13", Schema: "my schema", Created: []string{},
		Existing: []string{"runs", "steps", "flujo_schema_versions"}, Notes: []string{},
		Warnings: []string{"the cutover address does not work yet: connection refused"}, Role: "app", FlujoRole: "app",
	}
	return []golden{
		{name: "init-created", report: created},
		{name: "init-own", report: own},
		{name: "init-existing", report: existing},
	}
}
