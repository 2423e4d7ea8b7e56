//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// limited runs the program with a limit on the size of the files that it writes, in blocks of 512 or 1024 bytes: a disk
// that is full.
func (p *program) limited(t *testing.T, blocks string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.Command("sh", append([]string{"-c", "ulimit -f " + blocks + `; exec "$@"`, "sh", binary}, args...)...)
	var out, errs bytes.Buffer
	c.Dir, c.Env, c.Stdout, c.Stderr = p.dir, p.env, &out, &errs
	_ = c.Run() // the exit code says more
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// failedAs reports whether stdout is a JSON report that has the error of an exit code, and no results.
func failedAs(stdout string, code int) bool {
	var r map[string]any
	d := json.NewDecoder(strings.NewReader(stdout))
	if d.Decode(&r) != nil || d.More() {
		return false
	}
	failure, _ := r["error"].(map[string]any)
	return r["exit_code"] == float64(code) && failure["message"] != "" && r["tables"] == nil
}

// TestTemporaryFilesFull checks that a folder for temporary files that is full ends a command with --json before its
// commit, at the first finding that cannot be stored, and that the error names TMPDIR. Without findings, and without
// --json, the command is done.
func TestTemporaryFilesFull(t *testing.T) {
	t.Parallel()
	url, other := pgtest.Database(t), pgtest.Database(t)
	many := changedFixture(t, "UPDATE steps SET output = '{\"x\": NaN}', raw_response = '{\"x\": NaN}'")
	one := changedFixture(t, "UPDATE steps SET output = '{\"x\": NaN}' WHERE id = (SELECT min(id) FROM steps)")
	p := newProgram(t, "DATABASE_URL="+url)
	folder := p.env[2][len("TMPDIR="):]
	const (
		hint      = "free disk space there, or set TMPDIR to another folder, then run again"
		committed = "file too large; nothing was committed; " + hint
		checked   = "file too large; nothing was changed; " + hint
	)
	for _, c := range []struct{ command, blocks, file, words string }{
		{"migrate", "16", many, committed}, {"migrate", "0", one, committed}, {"migrate --strict", "0", one, committed},
		{"migrate --dry-run", "0", one, committed}, {"check", "16", many, checked}, {"check", "0", one, checked},
	} {
		args := append(strings.Fields(c.command), "--json", "--without-pgvector", "--sqlite", c.file)
		stdout, stderr, code := p.limited(t, c.blocks, args...)
		if code != 1 || !failedAs(stdout, code) || !strings.Contains(stderr, "\""+folder+"\" (TMPDIR)") ||
			!strings.Contains(stderr, c.words) {
			t.Errorf("%s with %s blocks: exit %d: %.200q %s", c.command, c.blocks, code, stdout, stderr)
		}
		if got := ask(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
			t.Errorf("%s: something was migrated", c.command)
		}
	}
	stdout, stderr, code := p.limited(t, "0", "migrate", "--without-pgvector", "--sqlite", many)
	if code != 0 || !strings.HasPrefix(stdout, "Migrated and verified: ") {
		t.Errorf("without --json: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.limited(
		t,
		"0",
		"migrate",
		"--without-pgvector",
		"--json",
		"--sqlite",
		absolute(t, fixture),
		"--postgres",
		other,
	)
	if code != 0 || !json.Valid([]byte(stdout)) {
		t.Errorf("without findings: exit %d: %s%s", code, stdout, stderr)
	}
}

// TestTemporaryFilesFullAtVerify checks that verify prints no report but the error if the differences or the findings
// cannot be stored, and that its exit code is still that of the verdict, unless that is 0.
func TestTemporaryFilesFullAtVerify(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"differences": absolute(t, fixture),
		"findings":    changedFixture(t, "UPDATE steps SET output = '{\"x\": NaN}', raw_response = '{\"x\": NaN}'"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			p := newProgram(t, "DATABASE_URL="+url)
			if _, stderr, code := p.run(t, "migrate", "--without-pgvector", "--sqlite", file); code != 0 {
				t.Fatal(stderr)
			}
			if name == "differences" {
				execute(t, url, "UPDATE flujo.steps SET step_name = 'other'")
			}
			for _, c := range []struct {
				code  int
				words []string
			}{
				{1, []string{"flujo-port: the report cannot be printed", "(TMPDIR)", "nothing was changed"}},
				{4, []string{"warning: the report cannot be printed", "(TMPDIR)", "flujo-port: 213 rows"}},
			} {
				stdout, stderr, code := p.limited(t, "1", "verify", "--json", "--sqlite", file)
				if code != c.code || !failedAs(stdout, code) {
					t.Errorf("exit %d, want %d: %.200q %s", code, c.code, stdout, stderr)
				}
				for _, words := range c.words {
					if !strings.Contains(stderr, words) {
						t.Errorf("stderr lacks %q: %s", words, stderr)
					}
				}
				// From now on a difference is a mismatch.
				execute(t, url, "UPDATE flujo.steps SET step_name = 'other'; DELETE FROM flujo.flujo_port_receipts")
			}
		})
	}
}

