//go:build unix

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"flujo-port/internal/pgtest"
)

// bin is the built command.
var bin string

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, build)) }

func build(dir string) error {
	bin = filepath.Join(dir, "throwaway")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make test` built it before
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestThrowaway(t *testing.T) {
	t.Setenv("FLUJO_PORT_POSTGRES", "postgresql://elsewhere/")
	t.Setenv("PGSSLMODE", "verify-full")
	cases := []struct {
		name   string
		args   []string
		code   int
		stdout string
	}{
		{"environment", []string{"--", "sh", "-c", `
			psql -XAtc 'SELECT current_database(), current_user'
			psql -XAtc 'SELECT 2' "$DATABASE_URL"
			echo "[$FLUJO_PORT_POSTGRES$PGSSLMODE]"
			exit 42`}, 42, "throwaway|postgres\n2\n[]\n"},
		{"ended by a signal", []string{"--", "sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{"no such command", []string{"--", "/no/such/command"}, 127, ""},
		{"no command", nil, 2, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(bin, c.args...)
			cmd.Stderr = os.Stderr
			out, _ := cmd.Output() // the exit code says it
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			if string(out) != c.stdout {
				t.Errorf("stdout %q, want %q", out, c.stdout)
			}
		})
	}
}

func TestThrowawayForwardsSignals(t *testing.T) {
	cmd := exec.Command(bin, "--", "sh", "-c", `
		trap 'echo caught; exit 7' TERM
		echo ready
		tries=0
		while [ "$tries" -lt 1200 ]; do # it ends by itself should this test be killed
			tries=$((tries + 1))
			sleep 0.05
		done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Errorf("first line %q", lines.Text())
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "caught" {
		t.Errorf("line after the signal %q", lines.Text())
	}
	_ = cmd.Wait() // the exit code says it
	if got := cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("exit code %d, want 7", got)
	}
}
