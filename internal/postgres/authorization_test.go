package postgres_test

import (
	"os"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
)

// setRules replaces the rules of a server's pg_hba.conf. The superuser may still connect.
func setRules(t *testing.T, server *pgtest.Server, rules string) {
	t.Helper()
	url := server.URL("postgres")
	file := flujotest.OneAt(t, url, "SELECT current_setting('hba_file')")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	rules = "host all " + server.User() + " 127.0.0.1/32 scram-sha-256\n" + rules + "\n"
	if err := os.WriteFile(file, []byte(rules), info.Mode()); err != nil { // keeps its owner
		t.Fatal(err)
	}
	flujotest.ExecAt(t, url, "SELECT pg_reload_conf()")
	wrong := flujotest.OneAt(t, url, "SELECT coalesce(string_agg(error, ', '), '') FROM pg_hba_file_rules")
	if wrong != "" {
		t.Fatal(wrong)
	}
}

// TestAuthorizationErrors tests the causes of an invalid authorization, none of which is a missing password.
func TestAuthorizationErrors(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t, pgtest.WithTLS())
	url := server.URL("postgres")
	flujotest.ExecAt(t, url, "CREATE ROLE team NOLOGIN", "CREATE ROLE app LOGIN")
	for _, c := range []struct {
		name, rules, url string
		words            []string
	}{
		{"no such role", "host all all all trust", pgtest.WithUser(t, url, "nobody_here", ""),
			[]string{"28000", "exists and may log in"}},
		{"no such role, with a password", "host all all all trust", pgtest.WithUser(t, url, "nobody_here", "x"),
			[]string{"28000", "exists and may log in"}},
		{"no LOGIN", "host all all all trust", pgtest.WithUser(t, url, "team", ""), []string{"28000", "LOGIN"}},
		{"reject", "host all app all reject", pgtest.WithUser(t, url, "app", ""), []string{"28000", "pg_hba.conf"}},
		{"no entry", "", pgtest.WithUser(t, url, "app", ""), []string{"28000", "have an entry", "pg_hba.conf"}},
		{"certificate", "hostssl all app all cert", pgtest.WithParameter(t, pgtest.WithUser(t, url, "app", ""),
			"sslmode", "require"), []string{"ssl_ca_file", "administrator"}},
		{"another user of the system", "local all app peer",
			pgtest.WithUser(t, server.SocketURL("postgres"), "app", ""), []string{"28000", "another proof"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			setRules(t, server, c.rules)
			wantConnectError(t, c.url, clierr.Usage, c.words...)
			_, err := postgres.Open(t.Context(), c.url, "flujo")
			if err == nil || strings.Contains(err.Error(), "no password was given") {
				t.Errorf("got error %v", err)
			}
		})
	}
}

// TestChannelBindingWithoutTLS tests that sslmode=disable, which does not help, is not all that is advised.
func TestChannelBindingWithoutTLS(t *testing.T) {
	t.Parallel()
	url := pgtest.WithParameter(t, pgtest.StartFor(t).URL("postgres"), "channel_binding", "require")
	for _, mode := range []string{"require", "prefer", "verify-full"} {
		wantConnectError(t, pgtest.WithParameter(t, url, "sslmode", mode), clierr.Usage, "channel_binding")
	}
	wantConnectError(t, pgtest.WithParameter(t, url, "sslmode", "disable"), clierr.Usage, "channel_binding")
}
