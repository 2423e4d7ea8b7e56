package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// briefly is a lock timeout for locks that another session of the test holds.
const briefly = 50 * time.Millisecond

// waiting returns a connection in a transaction that waits briefly for locks.
func waiting(t *testing.T, url string) *Conn {
	t.Helper()
	conn := open(t, url)
	conn.LockWait = briefly
	run(t, conn.Conn, "BEGIN; "+conn.Settings())
	return conn
}

// holder opens another session, which holds locks.
func holder(t *testing.T, url string, statements ...string) (conn *pgx.Conn, process string) {
	t.Helper()
	conn = connect(t, pgtest.WithParameter(t, url, "application_name", "the holder"))
	run(t, conn, append([]string{"BEGIN"}, statements...)...)
	return conn, one(t, conn, "pg_backend_pid()")
}

// wantTimeout tests that an error names a lock and, after FindBlocker, the session that holds it.
func wantTimeout(t *testing.T, url string, err error, lock, process, mode string) {
	t.Helper()
	wantError(t, err, clierr.Failed, "timed out after 50ms waiting for "+lock+": held by another session")
	timeout, ok := errors.AsType[*LockTimeoutError](err)
	if !ok || timeout.Wait != briefly || timeout.Lock != lock || timeout.BlockedBy != "" {
		t.Fatalf("got %#v", timeout)
	}
	if got := FindBlocker(background, url, fmt.Errorf("step: %w", err)); !errors.Is(got, err) {
		t.Errorf("FindBlocker returned %v", got)
	}
	for _, part := range []string{
		"held by process " + process + " (the holder", mode, "role " + roleOf(t, url), "since 2", "UTC)",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want one that contains %q", err, part)
		}
	}
}

func TestLockTable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, held     string
		shared, strict bool // whether the lock is available to LockTable and to LockTableExclusively
		mode           string
	}{
		{"reader", "SELECT FROM flujo.runs", true, false, "AccessShareLock on flujo.runs"},
		{"locked rows", "SELECT FROM flujo.runs FOR UPDATE", true, false, "RowShareLock on flujo.runs"},
		{"writer", "UPDATE flujo.runs SET status = ''", false, false, "RowExclusiveLock on flujo.runs"},
		{"exclusive", "LOCK TABLE flujo.runs", false, false, "AccessExclusiveLock on flujo.runs"},
		{"another table", "LOCK TABLE flujo.steps", true, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url, _ := flujo(t)
			_, process := holder(t, url, tc.held)
			for _, lock := range []struct {
				available bool
				take      func(*Conn, context.Context, string) error
				mode      string
			}{
				{tc.shared, (*Conn).LockTable, "ShareRowExclusiveLock"},
				{tc.strict, (*Conn).LockTableExclusively, "AccessExclusiveLock"},
			} {
				conn := waiting(t, url)
				err := lock.take(conn, background, "runs")
				if !lock.available {
					wantTimeout(t, url, err, `a lock on table "runs"`, process, tc.mode)
				} else if got := held(t, conn); err != nil || got != lock.mode {
					t.Errorf("got error %v and the lock %q, want %s", err, got, lock.mode)
				}
				conn.End(background)
			}
		})
	}
}

// held returns the mode of the strongest lock that a connection holds on runs.
func held(t *testing.T, conn *Conn) string {
	t.Helper()
	return one(t, conn.Conn, `SELECT string_agg(mode, ',') FROM pg_locks
		WHERE pid = pg_backend_pid() AND granted AND relation = 'flujo.runs'::regclass`)
}

func TestLockTableErrors(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	wantError(t, waiting(t, url).LockTable(background, "none"), clierr.Failed, `lock table "none"`, "42P01")
	run(t, owner, "GRANT USAGE ON SCHEMA flujo TO PUBLIC")
	role := waiting(t, pgtest.Role(t, url, ""))
	wantError(t, role.LockTable(background, "runs"), clierr.Refused, `lock table "runs"`, "42501")
}

func TestLockMigrations(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	first, process := holder(t, url, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", mapping.MigrationLock))
	err := waiting(t, url).LockMigrations(background)
	wantTimeout(t, url, err, "Flujo's migration lock", process, "(the holder, role")
	run(t, first, "COMMIT")
	conn := waiting(t, url)
	if err := conn.LockMigrations(background); err != nil {
		t.Fatal(err)
	}
	const query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
	if got := one(t, conn.Conn, query); got != "1" {
		t.Errorf("%s advisory locks are held", got)
	}
	run(t, conn.Conn, "COMMIT")
	if got := one(t, conn.Conn, query); got != "0" {
		t.Errorf("%s advisory locks are held after the transaction", got)
	}
	if err := open(t, url).LockMigrations(background); err != nil {
		t.Errorf("got error %v outside of a transaction", err)
	}
}

// TestLockMigrationsOfAnotherDatabase tests that the lock of another database is not waited for.
func TestLockMigrationsOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	holder(t, pgtest.Database(t), fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", mapping.MigrationLock))
	if err := waiting(t, pgtest.Database(t)).LockMigrations(background); err != nil {
		t.Error(err)
	}
}

// TestWrapErrorOfLock tests the timeout of a statement that takes its locks itself.
func TestWrapErrorOfLock(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	_, process := holder(t, url, "SELECT FROM flujo.runs; LOCK TABLE flujo.steps")
	conn := waiting(t, url)
	err := conn.WrapError("empty the tables", conn.Run(background, "TRUNCATE flujo.steps"))
	wantTimeout(t, url, err, "a lock to empty the tables", process, "AccessExclusiveLock on flujo.steps")
}

func TestFindBlockerWithoutTimeout(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, io.EOF, &clierr.Error{Kind: clierr.Failed, Message: "x"}} {
		// The address is malformed, so nothing is asked.
		if got := FindBlocker(background, "://", err); got != err {
			t.Errorf("got %v, want %v", got, err)
		}
	}
}

// TestFindBlockerFails tests that the error stays if nobody can be named.
func TestFindBlockerFails(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	first, _ := holder(t, url, "LOCK TABLE flujo.runs")
	err := waiting(t, url).LockTable(background, "runs")
	timeout, ok := errors.AsType[*LockTimeoutError](err)
	if !ok {
		t.Fatalf("got error %v", err)
	}
	cancelled, cancel := context.WithCancel(background)
	cancel()
	none := pgtest.WithDatabase(t, url, "flujo_port_test_none")
	for name, find := range map[string]func() error{
		"no such database": func() error { return FindBlocker(background, none, err) },
		"cancelled":        func() error { return FindBlocker(cancelled, url, err) },
	} {
		if got := find(); got != err || timeout.BlockedBy != "" {
			t.Errorf("%s: got %v", name, got)
		}
	}
	run(t, first, "ROLLBACK")
	if got := FindBlocker(background, url, err); got != err || timeout.BlockedBy != "" {
		t.Errorf("the lock was released: got %v", got)
	}
	timeout.BlockedBy = "process 7"
	if got := FindBlocker(background, url, err); got != err || timeout.BlockedBy != "process 7" {
		t.Errorf("got %v, want the session that was found first", got)
	}
}
