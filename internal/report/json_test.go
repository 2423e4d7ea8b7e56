package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flujo-port/internal/document"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode"
)

// TestJSONLists tests that lists are the last members of the object, in their order, each member on a line.
func TestJSONLists(t *testing.T) {
	t.Parallel()
	numbers := func(of ...int) func(yield func(int) error) error {
		return func(yield func(int) error) error {
			for _, n := range of {
				if err := yield(n); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var b bytes.Buffer
	report := struct {
		Name string `json:"name"`
	}{"<a> & b"}
	err := JSON(&b, &report, ListOf("none", numbers()), ListOf("one", numbers(1)), ListOf("two", numbers(2, 3)))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "name": "<a> & b",
  "none": [],
  "one": [
    1],
  "two": [
    2,
    3]
}
`
	if got := b.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !json.Valid(b.Bytes()) {
		t.Error("not JSON")
	}
}

func TestJSONErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("the list cannot be read")
	fails := List{Name: "broken", Each: func(func(any) error) error { return broken }}
	if err := JSON(io.Discard, committed(), fails); err != broken {
		t.Errorf("got error %v, want that of the list", err)
	}
	unencodable := ListOf("bad", func(yield func(chan int) error) error { return yield(nil) })
	if err := JSON(io.Discard, committed(), unencodable); err == nil {
		t.Error("a member that cannot be encoded is not an error")
	}
	if err := JSON(io.Discard, make(chan int)); err == nil {
		t.Error("a report that cannot be encoded is not an error")
	}
	// Every write may be the one for which the disk has no space.
	list := ListOf("one", func(yield func(int) error) error { return yield(1) })
	for n := range 5 {
		if err := JSON(&limitedWriter{left: n}, committed(), list); err != io.ErrShortWrite {
			t.Errorf("after %d writes: got error %v", n, err)
		}
	}
}

// limitedWriter fails after some writes.
type limitedWriter struct{ left int }

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.left == 0 {
		return 0, io.ErrShortWrite
	}
	w.left--
	return len(p), nil
}

// TestJSONIsPrintable tests that JSON holds no character that a terminal acts upon, and decodes to the same strings.
func TestJSONIsPrintable(t *testing.T) {
	t.Parallel()
	type named struct{ Name string }
	for _, name := range []string{"a\u202eb\u009b31m", "\u2028\u200b\ufeff\U000e0041", "é 日本 🎉\n\x1b<>&", "\ufffd"} {
		var b bytes.Buffer
		if err := JSON(
			&b,
			named{name},
			ListOf("all", func(yield func(named) error) error { return yield(named{name}) }),
		); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(
			b.String(),
			func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) && r != '\ufffd' },
		) {
			t.Errorf("got %q", b.String())
		}
		var got struct {
			Name string
			All  []named
		}
		if err := json.Unmarshal(
			b.Bytes(),
			&got,
		); err != nil || got.Name != name || len(got.All) != 1 ||
			got.All[0].Name != name {
			t.Errorf("%q: got %+v and error %v", name, got, err)
		}
	}
}

// TestListed tests that a record shows a list to its limit and says how many there are, and none without members.
func TestListed(t *testing.T) {
	t.Parallel()
	numbersTo := func(n int) func(func(int) bool) {
		return func(yield func(int) bool) {
			for i := range n {
				if !yield(i) {
					return
				}
			}
		}
	}
	even := func(i int) []string {
		if i%2 == 1 {
			return nil
		}
		return []string{fmt.Sprint(i)}
	}
	for _, tc := range []struct {
		n, shown int
		note     string
		open     bool
	}{
		{4, 2, "All: 2", true},
		{2 * longTable, longTable, "All: 200", true},
		{2*longTable + 2, longTable + 1, "All: 201", false},
		{2*maxListed + 2, maxListed, "All: 100,001 (the first 100,000 are shown, the JSON report has all)", false},
	} {
		columns := document.Columns{}.Numbers("n")
		table := listed(numbersTo(tc.n), int64((tc.n+1)/2), "All", columns, even).(*document.Table)
		shown := 0
		for range table.Rows {
			shown++
		}
		if shown != tc.shown || table.Note != tc.note || table.Open != tc.open {
			t.Errorf("%d: got %d rows, open %t, and the note %q", tc.n, shown, table.Open, table.Note)
		}
	}
	if listed(numbersTo(4), 0, "All", nil, even) != nil || listed[int](nil, 4, "All", nil, even) != nil {
		t.Error("an empty list is shown")
	}
}

func TestSentence(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "a": "A.", "a.": "A.", "élan vital": "Élan vital.", "\"x\" " +
		"y": "\"x\" y."} {
		if got := sentence(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
