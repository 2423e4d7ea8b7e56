package repository_test

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// replaced are words that the glossary of ARCHITECTURE.md has a term for, each
// with that term.
var replaced = []struct{ word, term string }{
	{`witness(es)?|testimon(y|ies)`, "timestamp fallback"},
	{`guess(ed|es)?-time|guessed`, "inferred timestamp, time-inferred"},
	{`misfits?`, "change"},
	{`homeless`, "unmapped column"},
	{`set[- ]aside|without a place|unplaced`, "rejected row, --quarantine"},
	{`orphans?`, "stub run"},
	{`naive[- ]times?`, "timestamps without a zone, --naive-timezone"},
	{`rehears(e|es|ed|al|als)`, "dry run"},
	{`mend(s|ed|ing)?`, "fix, repair"},
	{`not to be had|was not had`, "timed out waiting for a lock"},
	{`bad[- ]copy`, "copy-mismatch"},
	{`not-that-file`, "source-mismatch"},
	{`bad-utf8`, "invalid-utf8"},
	{`nan-in-json`, "non-finite-number"},
	{`not-json`, "invalid-json"},
	{`json-number|json-depth|json-size`, "json-number-out-of-range, json-too-deep, json-too-large"},
	{`no-number`, "not-a-number"},
	{`beyond-type`, "out-of-range"},
	{`fine-time`, "time-truncated"},
	{`no-column`, "unmapped-column"},
	{`same-key|null-value|too-long|bad-vector|vector-size`, "the reasons for rejected rows in docs/values.md"},
	{`whose turn it is`, "kind of error"},
}

// TestWords checks that one thing has one name: no tracked file uses a word that
// the glossary replaces.
func TestWords(t *testing.T) {
	t.Parallel()
	var patterns []*regexp.Regexp
	for _, r := range replaced {
		// Not as a part of another word: json-number-out-of-range is a reason.
		patterns = append(patterns, regexp.MustCompile(`(?i)(?:^|[^\w-])(`+r.word+`)(?:$|[^\w-])`))
	}
	for _, name := range trackedFiles(t) {
		if name == "words_test.go" || name == "LICENSE" || name == "go.sum" {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(content, 0) >= 0 {
			continue // deleted and not committed yet, or a state file
		}
		for number, line := range strings.Split(string(content), "\n") {
			for i, pattern := range patterns {
				if match := pattern.FindStringSubmatch(line); match != nil {
					t.Errorf("%s:%d: %q: the term is %s", name, number+1, match[1], replaced[i].term)
				}
			}
		}
	}
}

// maxColumns is the longest that a line of Go may be, a tab being four columns.
// golines breaks code, and not comments and strings.
const maxColumns = 120

func TestLineLength(t *testing.T) {
	t.Parallel()
	for _, name := range trackedFiles(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			continue // deleted and not committed yet
		}
		for number, line := range strings.Split(string(content), "\n") {
			columns := len([]rune(line)) + 3*strings.Count(line, "\t")
			if columns > maxColumns {
				t.Errorf("%s:%d has %d columns, at most %d are allowed", name, number+1, columns, maxColumns)
			}
		}
	}
}

// trackedFiles returns the names of all files that git tracks, relative to the
// top of the repository. Outside a clone the test is skipped.
func trackedFiles(t *testing.T) []string {
	t.Helper()
	if _, err := os.Stat(".git"); err != nil {
		t.Skip("needs a clone, to list the tracked files")
	}
	listed, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		t.Fatalf("list the tracked files: %v", err)
	}
	names := strings.Split(strings.TrimRight(string(listed), "\x00"), "\x00")
	if len(names) < 100 {
		t.Fatalf("git lists only %d files", len(names))
	}
	return names
}
