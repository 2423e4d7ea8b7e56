//go:build slow && unix

package torture

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

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
