package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// advisedStatement matches the statements of an advice, and advisedCommand its command.
var (
	advisedStatement = regexp.MustCompile(`\brun ((?:GRANT|ALTER) [^\n]*)`)
	advisedCommand   = regexp.MustCompile(`"(flujo-port init [^\n]*?)"(?:$|,| first)`)
)

// follow does what the hint of a line advises, by itself the first of several ways: a statement as a superuser, or a
// command in a shell, with the address of the superuser. It returns what it did, or "".
func follow(t *testing.T, admin, hint string) string {
	t.Helper()
	hint, _, _ = strings.Cut(hint+", or ", ", or ")
	if m := advisedStatement.FindStringSubmatch(hint); m != nil {
		execute(t, admin, strings.Split(m[1], "; ")...)
		return m[1]
	}
	m := advisedCommand.FindStringSubmatch(hint)
	if m == nil {
		return ""
	}
	bin := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "flujo-port")); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", m[1])
	c.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "FLUJO_PORT_POSTGRES=" + admin}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", m[1], err, out)
	}
	return m[1]
}

// followed runs check as a role until it is ready, and does what each ✗ line advises. It returns what it did.
var endOfHint = regexp.MustCompile(`\n(\n|  [✓!✗] )`)

func followed(t *testing.T, admin, role string, env ...string) (done []string) {
	t.Helper()
	p := newProgram(t, append(env, "FLUJO_PORT_POSTGRES="+role)...)
	for range 5 {
		stdout, stderr, code := p.run(t, "check", "--sqlite", absolute(t, fixture), "--without-pgvector")
		if code == 0 {
			_, stderr, code = p.run(t, "migrate", "--sqlite", absolute(t, fixture), "--without-pgvector")
			if code != 0 {
				t.Errorf("after %q: migrate: exit %d: %s", done, code, stderr)
			}
			return done
		}
		_, hint, _ := strings.Cut(stdout, "  ✗ ")
		_, hint, _ = strings.Cut(hint, "→ ")
		hint = unwrapped(endOfHint.Split(hint, 2)[0])
		did := follow(t, admin, hint)
		if did == "" && strings.HasPrefix(hint, "grant them, or ") {
			did = follow(t, admin, strings.TrimPrefix(hint, "grant them, or "))
		}
		if did == "" || slices.Contains(done, did) {
			t.Fatalf("after %q: exit %d, and no other advice: %s%s", done, code, stdout, stderr)
		}
		done = append(done, did)
	}
	t.Fatalf("not ready after %q", done)
	return nil
}

// ident returns the quoted name of the role of an address, and the name itself.
func ident(t *testing.T, url string) (quoted, name string) {
	t.Helper()
	name = ask(t, url, "SELECT current_user::text")
	return pgx.Identifier{name}.Sanitize(), name
}

