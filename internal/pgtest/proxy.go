package pgtest

import (
	"context"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Match selects messages that a client sends. typ is the type byte ('Q' Query,
// 'P' Parse, 'd' CopyData, 'c' CopyDone, …). payload is what follows the
// length; it is valid only during the call. The proxy calls a Match for every
// message after the startup message, one at a time over all connections. A
// Match may call the proxy's methods except Wait.
type Match func(typ byte, payload []byte) bool

// Decide decides what happens to a message of a session, of the server or of the client
// (see [Match]). While it runs, no other message passes, of any connection.
type Decide func(fromServer bool, typ byte, payload []byte) Fate

// Fate is what happens to a message.
type Fate int

// The fates of a message. A connection that is cut ends for both sides.
const (
	Forward   Fate = iota
	CutBefore      // the message does not arrive, and the connection is cut
	CutWithin      // half of its bytes arrive
	CutAfter       // it arrives, but not the answer
)

// Proxy is a TCP proxy between clients and a server that breaks connections
// when a test asks for it. It refuses requests for encryption.
//
// When it breaks a connection, the client's end is closed at once, and the
// server still receives everything that was forwarded before. Until then, bytes
// are relayed unchanged in both directions.
type Proxy struct {
	t        testing.TB
	listener net.Listener
	upstream string
	open     sync.WaitGroup

	judging sync.Mutex // held while a Match runs

	mu        sync.Mutex
	newest    *proxyConn
	conns     map[*proxyConn]bool
	closed    bool
	cutBytes  int64 // 0: never
	cutBefore Match
	cutAfter  Match
	decide    Decide
	rewrites  map[string]string
	pooler    bool
	refuse    Refusal
	forgetful bool
	deaf      bool   // cancel requests are dropped
	version   string // what version() returns; "" to leave it
}

// Refusal returns the SQLSTATE and the message with which a session with these startup
// parameters is refused, or "" to accept it. It is called for one session at a time.
type Refusal func(parameters map[string]string) (code, message string)

// NewProxy starts a proxy to a server's address: host:port, or the path of a
// Unix socket (see [Upstream]). The proxy ends with the test.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	p := &Proxy{
		t: t, listener: listener, upstream: upstream,
		conns: map[*proxyConn]bool{}, rewrites: map[string]string{},
	}
	p.open.Add(1)
	go p.accept()
	t.Cleanup(p.close)
	return p
}

// Upstream returns the address of the server of a database URL, for [NewProxy].
func Upstream(t testing.TB, databaseURL string) string {
	t.Helper()
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	_, address := pgconn.NetworkAddress(config.Host, config.Port)
	return address
}

// Addr returns the address of the proxy, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Rewrite returns the database URL with the address of the proxy and
// sslmode=disable.
func (p *Proxy) Rewrite(databaseURL string) string {
	p.t.Helper()
	return WithServer(p.t, databaseURL, p.Addr())
}

// CutAfterClientBytes breaks the newest connection after its client has sent n
// bytes since it was opened. Exactly n bytes are forwarded, even if they end
// within a message. It applies once. Zero cancels it.
func (p *Proxy) CutAfterClientBytes(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutBytes = n
}

// OnClientMessage breaks the connection at each message that cut selects. The
// message is not forwarded. Nil cancels it.
func (p *Proxy) OnClientMessage(cut Match) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutBefore = cut
}

// CutAfterClientMessage breaks the connection after each message that cut
// selects. The server receives the message and processes it, but its answer
// does not reach the client. Nil cancels it.
func (p *Proxy) CutAfterClientMessage(cut Match) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAfter = cut
}

// OnMessage decides about each message in both directions, on connections that are opened
// from now on. Nil cancels it.
func (p *Proxy) OnMessage(decide Decide) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decide = decide
}

// RewriteServerParameter changes the value of a parameter, such as
// "server_version", that the server reports on new connections.
func (p *Proxy) RewriteServerParameter(name, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rewrites[name] = value
}

// ActAsPooler makes the proxy behave on new connections like PgBouncer in
// transaction mode: it drops the startup parameter "options" and reports a
// process id that is not the backend's. A cancel request with that id still
// reaches the backend. Unlike with PgBouncer, a connection uses one backend
// until it ends.
func (p *Proxy) ActAsPooler() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pooler = true
}

