package stateuri

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	opt = "options=-c%20search_path%3Dflujo%2Cpublic"
	tls = "&sslmode=require"
)

// cleanEnv keeps this machine's connection settings out of pgconn.ParseConfig.
func cleanEnv(t testing.TB) {
	t.Helper()
	for _, name := range []string{
		"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE",
		"PGOPTIONS", "PGSSLMODE", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT", "PGAPPNAME", "PGTZ", "PGCONNECT_TIMEOUT",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("PGPASSFILE", "/nonexistent")
}

func TestCutover(t *testing.T) {
	tests := []struct {
		name  string
		url   string
		known Known
		want  string
	}{
		{name: "clean URL",
			url: "postgresql://u:p@localhost:5432/db", want: "postgresql://u:p@localhost:5432/db?" + opt},
		{name: "short scheme",
			url: "postgres://u:p@localhost/db", want: "postgresql://u:p@localhost/db?" + opt},
		{name: "scheme in capitals, line end after it",
			url: "POSTGRESQL://u:p@localhost/db\n", want: "postgresql://u:p@localhost/db?" + opt},
		{name: "after existing options",
			url: "postgresql://u:p@localhost/db?options=-c%20statement_timeout%3D5s&application_name=x",
			want: "postgresql://u:p@localhost/db?application_name=x&options=-c%20statement_timeout%3D5s%20" +
				"-c%20search_path%3Dflujo%2Cpublic"},
		{name: "after an existing search_path",
			url:  "postgresql://u:p@localhost/db?options=-csearch_path=med13",
			want: "postgresql://u:p@localhost/db?options=-csearch_path%3Dmed13%20-c%20search_path%3Dflujo%2Cpublic"},
		{name: "already there, as the product requirements write it",
			url:  "postgresql://u:p@localhost/db?options=-c%20search_path=flujo,public",
			want: "postgresql://u:p@localhost/db?" + opt},
		{name: "already there, with pluses",
			url:  "postgresql://u:p@localhost/db?options=-c+search_path%3Dflujo%2Cpublic",
			want: "postgresql://u:p@localhost/db?" + opt},
		{name: "already there, but not last",
			url: "postgresql://u:p@localhost/db?" + opt + "%20-c%20search_path%3Dx",
			want: "postgresql://u:p@localhost/db?" + opt +
				"%20-c%20search_path%3Dx%20-c%20search_path%3Dflujo%2Cpublic"},
		{name: "already there, with a backslash after it",
			url: "postgresql://u:p@localhost/db?" + opt + "%5C", want: "postgresql://u:p@localhost/db?" + opt},
		{name: "options that end in a backslash",
			url:  "postgresql://u:p@localhost/db?options=-c%20a.b%3Dc%5C",
			want: "postgresql://u:p@localhost/db?options=-c%20a.b%3Dc%20-c%20search_path%3Dflujo%2Cpublic"},
		{name: "other parameters",
			url: "postgresql://u:p@localhost/db?statement_timeout=5s&application_name=a+b&sslmode=disable&x.y=z",
			want: "postgresql://u:p@localhost/db?application_name=a%2Bb&" + opt + "&sslmode=disable" +
				"&statement_timeout=5s&x.y=z"},
		{name: "a parameter search_path would win",
			url: "postgresql://u:p@localhost/db?Search_Path=med13", want: "postgresql://u:p@localhost/db?" + opt},
		{name: "remote host gets TLS",
			url: "postgresql://u:p@db.example/db", want: "postgresql://u:p@db.example/db?" + opt + tls},
		{name: "remote host keeps its sslmode",
			url:  "postgresql://u:p@db.example/db?sslmode=verify-full",
			want: "postgresql://u:p@db.example/db?" + opt + "&sslmode=verify-full"},
		{name: "empty sslmode is none",
			url: "postgresql://u:p@db.example/db?sslmode=", want: "postgresql://u:p@db.example/db?" + opt + tls},
		{name: "system certificates require verify-full, and asyncpg reads them as a file",
			url:  "postgresql://u:p@db.example/db?sslrootcert=system&sslmode=require",
			want: "postgresql://u:p@db.example/db?" + opt + "&sslmode=verify-full"},
		{name: "what asyncpg does not know",
			url:  "postgresql://u:p@localhost/db?connect_timeout=5&channel_binding=require&Keepalives=1&ssl=no",
			want: "postgresql://u:p@localhost/db?" + opt},
		{name: "ssl=require of asyncpg users",
			url:  "postgresql+asyncpg://u:p@db.example/db?ssl=require",
			want: "postgresql://u:p@db.example/db?" + opt + tls},
		{name: "IPv4 loopback is local",
			url: "postgresql://u:p@127.9.9.9/db", want: "postgresql://u:p@127.9.9.9/db?" + opt},
		{name: "IPv6 loopback is local",
			url: "postgresql://u:p@[::1]:5433/db", want: "postgresql://u:p@[::1]:5433/db?" + opt},
		{name: "IPv6 with a zone",
			url: "postgresql://u:p@[fe80::1%25eth0]/db", want: "postgresql://u:p@[fe80::1%25eth0]/db?" + opt + tls},
		{name: "Cloud SQL socket",
			url:  "postgresql://u:p%2Fw@/db?host=/cloudsql/proj:region:inst&port=5432",
			want: "postgresql://u:p%2Fw@/db?host=/cloudsql/proj:region:inst&" + opt + "&port=5432"},
		{name: "Cloud SQL socket as the product requirements write it",
			url: "postgresql://u:p@/db?host=/cloudsql/proj:region:inst" +
				"&options=-c%20search_path=flujo,public&sslmode=require",
			want: "postgresql://u:p@/db?host=/cloudsql/proj:region:inst&" + opt + tls},
		{
			name: "socket in the authority",
			url:  "postgresql://u:p@%2Fvar%2Frun:5433/db",
			want: "postgresql://u:p@/db?host=/var/run&" + opt + "&port=5433",
		},
		{name: "host parameter wins over the authority",
			url:  "postgresql://u:p@other:5433/db?host=/var/run",
			want: "postgresql://u:p@/db?host=/var/run&" + opt + "&port=5433"},
		{name: "no port, no database",
			url: "postgresql://u:p@localhost", want: "postgresql://u:p@localhost?" + opt},
		{name: "credentials and database in parameters",
			url:  "postgresql://localhost?user=u&password=p%26w&dbname=my%2Fdb",
			want: "postgresql://u:p%26w@localhost/my%2Fdb?" + opt},
		{name: "encoded names",
			url: "postgresql://us%40er:p@localhost/my%20db", want: "postgresql://us%40er:p@localhost/my%20db?" + opt},
		{name: "all from the settings",
			known: Known{
				Host:     "db.example",
				Port:     6432,
				User:     "u",
				Database: "db",
			}, want: "postgresql://u@db.example:6432/db?" + opt + tls},
		{name: "the settings fill only what is missing",
			url: "postgresql://:p@h1:1/db",
			known: Known{
				Host:     "h1",
				Port:     1,
				User:     "app",
				Database: "db",
			}, want: "postgresql://app:p@h1:1/db?" + opt + tls},
		{name: "the default port is not added",
			url: "postgresql://u:p@localhost/db",
			known: Known{
				Host:     "localhost",
				Port:     5432,
				User:     "u",
				Database: "db",
			}, want: "postgresql://u:p@localhost/db?" + opt},
		{name: "a socket from the settings",
			url: "postgresql:///db",
			known: Known{
				Host: "/var/run",
				Port: 5433,
				User: "u",
			}, want: "postgresql://u@/db?host=/var/run&" + opt + "&port=5433"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := Cutover(test.url, test.known, "flujo")
			if err != nil {
				t.Fatal(err)
			}
			if got.Reveal() != test.want {
				t.Fatalf("\n got %s\nwant %s", got.Reveal(), test.want)
			}
			again, _, err := Cutover(got.Reveal(), test.known, "flujo")
			if err != nil || again != got {
				t.Fatalf("not idempotent: %s, %v", again.Reveal(), err)
			}
		})
	}
}

