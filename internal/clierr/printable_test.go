package clierr

import (
	"testing"
	"unicode/utf8"
)

func TestName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"alembic_version": "alembic_version", "Año": `"Año"`, "": `""`, "a, b": `"a, b"`, "x\nDone": `"x\nDone"`,
		"1st": "1st", `a"b`: `"a\"b"`, "\u202ex": `"\u202ex"`, "sqlite$1": "sqlite$1",
	} {
		if got := Name(name); got != want {
			t.Errorf("Name(%q) = %s, want %s", name, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	if got, want := Names([]string{"a", "b, c"}), `a, "b, c"`; got != want || Names(nil) != "" {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                            "",
		`it's "é" \ → ✓ 日本 🎉`:         `it's "é" \ → ✓ 日本 🎉`,
		"x\nDone: 5 rows":             `x\nDone: 5 rows`,
		"\r\x1b[2K\x1b[1A\a\b\t\x00":  `\r\x1b[2K\x1b[1A\a\b\t\x00`,
		"\x7f\u0085\u009b31m":         `\x7f\u0085\u009b31m`,
		"\u202eabc\u2066\u200f\u061c": `\u202eabc\u2066\u200f\u061c`,
		"\u2028\u2029\u200b\ufeff":    `\u2028\u2029\u200b\ufeff`,
		"a\xffb\xc3":                  `a\xffb\xc3`,
		"\ufffd":                      "\ufffd",
		"\U000e0041":                  `\U000e0041`,
	} {
		got := Printable(s)
		if got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
		if !utf8.ValidString(got) || Printable(got) != got {
			t.Errorf("Printable(%q) = %q, which is not printable", s, got)
		}
	}
	err := &Error{Message: "table \"a\nDone\"", Err: &Error{Message: "b\x1b"}, Hint: "drop \u202e"}
	if got, want := err.Error(), `table "a\nDone": b\x1b; drop \u202e`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