// TestTemporaryFilesFolder checks that --json names TMPDIR if no temporary file can be created there, before anything
// is done, and that nothing else needs TMPDIR.
func TestTemporaryFilesFolder(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	folder := t.TempDir()
	for _, path := range []string{filepath.Join(folder, "none"), write(t, filepath.Join(folder, "file"), "")} {
		p := newProgram(t, "DATABASE_URL="+url, "FLUJO_PORT_SQLITE="+file)
		p.env[2] = "TMPDIR=" + path
		for _, command := range []string{
			"check", "migrate", "migrate --dry-run", "verify", "init", "restore --sqlite new.db",
		} {
			args := append(strings.Fields(command), "--json")
			stdout, stderr, code := p.run(t, args...)
			if code != 2 || !failedAs(stdout, code) || !strings.Contains(stderr, "\""+path+"\" (TMPDIR)") ||
				!strings.Contains(stderr, "; nothing was changed; set TMPDIR to a folder") {
				t.Errorf("%s: exit %d: %s%s", command, code, stdout, stderr)
			}
		}
		for _, command := range []string{"migrate --without-pgvector --replace", "verify", "restore --sqlite new.db"} {
			if stdout, stderr, code := p.run(t, strings.Fields(command)...); code != 0 {
				t.Errorf("%s: exit %d: %s%s", command, code, stdout, stderr)
			}
		}
	}
}

// TestTemporaryFilesHaveNoName checks that a temporary file has no name while the program runs, so that no kill leaves
// one.
func TestTemporaryFilesHaveNoName(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holdSteps(t, url)
	p := newProgram(t)
	c := p.command("migrate", "--json", "--postgres", url, "--sqlite", absolute(t, fixture), "--without-pgvector")
	stderr := start(t, c)
	untilLine(t, stderr, "creating tables")
	if names, err := os.ReadDir(p.env[2][len("TMPDIR="):]); err != nil || len(names) > 0 {
		t.Errorf("TMPDIR has %v (%v)", names, err)
	}
}

// TestSpoolClear tests that values that were removed are not read again, whether or not others followed.
func TestSpoolClear(t *testing.T) {
	t.Parallel()
	s, err := newSpool[string](true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	want := func(want ...string) {
		t.Helper()
		var got []string
		err := s.each(func(one string) error {
			got = append(got, one)
			return nil
		})
		if err != nil || s.check() != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, want %q (%v, %v)", got, want, err, s.check())
		}
	}
	add := func(all ...string) {
		for _, one := range all {
			if err := s.add(one); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.clear()
	want()
	add("a", "long value", "b")
	want("a", "long value", "b")
	s.clear()
	want()
	add("c")
	want("c")
}

// TestReportFileFull tests that a report that cannot be written after the commit is a warning, and otherwise an error.
func TestReportFileFull(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	p := newProgram(t, "DATABASE_URL="+url)
	_, stderr, code := p.limited(t, "4", "migrate", "--without-pgvector", "--sqlite", file, "--report", "a.html")
	if code != 0 || !strings.Contains(stderr, "warning: the migration is committed, but ") ||
		!strings.Contains(stderr, `cannot write "a.html"`) {
		t.Errorf("migrate: exit %d: %s", code, stderr)
	}
	_, stderr, code = p.limited(t, "4", "verify", "--sqlite", file, "--report", "a.html")
	if code != 1 || !strings.Contains(stderr, `cannot write "a.html"`) {
		t.Errorf("verify: exit %d: %s", code, stderr)
	}
	if names, err := filepath.Glob(filepath.Join(p.dir, "*.html")); err != nil || len(names) > 0 {
		t.Errorf("left %v (%v)", names, err)
	}
	if names, err := filepath.Glob(filepath.Join(p.dir, ".flujo-port-*")); err != nil || len(names) > 0 {
		t.Errorf("left %v (%v)", names, err)
	}
}
