package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestVerify checks the exit codes, messages and JSON of verify for each verdict
// that a test of the binary can produce.
func TestVerify(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	p := newProgram(t, "DATABASE_URL="+url)
	if stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector"); code != 0 ||
		!strings.HasPrefix(stdout, "Migrated and verified: 674 rows in ") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code := p.run(t, "verify", "--sqlite", file)
	if code != 0 || !strings.HasPrefix(stdout, "Equal") ||
		!strings.Contains(unwrapped(stdout), "the file's checksum equals the receipt's") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}

	execute(t, url, "UPDATE flujo.steps SET status = 'other'", "DELETE FROM flujo.evaluations WHERE id = 3")
	stdout, _, code = p.run(t, "verify", "--sqlite", file)
	if code != 0 || !strings.HasPrefix(stdout, "Drift: the copy was correct") ||
		strings.Count(unwrapped(stdout), `column status: the state file has`) != 20 ||
		!strings.Contains(unwrapped(stdout), `evaluations "3" is not in PostgreSQL (since the migration)`) {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	stdout, _, code = p.run(t, "verify", "--sqlite", file, "--json")
	var r struct {
		Verdict     string
		Tables      []struct{ Name string }
		Differences []struct{ Table, Column string }
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 || r.Verdict != "drift" ||
		len(r.Differences) != 214 {
		t.Errorf("exit %d, %v: %.3000s", code, err, stdout)
	}

	content, err := os.ReadFile(absolute(t, fixture))
	if err != nil {
		t.Fatal(err)
	}
	other := write(
		t,
		filepath.Join(t.TempDir(), "other.db"),
		strings.ReplaceAll(string(content), "PubMed query", "PubMed Query"),
	)
	stdout, stderr, code = p.run(t, "verify", "--sqlite", other)
	if code != 3 || !strings.HasPrefix(stdout, "Source mismatch") ||
		!strings.Contains(stderr, "not the file that was migrated") ||
		!strings.Contains(stderr, "nothing was changed") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}

	execute(t, url, "DROP TABLE flujo.flujo_port_receipts")
	stdout, stderr, code = p.run(t, "verify", "--sqlite", file)
	if code != 4 || !strings.HasPrefix(stdout, "Mismatch") || !strings.Contains(stderr, "no receipt") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// TestMigrateThatIsTamperedWith checks that rows changed by the database are exit
// code 4, appear in the text, the error and the JSON, and leave nothing.
func TestMigrateThatIsTamperedWith(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	execute(t, url, `CREATE FUNCTION public.tamper() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE flujo.steps SET token_counts = -1 WHERE id = 7 AND token_counts IS DISTINCT FROM -1; END $$`,
		"CREATE EVENT TRIGGER tamper ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION public.tamper()")
	p := newProgram(t, "DATABASE_URL="+url)
	stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector")
	if code != 4 || !strings.HasPrefix(stdout, "Verification failed") ||
		!strings.Contains(stdout, `steps "7", column token_counts: the state file has `) ||
		!strings.Contains(stderr, "column token_counts") ||
		!strings.Contains(stderr, "nothing was committed") ||
		strings.Contains(stdout, "cutover ") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, _, code = p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--json", "--dry-run")
	var r struct {
		Committed   bool
		Differences []struct{ Table, Key, Column string }
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 4 || r.Committed || len(r.Differences) != 1 ||
		r.Differences[0].Key != "7" {
		t.Errorf("exit %d, %v: %.3000s", code, err, stdout)
	}
	if got := ask(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
		t.Error("something was committed")
	}
	stdout, stderr, code = p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--verify", "counts")
	if code != 0 || !strings.HasPrefix(stdout, "Migrated, counted but not compared: 674 rows") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "verify", "--sqlite", file)
	if code != 4 || !strings.HasPrefix(stdout, "Copy mismatch") ||
		!strings.Contains(stderr, "1 row in PostgreSQL differs from the state file") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if _, stderr, code := p.run(t, "migrate", "--sqlite", file, "--verify", "hope"); code != 2 ||
		!strings.Contains(stderr, "--verify must be content or counts") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
}

// TestCheck checks the exit codes and output formats of check.
func TestCheck(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	p := newProgram(t, "DATABASE_URL="+url)
	stdout, stderr, code := p.run(t, "check", "--sqlite", file, "--without-pgvector")
	if code != 0 || !strings.Contains(stdout, "✓ integrity") || !strings.Contains(stdout, "! runs in progress") ||
		!strings.Contains(stdout, "Ready") ||
		strings.Contains(stdout, "✗") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if got := ask(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname ~ 'flujo'"); got != "0" {
		t.Error("check left a schema behind")
	}
	stdout, stderr, code = newProgram(t).run(t, "check", "--sqlite", file)
	if code != 5 || !strings.HasSuffix(unwrapped(stdout), "the exit code is 5.") ||
		strings.Contains(stdout, "Server\n") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if _, stderr, code = p.run(t, "migrate", "--sqlite", file, "--without-pgvector"); code != 0 {
		t.Fatal(stderr)
	}
	stdout, stderr, code = p.run(t, "check", "--sqlite", file, "--without-pgvector")
	if code != 3 || !strings.Contains(stdout, "✗ schema") || !strings.Contains(stdout, "NOT READY") ||
		strings.Count(stderr, "flujo-port:") != 1 {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, _, code = p.run(t, "check", "--sqlite", file, "--without-pgvector", "--json")
	var r struct {
		Ready   bool
		Results []struct{ Group, Name, Status, Message, Hint string }
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 3 || r.Ready || len(r.Results) < 20 {
		t.Errorf("exit %d, %v: %.3000s", code, err, stdout)
	}
	// A check that cannot run is a line of the report and does not end it.
	super := pgtest.Database(t)
	role := pgtest.Role(t, super, "")
	execute(
		t,
		super,
		"CREATE SCHEMA flujo",
		"CREATE TABLE flujo.flujo_port_originals (a int)",
		"GRANT USAGE, CREATE ON SCHEMA flujo TO PUBLIC",
	)
	stdout, stderr, code = newProgram(
		t,
	).run(t, "check", "--sqlite", file, "--postgres", role, "--without-pgvector", "--json")
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 3 || r.Ready || len(r.Results) < 20 ||
		!strings.Contains(stdout, "SELECT on table flujo_port_originals") {
		t.Errorf("exit %d, %v: %.3000s%s", code, err, stdout, stderr)
	}
	bad := newProgram(t, "DATABASE_URL=postgresql://nobody:hunter2@127.0.0.1:1/none")
	stdout, stderr, code = bad.run(t, "check", "--sqlite", file)
	if code != 3 || !strings.Contains(stdout, "✗ reachable") || strings.Contains(stdout+stderr, "hunter2") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

func execute(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
