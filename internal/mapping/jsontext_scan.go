package mapping

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// jsonScanner reads a text once, by the grammar of json_lex and
// pg_parse_json in PostgreSQL's jsonapi.c, which is RFC 8259's. Its methods
// take the index where something begins and return the index after it, or -1
// where the text is not JSON.
type jsonScanner struct {
	s     []byte
	max   int // how deep the text may be nested
	depth int // how many arrays and objects are open
	flaws JSONFlaw

	// A bit for each that is open, 1 for an object: of the outermost 1,024,
	// and of those below.
	kinds [16]uint64
	below []uint64

	repairing bool   // whether dst is wanted
	dst       []byte // s[:copied], repaired, after what the caller had in it
	copied    int
}

// verdict scans the text and returns its flaws.
func (z *jsonScanner) verdict() JSONFlaw {
	all := FlawSyntax
	if z.document() {
		all = z.flaws & flawsOfAll
	}
	if all != 0 {
		return all | flawsInString(z.s)
	}
	return z.flaws
}

// document reports whether the text is one JSON value, flaws that can be
// repaired apart.
func (z *jsonScanner) document() bool {
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

// next goes from the end of a value, or from the bracket that ends an empty
// array or object, to the start of the next value. It returns len(s) at the
// end of the document.
func (z *jsonScanner) next(i int) int {
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

// open goes one level down, into an object (1) or an array (0).
func (z *jsonScanner) open(kind uint64) {
	level := uint(z.depth)
	if level>>6 == uint(len(z.kinds)+len(z.below)) {
		z.below = append(z.below, 0)
	}
	kinds := z.kindsAt(level)
	*kinds = *kinds&^(1<<(level&63)) | kind<<(level&63)
	z.depth++
	if z.depth > z.max {
		z.flaws |= FlawDepth
		z.repairing = false
	}
}

// kindsAt returns the word with the bit of a level, bit level&63.
func (z *jsonScanner) kindsAt(level uint) *uint64 {
	if at := level >> 6; at < uint(len(z.kinds)) {
		return &z.kinds[at]
	}
	return &z.below[level>>6-uint(len(z.kinds))]
}

// key reads a key and its colon. A text that ends after the colon is not
// JSON, so what it returns is less than len(s).
func (z *jsonScanner) key(i int) int {
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

// word reads true, false or null, or one of the numbers that Python writes
// and JSON lacks.
func (z *jsonScanner) word(i int) int {
	rest := z.s[i:]
	switch {
	case startsWith(rest, "null"), startsWith(rest, "true"):
		return i + 4
	case startsWith(rest, "false"):
		return i + 5
	case startsWith(rest, "NaN"):
		z.repair(i, i+3, `"NaN"`, FlawNaN)
		return i + 3
	case startsWith(rest, "Infinity"):
		z.repair(i, i+8, `"Infinity"`, FlawNaN)
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

// text reads a string from behind its opening quote, eight bytes at a time.
func (z *jsonScanner) text(i int) int {
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
			z.repair(i, i+1, "", FlawNUL)
			i++
		default:
			return -1
		}
	}
}

// notPlain returns a word whose lowest bit set is the highest of the first
// byte that isPlain denies; zero when there is none. A subtraction borrows
// from the byte above only at such a byte, so those below it are right.
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

// isPlain reports whether c stands for itself in a string, and is ASCII.
func isPlain(c byte) bool {
	return c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
}

// escape reads one escape, or the two of a surrogate pair.
func (z *jsonScanner) escape(i int) int {
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
		z.repair(i, i+6, "", FlawNUL)
	case code>>10 == 0xd800>>10:
		if i+8 <= len(s) && s[i+6] == '\\' && s[i+7] == 'u' && hex4(s, i+8)>>10 == 0xdc00>>10 {
			return i + 12
		}
		z.repair(i, i+6, replacement, FlawSurrogate)
	case code>>10 == 0xdc00>>10:
		z.repair(i, i+6, replacement, FlawSurrogate)
	}
	return i + 6
}

// hex4 returns the number that four hexadecimal digits are, or -1.
func hex4(s []byte, i int) int32 {
	if i+4 > len(s) {
		return -1
	}
	d := s[i : i+4]
	return int32(hexDigit[d[0]])<<12 | int32(hexDigit[d[1]])<<8 | int32(hexDigit[d[2]])<<4 | int32(hexDigit[d[3]])
}

// hexDigit holds the value of each hexadecimal digit, and -1 for the rest.
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

// wide reads characters beyond ASCII. What is valid UTF-8 is the same to Go
// and to PostgreSQL (pg_utf8_islegal in wchar.c): no surrogates, nothing
// longer than needed, nothing beyond U+10FFFF.
func (z *jsonScanner) wide(i int) int {
	s := z.s
	for i < len(s) && s[i] >= utf8.RuneSelf {
		if i+4 <= len(s) {
			w := binary.LittleEndian.Uint32(s[i:])
			if w&0xc0e0 == 0x80c0 && w&0x1e != 0 {
				i += 2
				continue
			}
			// Not the first bytes E0 and ED, for which the second matters.
			if w&0xc0c0f0 == 0x8080e0 && w&0x0f != 0 && w&0x0f != 0x0d {
				i += 3
				continue
			}
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			z.repair(i, i+1, replacement, FlawUTF8)
		}
		i += size
	}
	return i
}

// repair notes a flaw at s[from:to], and puts what shall stand there into dst.
func (z *jsonScanner) repair(from, to int, by string, flaw JSONFlaw) {
	z.flaws |= flaw
	if z.repairing {
		z.dst = append(z.dst, z.s[z.copied:from]...)
		z.dst = append(z.dst, by...)
		z.copied = to
	}
}