// TestAdviceHelps does what check advises to a role that lacks one thing, until check is ready and migrate succeeds.
// Ownership is advised only where it is what lacks.
func TestAdviceHelps(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t) // for its tablespaces
	initialize := func(t *testing.T, url string, args ...string) {
		t.Helper()
		p := newProgram(t, "FLUJO_PORT_POSTGRES="+url)
		if _, stderr, code := p.run(t, append([]string{"init", "--without-pgvector"}, args...)...); code != 0 {
			t.Fatalf("init %q: exit %d: %s", args, code, stderr)
		}
	}
	noMigrations := []string{"FLUJO_AUTO_MIGRATE=false"}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, admin, role, quoted, name, other, quotedOther string)
		env     []string
		want    []string // the beginning of each statement or command that is advised
	}{
		{"CREATE on the database", func(*testing.T, string, string, string, string, string, string) {}, nil,
			[]string{"GRANT CREATE ON DATABASE"}},
		{"schema without tables", func(t *testing.T, admin, _, _, _, _, _ string) {
			execute(t, admin, "CREATE SCHEMA flujo")
		}, nil, []string{"GRANT USAGE ON SCHEMA flujo"}},
		{"owner of the tables without USAGE", func(t *testing.T, admin, _, quoted, name, other, quotedOther string) {
			initialize(t, admin, "--owner", other)
			execute(t, admin, "ALTER SCHEMA flujo OWNER TO "+quoted, "REVOKE ALL ON SCHEMA flujo FROM "+quotedOther,
				"GRANT "+quotedOther+" TO "+quoted)
		}, nil, []string{"GRANT USAGE ON SCHEMA"}},
		{"tablespace", func(t *testing.T, admin, _, quoted, name, _, _ string) {
			initialize(t, admin, "--owner", name)
			execute(t, admin, "ALTER ROLE "+quoted+" SET default_tablespace = "+tablespace(t, admin))
		}, nil, []string{"GRANT CREATE ON TABLESPACE"}},
		{"tablespace for a new schema", func(t *testing.T, admin, _, quoted, _, _, _ string) {
			execute(t, admin, "ALTER ROLE "+quoted+" SET default_tablespace = "+tablespace(t, admin))
		}, nil, []string{"GRANT CREATE ON DATABASE"}},
		{"USAGE of another role's schema", func(t *testing.T, admin, _, quoted, name, other, _ string) {
			initialize(t, admin, "--owner", other)
			initialize(t, admin, "--grant-to", name)
			execute(t, admin, "REVOKE USAGE ON SCHEMA flujo FROM "+quoted)
		}, noMigrations, []string{"GRANT USAGE ON SCHEMA flujo"}},
		{"tables of another role", func(t *testing.T, admin, _, quoted, _, other, _ string) {
			initialize(t, admin, "--owner", other)
			execute(t, admin, "GRANT USAGE, CREATE ON SCHEMA flujo TO "+quoted)
		}, noMigrations, []string{"flujo-port init --grant-to"}},
		{"USAGE and ownership", func(t *testing.T, admin, _, quoted, name, other, _ string) {
			initialize(t, admin, "--owner", other)
			initialize(t, admin, "--grant-to", name)
			execute(t, admin, "REVOKE USAGE ON SCHEMA flujo FROM "+quoted)
		}, nil, []string{"GRANT USAGE ON SCHEMA flujo", "flujo-port init --owner"}},
		{"tablespace and ownership", func(t *testing.T, admin, _, quoted, name, other, _ string) {
			initialize(t, admin, "--owner", other)
			initialize(t, admin, "--grant-to", name)
			execute(t, admin, "ALTER ROLE "+quoted+" SET default_tablespace = "+tablespace(t, admin))
		}, nil, []string{"GRANT CREATE ON TABLESPACE", "flujo-port init --owner"}},
		{"ownership", func(t *testing.T, admin, _, _, name, other, _ string) {
			initialize(t, admin, "--owner", other)
			initialize(t, admin, "--grant-to", name)
		}, nil, []string{"flujo-port init --owner"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			database := "d_" + strings.ToLower(rand.Text())
			if err := server.CreateDatabase(database); err != nil {
				t.Fatal(err)
			}
			admin := server.URL(database)
			role, other := pgtest.Role(t, admin, ""), pgtest.Role(t, admin, "")
			quoted, name := ident(t, role)
			quotedOther, otherName := ident(t, other)
			c.prepare(t, admin, role, quoted, name, otherName, quotedOther)
			done := followed(t, admin, role, c.env...)
			if len(done) != len(c.want) {
				t.Fatalf("advised %q, want %q", done, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(done[i], want) {
					t.Errorf("advised %q, want %q", done, c.want)
				}
			}
			if c.env == nil {
				return
			}
			if got := ask(t, admin, "SELECT pg_get_userbyid(relowner)::text FROM pg_class "+
				"WHERE oid = 'flujo.runs'::regclass"); got != otherName {
				t.Errorf("the tables belong to %s now", got)
			}
		})
	}
}

// TestAdviceIsQuoted runs the advised command for roles whose names a shell would read in another way.
func TestAdviceIsQuoted(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t)
	for i, name := range []string{"a b; rm", "it's", "a$HOME", "`id`", `a"b\c`, "me@example.com", "*", "-x"} {
		database := fmt.Sprint("quoted", i)
		if err := server.CreateDatabase(database); err != nil {
			t.Fatal(err)
		}
		admin := server.URL(database)
		quoted := pgx.Identifier{name}.Sanitize()
		execute(t, admin, "CREATE ROLE "+quoted+" LOGIN PASSWORD 'x'")
		p := newProgram(t, "FLUJO_PORT_POSTGRES="+admin)
		if _, stderr, code := p.run(t, "init", "--without-pgvector", "--grant-to="+name); code != 0 {
			t.Fatalf("%s: exit %d: %s", name, code, stderr)
		}
		done := followed(t, admin, pgtest.WithUser(t, admin, name, "x"))
		if len(done) != 1 || !strings.HasPrefix(done[0], "flujo-port init --owner") {
			t.Errorf("%s: advised %q", name, done)
		}
		if got := ask(t, admin, "SELECT pg_get_userbyid(relowner)::text FROM pg_class "+
			"WHERE oid = 'flujo.runs'::regclass"); got != name {
			t.Errorf("%s: the tables belong to %q", name, got)
		}
	}
}

