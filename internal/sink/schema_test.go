package sink_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// flujoIndexes holds the definition of each index.
var flujoIndexes = map[string]string{
	"idx_workflow_state_status":        "workflow_state btree (status)",
	"idx_workflow_state_pipeline_id":   "workflow_state btree (pipeline_id)",
	"idx_workflow_state_parent_run_id": "workflow_state btree (parent_run_id)",
	"idx_workflow_state_created_at":    "workflow_state btree (created_at)",
	"idx_runs_status":                  "runs btree (status)", "idx_runs_pipeline_id": "runs btree (pipeline_id)",
	"idx_runs_created_at": "runs btree (created_at)", "idx_runs_pipeline_name": "runs btree (pipeline_name)",
	"idx_steps_run_id": "steps btree (run_id)", "idx_steps_step_index": "steps btree (step_index)",
	"idx_spans_run_id": "spans btree (run_id)", "idx_spans_parent_span": "spans btree (parent_span_id)",
	"idx_evaluations_run_id":          "evaluations btree (run_id)",
	"idx_evaluations_created_at":      "evaluations btree (created_at)",
	"idx_runs_context_gin":            "workflow_state gin (pipeline_context)",
	"idx_workflow_state_metadata_gin": "workflow_state gin (metadata)",
}

// wantStatements returns Flujo's schema as statements of pg_dump.
func wantStatements() []string {
	types := map[string]string{
		"T": "text",
		"I": "integer",
		"R": "real",
		"D": "double precision",
		"J": "jsonb",
		"Z": "timestamp with time zone",
		"B": "boolean",
	}
	var want []string
	for table, columns := range flujotest.Tables {
		var lines []string
		for column := range strings.SplitSeq(columns, ", ") {
			words := strings.SplitN(column, " ", 3)
			line := words[0] + " " + types[strings.TrimSuffix(words[1], "!")]
			if len(words) == 3 {
				line += " DEFAULT " + strings.TrimPrefix(words[2], "default ")
			}
			if strings.HasSuffix(words[1], "!") {
				line += " NOT NULL"
			}
			lines = append(lines, line)
		}
		want = append(want, "CREATE TABLE flujo."+table+" ( "+strings.Join(lines, ", ")+" )",
			"ALTER TABLE ONLY flujo."+table+" ADD CONSTRAINT "+table+"_pkey PRIMARY KEY ("+flujotest.Keys[table]+")")
		if flujotest.Keys[table] == "id" {
			sequence := "flujo." + table + "_id_seq"
			want = append(want,
				"CREATE SEQUENCE "+sequence+" AS integer START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1",
				"ALTER SEQUENCE "+sequence+" OWNED BY flujo."+table+".id",
				"ALTER TABLE ONLY flujo."+table+" ALTER COLUMN id SET DEFAULT nextval('"+sequence+"'::regclass)")
		}
	}
	for _, table := range flujotest.Children {
		want = append(want, "ALTER TABLE ONLY flujo."+table+" ADD CONSTRAINT "+table+
			"_run_id_fkey FOREIGN KEY (run_id) REFERENCES flujo.runs(run_id) ON DELETE CASCADE")
	}
	for name, on := range flujoIndexes {
		table, how, _ := strings.Cut(on, " ")
		want = append(want, "CREATE INDEX "+name+" ON flujo."+table+" USING "+how)
	}
	want = append(want, "CREATE SCHEMA flujo")
	slices.Sort(want)
	return want
}

// TestSchemaIsFlujos compares the schema that migrate creates with Flujo's, statement by statement of pg_dump. Only
// flujo_port_receipts is extra.
func TestSchemaIsFlujos(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	dump, err := exec.Command(pgtest.Client(t, url, "pg_dump"), "--schema-only", "--no-owner", "--no-privileges",
		"--exclude-table", "flujo.flujo_port_receipts", "--dbname", url).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	space := regexp.MustCompile(`\s+`)
	statements := regexp.MustCompile(`(?m)^(--|\\).*$`).ReplaceAllString(string(dump), "")
	for line := range strings.SplitSeq(statements, ";\n") {
		s := strings.TrimSpace(space.ReplaceAllString(line, " "))
		if s != "" && !strings.HasPrefix(s, "SET ") && !strings.HasPrefix(s, "SELECT pg_catalog.set_config") {
			got = append(got, s)
		}
	}
	slices.Sort(got)
	want := wantStatements()
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("missing: %s", s)
		}
	}
	for _, s := range got {
		if !slices.Contains(want, s) {
			t.Errorf("unexpected: %s", s)
		}
	}
}

// TestSchemaExists tests that init creates the schema and its tables.
func TestSchemaExists(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Initialize(t, url, "")
	conn := flujotest.Connect(t, url)
	if got := flujotest.One(
		t,
		conn,
		"SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'flujo'",
	); got != "1" {
		t.Error("the schema flujo does not exist")
	}
	got := flujotest.One(t, conn, `SELECT string_agg(table_name, ',' ORDER BY table_name) FROM information_schema.tables
		WHERE table_schema = 'flujo' AND table_name IN ('runs', 'steps', 'workflow_state')`)
	if got != "runs,steps,workflow_state" {
		t.Errorf("got tables %s, want runs,steps,workflow_state", got)
	}
}
