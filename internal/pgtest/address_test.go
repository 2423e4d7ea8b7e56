package pgtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// forms are ways to write the address of a server, and the complete URL of each
// for a user "me" and no PG* variables.
var forms = map[string]struct{ address, want string }{
	"without a query":    {"postgresql://postgres@host/postgres", "postgresql://postgres@host:5432/postgres"},
	"short scheme":       {"postgres://postgres:pw@host/postgres", "postgresql://postgres:pw@host:5432/postgres"},
	"port":               {"postgresql://postgres@host:5433/postgres", "postgresql://postgres@host:5433/postgres"},
	"without a user":     {"postgresql://host/postgres", "postgresql://me@host:5432/postgres"},
	"without a database": {"postgresql://postgres@host", "postgresql://postgres@host:5432/"},
	"IPv4":               {"postgresql://postgres@127.0.0.1/d", "postgresql://postgres@127.0.0.1:5432/d"},
	"IPv6":               {"postgresql://postgres@[::1]:5433/d", "postgresql://postgres@[::1]:5433/d"},
	"query":              {"postgresql://u@h/d?sslmode=disable", "postgresql://u@h:5432/d?sslmode=disable"},
	"options":            {"postgresql://u@h/d?options=-c%20a%3Db", "postgresql://u@h:5432/d?options=-c%20a%3Db"},
	"socket":             {"postgresql://u@/d?host=/run/pg", "postgresql://u@/d?host=%2Frun%2Fpg&port=5432"},
	"socket and port":    {"postgresql://u@/d?host=/run/pg&port=5433", "postgresql://u@/d?host=%2Frun%2Fpg&port=5433"},
	"socket as host":     {"postgresql://u@%2Frun%2Fpg:5433/d", "postgresql://u@/d?host=%2Frun%2Fpg&port=5433"},
	"all in the query": {
		"postgresql:///?user=u&password=p%26w&host=h&port=5433&dbname=d",
		"postgresql://u:p&w@h:5433/d",
	},
	"odd password": {
		"postgresql://u:p?w%40%2F@h/d?sslmode=disable",
		"postgresql://u:p%3Fw%40%2F@h:5432/d?sslmode=disable",
	},
	"several hosts":       {"postgresql://u@h:5433,i:5434/d", "postgresql://u@h:5433/d"},
	"keywords":            {"host=h user=u dbname=d sslmode=disable", "postgresql://u@h:5432/d?sslmode=disable"},
	"keywords, quoted":    {`host = h  user='a b' password='it\'s' dbname=d`, "postgresql://a%20b:it%27s@h:5432/d"},
	"keywords and socket": {"host=/run/pg user=u dbname=d", "postgresql://u@/d?host=%2Frun%2Fpg&port=5432"},
}

func TestCompleteURL(t *testing.T) {
	for name, c := range forms {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv("PGUSER", "me")
			if got, err := completeURL(c.address); err != nil || got != c.want {
				t.Errorf("got  %s, error %v\nwant %s", got, err, c.want)
			}
		})
	}
}

func TestCompleteURLFromEnvironment(t *testing.T) {
	passfile := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(passfile, []byte("h:5433:*:u:from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		environment   []string
		address, want string
	}{
		"password": {[]string{"PGPASSWORD=secret"}, "postgresql://u@h/d", "postgresql://u:secret@h:5432/d"},
		"password file": {[]string{"PGPASSFILE=" + passfile}, "postgresql://u@h:5433/d",
			"postgresql://u:from%20file@h:5433/d"},
		"everything": {[]string{"PGHOST=/run/pg", "PGPORT=5433", "PGUSER=u", "PGDATABASE=d"}, "postgresql://",
			"postgresql://u@/d?host=%2Frun%2Fpg&port=5433"},
		"TLS": {[]string{"PGSSLMODE=verify-full", "PGSSLROOTCERT=system"}, "postgresql://u@h/d",
			"postgresql://u@h:5432/d?sslmode=verify-full&sslrootcert=system"},
		"what the address says counts": {[]string{"PGPASSWORD=x", "PGHOST=x", "PGPORT=1", "PGUSER=x",
			"PGSSLMODE=require"},
			"postgresql://u:p@h:2/d?sslmode=disable", "postgresql://u:p@h:2/d?sslmode=disable"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			for _, entry := range c.environment {
				name, value, _ := strings.Cut(entry, "=")
				t.Setenv(name, value)
			}
			if got, err := completeURL(c.address); err != nil || got != c.want {
				t.Errorf("got  %s, error %v\nwant %s", got, err, c.want)
			}
		})
	}
}

// clearEnvironment makes the test's environment one without PG* variables and
// without libpq's files.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, value) // puts it back when the test ends
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("HOME", t.TempDir())
}

func TestCompleteURLErrors(t *testing.T) {
	for _, address := range []string{
		"localhost", "postgresql+psycopg2://u:secret@h/d", "https://u:secret@h/d", "postgresql://u:secret@h:port/d",
		"postgresql://u:secret%zz@h/d", "postgresql://u:secret@[::1/d", "host=h password='secret",
		"postgresql://u:secret@h/d?sslmode=verify-full&sslrootcert=/none",
	} {
		got, err := completeURL(address)
		if err == nil {
			t.Errorf("%s: got %s, want an error", address, got)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the password: %v", address, err)
		} else if strings.Contains(address, "/none") && !strings.Contains(err.Error(), "/none") {
			t.Errorf("%s: the error does not name the file: %v", address, err)
		}
	}
}

