package postgres

import (
	"fmt"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
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
			AddressTrial{Role: superuser, SearchPath: "flujo,public", Runs: "flujo"},
		},
		{
			"another schema", withSearchPath(t, url, "other,flujo"),
			AddressTrial{Role: superuser, SearchPath: "other,flujo", Runs: "other"},
		},
		{"no table", withSearchPath(t, url, "public"), AddressTrial{Role: superuser, SearchPath: "public"}},
		{
			"another role", withSearchPath(t, role, "flujo"),
			AddressTrial{Role: roleOf(t, role), SearchPath: "flujo", ReadOnly: true, Runs: "flujo"},
		},
		{
			"without foreign keys",
			pgtest.WithParameter(t, withSearchPath(t, url, "flujo"), "session_replication_role", "replica"),
			AddressTrial{Role: superuser, SearchPath: "flujo", Replica: true, Runs: "flujo"},
		},
		{
			"pooler", withSearchPath(t, proxy.Rewrite(url), "flujo"),
			AddressTrial{Role: superuser, SearchPath: `"$user", public`, Pooled: true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Database = database
			got, err := TryAddress(background, tc.address)
			if err != nil || got != tc.want {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, tc.want)
			}
		})
	}
	_, err := TryAddress(background, pgtest.WithDatabase(t, url, "flujo_port_test_none"))
	wantError(t, err, clierr.Usage, "3D000")
	proxy.OnClientMessage(func(typ byte, _ []byte) bool { return typ == 'P' })
	_, err = TryAddress(background, proxy.Rewrite(url))
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

func TestCheckSession(t *testing.T) {
	t.Parallel()
	server := Server{Role: "app"}
	for _, path := range []string{"flujo", "flujo, public", "flujo,public", `"flujo", public`} {
		if err := (AddressTrial{Role: "app", SearchPath: path}).CheckSession(server, "flujo"); err != nil {
			t.Errorf("%s: got error %v", path, err)
		}
	}
	odd := AddressTrial{Role: "app", SearchPath: `"My ""schema""", public`}
	if err := odd.CheckSession(server, `My "schema"`); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		trial AddressTrial
		want  string
	}{
		{AddressTrial{Role: "app", SearchPath: "public, flujo"}, `has search_path "public, flujo"`},
		{AddressTrial{Role: "app", SearchPath: "flujo_old"}, `has search_path "flujo_old"`},
		{AddressTrial{Role: "app"}, `has search_path ""`},
		{AddressTrial{Role: "web", SearchPath: "flujo"}, `has role "web", but "app" would own the tables`},
		{AddressTrial{Role: "app", SearchPath: "flujo", ReadOnly: true}, "has read-only transactions"},
		{AddressTrial{Role: "app", SearchPath: "flujo", Replica: true}, "foreign keys would not be checked"},
	} {
		wantError(t, tc.trial.CheckSession(server, "flujo"), clierr.Refused, tc.want)
	}
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
