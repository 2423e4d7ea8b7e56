package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
	sqlite3 "flujo-port/internal/sqlite"
)

func TestBuiltFrom(t *testing.T) {
	t.Parallel()
	const commit = "cc3ffd286f16afc98440315251446a7e82a07080"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: commit},
			{Key: "vcs.time", Value: "2026-11-26T03:38:53Z"}, {Key: "vcs.modified", Value: modified},
		}
	}
	const time = "2026-11-26T03:38:53Z"
	for _, c := range []struct {
		name     string
		version  string
		settings []debug.BuildSetting
		want     built
	}{
		{"a tag", "v1.0.0", vcs("false"), built{"v1.0.0", commit, time, false}},
		{"changes after a tag", "v1.0.0+dirty", vcs("true"), built{"v1.0.0+dirty", commit, time, true}},
		{"a commit without a tag", "(devel)", vcs("false"),
			built{"v0.0.0-20261126033853-cc3ffd286f16", commit, time, false}},
		{"changes without a tag", "", vcs("true"),
			built{"v0.0.0-20261126033853-cc3ffd286f16+dirty", commit, time, true}},
		{"no commit recorded", "(devel)", nil, built{version: unknownBuild}},
		{"no time recorded", "(devel)", vcs("false")[:2], built{version: unknownBuild, commit: commit}},
		{"a module without a clone", "v1.2.3", nil, built{version: "v1.2.3"}},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: c.version}, Settings: c.settings}
		if got := builtFrom(info, true); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := builtFrom(nil, false); got != (built{version: unknownBuild}) {
		t.Errorf("without build information: got %+v", got)
	}
}

// TestVersion tests the command with the program of the tests, and that a receipt has the same version.
func TestVersion(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	stdout, stderr, code := p.run(t, "version", "--json")
	var v struct{ Command, Version, Go, SQLite, Platform string }
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if v.Command != "version" || v.Version == "" || v.Version == "(devel)" || v.Go != runtime.Version() ||
		v.SQLite != sqlite3.Version || v.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("got %+v", v)
	}
	if stdout, _, code := p.run(t, "version"); code != 0 || !strings.HasPrefix(stdout, "flujo-port "+v.Version+"\n") {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	if _, stderr, code := p.run(t, "version", "x"); code != 2 {
		t.Errorf("with an argument: exit %d\n%s", code, stderr)
	}
	url := pgtest.Database(t)
	if _, stderr, code := p.run(t, "migrate", "--postgres", url, "--sqlite", absolute(t, fixture),
		"--without-pgvector"); code != 0 {
		t.Fatal(stderr)
	}
	if got := ask(t, url, "SELECT version FROM flujo.flujo_port_receipts"); got != v.Version {
		t.Errorf("the receipt has version %q, want %q", got, v.Version)
	}
}

// TestVersionOfClone builds the program in a clone, as make build does: without a tag, and with a tag and a changed
// file. With -trimpath the build cache has the packages, wherever the clone is.
func TestVersionOfClone(t *testing.T) {
	t.Parallel()
	clone, program := t.TempDir(), filepath.Join(t.TempDir(), "flujo-port")
	for _, folder := range []string{"cmd", "internal"} {
		if err := os.CopyFS(filepath.Join(clone, folder), os.DirFS(filepath.Join("../..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(clone, name), string(content))
	}
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_") })
	environ = append(environ, "CGO_ENABLED=0", "GOENV=off", "GOFLAGS=-mod=readonly")
	run := func(name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir, c.Env = clone, environ
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	type version struct {
		Version, Commit string
		Modified        bool
	}
	builtVersion := func() (v version) {
		t.Helper()
		run("go", "build", "-trimpath", "-o", program, "./cmd/flujo-port")
		out, err := exec.Command(program, "version", "--json").Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	run("git", "init", "--quiet")
	run("git", "add", "--all")
	run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message=test")
	pseudo := regexp.MustCompile(`^v0\.0\.0-\d{14}-[0-9a-f]{12}$`)
	if v := builtVersion(); !pseudo.MatchString(v.Version) || len(v.Commit) != 40 || v.Modified ||
		!strings.HasSuffix(v.Version, "-"+v.Commit[:12]) {
		t.Errorf("without a tag: %+v", v)
	}
	run("git", "tag", "v1.2.3")
	write(t, filepath.Join(clone, "README.md"), "new")
	if v := builtVersion(); v.Version != "v1.2.3+dirty" || !v.Modified {
		t.Errorf("with a tag and a changed file: %+v", v)
	}
}
