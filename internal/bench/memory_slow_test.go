//go:build slow

package bench_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"flujo-port/internal/pgtest"
)

// most is the memory that flujo-port may take for a file of any size.
const most = 64 << 20

// TestMemory migrates a large file, its size in MB in the environment. The
// file is made by a process of its own: a process that was large when it
// starts another counts as that one's peak.
func TestMemory(t *testing.T) {
	mb := os.Getenv("FLUJO_PORT_TEST_MEMORY_MB")
	if mb == "" {
		mb = "3000"
	}
	if _, err := strconv.Atoi(mb); err != nil {
		t.Fatalf("a size in MB: %v", err)
	}
	dir := t.TempDir()
	program := func(pkg string) string {
		path := filepath.Join(dir, filepath.Base(pkg))
		if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
		return path
	}
	file := filepath.Join(dir, "flujo_state.db")
	if out, err := exec.Command(program("flujo-port/internal/bench/generate"), "-mb", mb, file).CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, out)
	}
	flujoPort, url := program("flujo-port/cmd/flujo-port"), pgtest.Database(t)
	restored := filepath.Join(dir, "restored.db")
	for _, args := range [][]string{
		{"migrate", "--without-pgvector", "--sqlite", file},
		{"verify", "--sqlite", file},
		{"restore", "--sqlite", restored},
	} {
		cmd := exec.Command(flujoPort, append(args, "--postgres", url)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
		peak := int64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
		if runtime.GOOS != "darwin" {
			peak *= 1024
		}
		t.Logf("%s of %s MB: %d MiB at its peak", args[0], mb, peak>>20)
		if peak > most {
			t.Errorf("%s took %d MiB, more than %d", args[0], peak>>20, most>>20)
		}
	}
}
