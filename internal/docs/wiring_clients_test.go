package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// The environment variables with a Python that has asyncpg, Flujo's driver, and one that has Alembic and psycopg2.
// `make test-clients` sets them.
const (
	envAsyncpg = "FLUJO_PORT_TEST_ASYNCPG"
	envAlembic = "FLUJO_PORT_TEST_ALEMBIC"
)

// pythonWith returns the Python of an environment variable, or skips the test.
func pythonWith(t *testing.T, variable string) string {
	t.Helper()
	program := os.Getenv(variable)
	if program == "" {
		t.Skipf("needs %s: run `make test-clients`", variable)
	}
	return program
}

// smoke runs the smoke test of the page by an address.
func smoke(t *testing.T, address string) (stdout, stderr string, code int) {
	t.Helper()
	program := pythonWith(t, envAsyncpg)
	return run(t, inFolder(wiringModules(t), []string{"FLUJO_STATE_URI=" + address}, program, "smoke.py"))
}

// TestAsyncpgWiring runs the smoke test by the address that flujo_state.py derives, over TCP and over a Unix socket as
// with Cloud SQL, and by addresses that do not work.
func TestAsyncpgWiring(t *testing.T) {
	t.Parallel()
	program := pythonWith(t, envAsyncpg)
	if lines := strings.Count(open(t, "wiring.md").block("python smoke.py"), "\n"); lines != 5 {
		t.Errorf("the smoke test has %d lines", lines)
	}
	server := pgtest.StartFor(t)
	url, socket := server.URL("postgres"), server.SocketURL("postgres")
	flujotest.Migrate(t, flujotest.Options(t, absolute(t, flujotest.Fixture), url))
	const found = "<Record schema='flujo' runs=60>\n"
	for _, address := range []string{url, socket, strings.Replace(url, "postgresql:", "postgresql+psycopg2:", 1)} {
		address = strings.ReplaceAll(address, "%2F", "/")
		c := inFolder(wiringModules(t), []string{"DATABASE_URL=" + address, "FLUJO_STATE_URI="}, program, "-c",
			"import flujo_state, runpy; flujo_state.configure(); runpy.run_path('smoke.py')")
		if stdout, stderr, code := run(t, c); code != 0 || stdout != found {
			t.Errorf("%s: exit %d: %s%s", address, code, stdout, stderr)
		}
	}
	// Without a search_path there is no table.
	if stdout, stderr, code := smoke(t, url); code == 0 || stdout != "" || !strings.Contains(stderr, "UndefinedTable") {
		t.Errorf("without a search_path: exit %d: %s%s", code, stdout, stderr)
	}
	// Flujo's driver ignores sslmode=require on a socket, and fails with it where there is no TLS.
	cutover := flujotest.Cutover(t, socket).Reveal()
	if stdout, stderr, code := smoke(t, pgtest.WithParameter(t, cutover, "sslmode", "require")); stdout != found {
		t.Errorf("sslmode=require on a socket: exit %d: %s", code, stderr)
	}
	if _, stderr, code := smoke(t, pgtest.WithParameter(t, cutover, "sslmode", "verify-full")); code == 0 ||
		!strings.Contains(stderr, "root certificate file") {
		t.Errorf("sslmode=verify-full on a socket: exit %d: %s", code, stderr)
	}
	cutover = flujotest.Cutover(t, url).Reveal()
	if _, stderr, code := smoke(t, pgtest.WithParameter(t, cutover, "sslmode", "require")); code == 0 ||
		!strings.Contains(stderr, "rejected SSL upgrade") {
		t.Errorf("sslmode=require without TLS: exit %d: %s", code, stderr)
	}
}

