package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// superuser is the superuser of a server that pgtest starts.
const superuser = "postgres"

// host is the address that a server listens on.
const host = "127.0.0.1"

// startTimeout limits the wait for a new server's first connection.
const startTimeout = time.Minute

// Server is a PostgreSQL server in a folder of its own under the temporary
// folder. It listens on 127.0.0.1 and on a Unix socket and checks passwords
// (SCRAM) on both. It never syncs to disk.
type Server struct {
	bin      string
	version  int
	dir      string
	port     int
	password string
	settings []string
	tls      bool
	account  *account

	mu      sync.Mutex
	process *process // nil while the server is down
	guard   *guard
}

// Option is an option of Start.
type Option func(*Server)

// WithSettings adds server settings, each as "name=value" without quotes, such
// as "max_connections=5" or "log_statement=all".
func WithSettings(settings ...string) Option {
	return func(s *Server) { s.settings = append(s.settings, settings...) }
}

// Start creates and starts a server, and returns when it accepts connections.
// The caller must call Stop. If this process ends without that, even by
// SIGKILL, the server is stopped and its folder removed.
func Start(opts ...Option) (*Server, error) {
	s, err := newServer(opts...)
	if err != nil {
		return nil, err
	}
	if err := s.begin(s.create); err != nil {
		return nil, err
	}
	return s, nil
}

// StartFor is like Start, for a test: an error fails it, and the server stops when it
// ends.
func StartFor(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := Start(opts...)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	stopAfter(t, s)
	return s
}

// newServer returns a server that has no folder yet.
func newServer(opts ...Option) (*Server, error) {
	bin, version, err := searchBin(filepath.SplitList(os.Getenv("PATH")), binGlobs)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, version: version, password: rand.Text()}
	for _, opt := range opts {
		opt(s)
	}
	if s.account, err = serverAccount(); err != nil {
		return nil, err
	}
	return s, nil
}

// begin creates the server's folder, calls fill to create the data folder in
// it, and starts the server. After an error nothing is left.
func (s *Server) begin(fill func() error) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if s.dir, err = makeDir(s.account); err != nil {
		return err
	}
	if s.guard, err = startGuard(serverGuardScript, s.dir); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	return s.launch()
}

// Stop ends the server immediately, as a crash would, and removes its folder.
// It may be called more than once.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.process != nil {
		err = s.process.end(syscall.SIGQUIT)
		s.process = nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove server folder: %w", err)
	}
	s.guard.dismiss()
	s.guard = nil
	return err
}

// Halt stops the server by a signal (SIGINT for a fast shutdown, SIGQUIT for an immediate
// one), until Resume starts it again with the same data on the same port.
func (s *Server) Halt(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	err := s.process.end(signal)
	s.process = nil
	return err
}

// Resume starts a server that Halt stopped, or that ended by itself. If it runs, Resume
// does nothing.
func (s *Server) Resume() error {
	s.mu.Lock()
	running := s.process != nil && !s.process.ended()
	s.mu.Unlock()
	if running {
		return nil
	}
	return s.launchOnPort()
}

// Version returns the major version of the server, such as 15.
func (s *Server) Version() int { return s.version }

// Bin returns the folder with the server's programs, psql included.
func (s *Server) Bin() string { return s.bin }

// Dir returns the server's folder, in which its account may write. Files in it
// are removed with the server, however this process ends.
func (s *Server) Dir() string { return s.dir }

// Host returns the TCP address without the port.
func (s *Server) Host() string { return host }

// Addr returns the TCP address, host:port.
func (s *Server) Addr() string { return net.JoinHostPort(host, s.Port()) }

// Port returns the port as text.
func (s *Server) Port() string { return strconv.Itoa(s.port) }

// User returns the name of the superuser.
func (s *Server) User() string { return superuser }

// Password returns the password of the superuser.
func (s *Server) Password() string { return s.password }

// URL returns the URL of a database over TCP, as the superuser.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgresql",
		User:     url.UserPassword(superuser, s.password),
		Host:     s.Addr(),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketURL is like URL, over the Unix socket.
func (s *Server) SocketURL(database string) string {
	u := url.URL{
		Scheme:   "postgresql",
		User:     url.UserPassword(superuser, s.password),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {s.dir}, "port": {s.Port()}}.Encode(),
	}
	return u.String()
}

// CreateDatabase creates an empty UTF-8 database.
func (s *Server) CreateDatabase(name string) error {
	return execAll(s.URL("postgres"), createDatabase(name, "UTF8"))
}

// Log returns the server's log.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// create runs initdb and writes the settings.
func (s *Server) create() error {
	passwordFile := filepath.Join(s.dir, "password")
	secret := verifier(s.password)
	if s.version < 14 { // initdb reads only the first 99 bytes
		secret = s.password
	}
	if err := os.WriteFile(passwordFile, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	if err := s.account.own(passwordFile); err != nil {
		return err
	}
	cmd := s.command("initdb", "--pgdata", s.dataDir(), "--username", superuser,
		"--pwfile", passwordFile, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	settings := []string{
		"listen_addresses=" + host,
		"unix_socket_directories=" + s.dir,
		"fsync=off",
		"synchronous_commit=off",
		"full_page_writes=off",
		"timezone=UTC",
	}
	if s.tls {
		tls, err := s.certify()
		if err != nil {
			return err
		}
		settings = append(settings, tls...)
	}
	return s.configure(append(settings, s.settings...)...)
}

// configure adds settings, each "name=value", to postgresql.conf. They apply
// from the next launch.
func (s *Server) configure(settings ...string) error {
	var text strings.Builder
	for _, setting := range settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			return fmt.Errorf("server setting %q: want name=value", setting)
		}
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value))
	}
	file, err := os.OpenFile(filepath.Join(s.dataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open server settings: %w", err)
	}
	_, err = file.WriteString(text.String())
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write server settings: %w", err)
	}
	return nil
}

// command returns a command that runs one of the server's programs, or the program of a
// path, in the server's folder, as the server's account, and without the terminal's
// signals.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.bin, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + s.bin + ":" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	newGroup(cmd)
	runAs(cmd, s.account)
	return cmd
}

// launch starts the server on a free port and waits until it accepts
// connections. If another process takes the port first, it tries another one.
func (s *Server) launch() error {
	var err error
	for range 5 {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err := os.RemoveAll(s.logFile()); err != nil {
			return fmt.Errorf("remove server log: %w", err)
		}
		if err = s.launchOnPort(); err == nil || !errors.Is(err, errExited) ||
			!strings.Contains(s.Log(), "could not bind") {
			return err
		}
	}
	return err
}

var errExited = errors.New("the server ended during startup")

func (s *Server) launchOnPort() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("create server log: %w", err)
	}
	defer func() { _ = log.Close() }() // the server has its own handle
	cmd := s.command("postgres", "-D", s.dataDir(), "-p", s.Port())
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = startProcess(cmd); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := s.awaitReady(); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Log())
	}
	return nil
}

// awaitReady polls the Unix socket, on which no other server can answer.
func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.SocketURL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.done:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("wait for server: %w", err)
		case <-tick.C:
		}
	}
}

// freePort returns a free TCP port of the loopback interface. Another process
// may take it before the server does.
func freePort() (int, error) {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
