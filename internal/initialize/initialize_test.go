package initialize_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/initialize"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

func TestInitIsSafeToRepeat(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	ctx := context.Background()
	o := initialize.Options{Postgres: url, Schema: flujotest.Schema, WithoutPGVector: true}
	first, err := initialize.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Created) != 9 || len(first.Existing) != 0 { // the schema, seven tables of state, flujo_schema_versions
		t.Errorf("got made %v and found %v, want 9 made", first.Created, first.Existing)
	}
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	again, err := initialize.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Created) != 0 || len(again.Existing) != 8 {
		t.Errorf("got made %v and found %v from the second init, want 8 found", again.Created, again.Existing)
	}
	if got := flujotest.One(t, flujotest.Connect(t, url), "SELECT count(*) FROM flujo.steps"); got != "213" {
		t.Errorf("got %s steps after the second init, want 213", got)
	}
	for _, unknown := range []initialize.Options{{Owner: "nobody"}, {GrantTo: "nobody"}, {GrantRead: "nobody"}} {
		unknown.Postgres, unknown.Schema, unknown.WithoutPGVector = url, flujotest.Schema, true
		if _, err := initialize.Run(ctx, unknown); clierr.KindOf(err) != clierr.Usage ||
			!strings.Contains(err.Error(), "does not exist") {
			t.Errorf("got error %v for an unknown role in %+v, want a usage error", err, unknown)
		}
	}
}

// flujoStart are statements that Flujo executes at its start.
var flujoStart = []string{
	"SELECT pg_advisory_xact_lock(4059087070)",
	"CREATE TABLE IF NOT EXISTS runs (run_id text PRIMARY KEY)",
	"CREATE TABLE IF NOT EXISTS flujo_schema_versions (version integer PRIMARY KEY)",
	"CREATE INDEX IF NOT EXISTS idx_runs_status ON runs (status)",
	"CREATE INDEX IF NOT EXISTS idx_workflow_state_metadata_gin ON workflow_state USING GIN (metadata)",
	"INSERT INTO flujo_schema_versions (version) VALUES (1) ON CONFLICT (version) DO NOTHING",
}

// TestInitOwner tests that Flujo can start and write as the owner, whoever created the schema and the tables, with rows
// and with the program's own tables.
func TestInitOwner(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, url, role string){
		"new schema": func(*testing.T, string, string) {},
		"existing schema": func(t *testing.T, url, _ string) {
			flujotest.ExecAt(t, url, "CREATE SCHEMA flujo")
		},
		"tables of another owner": func(t *testing.T, url, _ string) { flujotest.Initialize(t, url, "") },
		"granted before":          func(t *testing.T, url, role string) { flujotest.Initialize(t, url, role) },
		"migrated tables": func(t *testing.T, url, _ string) {
			o := flujotest.Options(t, flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7"), url)
			flujotest.Migrate(t, o)
			flujotest.ExecAt(t, url, "TRUNCATE flujo.runs, flujo.flujo_port_originals CASCADE")
		},
		"twice": func(t *testing.T, url, role string) { flujotest.InitializeFor(t, url, role) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			role := pgtest.Role(t, url, "")
			owner := flujotest.OneAt(t, role, "SELECT current_user")
			prepare(t, url, owner)
			flujotest.InitializeFor(t, url, owner)
			conn := flujotest.Connect(t, flujotest.Cutover(t, role).Reveal())
			flujotest.Exec(t, conn, flujoStart...)
			flujotest.Exec(t, conn, flujotest.Writes("a", "b")...)
			if got := flujotest.OneAt(
				t,
				url,
				"SELECT count(*) FROM pg_class WHERE relnamespace = 'flujo'::regnamespace "+
					"AND relkind IN ('r', 'S') AND pg_get_userbyid(relowner) <> $1",
				owner,
			); got != "0" {
				t.Errorf("%s tables and sequences have another owner", got)
			}
		})
	}
}