// RefuseSessions makes the proxy answer new sessions that refuse selects with a FATAL
// error, as a server or a pooler does. Nil cancels it.
func (p *Proxy) RefuseSessions(refuse Refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// RefuseOptions refuses sessions as PgBouncer does with its default settings: those with
// the startup parameter "options".
func (p *Proxy) RefuseOptions() {
	p.RefuseSessions(func(parameters map[string]string) (code, message string) {
		if _, has := parameters["options"]; has {
			return "08P01", "unsupported startup parameter: options"
		}
		return "", ""
	})
}

// refusal returns the answer to a session with these startup parameters, or nil.
func (p *Proxy) refusal(parameters map[string]string) *pgproto3.ErrorResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse == nil {
		return nil
	}
	code, message := p.refuse(parameters)
	if code == "" {
		return nil
	}
	return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message}
}

// RewriteVersion changes what the function version() returns on new connections.
func (p *Proxy) RewriteVersion(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version = text
}

// ForgetStatements makes the proxy behave on new connections like a pooler that changes
// the server's process after each transaction: a statement that was prepared by name in
// an earlier transaction does not exist.
func (p *Proxy) ForgetStatements() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetful = true
}

// Redirect makes the proxy connect new clients to another server, by an address as for
// [NewProxy].
func (p *Proxy) Redirect(upstream string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = upstream
}

// DropCancels makes the proxy drop cancel requests, which pgx also sends when it loses a
// connection. A broken network does not forward them either.
func (p *Proxy) DropCancels() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

func (p *Proxy) dropsCancels() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deaf
}

// Cut breaks every open connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.cut()
	}
}

// Wait returns when no connection is open and the server has finished with
// each: it has executed or rolled back everything that it received. Wait fails
// the test after stopTimeout.
func (p *Proxy) Wait() {
	p.t.Helper()
	deadline := time.After(stopTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		p.mu.Lock()
		open := len(p.conns)
		p.mu.Unlock()
		if open == 0 {
			return
		}
		select {
		case <-deadline:
			p.t.Fatalf("proxy: %d connections still open", open)
		case <-tick.C:
		}
	}
}

func (p *Proxy) accept() {
	defer p.open.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.open.Go(func() {
			p.serve(client)
		})
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	network, upstream := "tcp", p.upstream
	p.mu.Unlock()
	if strings.HasPrefix(upstream, "/") {
		network = "unix"
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	server, err := new(net.Dialer).DialContext(ctx, network, upstream)
	if err != nil {
		return // the client sees its connection closed, as with a server that is down
	}
	defer server.Close()
	c := newProxyConn(p, client, server)
	if !p.enter(c) {
		return
	}
	defer p.leave(c)
	c.relay()
}

// enter registers a connection. It returns false if the proxy is closed.
func (p *Proxy) enter(c *proxyConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	maps.Copy(c.rewrites, p.rewrites)
	c.pooler, c.forgetful, c.version = p.pooler, p.forgetful, p.version
	c.decide = p.decide
	p.conns[c] = true
	p.newest = c
	return true
}

func (p *Proxy) leave(c *proxyConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// close ends the proxy and closes both ends of all connections.
func (p *Proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.client.Close()
		_ = c.server.Close()
	}
	p.mu.Unlock()
	p.open.Wait()
}

// budget returns how many of the next n bytes of the connection's client are
// forwarded, and whether the connection breaks after them.
func (p *Proxy) budget(c *proxyConn, n int) (pass int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cutBytes > 0 && p.newest == c && c.clientBytes+int64(n) >= p.cutBytes {
		pass = int(max(p.cutBytes-c.clientBytes, 0))
		p.cutBytes = 0
		return pass, true
	}
	c.clientBytes += int64(n)
	return n, false
}

// judge calls both matches with a message.
func (p *Proxy) judge(typ byte, payload []byte) (before, after bool) {
	p.judging.Lock()
	defer p.judging.Unlock()
	p.mu.Lock()
	cutBefore, cutAfter := p.cutBefore, p.cutAfter
	p.mu.Unlock() // a Match may call the proxy's methods
	before = cutBefore != nil && cutBefore(typ, payload)
	after = !before && cutAfter != nil && cutAfter(typ, payload)
	return before, after
}

// fate calls the function of OnMessage with a message.
func (p *Proxy) fate(decide Decide, fromServer bool, typ byte, payload []byte) Fate {
	p.judging.Lock()
	defer p.judging.Unlock()
	return decide(fromServer, typ, payload)
}
