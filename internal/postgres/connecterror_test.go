package postgres_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// wantConnectError checks the kind and words of the error of a connection, and that it
// advises to run again only if that may help.
func wantConnectError(t *testing.T, url string, kind clierr.Kind, words ...string) {
	t.Helper()
	conn, err := postgres.Dial(context.Background(), url)
	if err == nil {
		conn.Close(context.Background())
		t.Fatal("connected")
	}
	if clierr.KindOf(err) != kind {
		t.Errorf("kind %d, want %d: %v", clierr.KindOf(err), kind, err)
	}
	if again := strings.Contains(err.Error(), "run again"); again != (kind == clierr.Failed) {
		t.Errorf("advice: %v", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("lacks %q: %v", word, err)
		}
	}
}

// TestConnectErrors connects to a real server in ways that it refuses.
func TestConnectErrors(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role, limited := pgtest.Role(t, url, ""), pgtest.Role(t, url, "CONNECTION LIMIT 0")
	config := parse(t, role)
	admin := flujotest.Connect(t, url)
	database := pgx.Identifier{config.Database}.Sanitize()
	flujotest.Exec(t, admin, "REVOKE CONNECT ON DATABASE "+database+" FROM PUBLIC")
	passwords := pgtest.ChecksPasswords(t, url)
	for _, c := range []struct {
		name  string
		url   string
		kind  clierr.Kind
		words []string
	}{
		{"no CONNECT", role, clierr.Refused, []string{"42501", "GRANT CONNECT ON DATABASE", config.User}},
		{"unknown parameter", pgtest.WithParameter(t, url, "frobnicate", "1"), clierr.Usage,
			[]string{"42704", "PGOPTIONS"}},
		{"value of a parameter", pgtest.WithParameter(t, url, "work_mem", "much"), clierr.Usage, []string{"22023"}},
		{"parameter of the server", pgtest.WithParameter(t, url, "shared_buffers", "1GB"), clierr.Usage,
			[]string{"55P02"}},
		{"options", pgtest.WithParameter(t, url, "options", "-c frobnicate=1"), clierr.Usage, []string{"42704"}},
		{"options that are none", pgtest.WithParameter(t, url, "options", "-Z"), clierr.Usage, []string{"42601"}},
		{"no such database", pgtest.WithDatabase(t, url, "no_such_db"), clierr.Usage,
			[]string{"3D000", "existing database"}},
		{"connection limit", limited, clierr.Failed, []string{"53300", "connection limit"}},
		{"wrong password", pgtest.WithUser(t, url, config.User, "wrong"), clierr.Usage,
			[]string{"28P01", "PGPASSWORD"}},
		{"no password", strings.Replace(url, userInfo(t, url), config.User+"@", 1), clierr.Usage,
			[]string{"no password was given"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(c.name, "password") && !passwords {
				t.Skip("needs a server that asks for a password")
			}
			wantConnectError(t, c.url, c.kind, c.words...)
		})
	}
	t.Run("parameter of superusers", func(t *testing.T) {
		flujotest.Exec(t, admin, "GRANT CONNECT ON DATABASE "+database+" TO PUBLIC")
		wantConnectError(t, pgtest.WithParameter(t, role, "session_replication_role", "replica"), clierr.Usage, "42501")
	})
	t.Run("setting of the role", func(t *testing.T) {
		flujotest.Exec(t, admin, "ALTER ROLE "+pgx.Identifier{config.User}.Sanitize()+
			" SET session_preload_libraries = 'no_such_library'")
		wantConnectError(t, role, clierr.Usage, "58P01", "setting of the role")
	})
	t.Run("database without connections", func(t *testing.T) {
		closed := pgtest.Database(t)
		flujotest.Exec(t, admin, "ALTER DATABASE "+pgx.Identifier{parse(t, closed).Database}.Sanitize()+
			" ALLOW_CONNECTIONS false")
		wantConnectError(t, closed, clierr.Usage, "ALLOW_CONNECTIONS")
	})
}

// TestConnectErrorsOfTLS connects to servers with and without TLS.
func TestConnectErrorsOfTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t, pgtest.WithTLS())
	url := server.URL("postgres")
	verified := pgtest.WithParameter(t, url, "sslmode", "verify-full")
	wantConnectError(t, verified, clierr.Usage, "certificate", "sslrootcert")
	wrong := pgtest.WithParameter(t, verified, "sslrootcert", server.RootCert())
	wrong = strings.Replace(wrong, "@"+server.Host()+":", "@127.0.0.2:", 1)
	if listens("127.0.0.2:" + server.Port()) {
		wantConnectError(t, wrong, clierr.Usage, "certificate", "verify-full")
	}
	wantConnectError(t, pgtest.WithParameter(t, url, "channel_binding", "require"), clierr.Usage, "channel_binding")
	wantConnectError(t, pgtest.WithParameter(t, url, "require_auth", "md5"), clierr.Usage, "require_auth")
	plain := pgtest.NewProxy(t, server.Addr())
	wantConnectError(t, pgtest.WithParameter(t, plain.Rewrite(url), "sslmode", "require"), clierr.Usage,
		"does not offer TLS")
}

