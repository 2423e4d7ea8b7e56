package pgtest

import (
	"fmt"
	"testing"
)

// Standby returns the URL of a database on a hot standby of the test's own:
// it can be read and not written, and follows its primary. The statements, if
// any, ran on the primary before. Both servers stop when the test ends.
func Standby(t testing.TB, statements ...string) string {
	t.Helper()
	_, standby := PrimaryAndStandby(t, statements...)
	return standby
}

// PrimaryAndStandby is [Standby] that also returns the URL of the same
// database on the primary, as its superuser. What is committed there arrives
// on the standby a moment later.
func PrimaryAndStandby(t testing.TB, statements ...string) (primary, standby string) {
	t.Helper()
	const database = "standby"
	from, err := Start()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	stopAfter(t, from)
	if err := from.CreateDatabase(database); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	mustExec(t, from.URL(database), statements...)
	to, err := startStandby(from)
	if err != nil {
		t.Fatalf("start a standby: %v", err)
	}
	stopAfter(t, to)
	return from.URL(database), to.URL(database)
}

// stopAfter stops the server when the test ends.
func stopAfter(t testing.TB, s *Server) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
}

// startStandby makes a copy of a running server and starts it as its standby.
// The caller must Stop it.
func startStandby(primary *Server) (*Server, error) {
	s := &Server{bin: primary.bin, version: primary.version, password: primary.password, account: primary.account}
	if err := s.begin(func() error { return s.copyFrom(primary) }); err != nil {
		return nil, err
	}
	return s, nil
}

// copyFrom makes the data folder a copy of the primary's, set to follow it.
// All that was committed there before is in the copy.
func (s *Server) copyFrom(primary *Server) error {
	cmd := s.command("pg_basebackup", "--pgdata", s.dataDir(), "--write-recovery-conf",
		"--checkpoint=fast", "--wal-method=stream", "--no-sync",
		"--host", primary.dir, "--port", primary.Port(), "--username", superuser, "--no-password")
	cmd.Env = append(cmd.Env, "PGPASSWORD="+primary.password) // arguments can be read by everybody
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return s.configure("unix_socket_directories=" + s.dir) // the copied settings name the primary's
}
