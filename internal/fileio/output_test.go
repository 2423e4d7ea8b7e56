//go:build unix

package fileio_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/fileio"
)

// refused tests that an output is refused with these words before and after its content was written, that nothing is
// left, and that what is at its path is unchanged.
func refused(t *testing.T, o fileio.Output, words string) {
	t.Helper()
	folder := filepath.Dir(o.Path)
	before, names := stat(o.Path), list(t, folder)
	err := within(t, o.Check)
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("Check of %q: got error %v, want %q", o.Path, err, words)
	}
	err = within(t, func() error { return replace(o, "new") })
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("Commit of %q: got error %v, want %q", o.Path, err, words)
	}
	if after := stat(o.Path); (before == nil) != (after == nil) || before != nil && !os.SameFile(before, after) {
		t.Errorf("%q was replaced", o.Path)
	}
	if left := list(t, folder); !slices.Equal(left, names) {
		t.Errorf("%q: the folder has %q, want %q", o.Path, left, names)
	}
}

func stat(path string) os.FileInfo {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return info
}

// replace writes an output, as a program does that checked it long before.
func replace(o fileio.Output, content string) error {
	f, err := o.Create()
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.WriteString(content); err != nil {
		return err
	}
	return f.Commit()
}

// TestOutput tests that an output is created and replaced as a whole, with mode 0600.
func TestOutput(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "output")
	for _, content := range []string{"first", "", "third"} {
		o := fileio.Output{Path: path, InUse: []string{filepath.Join(folder, "state.db")}}
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		if err := replace(o, content); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("got %q and error %v, want %q", got, err, content)
		}
		if info := stat(path); info.Mode() != 0o600 {
			t.Errorf("got mode %v, want 0600", info.Mode())
		}
		if err := os.Chmod(path, 0o644); err != nil { // the next one has 0600 again
			t.Fatal(err)
		}
	}
	if got := list(t, folder); !slices.Equal(got, []string{"output"}) {
		t.Errorf("the folder has %q", got)
	}
}

// TestOutputIrregular tests that nothing but a file is replaced.
func TestOutputIrregular(t *testing.T) {
	t.Parallel()
	for kind, path := range irregular(t, t.TempDir()) {
		refused(t, fileio.Output{Path: path}, kind)
	}
	folder := t.TempDir()
	write(t, filepath.Join(folder, "file"), "content")
	for name, to := range map[string]string{
		"to-file": "file", "to-nothing": "nothing", "to-folder": ".", "to-itself": "to-itself",
	} {
		link := filepath.Join(folder, name)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		refused(t, fileio.Output{Path: link}, "a symbolic link")
	}
}

// TestOutputNames tests names that are not that of a file, or too long for one.
func TestOutputNames(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, words := range map[string]string{
		"new/": "does not name a file", ".": "a directory", "..": "a directory",
		"none/new": "no such file", strings.Repeat("x", 300): "name too long", "file/new": "not a directory",
	} {
		write(t, filepath.Join(folder, "file"), "content")
		o := fileio.Output{Path: folder + "/" + name}
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got error %v, want %q", name, err, words)
		}
	}
	if err := (fileio.Output{}).Check(); err == nil || !strings.Contains(err.Error(), "does not name a file") {
		t.Errorf("no name: got error %v", err)
	}
}

// TestOutputOfOthers tests that a file with another name is not replaced, and neither is one of another user.
func TestOutputOfOthers(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "file"), "content")
	if err := os.Link(path, path+"-2"); err != nil {
		t.Fatal(err)
	}
	refused(t, fileio.Output{Path: path}, "2 hard links")
	if os.Geteuid() != 0 { // such a file is root's
		if err := (fileio.Output{Path: "/etc/passwd"}).Check(); err == nil ||
			!strings.Contains(err.Error(), "another user (uid 0)") {
			t.Errorf("got error %v for /etc/passwd", err)
		}
		return
	}
	path = write(t, filepath.Join(t.TempDir(), "file"), "content")
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	refused(t, fileio.Output{Path: path}, "another user (uid 12345)")
}

// TestOutputInUse tests that a file that the command uses is not replaced, nor what SQLite has next to it, under any
// name.
func TestOutputInUse(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	state, other := write(t, filepath.Join(folder, "state.db"), "x"), write(t, filepath.Join(folder, "other.db"), "x")
	link, fold := filepath.Join(folder, "link.db"), filepath.Join(t.TempDir(), "folder")
	for from, to := range map[string]string{link: "state.db", fold: folder} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	absent := filepath.Join(folder, "absent.db")
	inUse := []string{state, link, absent}
	for _, path := range []string{
		state, absent, folder + "/STATE.DB", folder + "//./state.db", fold + "/state.db", fold + "/absent.db",
	} {
		refused(t, fileio.Output{Path: path, InUse: inUse}, "is a file that this command uses")
	}
	refused(t, fileio.Output{Path: state, InUse: []string{link}}, "by another name")
	for _, database := range []string{state, link, other, absent, fold + "/absent.db", folder + "/State.db"} {
		for _, suffix := range []string{"-wal", "-shm", "-journal", "-WAL"} {
			refused(t, fileio.Output{Path: database + suffix, InUse: inUse}, "has the name of SQLite's")
		}
	}
	for _, name := range []string{"my-journal", "-wal", "state.db-other", "state.db-wal.txt", "state.db.env"} {
		if err := (fileio.Output{Path: filepath.Join(folder, name), InUse: inUse}).Check(); err != nil {
			t.Errorf("%q: got error %v, want none", name, err)
		}
	}
}

// TestOutputDiscarded tests that nothing is left of an output that is not written to its end.
func TestOutputDiscarded(t *testing.T) {
	t.Parallel()
	o := fileio.Output{Path: filepath.Join(t.TempDir(), "output")}
	f, err := o.Create()
	if err != nil {
		t.Fatal(err)
	}
	f.Discard()
	if got := list(t, filepath.Dir(o.Path)); len(got) > 0 {
		t.Errorf("the folder has %q, want nothing", got)
	}
}
