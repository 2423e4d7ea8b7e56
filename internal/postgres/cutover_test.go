package postgres_test

import (
	"context"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
	"flujo-port/internal/stateuri"

	"github.com/jackc/pgx/v5"
)

// TestCutoverAddressOfOtherTables tests that the migration refuses a cutover address whose names resolve to tables in
// another schema.
func TestCutoverAddressOfOtherTables(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Initialize(t, url, "")
	flujotest.Exec(
		t,
		flujotest.Connect(t, url),
		"SET allow_system_table_mods = on",
		"CREATE TABLE pg_catalog.runs (run_id text)",
	)
	flujotest.WantError(
		t,
		flujotest.Options(t, flujotest.Fixture, url),
		clierr.Refused,
		`finds table "runs" in schema "pg_catalog", not in "flujo"`,
	)
}

// TestPoolerThatRefusesOptions resolves the cutover address through a pooler that refuses the parameter options.
func TestPoolerThatRefusesOptions(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Initialize(t, url, "")
	role := pgtest.Role(t, url, "")
	config := parse(t, role)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.RefuseOptions()
	address := flujotest.Cutover(t, proxy.Rewrite(role))
	resolve := func() (stateuri.Address, []string, error) {
		resolved, _, notes, err := postgres.ResolveAddress(context.Background(), address, flujotest.Schema, true)
		return resolved, notes, err
	}
	statement := "ALTER ROLE " + sqltext.Ident(config.User) + " IN DATABASE " + sqltext.Ident(config.Database) +
		` SET search_path = "flujo", "public"`
	_, _, err := resolve()
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), statement) {
		t.Fatalf("without the role's search_path: %v lacks %q", err, statement)
	}
	admin := flujotest.Connect(t, url)
	flujotest.Exec(t, admin, statement) // what the error advises
	resolved, notes, err := resolve()
	if err != nil || strings.Contains(resolved.Reveal(), "options") ||
		!strings.Contains(strings.Join(notes, ""), config.User) {
		t.Fatalf("with the role's search_path: %s, %q, %v", resolved, notes, err)
	}
	flujotest.Exec(t, admin, "GRANT USAGE ON SCHEMA flujo TO PUBLIC")
	if got := flujotest.One(
		t,
		flujotest.Connect(t, resolved.Reveal()),
		"SELECT to_regclass('runs') IS NOT NULL",
	); got != "true" {
		t.Errorf("runs is found: %s", got)
	}
	address = flujotest.Cutover(t, pgtest.WithParameter(t, role, "options", "-c statement_timeout=5s"))
	address, _, err = stateuri.Cutover(proxy.Rewrite(address.Reveal()), stateuri.Known{}, flujotest.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if _, notes, err := resolve(); err != nil || !strings.Contains(strings.Join(notes, ""), "other settings") {
		t.Errorf("with other options: %q, %v", notes, err)
	}
	fakePGVector(t, admin, "extensions")
	if _, _, err := resolve(); err == nil ||
		!strings.Contains(err.Error(), `SET search_path = "flujo", "extensions", "public"`) {
		t.Errorf("pgvector elsewhere: %v", err)
	}
}

// TestPoolerThatDropsOptions checks that the error has the statement that sets search_path.
func TestPoolerThatDropsOptions(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.ActAsPooler()
	address := flujotest.CutoverFor(t, proxy.Rewrite(url), "My State")
	_, trial, _, err := postgres.ResolveAddress(context.Background(), address, "My State", true)
	if err != nil {
		t.Fatal(err)
	}
	err = trial.CheckSession(postgres.Server{Role: trial.Role}, "My State")
	if want := `SET search_path = "My State", "public"`; clierr.KindOf(err) != clierr.Refused ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("%v lacks %q", err, want)
	}
}

// TestPGVectorInAnotherSchema checks that the schema of pgvector is added to search_path if it is not on it.
func TestPGVectorInAnotherSchema(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ extension, schema, want string }{
		{"extensions", "flujo", "flujo,extensions,public"},
		{"My Extensions", "flujo", `flujo,"My Extensions",public`},
		{"public", "flujo", "flujo,public"},
		{"flujo", "flujo", "flujo,public"},
		{"pg_catalog", "flujo", "flujo,public"},
		{"extensions", "public", "public,extensions"},
	} {
		url := pgtest.Database(t)
		conn := flujotest.Connect(t, url)
		flujotest.Exec(t, conn, "CREATE SCHEMA flujo")
		fakePGVector(t, conn, c.extension)
		address := flujotest.CutoverFor(t, url, c.schema)
		resolved, trial, notes, err := postgres.ResolveAddress(context.Background(), address, c.schema, true)
		if err != nil || trial.SearchPath != c.want || (len(notes) > 0) != (resolved != address) {
			t.Errorf("%s: %q, %q, %v", c.extension, trial.SearchPath, notes, err)
		}
		again, _, _, err := postgres.ResolveAddress(context.Background(), resolved, c.schema, true)
		if err != nil || again != resolved {
			t.Errorf("%s: again %v", c.extension, err)
		}
		without, _, _, err := postgres.ResolveAddress(context.Background(), address, c.schema, false)
		if err != nil || without != address {
			t.Errorf("%s: without pgvector: %v", c.extension, err)
		}
	}
}

// fakePGVector makes the catalog say that pgvector is in a schema. No type is needed.
func fakePGVector(t *testing.T, conn *pgx.Conn, schema string) {
	t.Helper()
	flujotest.Exec(t, conn,
		"DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', "+sqltext.Literal(schema)+
			"); EXCEPTION WHEN duplicate_schema OR reserved_name THEN NULL; END $$",
		`INSERT INTO pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
			SELECT 16000, 'vector', 10, oid, true, '0.8.0' FROM pg_namespace WHERE nspname = `+sqltext.Literal(schema))
}
