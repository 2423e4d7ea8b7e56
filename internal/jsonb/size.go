package jsonb

// The size limits of jsonb (jsonb.h, jsonb_util.c), in bytes before compression.
const (
	// maxSize is JENTRY_OFFLENMASK: the maximum size of a string or key
	// (checkStringLen in jsonb.c), and of an array or object including its
	// contents (convertJsonbArray and convertJsonbObject).
	maxSize = 1<<28 - 1

	// maxParts is the maximum number of elements of an array. An object may have
	// half as many pairs. While it parses, the server needs 32 bytes for an element
	// and 72 for a pair. It allocates space for 4, doubles it when it is full, and
	// cannot allocate more than 1 GB (appendElement and appendKey).
	maxParts = 1 << 24

	// maxText is the maximum length of a text that is sent to the server: with one
	// byte before and one after it, it must be at most MaxAllocSize, 1 GB less 1.
	maxText = 1<<30 - 3

	// alwaysFits is the length up to which no text exceeds any of these limits. An
	// element takes at least two bytes of text, with its comma, and at most six
	// times as much in the jsonb; a pair takes at least five bytes of text.
	alwaysFits = 2 * maxParts
)

// fits reports whether s is certain to be within jsonb's size limits. s must be JSON
// that jsonb accepts otherwise. The limit of parts applies to the whole text.
func fits(s []byte) bool {
	if len(s) <= alwaysFits {
		return true
	}
	parts, size := bound(s)
	return len(s) <= maxText && parts <= maxParts && size <= maxSize
}

// bound returns the number of keys and values in s, and a size in bytes that its jsonb
// does not exceed.
//
// A part has an entry of 4 bytes and a content. That of a string has at most the
// length of its text, that of a number a header of at most 8 bytes and 2 for each
// group of four digits, and that of an array or object a header of 4 bytes, apart
// from its own parts. Some contents begin at a multiple of 4.
func bound(s []byte) (parts, size int) {
	z := scanner{s: s}
	size = 4 // a scalar is stored as an array with one element
	for i := 0; i < len(s); {
		from, content := i, 0
		switch c := s[i]; {
		case c == '"':
			i = z.text(i + 1)
			content = i - from - 2
		case c == '[' || c == '{':
			i++
			content = 4
		case c == '-' || c-'0' <= 9:
			_, i = parseNumber(s, i)
			content = 8 + 2*((i-from+6)/4)
		case c == 't' || c == 'f' || c == 'n':
			i += len("true") // the last letter of false is skipped like a comma
		default:
			i++
			continue
		}
		parts++
		size += 4 + (content+3)&^3
	}
	return parts, size
}