// Every function that changes a URL works on every form of address, and changes
// nothing else.
func TestChangedURLs(t *testing.T) {
	for name, c := range forms {
		t.Run(name, func(t *testing.T) {
			before := parse(t, c.want)

			got := parse(
				t,
				WithParameter(t, WithParameter(t, c.want, "application_name", "x"), "application_name", "a b&c=d+e"),
			)
			if value := got.RuntimeParams["application_name"]; value != "a b&c=d+e" {
				t.Errorf("WithParameter: application_name is %q", value)
			}
			wantSame(t, "WithParameter", got, before)

			got = parse(t, WithDatabase(t, c.want, "other"))
			if got.Database != "other" {
				t.Errorf("WithDatabase: %q", got.Database)
			}
			got.Database = before.Database
			wantSame(t, "WithDatabase", got, before)

			got = parse(t, WithUser(t, c.want, "other", "p@:/?w"))
			if got.User != "other" || got.Password != "p@:/?w" {
				t.Errorf("WithUser: %q with password %q", got.User, got.Password)
			}
			got.User, got.Password = before.User, before.Password
			wantSame(t, "WithUser", got, before)

			got = parse(t, WithPassword(t, c.want))
			if got.Password == "" || before.Password != "" && got.Password != before.Password {
				t.Errorf("WithPassword: %q, was %q", got.Password, before.Password)
			}
			got.Password = before.Password
			wantSame(t, "WithPassword", got, before)

			got = parse(t, WithServer(t, c.want, "[::1]:99"))
			if got.Host != "::1" || got.Port != 99 || got.TLSConfig != nil || len(got.Fallbacks) != 0 {
				t.Errorf(
					"WithServer: %s, port %d, TLS %v, %d fallbacks",
					got.Host,
					got.Port,
					got.TLSConfig,
					len(got.Fallbacks),
				)
			}
			got.Host, got.Port = before.Host, before.Port
			wantSame(t, "WithServer", got, before)
		})
	}
}

func parse(t *testing.T, databaseURL string) *pgconn.Config {
	t.Helper()
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// wantSame fails unless both lead to the same database as the same user.
func wantSame(t *testing.T, name string, got, want *pgconn.Config) {
	t.Helper()
	if got.Host != want.Host || got.Port != want.Port || got.User != want.User || got.Password != want.Password ||
		got.Database != want.Database || got.RuntimeParams["options"] != want.RuntimeParams["options"] {
		t.Errorf("%s: got %s@%s:%d/%s with options %q, want %s@%s:%d/%s with options %q", name,
			got.User, got.Host, got.Port, got.Database, got.RuntimeParams["options"],
			want.User, want.Host, want.Port, want.Database, want.RuntimeParams["options"])
	}
}

// A server is used by each form of its address.
func TestFormsLeadToTheServer(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	clearEnvironment(t)
	t.Setenv("PGPASSWORD", s.Password())
	port := s.Port()
	for name, address := range map[string]string{
		"without a query":    "postgresql://postgres@" + s.Addr() + "/postgres",
		"short scheme":       "postgres://postgres:" + s.Password() + "@" + s.Addr() + "/postgres?sslmode=disable",
		"name":               "postgresql://postgres@localhost:" + port + "/postgres",
		"without a database": "postgresql://postgres@" + s.Addr(),
		"socket":             "postgresql://postgres@/postgres?host=" + s.Dir() + "&port=" + port,
		"keywords":           "host=" + s.Dir() + " port=" + port + " user=postgres dbname=postgres",
	} {
		t.Run(name, func(t *testing.T) {
			u, err := completeURL(address)
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("PGPASSWORD", "") // the URL has it
			u = WithDatabase(t, WithParameter(t, u, "application_name", "a b"), "template1")
			var application, database string
			err = queryRow(u, "SELECT current_setting('application_name'), current_database()", &application, &database)
			if err != nil || application != "a b" || database != "template1" {
				t.Errorf("application_name %q, database %q, error %v", application, database, err)
			}
			if !ChecksPasswords(t, u) {
				t.Error("the server does not ask for a password")
			}
			psql(t, "-c", "RESET ALL", u)
			p := NewProxy(t, Upstream(t, u))
			if err := execAll(p.Rewrite(u), "SELECT"); err != nil {
				t.Errorf("through a proxy: %v", err)
			}
		})
	}
}

func TestChecksPasswordsIsFalseForTrust(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	rules := "local all all trust\nhost all all " + host + "/32 trust\n"
	if err := os.WriteFile(filepath.Join(s.dataDir(), "pg_hba.conf"), []byte(rules), 0); err != nil {
		t.Fatal(err)
	}
	mustExec(t, s.URL("postgres"), "SELECT pg_reload_conf()")
	// It reads its files a moment later.
	await(t, "trust counts", func() bool { return !ChecksPasswords(t, s.URL("postgres")) })
}
