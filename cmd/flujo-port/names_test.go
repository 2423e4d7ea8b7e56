package main

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestNames runs every command with schemas whose names need quotes.
func TestNames(t *testing.T) {
	t.Parallel()
	schemas := map[string]string{"all": `It's "a\b\\c\n"  $x,y.z=%s{1}@/?#&`, "63 bytes": strings.Repeat("é", 31) + "x",
		"keyword": "select"}
	if pgtest.Slow {
		maps.Copy(schemas, map[string]string{
			"quotes": `it's "here"`, "spaces": " a  b ", "capitals": "FlujoState", "backslash": `a\b\\c\n`,
			"digits": "1st", "dollar": "$x", "percent": "100%s%d", "comma": "a,b", "dot": "a.b", "braces": "{a}",
			"ampersand": "a&b", "at": "@:/?#",
		})
	}
	for name, schema := range schemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			quoted := pgx.Identifier{schema}.Sanitize()
			p := newProgram(t, "DATABASE_URL="+url)
			file := absolute(t, fixture)
			must := func(args ...string) (stdout string) {
				t.Helper()
				stdout, stderr, code := p.run(t, append(args, "--schema", schema)...)
				if code != 0 {
					t.Fatalf("%v: exit %d: %s%s", args, code, stdout, stderr)
				}
				return stdout
			}
			must("check", "--sqlite", file, "--without-pgvector")
			must("init", "--without-pgvector")
			must("check", "--sqlite", file, "--without-pgvector")
			must("migrate", "--sqlite", file, "--without-pgvector", "--dry-run")
			must("migrate", "--sqlite", file, "--without-pgvector")
			must("verify", "--sqlite", file)
			must("restore", "--sqlite", filepath.Join(p.dir, "new.db"))
			must("restore", "--sqlite", filepath.Join(p.dir, "base.db"), "--base", file)
			must("restore", "--sqlite", filepath.Join(p.dir, "merged.db"), "--base", file, "--merge")
			must("migrate", "--sqlite", file, "--without-pgvector", "--merge")
			replaced := must("migrate", "--sqlite", file, "--without-pgvector", "--replace")
			if got := ask(t, url, "SELECT count(*) FROM "+quoted+".runs"); got != "60" {
				t.Errorf("got %s runs, want 60", got)
			}
			_, sql, _ := strings.Cut(replaced, "BEGIN;")
			sql, _, found := strings.Cut(sql, "COMMIT;")
			if !found {
				t.Fatalf("no SQL that restores the archived rows: %s", replaced)
			}
			execute(t, url, "DELETE FROM "+quoted+".steps")
			psql(t, url, "BEGIN;"+sql+"COMMIT;")
			if got := ask(t, url, "SELECT count(*) FROM "+quoted+".steps"); got != "213" {
				t.Errorf("got %s steps after the archived rows were restored, want 213", got)
			}
			must("verify", "--sqlite", file)
			address := strings.TrimSpace(must("uri", "cutover", "--connect", "--without-pgvector", "--reveal"))
			if got := ask(t, address, "SELECT count(*) FROM runs"); got != "60" {
				t.Errorf("got %s runs by the cutover address, want 60", got)
			}
		})
	}
}

// TestNothingForgesALine tests that names in the state file, paths and the server's messages print no line of their own
// and nothing that a terminal acts upon, on either stream.
func TestNothingForgesALine(t *testing.T) {
	t.Parallel()
	const forged = "x\nDone: FORGED\r\x1b[2K\u202e\u009b"
	url := pgtest.Database(t)
	file := changedFixture(t,
		`CREATE TABLE "`+forged+`" (a)`,
		`ALTER TABLE runs ADD COLUMN "`+forged+`" TEXT`,
		`UPDATE runs SET "`+forged+`" = 'kept'`,
		`UPDATE system_state SET key = '`+forged+`', value = '{' WHERE rowid = 1`)
	execute(t, url, "CREATE SCHEMA flujo", `CREATE TABLE flujo."`+forged+`" (a int)`,
		`CREATE FUNCTION flujo.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION '`+forged+`'; END $$`)
	p := newProgram(t, "DATABASE_URL="+url)
	for _, args := range [][]string{
		{"check", "--sqlite", file, "--without-pgvector"},
		{"migrate", "--sqlite", file, "--without-pgvector", "--strict"},
		{"migrate", "--sqlite", file, "--without-pgvector"},
		{"verify", "--sqlite", file},
		{"migrate", "--sqlite", file, "--without-pgvector", "--schema", forged},
		{"migrate", "--sqlite", filepath.Join(p.dir, forged), "--without-pgvector"},
		{"restore", "--sqlite", filepath.Join(p.dir, forged)},
		{"init", "--owner", forged},
		{"uri", "rollback", "--sqlite", forged},
		{"migrate", forged},
		{forged},
		{"--" + forged},
	} {
		stdout, stderr, code := p.run(t, args...)
		for line := range strings.SplitSeq(stdout+stderr, "\n") {
			if strings.HasPrefix(line, "Done: FORGED") || strings.ContainsFunc(line, notPrinted) {
				t.Errorf("%q (exit %d): the line %q", args, code, line)
			}
		}
	}
	execute(t, url, "CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION flujo.refuse()")
	stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--schema", "other", "--without-pgvector")
	if code == 0 || strings.Contains(stdout+stderr, "\nDone: FORGED") || !strings.Contains(stderr, `\x1b[2K`) {
		t.Errorf("exit %d: %q %q", code, stdout, stderr)
	}
}

func notPrinted(r rune) bool { return !unicode.IsPrint(r) }
