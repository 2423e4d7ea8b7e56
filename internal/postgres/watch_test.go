package postgres

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
)

// reports collects what a watch says.
type reports struct {
	mu  sync.Mutex
	all []string
	new chan struct{}
}

func (r *reports) add(what string, silence time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%s (%s)", what, silence))
	select {
	case r.new <- struct{}{}:
	default:
	}
}

// await returns when a report contains the words.
func (r *reports) await(t *testing.T, words string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		r.mu.Lock()
		all := strings.Join(r.all, "\n")
		r.mu.Unlock()
		if strings.Contains(all, words) {
			return
		}
		select {
		case <-r.new:
		case <-deadline:
			t.Fatalf("no report contains %q: %s", words, all)
		}
	}
}

// quick are limits for tests.
var quick = watchLimits{
	silence: 50 * time.Millisecond, every: 50 * time.Millisecond, connect: time.Second, mute: 200 * time.Millisecond,
}

// silent returns a connection whose peer never answers, and its watch. ask is what the server says.
func silent(t *testing.T, ask func() (activity, bool)) (conn net.Conn, got *reports) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	got = &reports{new: make(chan struct{}, 1)}
	m := newMeter(near)
	t.Cleanup(func() { _ = m.Close() })
	w := &watch{watchLimits: quick, conn: m, report: got.add,
		ask: func(context.Context) (activity, bool) { return ask() }}
	go w.run()
	return m, got
}

// TestWatchGivesUp tests that a connection ends if the server accepts no new one, or is idle although its answer has
// not arrived.
func TestWatchGivesUp(t *testing.T) {
	t.Parallel()
	for want, ask := range map[string]func() (activity, bool){
		"accepts no new connection": func() (activity, bool) { return activity{}, false },
		"nothing has arrived":       func() (activity, bool) { return activity{known: true, idle: true}, true },
	} {
		conn, _ := silent(t, ask)
		_, err := conn.Read(make([]byte, 1))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}

// TestWatchWaits tests that a server that works, or is asked without an answer now and then, is waited for.
func TestWatchWaits(t *testing.T) {
	t.Parallel()
	for want, state := range map[string]activity{
		"waiting for the server, which is working":  {known: true},
		"waiting for a lock that is held by a test": {known: true, blockedBy: "a test"},
		"COMMIT waits for a synchronous standby":    {known: true, standby: true},
		"the server has not answered":               {},
	} {
		asked := 0
		conn, got := silent(t, func() (activity, bool) {
			asked++
			return state, asked%3 != 0
		})
		failed := make(chan error, 1)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			failed <- err
		}()
		for range 4 { // the silence doubles each time
			got.await(t, want)
			got.mu.Lock()
			got.all = nil
			got.mu.Unlock()
		}
		select {
		case err := <-failed:
			t.Errorf("%s: got error %v", want, err)
		default:
		}
	}
}

// TestMeterCountsProgress tests that a connection in which something arrives or leaves is not silent.
func TestMeterCountsProgress(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	m := newMeter(near)
	defer m.Close()
	if m.silence() != 0 {
		t.Error("silent without a call")
	}
	read := make(chan error)
	go func() {
		_, err := m.Read(make([]byte, 1))
		read <- err
	}()
	for m.silence() < 20*time.Millisecond {
	}
	go func() { _, _ = far.Read(make([]byte, 1)) }()
	begun := time.Now()
	if _, err := m.Write([]byte{1}); err != nil { // while the Read waits
		t.Fatal(err)
	}
	if got := m.silence(); got > time.Since(begun) {
		t.Errorf("silent for %s, %s after a Write began", got, time.Since(begun))
	}
	_ = far.Close()
	if err := <-read; err == nil {
		t.Error("got no error of a peer that is gone")
	}
	if m.silence() != 0 {
		t.Error("silent without a call")
	}
}

// TestAskActivity tests what the server says of a process that works, that is idle, that waits for a lock, and that
// does not exist.
func TestAskActivity(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	config, err := Config(url)
	if err != nil {
		t.Fatal(err)
	}
	holder, waiter := open(t, url), open(t, url)
	ask := func(pid uint32) activity {
		t.Helper()
		state, answered := askActivity(background, config, pid)
		if !answered {
			t.Fatal("the server did not answer")
		}
		return state
	}
	run(t, holder.Conn, "CREATE TABLE public.t ()", "BEGIN; LOCK TABLE public.t")
	if got := ask(holder.PgConn().PID()); got != (activity{known: true, idle: true}) {
		t.Errorf("an idle process: got %+v", got)
	}
	if got := ask(1); got != (activity{}) {
		t.Errorf("no such process: got %+v", got)
	}
	done := make(chan error, 1)
	go func() {
		_, err := waiter.Exec(background, "SELECT FROM public.t")
		done <- err
	}()
	want := fmt.Sprintf("process %d (", holder.PgConn().PID())
	for deadline := time.Now().Add(time.Minute); ; {
		got := ask(waiter.PgConn().PID())
		if got.known && !got.idle && strings.HasPrefix(got.blockedBy, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a process that waits: got %+v", got)
		}
	}
	run(t, holder.Conn, "COMMIT")
	if err := <-done; err != nil {
		t.Error(err)
	}
	refused := config.Copy()
	refused.Database = "no_such_database"
	if _, answered := askActivity(background, refused, 1); !answered {
		t.Error("an error of the server is an answer")
	}
	closed, err := Config("postgresql://u@127.0.0.1:1/d?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	if _, answered := askActivity(background, closed, 1); answered {
		t.Error("a refused connection is no answer")
	}
}

// TestReportWaits tests that a context reports waits of the connections that are opened with it.
func TestReportWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	got := &reports{new: make(chan struct{}, 1)}
	conn, err := Open(ReportWaits(background, got.add), url, "flujo")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.End(background)
	ctx, cancel := context.WithCancel(background)
	go func() {
		_, _ = conn.Exec(ctx, "SELECT pg_sleep(60)")
	}()
	got.await(t, "waiting for the server, which is working")
	cancel()
}

// TestConnectIsSaid tests that a server that accepts a connection and does not answer is reported, and named as the
// cause when the time is over.
func TestConnectIsSaid(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	url := "postgresql://app@" + listener.Addr().String() + "/db?sslmode=disable&connect_timeout=1"
	config, err := Config(url)
	if err != nil {
		t.Fatal(err)
	}
	got := &reports{new: make(chan struct{}, 1)}
	if _, err := establish(t.Context(), config, 10*time.Millisecond, got.add); err == nil {
		t.Error("connected")
	}
	got.await(t, "the server has not answered (10ms)")
	_, err = Dial(t.Context(), url)
	const want = "the connection was accepted, but the server has not answered within 1s"
	if err == nil || !strings.Contains(err.Error(), want) || clierr.KindOf(err) != clierr.Failed {
		t.Errorf("got error %v, want %q", err, want)
	}
}
