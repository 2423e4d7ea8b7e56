package main

import (
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestSameFilesAsJSON tests the JSON reports of commands with a file and a copy of it, which is not read again: they
// are valid by the schema, which run tests.
func TestSameFilesAsJSON(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "DATABASE_URL="+pgtest.Database(t))
	content, err := os.ReadFile(absolute(t, fixture))
	if err != nil {
		t.Fatal(err)
	}
	copied := write(t, filepath.Join(p.dir, "b.db"), string(content))
	files := []string{"--sqlite", absolute(t, fixture), "--sqlite", copied}
	for _, args := range [][]string{
		{"check", "--without-pgvector"}, {"migrate", "--without-pgvector", "--dry-run"},
		{"migrate", "--without-pgvector"}, {"migrate", "--without-pgvector", "--if-needed"}, {"verify"},
	} {
		if _, stderr, code := p.run(t, append(append(args, "--json"), files...)...); code != 0 {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}
