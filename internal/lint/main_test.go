package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestIgnoredErrors runs the tool as `make lint` does, and compares what it reports
// with the comments "want" in testdata.
func TestIgnoredErrors(t *testing.T) {
	file := filepath.Join("testdata", "ignored", "a.go")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, line := range strings.Split(string(text), "\n") {
		if _, message, ok := strings.Cut(line, "// want "); ok {
			want = append(want, fmt.Sprintf("%d: %s", i+1, strings.Trim(message, `"`)))
		}
	}
	t.Setenv("CGO_ENABLED", "0") // as make lint built the tool
	tool, err := exec.Command("go", "tool", "-n", "lint").Output()
	if err != nil {
		t.Fatal(err)
	}
	vet := exec.Command("go", "vet", "-vettool="+strings.TrimSpace(string(tool)), "./"+filepath.Dir(file))
	out, err := vet.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); !exited {
		t.Fatalf("want exit code 1, got %v", err)
	}
	var got []string
	for _, line := range regexp.MustCompile(`(?m)a\.go:(\d+):\d+: (.*)$`).FindAllStringSubmatch(string(out), -1) {
		got = append(got, line[1]+": "+line[2])
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q\n%s", got, want, out)
	}
}
