//go:build unix

package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestEnvFileOfOtherKinds checks that --env-file does not replace what is not its file, and does not wait for it: what
// is at the path, and PostgreSQL, are unchanged.
func TestEnvFileOfOtherKinds(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), changedFixture(t)
	folder := t.TempDir()
	own := write(t, filepath.Join(folder, "own.env"), "FLUJO_STATE_URI=sqlite:////old.db\n")
	socket, err := net.Listen("unix", filepath.Join(folder, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, err := range []error{
		syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600),
		os.Mkdir(filepath.Join(folder, "directory"), 0o700),
		os.Symlink("own.env", filepath.Join(folder, "link")),
		os.Symlink("nothing", filepath.Join(folder, "dangling")),
		os.Link(write(t, filepath.Join(folder, "linked.env"), ""), filepath.Join(folder, "linked-too.env")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(folder, "large"), "FLUJO_STATE_URI=x\n"+strings.Repeat("#\n", 1<<20))
	words := map[string]string{
		"pipe": "a named pipe", "socket": "a socket", "directory": "a directory", "link": "a symbolic link",
		"dangling": "a symbolic link", "linked.env": "2 hard links", "large": "more than 1048576 bytes",
	}
	if os.Geteuid() == 0 {
		other := write(t, filepath.Join(folder, "other.env"), "")
		null, zero := filepath.Join(folder, "null"), filepath.Join(folder, "zero")
		for _, err := range []error{
			os.Chown(other, 12345, -1),
			syscall.Mknod(null, syscall.S_IFCHR|0o666, 1<<8|3), syscall.Mknod(zero, syscall.S_IFCHR|0o666, 1<<8|5),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		words["other.env"], words["null"], words["zero"] = "another user", "a device", "a device"
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		words[file+suffix] = "SQLite's " + suffix + " file"
	}
	for name, want := range words {
		path := name
		if !filepath.IsAbs(name) {
			path = filepath.Join(folder, name)
		}
		before, _ := os.Lstat(path)
		_, stderr, code := newProgram(t).run(t, "migrate", "--postgres", url, "--sqlite", file, "--without-pgvector",
			"--env-file", path)
		after, _ := os.Lstat(path)
		if code != 2 || !strings.Contains(stderr, "flujo-port: --env-file: ") || !strings.Contains(stderr, want) ||
			(before == nil) != (after == nil) || before != nil && !os.SameFile(before, after) {
			t.Errorf("%s: exit %d, %v before and %v after: %s", name, code, before, after, stderr)
		}
	}
	if content, err := os.ReadFile(own); err != nil || string(content) != "FLUJO_STATE_URI=sqlite:////old.db\n" {
		t.Errorf("the file that a link leads to holds %q (%v)", content, err)
	}
	if got := ask(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
		t.Error("something was migrated")
	}
}

// TestEnvFileIsTheReport checks that --env-file refuses the file to which the report goes.
func TestEnvFileIsTheReport(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	path := filepath.Join(p.dir, "report.json")
	report, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	c := p.command("migrate", "--postgres", pgtest.Database(t), "--sqlite", absolute(t, fixture), "--without-pgvector",
		"--json", "--env-file", path)
	var stderr strings.Builder
	c.Stdout, c.Stderr = report, &stderr
	if err := c.Run(); c.ProcessState.ExitCode() != 2 || !strings.Contains(stderr.String(), "is redirected") {
		t.Errorf("%v: %s", err, stderr.String())
	}
}

// TestEnvFileChangesMeanwhile checks that a file that someone writes during the migration is not replaced, and that
// the warning says where the address is.
func TestEnvFileChangesMeanwhile(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"a file of someone":  func(path string) error { return os.WriteFile(path, []byte("A=1\nB=2\n"), 0o600) },
		"a named pipe":       func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a symbolic link":    func(path string) error { return os.Symlink("elsewhere", path) },
		"no folder any more": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+"-2") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, p := pgtest.Database(t), newProgram(t)
			holder := holdSteps(t, url)
			path := filepath.Join(t.TempDir(), "folder", "flujo.env")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			c := p.command("migrate", "--postgres", url, "--sqlite", absolute(t, fixture), "--without-pgvector",
				"--env-file", path)
			var stdout bytes.Buffer
			c.Stdout = &stdout
			stderr := start(t, c)
			untilLine(t, stderr, "creating tables")
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			if _, err := holder.Exec(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			untilLine(t, stderr, "warning: cannot write")
			if err := c.Wait(); err != nil {
				t.Errorf("after the commit: %v", err)
			}
			if next := unwrapped(stdout.String()); strings.Contains(next, "Start Flujo with the address in ") ||
				!strings.Contains(
					next,
					"Start Flujo with the address that \"flujo-port uri cutover --connect --reveal",
				) {
				t.Errorf("the report names a file that was not written:\n%s", &stdout)
			}
			if after, _ := os.Lstat(path); before != nil && (after == nil || !os.SameFile(before, after)) {
				t.Errorf("it was replaced")
			}
		})
	}
}
