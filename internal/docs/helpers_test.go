// Package docs_test runs what the pages of the folder docs contain.
package docs_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5/pgconn"
)

// binary is flujo-port, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, build)) }

func build(dir string) error {
	binary = filepath.Join(dir, "flujo-port")
	c := exec.Command("go", "build", "-o", binary, "../../cmd/flujo-port")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// page holds the fenced blocks of a page by "language name", and which of them a test has used.
type page struct {
	t      *testing.T
	blocks map[string]string
	used   map[string]bool
}

// open reads a page of the folder docs. Each block of it must have a name.
func open(t *testing.T, name string) *page {
	t.Helper()
	text := read(t, filepath.Join("../../docs", name))
	p := &page{t: t, blocks: map[string]string{}, used: map[string]bool{}}
	for _, block := range regexp.MustCompile("(?ms)^(`{3,})([^`\n]+)\n(.*?)^`{3,}$").FindAllStringSubmatch(text, -1) {
		label := block[2]
		if _, twice := p.blocks[label]; twice || len(strings.Fields(label)) != 2 {
			t.Fatalf("%s: the block %q has no name of its own", name, label)
		}
		p.blocks[label] = block[3]
	}
	if fences := strings.Count("\n"+text, "\n```"); fences != 2*len(p.blocks) {
		t.Fatalf("%s has %d fences and %d blocks", name, fences, len(p.blocks))
	}
	return p
}

// block returns the text of a block.
func (p *page) block(label string) string {
	p.t.Helper()
	text, ok := p.blocks[label]
	if !ok {
		p.t.Fatalf("there is no block %q", label)
	}
	p.used[label] = true
	return text
}

// wantUsed tests that every block was used, except for those in the languages of others.
func (p *page) wantUsed(others ...string) {
	p.t.Helper()
	for label := range p.blocks {
		if !p.used[label] && !slices.Contains(others, strings.Fields(label)[0]) {
			p.t.Errorf("the block %q was not run", label)
		}
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func absolute(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// python returns a Python with its standard library, which `make test` requires.
func python(t testing.TB) string {
	t.Helper()
	program, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("needs python3 on PATH: %v", err)
	}
	return program
}

// run runs a command and returns its output and exit code.
func run(t testing.TB, c *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() < 0) {
		t.Fatalf("%v: %v", c.Args, err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// query returns the rows of a query as the server prints them, cells separated by "|".
func query(t testing.TB, url, text string) (rows []string) {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	results, err := conn.Exec(context.Background(), text).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for _, row := range results[len(results)-1].Rows {
		rows = append(rows, string(bytes.Join(row, []byte("|"))))
	}
	return rows
}

// fileQuery returns the rows of a query of a state file.
func fileQuery(t testing.TB, file, text string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return flujotest.QueryColumn(t, db, text)
}
