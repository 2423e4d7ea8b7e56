//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// brokenPipe returns the end for writing of a pipe that nobody reads any more.
func brokenPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	r.Close()
	return w
}

// fullDevice returns a file on a device that is always full.
func fullDevice(t *testing.T) *os.File {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0) // of Linux
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { full.Close() })
	return full
}

// TestStdoutCannotBeWritten runs each command with a stdout that nobody reads and with one that is full. A command that
// has committed something is done, with a warning. One whose result is what it prints has failed.
func TestStdoutCannotBeWritten(t *testing.T) {
	t.Parallel()
	outputs := map[string]struct {
		open  func(*testing.T) *os.File
		words string
	}{
		"pipe": {brokenPipe, "broken pipe"}, "full": {fullDevice, "no space left on device"},
	}
	for name, output := range outputs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			p := newProgram(t, "DATABASE_URL="+url, "FLUJO_PORT_SQLITE="+absolute(t, fixture))
			for _, c := range []struct {
				args  string
				code  int
				words string
			}{
				{"--help", 1, "flujo-port: cannot print the help: "},
				{"--version", 1, "flujo-port: cannot print the help: "},
				{"migrate --help", 1, "flujo-port: cannot print the help: "},
				{"uri cutover", 1, "flujo-port: cannot print the address: "},
				{"uri cutover --format json", 1, "flujo-port: cannot print the address: "},
				{"uri rollback", 1, "flujo-port: cannot print the address: "},
				{"check --without-pgvector", 1, "flujo-port: the report cannot be printed, or only in part: "},
				{"check --sqlite none.db", 3, "flujo-port: the preflight check found "},
				{"verify", 3, "flujo-port: "}, // there are no tables
				{"migrate --without-pgvector --dry-run", 1, "; nothing was committed; run again"},
				{"migrate --without-pgvector --dry-run --json", 1, "; nothing was committed; run again"},
				{"init --without-pgvector", 0, "warning: the tables exist, but the report cannot be printed"},
				{"migrate --without-pgvector --env-file flujo.env", 0,
					"warning: the migration is committed, but the report cannot be printed"},
				{"migrate --without-pgvector --replace --json", 0,
					"warning: the migration is committed, but the report cannot be printed"},
				{"verify", 1, "; nothing was changed; run again"},
				{"verify --json", 1, "; nothing was changed; run again"},
				{"restore --sqlite new.db --dry-run", 1, "; no file was created, and the database is unchanged"},
				{"restore --sqlite new.db", 0, "warning: the file was restored, but the report cannot be printed"},
			} {
				cmd := p.command(strings.Fields(c.args)...)
				var stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = output.open(t), &stderr
				err := cmd.Run()
				if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(stderr.String(), c.words) ||
					code < 2 && !strings.Contains(stderr.String(), output.words) {
					t.Errorf("%s: %v, want exit %d: %s", c.args, err, c.code, stderr.String())
				}
			}
			if got := ask(t, url, "SELECT count(*) FROM flujo.runs"); got != "60" {
				t.Errorf("%s runs", got)
			}
			if got := sqlite(t, filepath.Join(p.dir, "new.db"), "SELECT count(*) FROM runs"); got != "60" {
				t.Errorf("%s runs in the restored file", got)
			}
			if content, err := os.ReadFile(filepath.Join(p.dir, "flujo.env")); err != nil ||
				!strings.HasPrefix(string(content), "FLUJO_STATE_URI=") {
				t.Errorf("the env file has %q (%v)", content, err)
			}
		})
	}
}

// TestStderrCannotBeWritten checks that progress that cannot be written is dropped, and changes nothing.
func TestStderrCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *os.File{"pipe": brokenPipe, "full": fullDevice} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			p := newProgram(t, "DATABASE_URL="+url, "FLUJO_PORT_SQLITE="+absolute(t, fixture))
			for _, both := range []bool{true, false} {
				cmd := p.command("migrate", "--without-pgvector", "--replace")
				var stdout bytes.Buffer
				if cmd.Stdout, cmd.Stderr = &stdout, open(t); both {
					cmd.Stdout = open(t)
				}
				if err := cmd.Run(); err != nil ||
					!both && !strings.HasPrefix(stdout.String(), "Migrated and verified") {
					t.Errorf("%v: %s", err, stdout.String())
				}
				if got := ask(t, url, "SELECT count(*) FROM flujo.runs"); got != "60" {
					t.Errorf("%s runs", got)
				}
			}
			cmd := p.command("migrate", "--without-pgvector")
			cmd.Stderr = open(t)
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != 3 {
				t.Errorf("into tables with rows: %v, want exit 3", err)
			}
		})
	}
}

// TestFileSizeLimit checks that a limit on the size of files does not end the program: what cannot be written after
// the commit is a warning.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	p := newProgram(t, "DATABASE_URL="+url)
	report, err := os.Create(filepath.Join(p.dir, "report"))
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	cmd := exec.Command("sh", "-c", `ulimit -f 0; exec "$@"`, "sh", binary, "migrate", "--without-pgvector",
		"--sqlite", absolute(t, fixture), "--env-file", "flujo.env")
	cmd.Dir, cmd.Env = p.dir, p.env
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = report, &stderr
	err = cmd.Run()
	if err != nil || !strings.Contains(stderr.String(), "warning: cannot write \"flujo.env\": ") ||
		!strings.Contains(stderr.String(), "warning: the migration is committed, but the report cannot be printed") {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if got := ask(t, url, "SELECT count(*) FROM flujo.runs"); got != "60" {
		t.Errorf("%s runs", got)
	}
	if names, err := os.ReadDir(p.dir); err != nil || len(names) != 1 {
		t.Errorf("the folder has %v (%v), want only the report", names, err)
	}
}
