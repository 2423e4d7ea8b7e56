package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// waitsKey is the key of the function of ReportWaits in a context.
type waitsKey struct{}

// waitFunc is called with what a connection waits for, in one line, and for how long.
type waitFunc = func(what string, silence time.Duration)

// ReportWaits returns a context with which the connections that are opened call report
// with what they wait for, in one line, and for how long, when the server has been silent
// for some seconds, and again while that lasts. report is called from other goroutines.
func ReportWaits(ctx context.Context, report waitFunc) context.Context {
	return context.WithValue(ctx, waitsKey{}, report)
}

// watchLimits are the times of a watch.
type watchLimits struct {
	silence time.Duration // before the server is asked what it does
	every   time.Duration // between two questions
	connect time.Duration // for the connection of a question
	mute    time.Duration // of a server that accepts no connection, before the watch gives up
}

var limits = watchLimits{
	silence: 5 * time.Second,
	every:   10 * time.Second,
	connect: 20 * time.Second,
	mute:    time.Minute,
}

// watch looks after a connection. A statement may take any time as long as the server
// works on it. But if the server is silent and accepts no new connection either, or has
// answered and the answer did not arrive, the watch ends the connection.
type watch struct {
	watchLimits
	conn   *meter
	report waitFunc
	// ask asks the server what its process does. answered reports whether the server
	// accepted the question.
	ask func(ctx context.Context) (state activity, answered bool)

	said   string        // the last report
	saidAt time.Duration // the silence at that time
}

// activity is what the server's process of a connection does.
type activity struct {
	known     bool
	idle      bool   // it waits for the next statement
	blockedBy string // who holds the lock that it waits for
	standby   bool   // its COMMIT waits for a synchronous standby
}

// run returns when the connection is closed.
func (w *watch) run() {
	tick := time.NewTicker(w.silence / 5)
	defer tick.Stop()
	var next time.Time    // of the next question
	var failing time.Time // since when questions fail
	idle := 0             // questions in a row that were answered with idle
	for {
		select {
		case <-w.conn.closed:
			return
		case <-tick.C:
		}
		silence := w.conn.silence()
		if silence < w.silence {
			next, failing, idle = time.Time{}, time.Time{}, 0
			w.said, w.saidAt = "", 0
			continue
		}
		if time.Now().Before(next) {
			continue
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), w.connect)
		state, answered := w.ask(ctx)
		cancel()
		next = time.Now().Add(w.every)
		if w.conn.silence() < silence {
			continue // it answered meanwhile
		}
		silence = w.conn.silence()
		switch {
		case answered:
			failing = time.Time{}
		case failing.IsZero():
			failing = begun
		}
		if idle++; !state.idle {
			idle = 0
		}
		switch {
		case !answered && time.Since(failing) >= w.mute:
			w.conn.abandon(fmt.Errorf("the server has not answered for %s, and accepts no new connection",
				silence.Round(time.Second)))
		case idle > 2:
			w.conn.abandon(fmt.Errorf("the server has answered, but nothing has arrived for %s",
				silence.Round(time.Second)))
		default:
			w.say(state, answered, silence)
		}
	}
}

// say reports what is waited for, if that is new or the silence has doubled.
func (w *watch) say(state activity, answered bool, silence time.Duration) {
	what := "the server has not answered"
	switch {
	case !answered:
		what = "the server has not answered, and accepts no new connection"
	case state.blockedBy != "":
		what = "waiting for a lock that is held by " + state.blockedBy
	case state.standby:
		what = "COMMIT waits for a synchronous standby"
	case state.known && !state.idle:
		what = "waiting for the server, which is working"
	}
	if what == w.said && silence < 2*w.saidAt {
		return
	}
	w.said, w.saidAt = what, silence
	if w.report != nil {
		w.report(what, silence.Round(time.Second))
	}
}

// activityQuery selects what process $1 does. The process of a prepared transaction is 0.
const activityQuery = `SELECT a.state LIKE 'idle%', a.wait_event = 'SyncRep',
	coalesce((SELECT CASE b WHEN 0 THEN 'a prepared transaction' ELSE format('process %s (%s)', b, concat_ws(', ',
			coalesce(nullif(h.application_name, ''), 'no application name'), 'role ' || h.usename,
			'since ' || to_char(h.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC'))) END
		FROM unnest(pg_blocking_pids(a.pid)) b LEFT JOIN pg_stat_activity h ON h.pid = b LIMIT 1), '')
FROM pg_stat_activity a WHERE a.pid = $1::int`

// askActivity asks on a new connection what the process does.
func askActivity(ctx context.Context, config *pgx.ConnConfig, process uint32) (state activity, answered bool) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		_, refused := errors.AsType[*pgconn.PgError](err)
		return state, refused // an error of the server is an answer
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var idle, standby *bool
	err = conn.QueryRow(ctx, activityQuery, int64(process)).Scan(&idle, &standby, &state.blockedBy)
	if err == nil && idle != nil { // there is no row behind a pooler
		state.known, state.idle, state.standby = true, *idle, standby != nil && *standby
	}
	return state, true
}

// meter is a network connection that knows for how long it has waited for the peer.
type meter struct {
	net.Conn
	closed    chan struct{}
	closeOnce sync.Once

	mu      sync.Mutex
	waiting int       // calls of Read and Write that have not returned
	since   time.Time // when the first of them was called, or the last one returned

	abandoned atomic.Pointer[error]
}

func newMeter(conn net.Conn) *meter { return &meter{Conn: conn, closed: make(chan struct{})} }

func (m *meter) Read(b []byte) (int, error) {
	m.begin()
	n, err := m.Conn.Read(b)
	return n, m.end(err)
}

func (m *meter) Write(b []byte) (int, error) {
	m.begin()
	n, err := m.Conn.Write(b)
	return n, m.end(err)
}

// Close closes the connection and ends its watch.
func (m *meter) Close() error {
	m.stop()
	return m.Conn.Close()
}

// stop ends the watch.
func (m *meter) stop() { m.closeOnce.Do(func() { close(m.closed) }) }

func (m *meter) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == 0 {
		m.since = time.Now()
	}
	m.waiting++
}

// end returns err, or the cause if the connection was abandoned.
func (m *meter) end(err error) error {
	m.mu.Lock()
	m.waiting--
	m.since = time.Now()
	m.mu.Unlock()
	if cause := m.abandoned.Load(); err != nil && cause != nil {
		return *cause
	}
	return err
}

// silence returns for how long the peer has been waited for.
func (m *meter) silence() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == 0 {
		return 0
	}
	return time.Since(m.since)
}

// abandon ends the connection: calls that wait return cause.
func (m *meter) abandon(cause error) {
	m.abandoned.Store(&cause)
	_ = m.Close()
}