func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// TestConnectErrorsOfPoolers has a proxy answer as servers and poolers do in states that
// a test cannot bring about.
func TestConnectErrorsOfPoolers(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	for _, c := range []struct {
		code, message string
		kind          clierr.Kind
		word          string
	}{
		{"57P03", "the database system is starting up", clierr.Failed, "starting up"},
		{"57P01", "terminating connection due to administrator command", clierr.Failed, "accepts connections"},
		{"53300", "sorry, too many clients already", clierr.Failed, "connection limit"},
		{"53200", "out of memory", clierr.Failed, "wait"},
		{"28000", "no pg_hba.conf entry for host", clierr.Usage, "pg_hba.conf"},
		{"28000", "no pg_hba.conf entry for host", clierr.Usage, "sslmode=require"},
		{"08P01", "unsupported startup parameter: options", clierr.Usage, "ignore_startup_parameters"},
		{"08P01", "unsupported startup parameter in options: search_path", clierr.Usage, "pooler"},
		{"08P01", "no such database: x", clierr.Usage, "pooler"},
		{"08P01", "no such user", clierr.Usage, "check the user"},
		{"08P01", "no more connections allowed (max_client_conn)", clierr.Failed, "accepts connections"},
		{"08P01", "server login has been failing, try again later", clierr.Failed, "accepts connections"},
		{"XX000", "Tenant or user not found", clierr.Usage, "check the user"},
		{"XX000", "invalid page in block 0", clierr.Failed, "accepts connections"},
		{"0A000", "unsupported frontend protocol 3.0", clierr.Usage, "check host and port"},
	} {
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		proxy.RefuseSessions(func(map[string]string) (string, string) { return c.code, c.message })
		wantConnectError(t, proxy.Rewrite(url), c.kind, c.message, c.word)
	}
}

// TestConnectErrorsOfTheNetwork connects to what is no PostgreSQL server.
func TestConnectErrorsOfTheNetwork(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	listen := func(answer string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.ReadFull(conn, make([]byte, 8))
				io.WriteString(conn, answer)
				conn.Close()
			}
		}()
		return pgtest.WithServer(t, url, l.Addr().String())
	}
	wantConnectError(t, listen("HTTP/1.1 400 Bad Request\r\n\r\n"), clierr.Usage, "not a PostgreSQL server")
	wantConnectError(t, listen("J\x00\x00\x00\x0a8.0.36\x00garbage"), clierr.Usage, "not a PostgreSQL server")
	wantConnectError(t, listen(""), clierr.Failed, "can be reached")
	wantConnectError(t, pgtest.WithServer(t, url, "127.0.0.1:1"), clierr.Failed, "refused")
	wantConnectError(t, pgtest.WithServer(t, url, "no-such-host.invalid:5432"), clierr.Usage, "host does not exist")
	folder, err := os.MkdirTemp("", "s") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(folder) })
	wantConnectError(t, "postgresql://u@/d?host="+folder, clierr.Failed, "socket in that folder")
	long := "/" + strings.Repeat("x", 120)
	wantConnectError(t, "postgresql://u@/d?host="+long, clierr.Usage, "a shorter folder")
}

// TestConfigErrors checks what is said about settings that pgx refuses.
func TestConfigErrors(t *testing.T) {
	services := filepath.Join(t.TempDir(), "services")
	notCert := filepath.Join(t.TempDir(), "root.crt")
	for path, content := range map[string]string{services: "[prod]\nhost=h\n", notCert: "no certificate"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ query, word string }{
		{"service=staging&servicefile=" + services, "does not have the service"},
		{"service=staging&servicefile=/no/such/file", "cannot read the service file"},
		{"sslmode=no-verify", "sslmode is not one of"},
		{"sslmode=require&sslrootcert=" + notCert, "has no certificate"},
		{"sslmode=require&sslrootcert=/no/such/file", "cannot read a file"},
		{"sslmode=require&sslcert=" + notCert, "not both set"},
		{"connect_timeout=soon", "connect_timeout"},
		{"target_session_attrs=leader", "target_session_attrs"},
		{"channel_binding=yes", "channel_binding"},
		{"require_auth=magic", "require_auth"},
	} {
		_, err := postgres.Config("postgresql://u:hunter2@h/db?" + c.query)
		e, ok := errors.AsType[*clierr.Error](err)
		if !ok || e.Kind != clierr.Usage || !strings.Contains(err.Error(), c.word) || e.Hint == "" ||
			strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s: %v", c.query, err)
		}
	}
	for _, c := range []struct{ variable, value, word string }{
		{"PGSERVICE", "staging", "does not have the service"},
		{"PGSSLMODE", "no-verify", "PGSSLMODE"},
		{"PGPORT", "hunter2", "PGPORT"},
		{"PGHOST", "postgresql://u:hunter2@h/db", "check PGHOST"},
		{"PGDATABASE", "postgresql://u:hunter2@h/db", "check PGDATABASE"},
		{"PGUSER", "u:hunter2", "colon"},
		{"PGHOST", "u:hunter2", "check PGHOST"}, {"PGHOST", "hunter2@db.example", "check PGHOST"},
		{"PGPASSWORD", "${hunter2}", "the password is a variable that was not expanded"},
		{"PGPASSWORD", "$(hunter2)", "PGPASSWORD"}, {"PGPASSWORD", "{{ hunter2 }}", "not expanded"},
		{"PGUSER", "${hunter2}", "check PGUSER"}, {"PGDATABASE", "${hunter2}", "check PGDATABASE"},
		{"PGHOST", "${hunter2}", "check PGHOST"}, {"PGPASSWORD", "***", "the password is ***"},
	} {
		t.Run(c.variable, func(t *testing.T) {
			t.Setenv("PGSERVICEFILE", services)
			t.Setenv("PGHOST", "h")
			t.Setenv(c.variable, c.value)
			_, err := postgres.Config("")
			if clierr.KindOf(err) != clierr.Usage || !strings.Contains(err.Error(), c.word) ||
				strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v", err)
			}
		})
	}
}

func parse(t *testing.T, url string) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// userInfo returns user:password@ of a URL.
func userInfo(t *testing.T, url string) string {
	t.Helper()
	_, rest, _ := strings.Cut(url, "://")
	user, _, found := strings.Cut(rest, "@")
	if !found {
		t.Skip("the address has no user")
	}
	return user + "@"
}
