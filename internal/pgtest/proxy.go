package pgtest

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Match picks a message that a client sends: typ is its type byte ('Q' Query,
// 'P' Parse, 'd' CopyData, 'c' CopyDone, …), payload what follows the length,
// valid during the call only. It is called for every message after the
// startup message, one at a time over all connections of the proxy, and may
// call the proxy's methods other than Wait.
type Match func(typ byte, payload []byte) bool

// Proxy is a TCP proxy between clients and a server that breaks connections
// when told. It answers requests for encryption with "no".
//
// When it breaks a connection the client sees it closed at once, and the
// server still receives everything forwarded before. What the client sent and
// the server answered until then is relayed byte by byte.
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
	rewrites  map[string]string
	pooler    bool
}

// NewProxy starts a proxy to a server's address: host:port, or the path of a
// Unix socket. It ends with the test. See [Upstream].
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

// Upstream returns the address of the server that a database URL means, for
// [NewProxy].
func Upstream(t testing.TB, databaseURL string) string {
	t.Helper()
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	_, address := pgconn.NetworkAddress(config.Host, config.Port)
	return address
}

// Addr returns the proxy's own host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Rewrite returns the database URL with the proxy in place of the server and
// sslmode=disable.
func (p *Proxy) Rewrite(databaseURL string) string {
	p.t.Helper()
	return WithServer(p.t, databaseURL, p.Addr())
}

// CutAfterClientBytes breaks the newest connection once n bytes have come
// from its client since it was opened: exactly n are forwarded, be that in
// the middle of a message. It happens once; set it anew for another. Zero
// takes it back.
func (p *Proxy) CutAfterClientBytes(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutBytes = n
}

// OnClientMessage breaks the connection at each message that cut picks: the
// message is not forwarded. Nil takes it back.
func (p *Proxy) OnClientMessage(cut Match) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutBefore = cut
}

// CutAfterClientMessage breaks the connection after each message that cut
// picks: the server receives the message and acts on it, and no answer
// reaches the client. Nil takes it back.
func (p *Proxy) CutAfterClientMessage(cut Match) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAfter = cut
}

// RewriteServerParameter makes the server report value for a parameter, such
// as "server_version", on connections from now on.
func (p *Proxy) RewriteServerParameter(name, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rewrites[name] = value
}

// ActAsPooler makes the proxy look, on connections from now on, as PgBouncer
// does in transaction mode when one connects: the startup parameter "options"
// is dropped, and the process that is announced to the client is no backend's.
// A cancel request that names it still reaches the right one. The connection
// does stay with one backend from end to end.
func (p *Proxy) ActAsPooler() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pooler = true
}

// Cut breaks every open connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.cut()
	}
}

// Wait returns once no connection is open and the server has finished with
// each: what it was told is done or rolled back. It fails the test after half
// a minute.
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
		p.open.Add(1)
		go func() {
			defer p.open.Done()
			p.serve(client)
		}()
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	network := "tcp"
	if strings.HasPrefix(p.upstream, "/") {
		network = "unix"
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	server, err := new(net.Dialer).DialContext(ctx, network, p.upstream)
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

// enter registers a connection; it reports false once the proxy is closed.
func (p *Proxy) enter(c *proxyConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for name, value := range p.rewrites {
		c.rewrites[name] = value
	}
	c.pooler = p.pooler
	p.conns[c] = true
	p.newest = c
	return true
}

func (p *Proxy) leave(c *proxyConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// close ends the proxy; the client and the server ends of all connections are
// closed outright.
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

// budget returns how many of the next n bytes of the connection's client may
// pass, and whether the connection breaks then.
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

// judge asks both matches about a message.
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
