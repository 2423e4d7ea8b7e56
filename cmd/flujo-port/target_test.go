package main

import (
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestVariablesThatDisagree checks that two variables with different databases are an error in every command.
func TestVariablesThatDisagree(t *testing.T) {
	t.Parallel()
	file := absolute(t, fixture)
	for _, c := range []struct {
		name      string
		variables [2]string
		differ    string // "" if they agree
	}{
		{"host", [2]string{"DATABASE_URL=postgresql://u:hunter2@a.invalid/d",
			"FLUJO_STATE_URI=postgresql://u@b.invalid/d"},
			"host"},
		{"database", [2]string{"FLUJO_PORT_POSTGRES=postgresql://u:hunter2@127.0.0.1:1/d",
			"DATABASE_URL=postgresql://u@localhost:1/e"}, "database"},
		{"port and user", [2]string{"FLUJO_PORT_POSTGRES=postgresql://u@127.0.0.1:1/d",
			"FLUJO_STATE_URI=postgresql+asyncpg://v:hunter2@127.0.0.1/d"}, "port, user"},
		{"texts only", [2]string{"DATABASE_URL=postgresql+psycopg2://u:hunter2@127.0.0.1:1/d?sslmode=disable",
			"FLUJO_STATE_URI=postgres://localhost./d?user=u&port=1&options=-csearch_path%3Dflujo"}, ""},
		{"parts from PG variables", [2]string{"DATABASE_URL=postgresql://u:hunter2@LOCALHOST:1/d",
			"FLUJO_PORT_POSTGRES=postgresql://[::1]:1"}, ""},
	} {
		for _, args := range [][]string{{"check", "--sqlite", file}, {"migrate", "--sqlite", file},
			{"verify", "--sqlite", file}, {"restore", "--sqlite", "new.db"}, {"init"}, {"uri", "cutover"}} {
			p := newProgram(t, c.variables[0], c.variables[1], "PGUSER=u", "PGDATABASE=d")
			stdout, stderr, code := p.run(t, args...)
			refused := code == 2 &&
				strings.Contains(stderr, "name different PostgreSQL databases: they differ in "+c.differ+";")
			if refused != (c.differ != "") || strings.Contains(stdout+stderr, "hunter2") ||
				strings.Contains(stderr, "name different") != refused {
				t.Errorf("%s: %v: exit %d: %s%s", c.name, args, code, stdout, stderr)
			}
			stdout, stderr, code = p.run(t, append(args, "--postgres", "postgresql://u@localhost:1/x")...)
			if strings.Contains(stderr, "name different") || args[0] == "uri" && code != 0 {
				t.Errorf("%s: %v --postgres: exit %d: %s%s", c.name, args, code, stdout, stderr)
			}
		}
	}
	_, stderr, code := newProgram(t, "DATABASE_URL=postgresql://u@h/d", "FLUJO_STATE_URI=postgresql://u:hunter2@h:x/d").
		run(t, "init")
	if code != 2 || !strings.Contains(stderr, "FLUJO_STATE_URI: malformed") || strings.Contains(stderr, "hunter2") {
		t.Errorf("malformed: exit %d: %s", code, stderr)
	}
}

// TestStateURIAsTarget migrates to the database that only FLUJO_STATE_URI names.
func TestStateURIAsTarget(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	address := pgtest.WithParameter(t, url, "options", "-c search_path=state_of_flujo,public")
	p := newProgram(t, "FLUJO_STATE_URI="+address, "DATABASE_URL=sqlite:///app.db")
	args := []string{"migrate", "--sqlite", file, "--without-pgvector"}
	_, stderr, code := p.run(t, args...)
	if code != 2 || !strings.Contains(stderr, "search_path of FLUJO_STATE_URI leads to another schema") {
		t.Errorf("another schema: exit %d: %s", code, stderr)
	}
	stdout, stderr, code := p.run(t, append(args, "--schema", "state_of_flujo")...)
	if code != 0 || strings.Contains(stdout, "already set search_path") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	if got := ask(t, address, "SELECT count(*) FROM runs"); got != "60" {
		t.Errorf("%s runs", got)
	}
	stdout, stderr, code = p.run(t, "verify", "--sqlite", file, "--schema", "state_of_flujo")
	if code != 0 || !strings.Contains(stdout, "Equal") {
		t.Errorf("verify: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, _, code = p.run(t, "check", "--sqlite", file, "--schema", "state_of_flujo", "--without-pgvector")
	if code != 3 || !strings.Contains(stdout, "already holds rows") {
		t.Errorf("check: exit %d: %s", code, stdout)
	}
}
