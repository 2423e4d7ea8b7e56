package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/fileio"
	"flujo-port/internal/report"
	"flujo-port/internal/stateuri"
)

// TestFormats prints addresses in each format, and has a shell evaluate them.
func TestFormats(t *testing.T) {
	t.Parallel()
	const address = "postgresql://app:p%27%26%24x@db.example/med13" +
		"?options=-c%20search_path%3Dflujo%2Cpublic&sslmode=require"
	p := newProgram(t, "DATABASE_URL=postgresql://app:p%27%26%24x@db.example/med13")
	quote := write(t, filepath.Join(p.dir, "it's $HOME & more.db"), "")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"cutover"}, address},
		{[]string{"cutover", "--format", "raw"}, address},
		{[]string{"cutover", "--format", "env"}, "FLUJO_STATE_URI=" + address},
		{[]string{"cutover", "--format", "shell"}, "export FLUJO_STATE_URI='" + address + "'"},
		{[]string{"rollback", "--sqlite", quote, "--format", "env"}, "FLUJO_STATE_URI=sqlite:///" + quote},
	} {
		stdout, stderr, code := p.run(t, append(append([]string{"uri"}, c.args...), "--reveal")...)
		if code != 0 || stdout != c.want+"\n" || strings.Contains(stderr, "***") {
			t.Errorf("%v: exit %d: %s%s", c.args, code, stdout, stderr)
		}
	}
	for _, args := range [][]string{{"cutover"}, {"rollback", "--sqlite", quote}} {
		raw, _, _ := p.run(t, append(append([]string{"uri"}, args...), "--reveal")...)
		shell, _, _ := p.run(t, append(append([]string{"uri"}, args...), "--reveal", "--format", "shell")...)
		out, err := exec.Command("sh", "-euc", shell+`printf '%s\n' "$FLUJO_STATE_URI"`).CombinedOutput()
		if err != nil || string(out) != raw {
			t.Errorf("%v: the shell has %q, want %q (%v)", args, out, raw, err)
		}
	}
	for _, reveal := range []bool{false, true} {
		args := []string{"uri", "cutover", "--format", "json"}
		if reveal {
			args = append(args, "--reveal")
		}
		stdout, _, code := p.run(t, args...)
		var r report.Address
		if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 || r.Command != "uri cutover" ||
			(r.Address == address) != reveal || r.Masked == reveal || len(r.Notes) == 0 {
			t.Errorf("json: exit %d, %v: %s", code, err, stdout)
		}
	}
	stdout, stderr, code := p.run(t, "uri", "cutover", "--format", "shell")
	if code != 0 || !strings.Contains(stdout, ":***@") || !strings.Contains(stderr, "--reveal prints it") {
		t.Errorf("masked: exit %d: %s%s", code, stdout, stderr)
	}
	if stdout, stderr, code := p.run(t, "uri", "cutover", "--format", "yaml"); code != 2 || stdout != "" ||
		!strings.Contains(stderr, "raw, shell, env or json") {
		t.Errorf("unknown: exit %d: %s%s", code, stdout, stderr)
	}
}

// TestRollbackNeedsTheFile checks that the address of a file that does not exist is not printed.
func TestRollbackNeedsTheFile(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	for _, args := range [][]string{
		{}, {"--sqlite", "new.db"}, {"--sqlite", "sqlite:////no/such/folder/new.db"}, {"--format", "json"},
	} {
		stdout, stderr, code := p.run(t, append([]string{"uri", "rollback"}, args...)...)
		if code != 2 || stdout != "" && !slices.Contains(args, "json") || !strings.Contains(stderr, "does not exist") ||
			!strings.Contains(stderr, "--allow-missing") {
			t.Errorf("%v: exit %d: %s%s", args, code, stdout, stderr)
		}
		if stdout, _, code := p.run(t, append([]string{"uri", "rollback", "--allow-missing"}, args...)...); code != 0 ||
			!strings.Contains(stdout, "sqlite:///") {
			t.Errorf("%v --allow-missing: exit %d: %s", args, code, stdout)
		}
	}
	if stdout, stderr, code := p.run(t, "uri", "rollback", "--sqlite", p.dir); code != 2 || stdout != "" ||
		!strings.Contains(stderr, "is a directory") {
		t.Errorf("a directory: exit %d: %s%s", code, stdout, stderr)
	}
}

// TestEnvFileIsReadByItsReaders reads the file as docker and systemd do, and as docs/cutover.md says for a shell.
func TestEnvFileIsReadByItsReaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cutover.env")
	file := &fileio.Output{Path: path}
	address, _, err := stateuri.Cutover("postgresql://app:p@db.example/med13", stateuri.Known{}, "flujo")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it overwrites its own file
		if err := new(env).checkEnvFile(file); err != nil {
			t.Fatal(err)
		}
		if err := (&env{}).writeEnvFile(file, address); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		variables[name] = value
	}
	if len(variables) != 1 || variables[stateURI] != address.Reveal() {
		t.Errorf("%q", content)
	}
	out, err := exec.Command("sed", "-n", "s/^FLUJO_STATE_URI=//p", path).Output()
	if err != nil || string(out) != address.Reveal()+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	write(t, path, string(content)+"OTHER=1\n")
	if new(env).checkEnvFile(file) == nil {
		t.Error("a file with another variable would be overwritten")
	}
}

// TestEnvFileSaysWhatAShellDoes sources the file, and compares what a shell and its children then have with the file's
// comment.
func TestEnvFileSaysWhatAShellDoes(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct {
		words string
		set   bool
	}{
		"postgresql://app:p@db.example/med13":                   {`ends the value at "&" and sets nothing`, false},
		"postgresql://app@/med13?host=/run/pg":                  {`ends the value at "&" and sets nothing`, false},
		"postgresql://app:p@localhost/med13":                    {"does not export it", true},
		"postgresql://app:a%26b%3B%24%28c%29@localhost:1/med13": {"does not export it", true},
	} {
		address, _, err := stateuri.Cutover(url, stateuri.Known{}, "flujo")
		if err != nil {
			t.Fatal(err)
		}
		file := &fileio.Output{Path: filepath.Join(t.TempDir(), "cutover.env")}
		if err := (&env{}).writeEnvFile(file, address); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file.Path)
		if err != nil || !strings.Contains(string(content), want.words) {
			t.Errorf("%s: %q lacks %q (%v)", url, content, want.words, err)
		}
		c := exec.Command(
			"sh",
			"-c",
			`. "$0"; printf '%s\n' "$FLUJO_STATE_URI"; sh -c 'echo "$FLUJO_STATE_URI"'`,
			file.Path,
		)
		c.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := c.Output()
		shell := "\n\n"
		if want.set {
			shell = address.Reveal() + "\n\n"
		}
		if err != nil || string(out) != shell {
			t.Errorf("%s: a shell has %q, want %q (%v)", url, out, shell, err)
		}
		if err := new(env).checkEnvFile(file); err != nil {
			t.Errorf("%s: a second time: %v", url, err)
		}
	}
}
