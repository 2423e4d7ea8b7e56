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

// EnvPGlite names the environment variable with the folder that `make
// test-pgvector` made: pglite/server.mjs and the packages that it needs.
const EnvPGlite = "FLUJO_PORT_TEST_PGLITE"

// PGVector returns the URL of an empty database where the extension pgvector
// can be created and is not there yet, as a role that may create it. That is
// [Database] if its server has pgvector; else, with FLUJO_PORT_TEST_PGLITE set,
// a PGlite of the test's own. Without either the test is skipped.
//
// PGlite is less than a server, so a test holds one connection at a time there,
// and no lock from another one. [Role] works, except that no password is
// checked.
func PGVector(t testing.TB) string {
	t.Helper()
	var available bool
	err := queryRow(adminURL(t), `SELECT EXISTS (SELECT FROM pg_available_extension_versions
		WHERE name = 'vector' AND (trusted OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)))`,
		&available)
	if err != nil {
		t.Fatalf("pgtest: look for pgvector: %v", err)
	}
	if available {
		return Database(t)
	}
	dir := os.Getenv(EnvPGlite)
	if dir == "" {
		t.Skip("needs pgvector, which the server does not have; run: make test-pgvector")
	}
	server, err := startPGlite(dir)
	if err != nil {
		t.Fatalf("start PGlite: %v", err)
	}
	t.Cleanup(func() {
		if log := server.stop(); log != "" {
			t.Logf("PGlite said:\n%s", log)
		}
	})
	return server.url()
}

// pglite is a running pglite/server.mjs.
type pglite struct {
	process *process
	port    string
	log     bytes.Buffer // its stderr, to be read once it has ended
}

// startPGlite starts the server in dir and returns once it takes connections.
// It ends with this process, which holds the other end of its stdin, if it is
// not stopped before.
func startPGlite(dir string) (*pglite, error) {
	cmd := exec.Command("node", "server.mjs")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // apart from the terminal's signals
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
		text = fmt.Sprintf("nothing within %v", startTimeout)
	}
	var ok bool
	if s.port, ok = strings.CutPrefix(strings.TrimSpace(text), "ready "); !ok {
		return nil, fmt.Errorf("it said %q, not that it is ready\n%s", text, s.stop())
	}
	return s, nil
}

// stop ends the server and returns what it complained of.
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
