package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envLeftBehind makes the test binary start a server and wait to be killed, or for
// the end of its stdin, should the test be killed itself.
const envLeftBehind = "PGTEST_START_AND_HANG"

func startAndHang() {
	s, err := Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.dir, s.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

func TestStartAndStop(t *testing.T) {
	s, err := Start(WithSettings("max_connections=7", `cluster_name=it's a \ test`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })

	for name, url := range map[string]string{"TCP": s.URL("postgres"), "socket": s.SocketURL("postgres")} {
		var version int
		var settings [4]string
		err := queryRow(url, `SELECT current_setting('server_version_num')::int, current_setting('max_connections'),
			current_setting('cluster_name'), current_setting('fsync'), current_setting('server_encoding')`,
			&version, &settings[0], &settings[1], &settings[2], &settings[3])
		if err != nil {
			t.Fatalf("over %s: %v", name, err)
		}
		if version/10000 != s.Version() {
			t.Errorf("version %d, Version says %d", version, s.Version())
		}
		if want := [4]string{"7", `it's a \ test`, "off", "UTF8"}; settings != want {
			t.Errorf("settings %q, want %q", settings, want)
		}
		wantCode(t, execAll(strings.Replace(url, s.password, "wrong", 1)), "28P01")
	}

	if root := s.RootCert(); root != "" {
		t.Errorf("root certificate %q without TLS", root)
	}

	pid := s.process.cmd.Process.Pid
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if !hasEnded(pid) {
		t.Errorf("process %d is still there after Stop", pid)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder %s after Stop: %v", s.dir, err)
	}
}

func TestBadSettingShowsTheServersWords(t *testing.T) {
	s, err := Start(WithSettings("shared_buffers=plenty"))
	if err == nil {
		_ = s.Stop()
		t.Fatal("the server started")
	}
	if !errors.Is(err, errExited) || !strings.Contains(err.Error(), "shared_buffers") {
		t.Errorf("error %v", err)
	}
}

func TestKilledParentLeavesNothing(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), envLeftBehind+"=1")
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parent.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	killErr := parent.Process.Kill()
	_ = parent.Wait()
	if err := errors.Join(readErr, killErr); err != nil {
		t.Fatal(err)
	}
	dir, addr, _ := strings.Cut(strings.TrimSpace(line), " ")

	deadline := time.After(stopTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, statErr := os.Stat(dir)
		conn, dialErr := net.Dial("tcp", addr)
		if dialErr == nil {
			_ = conn.Close()
		}
		if errors.Is(statErr, fs.ErrNotExist) && dialErr != nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("still there: folder %v, server %v", statErr == nil, dialErr == nil)
		case <-tick.C:
		}
	}
}

// TestHaltAndResume stops a server in both ways and starts it again.
func TestHaltAndResume(t *testing.T) {
	s := StartFor(t)
	if err := execAll(s.URL("postgres"), "CREATE TABLE t (n int)", "SET synchronous_commit = local",
		"INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	url := s.URL("postgres")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := s.Halt(signal); err != nil {
			t.Fatal(err)
		}
		if err := execAll(url, "SELECT"); err == nil {
			t.Errorf("%v: the server still answers", signal)
		}
		if err := errors.Join(s.Halt(signal), s.Resume(), s.Resume()); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := queryRow(url, "SELECT n FROM t", &n); err != nil || n != 1 {
			t.Errorf("%v: %d, %v", signal, n, err)
		}
	}
	if got := strings.Count(s.Log(), "database system is ready"); got != 3 {
		t.Errorf("the log has %d starts", got)
	}
}
