package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Standby returns the URL of a database on a new hot standby, which follows a
// new primary and is read-only. The statements, if any, run on the primary
// first. Both servers stop when the test ends.
func Standby(t testing.TB, statements ...string) string {
	t.Helper()
	_, standby := PrimaryAndStandby(t, statements...)
	return standby
}

// PrimaryAndStandby is like [Standby] and also returns the URL of the database
// on the primary, as its superuser. Transactions that are committed there reach
// the standby with a short delay.
func PrimaryAndStandby(t testing.TB, statements ...string) (primary, standby string) {
	t.Helper()
	const database = "standby"
	from, err := Start()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	stopAfter(t, from)
	if _, err := os.Stat(filepath.Join(from.bin, "pg_basebackup")); errors.Is(err, fs.ErrNotExist) {
		t.Skip("this installation of PostgreSQL has no pg_basebackup")
	}
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

// startStandby copies a running server and starts the copy as its standby. The
// caller must call Stop.
func startStandby(primary *Server) (*Server, error) {
	s := &Server{bin: primary.bin, version: primary.version, password: primary.password, account: primary.account}
	if err := s.begin(func() error { return s.copyFrom(primary) }); err != nil {
		return nil, err
	}
	return s, nil
}

// copyFrom creates the data folder as a copy of the primary's, configured to
// follow it. The copy contains all transactions that were committed before.
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
