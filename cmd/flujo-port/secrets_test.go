package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestCredentialsAreNotPaths passes credentials without an address in place of a file, a
// schema and a role. No file is created.
func TestCredentialsAreNotPaths(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	for _, value := range []string{
		"admin:" + secret, "u:" + secret, secret + "@db.example", "pw=" + secret, ":" + secret,
		`admin:hunter\` + secret,
		"sqlite:///admin:" + secret, "sqlite://admin:" + secret, " admin:" + secret,
	} {
		p := newProgram(t, "PGHOST=localhost", "PGDATABASE=db")
		variable := newProgram(t, "PGHOST=localhost", "PGDATABASE=db", "FLUJO_PORT_SQLITE="+value)
		toml := newProgram(t, "PGHOST=localhost", "PGDATABASE=db")
		write(t, filepath.Join(toml.dir, flujoTOML), "state_uri = '''sqlite:///"+value+"'''\n")
		for _, run := range []struct {
			p    *program
			args []string
		}{
			{p, []string{"check", "--sqlite", value}}, {p, []string{"migrate", "--sqlite", value}},
			{p, []string{"verify", "--sqlite", value}}, {p, []string{"uri", "rollback", "--sqlite", value}},
			{p, []string{"uri", "rollback", "--allow-missing", "--sqlite", value}},
			{p, []string{"restore", "--sqlite", value}},
			{p, []string{"restore", "--sqlite", "new.db", "--base", value}},
			{p, []string{"migrate", "--sqlite", "x.db", "--env-file", value}},
			{p, []string{"check", "--schema", value}}, {p, []string{"uri", "cutover", "--schema", value}},
			{variable, []string{"check"}}, {variable, []string{"migrate"}}, {variable, []string{"uri", "rollback"}},
			{toml, []string{"check"}}, {toml, []string{"uri", "rollback", "--allow-missing"}},
			{p, []string{"init", "--owner", value}}, {p, []string{"init", "--grant-to", value}},
			{p, []string{"init", "--grant-read", value}},
		} {
			if run.args[0] == "init" && strings.Contains(value, "@") ||
				run.p == toml && strings.HasPrefix(value, "sqlite:") {
				continue // a role may be called user@domain
			}
			stdout, stderr, code := run.p.run(t, run.args...)
			if code != 2 || strings.Contains(stdout+stderr, secret) {
				t.Errorf("%q: exit %d: %s%s", run.args, code, stdout, stderr)
			}
			if slices.Contains(run.args, "--sqlite") && !strings.Contains(stderr, "./NAME") {
				t.Errorf("%q: how to name a file is not said: %s", run.args, stderr)
			}
		}
		if files, err := os.ReadDir(p.dir); err != nil || len(files) > 0 {
			t.Errorf("%q: created %v: %v", value, files, err)
		}
	}
}

// TestFilesThatLookLikeCredentials checks that a path with a folder, and a file that
// exists, are files.
func TestFilesThatLookLikeCredentials(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"admin:x", "x@db.example", "a=b"} {
		p := newProgram(t)
		for _, path := range []string{"./" + name, filepath.Join(p.dir, name), "sqlite:///./" + name} {
			_, stderr, code := p.run(t, "check", "--sqlite", path)
			if code != 3 && code != 2 || strings.Contains(stderr, "hidden") {
				t.Errorf("%s: exit %d: %s", path, code, stderr)
			}
			stdout, stderr, code := p.run(t, "uri", "rollback", "--allow-missing", "--sqlite", path)
			if code != 0 || !strings.Contains(stdout, name) {
				t.Errorf("%s: exit %d: %s%s", path, code, stdout, stderr)
			}
		}
		write(t, filepath.Join(p.dir, name), "")
		stdout, stderr, code := p.run(t, "uri", "rollback", "--sqlite", name)
		if code != 0 || !strings.HasSuffix(stdout, "/"+name+"\n") {
			t.Errorf("%s: exit %d: %s%s", name, code, stdout, stderr)
		}
	}
}

// TestRolesOfCloudProviders checks that a role may be called user@domain.
func TestRolesOfCloudProviders(t *testing.T) {
	t.Parallel()
	_, stderr, code := newProgram(t).run(t, "init", "--postgres", pgtest.Database(t), "--without-pgvector",
		"--owner", "me@example.com")
	if code != 2 || !strings.Contains(stderr, `role "me@example.com" does not exist`) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestSettingsAreNotEchoed checks that what the server says about settings of the address
// and of PGOPTIONS is printed without them, and that addresses are printed without the
// options that are not understood.
func TestSettingsAreNotEchoed(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	url := pgtest.Database(t)
	for _, c := range []struct{ name, value string }{
		{"options", secret}, {"options", "-c " + secret}, {"options", "-c" + secret}, {"options", "--" + secret},
		{"options", "-c work_mem=" + secret}, {"options", "-c jit=off -c work_mem='" + secret + "'"},
		{"options", `-c work_mem=a\ ` + secret}, {"options", "-" + secret}, {"work_mem", secret}, {"datestyle", secret},
		{"TimeZone", secret}, {"client_min_messages", secret},
	} {
		for variable, address := range map[string]string{
			"": pgtest.WithParameter(t, url, c.name, c.value), "PGOPTIONS=" + c.value: url,
		} {
			if variable != "" && c.name != "options" {
				continue
			}
			p := newProgram(t, "DATABASE_URL="+address, variable)
			for _, args := range [][]string{{"init"}, {"check", "--sqlite", absolute(t, fixture)}} {
				stdout, stderr, code := p.run(t, args...)
				if code == 0 || strings.Contains(stdout+stderr, secret) ||
					!strings.Contains(stdout+stderr, "SQLSTATE") {
					t.Errorf("%s%s=%s %v: exit %d: %s%s", variable, c.name, c.value, args, code, stdout, stderr)
				}
			}
		}
	}
	for parameter, value := range map[string]string{
		"app.jwt": secret, "options": "-c app.jwt=" + secret, "OPTIONS.x": secret,
	} {
		stdout, stderr, code := newProgram(t).run(t, "init", "--without-pgvector", "--postgres",
			pgtest.WithParameter(t, url, parameter, value))
		if code != 0 || strings.Contains(stdout+stderr, secret) {
			t.Errorf("%s=%s: exit %d: %s%s", parameter, value, code, stdout, stderr)
		}
	}
	stdout, stderr, code := newProgram(t).run(t, "uri", "cutover", "--postgres",
		pgtest.WithParameter(t, url, "options", secret))
	if code != 0 || strings.Contains(stdout+stderr, secret) || !strings.Contains(stdout, "options=***") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}