func TestCutoverDriverSuffixes(t *testing.T) {
	for _, scheme := range []string{
		"postgresql+psycopg2", "postgresql+psycopg", "postgresql+asyncpg", "postgresql+pg8000",
		"postgresql+psycopg2cffi", "postgresql+psycopg_async", "postgres+asyncpg",
	} {
		t.Run(scheme, func(t *testing.T) {
			a, notes, err := Cutover(scheme+"://u:p@localhost/db", Known{}, "flujo")
			if err != nil {
				t.Fatal(err)
			}
			if want := "postgresql://u:p@localhost/db?" + opt; a.Reveal() != want {
				t.Errorf("got %s, want %s", a.Reveal(), want)
			}
			if !hasNote(notes, "driver suffix +") {
				t.Errorf("no note of the suffix in %q", notes)
			}
		})
	}
}

func TestCutoverPasswordRoundTrip(t *testing.T) {
	cleanEnv(t)
	for _, password := range []string{
		"p@ss", "p:ss", "p/ss", "p%ss", "p#ss", "p?ss", "p&ss", "p+ss", "p ss", "p%20ss", "p'ss",
		`p\ss`, "p=ss", "p[s]s",
		"@:/%#?&+ =", "påss☃", "****", "a,b;c", `"quoted"`, "tab\tline\n", " around ",
	} {
		t.Run(password, func(t *testing.T) {
			for _, given := range []string{
				"postgresql://u:" + encode(password) + "@h/db",
				"postgresql://u@h/db?password=" + encode(password),
			} {
				a, _, err := Cutover(given, Known{}, "flujo")
				if err != nil {
					t.Fatal(err)
				}
				config, err := pgconn.ParseConfig(a.Reveal())
				if err != nil {
					t.Fatal(err)
				}
				view := readAsAsyncpg(t, a.Reveal())
				if config.Password != password || view.password != password {
					t.Errorf("%s: pgx reads %q, asyncpg %q", a.Reveal(), config.Password, view.password)
				}
				if masked := a.String(); masked != "postgresql://u:***@h/db?"+opt+tls {
					t.Errorf("masked: %s", masked)
				}
			}
		})
	}
}

