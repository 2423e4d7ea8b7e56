//go:build slow && unix

package torture

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// disturbed runs a job and calls do at a random moment, with the server's processes of the job.
func disturbed(t *testing.T, w *worker, do func(p *place, r *run, pids []string)) outcome {
	t.Helper()
	p := w.place(t, w.server, w.pick((*job).connects))
	r := prepare(t, p.url, p.args()...)
	w.disturb(t, p.job, r, func() {
		if pids := p.awaitSession(t, r); len(pids) > 0 {
			do(p, r, pids)
		} else {
			r.phase = tooLate
		}
	})
	return p.judge(t, r)
}

// awaitSession returns the server's processes of the job when there are any, or none if the command has ended.
func (p *place) awaitSession(t *testing.T, r *run) []string {
	t.Helper()
	conn := flujotest.Connect(t, p.server.URL("postgres"))
	for tick := time.Tick(2 * time.Millisecond); ; {
		pids, err := sessionsOf(t, conn, p.name)
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) > 0 {
			return pids
		}
		select {
		case <-r.ended:
			return nil
		case <-tick:
		}
	}
}

func terminated(t *testing.T, w *worker) outcome {
	return disturbed(t, w, func(p *place, _ *run, pids []string) {
		for _, pid := range pids {
			flujotest.OneAt(t, p.server.URL("postgres"), "SELECT pg_terminate_backend("+pid+")::text")
		}
	})
}

func crashed(t *testing.T, w *worker) outcome {
	return disturbed(t, w, func(_ *place, _ *run, pids []string) {
		kill(t, pids[0], syscall.SIGKILL)
	})
}

func stopped(t *testing.T, w *worker) outcome {
	return disturbed(t, w, func(_ *place, _ *run, pids []string) {
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

// shutdown returns the signal of a fast or an immediate shutdown.
func (w *worker) shutdown() syscall.Signal {
	return []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}[w.random.IntN(2)]
}

func (p *place) halt(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.server.Halt(signal); err != nil {
		t.Fatal(err)
	}
}

func (p *place) resume(t *testing.T) {
	t.Helper()
	err := p.server.Resume()
	if err != nil && strings.Contains(p.server.Log(), "File exists") {
		// After a crash right after the rollback of unlogged tables only the second start succeeds.
		err = p.server.Resume()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func restarted(t *testing.T, w *worker) outcome {
	signal := w.shutdown()
	return disturbed(t, w, func(p *place, _ *run, _ []string) {
		p.halt(t, signal)
		p.resume(t)
	})
}

// down stops the server at a random moment until the command has ended.
func down(t *testing.T, w *worker) outcome {
	signal := w.shutdown()
	return disturbed(t, w, func(p *place, r *run, _ []string) {
		r.unreachable = true
		p.halt(t, signal)
		r.wait(t)
		p.resume(t)
	})
}

// downInCommit stops the server while COMMIT waits, until the command has ended.
func downInCommit(t *testing.T, w *worker) outcome {
	p, r, _ := inCommit(t, w)
	r.unreachable = true
	p.halt(t, w.shutdown())
	if w.random.IntN(2) == 0 {
		r.signal(syscall.SIGINT)
	}
	r.wait(t)
	p.resume(t)
	o := p.judge(t, r)
	if o.result != unknown {
		t.Errorf("%s: %s, although the server was down: %s", p.job.name, o.result, r)
	}
	return o
}

// restartedInCommit stops the server while COMMIT waits, and starts it again.
func restartedInCommit(t *testing.T, w *worker) outcome {
	p, r, _ := inCommit(t, w)
	p.halt(t, w.shutdown())
	p.resume(t)
	r.wait(t)
	o := p.judge(t, r)
	if o.result != done || r.code != 0 {
		t.Errorf("%s: %s although the server had COMMIT: %s", p.job.name, o.result, r)
	}
	return o
}

// failover cuts the connection before or after COMMIT reaches the primary, and its standby answers at the address.
func failover(t *testing.T, w *worker) outcome {
	primary, standby := pgtest.StartPair(t)
	here := *w
	here.server = primary
	here.fill(t, primary)
	p := here.place(t, primary, w.pick((*job).commits))
	pgtest.AwaitReplay(t, primary, standby)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, p.url))
	r := prepare(t, proxy.Rewrite(p.url), p.args()...)
	r.unreachable = true
	fate := []pgtest.Fate{pgtest.CutBefore, pgtest.CutAfter}[w.random.IntN(2)]
	proxy.OnMessage(func(fromServer bool, typ byte, payload []byte) pgtest.Fate {
		if fromServer || typ != 'Q' || string(payload) != "COMMIT\x00" {
			return pgtest.Forward
		}
		r.phase = inCommitPhase
		proxy.Redirect(standby.Addr())
		if err := tryExec(t, standby.URL("postgres"), "SELECT pg_promote()"); err != nil {
			t.Error(err)
		}
		return fate
	})
	r.start(t)
	r.wait(t)
	r.markEnd()
	o := p.judge(t, r)
	if o.result != unknown {
		t.Errorf("%s: %s, although only another server could be asked: %s", p.job.name, o.result, r)
	}
	state := flujotest.OneAt(t, standby.URL(p.name), fingerprint) + " no file"
	if state != p.before && state != p.after {
		t.Errorf("%s: the standby has\n%s\nbefore %s\nafter  %s", p.job.name, state, p.before, p.after)
	}
	return o
}

// tryExec executes a statement on a server that may be down.
func tryExec(t *testing.T, url, statement string) error {
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return err
	}
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), statement)
	return err
}
