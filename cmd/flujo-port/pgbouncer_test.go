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

// pooled is a database behind PgBouncer, for a role that may create schemas there.
type pooled struct {
	*program
	direct   string // the database, as its owner
	env      string // the path of the env file of cutoverThrough
	role     string // quoted
	db       string // quoted
	file     string
	warnings []string // what each migration says
}

// newPooled starts PgBouncer in the given mode.
func newPooled(t *testing.T, mode string, settings ...string) *pooled {
	t.Helper()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	address := pgtest.PgBouncer(t, url, mode, settings...)
	p := &pooled{
		program: newProgram(t, "DATABASE_URL="+pgtest.WithServer(t, role, address)),
		direct:  url,
		role:    pgx.Identifier{ask(t, role, "SELECT current_user")}.Sanitize(),
		db:      pgx.Identifier{ask(t, role, "SELECT current_database()")}.Sanitize(),
		file:    absolute(t, fixture),
	}
	p.env = filepath.Join(p.dir, "cutover.env")
	execute(t, url, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", p.db, p.role))
	return p
}

// setPath sets the role's search_path, as the program advises.
func (p *pooled) setPath(t *testing.T) {
	t.Helper()
	execute(t, p.direct, p.statement("flujo"))
}

// statement returns what the program advises to set the role's search_path.
func (p *pooled) statement(schema string) string {
	return fmt.Sprintf(`ALTER ROLE %s IN DATABASE %s SET search_path = "%s", "public"`, p.role, p.db, schema)
}

// want runs the program and tests its exit code and what it prints.
func (p *pooled) want(t *testing.T, code int, words []string, args ...string) (stdout string) {
	t.Helper()
	if args[0] != "verify" && args[0] != "restore" {
		args = append(args, "--without-pgvector")
	}
	stdout, stderr, got := p.run(t, args...)
	all := strings.Join(strings.Fields(stdout+stderr), " ")
	for _, word := range words {
		if !strings.Contains(all, word) {
			t.Errorf("%v does not say %q", args, word)
			got = -1
		}
	}
	if got != code {
		t.Fatalf("%v: exit %d, want %d: %s%s", args, got, code, stdout, stderr)
	}
	return stdout
}

// commands runs every command that changes or reads rows through PgBouncer, and checks the results by the address
// that migrate prints.
func (p *pooled) commands(t *testing.T) {
	t.Helper()
	migrate := func(words []string, args ...string) {
		p.want(t, 0, words, append([]string{"migrate", "--sqlite", p.file}, args...)...)
	}
	migrate(p.warnings, "--dry-run")
	migrate(p.warnings, "--env-file", p.env)
	content, err := os.ReadFile(p.env)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(string(content), "FLUJO_STATE_URI="), "\n")
	if got := ask(t, line, "SELECT count(*) FROM runs"); got != "60" {
		t.Errorf("%s runs by the address of the env file", got)
	}
	p.want(t, 0, []string{"Equal"}, "verify", "--sqlite", p.file)
	p.want(t, 0, nil, "restore", "--sqlite", filepath.Join(p.dir, "all.db"))
	p.want(t, 0, nil, "restore", "--sqlite", filepath.Join(p.dir, "base.db"), "--base", p.file)
	migrate(p.warnings, "--merge")
	migrate(p.warnings, "--replace")
	p.want(t, 0, nil, "restore", "--sqlite", filepath.Join(p.dir, "merged.db"), "--base", p.file, "--merge")
	for _, name := range []string{"all.db", "base.db", "merged.db"} {
		if got := sqlite(t, filepath.Join(p.dir, name), "SELECT count(*) FROM steps"); got != "213" {
			t.Errorf("%s has %s steps, want 213", name, got)
		}
	}
	if got := ask(t, p.direct, "SELECT count(*) FROM flujo.spans"); got != "261" {
		t.Errorf("%s spans in the database, want 261", got)
	}
}

