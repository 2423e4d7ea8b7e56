package main

import (
	"encoding/json"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestMerge checks the exit codes, messages and JSON of migrate --merge.
func TestMerge(t *testing.T) {
	t.Parallel()
	url, file := pgtest.WithPassword(t, pgtest.Database(t)), absolute(t, fixture)
	p := newProgram(t, "DATABASE_URL="+url)
	_, stderr, code := p.run(t, "migrate", "--sqlite", file, "--merge", "--replace")
	if code != 2 || !strings.Contains(stderr, "--merge") ||
		!strings.Contains(stderr, "nothing was written") && !strings.Contains(stderr, "--help") {
		t.Errorf("with --replace: exit %d\n%s", code, stderr)
	}
	stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--merge")
	if code != 0 || !strings.HasPrefix(stdout, "Migrated and verified: ") || strings.Contains(stdout, "taken over") ||
		!strings.Contains(stdout, "there were no rows to merge with") {
		t.Errorf("into an empty schema: exit %d\n%s%s", code, stdout, stderr)
	}
	execute(
		t,
		url,
		"UPDATE flujo.runs SET updated_at = '2000-01-01', created_at = '2000-01-01' "+
			"WHERE run_id IN (SELECT run_id FROM flujo.runs ORDER BY 1 LIMIT 1)",
		"INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, "+
			"updated_at) VALUES ('own', 'p', 'n', '1', 'running', now(), now())",
		"DELETE FROM flujo.system_state WHERE key = 'tracker:4'",
		"UPDATE flujo.system_state SET value = '{\"b\": 1}' WHERE key = 'tracker:3'",
		"UPDATE flujo.steps SET run_id = 'own' WHERE id = 1",
	)
	for _, args := range [][]string{{"--dry-run"}, nil} {
		stdout, stderr, code = p.run(
			t,
			append([]string{"migrate", "--sqlite", file, "--without-pgvector", "--merge"}, args...)...)
		if code != 0 {
			t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
		}
		for _, want := range []string{
			"after the merge every run was read back and compared with the version written last", "merging",
			"kept in PostgreSQL; the state file's version differs but has the same time: \"tracker:3\""} {
			if !strings.Contains(unwrapped(stdout+stderr), want) {
				t.Errorf("%v: nothing says %q:\n%s%s", args, want, stdout, stderr)
			}
		}
		want := "Merged and verified in "
		if len(args) > 0 {
			want = "Dry run, rolled back: merged and verified in "
		}
		if !strings.HasPrefix(stdout, want) || !strings.Contains(stdout, "\n  Units  ") {
			t.Errorf("%s", stdout)
		}
	}
	if got := ask(t, url, "SELECT count(*) FROM flujo.system_state "+
		"WHERE key IN ('tracker:3', 'tracker:4')"); got != "2" {
		t.Errorf("%s keys", got)
	}
	stdout, stderr, code = p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--merge", "--json")
	var r struct {
		Merge struct {
			Units []struct {
				Kind      string
				Equal     int64
				Kept      int64
				TakenOver int64 `json:"taken_over"`
			}
		}
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 || len(r.Merge.Units) != 2 ||
		r.Merge.Units[0].Kind != "runs" ||
		r.Merge.Units[0].Equal == 0 ||
		r.Merge.Units[0].TakenOver != 0 {
		t.Errorf("exit %d, %v: %.2000s%s", code, err, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "verify", "--sqlite", file)
	if code != 0 || !strings.HasPrefix(stdout, "Merged: ") || !strings.Contains(stdout, "without a receipt") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, password(t, url)) {
		t.Error("the password was printed")
	}
}
