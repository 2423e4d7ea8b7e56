package jsonb

import (
	"bytes"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// Canonicalizer prints JSON as PostgreSQL prints the jsonb of it (jsonb_out): white
// space only after ':' and ','; keys sorted by length, then by bytes, and only the
// last of equal keys; strings with the fewest escapes; numbers as numeric prints
// them. The zero value is ready to use. A Canonicalizer reuses its buffers, and is
// not safe for concurrent use.
type Canonicalizer struct {
	pairs []pair // of the open objects, inner ones last
	keys  []byte // the unescaped keys of pairs
	spare []byte // an object's text while its pairs are sorted
}

// pair is a key and its value.
type pair struct {
	key, keyEnd int // the key's range in keys
	from, to    int // the pair's range in dst, without a separator
}

// Append appends s to dst as jsonb prints it. s must be a text that jsonb accepts,
// such as AppendRepaired returns. s and the spare capacity of dst must not overlap.
func (c *Canonicalizer) Append(dst, s []byte) []byte {
	c.pairs, c.keys = c.pairs[:0], c.keys[:0]
	dst, _ = c.value(dst, s, 0)
	if cap(c.spare) > maxBufferBytes {
		c.spare = nil
	}
	return dst
}

// maxBufferBytes is the maximum size of a buffer that is reused for the next row.
const maxBufferBytes = 4 << 20

// value appends the value that begins at s[i] or after white space there, and
// returns the index after it.
func (c *Canonicalizer) value(dst, s []byte, i int) ([]byte, int) {
	i = skipSpace(s, i)
	switch s[i] {
	case '{':
		return c.object(dst, s, i)
	case '[':
		return c.array(dst, s, i)
	case '"':
		dst, i, _ = appendReescaped(dst, s, i)
		return dst, i
	case 't', 'n':
		return append(dst, s[i:i+4]...), i + 4
	case 'f':
		return append(dst, s[i:i+5]...), i + 5
	}
	return appendNumeric(dst, s, i)
}

func (c *Canonicalizer) array(dst, s []byte, i int) ([]byte, int) {
	dst = append(dst, '[')
	if i = skipSpace(s, i+1); s[i] == ']' {
		return append(dst, ']'), i + 1
	}
	for {
		dst, i = c.value(dst, s, i)
		i = skipSpace(s, i)
		if s[i] == ']' {
			return append(dst, ']'), i + 1
		}
		dst = append(dst, ", "...)
		i++
	}
}

func (c *Canonicalizer) object(dst, s []byte, i int) ([]byte, int) {
	dst = append(dst, '{')
	if i = skipSpace(s, i+1); s[i] == '}' {
		return append(dst, '}'), i + 1
	}
	first, firstKey, start := len(c.pairs), len(c.keys), len(dst)
	inOrder := true
	for {
		i = skipSpace(s, i)
		p := pair{key: len(c.keys), from: len(dst)}
		dst, i = c.key(dst, s, i)
		p.keyEnd = len(c.keys)
		if n := len(c.pairs); n > first {
			inOrder = inOrder && c.compare(c.pairs[n-1], p) < 0
		}
		i = skipSpace(s, i) + 1 // the colon
		dst = append(dst, ": "...)
		dst, i = c.value(dst, s, i)
		p.to = len(dst)
		c.pairs = append(c.pairs, p)
		i = skipSpace(s, i)
		if s[i] == '}' {
			break
		}
		dst = append(dst, ", "...)
		i++
	}
	if !inOrder {
		dst = c.sort(dst, start, c.pairs[first:])
	}
	c.pairs, c.keys = c.pairs[:first], c.keys[:firstKey]
	return append(dst, '}'), i + 1
}

// IsCanonical reports whether Append would append s as it is. s must be as Append requires
// it. It needs no memory for s, except for its longest string.
func (c *Canonicalizer) IsCanonical(s []byte) bool {
	c.pairs, c.keys = c.pairs[:0], c.keys[:0]
	end := c.canonicalValue(s, 0)
	if cap(c.spare)+cap(c.keys) > maxBufferBytes {
		c.spare, c.keys = nil, nil
	}
	return end == len(s)
}

// canonicalValue returns the index after the value at s[i], or -1 if it is not printed as
// jsonb prints it.
func (c *Canonicalizer) canonicalValue(s []byte, i int) int {
	if i >= len(s) {
		return -1
	}
	switch s[i] {
	case '{':
		return c.canonicalObject(s, i)
	case '[':
		return c.canonicalList(s, i, ']', c.canonicalValue)
	case '"', 't', 'n', 'f', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		end := i
		c.spare, end = c.value(c.spare[:0], s, i)
		if !bytes.Equal(c.spare, s[i:end]) {
			return -1
		}
		return end
	}
	return -1 // white space
}

// canonicalList is canonicalValue for what is between s[i] and last, separated by commas.
func (c *Canonicalizer) canonicalList(s []byte, i int, last byte, part func([]byte, int) int) int {
	if i++; s[i] == last {
		return i + 1
	}
	for {
		if i = part(s, i); i < 0 {
			return -1
		}
		if s[i] == last {
			return i + 1
		}
		if !bytes.HasPrefix(s[i:], []byte(", ")) {
			return -1
		}
		i += len(", ")
	}
}

// canonicalObject is canonicalValue for an object.
func (c *Canonicalizer) canonicalObject(s []byte, i int) int {
	firstKey := len(c.keys)
	defer func() { c.keys = c.keys[:firstKey] }()
	var last pair
	first := true
	return c.canonicalList(s, i, '}', func(s []byte, i int) int {
		if s[i] != '"' {
			return -1
		}
		p := pair{key: len(c.keys)}
		end := i
		c.spare, end = c.key(c.spare[:0], s, i)
		p.keyEnd = len(c.keys)
		if !bytes.Equal(c.spare, s[i:end]) || !first && c.compare(last, p) >= 0 ||
			!bytes.HasPrefix(s[end:], []byte(": ")) {
			return -1
		}
		// Only the last key is needed.
		n := copy(c.keys[firstKey:], c.keys[p.key:p.keyEnd])
		c.keys = c.keys[:firstKey+n]
		last, first = pair{key: firstKey, keyEnd: firstKey + n}, false
		return c.canonicalValue(s, end+len(": "))
	})
}

// compare orders keys as jsonb does (lengthCompareJsonbStringValue in
// jsonb_util.c): shorter keys first, then by bytes.
func (c *Canonicalizer) compare(a, b pair) int {
	if d := (a.keyEnd - a.key) - (b.keyEnd - b.key); d != 0 {
		return d
	}
	return bytes.Compare(c.keys[a.key:a.keyEnd], c.keys[b.key:b.keyEnd])
}

// sort puts the pairs of an object, whose text begins at start, into jsonb's order.
// Of pairs with the same key, only the last remains.
func (c *Canonicalizer) sort(dst []byte, start int, pairs []pair) []byte {
	slices.SortStableFunc(pairs, func(a, b pair) int { return c.compare(a, b) })
	c.spare = append(c.spare[:0], dst[start:]...)
	dst = dst[:start]
	for n, p := range pairs {
		if n+1 < len(pairs) && c.compare(p, pairs[n+1]) == 0 {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ", "...)
		}
		dst = append(dst, c.spare[p.from-start:p.to-start]...)
	}
	return dst
}

