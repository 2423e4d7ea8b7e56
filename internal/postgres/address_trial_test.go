package postgres

import (
	"fmt"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/stateuri"

	"github.com/jackc/pgx/v5"
)

// withSearchPath returns a cutover address of a database.
func withSearchPath(t *testing.T, url, path string) string {
	t.Helper()
	return pgtest.WithParameter(t, url, "options", "-c search_path="+path)
}

func TestTryAddress(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	role := pgtest.Role(t, url, "")
	run(t, owner, "GRANT USAGE ON SCHEMA flujo TO PUBLIC", "CREATE SCHEMA other; CREATE TABLE other.runs ()",
		fmt.Sprintf("ALTER ROLE %s SET default_transaction_read_only = on", roleOf(t, role)))
	superuser, database := roleOf(t, url), one(t, owner, "current_database()")
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.ActAsPooler()
	for _, tc := range []struct {
		name, address string
		want          AddressTrial
	}{
		{
			"flujo", withSearchPath(t, url, "flujo,public"),
			AddressTrial{Role: superuser, SearchPath: "flujo,public", First: "flujo", Runs: "flujo"},
		},
		{
			"another schema", withSearchPath(t, url, "other,flujo"),
			AddressTrial{Role: superuser, SearchPath: "other,flujo", First: "other", Runs: "other"},
		},
		{
			"no table", withSearchPath(t, url, "public"),
			AddressTrial{Role: superuser, SearchPath: "public", First: "public"},
		},
		{
			"another role", withSearchPath(t, role, "flujo"),
			AddressTrial{Role: roleOf(t, role), SearchPath: "flujo", First: "flujo", ReadOnly: true, Runs: "flujo"},
		},
		{
			"without foreign keys",
			pgtest.WithParameter(t, withSearchPath(t, url, "flujo"), "session_replication_role", "replica"),
			AddressTrial{Role: superuser, SearchPath: "flujo", First: "flujo", Replica: true, Runs: "flujo"},
		},
		{
			"pooler", withSearchPath(t, proxy.Rewrite(url), "flujo"),
			AddressTrial{Role: superuser, SearchPath: `"$user", public`, First: "public", Pooled: true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Database = database
			got, err := TryAddress(background, tc.address, schema)
			if err != nil || got != tc.want {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, tc.want)
			}
		})
	}
	_, err := TryAddress(background, pgtest.WithDatabase(t, url, "flujo_port_test_none"), schema)
	wantError(t, err, clierr.Usage, "3D000")
	proxy.OnClientMessage(func(typ byte, _ []byte) bool { return typ == 'P' })
	_, err = TryAddress(background, proxy.Rewrite(url), schema)
	wantError(t, err, clierr.Failed, "query the server by the cutover address")
}

func TestCheckSchema(t *testing.T) {
	t.Parallel()
	if err := (AddressTrial{Runs: "flujo"}).CheckSchema("flujo"); err != nil {
		t.Error(err)
	}
	wantError(t, AddressTrial{}.CheckSchema("flujo"), clierr.Refused, `does not find table "runs"`)
	wantError(t, AddressTrial{Runs: "other"}.CheckSchema("flujo"), clierr.Refused,
		`finds table "runs" in schema "other", not in "flujo"`)
}

// TestFirstSchema compares what a search_path leads to with where the server creates a table, before and after Flujo's
// schema exists.
func TestFirstSchema(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	admin := connect(t, url)
	role := pgtest.Role(t, url, "")
	user := roleOf(t, role)
	run(
		t,
		admin,
		"CREATE SCHEMA hidden",
		"CREATE SCHEMA other",
		"GRANT USAGE, CREATE ON SCHEMA other, public TO PUBLIC",
		fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", one(t, admin, "current_database()"), user),
	)
	for _, name := range []string{"flujo", user, "My Flujo", "a,b"} {
		for _, path := range []string{
			"flujo", "Flujo,public", `FLUJO , "public"`, `"Flujo",public`, "nowhere,flujo", "hidden, flujo",
			"other,flujo", `"$user", public`, "$user,flujo", `nowhere, "My Flujo"`, `"a,b", public`, "a,b",
			"pg_temp,flujo", "", "public", `hidden,"$user",other`,
		} {
			address := withSearchPath(t, role, strings.ReplaceAll(path, " ", `\ `))
			got, err := TryAddress(background, address, name)
			if err != nil {
				t.Fatal(err)
			}
			// The server says it once the schema exists.
			conn := connect(t, address)
			run(t, conn, "BEGIN", "CREATE SCHEMA "+pgx.Identifier{name}.Sanitize())
			want := one(t, conn, "coalesce((current_schemas(false))[1], '')")
			if strings.HasPrefix(path, "pg_temp") {
				want = "pg_temp" // where the server would create a table, but current_schemas does not say so
			}
			if got.First != want {
				t.Errorf("schema %q, search_path %q: got %q, want %q", name, path, got.First, want)
			}
			run(t, conn, "ROLLBACK")
		}
	}
}

