package pgtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestInMemory(t *testing.T) {
	t.Parallel()
	if inMemory("/proc", 0) || inMemory("/no/such/folder", 0) {
		t.Error("a folder in no memory is said to be in memory")
	}
	if availableMemory() < 64<<20 {
		t.Errorf("%d bytes of memory are available", availableMemory())
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	folder := t.TempDir()
	mount := func(options string) {
		t.Helper()
		out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder).CombinedOutput()
		if err != nil {
			t.Skipf("mount: %v: %s", err, strings.TrimSpace(string(out)))
		}
		t.Cleanup(func() {
			if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
				t.Errorf("umount: %v: %s", err, out)
			}
		})
	}
	mount("size=16m")
	for space, want := range map[uint64]bool{8 << 20: true, 32 << 20: false} {
		if got := inMemory(folder, space); got != want {
			t.Errorf("%d bytes in 16 MiB: got %t", space, got)
		}
	}
	mount("size=16m,ro")
	if inMemory(folder, 0) {
		t.Error("a file system that is mounted read-only is said to have space")
	}
}

// TestServerRoot tests that a server's folder is in the folder that EnvServers names, or else in memory or in TMPDIR.
func TestServerRoot(t *testing.T) {
	t.Parallel()
	root := os.Getenv(EnvServers)
	switch {
	case root != "":
	case memoryFolder() != "":
		root = sharedMemory
	default:
		t.Skip("there is no large file system in memory")
	}
	if s := Shared(t); !strings.HasPrefix(s.Dir(), root+"/pgtest-") {
		t.Errorf("the server is in %s, want %s", s.Dir(), root)
	}
}
