package pgtest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Standby returns the URL of a database on a server of its own in hot
// standby: it can be read and not written. The statements, if any, ran there
// before, when it still could be. The server stops when the test ends.
func Standby(t testing.TB, statements ...string) string {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	if err := s.CreateDatabase("standby"); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	mustExec(t, s.URL("standby"), statements...)
	if err := s.becomeStandby(); err != nil {
		t.Fatalf("make a standby: %v", err)
	}
	return s.URL("standby")
}

// becomeStandby restarts the server in recovery, with nobody to follow.
func (s *Server) becomeStandby() error {
	if err := s.halt(syscall.SIGINT); err != nil {
		return err
	}
	signal := filepath.Join(s.dataDir(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	if err := s.account.own(signal); err != nil {
		return err
	}
	if err := s.configure("hot_standby=on"); err != nil {
		return err
	}
	return s.launch()
}
