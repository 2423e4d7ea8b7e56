package transfer_test

import (
	"context"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/initialize"
	"flujo-port/internal/pgtest"
)

// flujoTables holds the columns of the tables that Flujo itself creates in PostgreSQL. The letters are types: T is
// text, I integer, R real, D double precision, J jsonb, Z timestamptz, B boolean; "!" is NOT NULL.
var flujoTables = map[string]string{
	"runs": "run_id T!, pipeline_id T!, pipeline_name T!, pipeline_version T!, status T!, created_at Z!, " +
		"updated_at Z!, execution_time_ms I, memory_usage_mb R, total_steps I default 0, error_message T",
	"workflow_state": "run_id T!, pipeline_id T!, pipeline_name T!, pipeline_version T!, " +
		"current_step_index I!, pipeline_context J, last_step_output J, step_history J, status T!, created_at Z!, " +
		"updated_at Z!, total_steps I default 0, error_message T, execution_time_ms I, memory_usage_mb R, " +
		"metadata J, is_background_task B default false, parent_run_id T, task_id T, background_error T",
	"steps": "id I!, run_id T!, step_name T!, step_index I!, status T!, output J, raw_response J, " +
		"cost_usd R, token_counts I, execution_time_ms I, created_at Z!",
	"traces": "run_id T!, trace_data J!, created_at Z!",
	"spans": "id I!, run_id T!, span_id T!, parent_span_id T, name T!, start_time D!, end_time D, " +
		"status T!, attributes J, created_at Z!",
	"evaluations": "id I!, run_id T!, step_name T, score D!, feedback T, metadata J, " +
		"created_at Z! default now()",
	"system_state":          "key T!, value J!, updated_at Z! default now()",
	"flujo_schema_versions": "version I!, applied_at Z! default now()",
}

// flujoKeys holds the primary key of each table.
var flujoKeys = map[string]string{"runs": "run_id", "workflow_state": "run_id", "steps": "id", "traces": "run_id",
	"spans": "id", "evaluations": "id", "system_state": "key", "flujo_schema_versions": "version"}

// flujoChildren holds the tables with a foreign key to runs.
var flujoChildren = []string{"steps", "traces", "spans", "evaluations"}

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
	for table, columns := range flujoTables {
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
			"ALTER TABLE ONLY flujo."+table+" ADD CONSTRAINT "+table+"_pkey PRIMARY KEY ("+flujoKeys[table]+")")
		if flujoKeys[table] == "id" {
			sequence := "flujo." + table + "_id_seq"
			want = append(want,
				"CREATE SEQUENCE "+sequence+" AS integer START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1",
				"ALTER SEQUENCE "+sequence+" OWNED BY flujo."+table+".id",
				"ALTER TABLE ONLY flujo."+table+" ALTER COLUMN id SET DEFAULT nextval('"+sequence+"'::regclass)")
		}
	}
	for _, table := range flujoChildren {
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
	mustMigrate(t, options(t, fixture, url))
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
	mustInitialize(t, url, "")
	conn := connect(t, url)
	if got := one(t, conn, "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'flujo'"); got != "1" {
		t.Error("the schema flujo does not exist")
	}
	got := one(t, conn, `SELECT string_agg(table_name, ',' ORDER BY table_name) FROM information_schema.tables
		WHERE table_schema = 'flujo' AND table_name IN ('runs', 'steps', 'workflow_state')`)
	if got != "runs,steps,workflow_state" {
		t.Errorf("got tables %s, want runs,steps,workflow_state", got)
	}
}

func TestInitIsSafeToRepeat(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	ctx := context.Background()
	o := initialize.Options{Postgres: url, Schema: schema, WithoutPGVector: true}
	first, err := initialize.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Created) != 9 || len(first.Existing) != 0 { // the schema, seven tables of state, flujo_schema_versions
		t.Errorf("got made %v and found %v, want 9 made", first.Created, first.Existing)
	}
	mustMigrate(t, options(t, fixture, url))
	again, err := initialize.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Created) != 0 || len(again.Existing) != 8 {
		t.Errorf("got made %v and found %v from the second init, want 8 found", again.Created, again.Existing)
	}
	if got := one(t, connect(t, url), "SELECT count(*) FROM flujo.steps"); got != "213" {
		t.Errorf("got %s steps after the second init, want 213", got)
	}
	o.GrantTo = "nobody of that name"
	if _, err := initialize.Run(ctx, o); clierr.KindOf(err) != clierr.Usage ||
		!strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got error %v for an unknown role, want a usage error", err)
	}
}

// TestInitGrants tests that the role of --grant-to can execute Flujo's statements.
func TestInitGrants(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	name := one(t, connect(t, role), "SELECT current_user")
	mustInitialize(t, url, name)
	conn := connect(t, cutover(t, role).Reveal())
	run(t, conn,
		"CREATE TABLE IF NOT EXISTS flujo_schema_versions (version integer PRIMARY KEY)",
		`INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at)
			VALUES ('a', 'p', 'p', '1', 'running', now(), now())`,
		"INSERT INTO steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('a', 's', 0, 'completed', now())",
		"UPDATE runs SET status = 'failed'",
		"DELETE FROM runs")
}

func TestLockTimeoutNamesTheHolder(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holder := connect(t, pgtest.WithParameter(t, url, "application_name", "flujo-pod-7"))
	run(t, holder, "BEGIN", "SELECT pg_advisory_xact_lock(x'F1F0C0DE'::bigint)")
	o := options(t, fixture, url)
	o.LockWait = 100 * time.Millisecond
	wantError(t, o, clierr.Failed, "Flujo's migration lock", "flujo-pod-7", "100ms", "run again")
}

func TestLockTimeoutOnTableInUse(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mustInitialize(t, url, "")
	run(t, connect(t, url),
		"SET application_name = 'flujo-pod-3'",
		"BEGIN",
		"INSERT INTO flujo.system_state (key, value) VALUES ('a', '1')")
	o := options(t, fixture, url)
	o.LockWait = 100 * time.Millisecond
	wantError(t, o, clierr.Failed, `lock on table "system_state"`, "100ms", "flujo-pod-3", "stop Flujo", "run again")
}