// TestPgBouncerWiring runs PgBouncer with the settings of the page, and the smoke test by the address that the program
// prints.
func TestPgBouncerWiring(t *testing.T) {
	t.Parallel()
	p, url := open(t, "wiring.md"), pgtest.Database(t)
	_, section, found := strings.Cut(p.block("ini pgbouncer.ini"), "[pgbouncer]\n")
	var mode string
	var settings []string
	for line := range strings.Lines(section) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		if name == "pool_mode" {
			mode = value
		} else {
			settings = append(settings, name+"="+value)
		}
	}
	if !found || mode == "" || len(settings) == 0 {
		t.Fatalf("got mode %q, settings %q", mode, settings)
	}
	role := pgtest.Role(t, url, "")
	name := query(t, role, "SELECT quote_ident(current_user)")[0]
	database := query(t, role, "SELECT quote_ident(current_database())")[0]
	flujotest.Migrate(t, flujotest.Options(t, absolute(t, flujotest.Fixture), url))
	flujotest.ExecAt(
		t,
		url,
		"GRANT USAGE ON SCHEMA flujo TO "+name,
		"GRANT SELECT ON ALL TABLES IN SCHEMA flujo TO "+name,
	)

	printed := func() (string, string, int) {
		pooled := pgtest.WithServer(t, role, pgtest.PgBouncer(t, url, mode, settings...))
		return run(t, inFolder(t.TempDir(), []string{"DATABASE_URL=" + pooled}, binary, "uri", "cutover", "--connect",
			"--reveal", "--without-pgvector"))
	}
	if stdout, stderr, code := printed(); code != 3 || !strings.Contains(stderr, "ALTER ROLE") {
		t.Errorf("before ALTER ROLE: exit %d: %s%s", code, stdout, stderr)
	}
	statement := strings.NewReplacer("ROLE flujo ", "ROLE "+name+" ", "DATABASE med13 ", "DATABASE "+database+" ").
		Replace(p.block("sql search-path"))
	if !strings.Contains(statement, name) || !strings.Contains(statement, database) {
		t.Fatalf("got statement %s", statement)
	}
	flujotest.ExecAt(t, url, statement)
	address, stderr, code := printed()
	if code != 0 || strings.Contains(address, "options=") {
		t.Fatalf("exit %d: %s%s", code, address, stderr)
	}
	if stdout, stderr, code := smoke(t, strings.TrimSpace(address)); stdout != "<Record schema='flujo' runs=60>\n" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

// alembicProject is a project of Alembic with one table in its models.
type alembicProject struct {
	t      *testing.T
	folder string
	url    string
}