func TestCheckSession(t *testing.T) {
	t.Parallel()
	server := Server{Role: "app"}
	for _, schema := range []string{"flujo", `My "schema"`, "app"} {
		if err := (AddressTrial{Role: "app", First: schema}).CheckSession(server, schema); err != nil {
			t.Errorf("%s: got error %v", schema, err)
		}
	}
	for _, tc := range []struct {
		trial AddressTrial
		want  string
	}{
		{AddressTrial{Role: "app", SearchPath: "public, flujo", First: "public"}, `has search_path "public, flujo"`},
		{AddressTrial{Role: "app", SearchPath: "flujo_old", First: "flujo_old"}, `has search_path "flujo_old"`},
		{AddressTrial{Role: "app"}, `has search_path ""`},
		{AddressTrial{Role: "web", First: "flujo"}, `has role "web", but "app" would own the tables`},
		{AddressTrial{Role: "app", First: "flujo", ReadOnly: true}, "has read-only transactions"},
		{AddressTrial{Role: "app", First: "flujo", Replica: true}, "foreign keys would not be checked"},
	} {
		wantError(t, tc.trial.CheckSession(server, "flujo"), clierr.Refused, tc.want)
	}
	direct := AddressTrial{Role: "app", Database: "med13", SearchPath: "public"}
	err := direct.CheckSession(server, "a,b")
	wantError(t, err, clierr.Refused, `ALTER ROLE "app" IN DATABASE "med13" SET search_path = "a,b", "public"`)
	if strings.Contains(err.Error(), "pooler") {
		t.Errorf("without a pooler: %v", err)
	}
	direct.Pooled = true
	wantError(
		t,
		direct.CheckSession(server, "user"),
		clierr.Refused,
		`"user", "public", or connect to the server directly`,
	)
}

func TestCheckAddress(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	run(t, owner, "CREATE SCHEMA other; CREATE TABLE other.runs ()", "CREATE SCHEMA empty",
		fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = on", one(t, owner, "current_database()")))
	flujo := withSearchPath(t, url, "flujo")
	for _, rows := range []int64{0, 2, 3} {
		if err := CheckAddress(background, flujo, schema, rows); err != nil {
			t.Errorf("%d rows: got error %v", rows, err)
		}
	}
	for _, tc := range []struct{ address, want string }{
		{flujo, `table "runs" has 3 rows, but 4 were committed`},
		{withSearchPath(t, url, "other,flujo"), `table "runs" is found in schema "other", not "flujo"`},
		{withSearchPath(t, url, "empty"), `table "runs" is found in schema "", not "flujo"`},
		{pgtest.WithDatabase(t, url, "flujo_port_test_none"), "3D000"},
	} {
		err := CheckAddress(background, tc.address, schema, 4)
		wantError(t, err, clierr.KindOf(err), tc.want)
	}
}

func TestOnlyAddsSearchPath(t *testing.T) {
	t.Parallel()
	const url = "postgresql://app:secret@db:5433/med13?sslmode=verify-full&application_name=a"
	known := stateuri.Known{Host: "other", User: "app"}
	for _, tc := range []struct {
		of, url string
		want    bool
	}{
		{url, url, true},
		{url, strings.Replace(url, "secret", "other", 1), false},
		{url, strings.Replace(url, "app:", "web:", 1), false},
		{url, strings.Replace(url, "db:", "db2:", 1), false},
		{url, strings.Replace(url, "5433", "5434", 1), false},
		{url, strings.Replace(url, "med13", "med14", 1), false},
		{url, strings.Replace(url, "verify-full", "require", 1), false},
		{url, strings.Replace(url, "=a", "=b", 1), false},
		{url, url + "&options=-c%20role%3Dweb", false},
		{url + "&options=-c%20role%3Dweb", url + "&options=-c%20role%3Dweb", false},
		{url, url + "&search_path=other", false},
		{url, url + "&statement_timeout=5", false},
		{"postgresql:///med13", "postgresql:///med13", false}, // the host is added
		{"postgresql://db/med13", "postgresql://db/med13", false},
		{url, "postgresql://a,b/d", false},
		{url, "host=db", false},
	} {
		address, _, err := stateuri.Cutover(tc.of, known, schema)
		if err != nil {
			t.Fatal(err)
		}
		if got := OnlyAddsSearchPath(address, tc.url); got != tc.want {
			t.Errorf("cutover address of %s and %s: got %t", tc.of, tc.url, got)
		}
	}
}
