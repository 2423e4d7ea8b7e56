// Package jsonb repairs JSON so that PostgreSQL's jsonb accepts it, and prints it as
// PostgreSQL prints it. It does no I/O: what the server accepts and prints is known
// from PostgreSQL's source, and compared with a server in tests. References to its
// files are to PostgreSQL 15. The encoding of the database is UTF8.
package jsonb

import (
	"bytes"
	"unicode/utf8"
)

// Flaws is a set of reasons why jsonb rejects a JSON text. Zero means that it accepts
// the text.
//
// NUL, LoneSurrogate, InvalidUTF8 and NonFiniteNumber are repaired in place if the
// rest of the text is JSON. A raw NUL or invalid byte outside of a string is Invalid.
// With Invalid, NumberOutOfRange or TooDeep, the whole text becomes one JSON string.
// NUL and InvalidUTF8 then describe how the string's content differs from the text;
// escapes, NaN and Infinity in it remain as they are written.
type Flaws uint16

// The flaws.
const (
	NUL              Flaws = 1 << iota // an escaped or raw NUL: removed
	LoneSurrogate                      // a lone surrogate escape: replaced with U+FFFD
	InvalidUTF8                        // each byte that is not UTF-8: replaced with U+FFFD
	NonFiniteNumber                    // NaN, Infinity or -Infinity as a value: replaced with a string
	Invalid                            // not JSON: the text becomes a JSON string
	NumberOutOfRange                   // a number that numeric cannot hold: the text becomes a JSON string
	TooDeep                            // nested too deeply: the text becomes a JSON string
	TooLarge                           // may exceed jsonb's size limits (see fits): cannot be stored
)

// flawsOfAll are the flaws for which the whole text becomes one JSON string.
const flawsOfAll = Invalid | NumberOutOfRange | TooDeep

// replacement replaces a character that jsonb cannot store.
const replacement = string(utf8.RuneError)

// AppendRepaired appends s to dst, repaired so that jsonb accepts it, and returns the
// flaws that were repaired. Without flaws s is appended unchanged. With TooLarge
// nothing is appended. Arrays and objects may be nested maxDepth levels deep. It does
// not allocate for a text without flaws, if dst has the capacity. s and the spare
// capacity of dst must not overlap.
//
// Two keys may become equal when a NUL is removed from one; jsonb stores the last.
func AppendRepaired(dst, s []byte, maxDepth int) ([]byte, Flaws) {
	z := scanner{s: s, max: maxDepth, dst: dst, repairing: true}
	flaws := z.verdict()
	var out []byte
	switch {
	case flaws == 0:
		out = append(dst, s...)
	case flaws&flawsOfAll != 0:
		out = appendString(dst, s)
	default:
		out = append(z.dst, s[z.copied:]...)
	}
	if !fits(out[len(dst):]) {
		return dst, flaws | TooLarge
	}
	return out, flaws
}

// appendString appends s to dst as a JSON string. NULs are removed, and each byte
// that is not UTF-8 is replaced with U+FFFD.
func appendString(dst, s []byte) []byte {
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

// flawsInString returns the flaws that appendString repairs in s.
func flawsInString(s []byte) (flaws Flaws) {
	if bytes.IndexByte(s, 0) >= 0 {
		flaws |= NUL
	}
	if !utf8.Valid(s) {
		flaws |= InvalidUTF8
	}
	return flaws
}
