//go:build slow && unix

package torture

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// start starts the job in this place.
func (p *place) start(t *testing.T) *run {
	t.Helper()
	r := prepare(t, p.url, p.args()...)
	r.start(t)
	return r
}

// judge compares what is there with what the program said, and runs the command once more if nothing has changed, or if
// it can be repeated.
func (p *place) judge(t *testing.T, r *run) outcome {
	t.Helper()
	p.settle(t)
	o := p.compare(t, r, p.look(t))
	p.check(t, r)
	if o.result == done && p.writes != writesNothing && !p.onlyIfNeeded() {
		return o
	}
	if o.result == unknown && p.look(t) != p.before {
		return o
	}
	flujotest.ExecAt(t, p.admin, "SET synchronous_commit = local",
		"ALTER ROLE "+p.name+" SET synchronous_commit = local") // nothing holds it up
	again := p.start(t)
	again.wait(t)
	p.settle(t)
	if got := p.look(t); again.code != 0 || got != p.after {
		t.Errorf("%s: the second run: %s\n%s", p.job.name, again, got)
	}
	again.killed = r.killed // whose leftovers may still be there
	p.check(t, again)
	if leftovers := p.leftovers(t, ".flujo-port-restore"); len(leftovers) > 0 && p.writes == writesFile {
		t.Errorf("%s: the second run left %q: %s", p.job.name, leftovers, again)
	}
	return o
}

// compare compares a state with the exit code of a run.
func (p *place) compare(t *testing.T, r *run, state string) outcome {
	t.Helper()
	o := outcome{command: p.job.name, phase: r.phase, result: unchanged}
	if state == p.after && (p.writes != writesNothing || r.code == 0) {
		o.result = done
	}
	notKnown := r.code == 1 && strings.Contains(r.stderr, "not known")
	switch {
	case state != p.before && state != p.after:
		t.Errorf("%s: the state is neither that before nor that after:\n%s\nbefore %s\nafter  %s\n%s", p.job.name,
			state, p.before, p.after, r)
	case r.code == 0 && o.result != done, r.code > 0 && !notKnown && o.result == done:
		t.Errorf("%s: %s, but %s", p.job.name, o.result, r)
	case notKnown && (!r.unreachable || p.writes != writesDatabase):
		t.Errorf("%s: not known, although the server could be asked: %s", p.job.name, r)
	}
	if notKnown {
		o.result = unknown
	}
	if p.envFile {
		p.checkEnvFile(t, r, o)
	}
	return o
}

// checkEnvFile tests that the env file is as it was before or complete, and complete after exit code 0.
func (p *place) checkEnvFile(t *testing.T, r *run, o outcome) {
	t.Helper()
	content, err := os.ReadFile(p.envPath())
	before := ""
	if p.oldFile {
		before = oldEnvFile
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		t.Error(err)
		return
	}
	url := r.url()
	complete := p.envText != "" && string(content) == strings.ReplaceAll(p.envText, "{address}", addressText(url))
	switch {
	case !complete && string(content) != before:
		t.Errorf("%s: the env file is neither that before nor complete:\n%s\n%s", p.job.name, content, r)
	case complete && (o.result == unchanged || p.writes == writesNothing):
		t.Errorf("%s: an env file, but %s: %s", p.job.name, o.result, r)
	case !complete && r.code == 0 && p.writes != writesNothing && !strings.Contains(r.stderr, "warning: cannot write"):
		t.Errorf("%s: done, but no env file: %s", p.job.name, r)
	}
	if info, err := os.Lstat(p.envPath()); err == nil && info.Mode() != 0o600 {
		t.Errorf("%s: the env file has mode %v", p.job.name, info.Mode())
	}
}

// url returns the address that the program was given.
func (r *run) url() string {
	for _, variable := range r.cmd.Env {
		if url, ok := strings.CutPrefix(variable, "DATABASE_URL="); ok {
			return url
		}
	}
	return ""
}