// TestInitOwnerTriesTheTablespace tests that init --owner refuses a role that may not use its default_tablespace, with
// the statement that helps, whether the setting is the role's or the database's.
func TestInitOwnerTriesTheTablespace(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t)
	for i, setting := range []string{
		"ALTER ROLE %[1]s SET default_tablespace = %[2]s", "ALTER DATABASE %[3]s SET default_tablespace = %[2]s",
		"ALTER ROLE %[1]s IN DATABASE %[3]s SET default_tablespace = %[2]s",
		"ALTER ROLE ALL SET default_tablespace = %[2]s",
	} {
		database := fmt.Sprint("tablespaces", i)
		if err := server.CreateDatabase(database); err != nil {
			t.Fatal(err)
		}
		admin := server.URL(database)
		role := pgtest.Role(t, admin, "")
		quoted, name := ident(t, role)
		execute(t, admin, fmt.Sprintf(setting, quoted, tablespace(t, admin), database))
		p := newProgram(t, "FLUJO_PORT_POSTGRES="+admin)
		args := []string{"init", "--without-pgvector", "--owner", name}
		stdout, stderr, code := p.run(t, args...)
		statement := advisedStatement.FindStringSubmatch(strings.TrimSpace(stderr))
		if code != 3 || statement == nil || !strings.Contains(stderr, "nothing was created") ||
			strings.Contains(stderr, "init --owner") {
			t.Fatalf("%s: exit %d: %s%s", setting, code, stdout, stderr)
		}
		execute(t, admin, statement[1])
		if _, stderr, code := p.run(t, args...); code != 0 {
			t.Errorf("%s: exit %d: %s", setting, code, stderr)
		}
		if done := followed(t, admin, role); len(done) > 0 {
			t.Errorf("%s: advised %q", setting, done)
		}
		execute(t, admin, "ALTER ROLE ALL RESET ALL")
	}
}

// TestInitOwnerNamesTheFormerOwner tests that init --owner warns of the role from which it takes tables, unless that
// role keeps its privileges.
func TestInitOwnerNamesTheFormerOwner(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	former, owner := pgtest.Role(t, admin, ""), pgtest.Role(t, admin, "")
	quotedFormer, formerName := ident(t, former)
	quoted, name := ident(t, owner)
	p := newProgram(t, "FLUJO_PORT_POSTGRES="+admin)
	give := func(role string) string {
		t.Helper()
		stdout, stderr, code := p.run(t, "init", "--without-pgvector", "--owner", role)
		if code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		return stdout
	}
	if report := give(formerName); strings.Contains(report, "was the owner") {
		t.Errorf("warned of new tables: %s", report)
	}
	report := give(name)
	if !strings.Contains(unwrapped(report), "Warnings - role \""+formerName+"\" was the owner of runs, ") ||
		!strings.Contains(report, "flujo_schema_versions") {
		t.Errorf("did not warn: %s", report)
	}
	if report := give(name); strings.Contains(report, "was the owner") {
		t.Errorf("warned again: %s", report)
	}
	execute(t, admin, "GRANT "+quotedFormer+" TO "+quoted)
	if report := give(formerName); strings.Contains(report, "was the owner") {
		t.Errorf("warned of a member of the role: %s", report)
	}
}

// TestNoOwnershipForReaders tests that roles that only read, or may not do anything, are not advised to own the tables.
func TestNoOwnershipForReaders(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	auditor, stranger := pgtest.Role(t, admin, ""), pgtest.Role(t, admin, "")
	_, name := ident(t, auditor)
	p := newProgram(t, "FLUJO_PORT_POSTGRES="+admin)
	file := absolute(t, fixture)
	for _, args := range [][]string{
		{"migrate", "--without-pgvector", "--sqlite", file}, {"init", "--without-pgvector", "--grant-read", name},
	} {
		if _, stderr, code := p.run(t, args...); code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, stderr)
		}
	}
	const administrator = "as the owner of the schema and the tables"
	for _, c := range []struct {
		url  string
		args []string
		want string
	}{
		{auditor, []string{"restore", "--sqlite", "new.db", "--base", file, "--merge"}, "lacks that privilege"},
		{auditor, []string{"init", "--without-pgvector", "--grant-read", name}, administrator},
		{stranger, []string{"init", "--without-pgvector", "--grant-read", name}, administrator},
		{stranger, []string{"init", "--without-pgvector", "--schema", "new", "--owner", name},
			"GRANT CREATE ON DATABASE"},
		{stranger, []string{"migrate", "--without-pgvector", "--sqlite", file, "--replace"}, "lacks that privilege"},
		{stranger, []string{"verify", "--sqlite", file}, "init --grant-read"},
		{stranger, []string{"restore", "--sqlite", "new.db"}, "init --grant-read"},
	} {
		_, stderr, code := newProgram(t, "FLUJO_PORT_POSTGRES="+c.url).run(t, c.args...)
		if code != 3 || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "--owner") {
			t.Errorf("%v: exit %d: %s", c.args, code, stderr)
		}
	}
}

// tablespace creates a tablespace that only superusers may use, and returns its name.
func tablespace(t *testing.T, admin string) string {
	t.Helper()
	name := "ts_" + strings.ToLower(rand.Text())
	execute(t, admin, "SET allow_in_place_tablespaces = on", "CREATE TABLESPACE "+name+" LOCATION ''")
	return name
}