// works runs the commands that promise Flujo a place, and checks the address that uri prints.
func (p *pooled) works(t *testing.T) {
	t.Helper()
	p.want(t, 0, []string{"✓ cutover address", "✓ pooler the address leads to a pooler; prepared statements"},
		"check", "--sqlite", p.file)
	p.want(t, 0, []string{"is ready for Flujo"}, "init")
	printed := p.want(t, 0, nil, "uri", "cutover", "--connect", "--reveal")
	if got := ask(t, strings.TrimSpace(printed), "SELECT count(*) FROM runs"); got != "0" {
		t.Errorf("%s runs by the address of uri", got)
	}
}

// TestPgBouncerSession runs every command through PgBouncer in session mode. By default it refuses options; then the
// role's search_path is what the address depends on.
func TestPgBouncerSession(t *testing.T) {
	t.Parallel()
	p := newPooled(t, "session")
	statement := p.statement("flujo")
	for _, command := range []string{"check", "migrate"} {
		p.want(t, 3, []string{statement}, command, "--sqlite", p.file)
	}
	if got := ask(t, p.direct, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
		t.Error("a refused migration created the schema")
	}
	p.setPath(t)
	p = p.reconnected(t, "session")
	p.works(t)
	p.commands(t)
}

// reconnected starts another PgBouncer, whose connections to the server are new, for the same database and role.
func (p *pooled) reconnected(t *testing.T, mode string, settings ...string) *pooled {
	t.Helper()
	address := pgtest.PgBouncer(t, p.direct, mode, settings...)
	other := *p
	other.program = &program{dir: p.dir, env: append([]string{}, p.program.env...)}
	last := len(other.program.env) - 1
	url := strings.TrimPrefix(other.program.env[last], "DATABASE_URL=")
	other.program.env[last] = "DATABASE_URL=" + pgtest.WithServer(t, url, address)
	return &other
}

// TestPgBouncerIgnoresOptions tests a PgBouncer that drops options instead of refusing them: the address leads
// elsewhere, which is seen before the commit.
func TestPgBouncerIgnoresOptions(t *testing.T) {
	t.Parallel()
	const ignore = "ignore_startup_parameters=options"
	p := newPooled(t, "session", ignore)
	for _, command := range []string{"check", "migrate"} {
		p.want(t, 3, []string{"ALTER ROLE " + p.role}, command, "--sqlite", p.file)
	}
	if got := ask(t, p.direct, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
		t.Error("a refused migration created the schema")
	}
	p.setPath(t)
	p = p.reconnected(t, "session", ignore)
	p.works(t)
	p.commands(t)
}

// TestPgBouncerTransaction runs every command through PgBouncer in transaction mode. The program works there; Flujo
// does not, since PgBouncer until 1.20 loses its prepared statements, and every command that promises it a place says
// so.
func TestPgBouncerTransaction(t *testing.T) {
	t.Parallel()
	p := newPooled(t, "transaction")
	p.setPath(t)
	p = p.reconnected(t, "transaction")
	p.warnings = []string{"prepares statements by name", "use session pooling"}
	p.want(t, 3, append(p.warnings, "✗ pooler", "✗ Flujo startup"), "check", "--sqlite", p.file)
	p.want(t, 3, p.warnings, "uri", "cutover", "--connect")
	out := p.want(t, 0, p.warnings, "init", "--reveal")
	_, address, _ := strings.Cut(strings.TrimSpace(out), "FLUJO_STATE_URI=")
	if strings.Contains(out, "ready for Flujo") || strings.Contains(address, "options") ||
		ask(t, address, "SELECT count(*) FROM runs") != "0" {
		t.Errorf("init: %s", out)
	}
	p.commands(t)
}

