package postgres

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

func TestReadServer(t *testing.T) {
	t.Parallel()
	url := pgtest.EncodedDatabase(t, "SQL_ASCII")
	owner, reader := connect(t, url), pgtest.Role(t, url, "")
	run(t, owner, fmt.Sprintf("ALTER ROLE %s SET default_transaction_read_only = on", roleOf(t, reader)))
	s := open(t, reader).Server
	want := Server{
		Host: hostOf(t, reader), Name: one(t, owner, "current_setting('server_version')"), Encoding: "SQL_ASCII",
		Database: one(t, owner, "current_database()"), Role: roleOf(t, reader), ReadOnly: true,
	}
	if got := fmt.Sprint(s.Version); got != one(t, owner, "current_setting('server_version_num')") {
		t.Errorf("got version %s", got)
	}
	if got := fmt.Sprint(
		s.StackKB,
	); got != one(
		t,
		owner,
		"SELECT setting FROM pg_settings WHERE name = 'max_stack_depth'",
	) {
		t.Errorf("got a stack of %s kB", got)
	}
	if want.Version, want.StackKB = s.Version, s.StackKB; s != want {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	if s.JSONDepth() < 100 {
		t.Errorf("JSON may be nested %d levels deep", s.JSONDepth())
	}
	replica := open(t, pgtest.WithParameter(t, url, "session_replication_role", "replica")).Server
	if !replica.Replica || replica.Role == s.Role {
		t.Errorf("got %+v", replica)
	}
}

// hostOf returns the host and the port of an address, or the folder of its socket.
func hostOf(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(config.Host, "/") {
		return config.Host
	}
	return net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
}

// TestReadOldServer tests that a server that is too old is asked nothing.
func TestReadOldServer(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.RewriteServerParameter("server_version", "9.6.24")
	s := open(t, proxy.Rewrite(url)).Server
	if want := (Server{Host: hostOf(t, proxy.Rewrite(url)), Version: 90006, Name: "9.6.24"}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	wantError(t, s.CheckSupported(), clierr.Refused, "PostgreSQL 9.6.24, older than 13")
	_, err := OpenSnapshot(background, proxy.Rewrite(url), schema, 0)
	wantError(t, err, clierr.Refused, "PostgreSQL 9.6.24")
}

func TestVersionNumber(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{
		"15.18 (Debian 15.18-0)": 150018, "16": 160000, "17beta1": 170000, "9.6.24": 90006, "18.1": 180001,
	} {
		if got, err := versionNumber(name); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "devel"} {
		if _, err := versionNumber(name); err == nil {
			t.Errorf("%q: got no error", name)
		}
	}
}

func TestCheckSupported(t *testing.T) {
	t.Parallel()
	good := Server{Version: 130000, Name: "13.0", Encoding: "UTF8", Database: "d", Role: "r", ReadOnly: true}
	if err := good.CheckSupported(); err != nil {
		t.Errorf("got error %v", err)
	}
	for want, change := range map[string]func(*Server){
		"older than 13":               func(s *Server) { s.Version = 129999 },
		"is a standby":                func(s *Server) { s.Standby = true },
		"session_replication_role":    func(s *Server) { s.Replica = true },
		`"d" has the encoding LATIN1`: func(s *Server) { s.Encoding = "LATIN1" },
	} {
		s := good
		change(&s)
		wantError(t, s.CheckSupported(), clierr.Refused, want)
	}
}

func TestLZ4(t *testing.T) {
	t.Parallel()
	conn := open(t, pgtest.Database(t))
	has, err := conn.LZ4(background)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Run(background, "SET default_toast_compression = lz4"); has != (err == nil) {
		t.Errorf("got %t, but setting it returns %v", has, err)
	}
}
