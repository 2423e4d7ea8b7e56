package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestCheckSeveralFiles tests the exit codes, the text and the JSON of check with several files.
func TestCheckSeveralFiles(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "DATABASE_URL="+pgtest.Database(t))
	content, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, name := range []string{"a.db", "b.db", "c.db"} {
		paths = append(paths, filepath.Join(p.dir, name))
		write(t, filepath.Join(p.dir, name), string(content))
	}
	makeSQLite(t, paths[1], "UPDATE system_state SET value = '7', updated_at = '2031-01-01' WHERE key = 'tracker:3'")
	makeSQLite(t, paths[1], "UPDATE steps SET output = 'x' WHERE id = 1")
	args := []string{"check", "--without-pgvector", "--sqlite", "a.db", "--sqlite", "b.db", "--sqlite", "c.db"}
	stdout, stderr, code := p.run(t, args...)
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{
		"File " + paths[0] + " ✓", "File " + paths[1] + " ✓", "File " + paths[2] + " ✓",
		" Conflicts ", "comparing the files",
		"5 in several files: 4 equal, 1 different",
		`"tracker:3": ` + paths[1] + " wins; superseded: " + paths[0],
	} {
		if !strings.Contains(unwrapped(stdout+stderr), want) {
			t.Errorf("nothing says %q:\n%s%s", want, stdout, stderr)
		}
	}
	stdout, stderr, code = p.run(t, append(args, "--json")...)
	type result struct{ Group, Name, Status string }
	var r struct {
		Ready bool
		Files []struct {
			Path    string
			SameAs  string `json:"same_as"`
			Source  *struct{ Path string }
			Results []result
			Tables  []struct{ Name string }
		}
		Conflicts []struct {
			Kind                    string
			Units, Equal, Different int
			First                   []struct {
				Key, From  string
				Superseded []string
			} `json:"first_different"`
		}
		Results  []result
		Findings []struct{ File, Table, Key string }
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 || !r.Ready || len(r.Files) != 3 ||
		len(r.Conflicts) != 3 {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	for i, f := range r.Files {
		if f.Path != paths[i] || f.Source == nil || f.Source.Path != paths[i] || len(f.Results) == 0 ||
			(f.SameAs == paths[0]) != (i == 2) || (len(f.Tables) == 0) != (i == 2) {
			t.Errorf("got %+v", f)
		}
	}
	u := r.Conflicts[1]
	if u.Kind != "system_state" || u.Units != 5 || u.Equal != 4 || u.Different != 1 || len(u.First) != 1 ||
		u.First[0].Key != "tracker:3" || u.First[0].From != paths[1] ||
		!slices.Equal(u.First[0].Superseded, paths[:1]) {
		t.Errorf("got %+v", u)
	}
	if len(r.Findings) == 0 || slices.ContainsFunc(r.Findings, func(f struct{ File, Table, Key string }) bool {
		return f.File != paths[1]
	}) {
		t.Errorf("got the findings %+v", r.Findings)
	}
	stdout, stderr, code = p.run(t, "check", "--without-pgvector", "--sqlite", "a.db", "--sqlite", "missing.db")
	if code != 3 || !strings.Contains(stderr, `1 error, in "`+filepath.Join(p.dir, "missing.db")+`"`) ||
		!strings.Contains(stdout, "NOT READY: 1 error") {
		t.Errorf("a missing file: exit %d\n%s%s", code, stdout, stderr)
	}
	makeSQLite(t, paths[1], "INSERT INTO system_state VALUES (NULL, '1', '')")
	stdout, stderr, code = p.run(t, args...)
	if code != 3 || !strings.Contains(stderr, paths[1]) || !strings.Contains(stdout, "--quarantine") {
		t.Errorf("a rejected row: exit %d\n%s%s", code, stdout, stderr)
	}
	if _, stderr, code = p.run(t, "check", "--sqlite", "a.db", "--sqlite", "b#.db"); code != 2 ||
		!strings.Contains(stderr, "b#.db") {
		t.Errorf("a name that Flujo cannot read: exit %d: %s", code, stderr)
	}
}
