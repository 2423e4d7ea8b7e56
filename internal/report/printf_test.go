package report

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// TestNothingForgesALine puts a line break and characters that a terminal acts upon into every string of every report.
// None of them reaches the text, and no line begins with what follows the line break.
func TestNothingForgesALine(t *testing.T) {
	t.Parallel()
	for _, some := range [][]golden{
		migrations(), merges(), verifications(), checks(), restorations(), inits(),
	} {
		for _, g := range some {
			var b bytes.Buffer
			if err := forged(reflect.ValueOf(g.report)).Interface().(texter).Text(&b); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), `\nFORGED\x1b[2K\r\u202e\u009b`) {
				t.Errorf("%s shows no string that was changed:\n%s", g.name, &b)
			}
			for line := range strings.SplitSeq(b.String(), "\n") {
				if strings.HasPrefix(strings.TrimSpace(line), "FORGED") || strings.ContainsFunc(line, notPrinted) {
					t.Errorf("%s: the line %q", g.name, line)
				}
			}
		}
	}
}

type texter interface{ Text(w io.Writer) error }

func notPrinted(r rune) bool { return !unicode.IsPrint(r) }

// forged returns a copy of v with the text in all its strings, except for statements, which are not for reading alone:
// they are made of names that the command line refuses if they are not printable.
func forged(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch v.Kind() {
	case reflect.String:
		c.SetString(v.String() + "\nFORGED\x1b[2K\r\u202e\u009b")
	case reflect.Pointer:
		if !v.IsNil() {
			c.Set(reflect.New(v.Type().Elem()))
			c.Elem().Set(forged(v.Elem()))
		}
	case reflect.Slice:
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			c.Index(i).Set(forged(v.Index(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; c.Field(i).CanSet() && name != "UndoSQL" && name != "DropSQL" {
				c.Field(i).Set(forged(v.Field(i)))
			}
		}
	}
	return c
}
