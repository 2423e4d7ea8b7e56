package check_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// TestCheckReplication tests that check names the publications that contain Flujo's tables, now or once they exist.
func TestCheckReplication(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		statements []string
		state      report.Status
		words      []string
	}{
		{"none", nil, report.OK, nil},
		{"all tables", []string{"CREATE PUBLICATION everything FOR ALL TABLES"}, report.Warning,
			[]string{"published by everything", "no subscriber"}},
		{"another table", []string{"CREATE TABLE public.other (a int)", "CREATE PUBLICATION p FOR TABLE public.other"},
			report.OK, nil},
		{"an existing table", []string{"CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id text PRIMARY KEY)",
			"CREATE PUBLICATION one FOR TABLE flujo.runs"}, report.Warning, []string{"published by one"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.ExecAt(t, url, append([]string{"SET client_min_messages = error"}, tc.statements...)...)
			wantLine(t, checkOptions(t, flujotest.Fixture, url), "replication", tc.state, tc.words...)
		})
	}
}

// TestCheckReplicationNotReadable tests that a role that may not read the catalog is told that this is not
// known, and that this is no error.
func TestCheckReplicationNotReadable(t *testing.T) {
	t.Parallel()
	for _, revoke := range []string{
		"REVOKE SELECT ON pg_publication FROM PUBLIC",
		"REVOKE SELECT ON pg_subscription_rel FROM PUBLIC",
		"REVOKE SELECT ON pg_replication_slots FROM PUBLIC",
	} {
		role, _ := createGranted(t, revoke)
		wantLine(
			t,
			checkOptions(t, flujotest.Fixture, role),
			"replication",
			report.Warning,
			"not known",
			"permission denied",
		)
	}
	role, super := createGranted(t)
	name := flujotest.OneAt(t, role, "SELECT current_user")
	flujotest.ExecAt(t, super, fmt.Sprintf("ALTER SCHEMA flujo OWNER TO %q", name),
		"REVOKE SELECT (oid, subname, subenabled) ON pg_subscription FROM PUBLIC")
	wantLine(t, checkOptions(t, flujotest.Fixture, role), "replication", report.OK)
}

// TestReplicationWithSubscriber tests the lines of check on both sides of a subscription that is at work, and that
// migrations arrive at the subscriber by the steps of docs/cutover.md.
func TestReplicationWithSubscriber(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t, pgtest.WithSettings("wal_level=logical"))
	urls := map[string]string{}
	for _, name := range []string{"publisher", "subscriber"} {
		if err := server.CreateDatabase(name); err != nil {
			t.Fatal(err)
		}
		urls[name] = server.URL(name)
		flujotest.Initialize(t, urls[name], "")
	}
	publisher, subscriber := flujotest.Connect(t, urls["publisher"]), flujotest.Connect(t, urls["subscriber"])
	flujotest.Exec(t, publisher, "CREATE PUBLICATION everything FOR ALL TABLES",
		"SELECT pg_create_logical_replication_slot('flujo_slot', 'pgoutput')")
	wantLine(t, checkOptions(t, flujotest.Fixture, urls["publisher"]), "replication", report.Warning,
		"published by everything", "flujo_slot (not active)")
	flujotest.Exec(t, subscriber, fmt.Sprintf(`CREATE SUBSCRIPTION flujo_copy CONNECTION
		'host=%s port=%s user=%s password=%s dbname=publisher' PUBLICATION everything
		WITH (create_slot = false, slot_name = flujo_slot, copy_data = false)`,
		server.Host(), server.Port(), server.User(), server.Password()))
	await(t, publisher, "SELECT active FROM pg_replication_slots WHERE slot_name = 'flujo_slot'")
	await(t, subscriber, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel")

	wantLine(t, checkOptions(t, flujotest.Fixture, urls["publisher"]), "replication", report.Warning,
		"published by everything", "flujo_slot (active)")
	wantLine(t, checkOptions(t, flujotest.Fixture, urls["subscriber"]), "replication", report.Warning,
		"subscriptions write to Flujo's tables: flujo_copy", "DISABLE")

	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, urls["publisher"]))
	replace := flujotest.Options(t, flujotest.Fixture, urls["publisher"])
	replace.Replace = true
	archive := flujotest.Migrate(t, replace).Replaced.ArchiveSchema
	definitions := filepath.Join(t.TempDir(), "definitions.sql")
	for _, option := range []string{"--table=flujo.flujo_port_*", "--schema=flujo_archive_*"} {
		flujotest.Command(t, pgtest.Client(t, urls["publisher"], "pg_dump"), "--schema-only", "--file="+definitions,
			option, urls["publisher"])
		flujotest.Command(t, pgtest.Client(t, urls["publisher"], "psql"), "--quiet", "--file="+definitions,
			urls["subscriber"])
	}
	flujotest.Exec(t, subscriber, "ALTER SUBSCRIPTION flujo_copy REFRESH PUBLICATION")
	const rows = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM %s t"
	for _, table := range []string{"runs", "steps", "spans", "traces", "flujo_port_receipts"} {
		query := fmt.Sprintf(rows, "flujo."+table)
		await(t, subscriber, "SELECT coalesce(("+query+") = $1, false)", flujotest.One(t, publisher, query))
	}

	query := fmt.Sprintf(rows, fmt.Sprintf("%q.runs", archive))
	await(t, subscriber, "SELECT coalesce(("+query+") = $1, false)", flujotest.One(t, publisher, query))

	flujotest.Exec(
		t,
		subscriber,
		"ALTER SUBSCRIPTION flujo_copy DISABLE",
		"ALTER SUBSCRIPTION flujo_copy SET (slot_name = NONE)",
	)
	wantLine(t, checkOptions(t, flujotest.Fixture, urls["subscriber"]), "replication", report.OK)
}

// await returns when the query returns true, which the server brings about by itself.
func await(t testing.TB, conn *pgx.Conn, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		var is bool
		if err := conn.QueryRow(ctx, query, args...).Scan(&is); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if is {
			return
		}
	}
}
