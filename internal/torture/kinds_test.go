//go:build slow && unix

package torture

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// kind is a kind of trial.
type kind struct {
	name string
	how  string // for docs/reliability.md
	run  func(t *testing.T, w *worker) outcome
}

var kinds []kind

func init() { // the functions refer to kinds by the results
	kinds = []kind{
		{"kill -9", "SIGKILL at a random moment.", signalled(syscall.SIGKILL)},
		{"SIGINT", "SIGINT at a random moment.", signalled(syscall.SIGINT)},
		{"SIGTERM", "SIGTERM at a random moment.", signalled(syscall.SIGTERM)},
		{"kill in COMMIT", "SIGKILL while COMMIT waits for a synchronous standby that does not exist.", killInCommit},
		{
			"signal in COMMIT",
			"SIGINT while COMMIT waits, and then the server's process is canceled, terminated, or killed " +
				"with -9, so that the whole server restarts.",
			signalInCommit,
		},
		{"kill in rename", "SIGKILL when restore says that it renames the new file.", killInRename},
		{
			"message cut",
			"The connection breaks before or after one of the client's messages reaches the server.",
			cutMessage,
		},
		{"bytes cut", "The connection breaks within the bytes that the client sends.", cutBytes},
		{
			"split and delayed",
			"All bytes arrive in pieces of 1 to 1,000, now and then after a pause, and stall for a second " +
				"at a random moment.",
			slowWire,
		},
		{"session terminated", "pg_terminate_backend for all sessions of the command at a random moment.", terminated},
		{
			"server crash",
			"The server's process of the command is killed with -9, so that the whole server restarts.",
			crashed,
		},
		{"session stopped", "The server's process of the command is stopped for a second (SIGSTOP, SIGCONT).", stopped},
		{"two at once", "The same command runs twice at the same time.", twice},
		{
			"disk full",
			"The folder of the new file, or the tablespace of the database, has a few hundred KiB (needs root).",
			diskFull,
		},
		{"damaged file", "Random bytes of the state file are changed, or its end is cut off.", damaged},
		{
			"hostile file",
			"The state file has views, triggers, generated columns, odd names and values, by random SQL.",
			hostile,
		},
	}
}

func (w *worker) job() *job { return w.jobs[w.random.IntN(len(w.jobs))] }

// committing returns a job that commits.
func (w *worker) committing() *job { return w.jobs[w.random.IntN(4)] }

// moment returns a random moment in the time that the job takes.
func (w *worker) moment(j *job) time.Duration {
	return time.Duration(w.random.Int64N(int64(j.takes) * 11 / 10))
}

// after calls do after d, unless the run ends before.
func (r *run) after(t *testing.T, d time.Duration, do func()) {
	t.Helper()
	timer := time.AfterFunc(d, do)
	r.wait(t)
	timer.Stop()
}

func signalled(signal syscall.Signal) func(*testing.T, *worker) outcome {
	return func(t *testing.T, w *worker) outcome {
		p := w.place(t, w.server, w.job())
		r := w.start(t, p.url, p.args()...)
		r.after(t, w.moment(p.job), func() { _ = r.cmd.Process.Signal(signal) })
		return p.judge(t, r)
	}
}

// inCommit starts a job and returns the server's process whose COMMIT waits.
func inCommit(t *testing.T, w *worker) (*place, *run, string) {
	p := w.place(t, w.waiting, w.committing())
	r := w.start(t, p.url, p.args()...)
	const waiting = "SELECT coalesce(max(pid)::text, '') FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	deadline := time.Now().Add(time.Minute)
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		if pid := flujotest.OneAt(t, p.admin, waiting); pid != "" {
			return p, r, pid
		}
		if time.Now().After(deadline) {
			t.Fatal("no COMMIT waits")
		}
	}
}

func killInCommit(t *testing.T, w *worker) outcome {
	p, r, pid := inCommit(t, w)
	_ = r.cmd.Process.Kill()
	r.wait(t)
	flujotest.OneAt(t, p.admin, "SELECT pg_cancel_backend("+pid+")::text")
	o := p.judge(t, r)
	if o.result != done {
		t.Errorf("%s: %s although the server had COMMIT: %s", p.name, o.result, r)
	}
	return o
}

func signalInCommit(t *testing.T, w *worker) outcome {
	p, r, pid := inCommit(t, w)
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-r.errs.reached("a second signal kills")
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
		t.Errorf("%s: %s although the server had COMMIT: %s", p.name, o.result, r)
	}
	return o
}

func killInRename(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.jobs[4+w.random.IntN(2)])
	r := w.start(t, p.url, p.args()...)
	go func() {
		<-r.errs.reached("renaming")
		_ = r.cmd.Process.Kill()
	}()
	r.wait(t)
	return p.judge(t, r)
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

func cutMessage(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.job())
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, p.url))
	n := w.random.IntN(p.messages + 2)
	match := func(byte, []byte) bool { n--; return n == 0 }
	if w.random.IntN(2) == 0 {
		proxy.OnClientMessage(match)
	} else {
		proxy.CutAfterClientMessage(match)
	}
	r := w.start(t, proxy.Rewrite(p.url), p.args()...)
	r.wait(t)
	return p.judge(t, r)
}

