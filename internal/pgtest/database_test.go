package pgtest

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestMain(m *testing.M) {
	if os.Getenv(envLeftBehind) != "" {
		startAndHang()
	}
	os.Exit(Main(m))
}

func TestDatabaseIsTheTestsOwn(t *testing.T) {
	seen := make(chan string, 2)
	t.Run("pair", func(t *testing.T) {
		for range 2 {
			t.Run("database", func(t *testing.T) {
				t.Parallel()
				db := Database(t)
				mustExec(t, db, "CREATE TABLE mine ()")
				var name, encoding string
				if err := queryRow(db, "SELECT current_database(), current_setting('server_encoding')", &name,
					&encoding); err != nil {
					t.Fatal(err)
				}
				if encoding != "UTF8" || !strings.HasPrefix(name, "flujo_port_test_") {
					t.Errorf("database %q in %s", name, encoding)
				}
				seen <- name
			})
		}
	})
	first, second := <-seen, <-seen
	if first == second {
		t.Errorf("two tests share %q", first)
	}
	var left int
	if err := queryRow(adminURL(t), "SELECT count(*) FROM pg_database WHERE datname IN ('"+first+"','"+second+"')",
		&left); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("%d databases left after their tests", left)
	}
}

func TestEncodedDatabase(t *testing.T) {
	for _, want := range []string{"SQL_ASCII", "LATIN1"} {
		var got string
		if err := queryRow(EncodedDatabase(t, want), "SHOW server_encoding", &got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("encoding %s, want %s", got, want)
		}
	}
}

func TestRole(t *testing.T) {
	db := Database(t)
	var name string
	t.Run("rights", func(t *testing.T) {
		plain, maker := Role(t, db, ""), Role(t, db, "CREATEDB")
		if err := queryRow(plain, "SELECT current_user", &name); err != nil {
			t.Fatal(err)
		}
		wantCode(t, execAll(plain, "CREATE DATABASE flujo_port_test_never"), "42501")
		made := randomName()
		mustExec(t, maker, "CREATE DATABASE "+made)
		t.Cleanup(func() { mustExec(t, db, "DROP DATABASE "+made) })

		if ChecksPasswords(t, plain) {
			wantCode(t, execAll(WithUser(t, plain, name, "wrong")), "28P01")
		} else if !OwnServer(t) {
			t.Error("a server that pgtest started asks for no password")
		}
	})
	var left int
	if err := queryRow(db, "SELECT count(*) FROM pg_roles WHERE rolname = '"+name+"'", &left); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("role %q left after its test", name)
	}
}

// wantCode fails unless err carries the SQLSTATE.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != code {
		t.Errorf("error %v, want SQLSTATE %s", err, code)
	}
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(stopTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", stopTimeout, what)
		case <-tick.C:
		}
	}
}

// hasEnded reports whether no process has this id.
func hasEnded(pid int) bool {
	process, err := os.FindProcess(pid)
	return err != nil || errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
