package postgres_test

import (
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
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
