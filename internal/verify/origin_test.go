package verify_test

import (
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestVerifyInAnotherDatabase tests that a row that differs is drift if the receipt was written in another cluster or
// database, where the same transaction id is that of another transaction.
func TestVerifyInAnotherDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	conn := flujotest.Connect(t, url)
	const origin = "SELECT (options->'origin'->>'cluster') || ' ' || (options->'origin'->>'database') " +
		"FROM flujo.flujo_port_receipts"
	const current = "SELECT system_identifier || ' ' || " +
		"(SELECT oid FROM pg_database WHERE datname = current_database()) FROM pg_control_system()"
	if got, want := flujotest.One(t, conn, origin), flujotest.One(t, conn, current); got != want {
		t.Errorf("got origin %s, want %s", got, want)
	}
	// The update gets a transaction id that the receipt calls the migration's.
	flujotest.Exec(t, conn, "UPDATE flujo.steps SET status = 'other' WHERE id = 7",
		`UPDATE flujo.flujo_port_receipts SET tables = (SELECT jsonb_agg(CASE t->>'name' WHEN 'steps' THEN
			jsonb_set(t, '{writers}', (SELECT jsonb_agg(DISTINCT xmin::text::bigint) FROM flujo.steps)) ELSE t END)
			FROM jsonb_array_elements(tables) t)`)
	result, _ := flujotest.WantVerdict(t, flujotest.Fixture, url, report.CopyMismatch, clierr.Mismatch)
	if result.Receipt.Elsewhere {
		t.Error("the receipt is called one of another database")
	}
	for _, tc := range []struct {
		name, origin, verdict string
		kind                  clierr.Kind
		elsewhere             bool
	}{
		{"another cluster", `options->'origin' || '{"cluster": "1"}'`, report.Drift, 0, true},
		{"another database", `options->'origin' || '{"database": 1}'`, report.Drift, 0, true},
		{"cluster unknown", `(options->'origin') - 'cluster'::text`, report.Drift, 0, true}, // the database is still 1
		{"nothing known", `'{}'`, report.CopyMismatch, clierr.Mismatch, false},
	} {
		flujotest.Exec(t, conn,
			"UPDATE flujo.flujo_port_receipts SET options = jsonb_set(options, '{origin}', "+tc.origin+")")
		result, _ := flujotest.WantVerdict(t, flujotest.Fixture, url, tc.verdict, tc.kind)
		if result.Receipt.Elsewhere != tc.elsewhere {
			t.Errorf("%s: got elsewhere %v", tc.name, result.Receipt.Elsewhere)
		}
	}
	// Without the privilege to read the system identifier, only the database counts.
	flujotest.Exec(t, conn, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
	auditor := pgtest.Role(t, url, "")
	name := flujotest.OneAt(t, auditor, "SELECT current_user")
	flujotest.Exec(
		t,
		conn,
		"GRANT USAGE ON SCHEMA flujo TO "+name,
		"GRANT SELECT ON ALL TABLES IN SCHEMA flujo TO "+name,
	)
	flujotest.WantVerdict(t, flujotest.Fixture, auditor, report.CopyMismatch, clierr.Mismatch)
}
