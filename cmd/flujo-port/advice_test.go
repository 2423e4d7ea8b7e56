package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"

	"github.com/urfave/cli/v2"
)

// TestAdvices tests that every topic has a text, and that every flag and command that an advice names exists.
func TestAdvices(t *testing.T) {
	t.Parallel()
	e := &env{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}
	var commands, flags []string
	for _, command := range []*cli.Command{
		e.checkCommand(), e.migrateCommand(), e.verifyCommand(), e.restoreCommand(), e.initCommand(), e.uriCommand(),
	} {
		commands = append(commands, command.Name)
		for _, c := range append(command.Subcommands, command) {
			for _, flag := range c.Flags {
				flags = append(flags, "--"+flag.Names()[0])
			}
		}
	}
	for _, topic := range topics(t) {
		if _, ok := advices[topic]; !ok && topic != clierr.NoAdvice {
			t.Errorf("topic %s has no advice", topic)
		}
	}
	for topic, advice := range advices {
		text := advice.text + " " + strings.Join(advice.options, " ")
		for _, name := range regexp.MustCompile(`--[a-z-]+`).FindAllString(text, -1) {
			if !slices.Contains(flags, name) {
				t.Errorf("topic %s: no command has the flag %s", topic, name)
			}
		}
		if (advice.command == "") == strings.Contains(text, "%s") || strings.Contains(text, "flujo-port ") {
			t.Errorf("topic %s: the command of %q is %q", topic, text, advice.command)
		}
		if name, _, _ := strings.Cut(advice.command, " "); name != "" && !slices.Contains(commands, name) {
			t.Errorf("topic %s: there is no command %q", topic, name)
		}
	}
}

// topics returns the topics that the source of clierr declares.
func topics(t *testing.T) (all []clierr.Topic) {
	t.Helper()
	source, err := os.ReadFile("../../internal/clierr/clierr.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`Topic = "([a-z-]*)"`).FindAllStringSubmatch(string(source), -1) {
		all = append(all, clierr.Topic(match[1]))
	}
	if len(all) < 10 {
		t.Fatalf("found only the topics %q", all)
	}
	return all
}

func TestWithAdvice(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		hint   string
		advice clierr.Advice
		want   string
	}{
		{"", clierr.Advice{}, ""},
		{"stop Flujo", clierr.Advice{}, "stop Flujo"},
		{"grant them", clierr.Advice{Topic: clierr.OwnByInit, Arg: "app"},
			`grant them, or have an administrator run "flujo-port init --owner app" first`},
		{"", clierr.Advice{Topic: clierr.OtherSchema}, "name another schema with --schema"},
		{"install pgvector on the server", clierr.Advice{Topic: clierr.UsePGVector},
			"install pgvector on the server and run without --without-pgvector"},
		{"a", clierr.Advice{Topic: clierr.NoBase}, "a; restore without --base"},
	} {
		if got := (&env{}).withAdvice(tc.hint, tc.advice); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// TestSuggested tests which flags of a run a command that follows it gets.
func TestSuggested(t *testing.T) {
	t.Parallel()
	const values = " --naive-timezone Europe/Berlin --quarantine --exact-floats"
	for _, c := range []struct {
		run, command string
		want         string
	}{
		{"migrate", "verify", ""},
		{"migrate --schema flujo --without-pgvector=false", "uri cutover", ""},
		{"migrate --schema pods --sqlite a.db --json", "verify", " --schema pods"},
		{"migrate --schema pods --without-pgvector --merge", "uri cutover", " --schema pods --without-pgvector"},
		{"migrate --schema pods --without-pgvector" + values, "verify", " --schema pods"},
		{"migrate --schema $x", "restore", " --schema '$x'"},
		{"check --without-pgvector --skip-integrity" + values, "migrate", values + " --without-pgvector"},
		{"check --schema own --without-pgvector", "init", " --schema own --without-pgvector"},
		{"check --postgres postgresql://app:hunter2@h/db", "migrate", " --postgres URL"},
		{"verify --schema own --naive-timezone utc", "init", " --schema own"},
		{"init --schema own --owner app", "uri cutover", " --schema own"},
	} {
		e := &env{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}
		app := e.app(io.Discard)
		stop := errors.New("stop")
		refuseUnclearFlags(app.Commands, func(flags *cli.Context) error {
			e.flags = flags
			return stop
		})
		inProcess.Lock()
		err := app.Run(append([]string{"flujo-port"}, strings.Fields(c.run)...))
		inProcess.Unlock()
		if !errors.Is(err, stop) {
			t.Fatalf("%s: %v", c.run, err)
		}
		got := strings.Fields(e.suggested(c.command, "--option"))
		want := strings.Fields("flujo-port " + c.command + " --option" + c.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("after %q: got %q, want %q", c.run, got, want)
		}
	}
}

// TestSuggestionsWork runs the commands that reports and errors suggest, as they are printed, after runs with flags.
func TestSuggestionsWork(t *testing.T) {
	t.Parallel()
	const flags = "--without-pgvector --schema pods"
	suggestion := regexp.MustCompile(`"(flujo-port [^"]*)"`)
	for _, named := range []string{"by a variable", "by --postgres"} {
		t.Run(named, func(t *testing.T) {
			t.Parallel()
			admin := pgtest.Database(t)
			role := pgtest.Role(t, admin, "")
			bin := t.TempDir()
			if err := os.Symlink(binary, filepath.Join(bin, "flujo-port")); err != nil {
				t.Fatal(err)
			}
			p := newProgram(t)
			files := []string{changedFixture(t), changedFixture(t, "DELETE FROM steps")}
			given := "--sqlite " + shellQuote(files[0]) + " --sqlite " + shellQuote(files[1])
			// run runs a command line with an address, and returns what it suggests.
			run := func(url, line string, want int) (suggested []string) {
				t.Helper()
				line = strings.ReplaceAll(line, " URL", " "+shellQuote(url))
				c := exec.Command("sh", "-c", line)
				c.Dir, c.Env = p.dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + p.dir}
				if named == "by a variable" {
					c.Env = append(c.Env, "DATABASE_URL="+url)
				}
				out, _ := c.CombinedOutput()
				if got := c.ProcessState.ExitCode(); got != want {
					t.Fatalf("%s: exit %d, want %d: %s", line, got, want, out)
				}
				for _, m := range suggestion.FindAllStringSubmatch(unwrapped(string(out)), -1) {
					suggested = append(suggested, m[1])
				}
				return suggested
			}
			with := flags
			if named != "by a variable" {
				with += " --postgres URL"
			}
			one := func(suggested []string, command string) string {
				t.Helper()
				for _, line := range suggested {
					if strings.HasPrefix(line, "flujo-port "+command) {
						return line
					}
				}
				t.Fatalf("%s is not among the suggestions %q", command, suggested)
				return ""
			}
			run(admin, one(run(role, "flujo-port check "+with, 3), "init --owner"), 0)
			dryRun := one(run(role, "flujo-port check "+given+" "+with, 0), "migrate --dry-run")
			run(role, dryRun+" "+given, 0)
			after := run(role, "flujo-port migrate "+given+" "+with, 0)
			run(role, one(after, "uri cutover --connect --reveal"), 0)
			run(role, one(after, "verify")+" "+given, 0)
			run(role, one(after, "restore")+" --sqlite new.db", 0)
			again := run(role, "flujo-port migrate "+given+" "+with, 3)
			run(role, one(again, "verify")+" "+given, 0)
		})
	}
}