func TestCutoverSchemas(t *testing.T) {
	tests := []struct{ schema, want string }{
		{"public", "search_path=public"},
		{"flujo_2", "search_path=flujo_2,public"},
		{"Flujo", `search_path="Flujo",public`},
		{`a"b`, `search_path="a""b",public`},
		{"my state", `search_path="my\ state",public`},
		{`back\slash`, `search_path="back\\slash",public`},
		{"a,b", `search_path="a,b",public`},
		{"2nd", `search_path="2nd",public`},
	}
	for _, test := range tests {
		t.Run(test.schema, func(t *testing.T) {
			a, _, err := Cutover("postgresql://u@localhost/db", Known{}, test.schema)
			if err != nil {
				t.Fatal(err)
			}
			if got := readAsAsyncpg(t, a.Reveal()).settings["options"]; got != "-c "+test.want {
				t.Errorf("got %s, want -c %s", got, test.want)
			}
			if again, _, err := Cutover(a.Reveal(), Known{}, test.schema); err != nil || again != a {
				t.Errorf("not idempotent: %s, %v", again, err)
			}
		})
	}
}

// TestCutoverKeepsSearchPath checks that a search_path that leads to the schema stays as it is, and that any other one
// is overridden.
func TestCutoverKeepsSearchPath(t *testing.T) {
	for options, kept := range map[string]bool{
		"-c search_path=flujo,public":                           true,
		"-csearch_path=Flujo,extensions,PUBLIC -c work_mem=5MB": true,
		`--search-path="flujo",public`:                          true,
		`-c search_path=flujo,\ public`:                         true,
		"-c search_path=$user,public":                           true,
		"-c search_path=x -c search_path=flujo,public":          true,
		"-c search_path=flujo":                                  false,
		"-c search_path=public,flujo":                           false,
		"-c search_path=flujo,public -c search_path=x":          false,
		`-c search_path="Flujo",public`:                         false,
		"-c search_path=flujo_old,public":                       false,
		`-c application_name=x\ -c\ search_path=flujo,public`:   false,
		"-c search_path=flujo,,public":                          false,
		`-c search_path="flujo,public"`:                         false,
	} {
		a, notes, err := Cutover("postgresql://flujo:p@localhost/db?options="+encode(options), Known{}, "flujo")
		if err != nil {
			t.Fatal(err)
		}
		want := options
		if !kept {
			want += " -c search_path=flujo,public"
		}
		if got := readAsAsyncpg(t, a.Reveal()).settings["options"]; got != want {
			t.Errorf("%s: got %s", options, got)
		}
		noted := slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, "overrides it") })
		if noted == (kept || strings.Contains(options, "application_name")) {
			t.Errorf("%s: %q", options, notes)
		}
	}
}

