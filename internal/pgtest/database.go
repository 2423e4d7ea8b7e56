package pgtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// EnvServer is the environment variable with the address of a server that tests
// use instead of starting one: a URL or a keyword/value string, as for libpq.
// PG* variables and libpq's files complete it.
const EnvServer = "FLUJO_PORT_TEST_POSTGRES"

// EnvServers is the environment variable that names the folder for the folders of the servers that tests start. If it
// is not set, they are in a file system in memory, if there is a large one, since half of the tests' time in the kernel
// is spent on files of databases that live for a second. Otherwise they are in the folder for temporary files.
const EnvServers = "FLUJO_PORT_TEST_SERVERS"

// queryTimeout limits each statement that pgtest itself sends.
const queryTimeout = time.Minute

var sharedServer struct {
	once   sync.Once
	server *Server
	err    error
}

// Main runs the tests of a package and returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// It first clears the environment (see [ForgetEnvironment]), except for what
// [EnvServer] needs, so that a test reaches only databases of pgtest. It
// creates a temporary folder for the process, and passes each setup function a
// folder in it for files that all tests share. After the tests it stops the
// shared server, if one was started, and removes the folder. Main fails if
// tests left files there.
//
// The server and the folder are also removed if the process or go test is
// interrupted or killed. Only databases on the user's server remain if the
// process itself is killed.
func Main(m *testing.M, setup ...func(dir string) error) int {
	code, err := run(m, setup)
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

func run(m *testing.M, setup []func(dir string) error) (code int, err error) {
	if wantsOwnServer() {
		address, err := completeURL(os.Getenv(EnvServer))
		if err != nil {
			return 2, fmt.Errorf("%s: %w", EnvServer, err)
		}
		if err := os.Setenv(EnvServer, address); err != nil {
			return 2, err
		}
	}
	ForgetEnvironment()
	serverRoot = cmp.Or(os.Getenv(EnvServers), memoryFolder(), serverRoot)
	temp, err := takeTempDir()
	if err != nil {
		return 2, err
	}
	defer func() { err = errors.Join(err, temp.remove()) }()
	flag.Parse() // endEarly reads a flag
	go endEarly()
	for _, f := range setup {
		dir := filepath.Join(temp.path, setupFolder)
		if err := errors.Join(os.MkdirAll(dir, 0o755), f(dir)); err != nil {
			return 2, err
		}
	}
	code = m.Run()
	if sharedServer.server != nil {
		err = sharedServer.server.Stop()
	}
	return code, err
}

// ForgetEnvironment unsets the variables that would lead a PostgreSQL client or
// flujo-port to a database of the user: all PG* variables, DATABASE_URL,
// FLUJO_PORT_POSTGRES, FLUJO_PORT_SQLITE and FLUJO_STATE_URI.
func ForgetEnvironment() {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasPrefix(name, "PG"),
			name == "DATABASE_URL",
			name == "FLUJO_PORT_POSTGRES",
			name == "FLUJO_PORT_SQLITE",
			name == "FLUJO_STATE_URI":
			_ = os.Unsetenv(name) // fails only for a malformed name
		}
	}
}

// Shared returns the server that all tests of the process share, and starts it
// if necessary. It skips the test if EnvServer is set.
func Shared(t testing.TB) *Server {
	t.Helper()
	if wantsOwnServer() {
		t.Skipf("needs a server that pgtest started, but %s is set", EnvServer)
	}
	sharedServer.once.Do(func() { sharedServer.server, sharedServer.err = Start() })
	if sharedServer.err != nil {
		t.Fatalf("start PostgreSQL: %v", sharedServer.err)
	}
	return sharedServer.server
}

// OwnServer reports whether EnvServer is set. Tests must not stop or
// reconfigure that server.
func OwnServer(t testing.TB) bool {
	t.Helper()
	return wantsOwnServer()
}

func wantsOwnServer() bool { return os.Getenv(EnvServer) != "" }

// adminURL returns the URL that pgtest uses to create databases.
func adminURL(t testing.TB) string {
	t.Helper()
	if wantsOwnServer() {
		return os.Getenv(EnvServer)
	}
	return Shared(t).URL("postgres")
}

// Database returns the URL of a new, empty UTF-8 database, as its owner. The
// database is dropped when the test ends, even if it has sessions.
func Database(t testing.TB) string {
	t.Helper()
	return EncodedDatabase(t, "UTF8")
}

// EncodedDatabase is like Database, with another encoding, such as "SQL_ASCII"
// or "LATIN1".
func EncodedDatabase(t testing.TB, encoding string) string {
	t.Helper()
	admin := adminURL(t)
	name := randomName()
	quoted := pgx.Identifier{name}.Sanitize()
	makeFor(t, admin, createDatabase(name, encoding), func() error {
		return execAll(admin, "DROP DATABASE IF EXISTS "+quoted+" WITH (FORCE)")
	})
	return WithDatabase(t, admin, name)
}

func createDatabase(name, encoding string) string {
	return fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C'",
		pgx.Identifier{name}.Sanitize(), encoding)
}

// randomName returns a unique name for a database or role.
func randomName() string {
	return "flujo_port_test_" + strings.ToLower(rand.Text()[:16])
}

func mustExec(t testing.TB, url string, statements ...string) {
	t.Helper()
	if err := execAll(url, statements...); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// execAll runs statements one after the other on a new connection.
func execAll(url string, statements ...string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// queryRow reads one row on a new connection.
func queryRow(url, query string, into ...any) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	return conn.QueryRow(ctx, query).Scan(into...)
}

// Count returns the number of cases that a random test tries: quick, or slow
// with the build tag "slow" (see [Slow]).
func Count(quick, slow int) int {
	if Slow {
		return slow
	}
	return quick
}
