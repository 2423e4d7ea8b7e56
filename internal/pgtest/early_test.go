package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// envHang makes TestHelperHangs more than nothing.
const envHang = "FLUJO_PORT_TEST_HANG"

// TestHelperHangs is not a test of its own: it is what is ended early, with a
// temporary folder that resists and a database. It ends with its stdin at the
// latest.
func TestHelperHangs(t *testing.T) {
	if os.Getenv(envHang) == "" {
		return
	}
	dir := t.TempDir()
	shut := filepath.Join(dir, "shut")
	err := errors.Join(
		os.Mkdir(shut, 0o755),
		os.WriteFile(filepath.Join(shut, "file"), nil, 0o444),
		os.Chmod(shut, 0o555))
	if err != nil {
		t.Fatal(err)
	}
	var database, role string
	if err := queryRow(Role(t, Database(t), ""), "SELECT current_database(), current_user", &database,
		&role); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready", os.Getpid(), os.TempDir(), database, role)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestEndedEarlyLeavesNothing(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	// A copy where go test might have built it, since that folder goes, too.
	work := filepath.Join(t.TempDir(), "go-build1")
	program := copyProgram(t, filepath.Join(work, "b001", "pgtest.test"))
	helper := []string{program, "-test.run=^TestHelperHangs$", "-test.paniconexit0"}
	beneath := []string{"/bin/sh", "-c", `"$@"; exit`, "sh"} // stands for go test
	for _, c := range []struct {
		name    string
		command []string
		signal  syscall.Signal
		undone  bool
	}{
		{"interrupted", helper, syscall.SIGINT, true},
		{"terminated", helper, syscall.SIGTERM, true},
		{"killed", helper, syscall.SIGKILL, false},
		{"go test is killed", append(beneath, helper...), syscall.SIGKILL, true}, // the last, since the program goes
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			cmd := exec.Command(c.command[0], c.command[1:]...)
			cmd.Env = append(os.Environ(), envHang+"=1", EnvServer+"="+s.URL("postgres"), "TMPDIR="+root, "GOTMPDIR=",
				"GORACE=atexit_sleep_ms=0")
			cmd.Stderr = os.Stderr
			// Not StdinPipe: Wait would close it, and the helper could end by that.
			stdin, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdin = stdin
			t.Cleanup(func() { _ = in.Close() })
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(cmd.Start(), stdin.Close()); err != nil {
				t.Fatal(err)
			}
			var pid int
			var dir, database, role string
			line, readErr := bufio.NewReader(out).ReadString('\n')
			if _, err := fmt.Sscanf(line, "ready %d %s %s %s", &pid, &dir, &database, &role); err != nil {
				t.Errorf("it said %q, %v", line, readErr)
			}
			if filepath.Dir(dir) != root || !strings.HasPrefix(filepath.Base(dir), "flujo-port-test-") {
				t.Errorf("its temporary folder is %s, in %s", dir, root)
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait() // how it ended is not the question

			await(t, "the process ends", func() bool { return hasEnded(pid) })
			await(t, "its temporary folder goes", func() bool {
				_, err := os.Stat(dir)
				return errors.Is(err, fs.ErrNotExist)
			})
			if !c.undone {
				return
			}
			var left int
			err = queryRow(
				s.URL("postgres"),
				fmt.Sprintf(`SELECT (SELECT count(*) FROM pg_database WHERE datname = '%s')
				+ (SELECT count(*) FROM pg_roles WHERE rolname = '%s')`, database, role),
				&left,
			)
			if err != nil || left != 0 {
				t.Errorf("%d databases and roles left on the server, %v", left, err)
			}
		})
	}
	if _, err := os.Stat(work); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder that go test would have removed is still there: %v", err)
	}
}

// copyProgram copies this program.
func copyProgram(t *testing.T, path string) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTempDirReportsWhatIsLeft(t *testing.T) {
	// It must not become the folder of this process.
	t.Setenv("TMPDIR", os.TempDir())
	t.Setenv("GOTMPDIR", os.TempDir())
	for _, c := range []struct {
		made []string
		want string
	}{
		{nil, ""},
		{[]string{setupFolder}, ""},
		{[]string{setupFolder, "leak"}, "the tests left behind: "},
	} {
		d, err := takeTempDir()
		if err != nil {
			t.Fatal(err)
		}
		if os.TempDir() != d.path {
			t.Errorf("the temporary folder is %s, want %s", os.TempDir(), d.path)
		}
		for _, name := range c.made {
			if err := os.Mkdir(filepath.Join(d.path, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		err = d.remove()
		if c.want == "" && err != nil ||
			c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want+d.path+"/leak")) {
			t.Errorf("made %v: error %v, want %q", c.made, err, c.want)
		}
		if _, err := os.Stat(d.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder is still there: %v", err)
		}
		os.Setenv("TMPDIR", filepath.Dir(d.path))
		os.Setenv("GOTMPDIR", filepath.Dir(d.path))
	}
}
