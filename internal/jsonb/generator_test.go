package jsonb

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator returns random texts: JSON, and JSON that is damaged in a few places.
type generator struct{ *rand.Rand }

func pick[T any](m generator, from []T) T { return from[m.IntN(len(from))] }

// text returns a text, which rarely exceeds a few hundred bytes.
func (m generator) text() []byte {
	text := m.space(nil)
	text = m.value(text, 1+m.IntN(5))
	text = m.space(text)
	if m.IntN(3) == 0 {
		return text
	}
	for range 1 + m.IntN(3) {
		text = m.harm(text)
	}
	return text
}

// accidents are the texts that harm inserts.
var accidents = []string{
	"\x00", `\u0000`, `\ud83d`, `\ude00`, `\uD83D\uDE00`, `\u`, `\u00`, `\`, `\\`, `\"`, `"`, `\n`, `\x`, `\'`, `'`,
	"\n", "\t", "\x01", "\x1f", "\x7f", " ", "\v", "\u00a0", "\ufeff", "\u2028",
	"\xff", "\xc0\x80", "\xed\xa0\x80", "\xed\xbf\xbf", "\xe4\xb8", "\xf0\x9f\x98", "\xf4\x90\x80\x80", "\x80", "é",
	"中", "😀",
	"NaN", "Infinity", "-Infinity", "-NaN", "nan", "null", "true", "false", "nul", "True",
	"{", "}", "[", "]", ":", ",", "{}", "[]", `"a":`, `""`, "/**/", "//",
	"-", "+", ".", "e", "E", "0", "1", "01", "1.", ".1", "1e", "1e+", "0x1", "1_0",
	"1e131071", "1e131072", "1e-16383", "1e-16384", "1e99999999999", "0e999999", "9e999999", "0e-16384", "e131072",
	"e-16384",
}

// harm damages a text in one place.
func (m generator) harm(text []byte) []byte {
	from := m.IntN(len(text) + 1)
	to := min(len(text), from+m.IntN(4))
	put := func(middle string) []byte {
		return []byte(string(text[:from]) + middle + string(text[to:]))
	}
	switch m.IntN(8) {
	case 0:
		return put("")
	case 1:
		return put(string(text[from:to]) + string(text[from:to]))
	case 2:
		return text[:from]
	case 3:
		return put(string([]byte{byte(m.IntN(256))}))
	case 4:
		return put(string(m.value(nil, 1)))
	}
	if m.IntN(2) == 0 {
		to = from
	}
	return put(pick(m, accidents))
}

func (m generator) space(dst []byte) []byte {
	if m.IntN(8) == 0 {
		dst = append(dst, pick(m, []string{" ", "\n", "\t", "\r\n", "    "})...)
	}
	return dst
}

// value returns a value with at most the given number of levels, rarely with a NaN.
func (m generator) value(dst []byte, levels int) []byte {
	if levels > 0 && m.IntN(2) == 0 {
		return m.container(dst, levels-1)
	}
	switch m.IntN(10) {
	case 0, 1, 2, 3:
		return m.str(dst, m.IntN(30))
	case 4, 5, 6, 7:
		return m.number(dst)
	case 8:
		if m.IntN(20) == 0 {
			return append(dst, pick(m, []string{"NaN", "Infinity", "-Infinity"})...)
		}
	}
	return append(dst, pick(m, []string{"null", "true", "false"})...)
}

func (m generator) container(dst []byte, levels int) []byte {
	brackets := pick(m, []string{"{}", "[]"})
	dst = append(dst, brackets[0])
	for i := range m.IntN(6) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = m.space(dst)
		if brackets[0] == '{' {
			dst = m.str(dst, m.IntN(3)) // short, so that some are alike
			dst = m.space(dst)
			dst = append(dst, ':')
			dst = m.space(dst)
		}
		dst = m.value(dst, levels)
		dst = m.space(dst)
	}
	return append(dst, brackets[1])
}

// str returns a string with the given number of characters.
func (m generator) str(dst []byte, length int) []byte {
	dst = append(dst, '"')
	for range length {
		switch m.IntN(16) {
		case 0:
			dst = append(dst, pick(m, []string{`\n`, `\"`, `\\`, `\/`, `\b`, `\f`, `\r`, `\t`})...)
		case 1:
			if code := m.IntN(0x10000); code>>11 != 0xd800>>11 && code != 0 {
				dst = fmt.Appendf(dst, pick(m, []string{`\u%04x`, `\u%04X`}), code)
			}
		case 2:
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+m.IntN(0x400), 0xdc00+m.IntN(0x400))
		case 3:
			dst = append(dst, string(rune(0x80+m.IntN(0x10ff80)))...) // U+FFFD for a surrogate
		case 4:
			if m.IntN(20) == 0 {
				dst = append(dst, pick(m, accidents[:5])...)
			}
		default:
			dst = append(dst, "abcdefghij klmnop"[m.IntN(17)])
		}
	}
	return append(dst, '"')
}

// number returns a number, rarely one near numeric's limits.
func (m generator) number(dst []byte) []byte {
	digits := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte("0000123456789"[m.IntN(13)])
		}
		return b.String()
	}
	if m.IntN(4) == 0 {
		dst = append(dst, '-')
	}
	if m.IntN(3) == 0 {
		dst = append(dst, '0')
	} else {
		dst = append(dst, byte('1'+m.IntN(9)))
		dst = append(dst, digits(m.IntN(10)*m.IntN(3))...)
	}
	if m.IntN(2) == 0 {
		dst = append(dst, '.')
		dst = append(dst, digits(1+m.IntN(10)*m.IntN(10))...)
	}
	switch m.IntN(12) {
	case 0, 1, 2:
		dst = fmt.Appendf(dst, "e%d", m.IntN(600)-300)
	case 3:
		dst = append(dst, pick(m, []string{"e+", "E-", "E", "e-000"})...)
		dst = fmt.Appendf(dst, "%d", m.IntN(100))
	case 4:
		dst = fmt.Appendf(dst, "e%d", 131072-m.IntN(20))
	case 5:
		dst = fmt.Appendf(dst, "e%d", -16384+m.IntN(100))
	}
	return dst
}
