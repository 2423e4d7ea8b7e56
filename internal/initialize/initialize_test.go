package initialize_test

import (
	"context"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/initialize"
	"flujo-port/internal/pgtest"
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
