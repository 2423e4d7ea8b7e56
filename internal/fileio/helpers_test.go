//go:build unix

package fileio_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// write writes a file and returns its path.
func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// irregular creates what is not a regular file in a folder: of each kind one, by the text that an error has for it.
// Only root may create devices.
func irregular(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{
		"a directory":  filepath.Join(folder, "directory"),
		"a named pipe": filepath.Join(folder, "pipe"),
		"a socket":     filepath.Join(folder, "socket"),
	}
	socket, err := net.Listen("unix", all["a socket"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := os.Mkdir(all["a directory"], 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(all["a named pipe"], 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		all["a device"] = filepath.Join(folder, "zero")
		if err := syscall.Mknod(all["a device"], syscall.S_IFCHR|0o600, 1<<8|5); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// within returns what f returns. It fails the test if f waits.
func within[T any](t *testing.T, f func() T) T {
	t.Helper()
	result := make(chan T, 1)
	go func() { result <- f() }()
	select {
	case r := <-result:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
	panic("unreachable")
}

// list returns the names in a folder.
func list(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
