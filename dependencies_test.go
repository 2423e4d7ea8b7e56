package repository_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// goMod is what `go mod edit -json` prints of a go.mod.
type goMod struct {
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Tool []struct{ Path string }
}

func readGoMod(t *testing.T, path string) (m goMod) {
	t.Helper()
	printed, err := exec.Command("go", "mod", "edit", "-json", path).Output()
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	if err := json.Unmarshal(printed, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// version returns the version that m requires of a module.
func (m goMod) version(path string) string {
	for _, r := range m.Require {
		if r.Path == path {
			return r.Version
		}
	}
	return ""
}

// TestDependenciesAreJustified compares the table in CONTRIBUTING.md with go.mod and
// deploy/go.mod: one line for each direct requirement and each tool.
func TestDependenciesAreJustified(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Dependencies\n")
	if !found {
		t.Fatal("CONTRIBUTING.md has no section Dependencies")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var listed, wanted []string
	lines := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]{10,} \\|$")
	for _, line := range lines.FindAllStringSubmatch(section, -1) {
		listed = append(listed, line[1])
	}
	program, tests := readGoMod(t, "go.mod"), readGoMod(t, "deploy/go.mod")
	for _, r := range slices.Concat(program.Require, tests.Require) {
		if !r.Indirect && r.Path != "flujo-port" && !slices.Contains(wanted, r.Path) {
			wanted = append(wanted, r.Path)
		}
	}
	for _, tool := range program.Tool {
		wanted = append(wanted, tool.Path)
	}
	slices.Sort(listed)
	slices.Sort(wanted)
	if !slices.Equal(listed, wanted) {
		t.Errorf("CONTRIBUTING.md justifies %q, but go.mod and deploy/go.mod require %q", listed, wanted)
	}
	// The tests run the program with the versions that it has.
	for _, r := range tests.Require {
		if v := program.version(r.Path); v != "" && v != r.Version {
			t.Errorf("deploy/go.mod requires %s %s, but go.mod requires %s", r.Path, r.Version, v)
		}
	}
}

// TestLibcVersion checks that modernc.org/libc has the version that
// modernc.org/sqlite was translated for. Go's own choice may be a newer one.
func TestLibcVersion(t *testing.T) {
	t.Parallel()
	listed, err := exec.Command("go", "list", "-m", "-f", "{{.GoMod}}", "modernc.org/sqlite").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := readGoMod(t, strings.TrimSpace(string(listed))).version("modernc.org/libc")
	if got := readGoMod(t, "go.mod").version("modernc.org/libc"); got != want || got == "" {
		t.Errorf("go.mod requires modernc.org/libc %s, but modernc.org/sqlite requires %s", got, want)
	}
}