func TestCutoverNotes(t *testing.T) {
	tests := []struct {
		name, url string
		known     Known
		want      string
	}{
		{
			"sslmode",
			"postgresql://u:hunter2@db.example/db",
			Known{},
			"sslmode=require added: host db.example is not local",
		},
		{"weak sslmode", "postgresql://u:hunter2@h/db?sslmode=prefer", Known{}, "sslmode=prefer not changed"},
		{
			"what asyncpg passes on",
			"postgresql://u:hunter2@localhost/db?connect_timeout=5&keepalives=1",
			Known{},
			"connect_timeout, keepalives removed: without effect for Flujo's driver",
		},
		{
			"files",
			"postgresql://u:hunter2@localhost/db?sslrootcert=/ca.pem&sslcert=/c.pem",
			Known{},
			"sslcert, sslrootcert: every machine",
		},
		{
			"system certificates",
			"postgresql://u:hunter2@h/db?sslrootcert=system",
			Known{},
			"sslrootcert=system replaced with sslmode=verify-full",
		},
		{"service", "postgresql://u:hunter2@localhost/db?service=prod", Known{}, "service removed"},
		{
			"search_path before",
			"postgresql://u:hunter2@localhost/db?options=--search-path%3Dx",
			Known{},
			"options already set search_path",
		},
		{
			"search_path parameter",
			"postgresql://u:hunter2@localhost/db?search_path=x",
			Known{},
			"parameter search_path removed",
		},
		{"filled", "postgresql://u:hunter2@/", Known{Host: "h", Database: "d"}, "host h, database d added from"},
		{"no password", "postgresql://u@localhost/db", Known{}, "no password in the address"},
		{"ssl", "postgresql://u:hunter2@h/db?ssl=true", Known{}, "parameter ssl replaced with sslmode=require"},
		{"ssl and sslmode", "postgresql://u:hunter2@h/db?ssl=true&sslmode=verify-ca", Known{}, "parameter ssl removed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, notes, err := Cutover(test.url, test.known, "flujo")
			if err != nil {
				t.Fatal(err)
			}
			if !hasNote(notes, test.want) {
				t.Errorf("no %q in %q", test.want, notes)
			}
			if hasNote(notes, "hunter2") {
				t.Errorf("the password is in %q", notes)
			}
		})
	}
	if _, notes, _ := Cutover("postgresql://u:p@localhost/db?sslcrl=", Known{}, "flujo"); len(notes) != 0 {
		t.Errorf("notes of an address without surprises: %q", notes)
	}
}

// TestCutoverRootCert checks which CA certificates the address names.
func TestCutoverRootCert(t *testing.T) {
	t.Parallel()
	const file = "/etc/ssl/roots.pem"
	system := Known{SystemRoots: file}
	for _, c := range []struct {
		name, query string
		known       Known
		want        string // sslrootcert of the address
		note        string
	}{
		{"verify-full", "sslmode=verify-full", system, file, "sslrootcert=" + file + " added"},
		{"verify-ca", "sslmode=verify-ca", system, file, "every machine that uses the address needs the same file"},
		{"system", "sslrootcert=system", system, file, "sslmode=verify-full"},
		{"system beside root.crt", "sslrootcert=system", Known{SystemRoots: file, HasRootCert: true}, file, "added"},
		{"root.crt", "sslmode=verify-full", Known{SystemRoots: file, HasRootCert: true}, "", "~/.postgresql/root.crt"},
		{"PGSSLROOTCERT", "sslmode=verify-full", Known{SystemRoots: file, SSLRootCert: "/ca.pem"}, "/ca.pem",
			"PGSSLROOTCERT"},
		{"PGSSLROOTCERT=system", "sslmode=verify-full", Known{SystemRoots: file, SSLRootCert: "system"}, file, "added"},
		{"PGSSLMODE", "", Known{SystemRoots: file, SSLMode: "verify-full"}, file, "added"},
		{"unknown", "sslmode=verify-full", Known{}, "", "needs CA certificates"},
		{"named", "sslmode=verify-full&sslrootcert=/own.pem", system, "/own.pem", "sslrootcert: every machine"},
		{"not verified", "sslmode=require", system, "", ""},
		{"socket", "sslmode=verify-full&host=/run", system, "", ""},
	} {
		a, notes, err := Cutover("postgresql://u:p@h/d?"+c.query, c.known, "flujo")
		if err != nil {
			t.Fatal(err)
		}
		given, err := parse(a.Reveal())
		if err != nil || given.values.Get("sslrootcert") != c.want || !hasNote(notes, c.note) {
			t.Errorf("%s: %s, %q, %v", c.name, a.Reveal(), notes, err)
		}
		if again, _, err := Cutover(a.Reveal(), c.known, "flujo"); err != nil || again != a {
			t.Errorf("%s: again %s, %v", c.name, again.Reveal(), err)
		}
	}
}

func hasNote(notes []string, part string) bool {
	return strings.Contains(strings.Join(notes, "\n"), part)
}

