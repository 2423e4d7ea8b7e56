package report

import (
	"bytes"
	"encoding/json"
	"errors"
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
