package pgtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// EnvPGlite is the environment variable with the folder that `make
// test-pgvector` creates: pglite/server.mjs and its dependencies.
const EnvPGlite = "FLUJO_PORT_TEST_PGLITE"

// PGVector returns the URL of an empty database in which the extension pgvector
// can be created, as a role that may create it. It is a [Database] if its
// server has pgvector. Otherwise, if FLUJO_PORT_TEST_PGLITE is set, it is a
// PGlite of its own. If neither is available, the test is skipped.
//
// PGlite supports only one connection at a time, so a test there cannot wait
// for a lock of another session. [Role] works, but no password is checked.
func PGVector(t testing.TB) string {
	t.Helper()
	var available bool
	err := queryRow(adminURL(t), `SELECT EXISTS (SELECT FROM pg_available_extension_versions
		WHERE name = 'vector' AND (trusted OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)))`,
		&available)
	if err != nil {
		t.Fatalf("pgtest: look up pgvector: %v", err)
	}
	if available {
		return Database(t)
	}
	dir := os.Getenv(EnvPGlite)
	if dir == "" {
		t.Skip("needs pgvector, which the server does not have: run `make test-pgvector`")
	}
	server, err := startPGlite(dir)
	if err != nil {
		t.Fatalf("start PGlite: %v", err)
	}
	t.Cleanup(func() {
		if log := server.stop(); log != "" {
			t.Logf("stderr of PGlite:\n%s", log)
		}
	})
	return server.url()
}

// pglite is a running pglite/server.mjs.
type pglite struct {
	process *process
	port    string
	log     bytes.Buffer // its stderr; read it only after the process has ended
}

// startPGlite starts the server in dir and returns when it accepts connections.
// If it is not stopped, the server ends with this process, which holds the
// other end of its stdin.
func startPGlite(dir string) (*pglite, error) {
	cmd := exec.Command("node", "server.mjs")
	cmd.Dir = dir
	newGroup(cmd)
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	said, stdout := io.Pipe()
	defer said.Close()
	s := &pglite{}
	cmd.Stdout, cmd.Stderr = stdout, &s.log
	var err error
	if s.process, err = startProcess(cmd); err != nil {
		return nil, err
	}
	go func() {
		<-s.process.done
		_ = stdout.Close() // never fails
	}()
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(said).ReadString('\n') // short when it ended before
		line <- text
	}()
	var text string
	select {
	case text = <-line:
	case <-time.After(startTimeout):
		text = fmt.Sprintf("no output within %v", startTimeout)
	}
	var ok bool
	if s.port, ok = strings.CutPrefix(strings.TrimSpace(text), "ready "); !ok {
		return nil, fmt.Errorf("got %q, want \"ready PORT\"\n%s", text, s.stop())
	}
	return s, nil
}

// stop ends the server and returns its stderr.
func (s *pglite) stop() string {
	err := s.process.end(syscall.SIGTERM)
	if err != nil {
		return fmt.Sprintf("%v\n%s", err, &s.log)
	}
	return s.log.String()
}

func (s *pglite) url() string {
	u := url.URL{
		Scheme:   "postgresql",
		User:     url.UserPassword(superuser, "unchecked"),
		Host:     net.JoinHostPort(host, s.port),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
