package repository_test

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSlowPackages checks that `make test-slow` runs every package whose tests
// try more with the build tag "slow".
func TestSlowPackages(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile(`(?m)^test-slow:.*\n((?:\t.*\n)+)`).FindSubmatch(makefile)
	if target == nil {
		t.Fatal("the Makefile has no target test-slow")
	}
	listed := regexp.MustCompile(`\./[\w./-]+`).FindAllString(string(target[1]), -1)
	slow := regexp.MustCompile(`pgtest\.(Count|Slow)\b|(?m)^//go:build slow$`)
	var found []string
	for _, name := range trackedFiles(t) {
		folder := "./" + path.Dir(name)
		// internal/bench has make test-memory, internal/torture make torture, and pgtest defines Count.
		if !strings.HasSuffix(name, "_test.go") || strings.HasPrefix(folder, "./internal/bench") ||
			folder == "./internal/torture" || folder == "./." {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			continue // deleted and not committed yet
		}
		if slow.Match(content) && !slices.Contains(found, folder) {
			found = append(found, folder)
		}
	}
	slices.Sort(found)
	slices.Sort(listed)
	if !slices.Equal(found, listed) {
		t.Errorf("make test-slow runs %q, but tests that depend on the tag are in %q", listed, found)
	}
}
