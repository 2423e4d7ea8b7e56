package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/bench"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestReplaceAsItIsPrinted runs the SQL that the report prints.
func TestReplaceAsItIsPrinted(t *testing.T) {
	t.Parallel()
	url, file := pgtest.WithPassword(t, pgtest.Database(t)), absolute(t, fixture)
	p := newProgram(t, "DATABASE_URL="+url)
	if stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector"); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	ask(t, url, "SELECT count(*) FROM flujo.runs")
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), "DELETE FROM flujo.steps WHERE id > 200"); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector")
	if code != 3 || !strings.Contains(stderr, "--replace") || !strings.Contains(stderr, "--merge") {
		t.Errorf("without --replace: exit %d\n%s", code, stderr)
	}
	stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--replace")
	if code != 0 || !strings.Contains(stderr, "archiving runs") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, password(t, url)) {
		t.Error("the password was printed")
	}
	if got := ask(t, url, "SELECT count(*) FROM flujo.steps"); got != "213" {
		t.Errorf("%s steps", got)
	}
	lines := regexp.MustCompile(`(?s)\n  BEGIN;\n.*?\n  COMMIT;\n`).FindString(stdout)
	psql(t, url, lines)
	if got := ask(t, url, "SELECT count(*) FROM flujo.steps"); got != "200" {
		t.Errorf("%s steps after going back", got)
	}
	drop := regexp.MustCompile(`\n  DROP SCHEMA .*\n`).FindString(stdout)
	psql(t, url, drop)
	if got := ask(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%archive%'"); got != "0" {
		t.Error("the schema was not dropped")
	}
	stdout, _, code = p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--replace", "--json")
	var report struct {
		Replaced struct {
			ArchiveSchema string `json:"archive_schema"`
			Tables        []struct {
				Name string
				Rows int
			}
			UndoSQL []string `json:"undo_sql"`
			DropSQL string   `json:"drop_sql"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &report); code != 0 || err != nil {
		t.Fatalf("exit %d, %v\n%s", code, err, stdout)
	}
	if r := report.Replaced; !strings.HasPrefix(r.ArchiveSchema, "flujo_archive_") || len(r.Tables) != 8 ||
		r.Tables[2].Rows != 200 ||
		len(r.UndoSQL) < 10 ||
		r.DropSQL == "" {
		t.Errorf("the JSON says %+v", r)
	}
	if _, stderr, code = p.run(t, "migrate", "--sqlite", file, "--replace", "--merge"); code != 2 ||
		!strings.Contains(stderr, "merge") {
		t.Errorf("--replace and --merge: exit %d\n%s", code, stderr)
	}
}

// psql runs text with psql.
func psql(t *testing.T, url, text string) {
	t.Helper()
	bin, err := pgtest.FindBin()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, "psql")
	if _, err := os.Stat(program); err != nil {
		program = "psql"
	}
	c := exec.Command(program, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", url)
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil || text == "" {
		t.Fatalf("psql: %v\n%s\n%s", err, text, out)
	}
}

// TestReplaceKilled kills the program at several moments of a replacement. The
// schema must hold all old rows and no archive, or all new rows and the archive.
func TestReplaceKilled(t *testing.T) {
	t.Parallel()
	moments := pgtest.Count(10, 50)
	url := pgtest.Database(t)
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")}
	for i, file := range files {
		if err := bench.Generate(file, 10_000_000-int64(i)*1_000_000, 0, 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	p := newProgram(t)
	replace := func(file string) *exec.Cmd {
		return p.command("migrate", "--postgres", url, "--sqlite", file, "--without-pgvector", "--replace")
	}
	states := make([]string, len(files))
	var took time.Duration
	for i, file := range files {
		var out bytes.Buffer
		c := replace(file)
		c.Stdout, c.Stderr = &out, &out
		started := time.Now()
		if err := c.Run(); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		took = time.Since(started) // the second one replaces
		states[i] = rowsIn(t, conn, "flujo")
	}
	if states[0] == states[1] {
		t.Fatal("the two files can't be told apart")
	}
	dropArchives(t, conn)
	at, replaced := 1, 0
	for i := range moments {
		next := 1 - at
		c := replace(files[next])
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration((float64(i) + rand.Float64()) / float64(moments) * float64(took) * 1.15)
		time.AfterFunc(after, func() { _ = c.Process.Kill() }) // it may have ended
		_ = c.Wait()
		// The server may still be executing the last statement.
		if _, err := conn.Exec(context.Background(),
			"BEGIN; SELECT pg_advisory_xact_lock(4059087070); COMMIT"); err != nil {
			t.Fatal(err)
		}
		archived := archiveSchemas(t, conn)
		switch got := rowsIn(t, conn, "flujo"); {
		case got == states[at] && len(archived) == 0:
		case got == states[next] && len(archived) == 1 && rowsIn(t, conn, archived[0]) == states[at]:
			at = next
			replaced++
		default:
			t.Fatalf(
				"killed after %s of %s: the schema holds\n%s\nand kept is %q; it was\n%s\nand was to be\n%s",
				after,
				took,
				got,
				archived,
				states[at],
				states[next],
			)
		}
		dropArchives(t, conn)
	}
	t.Logf("killed at %d moments of %s: %d had replaced", moments, took, replaced)
	if replaced == moments {
		t.Error("every run came to its end: none was killed")
	}
}

// rowsIn returns the number and a hash of the rows of each table of a schema.
func rowsIn(t *testing.T, conn *pgx.Conn, schema string) string {
	t.Helper()
	var all strings.Builder
	for _, table := range []string{"runs", "workflow_state", "steps", "spans", "traces", "evaluations",
		"system_state"} {
		var sum string
		err := conn.QueryRow(context.Background(),
			fmt.Sprintf("SELECT format('%%s rows, %%s', count(*), sum(hashtextextended(x::text, 0))) FROM %s x",
				pgx.Identifier{schema, table}.Sanitize())).
			Scan(&sum)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s %s\n", table, sum)
	}
	return all.String()
}

func archiveSchemas(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(
		context.Background(),
		`SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'flujo\_archive%'`,
	)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func dropArchives(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for _, name := range archiveSchemas(t, conn) {
		if _, err := conn.Exec(context.Background(),
			"DROP SCHEMA "+pgx.Identifier{name}.Sanitize()+" CASCADE"); err != nil {
			t.Fatal(err)
		}
	}
}
