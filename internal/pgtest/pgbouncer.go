package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// EnvPgBouncer is the environment variable with the path of the program pgbouncer,
// which `make test-clients` sets.
const EnvPgBouncer = "FLUJO_PORT_TEST_PGBOUNCER"

// PgBouncer starts a PgBouncer in front of the server of databaseURL, which must be the
// URL of a superuser, and returns its address, host:port (see [WithServer]). It leads to
// every database and role of the server, and checks passwords. poolMode is "session",
// "transaction" or "statement". settings are further ones of pgbouncer.ini, each as
// "name=value". It ends with the test.
//
// If FLUJO_PORT_TEST_PGBOUNCER is not set, the test is skipped.
func PgBouncer(t testing.TB, databaseURL, poolMode string, settings ...string) (address string) {
	t.Helper()
	program := os.Getenv(EnvPgBouncer)
	if program == "" {
		t.Skip("needs PgBouncer: run `make test-clients`")
	}
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	account, err := serverAccount() // PgBouncer does not run as root either
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	dir := t.TempDir()
	users := fmt.Sprintf("%q %q\n", config.User, config.Password)
	lines := append([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%d auth_user=%s", config.Host, config.Port, config.User),
		"[pgbouncer]",
		"listen_addr=" + host,
		"listen_port=" + strconv.Itoa(port),
		"unix_socket_dir=",
		"auth_type=scram-sha-256",
		"auth_file=" + filepath.Join(dir, "users"),
		"pool_mode=" + poolMode,
	}, settings...)
	ini := filepath.Join(dir, "pgbouncer.ini")
	for path, text := range map[string]string{
		filepath.Join(dir, "users"): users,
		ini:                         strings.Join(lines, "\n") + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
		if err := account.own(path); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	for _, folder := range []string{dir, filepath.Dir(dir)} { // the account must reach the files
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	startPgBouncer(t, program, ini, account)
	address = net.JoinHostPort(host, strconv.Itoa(port))
	awaitPgBouncer(t, WithServer(t, databaseURL, address))
	return address
}

// startPgBouncer starts the program, which ends with the test or with this process.
func startPgBouncer(t testing.TB, program, ini string, account *account) {
	t.Helper()
	log, err := os.Create(filepath.Join(filepath.Dir(ini), "log"))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	cmd := exec.Command(program, ini)
	newGroup(cmd)
	runAs(cmd, account)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	process, err := startProcess(cmd)
	if err != nil {
		t.Fatalf("pgtest: start PgBouncer: %v", err)
	}
	guard, err := startGuard(processGuardScript, strconv.Itoa(cmd.Process.Pid))
	if err != nil {
		t.Errorf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		guard.dismiss()
		if err := process.end(syscall.SIGTERM); err != nil {
			t.Errorf("pgtest: %v", err)
		}
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("PgBouncer's log:\n%s", text)
		}
	})
}

// processGuardScript is the script of the guard of a process.
const processGuardScript = `
read -r line && exit 0
kill "$1"
`

// awaitPgBouncer returns when PgBouncer answers.
func awaitPgBouncer(t testing.TB, databaseURL string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for tick := time.Tick(5 * time.Millisecond); ; {
		conn, err := pgx.Connect(ctx, WithParameter(t, databaseURL, "default_query_exec_mode", "exec"))
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("pgtest: connect to PgBouncer: %v", err)
		case <-tick:
		}
	}
}
