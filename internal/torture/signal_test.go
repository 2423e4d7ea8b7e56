//go:build slow && unix

package torture

import (
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
)

func signalled(signal syscall.Signal) func(*testing.T, *worker) outcome {
	return func(t *testing.T, w *worker) outcome {
		p := w.place(t, w.server, w.pick(nil))
		r := prepare(t, p.url, p.args()...)
		w.disturb(t, p.job, r, func() { r.signal(signal) })
		return p.judge(t, r)
	}
}

// atFileCall sends a signal before or after a system call that changes a file.
func atFileCall(t *testing.T, w *worker) outcome {
	j := w.pick((*job).makesFiles)
	p := w.placeWith(t, w.server, j, options{
		envFile: j.takesEnvFile(), json: w.random.IntN(2) == 0, oldFile: w.random.IntN(2) == 0})
	calls := j.calls[p.envFile]
	if len(calls) == 0 {
		return outcome{result: skipped}
	}
	n, rename := w.random.IntN(len(calls)), w.random.IntN(2) == 0
	if rename {
		n = 0 // there is only one
	}
	after := w.random.IntN(2) == 0
	signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM}[w.random.IntN(4)]
	r := prepare(t, p.url, p.args()...)
	seen, name := 0, ""
	err := r.trace(t, func(call int, exits bool) syscall.Signal {
		if fileCalls[call] == "" || exits != after || rename && fileCalls[call] != "rename" {
			return 0
		}
		if seen++; seen != n+1 {
			return 0
		}
		name = fileCalls[call]
		return signal
	})
	if err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	if name == "rename" && p.envFile {
		name = renameEnvFile
	} else if name == "rename" {
		name = renameNewFile
	}
	r.phase = filePhase(name, after)
	o := p.judge(t, r)
	if name == renameNewFile && signal == syscall.SIGKILL && (o.result == done) != after {
		t.Errorf("%s: killed %s: %s", j.name, r.phase, o.result)
	}
	return o
}

const (
	renameNewFile = "rename of the new file"
	renameEnvFile = "rename of the env file" // after the commit
)

// filePhase describes a moment of a system call.
func filePhase(name string, after bool) string {
	switch {
	case name == "":
		return tooLate
	case name != renameEnvFile && name != renameNewFile:
		name = "another system call on a file"
	}
	if after {
		return "right after " + name
	}
	return "right before " + name
}

// inCommit starts a job and returns the server's process whose COMMIT waits.
func inCommit(t *testing.T, w *worker) (*place, *run, string) {
	p := w.place(t, w.waiting, w.pick((*job).commits))
	r := p.start(t)
	const waiting = "SELECT coalesce(max(pid)::text, '') FROM pg_stat_activity " +
		"WHERE wait_event = 'SyncRep' AND usename = $1"
	deadline := time.Now().Add(time.Minute)
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		if pid := flujotest.OneAt(t, p.admin, waiting, p.name); pid != "" {
			r.phase = inCommitPhase
			return p, r, pid
		}
		if time.Now().After(deadline) {
			t.Fatalf("no COMMIT waits: %s", r)
		}
	}
}

func killInCommit(t *testing.T, w *worker) outcome {
	p, r, pid := inCommit(t, w)
	r.signal(syscall.SIGKILL)
	r.wait(t)
	flujotest.OneAt(t, p.admin, "SELECT pg_cancel_backend("+pid+")::text")
	o := p.judge(t, r)
	if o.result != done {
		t.Errorf("%s: %s although the server had COMMIT: %s", p.job.name, o.result, r)
	}
	return o
}

func signalInCommit(t *testing.T, w *worker) outcome {
	p, r, pid := inCommit(t, w)
	if w.random.IntN(2) == 0 {
		r.signal(syscall.SIGINT)
		r.says("a second signal kills")
	}
	switch w.random.IntN(3) {
	case 0:
		flujotest.OneAt(t, p.admin, "SELECT pg_cancel_backend("+pid+")::text")
	case 1:
		flujotest.OneAt(t, p.admin, "SELECT pg_terminate_backend("+pid+")::text")
	default:
		kill(t, pid, syscall.SIGKILL)
	}
	r.wait(t)
	o := p.judge(t, r)
	if o.result != done || r.code != 0 {
		t.Errorf("%s: %s although the server had COMMIT: %s", p.job.name, o.result, r)
	}
	return o
}

func kill(t *testing.T, pid string, signal syscall.Signal) {
	t.Helper()
	id, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(id, signal); err != nil && err != syscall.ESRCH {
		t.Fatal(err)
	}
}

func twice(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick((*job).connects))
	first, second := p.start(t), p.start(t)
	first.wait(t)
	second.wait(t)
	if first.code != 0 && second.code == 0 {
		first, second = second, first
	}
	if first.code != 0 {
		t.Errorf("%s: neither run was done: %s\n%s", p.job.name, first, second)
	}
	p.check(t, second, 3) // if the first run was done when it looked
	if p.onlyIfNeeded() && second.code != 0 {
		t.Errorf("%s: the second run was not done: %s", p.job.name, second)
	}
	first.phase = allAlong
	if second.code == 0 && (p.job.name == "migrate --replace" || p.job.name == "migrate --merge") {
		// One archive each, unless in the same second, or the records of both merges.
		if got := withoutOriginals(p.look(t)); p.job.name == "migrate --merge" && got != withoutOriginals(p.after) {
			t.Errorf("%s: after both runs: %s\nwant %s", p.job.name, got, p.after)
		}
		return outcome{command: p.job.name, phase: first.phase, result: done}
	}
	return p.judge(t, first)
}

var originals = regexp.MustCompile(`flujo[.]flujo_port_originals:\S+ `)

// withoutOriginals returns what look returned, without the original values.
func withoutOriginals(state string) string { return originals.ReplaceAllString(state, "") }
