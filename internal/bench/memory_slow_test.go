//go:build slow && unix

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

// TestMemory migrates, verifies and restores a large file, its size in MB in the
// environment, one with cells of 1 MB, and one with a cell of 200 MB. Files are
// made by a process of its own: a process that was large when it starts another
// counts as that one's peak.
func TestMemory(t *testing.T) {
	mb := os.Getenv("FLUJO_PORT_TEST_MEMORY_MB")
	if mb == "" {
		mb = "3000"
	}
	size, err := strconv.Atoi(mb)
	if err != nil {
		t.Fatalf("a size in MB: %v", err)
	}
	folder := t.TempDir()
	program := func(pkg string) string {
		path := filepath.Join(folder, filepath.Base(pkg))
		if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
		return path
	}
	generate, flujoPort := program("flujo-port/internal/bench/generate"), program("flujo-port/cmd/flujo-port")
	for _, tc := range []struct {
		name    string
		mb      int
		cell    int   // bytes
		long    int   // cells of that length in each run
		most    int64 // that migrate and verify may take
		restore int64
	}{
		{"many rows", size, 0, 0, 64 << 20, 64 << 20},
		{"cells of 1 MB", (size + 2) / 3, 1_000_000, 10, 64 << 20, 64 << 20},
		{"a cell of 200 MB", 1, 200_000_000, 1, 4 * 200_000_000, 5 * 200_000_000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			file, restored := filepath.Join(dir, "flujo_state.db"), filepath.Join(dir, "restored.db")
			if out, err := exec.Command(generate, "-mb", strconv.Itoa(tc.mb), "-cell", strconv.Itoa(tc.cell), "-long",
				strconv.Itoa(tc.long), file).CombinedOutput(); err != nil {
				t.Fatalf("generate: %v\n%s", err, out)
			}
			url := pgtest.Database(t)
			for _, args := range [][]string{
				{"migrate", "--without-pgvector", "--sqlite", file},
				{"verify", "--sqlite", file},
				{"restore", "--sqlite", restored},
			} {
				most := tc.most
				if args[0] == "restore" {
					most = tc.restore
				}
				cmd := exec.Command(flujoPort, append(args, "--postgres", url)...)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%s: %v\n%s", args[0], err, out)
				}
				peak := int64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
				if runtime.GOOS != "darwin" {
					peak *= 1024
				}
				t.Logf("%s: %d MiB at its peak", args[0], peak>>20)
				if peak > most {
					t.Errorf("%s took %d MiB, more than %d", args[0], peak>>20, most>>20)
				}
			}
		})
	}
}
