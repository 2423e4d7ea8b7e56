package jsonb

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// scanner scans a text in one pass, by the grammar of json_lex and pg_parse_json in
// PostgreSQL's jsonapi.c, which is RFC 8259's. Its methods take the index at which a
// token or value begins, and return the index after it, or -1 if the text is not
// JSON.
type scanner struct {
	s     []byte
	max   int // the maximum depth
	depth int // the number of open arrays and objects
	flaws Flaws

	// One bit for each open array (0) or object (1): kinds for the outermost
	// 1,024, below for the others.
	kinds [16]uint64
	below []uint64

	repairing bool   // whether dst is needed
	dst       []byte // the caller's bytes, followed by s[:copied], repaired
	copied    int
}

// verdict scans the text and returns its flaws.
func (z *scanner) verdict() Flaws {
	all := Invalid
	if z.document() {
		all = z.flaws & flawsOfAll
	}
	if all != 0 {
		return all | flawsInString(z.s)
	}
	return z.flaws
}

// document reports whether the text is one JSON value, apart from flaws that can be
// repaired.
func (z *scanner) document() bool {
	s := z.s
	for i := 0; ; {
		i = skipSpace(s, i)
		if i == len(s) {
			return false
		}
		switch c := s[i]; c {
		case '"':
			i = z.text(i + 1)
		case '{':
			z.open(1)
			if i = skipSpace(s, i+1); i == len(s) || s[i] != '}' {
				if i = z.key(i); i < 0 {
					return false
				}
				continue
			}
		case '[':
			z.open(0)
			if i = skipSpace(s, i+1); i == len(s) || s[i] != ']' {
				continue
			}
		default:
			if c == '-' || c-'0' <= 9 {
				i = z.number(i)
			} else {
				i = z.word(i)
			}
		}
		if i < 0 {
			return false
		}
		if i = z.next(i); i < 0 || i == len(s) {
			return i == len(s)
		}
	}
}

// next returns the index at which the next value begins, or len(s) at the end of
// the document. i is the index after a value, or that of the closing bracket of an
// empty array or object.
func (z *scanner) next(i int) int {
	s := z.s
	for {
		i = skipSpace(s, i)
		if z.depth == 0 || i == len(s) {
			if z.depth == 0 && i == len(s) {
				return i
			}
			return -1
		}
		level := uint(z.depth - 1)
		inObject := *z.kindsAt(level)>>(level&63)&1 != 0
		switch s[i] {
		case ',':
			i++
			if inObject {
				i = z.key(skipSpace(s, i))
			} else if i == len(s) {
				return -1
			}
			return i
		case '}':
			if !inObject {
				return -1
			}
		case ']':
			if inObject {
				return -1
			}
		default:
			return -1
		}
		z.depth--
		i++
	}
}

// open opens an object (kind 1) or an array (kind 0).
func (z *scanner) open(kind uint64) {
	level := uint(z.depth)
	if level>>6 == uint(len(z.kinds)+len(z.below)) {
		z.below = append(z.below, 0)
	}
	kinds := z.kindsAt(level)
	*kinds = *kinds&^(1<<(level&63)) | kind<<(level&63)
	z.depth++
	if z.depth > z.max {
		z.flaws |= TooDeep
		z.repairing = false
	}
}

// kindsAt returns the word that holds the bit of a level, which is bit level&63.
func (z *scanner) kindsAt(level uint) *uint64 {
	if at := level >> 6; at < uint(len(z.kinds)) {
		return &z.kinds[at]
	}
	return &z.below[level>>6-uint(len(z.kinds))]
}

// key reads a key and its colon. Its result is less than len(s), since a text that
// ends after the colon is not JSON.
func (z *scanner) key(i int) int {
	s := z.s
	if i == len(s) || s[i] != '"' {
		return -1
	}
	if i = z.text(i + 1); i < 0 {
		return -1
	}
	if i < len(s) && s[i] != ':' {
		i = skipSpace(s, i)
	}
	if i+1 >= len(s) || s[i] != ':' {
		return -1
	}
	return i + 1
}

// word reads true, false or null, or NaN or Infinity, which Python writes and JSON
// does not have.
func (z *scanner) word(i int) int {
	rest := z.s[i:]
	switch {
	case startsWith(rest, "null"), startsWith(rest, "true"):
		return i + 4
	case startsWith(rest, "false"):
		return i + 5
	case startsWith(rest, "NaN"):
		z.repair(i, i+3, `"NaN"`, NonFiniteNumber)
		return i + 3
	case startsWith(rest, "Infinity"):
		z.repair(i, i+8, `"Infinity"`, NonFiniteNumber)
		return i + 8
	}
	return -1
}