// TestPgBouncerStatement tests that a pooler in statement mode is refused by name, and that check still prints its
// list.
func TestPgBouncerStatement(t *testing.T) {
	t.Parallel()
	p := newPooled(t, "statement")
	for _, command := range []string{"migrate", "verify", "check"} {
		p.want(t, 3, []string{"statement mode"}, command, "--sqlite", p.file)
	}
	p.want(t, 3, []string{"statement mode"}, "init")
	p.want(t, 3, []string{"statement mode"}, "restore", "--sqlite", filepath.Join(p.dir, "new.db"))
	p.want(t, 3, []string{"✓ integrity", "NOT READY"}, "check", "--sqlite", p.file)
	p.want(t, 3, []string{"statement mode", "use session pooling"}, "uri", "cutover", "--connect")
	p.setPath(t)
	p = p.reconnected(t, "statement")
	p.want(t, 3, []string{"statement mode", "use session pooling"}, "uri", "cutover", "--connect")
	for _, settings := range [][]string{nil, {"ignore_startup_parameters=options"}} {
		p = p.reconnected(t, "statement", settings...)
		_, stderr, _ := p.run(t, "uri", "cutover", "--connect")
		if strings.Contains(stderr, "ALTER ROLE") || strings.Contains(stderr, "max_prepared_statements") {
			t.Errorf("uri --connect: %s", stderr)
		}
	}
}

// TestPgBouncerDefaultPath tests that the default search_path "$user", public is enough for a role with the name of the
// schema, before and after the schema exists.
func TestPgBouncerDefaultPath(t *testing.T) {
	t.Parallel()
	p := newPooled(t, "session")
	schema := strings.Trim(p.role, `"`)
	p.want(t, 0, []string{"✓ cutover address", "Ready"}, "check", "--sqlite", p.file, "--schema", schema)
	p.want(t, 0, []string{"is ready for Flujo"}, "init", "--schema", schema)
	p.want(t, 0, []string{"✓ Flujo startup"}, "check", "--sqlite", p.file, "--schema", schema)
	p.want(t, 0, nil, "migrate", "--sqlite", p.file, "--schema", schema)
	printed := p.want(t, 0, nil, "uri", "cutover", "--connect", "--reveal", "--schema", schema)
	if got := ask(t, strings.TrimSpace(printed), "SELECT count(*) FROM runs"); got != "60" {
		t.Errorf("%s runs by the address of uri", got)
	}
	p.want(t, 3, []string{p.statement("flujo")}, "check", "--sqlite", p.file)
	p.program = newProgram(t, "FLUJO_STATE_URI="+strings.TrimSpace(printed))
	again := p.want(t, 0, nil, "uri", "cutover", "--connect", "--reveal", "--schema", schema)
	out, _, _ := p.run(t, "check", "--sqlite", p.file, "--schema", schema, "--without-pgvector")
	if again != printed || !strings.Contains(out, "✓ cutover address") || strings.Contains(out, "! FLUJO_STATE_URI") {
		t.Errorf("by FLUJO_STATE_URI: %s%s", again, out)
	}
}

// TestPgBouncerAdvice tests that the advised statement leads to the schema, whatever its name.
func TestPgBouncerAdvice(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"a,b", "user", "My State", "2nd"} {
		p := newPooled(t, "session")
		p.want(t, 3, []string{p.statement(schema)}, "check", "--sqlite", p.file, "--schema", schema)
		execute(t, p.direct, p.statement(schema))
		p = p.reconnected(t, "session")
		p.want(t, 0, []string{"✓ cutover address"}, "check", "--sqlite", p.file, "--schema", schema)
	}
}

// TestPgBouncerOneProcess tests pools of one process of the server: in transaction mode the prepared statements are
// lost, and in session mode that is not known.
func TestPgBouncerOneProcess(t *testing.T) {
	t.Parallel()
	p := newPooled(t, "session")
	p.setPath(t)
	p = p.reconnected(t, "transaction", "default_pool_size=1")
	lost := []string{"prepares statements by name", "does not exist"}
	p.want(t, 3, append(lost, "✗ pooler"), "check", "--sqlite", p.file)
	p.want(t, 0, lost, "migrate", "--sqlite", p.file, "--dry-run")
	p.want(t, 3, lost, "uri", "cutover", "--connect")
	p.want(t, 0, lost, "init")
	p = p.reconnected(t, "session", "default_pool_size=1")
	unknown := []string{"not known whether the pooler", "at least two"}
	p.want(t, 0, append(unknown, "! pooler"), "check", "--sqlite", p.file)
	p.want(t, 0, unknown, "migrate", "--sqlite", p.file, "--dry-run")
	p.want(t, 0, unknown, "uri", "cutover", "--connect")
	p.want(t, 0, append(unknown, "is ready for Flujo"), "init")
}
