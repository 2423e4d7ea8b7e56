package main

import (
	"fmt"
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

// TestStateURIWithoutSearchPath checks that every command uses and prints one address, derived from FLUJO_STATE_URI,
// and says of FLUJO_STATE_URI itself what is true.
func TestStateURIWithoutSearchPath(t *testing.T) {
	t.Parallel()
	file := absolute(t, fixture)
	for _, c := range []struct {
		name, parameter, value string
		databaseURL            bool   // is set too
		rolePath               string // of the role
		note                   string // of uri, init and migrate
		warned                 bool   // by check
	}{
		{name: "none", note: "itself sets no search_path", warned: true},
		{name: "next to DATABASE_URL", databaseURL: true, note: "itself sets no search_path", warned: true},
		{name: "of the role", rolePath: "nowhere, Flujo", note: "itself sets no search_path"},
		{name: "of the role, elsewhere", rolePath: "public", note: "itself sets no search_path", warned: true},
		{name: "as a parameter", parameter: "search_path", value: "flujo"},
		{name: "in options", parameter: "options", value: "-csearch_path=flujo,extensions,public"},
		{name: "other options", parameter: "options", value: "-c work_mem=5MB", note: "itself sets no search_path",
			warned: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			given := pgtest.Role(t, url, "")
			user := ask(t, given, "SELECT quote_ident(current_user)")
			execute(
				t,
				url,
				"GRANT CREATE ON DATABASE "+ask(t, url, "SELECT quote_ident(current_database())")+" TO "+user,
			)
			if c.rolePath != "" {
				execute(t, url, "ALTER ROLE "+user+" SET search_path = "+c.rolePath)
			}
			if c.parameter != "" {
				given = pgtest.WithParameter(t, given, c.parameter, c.value)
			}
			variables := []string{"FLUJO_STATE_URI=" + given}
			if c.databaseURL {
				variables = append(variables, "DATABASE_URL="+pgtest.WithParameter(t, given, "work_mem", "5MB"))
			}
			p := newProgram(t, variables...)
			stdout, stderr, code := p.run(t, "check", "--sqlite", file, "--without-pgvector")
			if code != 0 || strings.Contains(stdout, "! FLUJO_STATE_URI") != c.warned {
				t.Errorf("check: exit %d: %s%s", code, stdout, stderr)
			}
			printed, stderr, code := p.run(t, "uri", "cutover", "--reveal")
			if code != 0 || strings.Contains(stderr, "FLUJO_STATE_URI itself") != (c.note != "") ||
				!strings.Contains(stderr, c.note) {
				t.Errorf("uri: exit %d: %s%s", code, printed, stderr)
			}
			for _, args := range [][]string{
				{"uri", "cutover", "--reveal", "--connect"}, {"init", "--reveal"},
				{"migrate", "--reveal", "--sqlite", file},
			} {
				stdout, stderr, code := p.run(t, append(args, "--without-pgvector")...)
				if code != 0 || !strings.Contains("\n"+stdout, strings.TrimSpace(printed)+"\n") ||
					!strings.Contains(stdout+stderr, c.note) || strings.Contains(stdout+stderr, "pooler") {
					t.Errorf("%v: exit %d: %s%s, want %s", args, code, stdout, stderr, printed)
				}
			}
			if got := ask(t, strings.TrimSpace(printed), "SELECT count(*) FROM runs"); got != "60" {
				t.Errorf("%s runs by the printed address", got)
			}
			if got := ask(t, given, "SELECT to_regclass('runs') IS NULL"); got != fmt.Sprint(c.warned) {
				t.Errorf("by the given address, no runs: %s", got)
			}
			p = newProgram(t, "FLUJO_STATE_URI="+strings.TrimSpace(printed))
			stdout, stderr, code = p.run(t, "uri", "cutover", "--reveal")
			if code != 0 || stdout != printed || !strings.Contains(stderr, "printed unchanged") {
				t.Errorf("again: exit %d: %s%s", code, stdout, stderr)
			}
		})
	}
}
