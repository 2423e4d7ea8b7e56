//go:build unix

package source

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/clierr"
)

// notFiles create something else than a regular file at a path, by the words that an error has for it.
var notFiles = map[string]func(t *testing.T, path string) error{
	"a named pipe": func(_ *testing.T, path string) error { return syscall.Mkfifo(path, 0o600) },
	"a directory":  func(_ *testing.T, path string) error { return os.Mkdir(path, 0o700) },
	"a socket": func(t *testing.T, path string) error {
		// Unlike a listener's, the path of a node may be longer than 107 bytes.
		if syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0) == nil {
			return nil
		}
		socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			t.Cleanup(func() { socket.Close() })
		}
		return err
	},
	"a device": func(t *testing.T, path string) error {
		if os.Geteuid() != 0 { // only root may create one
			return syscall.Mkfifo(path, 0o600)
		}
		return syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|5) // zero
	},
}

// openWithin opens a state file, which must not wait.
func openWithin(t *testing.T, path string) error {
	t.Helper()
	opened := make(chan error, 1)
	go func() {
		s, err := Open(t.Context(), path)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("Open waits")
		return nil
	}
}

// TestOpenCompanions tests that something else than a file in place of SQLite's files next to the state file is
// refused, whether it is there itself or a symbolic link leads to it, and that Open does not wait for it.
func TestOpenCompanions(t *testing.T) {
	t.Parallel()
	for words, create := range notFiles {
		if words == "a device" && os.Geteuid() != 0 {
			words = "a named pipe"
		}
		for _, suffix := range []string{"-wal", "-shm", "-journal"} {
			for _, mode := range []string{walMode, "PRAGMA journal_mode = DELETE"} {
				for _, linked := range []bool{false, true} {
					path := build(t, mode, rowsTable, addRows(10))
					at := path + suffix
					if linked {
						at = filepath.Join(t.TempDir(), "elsewhere")
						if err := os.Symlink(at, path+suffix); err != nil {
							t.Fatal(err)
						}
					}
					if err := create(t, at); err != nil {
						t.Fatal(err)
					}
					isError(t, openWithin(t, path), clierr.Usage, fmt.Sprintf("open %q: ", path),
						fmt.Sprintf("its %s is %s, not a regular file", suffix, words), "remove it")
				}
			}
		}
	}
}

// TestOpenCompanionsOfLiveWriter tests the same while another process has the file open.
func TestOpenCompanionsOfLiveWriter(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(10))
	startWriter(t, path, "PRAGMA wal_autocheckpoint = 0", addRows(20))
	if err := syscall.Mkfifo(path+"-journal", 0o600); err != nil {
		t.Fatal(err)
	}
	isError(t, openWithin(t, path), clierr.Usage, "its -journal is a named pipe")
}

// TestOpenNotFiles tests that something else than a file in place of the state file is refused, and not waited for.
func TestOpenNotFiles(t *testing.T) {
	t.Parallel()
	for words, create := range notFiles {
		path := filepath.Join(t.TempDir(), "state.db")
		if err := create(t, path); err != nil {
			t.Fatal(err)
		}
		want := "it is not a regular file"
		if words == "a directory" {
			want = "it is a directory"
		}
		isError(t, openWithin(t, path), clierr.Usage, fmt.Sprintf("open %q: ", path), want)
	}
}
