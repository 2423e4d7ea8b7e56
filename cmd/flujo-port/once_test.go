package main

import (
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestRepeatedFlags checks that no flag is overridden by a second one.
func TestRepeatedFlags(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	for _, c := range []struct {
		args string
		flag string // that the error names; "" if it is another error
	}{
		{"restore --sqlite a.db --sqlite b.db", "--sqlite"},
		{"restore --sqlite=a.db -sqlite b.db", "--sqlite"},
		{"restore --sqlite a.db --sqlite a.db", "--sqlite"},
		{"migrate --sqlite a.db --sqlite b.db", ""},
		{"migrate --schema flujo --schema flujo", "--schema"},
		{"migrate --env-file a --env-file b --verify counts --verify content", "--verify, --env-file"},
		{"migrate --dry-run --dry-run=false", "--dry-run"},
		{"migrate --dry-run=false --dry-run", "--dry-run"},
		{"check --naive-timezone utc --naive-timezone local", "--naive-timezone"},
		{"verify --postgres a --postgres b", "--postgres"},
		{"restore --sqlite a --base b --base c", "--base"},
		{"init --grant-to a --grant-to b", "--grant-to"},
		{"uri cutover --schema a --schema b", "--schema"},
		{"uri rollback --sqlite a --sqlite b", "--sqlite"},
		{"migrate --json --json --dry-run --dry-run --sqlite a.db", ""},
		{"migrate --sqlite a.db --schema b", ""},
	} {
		stdout, stderr, code := p.run(t, strings.Fields(c.args)...)
		if want := "flujo-port: " + c.flag + " may be given only once"; code != 2 ||
			(stdout != "" && !strings.Contains(c.args, "--json")) ||
			strings.Contains(
				stderr,
				want,
			) == (c.flag == "") ||
			strings.Contains(stderr, "only once") == (c.flag == "") {
			t.Errorf("%s: exit %d: %s%s", c.args, code, stdout, stderr)
		}
	}
	if stdout, _, code := p.run(t, "migrate", "--sqlite", "a", "--sqlite", "b", "--help"); code != 0 ||
		!strings.Contains(stdout, "--sqlite PATH|URI") {
		t.Errorf("help: exit %d: %s", code, stdout)
	}
}

// TestEmptyValues tests that an empty value, as that of a variable that is not set, is refused for every flag that has
// a value.
func TestEmptyValues(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "PGHOST=localhost", "PGDATABASE=db")
	e := &env{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}
	commands := []*cli.Command{
		e.checkCommand(), e.migrateCommand(), e.verifyCommand(), e.restoreCommand(), e.initCommand(),
	}
	tried := 0
	try := func(flags []cli.Flag, command ...string) {
		t.Helper()
		for _, f := range flags {
			if v, ok := f.(cli.DocGenerationFlag); !ok || !v.TakesValue() {
				continue
			}
			name := f.Names()[0]
			for _, args := range [][]string{{"--" + name + "="}, {"--" + name, ""}, {"-" + name + "="}} {
				tried++
				_, stderr, code := p.run(t, append(command, args...)...)
				if code != 2 || !strings.Contains(stderr, "the value of --"+name+" is empty") {
					t.Errorf("%v %q: exit %d: %s", command, args, code, stderr)
				}
			}
		}
	}
	for _, command := range commands {
		try(command.Flags, command.Name)
	}
	for _, command := range e.uriCommand().Subcommands {
		try(command.Flags, "uri", command.Name)
	}
	if tried < 60 {
		t.Errorf("tried only %d", tried)
	}
}
