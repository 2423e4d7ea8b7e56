package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/pgtest"
)

// TestSignalDuringCommit interrupts commands while COMMIT waits for a synchronous standby, and then ends the server's
// process in each way: the tables are there, so the program says so, whatever the signal was.
func TestSignalDuringCommit(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"migrate", "init"} {
		for name, end := range map[string]func(t *testing.T, url, pid string){
			"canceled": func(t *testing.T, url, pid string) {
				ask(t, url, "SELECT pg_cancel_backend("+pid+")::text")
			},
			"terminated": func(t *testing.T, url, pid string) {
				ask(t, url, "SELECT pg_terminate_backend("+pid+")::text")
			},
			"crashed": func(t *testing.T, _, pid string) { killProcess(t, pid) },
		} {
			t.Run(command+" "+name, func(t *testing.T) {
				t.Parallel()
				url := waitingServer(t)
				commit := startCommit(t, url, command)
				if err := commit.Process.Signal(syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
				untilLine(t, commit.stderr, "a second signal kills the process")
				end(t, url, commit.server)
				rest, code := commit.wait(t)
				if code != 0 || strings.Contains(rest, "nothing was") ||
					!strings.Contains(rest, "might not have been replicated") ||
					name != "canceled" && !strings.Contains(rest, "the transaction is committed") {
					t.Errorf("exit %d: %s", code, rest)
				}
				if got := ask(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "1" {
					t.Error("the schema does not exist")
				}
			})
		}
	}
}

// TestOutcomeNotKnown interrupts commands whose connection is lost while the server goes on waiting: it is not known
// what becomes of the transaction, and no signal hides that.
func TestOutcomeNotKnown(t *testing.T) {
	t.Parallel()
	if !pgtest.Slow {
		t.Skip("the server is asked for a minute: run `make test-slow`")
	}
	for command, advice := range map[string]string{
		"migrate":             "run \"flujo-port verify --postgres URL\" with the same state files",
		"migrate --if-needed": "once the server answers, run again",
		"init":                "once the server answers, run init again",
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			url := waitingServer(t)
			proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
			proxy.DropCancels()
			name, flags, _ := strings.Cut(command, " ")
			commit := startCommit(t, url, name, append(strings.Fields(flags), "--postgres", proxy.Rewrite(url))...)
			if err := commit.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			untilLine(t, commit.stderr, "a second signal kills the process")
			proxy.Cut()
			rest, code := commit.wait(t)
			if code != 1 || !strings.Contains(rest, advice) ||
				!strings.Contains(
					rest,
					"flujo-port: it is not known whether the server committed",
				) || !strings.Contains(rest, "process "+commit.server) ||
				strings.Contains(rest, "interrupted") {
				t.Errorf("exit %d: %s", code, rest)
			}
			ask(t, url, "SELECT pg_cancel_backend("+commit.server+")::text")
			awaitAnswer(t, url, "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'flujo'", "1")
			if flags == "" {
				return
			}
			// What the message advises.
			stdout, stderr, code := newProgram(t, "DATABASE_URL="+url).run(
				t, name, flags, "--without-pgvector", "--sqlite", absolute(t, fixture))
			if code != 0 || !strings.HasPrefix(stdout, "Already migrated: ") {
				t.Errorf("run again: exit %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

// runningCommit is a program whose COMMIT waits.
type runningCommit struct {
	*exec.Cmd
	stderr *bufio.Reader
	server string // the id of the server's process
}

// startCommit runs a command against a server of waitingServer, and returns when its COMMIT waits. args follow the
// command.
func startCommit(t *testing.T, url, command string, args ...string) *runningCommit {
	t.Helper()
	args = append([]string{command, "--without-pgvector"}, args...)
	if command == "migrate" {
		args = append(args, "--sqlite", absolute(t, fixture))
	}
	c := &runningCommit{Cmd: newProgram(t, "DATABASE_URL="+url).command(args...)}
	c.stderr = start(t, c.Cmd)
	const waiting = "SELECT coalesce(max(pid)::text, '') FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	c.server = awaitAnswer(t, url, waiting, "")
	return c
}

// wait waits until the program has ended, and returns the rest of its stderr and its exit code.
func (c *runningCommit) wait(t *testing.T) (stderr string, code int) {
	t.Helper()
	rest, err := io.ReadAll(c.stderr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the exit code tells
	return string(rest), c.ProcessState.ExitCode()
}

// awaitAnswer asks the query until its answer is want, or any if want is "", and returns it.
func awaitAnswer(t *testing.T, url, query, want string) string {
	t.Helper()
	deadline := time.After(time.Minute)
	for tick := time.Tick(20 * time.Millisecond); ; {
		if got := ask(t, url, query); got == want && want != "" || got != "" && want == "" {
			return got
		}
		select {
		case <-deadline:
			t.Fatalf("no answer to %s", query)
		case <-tick:
		}
	}
}

// killProcess ends a process of a server as a crash does: the server then ends all of them, recovers, and accepts
// connections again.
func killProcess(t *testing.T, pid string) {
	t.Helper()
	id, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// waitingServer starts a server on which each COMMIT of a change waits for a standby that does not exist.
func waitingServer(t *testing.T) (url string) {
	t.Helper()
	return pgtest.StartFor(t, pgtest.WithSettings("synchronous_standby_names=nobody", "synchronous_commit=on")).
		URL("postgres")
}
