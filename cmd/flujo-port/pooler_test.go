package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestPoolerThatRefusesOptions takes a cutover through a pooler like PgBouncer: it fails with the statement that
// the role needs, and then prints an address without options.
func TestPoolerThatRefusesOptions(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	role := pgtest.Role(t, url, "")
	user := ask(t, role, "SELECT current_user")
	execute(t, url, "GRANT CREATE ON DATABASE "+pgx.Identifier{config.Database}.Sanitize()+" TO "+
		pgx.Identifier{user}.Sanitize())
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.RefuseOptions()
	p := newProgram(t, "DATABASE_URL="+proxy.Rewrite(role))
	statement := "ALTER ROLE " + pgx.Identifier{user}.Sanitize() + " IN DATABASE " +
		pgx.Identifier{config.Database}.Sanitize() + ` SET search_path = "flujo", "public"`

	stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector")
	if code != 3 || !strings.Contains(stderr, statement) || strings.Contains(stderr, "run again") {
		t.Fatalf("migrate: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "check", "--sqlite", file, "--without-pgvector")
	if code != 3 || !strings.Contains(strings.Join(strings.Fields(stdout), " "), "✗ cutover address") ||
		!strings.Contains(strings.Join(strings.Fields(stdout), " "), statement) {
		t.Errorf("check: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "init", "--without-pgvector")
	if code != 0 || strings.Contains(unwrapped(stdout), "is ready for Flujo") || !strings.Contains(stderr, statement) ||
		strings.Contains(stdout, "FLUJO_STATE_URI") {
		t.Errorf("init: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "uri", "cutover", "--connect", "--without-pgvector")
	if code != 3 || stdout != "" || !strings.Contains(stderr, statement) {
		t.Errorf("uri: exit %d: %s%s", code, stdout, stderr)
	}

	execute(t, url, statement)
	stdout, stderr, code = p.run(t, "init", "--without-pgvector", "--reveal")
	if code != 0 || !strings.Contains(unwrapped(stdout), "is ready for Flujo") || strings.Contains(stdout, "options=") {
		t.Errorf("init: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "check", "--sqlite", file, "--without-pgvector")
	if code != 0 || !strings.Contains(stdout, "✓ cutover address") {
		t.Errorf("check: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--env-file", "cutover.env")
	if code != 0 || strings.Contains(stdout+stderr, "does not work") || strings.Contains(stdout, "options=") ||
		!strings.Contains(stdout, "because a pooler refuses it") {
		t.Fatalf("migrate: exit %d: %s%s", code, stdout, stderr)
	}
	content, err := os.ReadFile(filepath.Join(p.dir, "cutover.env"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(string(content), "FLUJO_STATE_URI="), "\n")
	if got := ask(t, line, "SELECT count(*) FROM runs"); got != "60" {
		t.Errorf("%s runs by the address of the env file", got)
	}
	stdout, stderr, code = p.run(
		t, "migrate", "--sqlite", file, "--without-pgvector", "--if-needed", "--env-file", "again.env")
	again, err := os.ReadFile(filepath.Join(p.dir, "again.env"))
	if code != 0 || err != nil || string(again) != string(content) ||
		!strings.Contains(stdout, "because a pooler refuses it") {
		t.Errorf("migrate --if-needed: exit %d: %s%s (%v)", code, stdout, stderr, err)
	}
	stdout, stderr, code = p.run(t, "uri", "cutover", "--connect", "--without-pgvector", "--reveal")
	if code != 0 || stdout != line+"\n" || !strings.Contains(stderr, "pooler") {
		t.Errorf("uri: exit %d: %s%s, want %s", code, stdout, stderr, line)
	}
}

// TestURIConnect checks that the address is printed only if a session by it can be opened.
func TestURIConnect(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	p := newProgram(t)
	plain, _, _ := p.run(t, "uri", "cutover", "--postgres", url, "--reveal")
	tried, stderr, code := p.run(t, "uri", "cutover", "--postgres", url, "--reveal", "--connect")
	if code != 0 || tried != plain {
		t.Errorf("exit %d: %s%s, want %s", code, tried, stderr, plain)
	}
	// A table of the application does not count.
	execute(t, url, "CREATE TABLE public.runs (run_id text)", "CREATE SCHEMA other",
		"CREATE TABLE other.runs (run_id text)")
	for schema, says := range map[string]bool{"flujo": true, "no such": true, "public": false, "other": false} {
		stdout, stderr, code := p.run(t, "uri", "cutover", "--connect", "--postgres", url, "--schema", schema)
		if want := fmt.Sprintf("schema %q has no table \"runs\" yet", schema); code != 0 || stdout == "" ||
			strings.Contains(stderr, want) != says {
			t.Errorf("schema %s: exit %d: %s%s, want %q: %v", schema, code, stdout, stderr, want, says)
		}
	}
	stdout, stderr, code := p.run(
		t,
		"uri",
		"cutover",
		"--connect",
		"--postgres",
		pgtest.WithDatabase(t, url, "no_such_db"),
	)
	if code != 2 || stdout != "" || !strings.Contains(stderr, "does not exist") {
		t.Errorf("no such database: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = newProgram(t, "DATABASE_URL=sqlite:///x.db").run(t, "uri", "cutover", "--connect")
	if code != 2 || stdout != "" {
		t.Errorf("a state file: exit %d: %s%s", code, stdout, stderr)
	}
}
