package mapping

import (
	"bytes"
	"unicode/utf8"
)

// JSONFlaw is a set of flaws of a JSON text, for which PostgreSQL's jsonb rejects it
// in a database whose encoding is UTF8. Zero means no flaws.
//
// FlawNUL, FlawSurrogate, FlawUTF8 and FlawNaN are repaired in place if the rest of
// the text is JSON. A raw NUL or invalid byte outside of a string is FlawSyntax.
// With FlawSyntax, FlawNumber or FlawDepth, the whole text becomes one JSON string.
// FlawNUL and FlawUTF8 then describe how the string's content differs from the text;
// escapes, NaN and Infinity in it remain as they are written.
type JSONFlaw uint16

// The flaws.
const (
	FlawNUL       JSONFlaw = 1 << iota // an escaped or raw NUL: removed
	FlawSurrogate                      // a lone surrogate escape: replaced with U+FFFD
	FlawUTF8                           // invalid UTF-8: each invalid byte replaced with U+FFFD
	FlawNaN                            // NaN, Infinity or -Infinity as a value: replaced with a string
	FlawSyntax                         // not JSON: the text becomes a JSON string
	FlawNumber                         // a number that numeric cannot hold: the text becomes a JSON string
	FlawDepth                          // nested too deeply: the text becomes a JSON string
	FlawSize                           // exceeds jsonb's size limits (see jsonbFits): cannot be stored
)

// flawsOfAll are the flaws for which the whole text becomes one JSON string.
const flawsOfAll = FlawSyntax | FlawNumber | FlawDepth

// DefaultJSONDepth is the number of levels of arrays and objects that every server
// accepts whose max_stack_depth has its default of 2 MB.
//
// The server recurses once per level, while it parses and again while it builds the
// jsonb. The only limit is its stack (check_stack_depth in jsonapi.c and
// jsonb_util.c). These are the limits of PostgreSQL 15 on amd64, in a function that
// is called by a function:
//
//	max_stack_depth    arrays    objects   [{"a":…}]
//	100 kB                662        596         627
//	512 kB              3,591      3,233       3,403
//	1 MB                7,232      6,509       6,853
//	2 MB               14,508     13,063      13,751
//	4 MB               29,078     26,170      27,549
//	7 MB               50,923     45,831      48,243
//
// An array takes 145 bytes of stack for each level and an object 161, except for the
// first few kB. Stack frames differ between versions, compilers and processors.
// 10,000 levels in 2 MB leave 209 bytes for each.
const DefaultJSONDepth = 10_000

// JSONDepth returns the number of levels that a server accepts whose
// max_stack_depth is stackKB kilobytes, with the same margin as DefaultJSONDepth.
func JSONDepth(stackKB int) int { return stackKB * DefaultJSONDepth / 2048 }

// replacement replaces a character that jsonb cannot store.
const replacement = string(utf8.RuneError)

// CheckJSON returns the flaws of s: zero if jsonb accepts s unchanged. Arrays and
// objects may be nested maxDepth levels deep. It does not allocate for a text of up
// to 32 MB without flaws.
func CheckJSON(s []byte, maxDepth int) JSONFlaw {
	z := jsonScanner{s: s, max: maxDepth}
	flaws := z.verdict()
	switch {
	case flaws == 0 && len(s) > alwaysFits && !jsonbFits(s):
		return FlawSize
	case flaws != 0 && len(s) > alwaysFits/longestEscape:
		_, flaws = AppendJSON(nil, s, maxDepth)
	}
	return flaws
}

// AppendJSON appends s to dst, repaired so that jsonb accepts it, and returns the
// flaws that were repaired. Without flaws s is appended unchanged. With FlawSize
// nothing is appended. s and the spare capacity of dst must not overlap.
//
// Two keys may become equal when a NUL is removed from one; jsonb stores the last.
func AppendJSON(dst, s []byte, maxDepth int) ([]byte, JSONFlaw) {
	z := jsonScanner{s: s, max: maxDepth, dst: dst, repairing: true}
	flaws := z.verdict()
	var out []byte
	switch {
	case flaws == 0:
		out = append(dst, s...)
	case flaws&flawsOfAll != 0:
		out = appendJSONString(dst, s)
	default:
		out = append(z.dst, s[z.copied:]...)
	}
	if size := len(out) - len(dst); size > alwaysFits && !jsonbFits(out[len(dst):]) {
		return dst, flaws | FlawSize
	}
	return out, flaws
}

// longestEscape is the maximum number of bytes that appendJSONString appends for one
// byte.
const longestEscape = len(`\u0001`)

// appendJSONString appends s to dst as a JSON string. NULs are removed, and each byte
// that is not UTF-8 is replaced with U+FFFD.
func appendJSONString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	copied := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[copied:i]...)
				dst = append(dst, replacement...)
				copied = i + 1
			}
			i += size
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[copied:i-1]...)
		copied = i
		switch c {
		case 0:
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[copied:]...)
	return append(dst, '"')
}

// flawsInString returns the flaws that appendJSONString repairs in s.
func flawsInString(s []byte) (flaws JSONFlaw) {
	if bytes.IndexByte(s, 0) >= 0 {
		flaws |= FlawNUL
	}
	if !utf8.Valid(s) {
		flaws |= FlawUTF8
	}
	return flaws
}
