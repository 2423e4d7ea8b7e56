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

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// TestMemory migrates, verifies and restores a large file, its size in MB in the
// environment, one with cells of 1 MB, and one with a cell of 200 MB, also with a base
// in which that cell differs. Files are made by a process of its own: a process that was large when it starts another
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
		name   string
		mb     int
		cell   int    // bytes
		long   int    // cells of that length in each run
		most   int64  // bytes of memory that a command may take
		change string // a statement before restore --base; "" for no such restore
	}{
		{"many rows", size, 0, 0, 64 << 20, ""},
		{"cells of 1 MB", (size + 2) / 3, 1_000_000, 10, 64 << 20, ""},
		{"a cell of 200 MB", 1, 200_000_000, 1, 4 * 200_000_000,
			"UPDATE flujo.workflow_state SET last_step_output = jsonb_set(last_step_output, '{changed}', '1')"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			file, restored := filepath.Join(dir, "flujo_state.db"), filepath.Join(dir, "restored.db")
			if out, err := exec.Command(generate, "-mb", strconv.Itoa(tc.mb), "-cell", strconv.Itoa(tc.cell), "-long",
				strconv.Itoa(tc.long), file).CombinedOutput(); err != nil {
				t.Fatalf("generate: %v\n%s", err, out)
			}
			url := pgtest.Database(t)
			commands := [][]string{
				{"migrate", "--without-pgvector", "--sqlite", file},
				{"verify", "--sqlite", file},
				{"restore", "--sqlite", restored},
			}
			if tc.change != "" {
				commands = append(commands, []string{"restore", "--sqlite", restored + "2", "--base", file})
			}
			for _, args := range commands {
				if len(args) > 4 && args[3] == "--base" {
					flujotest.ExecAt(t, url, tc.change)
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
				t.Logf("%s: %d MiB at its peak", args, peak>>20)
				if peak > tc.most {
					t.Errorf("%s took %d MiB, more than %d", args, peak>>20, tc.most>>20)
				}
			}
		})
	}
}
