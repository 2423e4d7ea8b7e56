package stateuri

import (
	"fmt"
	"strings"
)

// keywordSpace is the white space of keyword/value strings and of options.
const keywordSpace = " \t\n\r\v\f"

// keywordPair is one key=value of a keyword/value string.
type keywordPair struct {
	param
	start int // the index of the value in the string
}

// parseKeywords parses a keyword/value string of libpq, such as
// "host=h password='it\'s'". White space separates the pairs and may surround '='. A
// value that is empty or contains spaces is quoted with '. A backslash escapes the
// next character.
func parseKeywords(s string) ([]keywordPair, error) {
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("%w: it contains a NUL character: remove it", ErrMalformed)
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
			return nil, fmt.Errorf("%w: the closing quote of a value is missing: end the value with '", ErrMalformed)
		}
		pairs = append(pairs, keywordPair{param{key, value}, start})
		at = next
	}
	return pairs, nil
}

func errKeyword() error {
	return fmt.Errorf("%w: neither a postgresql:// URL nor key=value settings "+
		"(quote a value that contains spaces: password='a b')", ErrMalformed)
}

func skipSpace(s string, at int) int {
	for at < len(s) && strings.IndexByte(keywordSpace, s[at]) >= 0 {
		at++
	}
	return at
}

// keywordValue reads the value at s[at:] and returns the index after it. ok is false
// if the closing quote of the value is missing.
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
			// A backslash at the end of the string is dropped.
			if at++; at < len(s) {
				b.WriteByte(s[at])
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), len(s), !quoted
}
