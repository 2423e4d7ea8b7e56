package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// runbook reads the commands of docs/cutover.md, by the names of their blocks.
func runbook(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/cutover.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, block := range regexp.MustCompile("(?s)```sh ([a-z-]+)\n(.*?)```").FindAllSubmatch(text, -1) {
		blocks[string(block[1])] = string(block[2])
	}
	return blocks
}

// TestRunbook runs every command of docs/cutover.md, with what Flujo does in
// between, against a real server.
func TestRunbook(t *testing.T) {
	t.Parallel()
	blocks := runbook(t)
	dir, url := t.TempDir(), pgtest.Database(t)
	content, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(dir, "flujo_state.db"), string(content))
	// The server of the tests need not have pgvector.
	wrapper := fmt.Sprintf(
		"#!/bin/sh\ncase $1 in check|migrate) exec %s \"$@\" --without-pgvector;; *) exec %[1]s \"$@\";; esac\n",
		binary,
	)
	if err := os.WriteFile(filepath.Join(dir, "flujo-port"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{"setup": true}
	run := func(name string, words ...string) {
		t.Helper()
		ran[name] = true
		c := exec.Command("bash", "-euc", blocks[name]+"\necho \"FLUJO_STATE_URI=${FLUJO_STATE_URI-}\"")
		c.Dir = dir
		c.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "DATABASE_URL=" + url, "FILE=" + file}
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Run(); err != nil || blocks[name] == "" {
			t.Fatalf("%s: %v\n%s", name, err, &out)
		}
		for _, w := range words {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s does not say %q:\n%s", name, w, &out)
			}
		}
	}
	run("dry-run", "Ready", "Dry run")
	run("cutover", "Equal")
	if env, err := os.ReadFile(filepath.Join(dir, "cutover.env")); err != nil ||
		!strings.HasPrefix(string(env), "FLUJO_STATE_URI=postgresql://") {
		t.Errorf("cutover.env: %s (%v)", env, err)
	}
	run("load", "FLUJO_STATE_URI=postgresql://", "search_path%3Dflujo")
	run("at-once", "FLUJO_STATE_URI=sqlite:///"+file)
	execute(
		t,
		url,
		"UPDATE flujo.runs SET status = 'later', updated_at = now() "+
			"WHERE run_id = (SELECT min(run_id) FROM flujo.runs)",
		"INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, "+
			"updated_at) VALUES ('day', 'p', 'n', '1', 'completed', now(), now())",
		"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('day', 's', 0, 'completed', now())",
	)
	run("later", "Done", "restored.db")
	restored := filepath.Join(dir, "restored.db")
	if got := sqlite(t, restored, "SELECT count(*) FROM steps WHERE run_id = 'day'"); got != "1" {
		t.Errorf("%s steps of the day are in the file", got)
	}
	sqlite(
		t,
		restored,
		"INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) "+
			"VALUES ('file', 'p', 'n', '1', 'completed', '2030-01-05T09:00:00+00:00', '2030-01-05T09:00:00+00:00')",
	)
	run("replace", "Done", "flujo_archive_")
	if got := ask(t, url, "SELECT count(*) FROM flujo.runs WHERE run_id IN ('day', 'file')"); got != "2" {
		t.Errorf("%s of the two runs are in PostgreSQL", got)
	}
	execute(
		t,
		url,
		"INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, "+
			"updated_at) VALUES ('other', 'p', 'n', '1', 'completed', now(), now())",
	)
	sqlite(
		t,
		restored,
		"INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) "+
			"VALUES ('again', 'p', 'n', '1', 'completed', '2030-01-05T09:00:00+00:00', '2030-01-05T09:00:00+00:00')",
	)
	run("merge", "Done")
	if got := ask(t, url, "SELECT count(*) FROM flujo.runs "+
		"WHERE run_id IN ('day', 'file', 'other', 'again')"); got != "4" {
		t.Errorf("%s of the four runs are in PostgreSQL", got)
	}
	run("merge-back", "Done")
	if got := sqlite(t, filepath.Join(dir, "merged.db"),
		"SELECT count(*) FROM runs WHERE run_id IN ('day', 'file', 'other', 'again')"); got != "4" {
		t.Errorf("%s of the four runs are in the merged file", got)
	}
	for name := range blocks {
		if !ran[name] {
			t.Errorf("the commands of %q were not run", name)
		}
	}
}
