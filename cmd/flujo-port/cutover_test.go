package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// runbook runs the commands of a page of docs, in a folder of its own.
type runbook struct {
	t      *testing.T
	page   string
	blocks map[string]string // by name
	ran    map[string]bool
	dir    string
	env    []string
}

// newRunbook reads a page. env is added to the environment of its commands.
func newRunbook(t *testing.T, page string, env ...string) *runbook {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	r := &runbook{t: t, page: page, blocks: map[string]string{}, ran: map[string]bool{}, dir: t.TempDir()}
	for _, block := range regexp.MustCompile("(?s)```sh ([a-z-]+)\n(.*?)```").FindAllSubmatch(text, -1) {
		r.blocks[string(block[1])] = string(block[2])
	}
	// The server of the tests need not have pgvector.
	wrapper := fmt.Sprintf(
		"#!/bin/sh\ncase $1 in check|migrate) exec %s \"$@\" --without-pgvector;; *) exec %[1]s \"$@\";; esac\n",
		binary,
	)
	if err := os.WriteFile(filepath.Join(r.dir, "flujo-port"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	r.env = append(env, "PATH="+r.dir+":"+os.Getenv("PATH"), "HOME="+r.dir)
	return r
}

// run runs the commands of a block, which must succeed and print the words.
func (r *runbook) run(name string, words ...string) {
	r.t.Helper()
	r.ran[name] = true
	c := exec.Command("bash", "-euc", r.blocks[name]+"\necho \"FLUJO_STATE_URI=${FLUJO_STATE_URI-}\"")
	c.Dir, c.Env = r.dir, r.env
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil || r.blocks[name] == "" {
		r.t.Fatalf("%s: %v\n%s", name, err, &out)
	}
	for _, w := range words {
		if !strings.Contains(unwrapped(out.String()), w) {
			r.t.Errorf("%s does not say %q:\n%s", name, w, &out)
		}
	}
}

// end tests that every block was run, except for some.
func (r *runbook) end(except ...string) {
	r.t.Helper()
	for name := range r.blocks {
		if !r.ran[name] && !slices.Contains(except, name) {
			r.t.Errorf("the commands of %q in %s were not run", name, r.page)
		}
	}
}

// TestRunbook runs every command of docs/cutover.md, with what Flujo does in
// between, against a real server.
func TestRunbook(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	r := newRunbook(t, "cutover.md", "DATABASE_URL="+url)
	dir, run := r.dir, r.run
	content, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(dir, "flujo_state.db"), string(content))
	r.env = append(r.env, "FILE="+file)
	run("dry-run", "Ready", "Dry run")
	run("cutover", "Equal")
	if env, err := os.ReadFile(filepath.Join(dir, "cutover.env")); err != nil ||
		!strings.HasPrefix(string(env), "FLUJO_STATE_URI=postgresql://") {
		t.Errorf("cutover.env: %s (%v)", env, err)
	}
	run("again", "Already migrated: "+file, "the cutover address was written to cutover.env")
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
	run("later", "Restored and verified", "restored.db")
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
	run("replace", "Migrated and verified", "flujo_archive_")
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
	run("merge", "Merged and verified")
	if got := ask(t, url, "SELECT count(*) FROM flujo.runs "+
		"WHERE run_id IN ('day', 'file', 'other', 'again')"); got != "4" {
		t.Errorf("%s of the four runs are in PostgreSQL", got)
	}
	run("merge-back", "Restored and verified")
	if got := sqlite(t, filepath.Join(dir, "merged.db"),
		"SELECT count(*) FROM runs WHERE run_id IN ('day', 'file', 'other', 'again')"); got != "4" {
		t.Errorf("%s of the four runs are in the merged file", got)
	}
	r.end("setup")
}

// TestSeveralFiles runs every command of docs/several-files.md, with the files of three instances that share keys of
// system_state, one of which has different values.
func TestSeveralFiles(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	r := newRunbook(t, "several-files.md", "DATABASE_URL="+url)
	content, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		file := write(t, filepath.Join(r.dir, fmt.Sprintf("pod-%d.db", i)), string(content))
		for _, table := range []string{"runs", "workflow_state", "steps", "spans", "evaluations"} {
			sqlite(t, file, fmt.Sprintf("UPDATE %s SET run_id = 'pod-%d-' || run_id", table, i))
		}
		sqlite(
			t,
			file,
			fmt.Sprintf("UPDATE system_state SET value = '%d', updated_at = '2030-01-05T09:00:0%[1]d+00:00' "+
				"WHERE key = 'tracker:1'", i),
		)
	}
	r.run("several-check", "Ready", "Dry run", "Migrated and verified", "pod-2.db", "taken over from the state file")
	if got := ask(t, url, "SELECT count(*) || ' ' || (SELECT value FROM flujo.system_state WHERE key = 'tracker:1') "+
		"FROM flujo.runs"); got != "180 2" {
		t.Errorf("got the number of runs and the value of the key %s, want 180 2", got)
	}
	r.run("several-verify", "superseded by "+filepath.Join(r.dir, "pod-2.db"),
		"Every row is of one of these files, or was written by Flujo since")
	r.run("several-back", "Restored and verified", "receipt 2")
	want, err := os.ReadFile(filepath.Join(r.dir, "pod-1.db"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(r.dir, "pod-1-copy.db")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy does not have the bytes of the file (%v)", err)
	}
	const steps = "SELECT group_concat(id || run_id || step_name) FROM (SELECT * FROM steps ORDER BY id)"
	if a, b := sqlite(
		t,
		filepath.Join(r.dir, "pod-1-again.db"),
		steps,
	), sqlite(
		t,
		filepath.Join(r.dir, "pod-1.db"),
		steps,
	); a !=
		b {
		t.Errorf("got the steps %.300s, want %.300s", a, b)
	}
	r.end()
}
