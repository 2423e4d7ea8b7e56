package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
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
// on the primary, as its superuser. Transactions that are committed there later
// reach the standby with a short delay.
func PrimaryAndStandby(t testing.TB, statements ...string) (primary, standby string) {
	t.Helper()
	const database = "standby"
	from, to := StartPair(t)
	if err := from.CreateDatabase(database); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	mustExec(t, from.URL(database), statements...)
	AwaitReplay(t, from, to)
	return from.URL(database), to.URL(database)
}

// StartPair starts a server and its standby, which stop when the test ends.
func StartPair(t testing.TB) (primary, standby *Server) {
	t.Helper()
	primary, standby, err := startBoth()
	if err != nil {
		t.Fatalf("start a primary and a standby: %v", err)
	}
	stopAfter(t, primary)
	stopAfter(t, standby)
	return primary, standby
}

// AwaitReplay returns when the standby has everything that was committed on the primary.
func AwaitReplay(t testing.TB, primary, standby *Server) {
	t.Helper()
	if err := awaitReplay(primary, standby); err != nil {
		t.Fatalf("pgtest: wait for the standby: %v", err)
	}
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

// startBoth starts a server and its standby. The standby's data folder is a copy of the
// primary's from before its first start, so no other program than the server is needed.
// The caller must call Stop of both.
func startBoth() (primary, standby *Server, err error) {
	primary, err = newServer()
	if err != nil {
		return nil, nil, err
	}
	var copied string
	err = primary.begin(func() error {
		if err := primary.create(); err != nil {
			return err
		}
		copied = filepath.Join(primary.dir, "copy")
		if out, err := primary.command("/bin/cp", "-Rp", primary.dataDir(), copied).CombinedOutput(); err != nil {
			return fmt.Errorf("copy the data folder: %w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	standby = &Server{
		bin: primary.bin, version: primary.version, password: primary.password, account: primary.account,
	}
	err = standby.begin(func() error {
		if err := os.Rename(copied, standby.dataDir()); err != nil {
			return fmt.Errorf("move the data folder: %w", err)
		}
		return standby.follow(primary)
	})
	if err != nil {
		return nil, nil, errors.Join(err, primary.Stop())
	}
	return primary, standby, nil
}

// follow makes the server, which has not been started, a standby of the primary.
func (s *Server) follow(primary *Server) error {
	signal := filepath.Join(s.dataDir(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return fmt.Errorf("configure the standby: %w", err)
	}
	if err := s.account.own(signal); err != nil {
		return err
	}
	return s.configure(
		"unix_socket_directories="+s.dir, // the copied settings name the primary's
		fmt.Sprintf("primary_conninfo=host=%s port=%s user=%s password=%s",
			primary.Host(), primary.Port(), primary.User(), primary.Password()),
	)
}

// awaitReplay returns when the standby has everything that was committed on the primary,
// which may not have been written there yet (synchronous_commit is off).
func awaitReplay(primary, standby *Server) error {
	var position string
	if err := queryRow(primary.URL("postgres"), "SELECT pg_current_wal_insert_lsn()::text", &position); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for tick := time.Tick(5 * time.Millisecond); ; {
		var replayed bool
		err := queryRow(standby.URL("postgres"),
			fmt.Sprintf("SELECT coalesce(pg_last_wal_replay_lsn() >= '%s', false)", position), &replayed)
		if err != nil || replayed {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
		}
	}
}
