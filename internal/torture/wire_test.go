//go:build slow && unix

package torture

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/pgtest"
)

// atMessage runs a job through a proxy that does something at a random message of the client or of the server.
func (w *worker) atMessage(t *testing.T, p *place, do func(r *run) pgtest.Fate) *run {
	t.Helper()
	fromServer := w.random.IntN(2) == 0
	n := 1 + w.random.IntN(p.messages[fromServer])
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, p.url))
	r := prepare(t, proxy.Rewrite(p.url), p.args()...)
	proxy.OnMessage(func(server bool, _ byte, _ []byte) pgtest.Fate {
		if server != fromServer {
			return pgtest.Forward
		}
		if n--; n != 0 {
			return pgtest.Forward
		}
		r.mark()
		return do(r)
	})
	return r
}

// markEnd notes that a run has ended before it was disturbed, if so.
func (r *run) markEnd() {
	if r.phase == "" {
		r.phase = tooLate
	}
}

func cutMessage(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick((*job).connects))
	fate := []pgtest.Fate{pgtest.CutBefore, pgtest.CutWithin, pgtest.CutAfter}[w.random.IntN(3)]
	r := w.atMessage(t, p, func(*run) pgtest.Fate { return fate })
	r.start(t)
	r.wait(t)
	r.markEnd()
	return p.judge(t, r)
}

// stall holds one message back, mostly for so long that the program asks the server what it does.
func stall(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick((*job).connects))
	d := time.Second + time.Duration(w.random.IntN(8000))*time.Millisecond
	r := w.atMessage(t, p, func(*run) pgtest.Fate {
		timer := time.NewTimer(d)
		<-timer.C
		return pgtest.Forward
	})
	r.start(t)
	r.wait(t)
	r.markEnd()
	o := p.judge(t, r)
	if r.code != 0 {
		t.Errorf("%s: one message came %s late: %s", p.job.name, d, r)
	}
	return o
}

// muteLimit is how long a command may take if the server falls silent: 30 seconds for a connection, or 100 to find
// that the server accepts no new one, and then a minute in which it is asked about COMMIT.
const muteLimit = 200 * time.Second

// mute holds back a message and all that follow, until the program has ended.
func mute(t *testing.T, w *worker) outcome {
	return w.mute(t, func(*run) {})
}

// muteInterrupted is mute with SIGINT, after which the program waits for a rollback for 10 seconds, and in COMMIT as
// without the signal.
func muteInterrupted(t *testing.T, w *worker) outcome {
	return w.mute(t, func(r *run) {
		if phaseOf(r.errs.String()) != "committing" {
			r.limit = time.Minute
		}
		r.signal(syscall.SIGINT)
	})
}

func (w *worker) mute(t *testing.T, during func(*run)) outcome {
	p := w.place(t, w.server, w.pick((*job).connects))
	reached, over := make(chan struct{}), make(chan struct{})
	r := w.atMessage(t, p, func(*run) pgtest.Fate {
		close(reached)
		<-over
		return pgtest.CutBefore
	})
	release := sync.OnceFunc(func() { close(over) })
	t.Cleanup(release) // before the proxy ends
	r.limit, r.unreachable = muteLimit, true
	r.start(t)
	select {
	case <-reached:
		during(r)
	case <-r.ended:
	}
	r.wait(t)
	release()
	r.markEnd()
	return p.judge(t, r)
}

// unanswered connects to an address where connections are accepted and nothing is answered. connect_timeout is not part
// of the cutover address, for which the limit is 30 seconds.
func unanswered(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick((*job).connects))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	url := pgtest.WithParameter(t, pgtest.WithServer(t, p.url, listener.Addr().String()), "connect_timeout", "1")
	r := prepare(t, url, p.args()...)
	r.limit = 45 * time.Second
	r.start(t)
	r.wait(t)
	r.mark()
	o := p.judge(t, r)
	if r.code == 0 {
		t.Errorf("%s: nobody answers, but %s", p.job.name, r)
	}
	return o
}

func slowWire(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick((*job).connects))
	wire := newWire(t, pgtest.Upstream(t, p.url), w.random.Uint64())
	r := prepare(t, pgtest.WithServer(t, p.url, wire.address), p.args()...)
	w.disturb(t, p.job, r, func() { wire.stall(time.Second) })
	r.phase = allAlong
	o := p.judge(t, r)
	if r.code != 0 {
		t.Errorf("%s over a slow network: %s", p.job.name, r)
	}
	return o
}

// wire forwards bytes in both directions, in small pieces and with pauses.
type wire struct {
	address string
	mu      sync.Mutex
	until   time.Time // nothing is forwarded before
}

func newWire(t *testing.T, upstream string, seed uint64) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	network := "tcp"
	if strings.HasPrefix(upstream, "/") {
		network = "unix"
	}
	w := &wire{address: l.Addr().String()}
	go func() {
		for n := seed; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, upstream)
			if err != nil {
				_ = client.Close()
				continue
			}
			go w.pass(server, client, rand.New(rand.NewPCG(n, 1)))
			go w.pass(client, server, rand.New(rand.NewPCG(n, 2)))
		}
	}()
	return w
}

// pass forwards until one side closes, and closes the other.
func (w *wire) pass(to, from net.Conn, random *rand.Rand) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 1000)
	for {
		n, err := from.Read(buf[:1+random.IntN(len(buf))])
		if err != nil {
			return
		}
		pause := time.Duration(0)
		if random.IntN(50) == 0 {
			pause = time.Millisecond
		}
		w.mu.Lock()
		pause = max(pause, time.Until(w.until))
		w.mu.Unlock()
		time.Sleep(pause)
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// stall forwards nothing for d.
func (w *wire) stall(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = time.Now().Add(d)
}
