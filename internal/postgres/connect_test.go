package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
)

// secret is a password that no error may contain. Some tests write it where a parser takes it for something else.
const secret = "pA55w0rd"

func wantNoSecret(t *testing.T, err error, password string) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(fmt.Sprintf("%s %+v", e, e), password) {
			t.Errorf("the error contains the password: %v", e)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, url, want string }{
		{"several hosts", "postgresql://u:" + secret + "@a,b/d", "several hosts"},
		{"several ports", "postgresql://u:" + secret + "@a:1,a:2/d", "several hosts"},
		{"port", "postgresql://u:" + secret + "@a:x/d", "the port is not a number"},
		{"unencoded password", "postgresql://u:" + secret + "%zz@a/d", "malformed"},
		{"password as port", "postgresql://u@a:" + secret + "/d", "the port is not a number"},
		{"sslmode", "postgresql://u:" + secret + "@a/d?sslmode=" + secret, "sslmode is not one of"},
		{"keyword/value", "host=a password='" + secret, "malformed"},
		{
			"missing certificate", "postgresql://u:" + secret + "@a/d?sslmode=verify-ca&sslrootcert=missing.crt",
			"missing.crt",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Config(tc.url)
			wantError(t, err, clierr.Usage, tc.want)
			wantNoSecret(t, err, secret)
			_, err = Dial(background, tc.url)
			wantError(t, err, clierr.Usage, tc.want)
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgresql://u:pw@a:5433/d?sslmode=prefer", "host=a port=5433 user=u dbname=d password=pw",
	} {
		config, err := Config(url)
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != "a" || config.Port != 5433 || config.User != "u" || config.Database != "d" ||
			config.Password != "pw" {
			t.Errorf("%s: got %+v", url, config.Config)
		}
	}
}

// TestConfigEnvironment tests that an error of the PG* variables names the variable. Whether pgx's default host
// is a Unix socket, for which it reads no PGSSLMODE, depends on the machine.
func TestConfigEnvironment(t *testing.T) {
	for name, host := range map[string]string{"PGSSLMODE": "/nowhere", "PGPORT": "/nowhere", "PGCONNECT_TIMEOUT": "a"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PGHOST", host)
			t.Setenv(name, secret)
			_, err := Config("postgresql://u@b/d")
			wantError(t, err, clierr.Usage, name)
			wantNoSecret(t, err, secret)
		})
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	url := pgtest.WithPassword(t, pgtest.Database(t))
	config, err := Config(url)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(t *testing.T, url string, kind clierr.Kind, parts ...string) {
		t.Helper()
		_, err := Dial(background, url)
		wantError(t, err, kind, append(parts, "connect to PostgreSQL at ")...)
		wantNoSecret(t, err, config.Password)
		wantNoSecret(t, err, secret)
	}
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		if !pgtest.ChecksPasswords(t, url) {
			t.Skip("the server checks no passwords")
		}
		dial(t, pgtest.WithUser(t, url, config.User, secret), clierr.Usage, "28P01", "check the user, the password")
	})
	t.Run("database", func(t *testing.T) {
		t.Parallel()
		dial(t, pgtest.WithDatabase(t, url, "flujo_port_test_none"), clierr.Usage, "3D000", "existing database")
	})
	t.Run("too many connections", func(t *testing.T) {
		t.Parallel()
		dial(t, pgtest.Role(t, url, "CONNECTION LIMIT 0"), clierr.Failed, "53300")
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		listener.Close()
		dial(
			t,
			pgtest.WithServer(t, url, address),
			clierr.Failed,
			address,
			"refused",
			"check that the server is running",
		)
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(background)
		cancel()
		if _, err := Dial(ctx, url); err != context.Canceled {
			t.Errorf("got error %v", err)
		}
	})
}

func TestCause(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for name, err := range map[string]error{
		"itself":   refused,
		"wrapped":  fmt.Errorf("dial a: %w", fmt.Errorf("tcp: %w", refused)),
		"the last": fmt.Errorf("all failed: %w", errors.Join(io.EOF, fmt.Errorf("dial b: %w", refused))),
	} {
		if got := cause(err); got != refused {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// TestDialSession tests what a session is like whatever the database's settings are.
func TestDialSession(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := connect(t, url)
	run(t, conn, fmt.Sprintf("ALTER DATABASE %s SET client_encoding = 'LATIN1'", one(t, conn, "current_database()")))
	for name, url := range map[string]string{
		"flujo-port": url, "other": pgtest.WithParameter(t, url, "application_name", "other"),
	} {
		dialed, err := Dial(background, url)
		if err != nil {
			t.Fatal(err)
		}
		defer dialed.Close(background)
		if got := one(t, dialed, "current_setting('application_name')"); got != name {
			t.Errorf("got the name %q, want %q", got, name)
		}
		if got := one(t, dialed, "current_setting('client_encoding')"); got != "UTF8" {
			t.Errorf("got the encoding %s", got)
		}
		if got := one(t, dialed, "SELECT count(*) FROM pg_prepared_statements"); got != "0" {
			t.Errorf("%s statements are prepared by name", got)
		}
	}
}

// TestCancelledStatement tests that a connection is usable after the context of a statement ended.
func TestCancelledStatement(t *testing.T) {
	t.Parallel()
	conn := open(t, pgtest.Database(t))
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	if err := conn.Run(ctx, "BEGIN; SELECT pg_sleep(600)"); err == nil {
		t.Fatal("the statement was not cancelled")
	}
	if conn.IsClosed() {
		t.Fatal("the connection is closed")
	}
	run(t, conn.Conn, "ROLLBACK")
	if got := one(t, conn.Conn, "7"); got != "7" {
		t.Errorf("got %s", got)
	}
}
