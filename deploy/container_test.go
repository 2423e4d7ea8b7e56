//go:build linux

package deploy_test

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// container is what a file of this folder says about how the program runs.
type container struct {
	args    []string
	env     map[string]string
	reports map[string]string // what the last run wrote to /reports, by name: mode, a line end, and content
}

// run runs the program as in a container: root holds the program, the folder /data with a state file, and the folders
// /tmp and /reports, and the user may write only to the latter two. If the tests do not run as root, they cannot change
// the root folder, so the paths of the container are replaced. run fails the test if a file was changed or left.
func (c *container) run(t *testing.T) (output string, code int) {
	t.Helper()
	root := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(root, "data"), 0o755), os.Mkdir(filepath.Join(root, "tmp"), 0o755),
		os.Mkdir(filepath.Join(root, "reports"), 0o755),
		os.Chmod(filepath.Join(root, "tmp"), 0o777), // whatever the umask is
		os.Chmod(filepath.Join(root, "reports"), 0o777),
		// A copy might be open for writing in a process that another test starts, and could not be run then.
		os.Link(program, filepath.Join(root, "flujo-port")),
		copyFile("../testdata/flujo_state.db", filepath.Join(root, "data", "flujo_state.db"), 0o444),
		os.Chmod(filepath.Join(root, "data"), 0o555), os.Chmod(root, 0o555),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, folder := range []string{root, filepath.Join(root, "data")} {
			if err := os.Chmod(folder, 0o755); err != nil {
				t.Error(err)
			}
		}
	})
	before := files(t, root)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	prefix := ""
	command := exec.CommandContext(ctx, "/flujo-port")
	if os.Geteuid() == 0 {
		command.Dir = "/data"
		command.SysProcAttr = &syscall.SysProcAttr{
			Chroot:     root,
			Credential: &syscall.Credential{Uid: 65532, Gid: 65532},
		}
	} else {
		prefix = root
		command.Path, command.Dir = filepath.Join(root, "flujo-port"), filepath.Join(root, "data")
	}
	inRoot := func(value string) string {
		if strings.HasPrefix(value, "/data") || strings.HasPrefix(value, "/tmp") ||
			strings.HasPrefix(value, "/reports") {
			return prefix + value
		}
		return value
	}
	for _, arg := range c.args {
		command.Args = append(command.Args, inRoot(arg))
	}
	command.Env = []string{"HOME=/"}
	for name, value := range c.env {
		command.Env = append(command.Env, name+"="+inRoot(value))
	}
	out, err := command.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() < 0) {
		t.Fatalf("%q: %v\n%s", c.args, err, out)
	}
	c.reports = takeFiles(t, filepath.Join(root, "reports"))
	if after := files(t, root); after != before {
		t.Errorf("%q: the files are\n%swere\n%s", c.args, after, before)
	}
	return string(out), command.ProcessState.ExitCode()
}

// takeFiles removes the files of a folder, and returns their modes and contents by name.
func takeFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	taken := map[string]string{}
	entries, err := os.ReadDir(folder)
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		info, infoErr := entry.Info()
		content, readErr := os.ReadFile(path)
		if err = errors.Join(err, infoErr, readErr, os.Remove(path)); err != nil {
			break
		}
		taken[entry.Name()] = info.Mode().String() + "\n" + string(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// files lists the files in a folder with their sizes and times.
func files(t *testing.T, folder string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && !info.IsDir() {
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func copyFile(from, to string, mode os.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, content, mode), os.Chmod(to, mode))
}

// TestStaticBinary tests that the program needs no file of an image: no dynamic linker and no shared library.
func TestStaticBinary(t *testing.T) {
	t.Parallel()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("the program has a segment %s", segment.Type)
		}
	}
}

// TestReadOnlyRoot tests that --json needs only TMPDIR, and that an error names TMPDIR if it is missing.
func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	c := &container{args: []string{"check", "--json"}, env: map[string]string{"TMPDIR": "/tmp"}}
	if out, code := c.run(t); code != 5 || !strings.Contains(out, `"ready": true`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	c.env["TMPDIR"] = "/data"
	if out, code := c.run(t); code != 2 || !strings.Contains(out, "set TMPDIR to a folder to which you can write") {
		t.Errorf("without a writable folder: exit %d\n%s", code, out)
	}
}