// TestInitOwnerWithoutPrivilege tests that a role that may not change owners is told how it may, and changes nothing.
func TestInitOwnerWithoutPrivilege(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	admin, role := pgtest.Role(t, url, ""), pgtest.Role(t, url, "")
	name, owner := flujotest.OneAt(t, admin, "SELECT current_user"), flujotest.OneAt(t, role, "SELECT current_user")
	flujotest.ExecAt(t, url, "CREATE SCHEMA flujo AUTHORIZATION "+name)
	o := initialize.Options{Postgres: admin, Schema: flujotest.Schema, WithoutPGVector: true, Owner: owner}
	_, err := initialize.Run(context.Background(), o)
	f, ok := errors.AsType[*clierr.Error](err)
	if !ok || f.Kind != clierr.Refused || f.Advice.Topic != clierr.NoAdvice {
		t.Fatalf("got error %v, want a refusal without the advice to run init", err)
	}
	_, grant, found := strings.Cut(f.Hint, "after ")
	if !found {
		t.Fatalf("got hint %q, want a GRANT", f.Hint)
	}
	if got := flujotest.OneAt(
		t,
		url,
		"SELECT count(*) FROM pg_class WHERE relnamespace = 'flujo'::regnamespace",
	); got != "0" {
		t.Errorf("the refused init left %s relations", got)
	}
	flujotest.ExecAt(t, url, grant)
	if _, err := initialize.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	flujotest.Exec(t, flujotest.Connect(t, flujotest.Cutover(t, role).Reveal()), flujoStart...)
}

// TestInitGrantRead tests that the role can verify, and can change nothing.
func TestInitGrantRead(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	auditor := pgtest.Role(t, url, "")
	o := initialize.Options{
		Postgres: url, Schema: flujotest.Schema, WithoutPGVector: true,
		GrantRead: flujotest.OneAt(t, auditor, "SELECT current_user"),
	}
	before, err := initialize.Run(context.Background(), o)
	if err != nil || !strings.Contains(strings.Join(before.Notes, " "), "grant again after the migration") {
		t.Fatalf("got error %v and notes %v, want a note on the receipts", err, before.Notes)
	}
	file := flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7")
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	_, _, err = flujotest.Verify(t, file, auditor)
	f, ok := errors.AsType[*clierr.Error](err)
	if !ok || f.Advice.Topic != clierr.GrantReadByInit {
		t.Errorf("got error %v, want the advice to grant the reading", err)
	}
	after, err := initialize.Run(context.Background(), o)
	if err != nil || len(after.Notes) != 0 {
		t.Fatalf("got error %v and notes %v, want none", err, after.Notes)
	}
	flujotest.WantVerdict(t, file, auditor, report.Equal, 0)
	if got := flujotest.OneAt(
		t,
		url,
		`SELECT count(*) FROM pg_class, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
		WHERE relnamespace = 'flujo'::regnamespace AND relkind = 'r' AND has_table_privilege($1, oid, p)`,
		o.GrantRead,
	); got != "0" {
		t.Errorf("the auditor has %s privileges to write", got)
	}
	if got := flujotest.OneAt(t, auditor, "SELECT has_schema_privilege('flujo', 'CREATE')"); got != "false" {
		t.Error("the auditor may create tables")
	}
}

// TestInitGrants tests that the role of --grant-to can execute Flujo's statements, except those of its start.
func TestInitGrants(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
	flujotest.Initialize(t, url, name)
	conn := flujotest.Connect(t, flujotest.Cutover(t, role).Reveal())
	flujotest.Exec(t, conn,
		"CREATE TABLE IF NOT EXISTS flujo_schema_versions (version integer PRIMARY KEY)",
		`INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at)
			VALUES ('a', 'p', 'p', '1', 'running', now(), now())`,
		"INSERT INTO steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('a', 's', 0, 'completed', now())",
		"UPDATE runs SET status = 'failed'",
		"DELETE FROM runs")
}

// TestPGVectorInHiddenSchema tests that the owner, and a role that reads, may use pgvector's types in a schema that is
// closed to PUBLIC, and that check names the missing privilege before.
func TestPGVectorInHiddenSchema(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	app, auditor := pgtest.Role(t, url, ""), pgtest.Role(t, url, "")
	owner := flujotest.OneAt(t, app, "SELECT current_user")
	flujotest.ExecAt(t, url, "CREATE SCHEMA extensions", "CREATE EXTENSION vector SCHEMA extensions",
		"CREATE SCHEMA flujo AUTHORIZATION "+owner)
	flujotest.WantError(t, flujotest.PGVectorOptions(t, flujotest.Fixture, app), clierr.Refused, "extensions")
	o := initialize.Options{
		Postgres: url, Schema: flujotest.Schema, Owner: owner,
		GrantRead: flujotest.OneAt(t, auditor, "SELECT current_user"),
	}
	for range 2 { // the second time for the receipt
		if _, err := initialize.Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		if o.Owner != "" {
			flujotest.Migrate(t, flujotest.PGVectorOptions(t, flujotest.Fixture, app))
		}
		o.Owner = ""
	}
	flujotest.WantVerdict(t, flujotest.Fixture, app, report.Equal, 0)
	flujotest.WantVerdict(t, flujotest.Fixture, auditor, report.Equal, 0)
}
