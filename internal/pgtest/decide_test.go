package pgtest

import (
	"sync/atomic"
	"testing"
)

// isCommitted reports whether a message is the server's answer to COMMIT.
func isCommitted(fromServer bool, typ byte, payload []byte) bool {
	return fromServer && typ == 'C' && string(payload) == "COMMIT\x00"
}

func isSent(fromServer bool, typ byte, payload []byte) bool {
	return !fromServer && isCommit(typ, payload)
}

// TestProxyDecides cuts the connection at COMMIT and at its answer.
func TestProxyDecides(t *testing.T) {
	db, p := proxied(t)
	rows := 0
	for _, c := range []struct {
		name      string
		at        func(fromServer bool, typ byte, payload []byte) bool
		fate      Fate
		arrives   bool // COMMIT at the server
		completes bool // for the client
	}{
		{"forwarded", isCommitted, Forward, true, true},
		{"before COMMIT", isSent, CutBefore, false, false},
		{"within COMMIT", isSent, CutWithin, false, false},
		{"after COMMIT", isSent, CutAfter, true, false},
		{"before the answer", isCommitted, CutBefore, true, false},
		{"within the answer", isCommitted, CutWithin, true, false},
		{"after the answer, before the server is ready", isCommitted, CutAfter, true, false},
	} {
		var seen atomic.Int32
		p.OnMessage(func(fromServer bool, typ byte, payload []byte) Fate {
			if c.at(fromServer, typ, payload) {
				seen.Add(1)
				return c.fate
			}
			return Forward
		})
		err := insert(p.Rewrite(db), 10)
		if (err == nil) != c.completes {
			t.Errorf("%s: the client: %v", c.name, err)
		}
		p.Wait()
		if seen.Load() != 1 {
			t.Errorf("%s: seen %d times", c.name, seen.Load())
		}
		if c.arrives {
			rows += 10
		}
		wantRows(t, db, rows)
	}
	p.OnMessage(nil)
	if err := insert(p.Rewrite(db), 10); err != nil {
		t.Error(err)
	}
}
