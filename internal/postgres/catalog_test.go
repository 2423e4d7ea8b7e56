package postgres

import (
	"slices"
	"testing"

	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/sqltext"
)

// TestDifferences tests each way in which a table can differ. Every case changes Flujo's tables in a transaction that
// is rolled back.
func TestDifferences(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	conn := open(t, url)
	for _, tc := range []struct {
		name string
		sql  string
		want []string // nothing, if the tables are Flujo's
	}{
		{"Flujo's tables", "", nil},
		{"a table is missing", "DROP TABLE flujo.traces", nil},
		{"an index is missing", "DROP INDEX flujo.idx_runs_status", nil},
		{"other tables and indexes", "CREATE TABLE flujo.notes (x int); CREATE INDEX ON flujo.runs (status)", nil},
		{"bigint", "ALTER TABLE flujo.steps ALTER id TYPE bigint, ALTER step_index TYPE bigint", nil},
		{"double precision", "ALTER TABLE flujo.steps ALTER cost_usd TYPE double precision", nil},
		{"now() by another name", "ALTER TABLE flujo.evaluations ALTER created_at SET DEFAULT CURRENT_TIMESTAMP", nil},

		{"no column", "ALTER TABLE flujo.runs DROP total_steps", []string{"runs has no column total_steps"}},
		{"narrower type", "ALTER TABLE flujo.steps ALTER step_index TYPE smallint",
			[]string{"steps.step_index is smallint, not integer"}},
		{"narrower float", "ALTER TABLE flujo.spans ALTER end_time TYPE real",
			[]string{"spans.end_time is real, not double precision"}},
		{"another type", "ALTER TABLE flujo.runs ALTER status TYPE varchar(10)",
			[]string{"runs.status is character varying(10), not text"}},
		{"without a time zone", "ALTER TABLE flujo.runs ALTER created_at TYPE timestamp",
			[]string{"runs.created_at is timestamp without time zone, not timestamp with time zone"}},
		{"json", "ALTER TABLE flujo.traces ALTER trace_data TYPE json",
			[]string{"traces.trace_data is json, not jsonb"}},
		{"nullable", "ALTER TABLE flujo.runs ALTER status DROP NOT NULL", []string{"runs.status is nullable"}},
		{"not null", "DELETE FROM flujo.steps; ALTER TABLE flujo.steps ALTER output SET NOT NULL",
			[]string{"steps.output is NOT NULL"}},
		{"another default", "ALTER TABLE flujo.runs ALTER total_steps SET DEFAULT 1",
			[]string{`runs.total_steps has the default "1", not "0"`}},
		{"no default", "ALTER TABLE flujo.runs ALTER total_steps DROP DEFAULT",
			[]string{`runs.total_steps has the default "", not "0"`}},
		{"an extra default", "ALTER TABLE flujo.runs ALTER error_message SET DEFAULT 'x'",
			[]string{`runs.error_message has the default "'x'::text", not ""`}},
		{"another sequence", "CREATE SEQUENCE flujo.s; ALTER TABLE flujo.steps ALTER id SET DEFAULT nextval('flujo.s')",
			[]string{`steps.id has the default "nextval('flujo.s'::regclass)", ` +
				`not one from a sequence of its own`}},
		{"no sequence", "ALTER TABLE flujo.steps ALTER id DROP DEFAULT; DROP SEQUENCE flujo.steps_id_seq",
			[]string{`steps.id has the default "", not one from a sequence of its own`}},
		{"identity", "ALTER TABLE flujo.steps ALTER id DROP DEFAULT, ALTER id ADD GENERATED ALWAYS AS IDENTITY",
			[]string{`steps.id has the default "identity", not one from a sequence of its own`}},
		{"generated", `ALTER TABLE flujo.runs DROP total_steps,
				ADD total_steps int GENERATED ALWAYS AS (length(status)) STORED`,
			[]string{`runs.total_steps has the default "generated", not "0"`}},
		{"extra columns", "ALTER TABLE flujo.runs ADD z text, ADD a text",
			[]string{"runs has the extra column a", "runs has the extra column z"}},
		{"no primary key", "ALTER TABLE flujo.steps DROP CONSTRAINT steps_pkey",
			[]string{"steps has the primary key (), not (id)"}},
		{"another primary key", "ALTER TABLE flujo.steps DROP CONSTRAINT steps_pkey, ADD PRIMARY KEY (run_id, id)",
			[]string{"steps has the primary key (run_id,id), not (id)"}},
		{"no foreign key", "ALTER TABLE flujo.steps DROP CONSTRAINT steps_run_id_fkey",
			[]string{"steps has no foreign key run_id → flujo.runs with ON DELETE CASCADE"}},
		{"foreign key without cascade", `ALTER TABLE flujo.steps DROP CONSTRAINT steps_run_id_fkey,
				ADD CONSTRAINT k FOREIGN KEY (run_id) REFERENCES flujo.runs`,
			[]string{
				"steps has no foreign key run_id → flujo.runs with ON DELETE CASCADE",
				"steps has the extra constraint k: FOREIGN KEY (run_id) REFERENCES flujo.runs(run_id)",
			}},
		{"foreign key to another schema", `CREATE TABLE public.runs (run_id text PRIMARY KEY);
				INSERT INTO public.runs SELECT run_id FROM flujo.runs;
				ALTER TABLE flujo.steps DROP CONSTRAINT steps_run_id_fkey,
				ADD FOREIGN KEY (run_id) REFERENCES public.runs ON DELETE CASCADE`,
			[]string{
				"steps has no foreign key run_id → flujo.runs with ON DELETE CASCADE",
				"steps has the extra foreign key run_id → public.runs",
			}},
		{"extra foreign key",
			"ALTER TABLE flujo.system_state ADD FOREIGN KEY (key) REFERENCES flujo.runs ON DELETE CASCADE",
			[]string{"system_state has the extra foreign key key → flujo.runs"}},
		{"unlogged", "ALTER TABLE flujo.system_state SET UNLOGGED", []string{"system_state is unlogged"}},
		{"trigger", `CREATE TRIGGER t BEFORE UPDATE ON flujo.runs
				FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
			[]string{"runs has the trigger t"}},
		{"disabled foreign key", "ALTER TABLE flujo.steps DISABLE TRIGGER ALL",
			[]string{"steps has disabled foreign key triggers"}},
		{"rule", "CREATE RULE r AS ON DELETE TO flujo.runs DO INSTEAD NOTHING", []string{"runs has the rule r"}},
		{"parent", "CREATE TABLE public.child () INHERITS (flujo.runs)", []string{"runs takes part in inheritance"}},
		{"child", "CREATE TABLE public.parent (status text); ALTER TABLE flujo.runs INHERIT public.parent",
			[]string{"runs takes part in inheritance"}},
		{"two at once", "ALTER TABLE flujo.system_state SET UNLOGGED; " +
			"CREATE RULE r AS ON DELETE TO flujo.system_state DO INSTEAD NOTHING",
			[]string{"system_state is unlogged; has the rule r"}},
		{"check", "ALTER TABLE flujo.runs ADD CONSTRAINT k CHECK (total_steps >= 0)",
			[]string{"runs has the extra constraint k: CHECK ((total_steps >= 0))"}},
		{"unique", "ALTER TABLE flujo.steps ADD CONSTRAINT k UNIQUE (run_id, step_index)",
			[]string{"steps has the extra constraint k: UNIQUE (run_id, step_index)"}},
		{"exclusion", "ALTER TABLE flujo.steps ADD CONSTRAINT k EXCLUDE (id WITH =)",
			[]string{"steps has the extra constraint k: EXCLUDE USING btree (id WITH =)"}},
		{"view", "ALTER TABLE flujo.traces RENAME TO t; CREATE VIEW flujo.traces AS TABLE flujo.t",
			[]string{"traces is a view"}},
		{"materialized view",
			"ALTER TABLE flujo.traces RENAME TO t; CREATE MATERIALIZED VIEW flujo.traces AS TABLE flujo.t",
			[]string{"traces is a materialized view"}},
		{"partitioned", "DROP TABLE flujo.traces; CREATE TABLE flujo.traces (run_id text) PARTITION BY LIST (run_id)",
			[]string{"traces is a partitioned table"}},
		{"sequence", "DROP TABLE flujo.traces; CREATE SEQUENCE flujo.traces", []string{"traces is a relation"}},
		{"a newer Flujo", "INSERT INTO flujo.flujo_schema_versions VALUES (5), (6), (7)",
			[]string{
				"flujo_schema_versions records version 6, which flujo-port does not know",
				"flujo_schema_versions records version 7, which flujo-port does not know",
			}},
		{"versions of another type", `ALTER TABLE flujo.flujo_schema_versions ALTER version TYPE text;
				INSERT INTO flujo.flujo_schema_versions VALUES ('x')`,
			[]string{"flujo_schema_versions.version is text, not integer"}},
		{"index on another column",
			"DROP INDEX flujo.idx_runs_status; CREATE INDEX idx_runs_status ON flujo.runs (run_id)",
			[]string{"idx_runs_status is runs.run_id by btree, not runs.status by btree"}},
		{"index on another table",
			"DROP INDEX flujo.idx_runs_status; CREATE INDEX idx_runs_status ON flujo.steps (status)",
			[]string{"idx_runs_status is steps.status by btree, not runs.status by btree"}},
		{"index by another method",
			"DROP INDEX flujo.idx_runs_status; CREATE INDEX idx_runs_status ON flujo.runs USING hash (status)",
			[]string{"idx_runs_status is runs.status by hash, not runs.status by btree"}},
		{"index with another operator class",
			"DROP INDEX flujo.idx_runs_status; CREATE INDEX idx_runs_status ON flujo.runs (status text_pattern_ops)",
			[]string{"idx_runs_status is runs.status by btree text_pattern_ops, not runs.status by btree"}},
		{"unique index", "DROP INDEX flujo.idx_runs_created_at; " +
			"CREATE UNIQUE INDEX idx_runs_created_at ON flujo.runs (created_at, run_id)",
			[]string{"idx_runs_created_at is runs.created_at by btree (multicolumn, partial, unique or invalid), " +
				"not runs.created_at by btree"}},
		{"partial index", "DROP INDEX flujo.idx_runs_status; " +
			"CREATE INDEX idx_runs_status ON flujo.runs (status) WHERE total_steps > 0",
			[]string{"idx_runs_status is runs.status by btree (multicolumn, partial, unique or invalid), " +
				"not runs.status by btree"}},
		{"a table with an index's name", "DROP INDEX flujo.idx_runs_status; CREATE TABLE flujo.idx_runs_status ()",
			[]string{"idx_runs_status is not an index, not runs.status by btree"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, conn.Conn, "BEGIN; "+conn.Settings())
			defer run(t, conn.Conn, "ROLLBACK")
			run(t, conn.Conn, tc.sql)
			have, err := conn.Inspect(background)
			if err != nil {
				t.Fatal(err)
			}
			got, err := conn.Differences(background, tables, have)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// TestDifferencesInOddSchema tests a schema whose name needs quotes, in a session that quotes every name.
func TestDifferencesInOddSchema(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := open(t, url)
	conn.Schema = `my "Flujo"`
	run(t, conn.Conn, flujoSQL(sqltext.Ident(conn.Schema)), "SET quote_all_identifiers = on", "BEGIN; "+conn.Settings())
	have, err := conn.Inspect(background)
	if err != nil || len(have) != len(tables)+1 {
		t.Fatalf("got %v, %v", have, err)
	}
	if got, err := conn.Differences(background, tables, have); got != nil || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestInspectWithoutSchema(t *testing.T) {
	t.Parallel()
	conn := open(t, pgtest.Database(t))
	if exists, err := conn.HasSchema(background); exists || err != nil {
		t.Errorf("HasSchema returned %t, %v", exists, err)
	}
	have, err := conn.Inspect(background)
	if err != nil || have == nil || len(have) != 0 {
		t.Errorf("got %v, %v, want an empty map", have, err)
	}
	run(t, conn.Conn, "CREATE SCHEMA flujo; CREATE TABLE flujo.notes (); CREATE TABLE public.runs ()")
	if exists, err := conn.HasSchema(background); !exists || err != nil {
		t.Errorf("HasSchema returned %t, %v", exists, err)
	}
	if have, err := conn.Inspect(background); err != nil || len(have) != 0 {
		t.Errorf("got %v, %v, want an empty map", have, err)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	conn := open(t, url)
	have, err := conn.Inspect(background)
	if err != nil {
		t.Fatal(err)
	}
	if len(have) != len(tables)+1 {
		t.Errorf("got %d tables, want %d and that of the versions", len(have), len(tables))
	}
	for _, table := range tables {
		shape := have[table.Name]
		if shape == nil {
			t.Errorf("%s is missing", table.Name)
			continue
		}
		if missing, extra := MissingColumns(
			&table,
			shape,
		), ExtraColumns(
			&table,
			shape,
		); missing != nil ||
			extra != nil {
			t.Errorf("got the missing columns %q and the extra columns %q", missing, extra)
		}
	}
	if got := have["steps"].Columns["created_at"].Kind; got != "timestamp with time zone" {
		t.Errorf("steps.created_at is %s", got)
	}
}

func TestIndexNames(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	run(t, owner, "CREATE TABLE public.t (x int PRIMARY KEY)")
	conn := open(t, url)
	have, err := conn.IndexNames(background)
	if err != nil {
		t.Fatal(err)
	}
	if !have["idx_runs_status"] || !have["runs_pkey"] || have["runs"] || have["t_pkey"] || have["steps_id_seq"] {
		t.Errorf("got %v", have)
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind mapping.Kind
		have string
		want bool
	}{
		{mapping.KindInt, "integer", true},
		{mapping.KindInt, "bigint", true},
		{mapping.KindInt, "numeric", false},
		{mapping.KindInt, "smallint", false},
		{mapping.KindFloat4, "real", true},
		{mapping.KindFloat4, "double precision", true},
		{mapping.KindFloat8, "real", false},
		{mapping.KindVector, "vector(3)", true},
		{mapping.KindVector, "vector", false},
		{mapping.KindVector, "halfvec(3)", false},
		{mapping.KindText, "text", true},
		{mapping.KindText, "character varying", false},
		{mapping.KindBool, "integer", false},
	} {
		if got := fits(tc.kind, tc.have); got != tc.want {
			t.Errorf("a %s in a column of type %s: got %t", tc.kind.Type(), tc.have, got)
		}
	}
}

func TestPlainKind(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"integer": "integer", "public.vector(3)": "vector(3)", `"a.b".vector(3)`: "vector(3)",
	} {
		if got := (ColumnShape{Kind: kind}).PlainKind(); got != want {
			t.Errorf("%s: got %s, want %s", kind, got, want)
		}
	}
}