func cutBytes(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.job())
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, p.url))
	proxy.CutAfterClientBytes(1 + w.random.Int64N(p.bytes))
	r := w.start(t, proxy.Rewrite(p.url), p.args()...)
	r.wait(t)
	return p.judge(t, r)
}

func slowWire(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.job())
	wire := newWire(t, pgtest.Upstream(t, p.url), w.random.Uint64())
	r := w.start(t, pgtest.WithServer(t, p.url, wire.address), p.args()...)
	stall := time.AfterFunc(w.moment(p.job), func() { wire.stall(time.Second) })
	defer stall.Stop()
	r.wait(t)
	o := p.judge(t, r)
	if r.code != 0 {
		t.Errorf("%s over a slow network: %s", p.name, r)
	}
	return o
}

// sessions returns the server's processes of the job.
func (p *place) sessions(t *testing.T) (pids []string) {
	conn, err := pgx.Connect(t.Context(), p.server.URL("postgres"))
	if err != nil {
		return nil // the server restarts
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT pid::text FROM pg_stat_activity WHERE usename = $1", p.user())
	if err != nil {
		return nil
	}
	pids, _ = pgx.CollectRows(rows, pgx.RowTo[string])
	return pids
}

func terminated(t *testing.T, w *worker) outcome {
	return disturbed(t, w, func(p *place) {
		for _, pid := range p.sessions(t) {
			flujotest.OneAt(t, p.server.URL("postgres"), "SELECT pg_terminate_backend("+pid+")::text")
		}
	})
}

func crashed(t *testing.T, w *worker) outcome {
	return disturbed(t, w, func(p *place) {
		if pids := p.sessions(t); len(pids) > 0 {
			kill(t, pids[0], syscall.SIGKILL)
		}
	})
}

func stopped(t *testing.T, w *worker) outcome {
	return disturbed(t, w, func(p *place) {
		pids := p.sessions(t)
		for _, pid := range pids {
			kill(t, pid, syscall.SIGSTOP)
		}
		resume := time.NewTimer(time.Second)
		<-resume.C
		for _, pid := range pids {
			kill(t, pid, syscall.SIGCONT)
		}
	})
}

// disturbed runs a job and calls do once, at a random moment.
func disturbed(t *testing.T, w *worker, do func(p *place)) outcome {
	t.Helper()
	p := w.place(t, w.server, w.job())
	r := w.start(t, p.url, p.args()...)
	finished := make(chan struct{})
	timer := time.AfterFunc(w.moment(p.job), func() { defer close(finished); do(p) })
	r.wait(t)
	if !timer.Stop() {
		<-finished
	}
	return p.judge(t, r)
}

func twice(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.job())
	first, second := w.start(t, p.url, p.args()...), w.start(t, p.url, p.args()...)
	first.wait(t)
	second.wait(t)
	p.check(t, second)
	if first.code != 0 && second.code == 0 {
		first, second = second, first
	}
	if first.code != 0 {
		t.Errorf("%s: neither run was done: %s\n%s", p.name, first, second)
	}
	if p.name == "replace" && second.code == 0 { // one archive each, unless both began in the same second
		return outcome{result: done}
	}
	return p.judge(t, first)
}

func diskFull(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.job())
	small := filepath.Join(p.server.Dir(), "small"+p.user())
	if err := os.Mkdir(small, 0o777); err != nil {
		t.Fatal(err)
	}
	unmount, err := mountSmall(small, 200+w.random.IntN(600))
	if err != nil {
		return outcome{result: skipped}
	}
	defer unmount()
	args := p.args()
	if p.makesFile() {
		for i := range args {
			if args[i] == filepath.Join(p.dir, "new.db") {
				args[i] = filepath.Join(small, "new.db")
			}
		}
		r := w.start(t, p.url, args...)
		r.wait(t)
		if _, err := os.Stat(filepath.Join(small, "new.db")); (err == nil) != (r.code == 0) {
			t.Errorf("%s on a full disk: %v, but %s", p.name, err, r)
		}
		p.check(t, r)
		if r.code == 0 {
			return outcome{phase: r.phase(), result: done}
		}
		return outcome{phase: r.phase(), result: unchanged}
	}
	inner := filepath.Join(small, "space")
	if err := errors.Join(os.Mkdir(inner, 0o700), p.server.Own(inner)); err != nil {
		t.Fatal(err)
	}
	name := "space_" + p.user()
	flujotest.ExecAt(t, p.admin, "CREATE TABLESPACE "+name+" LOCATION '"+inner+"'",
		"ALTER ROLE "+p.user()+" SET default_tablespace = "+name)
	r := w.start(t, p.url, args...)
	r.wait(t)
	flujotest.ExecAt(t, p.admin, "ALTER ROLE "+p.user()+" RESET default_tablespace")
	o := p.judge(t, r)
	flujotest.ExecAt(t, p.server.URL("postgres"), "DROP DATABASE "+p.user()+" WITH (FORCE)", "DROP TABLESPACE "+name)
	return o
}
