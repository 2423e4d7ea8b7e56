package jsonb

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// The size limits of jsonb (jsonb.h, jsonb_util.c), in bytes before compression.
const (
	// jsonbLimit is JENTRY_OFFLENMASK: the maximum size of a string or key
	// (checkStringLen in jsonb.c), and of an array or object including its
	// contents (convertJsonbArray and convertJsonbObject).
	jsonbLimit = 1<<28 - 1

	// mostElements and mostPairs are the maximum numbers of elements of an array
	// and of pairs of an object. While it parses, the server needs 32 bytes for an
	// element and 72 for a pair. It allocates space for 4, doubles it when it is
	// full, and cannot allocate more than 1 GB (appendElement and appendKey).
	// Pairs that a later pair with the same key replaces are counted.
	mostElements = 1 << 24
	mostPairs    = 1 << 23

	// longestText is the maximum length of a text that is sent to the server: with
	// one byte before and one after it, it must be at most MaxAllocSize, 1 GB less 1.
	longestText = 1<<30 - 3

	// alwaysFits is the length up to which no text exceeds any of these limits. An
	// element takes at least two bytes of text, with its comma, and adds at most
	// 4 and 8 bytes to the jsonb; a pair takes at least five bytes of text.
	alwaysFits = 2 * mostElements
)

// jsonbFits reports whether s is within jsonb's size limits. s must be JSON that
// jsonb accepts otherwise.
func jsonbFits(s []byte) bool {
	if len(s) > longestText {
		return false
	}
	size, ok := jsonbSize(s)
	return ok && size <= jsonbLimit
}

// jsonbSize returns the size in bytes of s as jsonb: pg_column_size without the
// varlena header of 4. s must be JSON that jsonb accepts apart from its size. ok is
// false if a string or key is too long, or an array or object has too many parts,
// even if a later pair with the same key replaces it.
func jsonbSize(s []byte) (size int, ok bool) {
	m := jsonbMeter{s: s}
	root := m.measure()
	if m.tooLarge {
		return 0, false
	}
	if !root.container {
		root.size += 8 // a scalar is stored as an array with one element
	}
	return root.size, true
}

// jsonbPart is the size of a key, value or element.
type jsonbPart struct {
	size      int
	aligned   bool // begins at a multiple of 4, as numbers, arrays and objects do
	container bool
}

// jsonbOpen is an array or object whose end has not been read.
type jsonbOpen struct {
	object   bool
	parts    int // elements so far
	data     int // bytes of the elements so far
	firstKey int // index of an object's first pair in jsonbMeter.pairs
}

// jsonbPair is a pair of an object whose end has not been read. It is small, since
// there may be millions of them.
type jsonbPair struct {
	from, to int32 // range of the key in s, between its quotes
	keySize  int32 // bytes of the key, unescaped
	size     int32 // of the value
	aligned  bool
}

// jsonbMeter computes the size of a JSON text as jsonb.
type jsonbMeter struct {
	s        []byte
	i        int
	open     []jsonbOpen
	pairs    []jsonbPair // of all open objects
	tooLarge bool
}

// measure returns the size of the text, which is one value.
func (m *jsonbMeter) measure() jsonbPart {
	for {
		part, opened := m.value()
		if opened {
			continue
		}
		for {
			if len(m.open) == 0 {
				return part
			}
			m.add(part)
			if m.skipTo(); m.s[m.i] == ',' {
				m.i++
				m.keyIfObject()
				break
			}
			part = m.close()
		}
	}
}

// value reads a scalar or an empty array or object, or opens one that is not
// empty.
func (m *jsonbMeter) value() (part jsonbPart, opened bool) {
	switch m.skipTo(); m.s[m.i] {
	case '{', '[':
		m.open = append(m.open, jsonbOpen{object: m.s[m.i] == '{', firstKey: len(m.pairs)})
		m.i++
		m.skipTo()
		if c := m.s[m.i]; c == '}' || c == ']' {
			return m.close(), false
		}
		m.keyIfObject()
		return part, true
	case '"':
		_, _, part.size = m.text()
		return part, false
	case 't', 'n':
		m.i += 4
		return part, false
	case 'f':
		m.i += 5
		return part, false
	}
	n, end := parseNumber(m.s, m.i)
	m.i = end
	return jsonbPart{size: n.numericSize(), aligned: true}, false
}