func newAlembicProject(t *testing.T, url, env string) *alembicProject {
	t.Helper()
	p := &alembicProject{t: t, folder: t.TempDir(), url: url}
	if err := os.MkdirAll(filepath.Join(p.folder, "alembic", "versions"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"alembic.ini":    "[alembic]\nscript_location = alembic\nprepend_sys_path = .\n",
		"alembic/env.py": env,
		"alembic/script.py.mako": "revision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n" +
			"from alembic import op\nimport sqlalchemy as sa\nfrom sqlalchemy.dialects import postgresql\n" +
			"def upgrade():\n    ${upgrades if upgrades else \"pass\"}\n",
		"models.py": "import sqlalchemy as sa\nmetadata = sa.MetaData()\n" +
			"sa.Table('users', metadata, sa.Column('id', sa.Integer, primary_key=True), sa.Column('name', sa.Text))\n",
	} {
		write(t, filepath.Join(p.folder, name), text)
	}
	return p
}

// alembic runs alembic and returns what it says.
func (p *alembicProject) alembic(args ...string) (out string, code int) {
	p.t.Helper()
	args = append([]string{"-m", "alembic.config"}, args...)
	stdout, stderr, code := run(
		p.t,
		inFolder(p.folder, []string{"DATABASE_URL=" + p.url}, pythonWith(p.t, envAlembic), args...),
	)
	return stdout + stderr, code
}

// revision has autogenerate write a migration, and returns it.
func (p *alembicProject) revision() string {
	p.t.Helper()
	if out, code := p.alembic("revision", "--autogenerate", "--rev-id", "first"); code != 0 {
		p.t.Fatalf("exit %d: %s", code, out)
	}
	return read(p.t, filepath.Join(p.folder, "alembic", "versions", "first_.py"))
}

// TestAlembic has Alembic write a migration of a database with Flujo's schema and an archive, with the env.py of the
// page and without its include_name, and runs it.
func TestAlembic(t *testing.T) {
	t.Parallel()
	pythonWith(t, envAlembic)
	page := open(t, "wiring.md")
	env := page.block("python env.py")
	url := pgtest.Database(t)
	o := flujotest.Options(t, absolute(t, flujotest.Fixture), url)
	flujotest.Migrate(t, o)
	o.Replace = true
	flujotest.Migrate(t, o)
	flujotest.ExecAt(t, url, "CREATE TABLE public.users (id int PRIMARY KEY)", "CREATE SCHEMA other",
		"CREATE TABLE other.old (id int)")

	without := strings.Replace(env, ", include_name=include_name", "", 1)
	if got := newAlembicProject(t, url, without).revision(); without == env ||
		strings.Count(got, "schema='flujo'") < 8 || !strings.Contains(got, "schema='flujo_archive_") {
		t.Errorf("without include_name, the migration does not drop Flujo's tables: %s", got)
	}
	p := newAlembicProject(t, url, env)
	if got := p.revision(); strings.Contains(got, "flujo") || strings.Count(got, "op.add_column('users'") != 1 ||
		strings.Count(got, "op.drop_table('old', schema='other')") != 1 {
		t.Errorf("got %s", got)
	}
	before := query(t, url, "SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY c.oid) FROM pg_class c "+
		"JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname LIKE 'flujo%'")[0]
	if out, code := p.alembic("upgrade", "head"); code != 0 {
		t.Errorf("upgrade: exit %d: %s", code, out)
	}
	if got := query(t, url, "SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY c.oid) FROM pg_class c "+
		"JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname LIKE 'flujo%'")[0]; got != before {
		t.Errorf("got relations %s, want %s", got, before)
	}

	// By Flujo's address, and as a role whose search_path begins with Flujo's schema, Alembic stops.
	role := pgtest.Role(t, url, "")
	name := query(t, role, "SELECT quote_ident(current_user)")[0]
	flujotest.ExecAt(t, url, "GRANT USAGE ON SCHEMA flujo TO "+name,
		fmt.Sprintf("ALTER ROLE %s SET search_path = flujo, public", name))
	for _, address := range []string{flujotest.Cutover(t, url).Reveal(), role} {
		out, code := newAlembicProject(t, address, env).alembic("revision", "--autogenerate")
		if code == 0 || !strings.Contains(out, "begins with Flujo's schema") {
			t.Errorf("%s: exit %d: %s", address, code, out)
		}
	}

	// In a schema with other tables.
	shared := pgtest.Database(t)
	inPublic := flujotest.Options(t, absolute(t, flujotest.Fixture), shared)
	inPublic.Schema, inPublic.Cutover = "public", flujotest.CutoverFor(t, shared, "public")
	flujotest.Migrate(t, inPublic)
	start := strings.Index(env, "def include_name")
	end := strings.Index(env, "\n\n\nwith ")
	byTables := env[:start] + page.block("python include_name_of_tables.py") + env[end:]
	if got := newAlembicProject(t, shared, byTables).revision(); strings.Contains(got, "drop_") ||
		strings.Count(got, "op.create_table('users'") != 1 {
		t.Errorf("in public: %s", got)
	}
	names := query(t, shared, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "+
		"AND tablename <> 'alembic_version'")
	for _, table := range append(names, "memories", "flujo_port_originals") {
		if !strings.Contains(byTables, `"`+table+`"`) {
			t.Errorf("the page does not name the table %s", table)
		}
	}
}
