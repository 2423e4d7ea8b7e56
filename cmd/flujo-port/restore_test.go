package main

import (
	"database/sql"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/bench"
	"flujo-port/internal/pgtest"

	_ "modernc.org/sqlite"
)

// sqlite runs a statement on a file and returns the first cell of the result.
func sqlite(t testing.TB, file, statement string) string {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var v sql.NullString
	if err := db.QueryRow(statement).Scan(&v); err != nil && err != sql.ErrNoRows {
		t.Fatalf("%s: %v", statement, err)
	}
	return v.String
}

// TestRestore checks the exit codes, messages and JSON of restore.
func TestRestore(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	p := newProgram(t, "DATABASE_URL="+url)
	if _, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector"); code != 0 {
		t.Fatal(stderr)
	}
	stdout, stderr, code := p.run(t, "restore", "--sqlite", "new.db", "--dry-run")
	if code != 0 || !strings.HasPrefix(stdout, "Dry run") || strings.Contains(stdout, "Roll back") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "restore", "--sqlite", "new.db")
	if code != 0 || !strings.HasPrefix(stdout, "Restored and verified: 674 rows of PostgreSQL") ||
		!strings.Contains(stdout, "Roll back\n  FLUJO_STATE_URI=sqlite:///"+p.dir+"/new.db") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if got := sqlite(t, filepath.Join(p.dir, "new.db"), "SELECT count(*) FROM steps"); got != "213" {
		t.Errorf("%s steps", got)
	}
	if _, stderr, code = p.run(t, "restore", "--sqlite", "new.db"); code != 3 ||
		!strings.Contains(stderr, "already exists") ||
		!strings.Contains(stderr, "no file was created") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
	stdout, stderr, code = p.run(t, "restore", "--sqlite", "sqlite:///based.db", "--base", file, "--json")
	var r struct {
		Done   bool
		Tables []struct {
			Name     string
			FromBase int `json:"from_base"`
			Written  int
			Match    bool
		}
		Base, Receipt map[string]any
		Differences   []any
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 || !r.Done ||
		len(r.Tables) != 8 && len(r.Tables) != 7 ||
		r.Tables[0].FromBase != 60 ||
		r.Receipt["same_bytes"] != true {
		t.Errorf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	for _, args := range [][]string{{"restore"}, {"restore", "--sqlite", "postgresql://u:secret@h/d"},
		{"restore", "--sqlite", "x.db", "--base", "nowhere.db"}} {
		if stdout, stderr, code := p.run(t, args...); code != 2 || strings.Contains(stdout+stderr, "secret") {
			t.Errorf("%v: exit %d\n%s", args, code, stderr)
		}
	}
}

// TestRestoreKilled checks that kill -9 at any moment leaves the whole file or
// none, and that the next run removes a temporary file.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	moments := pgtest.Count(10, 50)
	big := filepath.Join(t.TempDir(), "flujo_state.db")
	if err := bench.Generate(big, 8_000_000, 0, 0, 1); err != nil {
		t.Fatal(err)
	}
	url := pgtest.Database(t)
	p := newProgram(t, "DATABASE_URL="+url)
	if _, stderr, code := p.run(t, "migrate", "--sqlite", big, "--without-pgvector", "--verify", "counts"); code != 0 {
		t.Fatal(stderr)
	}
	steps := ask(t, url, "SELECT count(*) FROM flujo.steps")
	file := filepath.Join(p.dir, "restored.db")
	started := time.Now()
	if _, stderr, code := p.run(t, "restore", "--sqlite", file); code != 0 {
		t.Fatal(stderr)
	}
	whole := time.Since(started)
	var made, none int
	for n := range moments {
		os.Remove(file)
		args := []string{"restore", "--sqlite", file}
		if n%2 == 1 {
			args = append(args, "--base", big)
		}
		c := p.command(args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		killAfter(c, time.Duration(rand.Float64()*1.3*float64(whole)))
		entries, err := os.ReadDir(p.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch name := e.Name(); {
			case name == "restored.db":
				made++
				if got := sqlite(t, "file:"+file+"?mode=ro&immutable=1", "SELECT count(*) FROM steps"); got != steps {
					t.Errorf("moment %d: %s steps, want %s", n, got, steps)
				}
				if got := sqlite(t, "file:"+file+"?mode=ro&immutable=1", "PRAGMA integrity_check"); got != "ok" {
					t.Errorf("moment %d: %s", n, got)
				}
			case !strings.HasPrefix(name, ".restored.db.flujo-port-restore"):
				t.Errorf("moment %d: %s was left", n, name)
			}
		}
		if _, err := os.Stat(file); err != nil {
			none++
		}
	}
	t.Logf("%d moments left the file, %d none", made, none)
	if none == 0 {
		t.Error("no kill came before the end")
	}
	os.Remove(file)
	if _, stderr, code := p.run(t, "restore", "--sqlite", file); code != 0 {
		t.Fatal(stderr)
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("next to the file: %v (%v)", entries, err)
	}
}

// killAfter kills a program after a delay, unless it has ended.
func killAfter(c *exec.Cmd, d time.Duration) {
	timer := time.AfterFunc(d, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	_ = c.Wait()
}