// appendReescaped appends the string that begins at s[i], escaped as escape_json
// (json.c) does, and returns the index after it. plain reports whether the
// string has no escapes.
func appendReescaped(dst, s []byte, i int) (_ []byte, end int, plain bool) {
	dst = append(dst, '"')
	i++
	// The closing quote is searched again only if the one found is escaped.
	// Otherwise a long string would be read to its end for each escape.
	quote := i + bytes.IndexByte(s[i:], '"')
	for plain = true; ; plain = false {
		n := bytes.IndexByte(s[i:quote], '\\')
		if n < 0 {
			return append(append(dst, s[i:quote]...), '"'), quote + 1, plain
		}
		dst = append(dst, s[i:i+n]...)
		r, length := unescape(s[i+n:])
		dst = appendEscape(dst, r)
		if i += n + length; i > quote {
			quote = i + bytes.IndexByte(s[i:], '"')
		}
	}
}

// key appends the string that begins at s[i] to dst, and its content to keys.
func (c *Canonicalizer) key(dst, s []byte, i int) (_ []byte, end int) {
	from := len(dst) + 1
	dst, end, plain := appendReescaped(dst, s, i)
	content := dst[from : len(dst)-1]
	if plain {
		c.keys = append(c.keys, content...)
		return dst, end
	}
	for len(content) > 0 {
		if content[0] != '\\' {
			c.keys = append(c.keys, content[0])
			content = content[1:]
			continue
		}
		r, length := unescape(content)
		c.keys = utf8.AppendRune(c.keys, r)
		content = content[length:]
	}
	return dst, end
}

