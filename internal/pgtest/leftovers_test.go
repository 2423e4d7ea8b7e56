package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository returns a new git work tree with a committed file, tracked, and a
// .gitignore that hides the folder hidden.
func repository(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"tracked": "as it was\n", ".gitignore": "/hidden/\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "--quiet"}, {"add", "."},
		{"-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}

// checkLeftovers returns the command that runs a shell command in dir under
// scripts/check-leftovers.sh.
func checkLeftovers(t *testing.T, dir, command, seconds string) *exec.Cmd {
	t.Helper()
	script, err := filepath.Abs(filepath.Join("..", "..", "scripts", "check-leftovers.sh"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", script, "/bin/sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "FLUJO_PORT_LEFTOVERS_WAIT="+seconds)
	return cmd
}

func TestCheckLeftovers(t *testing.T) {
	const quiet = ">/dev/null 2>&1 </dev/null"
	for name, c := range map[string]struct {
		command string
		code    int
		left    []string // what is listed, beginnings of lines
	}{
		"nothing":            {"echo x >$TMPDIR/x && rm $TMPDIR/x", 0, nil},
		"nothing, and fails": {"exit 7", 7, nil},
		"file":               {"echo x >$TMPDIR/x; exit 0", 1, []string{"/"}},
		"file, and fails":    {"echo x >$TMPDIR/x; exit 7", 7, []string{"/"}},
		"process":            {"sleep 3 " + quiet + " &", 1, []string{"process "}},
		"process that hides": {"cd $TMPDIR && env -i sleep 3 " + quiet + " &", 1, []string{"process "}},
		"tracked file":       {"echo changed >tracked", 1, []string{"changed: tracked"}},
		"deleted file":       {"rm tracked", 1, []string{"changed: tracked"}},
		"new file":           {"echo x >new", 1, []string{"changed: new"}},
		"ignored file":       {"mkdir hidden; echo x >hidden/x", 1, []string{"changed: hidden/"}},
		"file, process, tree": {"echo x >$TMPDIR/x; echo x >new; sleep 3 " + quiet + " &", 1,
			[]string{"process ", "/", "changed: new"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := checkLeftovers(t, repository(t), c.command, "0")
			var text strings.Builder
			cmd.Stderr = &text
			_ = cmd.Run() // the exit code says it
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")[1:]
			if len(lines) != len(c.left) {
				t.Fatalf("%d lines, want %d:\n%s", len(lines), len(c.left), text.String())
			}
			for i, want := range c.left {
				if !strings.HasPrefix(strings.TrimSpace(lines[i]), want) {
					t.Errorf("line %q, want %q", lines[i], want)
				}
			}
		})
	}
}

// What was so before is not left behind, nor what ends by itself.
func TestCheckLeftoversIsPatient(t *testing.T) {
	dir := repository(t)
	if err := os.WriteFile(filepath.Join(dir, "tracked"), []byte("changed before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const command = "echo x >$TMPDIR/x; (sleep 0.5; rm $TMPDIR/x) >/dev/null 2>&1 &"
	if out, err := checkLeftovers(t, dir, command, "30").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// An interrupt at the terminal reaches the command and the script alike.
func TestCheckLeftoversOfInterrupted(t *testing.T) {
	cmd := checkLeftovers(t, repository(t), "trap 'exit 130' INT; echo x >$TMPDIR/x; kill -INT 0; sleep 30", "0")
	newGroup(cmd)
	out, _ := cmd.CombinedOutput() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(string(out), "/x\n") {
		t.Errorf("exit code %d, want 130\n%s", code, out)
	}
}