func TestCutoverErrors(t *testing.T) {
	ok := "postgresql://u:p@localhost/db"
	tests := []struct {
		name, url, schema string
		want              error
	}{
		{name: "nothing", url: " ", schema: "flujo", want: ErrNotSet},
		{name: "empty schema", url: ok, want: ErrSchema},
		{name: "long schema", url: ok, schema: strings.Repeat("s", 64), want: ErrSchema},
		{name: "$user", url: ok, schema: "$user", want: ErrSchema},
		{name: "NUL in the schema", url: ok, schema: "a\x00b", want: ErrSchema},
		{name: "schema not UTF-8", url: ok, schema: "a\xff", want: ErrSchema},
		{name: "port without a host", url: "postgresql://u:hunter2@:1/db", schema: "flujo", want: ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, _, err := Cutover(test.url, Known{}, test.schema)
			if !errors.Is(err, test.want) || !a.IsZero() {
				t.Fatalf("got %v, %v; want %v", a, err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows what was given: %v", err)
			}
		})
	}
}

func ExampleCutover() {
	a, notes, _ := Cutover("postgresql+psycopg2://app:s%40fe@db.example/med13", Known{}, "flujo")
	fmt.Println(a)
	for _, note := range notes {
		fmt.Println(note)
	}
	// Output:
	// postgresql://app:***@db.example/med13?options=-c%20search_path%3Dflujo%2Cpublic&sslmode=require
	// driver suffix +psycopg2 removed from the scheme: asyncpg only accepts postgresql://
	// sslmode=require added: host db.example is not local
}

func ExampleResolve() {
	// DATABASE_URL names SQLite, so Flujo continues to use its state file.
	a, _, _ := Resolve("", "sqlite+aiosqlite:///app.db", Known{}, "flujo", "/data/flujo_state.db")
	fmt.Println(a)
	// Output:
	// sqlite:////data/flujo_state.db
}

// TestCutoverTakesPGSSLMODE checks that the address has the sslmode of the environment,
// and not a weaker one.
func TestCutoverTakesPGSSLMODE(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, url, mode, want string }{
		{"stronger", "postgresql://u@db.example/d", "verify-full", "sslmode=verify-full"},
		{"none", "postgresql://u@db.example/d", "disable", "sslmode=disable"},
		{"the URL wins", "postgresql://u@db.example/d?sslmode=require", "disable", "sslmode=require"},
	} {
		a, _, err := Cutover(c.url, Known{SSLMode: c.mode}, "flujo")
		if err != nil || !strings.Contains(a.Reveal(), c.want) || strings.Count(a.Reveal(), "sslmode") != 1 {
			t.Errorf("%s: %q, %v", c.name, a.Reveal(), err)
		}
	}
	if a, _, err := Cutover("postgresql://u@localhost/d", Known{SSLMode: "verify-full"}, "flujo"); err != nil ||
		strings.Contains(a.Reveal(), "sslmode") {
		t.Errorf("local: %q, %v", a.Reveal(), err)
	}
}

func TestResolve(t *testing.T) {
	const file = "/srv/flujo_state.db"
	tests := []struct {
		name, explicit, databaseURL, path string
		want                              string
		err                               error
	}{
		{
			name:        "explicit wins",
			explicit:    "postgresql://custom",
			databaseURL: "sqlite:///test.db",
			path:        file,
			want:        "postgresql://custom",
		},
		{
			name:     "explicit is kept byte for byte",
			explicit: " postgresql+x://u:p@ss@h?a+b ",
			path:     file,
			want:     " postgresql+x://u:p@ss@h?a+b ",
		},
		{
			name:        "sqlite DATABASE_URL",
			databaseURL: "sqlite:///test.db",
			path:        file,
			want:        "sqlite:////srv/flujo_state.db",
		},
		{
			name:        "sqlite DATABASE_URL with a driver",
			databaseURL: "sqlite+aiosqlite:///test.db",
			path:        file,
			want:        "sqlite:////srv/flujo_state.db",
		},
		{name: "Postgres DATABASE_URL", databaseURL: "postgresql+psycopg2://user:pass@localhost:5432/db", path: file,
			want: "postgresql://user:pass@localhost:5432/db?" + opt},
		{name: "neither", path: file, err: ErrNotSet},
		{name: "file without an address", databaseURL: "sqlite:///test.db", path: "relative.db", err: ErrPath},
		{name: "another database", databaseURL: "mysql://h/db", path: file, err: ErrNotPostgres},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, _, err := Resolve(test.explicit, test.databaseURL, Known{}, "flujo", test.path)
			if !errors.Is(err, test.err) || a.Reveal() != test.want {
				t.Errorf("got %s, %v; want %s, %v", a.Reveal(), err, test.want, test.err)
			}
		})
	}
}
