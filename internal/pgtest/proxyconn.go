package pgtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Codes of the packets that come before a session.
const (
	codeCancel  = 80877102
	codeSSL     = 80877103
	codeGSS     = 80877104
	maxStartup  = 10000 // PostgreSQL's own limit
	maxMessage  = 1 << 30
	headerBytes = 5 // type and length
)

// pooledProcess is the bit that changes the process id that a server reports to
// another one. It is above the largest process id of every system, so the
// original id can be restored.
const pooledProcess = 1 << 30

// proxyConn is a client's connection through a proxy.
type proxyConn struct {
	proxy       *Proxy
	client      net.Conn
	server      net.Conn
	clientBytes int64 // guarded by proxy.mu
	rewrites    map[string]string
	pooler      bool
	decide      Decide // nil to forward every message

	version      string // what version() returns; "" to leave it
	forgetful    bool
	transactions atomic.Uint32 // that have ended
}

func newProxyConn(p *Proxy, client, server net.Conn) *proxyConn {
	return &proxyConn{proxy: p, client: client, server: server, rewrites: map[string]string{}}
}

// relay forwards in both directions and returns when the server has closed its
// end.
func (c *proxyConn) relay() {
	clientDone := make(chan struct{})
	go func() {
		defer close(clientDone)
		_ = c.clientToServer() // after any error there is nothing more to forward
		closeWrite(c.server)
	}()
	_ = c.serverToClient()
	_, _ = io.Copy(io.Discard, c.server) // the client has ended: wait until the server finishes
	_ = c.client.Close()
	_ = c.server.Close()
	<-clientDone
}

// cut closes the client's end and tells the server that no more bytes follow.
// relay closes the server's end after the server has closed it: closing it here
// could discard bytes that the server has not read.
func (c *proxyConn) cut() {
	_ = c.client.Close()
	closeWrite(c.server)
}

func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// clientToServer returns when the client has closed its end or was cut.
func (c *proxyConn) clientToServer() error {
	in := bufio.NewReaderSize(c.client, 1<<16)
	session, err := c.startup(in)
	if err != nil || !session {
		return err
	}
	var message []byte
	for {
		if message, err = readMessage(in, message); err != nil {
			return err
		}
		before, after := c.proxy.judge(message[0], message[headerBytes:])
		if before {
			c.cut()
			return nil
		}
		if after {
			_ = c.client.Close() // first, so that no answer passes
		}
		if c.forgetful {
			renameStatement(message, byte('a'+c.transactions.Load()%26))
		}
		if passed, err := c.pass(false, message, c.forward); !passed {
			return err
		}
		if after {
			c.cut()
			return nil
		}
	}
}

// pass sends a message with send, unless the proxy's function decides otherwise. It
// returns false if the connection has ended.
func (c *proxyConn) pass(fromServer bool, message []byte, send func([]byte) error) (passed bool, err error) {
	fate := Forward
	if c.decide != nil {
		fate = c.proxy.fate(c.decide, fromServer, message[0], message[headerBytes:])
	}
	switch fate {
	case CutBefore:
		message = nil
	case CutWithin:
		message = message[:len(message)/2]
	}
	if fate != Forward && !fromServer {
		_ = c.client.Close() // first, so that no answer passes
	}
	if err := send(message); err != nil {
		return false, err
	}
	if fate != Forward {
		c.cut()
	}
	return fate == Forward, nil
}

// startup forwards what a client sends before its first message, and answers
// requests for encryption itself. It reports whether a session follows.
func (c *proxyConn) startup(in *bufio.Reader) (session bool, err error) {
	for {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return false, err
		}
		size, code := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		if code == codeSSL || code == codeGSS {
			if _, err := c.client.Write([]byte{'N'}); err != nil {
				return false, err
			}
			continue
		}
		if size < 8 || size > maxStartup {
			return false, fmt.Errorf("startup packet of %d bytes", size)
		}
		packet := make([]byte, size)
		copy(packet, head[:])
		if _, err := io.ReadFull(in, packet[8:]); err != nil {
			return false, err
		}
		if code == codeCancel && c.proxy.dropsCancels() {
			return false, nil
		}
		if code == codeCancel {
			return false, c.forward(cancelBackend(packet))
		}
		if refused, err := c.answerRefusal(packet); refused || err != nil {
			return false, err
		}
		if c.pooler {
			if packet, err = dropOptions(packet); err != nil {
				return false, err
			}
		}
		return true, c.forward(packet)
	}
}

// answerRefusal answers the startup packet if the proxy refuses the session.
func (c *proxyConn) answerRefusal(packet []byte) (refused bool, err error) {
	var startup pgproto3.StartupMessage
	if err := startup.Decode(packet[4:]); err != nil {
		return false, err
	}
	answer := c.proxy.refusal(startup.Parameters)
	if answer == nil {
		return false, nil
	}
	message, err := answer.Encode(nil)
	if err != nil {
		return false, err
	}
	_, err = c.client.Write(message)
	return true, errors.Join(err, c.client.Close())
}

