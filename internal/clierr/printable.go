package clierr

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plainName matches names that need no quotes.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_$]+$`)

// Name returns the name of something that others have named, such as a table, so that in
// a list it cannot be taken for something else: in quotes and with escapes as in Go, unless
// it has only letters, digits, _ and $.
func Name(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}

// Names returns a list of names, as Name returns each.
func Names(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = Name(name)
	}
	return strings.Join(all, ", ")
}

// Printable returns s with every character that a terminal would act upon, or not show,
// written as a Go escape sequence such as \n, \x1b or \u202e, and every byte that is not
// UTF-8 as \xff. Names, values and messages of others can then not imitate the program's
// own lines.
func Printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}
