package mapping

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"flujo-port/internal/jsonb"
	"flujo-port/internal/sqlite"
)

// longestIndexed is the maximum length in bytes of a text that Flujo has a btree
// index on. PostgreSQL accepts index tuples of at most 2,704 bytes (nbtree.h,
// pages of 8 KB), including header and alignment.
const longestIndexed = 2690

func (c *Converter) appendTextField(dst []byte, f *Field, v sqlite.Value) ([]byte, Reason) {
	field, reason := appendText(dst, v)
	key := f.reference || f.Name == c.Mapping.Table.PrimaryKey
	if key && reason&NULRemoved != 0 {
		reason |= NULInKey
	}
	if (f.indexed || f.reference) && len(field)-len(dst) > longestIndexed {
		reason |= TextTooLong
	}
	return field, reason
}

// appendText appends any value as text that PostgreSQL can store.
func appendText(dst []byte, v sqlite.Value) ([]byte, Reason) {
	switch v.Class {
	case sqlite.Integer:
		return strconv.AppendInt(dst, v.Int, 10), NumberAsText
	case sqlite.Real:
		real := v.Real
		if real == 0 {
			real = 0 // not -0: they are the same key to SQLite
		}
		return strconv.AppendFloat(dst, real, 'g', -1, 64), NumberAsText
	}
	return appendUTF8(dst, v.Bytes)
}

// appendUTF8 appends s without NUL and with U+FFFD for each byte that is not
// part of a UTF-8 character.
func appendUTF8(dst, s []byte) ([]byte, Reason) {
	if utf8.Valid(s) && bytes.IndexByte(s, 0) < 0 {
		return append(dst, s...), 0
	}
	var reason Reason
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		switch {
		case r == 0:
			reason |= NULRemoved
		case r == utf8.RuneError && size == 1:
			reason |= InvalidUTF8
			dst = utf8.AppendRune(dst, utf8.RuneError)
		default:
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
	return dst, reason
}

// number returns the number that v represents: whole if isWhole is set, else
// fraction. The reason is NotANumber if v represents none.
func number(v sqlite.Value) (whole int64, fraction float64, isWhole bool, reason Reason) {
	switch v.Class {
	case sqlite.Integer:
		return v.Int, 0, true, 0
	case sqlite.Real:
		return 0, v.Real, false, 0
	case sqlite.Text:
		s := strings.TrimSpace(string(v.Bytes))
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i, 0, true, TextAsNumber
		}
		if strings.Trim(s, "0123456789.eE+-") == "" { // excludes the words and hexadecimals that ParseFloat accepts
			if f, err := strconv.ParseFloat(s, 64); err == nil {
				return 0, f, false, TextAsNumber
			}
		}
	}
	return 0, 0, false, NotANumber
}

// wholeNumber returns the number that v represents, rounded to a whole number,
// ties to even. With NotANumber or OutOfRange there is none.
func wholeNumber(v sqlite.Value) (int64, Reason) {
	i, fraction, isWhole, reason := number(v)
	if isWhole || reason&NotANumber != 0 {
		return i, reason
	}
	rounded := math.RoundToEven(fraction)
	if !(rounded >= math.MinInt64 && rounded < math.MaxInt64) {
		return 0, reason | OutOfRange
	}
	if rounded != fraction {
		reason |= Rounded
	}
	return int64(rounded), reason
}

func (c *Converter) appendInt(
	dst []byte,
	f *Field,
	v sqlite.Value,
) (field []byte, null bool, reason Reason, err error) {
	i, reason := wholeNumber(v)
	if reason&(NotANumber|OutOfRange) != 0 {
		return dst, true, reason, nil
	}
	if c.Types.Wide[c.Mapping.Table.Name+"."+f.Name] {
		return binary.BigEndian.AppendUint64(dst, uint64(i)), false, reason, nil
	}
	if i < math.MinInt32 || i > math.MaxInt32 {
		return dst, true, 0, &WidenError{Table: c.Mapping.Table.Name, Column: f.Name}
	}
	return binary.BigEndian.AppendUint32(dst, uint32(int32(i))), false, reason, nil
}

func (c *Converter) appendFloat(dst []byte, f *Field, v sqlite.Value) (field []byte, null bool, reason Reason) {
	i, x, isWhole, reason := number(v)
	if reason&NotANumber != 0 {
		return dst, true, NotANumber
	}
	if isWhole {
		x = float64(i)
		if i == math.MaxInt64 || int64(x) != i {
			reason |= Rounded
		}
	}
	if f.Kind == KindFloat8 || c.Types.Double[c.Mapping.Table.Name+"."+f.Name] {
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(x)), false, reason
	}
	short := float32(x)
	if math.IsInf(float64(short), 0) && !math.IsInf(x, 0) {
		return dst, true, reason | OutOfRange
	}
	if float64(short) != x {
		c.losses = append(c.losses, roundingLoss{column: f.Name, relative: math.Abs(float64(short)-x) / math.Abs(x)})
	}
	return binary.BigEndian.AppendUint32(dst, math.Float32bits(short)), false, reason
}

// appendBool converts a value as SQLite and Python do: 0 and empty values are
// false, and any other value is true.
func appendBool(dst []byte, v sqlite.Value) ([]byte, Reason) {
	bit, reason := byte(0), InvalidBoolean
	switch v.Class {
	case sqlite.Integer:
		if v.Int != 0 {
			bit = 1
		}
		if v.Int == 0 || v.Int == 1 {
			reason = 0
		}
	case sqlite.Real:
		if v.Real != 0 {
			bit = 1
		}
		if v.Real == 0 || v.Real == 1 {
			reason = 0
		}
	default:
		if len(v.Bytes) > 0 {
			bit = 1
		}
	}
	return append(dst, bit), reason
}

