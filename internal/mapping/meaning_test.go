package mapping

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"
)

// TestMeanings tests that each reason has a name, an explanation and a meaning, and that docs/values.md has its name.
func TestMeanings(t *testing.T) {
	t.Parallel()
	values, err := os.ReadFile(filepath.Join("..", "..", "docs", "values.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := Meanings()
	if len(all) != len(meanings) {
		t.Errorf("got %d meanings, want one for each of %d reasons", len(all), len(meanings))
	}
	for _, m := range all {
		if !strings.Contains(string(values), "`"+m.Name+"`") {
			t.Errorf("docs/values.md does not have %s", m.Name)
		}
		for _, sentence := range []string{m.Found, m.Outcome} {
			if !strings.HasSuffix(sentence, ".") {
				t.Errorf("%s: %q is no sentence", m.Name, sentence)
			}
		}
	}
	rejected := map[string]bool{}
	for _, name := range RejectionReasons() {
		rejected[name] = true
	}
	for _, m := range all {
		if rejected[m.Name] != (m.Outcome == rejectedOutcome) {
			t.Errorf("%s: the outcome is %q", m.Name, m.Outcome)
		}
		if rejected[m.Name] != (m.Explanation == "") || (m.Outcome != rejectedOutcome && m.Outcome != nullOutcome) !=
			(m.Rejection == "") {
			t.Errorf("%s: the outcome is %q, but a change is explained by %q, and a rejection by %q",
				m.Name, m.Outcome, m.Explanation, m.Rejection)
		}
	}
}

// TestRejectedBy tests which column a row is rejected by, and its value in the state file.
func TestRejectedBy(t *testing.T) {
	t.Parallel()
	key, null, word := text("k"), sqlite.Value{}, text("word")
	for name, tc := range map[string]struct {
		row           []sqlite.Value
		others        map[int64]Reason // rows that are rejected for reasons outside of them
		column, value string
	}{
		"the cell":       {[]sqlite.Value{integer(1), key, word}, nil, "cell", `"word"`},
		"the key first":  {[]sqlite.Value{integer(1), null, word}, nil, "id", "NULL"},
		"a missing cell": {[]sqlite.Value{integer(1), key, null}, nil, "cell", "NULL"},
		"duplicate key":  {[]sqlite.Value{integer(1), key, integer(2)}, map[int64]Reason{1: DuplicateKey}, "id", `"k"`},
		"both":           {[]sqlite.Value{integer(1), key, word}, map[int64]Reason{1: DuplicateKey}, "id", `"k"`},
	} {
		c := newConverter(t, onlyColumn(KindInt, true))
		c.Rejected = tc.others
		for range 2 { // the second time after a row that was rejected
			if _, accepted, err := c.Append(nil, tc.row); err != nil || accepted {
				t.Fatalf("%s: accepted %t, %v", name, accepted, err)
			}
			if column, value := c.RejectedBy(tc.row); column != tc.column || value.String() != tc.value {
				t.Errorf("%s: got %s = %s, want %s = %s", name, column, value, tc.column, tc.value)
			}
		}
	}
}