// unescape returns the character of the escape or surrogate pair at the start of s,
// and the length of the escape in bytes.
func unescape(s []byte) (r rune, length int) {
	switch s[1] {
	case 'u':
		r = hex4(s, 2)
		if utf16.IsSurrogate(r) {
			return utf16.DecodeRune(r, hex4(s, 8)), 12
		}
		return r, 6
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	return rune(s[1]), 2
}

// appendEscape appends a character as escape_json prints it.
func appendEscape(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	if r < ' ' {
		return append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// appendNumeric appends the number at s[i] as numeric prints it (numeric_in and
// numeric_out in numeric.c), and returns the index after it. The number has no
// exponent, as many digits after the point as were written less the exponent, and
// zero has no sign.
func appendNumeric(dst, s []byte, i int) (_ []byte, end int) {
	n, end := parseNumber(s, i)
	if s[i] == '-' && (hasValue(n.whole) || hasValue(n.decimals)) {
		dst = append(dst, '-')
	}
	switch {
	case n.exponent > 0:
		return appendShiftedUp(dst, n.whole, n.decimals, n.exponent), end
	case n.exponent < 0:
		return appendShiftedDown(dst, n.whole, n.decimals, -n.exponent), end
	}
	dst = append(dst, n.whole...)
	if len(n.decimals) > 0 {
		dst = append(append(dst, '.'), n.decimals...)
	}
	return dst, end
}

// hasValue reports whether a digit is not 0.
func hasValue(digits []byte) bool { return len(bytes.TrimLeft(digits, "0")) > 0 }

// appendShiftedUp appends the number with its point moved places to the right.
// whole is 0 or does not begin with 0.
func appendShiftedUp(dst, whole, decimals []byte, places int) []byte {
	n := min(places, len(decimals))
	moved := decimals[:n]
	if whole[0] == '0' {
		whole, moved = bytes.TrimLeft(moved, "0"), nil
	}
	if len(whole) == 0 {
		dst = append(dst, '0') // zero has one digit, however many places the point moves
	} else {
		dst = append(append(dst, whole...), moved...)
		dst = appendZeros(dst, places-n)
	}
	if n < len(decimals) {
		dst = append(append(dst, '.'), decimals[n:]...)
	}
	return dst
}

// appendShiftedDown appends the number with its point moved places to the left.
func appendShiftedDown(dst, whole, decimals []byte, places int) []byte {
	n := max(0, len(whole)-places)
	if n == 0 {
		dst = append(dst, '0')
	}
	dst = append(append(dst, whole[:n]...), '.')
	dst = appendZeros(dst, places-len(whole)+n)
	return append(append(dst, whole[n:]...), decimals...)
}

func appendZeros(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, '0')
	}
	return dst
}
