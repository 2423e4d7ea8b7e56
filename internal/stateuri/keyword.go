package stateuri

import (
	"fmt"
	"strings"
)

const keywordSpace = " \t\n\r\v\f"

// keywordPair is one key=value of a keyword/value string. start is where its
// value begins in the string.
type keywordPair struct {
	param
	start int
}

// parseKeywords reads libpq's other form, "host=h password='it\'s'": white
// space between the pairs and around '=', a value quoted with ' when it is
// empty or holds spaces, and \ before a character taken as it is.
func parseKeywords(s string) ([]keywordPair, error) {
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("%w: it holds a NUL: remove it", ErrMalformed)
	}
	var pairs []keywordPair
	for at := skipSpace(s, 0); at < len(s); at = skipSpace(s, at) {
		eq := strings.IndexByte(s[at:], '=')
		if eq < 0 {
			return nil, errKeyword()
		}
		key := strings.TrimRight(s[at:at+eq], keywordSpace)
		if !plainKey.MatchString(key) {
			return nil, errKeyword()
		}
		start := skipSpace(s, at+eq+1)
		value, next, ok := keywordValue(s, start)
		if !ok {
			return nil, fmt.Errorf("%w: a quoted value is not closed: end it with '", ErrMalformed)
		}
		pairs = append(pairs, keywordPair{param{key, value}, start})
		at = next
	}
	return pairs, nil
}

func errKeyword() error {
	return fmt.Errorf("%w: neither a postgresql:// URL nor key=value settings "+
		"(quote a value that holds spaces: password='a b')", ErrMalformed)
}

func skipSpace(s string, at int) int {
	for at < len(s) && strings.IndexByte(keywordSpace, s[at]) >= 0 {
		at++
	}
	return at
}

// keywordValue reads the value at s[at:] and says where it ends. It is not ok
// when a quoted value has no end.
func keywordValue(s string, at int) (value string, end int, ok bool) {
	var b strings.Builder
	quoted := at < len(s) && s[at] == '\''
	if quoted {
		at++
	}
	for ; at < len(s); at++ {
		c := s[at]
		switch {
		case quoted && c == '\'':
			return b.String(), at + 1, true
		case !quoted && strings.IndexByte(keywordSpace, c) >= 0:
			return b.String(), at, true
		case c == '\\':
			// A backslash that ends the string escapes nothing and is dropped.
			if at++; at < len(s) {
				b.WriteByte(s[at])
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), len(s), !quoted
}