// check tests what holds for every run.
func (p *place) check(t *testing.T, r *run, codes ...int) {
	t.Helper()
	for path, before := range p.files {
		if sum(t, path) != before {
			t.Errorf("%s changed %s", p.job.name, path)
		}
	}
	if !slices.Contains(p.codes(r, codes), r.code) {
		t.Errorf("%s: the exit code is wrong for what happened: %s", p.job.name, r)
	}
	all := r.stdout + r.stderr
	if strings.Contains(all, "panic:") || strings.Contains(all, "goroutine ") {
		t.Errorf("%s: %s", p.job.name, r)
	}
	if strings.ContainsFunc(all, notPrinted) {
		t.Errorf("%s printed control characters: %q", p.job.name, all)
	}
	if p.json && !r.killed && !r.noReport {
		p.checkJSON(t, r)
	}
	p.checkSecret(t, r, all)
	if leftovers := append(p.leftovers(t, ""), filesIn(t, r.dir)...); len(leftovers) > 0 && !r.killed {
		t.Errorf("%s left %q: %s", p.job.name, leftovers, r)
	}
}

// codes returns the exit codes that are right for what the trial did, and others.
func (p *place) codes(r *run, others []int) []int {
	codes := append([]int{0, 1}, others...)
	if p.job.name == "check" { // a server that does not answer is an error in its report
		codes = append(codes, 3)
	}
	if r.killed {
		codes = append(codes, -1)
	}
	if r.interrupted {
		codes = append(codes, 130)
		if r.stderr == "" { // the signal came before the program handled it
			codes = append(codes, -1)
		}
	}
	return codes
}

// checkJSON tests that stdout is empty or one JSON object, and not empty after exit code 0.
func (p *place) checkJSON(t *testing.T, r *run) {
	t.Helper()
	if r.stdout == "" && r.code != 0 {
		return
	}
	d := json.NewDecoder(strings.NewReader(r.stdout))
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		t.Errorf("%s: stdout is no JSON object: %v: %s", p.job.name, err, r)
	} else if _, err := d.Token(); err != io.EOF {
		t.Errorf("%s: stdout is more than a JSON object: %s", p.job.name, r)
	}
}

// checkSecret looks for the password in all that the command and the server have written. Only the env file may
// have it, and what a killed run left of it, which only its owner can read.
func (p *place) checkSecret(t *testing.T, r *run, output string) {
	t.Helper()
	written := map[string]string{
		"its output":             output,
		"the server's log":       takeLog(t, p.server),
		"a dump of the database": flujotest.Command(t, "pg_dump", "--dbname", p.admin),
	}
	for _, dir := range []string{p.dir, r.dir} {
		for _, path := range filesIn(t, dir) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			info, err := os.Lstat(path)
			rest := r.killed && strings.HasPrefix(filepath.Base(path), ".flujo-port-") && err == nil &&
				info.Mode().Perm() == 0o600
			if path != p.envPath() && !rest {
				written[path] = string(content)
			}
		}
	}
	for where, text := range written {
		if strings.Contains(text, p.secret) {
			t.Errorf("%s: the password is in %s: %s", p.job.name, where, r)
		}
	}
}

// takeLog returns what the server has logged since the last call.
func takeLog(t *testing.T, server *pgtest.Server) string {
	t.Helper()
	text := server.Log()
	if err := os.Truncate(filepath.Join(server.Dir(), "log"), 0); err != nil {
		t.Error(err)
	}
	return text
}

// leftovers returns the files and folders in the place that are neither the new file nor the env file, and whose
// names contain the words.
func (p *place) leftovers(t *testing.T, words string) (paths []string) {
	t.Helper()
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		path := filepath.Join(p.dir, entry.Name())
		if path != p.newPath() && path != p.envPath() && strings.Contains(path, words) {
			paths = append(paths, path)
		}
	}
	return paths
}

// filesIn returns the paths of all files in a folder and its folders.
func filesIn(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return paths
}