func startsWith(s []byte, word string) bool {
	return len(s) >= len(word) && string(s[:len(word)]) == word
}

func skipSpace(s []byte, i int) int {
	for i < len(s) && s[i] <= ' ' && 1<<s[i]&(1<<' '|1<<'\t'|1<<'\n'|1<<'\r') != 0 {
		i++
	}
	return i
}

// text reads a string, eight bytes at a time. s[i] is the byte after its opening
// quote.
func (z *scanner) text(i int) int {
	s := z.s
	for {
		for ; i+8 <= len(s); i += 8 {
			if special := notPlain(binary.LittleEndian.Uint64(s[i:])); special != 0 {
				i += bits.TrailingZeros64(special) >> 3
				break
			}
		}
		if i+8 > len(s) {
			for i < len(s) && isPlain(s[i]) {
				i++
			}
			if i == len(s) {
				return -1
			}
		}
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = z.escape(i); i < 0 {
				return -1
			}
		case c >= utf8.RuneSelf:
			i = z.wide(i)
		case c == 0:
			z.repair(i, i+1, "", NUL)
			i++
		default:
			return -1
		}
	}
}

// notPlain returns a word in which the lowest bit that is set is the highest bit of
// the first byte of w that is not plain; zero if all are. A subtraction borrows from
// the next byte only at such a byte, so the bytes before it are correct.
func notPlain(w uint64) uint64 {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	quote := (w ^ '"'*ones) - ones
	backslash := (w ^ '\\'*ones) - ones
	control := w - ' '*ones
	return (w | quote | backslash | control) & highs
}

// isPlain reports whether c is an ASCII character that is not escaped in a string.
func isPlain(c byte) bool {
	return c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
}

// escape reads one escape, or the two escapes of a surrogate pair.
func (z *scanner) escape(i int) int {
	s := z.s
	if i+1 >= len(s) {
		return -1
	}
	switch s[i+1] {
	case 'n', '"', '\\', '/', 't', 'r', 'b', 'f':
		return i + 2
	case 'u':
	default:
		return -1
	}
	code := hex4(s, i+2)
	switch {
	case code < 0:
		return -1
	case code == 0:
		z.repair(i, i+6, "", NUL)
	case code>>10 == 0xd800>>10:
		if i+8 <= len(s) && s[i+6] == '\\' && s[i+7] == 'u' && hex4(s, i+8)>>10 == 0xdc00>>10 {
			return i + 12
		}
		z.repair(i, i+6, replacement, LoneSurrogate)
	case code>>10 == 0xdc00>>10:
		z.repair(i, i+6, replacement, LoneSurrogate)
	}
	return i + 6
}

// hex4 returns the value of the four hexadecimal digits at s[i], or -1.
func hex4(s []byte, i int) int32 {
	if i+4 > len(s) {
		return -1
	}
	d := s[i : i+4]
	return int32(hexDigit[d[0]])<<12 | int32(hexDigit[d[1]])<<8 | int32(hexDigit[d[2]])<<4 | int32(hexDigit[d[3]])
}

// hexDigit holds the value of each hexadecimal digit, and -1 for all other bytes.
var hexDigit = func() (digits [256]int8) {
	for c := range digits {
		digits[c] = -1
	}
	for v := range int8(16) {
		digits["0123456789abcdef"[v]] = v
		digits["0123456789ABCDEF"[v]] = v
	}
	return digits
}()

// wide reads characters outside of ASCII. Go and PostgreSQL (pg_utf8_islegal in
// wchar.c) accept the same UTF-8: no surrogates, no overlong forms, and no code
// points above U+10FFFF.
func (z *scanner) wide(i int) int {
	s := z.s
	for i < len(s) && s[i] >= utf8.RuneSelf {
		if i+4 <= len(s) {
			w := binary.LittleEndian.Uint32(s[i:])
			if w&0xc0e0 == 0x80c0 && w&0x1e != 0 {
				i += 2
				continue
			}
			// The first bytes E0 and ED are excluded: they limit the second byte.
			if w&0xc0c0f0 == 0x8080e0 && w&0x0f != 0 && w&0x0f != 0x0d {
				i += 3
				continue
			}
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			z.repair(i, i+1, replacement, InvalidUTF8)
		}
		i += size
	}
	return i
}

// repair records a flaw at s[from:to], and appends its replacement to dst.
func (z *scanner) repair(from, to int, by string, flaw Flaws) {
	z.flaws |= flaw
	if z.repairing {
		z.dst = append(z.dst, z.s[z.copied:from]...)
		z.dst = append(z.dst, by...)
		z.copied = to
	}
}
