package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestPageCutover runs every command of docs/cutover.md, with what Flujo does in between, against a real server.
func TestPageCutover(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	r := newRunbook(t, "docs/cutover.md", "DATABASE_URL="+url)
	r.names = []string{`"` + ask(t, url, "SELECT current_user") + `"`, `"app"`}
	dir, run := r.dir, r.run
	file := filepath.Join(dir, "flujo_state.db")
	run("check")
	run("dry-run")
	run("backup")
	run("check-backup")
	run("cutover")
	run("verify")
	if env, err := os.ReadFile(filepath.Join(dir, "cutover.env")); err != nil ||
		!strings.HasPrefix(string(env), "FLUJO_STATE_URI=postgresql://") {
		t.Errorf("cutover.env: %s (%v)", env, err)
	}
	run("again", "the cutover address was written to cutover.env")
	run("last-verify")
	for _, name := range []string{"dry-run.html", "migrated.html", "last-verify.html", "backup/flujo_state.db"} {
		if !r.exists(name) {
			t.Errorf("there is no %s", name)
		}
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
	run("later", "FLUJO_STATE_URI=sqlite:///"+filepath.Join(dir, "restored.db"))
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
	run("replace")
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
	run("merge")
	if got := ask(t, url, "SELECT count(*) FROM flujo.runs "+
		"WHERE run_id IN ('day', 'file', 'other', 'again')"); got != "4" {
		t.Errorf("%s of the four runs are in PostgreSQL", got)
	}
	run("merge-back")
	if got := sqlite(t, filepath.Join(dir, "merged.db"),
		"SELECT count(*) FROM runs WHERE run_id IN ('day', 'file', 'other', 'again')"); got != "4" {
		t.Errorf("%s of the four runs are in the merged file", got)
	}
	r.end("owner", "auditor", "kubernetes-dry-run", "kubernetes-cutover") // TestPagesWaitForJobs
}

// TestPageCutoverRoles runs the commands of docs/cutover.md by which an administrator prepares roles.
func TestPageCutoverRoles(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	owner, auditor := pgtest.Role(t, url, ""), pgtest.Role(t, url, "")
	role := func(address string) string { return ask(t, address, "SELECT current_user") }
	r := newRunbook(t, "docs/cutover.md", "ADMIN_URL="+url, "ROLE="+role(owner), "AUDITOR="+role(auditor))
	r.names = []string{role(owner), "app", role(auditor), "auditor"}
	r.run("owner")
	r.env = append(r.env, "DATABASE_URL="+owner)
	r.run("cutover")
	r.run("auditor")
	r.env = append(r.env, "DATABASE_URL="+auditor)
	r.run("verify")
}

// TestPageSeveralFiles runs every command of docs/several-files.md, with the files of three instances that share keys
// of system_state, one of which has different values.
func TestPageSeveralFiles(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	r := newRunbook(t, "docs/several-files.md", "DATABASE_URL="+url)
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
	r.run("several-check")
	r.run("several-dry-run")
	r.run("several-migrate")
	if got := ask(t, url, "SELECT count(*) || ' ' || (SELECT value FROM flujo.system_state WHERE key = 'tracker:1') "+
		"FROM flujo.runs"); got != "180 2" {
		t.Errorf("got the number of runs and the value of the key %s, want 180 2", got)
	}
	r.run("several-verify")
	r.run("several-verify-all")
	r.run("several-back")
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
