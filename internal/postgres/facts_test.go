package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t, pgtest.WithTLS())
	url := server.URL("postgres")
	mode := func(name string) string {
		return pgtest.WithParameter(t, pgtest.WithParameter(t, url, "sslmode", name), "sslrootcert", server.RootCert())
	}
	for _, tc := range []struct {
		name, url     string
		used, checked bool
	}{
		{"TCP", url, false, false},
		{"socket", server.SocketURL("postgres"), false, false},
		{"require without a certificate", pgtest.WithParameter(t, url, "sslmode", "require"), true, false},
		{"verify-ca", mode("verify-ca"), true, true},
		{"verify-full", mode("verify-full"), true, true},
	} {
		conn := open(t, tc.url)
		got := conn.TLS()
		if !got.Local || got.Used != tc.used || got.Checked != tc.checked || (got.Version != "") != tc.used {
			t.Errorf("%s: got %+v", tc.name, got)
		}
		if ssl := one(
			t,
			conn.Conn,
			"SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
		); ssl != fmt.Sprint(
			tc.used,
		) {
			t.Errorf("%s: the server says %s", tc.name, ssl)
		}
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	all, err := open(t, url).Timeouts(background)
	if err != nil || len(all) != 0 {
		t.Errorf("got %v, %v, want none", all, err)
	}
	owner := connect(t, url)
	database := one(t, owner, "current_database()")
	run(t, owner, "ALTER DATABASE "+database+" SET statement_timeout = '90s'",
		"ALTER DATABASE "+database+" SET idle_in_transaction_session_timeout = 7000")
	all, err = open(t, url).Timeouts(background)
	if want := []string{"idle_in_transaction_session_timeout=7s", "statement_timeout=90s"}; err != nil ||
		!slices.Equal(all, want) {
		t.Errorf("got %v, %v, want %v", all, err, want)
	}
}

// TestMissingPrivileges grants a role one privilege after the other.
func TestMissingPrivileges(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	owner := connect(t, url)
	role := pgtest.Role(t, url, "")
	conn, name := open(t, role), roleOf(t, role)
	database := one(t, owner, "current_database()")
	wantMissing := func(step string, want ...string) {
		t.Helper()
		missing, err := conn.MissingPrivileges(background, true)
		var got []string
		for _, p := range missing {
			got = append(got, p.Name)
			if onTable := strings.Contains(p.Name, " on table ") ||
				strings.Contains(p.Name, " on sequence "); onTable ==
				strings.HasPrefix(
					p.Grant,
					"GRANT ",
				) {
				t.Errorf("%s: %s is granted by %q", step, p.Name, p.Grant)
			}
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %q, %v\nwant %q", step, got, err, want)
		}
	}
	run(t, owner, "REVOKE ALL ON DATABASE "+database+" FROM PUBLIC", "GRANT CONNECT ON DATABASE "+database+" TO PUBLIC")
	wantMissing("no schema", "CREATE on database "+database)
	run(t, owner, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", database, name))
	wantMissing("may create the schema")

	run(t, owner, "CREATE SCHEMA flujo")
	wantMissing("schema", "USAGE on schema flujo", "CREATE on schema flujo")
	run(t, owner, "GRANT USAGE ON SCHEMA flujo TO "+name)
	wantMissing("USAGE", "CREATE on schema flujo")
	run(t, owner, "GRANT CREATE ON SCHEMA flujo TO "+name)
	wantMissing("empty schema")

	run(t, owner, "CREATE TABLE flujo.runs (x int); CREATE TABLE flujo.steps (id serial); CREATE TABLE flujo.notes ()",
		"CREATE TABLE flujo.flujo_port_receipts (); CREATE TABLE flujo.flujo_port_originals ()")
	wantMissing("tables",
		"SELECT on table flujo_port_originals",
		"INSERT on table flujo_port_receipts", "SELECT on table flujo_port_receipts",
		"DELETE on table runs", "INSERT on table runs", "SELECT on table runs", "UPDATE on table runs",
		"DELETE on table steps", "INSERT on table steps", "SELECT on table steps", "UPDATE on table steps",
		"UPDATE on sequence steps_id_seq")
	run(
		t,
		owner,
		"GRANT SELECT ON ALL TABLES IN SCHEMA flujo TO "+name,
		"GRANT USAGE ON SEQUENCE flujo.steps_id_seq TO "+name,
		"GRANT INSERT ON flujo.flujo_port_receipts TO "+name,
	)
	wantMissing("may read",
		"DELETE on table runs", "INSERT on table runs", "UPDATE on table runs",
		"DELETE on table steps", "INSERT on table steps", "UPDATE on table steps",
		"UPDATE on sequence steps_id_seq")
	run(
		t,
		owner,
		"GRANT ALL ON flujo.runs, flujo.steps TO "+name,
		"GRANT UPDATE ON SEQUENCE flujo.steps_id_seq TO "+name,
	)
	wantMissing("all")
}

func TestTablesWithRows(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	conn := open(t, url)
	wantRows := func(want ...string) {
		t.Helper()
		if got, err := conn.TablesWithRows(background); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	wantRows("runs has 3", "steps has 3", "traces has 1")
	run(
		t,
		owner,
		"CREATE TABLE flujo.flujo_port_originals AS SELECT 1",
		"INSERT INTO flujo.flujo_schema_versions VALUES (1)",
		"CREATE TABLE flujo.notes AS SELECT 1",
		"DELETE FROM flujo.steps",
		"DROP TABLE flujo.traces",
	)
	wantRows("runs has 3", "flujo_port_originals has 1")
	conn.Schema = "none"
	wantRows()

	run(t, owner, "GRANT USAGE ON SCHEMA flujo TO PUBLIC")
	_, err := open(t, pgtest.Role(t, url, "")).TablesWithRows(background)
	wantError(t, err, clierr.Refused, "count the rows", "permission denied for table runs")
}
