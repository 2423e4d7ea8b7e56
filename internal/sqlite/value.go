package sqlite

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Class is the storage class of a SQLite value. In SQLite values have types, not
// columns: a column declared INTEGER may contain values of any class.
type Class uint8

// The storage classes.
const (
	Null Class = iota
	Integer
	Real
	Text
	Blob
)

// String returns the name of the class, as SQLite's typeof() does.
func (c Class) String() string {
	return [...]string{"null", "integer", "real", "text", "blob"}[c]
}

// Value is a cell as SQLite stores it.
type Value struct {
	Class Class
	Int   int64   // of an Integer
	Real  float64 // of a Real
	// Bytes of a Text or a Blob. Text is UTF-8, unless its writer did not encode it
	// correctly. The bytes of a row that was read are valid until the next row is
	// read. They must not be modified.
	Bytes []byte
}

// IntegerValue returns a value of class Integer.
func IntegerValue(v int64) Value { return Value{Class: Integer, Int: v} }

// RealValue returns a value of class Real.
func RealValue(v float64) Value { return Value{Class: Real, Real: v} }

// TextValue returns a value of class Text.
func TextValue(v string) Value { return Value{Class: Text, Bytes: []byte(v)} }

// BlobValue returns a value of class Blob. It retains v.
func BlobValue(v []byte) Value { return Value{Class: Blob, Bytes: v} }

// Clone returns a copy of the value with its own bytes.
func (v Value) Clone() Value {
	v.Bytes = slices.Clone(v.Bytes)
	return v
}

// LongestShown is the maximum number of bytes of a text or blob that String returns.
const LongestShown = 60

// String returns the value as readable text on one line, shortened if it is long.
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
	if len(shown) > LongestShown {
		shown, more = shown[:LongestShown], fmt.Sprintf("… (%d bytes)", len(v.Bytes))
	}
	if v.Class == Blob || !utf8.Valid(v.Bytes) {
		return fmt.Sprintf("x'%x'%s", shown, more)
	}
	if more != "" { // do not split a character
		for !utf8.RuneStart(v.Bytes[len(shown)]) {
			shown = shown[:len(shown)-1]
		}
	}
	return strconv.Quote(string(shown)) + more
}
