package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// recased is the fixture with other names of the same tables and columns.
func recased(t testing.TB) string {
	t.Helper()
	return changedFixture(t, "ALTER TABLE steps RENAME TO x", "ALTER TABLE x RENAME TO STEPS",
		"ALTER TABLE runs RENAME TO x", "ALTER TABLE x RENAME TO Runs",
		"ALTER TABLE steps RENAME COLUMN output TO x", "ALTER TABLE steps RENAME COLUMN x TO OutPut",
		"ALTER TABLE spans RENAME COLUMN run_id TO x", "ALTER TABLE spans RENAME COLUMN x TO RUN_ID")
}

// TestNamesOfOtherCase checks that tables and columns are found as SQLite finds them.
func TestNamesOfOtherCase(t *testing.T) {
	t.Parallel()
	url, other := pgtest.Database(t), pgtest.Database(t)
	p, q := newProgram(t, "DATABASE_URL="+url), newProgram(t, "DATABASE_URL="+other)
	file := recased(t)
	if stdout, stderr, code := p.run(t, "check", "--sqlite", file, "--without-pgvector"); code != 0 ||
		!strings.Contains(stdout, "steps 213") {
		t.Errorf("check: exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--strict")
	if code != 0 || strings.Contains(stdout, "ignored tables") || strings.Contains(stdout, "unmapped") {
		t.Fatalf("migrate: exit %d\n%s%s", code, stdout, stderr)
	}
	if _, stderr, code := q.run(t, "migrate", "--sqlite", absolute(t, fixture), "--without-pgvector"); code != 0 {
		t.Fatal(stderr)
	}
	for _, table := range strings.Fields("runs steps spans traces evaluations workflow_state system_state") {
		rows := "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM flujo." + table + " t"
		if got, want := ask(t, url, rows), ask(t, other, rows); got != want {
			t.Errorf("the rows of %s differ from those of the fixture", table)
		}
	}
	for _, sqlite := range []string{file, absolute(t, fixture)} {
		if stdout, stderr, code := p.run(t, "verify", "--sqlite", sqlite); code != 0 {
			t.Errorf("verify: exit %d\n%s%s", code, stdout, stderr)
		}
	}
	stdout, stderr, code = p.run(t, "restore", "--sqlite", "new.db", "--base", file)
	if code != 0 {
		t.Errorf("restore: exit %d\n%s%s", code, stdout, stderr)
	}
	if got := sqlite(t, filepath.Join(p.dir, "new.db"),
		"SELECT name FROM sqlite_master WHERE name = 'STEPS'"); got != "STEPS" {
		t.Errorf("restored table %q, want STEPS", got)
	}
}

// TestGeneratedColumns checks that a generated column is named and not computed, here by an error if it is.
func TestGeneratedColumns(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "DATABASE_URL="+pgtest.Database(t))
	file := changedFixture(t, "ALTER TABLE steps ADD COLUMN big AS (json('{'))")
	const note = "steps.big is a generated column that the state file does not store (VIRTUAL): " +
		"it is not computed or migrated"
	for _, args := range [][]string{
		{"check", "--without-pgvector"}, {"migrate", "--without-pgvector", "--strict"}, {"verify"},
	} {
		stdout, stderr, code := p.run(t, append(args, "--sqlite", file)...)
		if code != 0 || !strings.Contains(unwrapped(stdout), note) {
			t.Errorf("%s: exit %d\n%s%s", args[0], code, stdout, stderr)
		}
	}
}

// TestFilesThatAreRefused checks the exit code and message of each command for state files that cannot be read as they
// are.
func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	const schema = "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
	p := newProgram(t, "DATABASE_URL="+pgtest.Database(t))
	if _, stderr, code := p.run(t, "migrate", "--sqlite", absolute(t, fixture), "--without-pgvector"); code != 0 {
		t.Fatal(stderr)
	}
	for name, tc := range map[string]struct {
		file string
		says string
	}{
		"view": {changedFixture(t, "ALTER TABLE spans RENAME TO kept", "CREATE VIEW Spans AS SELECT * FROM kept"),
			`"Spans" is a view, but Flujo's spans is an ordinary table`},
		"virtual table": {changedFixture(t, "CREATE VIRTUAL TABLE memories USING fts5(id, vector)"),
			`"memories" is a virtual table`},
		"generated column": {changedFixture(t, "ALTER TABLE steps DROP COLUMN output",
			"ALTER TABLE steps ADD COLUMN Output TEXT AS (json('{'))"),
			`"Output" of table steps is a generated column`},
		"slow column": {changedFixture(t, "ALTER TABLE steps ADD COLUMN big INTEGER "+
			"AS (length(hex(zeroblob(500000000))) + "+
			"(printf('%.*c', 49999, 'a') LIKE replace(hex(zeroblob(999)), '0', '%a')))"),
			"an index or generated column of table steps calls hex, like, printf, replace, zeroblob"},
		"collation": {changedFixture(t, schema+
			"replace(sql, 'status TEXT', 'status TEXT COLLATE theirs') WHERE name = 'runs'"),
			"no such collation sequence: theirs"},
		"statement": {changedFixture(t, schema+"'CREATE TABLE steps (' WHERE name = 'steps'"),
			"malformed database schema"},
		"format":  {withByte(t, changedFixture(t), 47, 9), "unsupported file format"},
		"version": {withByte(t, changedFixture(t), 19, 3), "file is not a database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, args := range [][]string{
				{"check", "--without-pgvector", "--sqlite", tc.file},
				{"migrate", "--without-pgvector", "--schema", "other", "--sqlite", tc.file},
				{"verify", "--sqlite", tc.file},
				{"restore", "--sqlite", filepath.Join(t.TempDir(), "new.db"), "--base", tc.file},
			} {
				stdout, stderr, code := p.run(t, args...)
				said := stderr
				if args[0] == "check" {
					said = unwrapped(stdout)
				}
				if code != 3 || !strings.Contains(said, tc.says) {
					t.Errorf("%s: exit %d, want 3 and %q\n%s%s", args[0], code, tc.says, stdout, stderr)
				}
			}
		})
	}
}

// TestNamesThatNoAddressHas tests that every command refuses, before anything else, a state file whose path
// FLUJO_STATE_URI cannot name.
func TestNamesThatNoAddressHas(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, name := range []string{"a?b.db", "a#b.db", "a\nb.db", "a\tb.db", "c\x7fd.db"} {
		path := filepath.Join(folder, name)
		for _, args := range [][]string{
			{"check"}, {"migrate", "--without-pgvector"}, {"migrate", "--dry-run"}, {"restore"}, {"uri", "rollback"},
		} {
			stdout, stderr, code := newProgram(t, "DATABASE_URL=postgresql://127.0.0.1:1/none").
				run(t, append(args, "--sqlite", path)...)
			if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 ||
				!strings.Contains(stderr, "FLUJO_STATE_URI cannot name") {
				t.Errorf("%s of %q: exit %d\n%s%s", args[0], name, code, stdout, stderr)
			}
		}
	}
}

// withByte sets a byte of a file.
func withByte(t testing.TB, path string, at int, b byte) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[at] = b
	return write(t, path, string(content))
}