func (m *jsonbMeter) skipTo() { m.i = skipSpace(m.s, m.i) }

// text reads a string and returns its range between the quotes, and its size in
// bytes without escapes.
func (m *jsonbMeter) text() (from, to, size int) {
	from = m.i + 1
	z := scanner{s: m.s}
	m.i = z.text(from)
	to = m.i - 1
	size = to - from
	for rest := m.s[from:to]; ; {
		n := bytes.IndexByte(rest, '\\')
		if n < 0 {
			break
		}
		r, length := unescape(rest[n:])
		size += utf8.RuneLen(r) - length
		rest = rest[n+length:]
	}
	if size > jsonbLimit {
		m.tooLarge = true
	}
	return from, to, size
}

// keyIfObject reads a key and its colon if the innermost open container is an
// object.
func (m *jsonbMeter) keyIfObject() {
	if !m.open[len(m.open)-1].object {
		return
	}
	m.skipTo()
	from, to, size := m.text()
	m.pairs = append(m.pairs, jsonbPair{from: int32(from), to: int32(to), keySize: int32(size)})
	m.skipTo()
	m.i++
}

// add adds a value to the innermost open container.
func (m *jsonbMeter) add(part jsonbPart) {
	in := &m.open[len(m.open)-1]
	if in.object {
		pair := &m.pairs[len(m.pairs)-1]
		pair.size, pair.aligned = int32(min(part.size, jsonbLimit+1)), part.aligned
		if len(m.pairs)-in.firstKey > mostPairs {
			m.tooLarge = true
		}
		return
	}
	if in.parts++; in.parts > mostElements {
		m.tooLarge = true
	}
	in.data = after(in.data, part.size, part.aligned)
}

// after returns the end of a part of the given size that follows data bytes of
// other parts.
func after(data, size int, aligned bool) int {
	if aligned {
		data = (data + 3) &^ 3
	}
	return data + size
}

// close reads the end of the innermost open container and returns its size: a
// header of 4 bytes, 4 bytes for each element, key and value, and then the elements,
// or the keys followed by the values in the order of their keys.
func (m *jsonbMeter) close() jsonbPart {
	m.i++
	last := len(m.open) - 1
	in := m.open[last]
	m.open = m.open[:last]
	size := 4 + 4*in.parts + in.data
	if in.object {
		pairs := m.unique(m.pairs[in.firstKey:])
		data := 0
		for i := range pairs {
			data += int(pairs[i].keySize)
		}
		for i := range pairs {
			data = after(data, int(pairs[i].size), pairs[i].aligned)
		}
		size = 4 + 8*len(pairs) + data
		m.pairs = m.pairs[:in.firstKey]
	}
	return jsonbPart{size: size, aligned: true, container: true}
}

// unique sorts pairs in jsonb's order, by the length of the key, then by its bytes
// (lengthCompareJsonbPair), and returns the last pair of each key
// (uniqueifyJsonbObject). It reuses the slice.
func (m *jsonbMeter) unique(pairs []jsonbPair) []jsonbPair {
	slices.SortStableFunc(pairs, m.comparePairs)
	n := 0
	for i := range pairs {
		if i > 0 && m.comparePairs(pairs[n-1], pairs[i]) == 0 {
			n--
		}
		pairs[n] = pairs[i]
		n++
	}
	return pairs[:n]
}

func (m *jsonbMeter) comparePairs(a, b jsonbPair) int {
	if a.keySize != b.keySize {
		return int(a.keySize) - int(b.keySize)
	}
	return bytes.Compare(m.unescaped(a), m.unescaped(b))
}

// unescaped returns the key of a pair without escapes.
func (m *jsonbMeter) unescaped(p jsonbPair) []byte {
	raw := m.s[p.from:p.to]
	if len(raw) == int(p.keySize) {
		return raw // no escapes: each is longer than its character
	}
	key := make([]byte, 0, p.keySize)
	for len(raw) > 0 {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 {
			return append(key, raw...)
		}
		key = append(key, raw[:n]...)
		r, length := unescape(raw[n:])
		key = utf8.AppendRune(key, r)
		raw = raw[n+length:]
	}
	return key
}
