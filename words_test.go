package repository_test

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// replaced lists words that the glossary of ARCHITECTURE.md has a term for, by
// that term.
var replaced = map[string][]string{
	"timestamp fallback":           {"witness", "witnesses", "testimony", "testimonies"},
	"inferred timestamp":           {"guess-time", "guessed-time", "guessed"},
	"change":                       {"misfit", "misfits"},
	"unmapped column":              {"homeless", "no-column"},
	"rejected row, --quarantine":   {"set aside", "set-aside", "without a place", "unplaced"},
	"stub run":                     {"orphan", "orphans"},
	"--naive-timezone":             {"naive time", "naive times", "naive-times"},
	"dry run":                      {"rehearse", "rehearses", "rehearsed", "rehearsal", "rehearsals"},
	"fix, repair":                  {"mend", "mends", "mended", "mending"},
	"lock timeout":                 {"not to be had", "was not had"},
	"kind of error":                {"whose turn it is"},
	"copy-mismatch":                {"bad copy", "bad-copy"},
	"source-mismatch":              {"not-that-file"},
	"a reason in docs/values.md":   {"bad-utf8", "nan-in-json", "not-json", "no-number", "beyond-type", "fine-time"},
	"JSON reasons":                 {"json-number", "json-depth", "json-size"},
	"the reasons of rejected rows": {"same-key", "null-value", "too-long", "bad-vector", "vector-size"},
}

// TestWords checks that one thing has one name: no tracked file uses a word that
// the glossary replaces.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, name := range trackedFiles(t) {
		if name == "words_test.go" || name == "LICENSE" || name == "go.sum" {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(content, 0) >= 0 {
			continue // deleted and not committed yet, or a state file
		}
		text := strings.ToLower(string(content))
		for term, words := range replaced {
			for _, word := range words {
				if at := indexWord(text, word); at >= 0 {
					t.Errorf("%s:%d: %q: the term is %s", name, 1+strings.Count(text[:at], "\n"), word, term)
				}
			}
		}
	}
}

// indexWord returns where word is in text as a word of its own, or -1.
// "json-number" is none in "json-number-out-of-range".
func indexWord(text, word string) int {
	inWord := func(i int) bool {
		return i >= 0 && i < len(text) && (text[i] == '-' || text[i] == '_' || text[i] >= 'a' && text[i] <= 'z' ||
			text[i] >= '0' && text[i] <= '9')
	}
	for from := 0; ; {
		at := strings.Index(text[from:], word)
		if at < 0 {
			return -1
		}
		at += from
		if !inWord(at-1) && !inWord(at+len(word)) {
			return at
		}
		from = at + 1
	}
}

func TestIndexWord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, word string
		want       int
	}{
		{"to mend", "mend", 3},
		{"amend, mended, mend.", "mend", 15},
		{"json-number-out-of-range", "json-number", -1},
		{"`json-number`", "json-number", 1},
		{"", "mend", -1},
	} {
		if got := indexWord(c.text, c.word); got != c.want {
			t.Errorf("%q in %q: got %d, want %d", c.word, c.text, got, c.want)
		}
	}
}

// maxColumns is the longest that a line of Go or Markdown may be, a tab being four columns.
// golines breaks code, and not comments and strings. Tables and examples may be longer.
const maxColumns = 120

// generated are documents that programs write.
var generated = []string{"docs/benchmarks.md", "docs/reliability.md"}

func TestLineLength(t *testing.T) {
	t.Parallel()
	for _, name := range trackedFiles(t) {
		text := strings.HasSuffix(name, ".md") && !slices.Contains(generated, name)
		if !strings.HasSuffix(name, ".go") && !text {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			continue // deleted and not committed yet
		}
		example := false
		for number, line := range strings.Split(string(content), "\n") {
			if text && strings.HasPrefix(line, "```") {
				example = !example
			}
			if text && (example || strings.HasPrefix(line, "|") || strings.HasPrefix(line, "    ")) {
				continue
			}
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
