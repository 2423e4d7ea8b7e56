// Package mapping is what Flujo's state is: its tables and columns, the
// file formats a file can have, and the conversion of every cell to what
// PostgreSQL stores. Plain data and pure functions; no I/O.
package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Class is the storage class of a SQLite value. SQLite types values, not
// columns: a column declared INTEGER may hold any of them.
type Class uint8

// The storage classes.
const (
	Null Class = iota
	Integer
	Real
	Text
	Blob
)

// String gives SQLite's own word, as typeof() does.
func (c Class) String() string {
	return [...]string{"null", "integer", "real", "text", "blob"}[c]
}

// Value is one cell as SQLite stores it.
type Value struct {
	Class Class
	Int   int64   // of an Integer
	Real  float64 // of a Real
	// Bytes of a Text (in UTF-8 as far as the writer kept to it) or a Blob.
	// Valid until the next row is read; never to be changed.
	Bytes []byte
}

// IntegerValue, RealValue, TextValue and BlobValue make values of their class.
func IntegerValue(v int64) Value { return Value{Class: Integer, Int: v} }

// RealValue makes a value of class Real.
func RealValue(v float64) Value { return Value{Class: Real, Real: v} }

// TextValue makes a value of class Text.
func TextValue(v string) Value { return Value{Class: Text, Bytes: []byte(v)} }

// BlobValue makes a value of class Blob; it keeps v.
func BlobValue(v []byte) Value { return Value{Class: Blob, Bytes: v} }

// Clone gives the value with bytes of its own.
func (v Value) Clone() Value {
	v.Bytes = slices.Clone(v.Bytes)
	return v
}

// longestShown is how many bytes of a value an error or a report shows.
const longestShown = 60

// String shows the value on one line for a person, cut when it is long.
func (v Value) String() string {
	switch v.Class {
	case Null:
		return "NULL"
	case Integer:
		return strconv.FormatInt(v.Int, 10)
	case Real:
		return strconv.FormatFloat(v.Real, 'g', -1, 64)
	}
	shown, more := v.Bytes, ""
	if len(shown) > longestShown {
		shown, more = shown[:longestShown], fmt.Sprintf("… (%d bytes)", len(v.Bytes))
	}
	if v.Class == Blob || !utf8.Valid(v.Bytes) {
		return fmt.Sprintf("x'%x'%s", shown, more)
	}
	if more != "" { // not in the middle of a character
		for !utf8.RuneStart(v.Bytes[len(shown)]) {
			shown = shown[:len(shown)-1]
		}
	}
	return strconv.Quote(string(shown)) + more
}