// appendJSON converts JSON's null to NULL if the column is nullable. For a step
// without output, Flujo's SQLite backend writes the text null, and its PostgreSQL
// backend writes NULL.
func (c *Converter) appendJSON(dst []byte, f *Field, v sqlite.Value) (field []byte, null bool, reason Reason) {
	s := v.Bytes
	switch v.Class {
	case sqlite.Integer, sqlite.Real:
		text, _ := appendText(nil, v)
		if v.Class == sqlite.Real && math.IsInf(v.Real, 0) {
			text = []byte(map[bool]string{true: "-Infinity", false: "Infinity"}[v.Real < 0])
		}
		s, reason = text, NumberAsText
	}
	if !f.NotNull && string(bytes.Trim(s, " \t\r\n")) == "null" {
		return dst, true, reason
	}
	field, flaws := jsonb.AppendRepaired(append(dst, 1), s, c.Options.JSONDepth) // 1: version of jsonb's binary format
	return field, false, reason | jsonReasons(flaws)
}

// jsonReasons returns the reasons that correspond to flaws.
func jsonReasons(flaws jsonb.Flaws) (reason Reason) {
	if flaws == 0 {
		return 0
	}
	for _, pair := range []struct {
		flaw   jsonb.Flaws
		reason Reason
	}{
		{jsonb.NUL, NULRemoved},
		{jsonb.LoneSurrogate, LoneSurrogate},
		{jsonb.InvalidUTF8, InvalidUTF8},
		{jsonb.NonFiniteNumber, NonFiniteNumber},
		{jsonb.Invalid, InvalidJSON},
		{jsonb.NumberOutOfRange, JSONNumberOutOfRange},
		{jsonb.TooDeep, JSONTooDeep},
		{jsonb.TooLarge, JSONTooLarge},
	} {
		if flaws&pair.flaw != 0 {
			reason |= pair.reason
		}
	}
	return reason
}

// appendTime converts the cell's timestamp. If it is missing or unreadable, the best
// fallback is taken: a column of the row with the same meaning, else the result of
// InferTime.
func (c *Converter) appendTime(
	dst []byte, f *Field, v sqlite.Value, row []sqlite.Value,
) (field []byte, null bool, reason Reason, err error) {
	at, reason, ok := c.Options.ReadTime(v)
	switch {
	case ok:
	case v.Class == sqlite.Null && !f.NotNull:
		return dst, true, 0, nil
	default:
		note := ""
		if at, note, err = c.fallbackTime(f, row); err != nil {
			return dst, false, 0, err
		}
		reason = TimeInferred
		c.changes = append(c.changes, Change{Column: f.Name, Reason: reason, Note: note, Original: v})
	}
	if at.Naive {
		c.naiveColumns = append(c.naiveColumns, f.Name)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(at.Micros)), false, reason, nil
}

func (c *Converter) fallbackTime(f *Field, row []sqlite.Value) (Time, string, error) {
	for _, w := range f.fallbacks {
		if at, _, ok := c.Options.ReadTime(row[w]); ok {
			return at, c.Mapping.Table.Name + "." + c.Mapping.Columns[w-1], nil
		}
	}
	return c.InferTime(c.Mapping.Table.Name, f.Name, row)
}

// ReadTime reads a timestamp of any storage class. The reason says how it was
// changed. ok is false if v is not a timestamp in the years 1 to 9999.
func (o *Options) ReadTime(v sqlite.Value) (at Time, reason Reason, ok bool) {
	switch v.Class {
	case sqlite.Text, sqlite.Blob:
		at, ok = ParseTime(v.Bytes)
		if at.Truncated {
			reason = TimeTruncated
		}
		if at.Naive {
			if at = at.in(o.NaiveZone); !at.inRange() {
				return Time{}, 0, false
			}
		}
		return at, reason, ok
	case sqlite.Integer:
		return epoch(float64(v.Int))
	case sqlite.Real:
		return epoch(v.Real)
	}
	return Time{}, 0, false
}

// epoch converts seconds since 1970 to a time. ok is false outside of the years 1 to
// 9999, the range of Python's datetime.
func epoch(seconds float64) (at Time, reason Reason, ok bool) {
	if !(seconds >= yearOne && seconds < year10000) {
		return Time{}, 0, false
	}
	whole := math.Floor(seconds)
	micros := int64(math.RoundToEven((seconds - whole) * 1e6))
	return Time{Micros: (int64(whole)-postgresEpoch)*1e6 + micros}, EpochTime, true
}

// appendVector converts packed little-endian float32, in which Flujo's SQLite
// backend stores a memory's vector, to pgvector's binary format (vector_recv): two
// uint16, the dimension and zero, then the floats, all big-endian.
func (c *Converter) appendVector(dst []byte, v sqlite.Value) ([]byte, Reason) {
	if v.Class != sqlite.Blob || len(v.Bytes) == 0 || len(v.Bytes)%4 != 0 {
		return dst, InvalidVector
	}
	if len(v.Bytes) != c.Types.VectorSize*4 {
		return dst, VectorDimensionMismatch
	}
	field := binary.BigEndian.AppendUint16(dst, uint16(c.Types.VectorSize))
	field = append(field, 0, 0)
	for i := 0; i < len(v.Bytes); i += 4 {
		bits := binary.LittleEndian.Uint32(v.Bytes[i:])
		const exponent = 0x7f800000 // all bits set: NaN or Infinity
		if bits&exponent == exponent {
			return dst, InvalidVector
		}
		field = binary.BigEndian.AppendUint32(field, bits)
	}
	return field, 0
}