// dropOptions returns the startup packet without the parameter "options".
func dropOptions(packet []byte) ([]byte, error) {
	var startup pgproto3.StartupMessage
	if err := startup.Decode(packet[4:]); err != nil {
		return nil, err
	}
	delete(startup.Parameters, "options")
	return startup.Encode(nil)
}

// cancelBackend returns the cancel request with the backend's real process id.
func cancelBackend(packet []byte) []byte {
	if len(packet) >= 12 {
		process := packet[8:12] // after length and code
		binary.BigEndian.PutUint32(process, binary.BigEndian.Uint32(process)&^pooledProcess)
	}
	return packet
}

// renameStatement replaces the first character of the name of a prepared statement in a
// message of a client with one that depends on the transaction.
func renameStatement(message []byte, first byte) {
	payload := message[headerBytes:]
	switch message[0] {
	case 'P': // Parse: the name comes first
	case 'B': // Bind: after the name of the portal
		payload = payload[bytes.IndexByte(payload, 0)+1:]
	case 'D', 'C': // Describe and Close: after the kind
		if payload[0] != 'S' {
			return
		}
		payload = payload[1:]
	default:
		return
	}
	if payload[0] != 0 { // not the unnamed statement
		payload[0] = first
	}
}

// announceAnother returns the BackendKeyData message with a process id that is
// not the backend's.
func announceAnother(message []byte) []byte {
	if len(message) >= headerBytes+4 {
		process := message[headerBytes : headerBytes+4]
		binary.BigEndian.PutUint32(process, binary.BigEndian.Uint32(process)|pooledProcess)
	}
	return message
}

// forward sends bytes of the client to the server, up to the proxy's byte
// limit.
func (c *proxyConn) forward(data []byte) error {
	pass, cut := c.proxy.budget(c, len(data))
	if cut {
		_ = c.client.Close()
	}
	_, err := c.server.Write(data[:pass])
	if cut {
		c.cut()
		return net.ErrClosed
	}
	return err
}

// serverToClient returns when either end is closed.
func (c *proxyConn) serverToClient() error {
	if len(c.rewrites) == 0 && !c.pooler && !c.forgetful && c.version == "" && c.decide == nil {
		_, err := io.Copy(c.client, c.server)
		return err
	}
	in := bufio.NewReaderSize(c.server, 1<<16)
	var message []byte
	for {
		var err error
		if message, err = readMessage(in, message); err != nil {
			return err
		}
		switch {
		case message[0] == 'S':
			if message, err = c.rewrite(message); err != nil {
				return err
			}
		case message[0] == 'D' && c.version != "":
			if message, err = c.rewriteVersion(message); err != nil {
				return err
			}
		case message[0] == 'K' && c.pooler:
			message = announceAnother(message)
		case message[0] == 'Z' && message[headerBytes] == 'I':
			c.transactions.Add(1)
		}
		if passed, err := c.pass(true, message, c.answer); !passed {
			return err
		}
	}
}

// answer sends bytes of the server to the client.
func (c *proxyConn) answer(data []byte) error {
	_, err := c.client.Write(data)
	return err
}

// rewrite returns the ParameterStatus message with the value that the test set.
func (c *proxyConn) rewrite(message []byte) ([]byte, error) {
	var status pgproto3.ParameterStatus
	if err := status.Decode(message[headerBytes:]); err != nil {
		return nil, err
	}
	value, ok := c.rewrites[status.Name]
	if !ok {
		return message, nil
	}
	status.Value = value
	return status.Encode(message[:0])
}

// rewriteVersion returns the DataRow message with the text of version() that the test set,
// if that is what the row has.
func (c *proxyConn) rewriteVersion(message []byte) ([]byte, error) {
	var row pgproto3.DataRow
	if err := row.Decode(message[headerBytes:]); err != nil {
		return nil, err
	}
	if len(row.Values) != 1 || !bytes.HasPrefix(row.Values[0], []byte("PostgreSQL ")) {
		return message, nil
	}
	row.Values[0] = []byte(c.version)
	return row.Encode(nil)
}

// readMessage reads one complete message, with its type byte, into buf or a
// larger buffer.
func readMessage(in *bufio.Reader, buf []byte) ([]byte, error) {
	var head [headerBytes]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > maxMessage {
		return nil, fmt.Errorf("message %q of %d bytes", head[0], size)
	}
	if need := int(size) + 1; cap(buf) < need {
		buf = make([]byte, need)
	} else {
		buf = buf[:need]
	}
	copy(buf, head[:])
	_, err := io.ReadFull(in, buf[headerBytes:])
	return buf, err
}
