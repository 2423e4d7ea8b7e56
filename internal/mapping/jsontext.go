package mapping

import (
	"bytes"
	"unicode/utf8"
)

// JSONFlaw is a set of what is wrong with a JSON text: what PostgreSQL's
// jsonb refuses in it, in a database whose encoding is UTF8. Zero is none.
//
// FlawNUL, FlawSurrogate, FlawUTF8 and FlawNaN are repaired in their place when
// the rest is JSON; a raw NUL or bad byte outside of strings leaves no JSON.
// Any of FlawSyntax, FlawNumber and FlawDepth makes a JSON string of the whole
// text; FlawNUL and FlawUTF8 next to them say how that string's content differs
// from the text, whose escapes, NonFiniteNumber and the like stay as they are written.
type JSONFlaw uint16

// The flaws.
const (
	FlawNUL       JSONFlaw = 1 << iota // an escaped or raw NUL: removed
	FlawSurrogate                      // a surrogate escape without its other half: U+FFFD
	FlawUTF8                           // invalid UTF-8: each bad byte U+FFFD
	FlawNaN                            // NonFiniteNumber, Infinity or -Infinity for a value: a string of that name
	FlawSyntax                         // not JSON: a JSON string of the text
	FlawNumber                         // JSON with a number that numeric cannot hold: a JSON string of the text
	FlawDepth                          // JSON nested too deep: a JSON string of the text
	FlawSize                           // beyond jsonb's sizes, see jsonbFits: cannot be stored
)

// flawsOfAll are the flaws that make one string of the whole text.
const flawsOfAll = FlawSyntax | FlawNumber | FlawDepth

// DefaultJSONDepth is how many levels of arrays and objects every server
// takes whose max_stack_depth is at its default of 2 MB.
//
// The server recurses once per level, while parsing and again while building
// the jsonb, and minds only its stack (check_stack_depth in jsonapi.c and
// jsonb_util.c). Where PostgreSQL 15 for amd64 gives up, in a function called
// by a function:
//
//	max_stack_depth    arrays    objects   [{"a":…}]
//	100 kB                662        596         627
//	512 kB              3,591      3,233       3,403
//	1 MB                7,232      6,509       6,853
//	2 MB               14,508     13,063      13,751
//	4 MB               29,078     26,170      27,549
//	7 MB               50,923     45,831      48,243
//
// A level takes 145 bytes of an array and 161 of an object, in proportion to
// max_stack_depth but for the first few kB. Frames differ between versions,
// compilers and processors: 10,000 levels in 2 MB leave 209 bytes for each.
const DefaultJSONDepth = 10_000

// JSONDepth gives how many levels a server with the given max_stack_depth
// takes, in kB, with the margin of DefaultJSONDepth.
func JSONDepth(stackKB int) int { return stackKB * DefaultJSONDepth / 2048 }

// replacement stands where a character could not be kept.
const replacement = string(utf8.RuneError)

// CheckJSON reports what jsonb would refuse in s: zero when PostgreSQL takes s
// as it is. Arrays and objects may be nested maxDepth levels deep. It
// allocates nothing for a text without flaws of up to 32 MB.
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

// AppendJSON appends s to dst, repaired where jsonb would refuse it, and says
// what was repaired. Without flaws s is appended as it is. What it appends,
// PostgreSQL takes; with FlawSize there is no such text, and dst comes back
// as it was. s and the spare capacity of dst must not overlap.
//
// A NUL taken out of a key may make two keys equal: jsonb keeps the last.
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

// longestEscape is how many bytes appendJSONString makes of one at most.
const longestEscape = len(`\u0001`)

// appendJSONString appends s to dst as a JSON string, without its NULs and
// with U+FFFD for each byte that is not UTF-8.
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

// flawsInString returns what appendJSONString changes in s.
func flawsInString(s []byte) (flaws JSONFlaw) {
	if bytes.IndexByte(s, 0) >= 0 {
		flaws |= FlawNUL
	}
	if !utf8.Valid(s) {
		flaws |= FlawUTF8
	}
	return flaws
}
