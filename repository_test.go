// Package repository_test checks the repository as a whole.
package repository_test

import (
	"bytes"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A path that starts with "..", and what may stand in front of it: nothing
	// of a path, except the shell's `$(dirname "$0")/`.
	upward = regexp.MustCompile(`(?:^|[^\w./)-]|\)/)((?:\.\./)+[\w./-]*|\.\.(?:[^\w./-]|$))`)
	// A path that begins with a variable or a quoted part, and then leads up.
	// From where is not known, so it is an error wherever it leads.
	anchored = regexp.MustCompile("(?:\\$\\w+|[}\"'`])/((?:\\.\\./)+[\\w./-]*)")
	// Go's filepath.Join of such a path.
	joined = regexp.MustCompile(`"\.\."(?:,\s*"[^"]*")+`)
	// Folders that exist on one machine only.
	machineFolders = []string{"/work/", "/root/", "/builds/", "/Users/", "/mnt/", "/media/", "/tmp/"}
	machine        = regexp.MustCompile(
		`(?:^|[^\w./$}-])/(?:work|root|builds|Users|mnt|media)/[\w./-]*|(?:^|[^\w./-])/tmp/[\w-]+/[\w./-]*`,
	)
)

// outside returns the paths in a file that lead outside the repository: those
// relative to the file's folder and those of one machine's. name is relative to
// the top of the repository.
func outside(name, content string) (paths []string) {
	// Few lines can match, and the patterns take long under the race detector.
	var few strings.Builder
	for line := range strings.Lines(content) {
		if strings.Contains(line, "..") ||
			slices.ContainsFunc(machineFolders, func(folder string) bool { return strings.Contains(line, folder) }) {
			few.WriteString(line)
		}
	}
	content = few.String()
	var relative []string
	for _, match := range upward.FindAllStringSubmatch(content, -1) {
		relative = append(relative, strings.TrimRight(match[1], "\"'`;: \t\n"))
	}
	for _, match := range joined.FindAllString(content, -1) {
		relative = append(
			relative,
			path.Join(strings.FieldsFunc(match, func(r rune) bool { return strings.ContainsRune("\", \t\n", r) })...),
		)
	}
	for _, up := range relative {
		if resolved := path.Join(path.Dir(name), up); resolved == ".." || strings.HasPrefix(resolved, "../") {
			paths = append(paths, up)
		}
	}
	for _, match := range anchored.FindAllStringSubmatch(content, -1) {
		paths = append(paths, match[1])
	}
	for _, match := range machine.FindAllString(content, -1) {
		paths = append(paths, strings.TrimLeft(match, "\"'`=:( \t\n"))
	}
	return paths
}

// TestSelfContained checks that no tracked file refers to a path outside the
// repository, so that a clone with nothing next to it builds and passes its tests.
func TestSelfContained(t *testing.T) {
	t.Parallel()
	for _, name := range trackedFiles(t) {
		if name == "repository_test.go" {
			continue // holds examples of what is looked for
		}
		var content []byte
		if info, err := os.Lstat(name); err != nil {
			continue // deleted and not committed yet
		} else if info.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			if err != nil {
				t.Fatal(err)
			}
			content = []byte(target)
			if path.IsAbs(target) {
				t.Errorf("%s is a link to %s", name, target)
			}
		} else if content, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(content, 0) >= 0 {
			continue // a state file
		}
		for _, found := range outside(name, string(content)) {
			t.Errorf("%s refers to %q, which is outside the repository", name, found)
		}
	}
}

func TestOutside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, content string
		want          []string
	}{
		{"internal/x/x_test.go", `os.Open("../../testdata/flujo_state.db")`, nil},
		{"internal/x/x_test.go", `os.Open("../../../fixtures/flujo_state.db")`,
			[]string{"../../../fixtures/flujo_state.db"}},
		{"internal/x/x_test.go", "os.Open(`../../../x.db`)", []string{"../../../x.db"}},
		{"internal/x/x_test.go", `filepath.Join("..", "..", "testdata")`, nil},
		{"internal/x/x_test.go", `filepath.Join("..", "..", "..", "fixtures")`, []string{"../../../fixtures"}},
		{"scripts/run.sh", `cd "$(dirname "$0")/.."`, nil},
		{"run.sh", `cd "$(dirname "$0")/.."`, []string{".."}},
		{"scripts/run.sh", `cd "$(dirname "$0")/../../x"`, []string{"../../x"}},
		{"scripts/run.sh", `cp "$top/../notes/x" .`, []string{"../notes/x"}},
		{"scripts/run.sh", `cp "${here}/../../notes" .`, []string{"../../notes"}},
		{"internal/x/x_test.go", `os.Open(root + "/../notes/x")`, []string{"../notes/x"}},
		{"Makefile", "\t$(GO) test ./...", nil},
		{"Makefile", "\tcp ../notes/facts.md docs", []string{"../notes/facts.md"}},
		{"go.mod", "replace a => ../a\n", []string{"../a"}},
		{"docs/a.md", "see [design](../ARCHITECTURE.md)", nil},
		{"docs/a.md", "see [design](../../design.md)", []string{"../../design.md"}},
		{"a_link", "../elsewhere", []string{"../elsewhere"}},
		{"README.md", "cd /work/main && make", []string{"/work/main"}},
		{"README.md", `"/root/go/pkg"`, []string{"/root/go/pkg"}},
		{"README.md", "TMPDIR=/tmp/mine/x", []string{"/tmp/mine/x"}},
		{"README.md", "flujo-port --sqlite /data/flujo_state.db; ls /tmp", nil},
		{"README.md", "https://example.org/work/x and a/../b", nil},
	} {
		if got := outside(c.file, c.content); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q: got %q, want %q", c.file, c.content, got, c.want)
		}
	}
}
