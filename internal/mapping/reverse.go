package mapping

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ReverseConverter makes rows of a SQLite file, as Flujo's SQLite backend writes them, of
// rows in PostgreSQL.
type ReverseConverter struct {
	Table *Table
	Types *Types
	// Nulls counts, by column, the NonFiniteNumber that became NULL, since SQLite holds none.
	Nulls map[string]int64

	values []Value
	buf    []byte // of the row's cells that are not parts of the encoding
}

// UnrepresentableError is returned by Row for a cell that a SQLite file of Flujo's
// can't hold.
type UnrepresentableError struct{ Table, Key, Column, Message string }

func (e *UnrepresentableError) Error() string {
	return fmt.Sprintf("%s %q, column %s: %s", e.Table, e.Key, e.Column, e.Message)
}

// Row gives the values of the row that encoding is the encoding of, in the order of
// Table.FileColumns; what PostgreSQL does not have is NULL. They are good until
// the next call, and parts of the encoding.
func (b *ReverseConverter) Row(encoding []byte) ([]Value, error) {
	if cap(b.buf) > maxBufferBytes {
		b.buf = nil
	}
	b.values, b.buf = b.values[:0], b.buf[:0]
	for i, cell := range Cells(encoding) {
		c := &b.Table.Columns[i]
		v, problem := b.value(c, cell)
		if problem != "" {
			return nil, &UnrepresentableError{
				Table:   b.Table.Name,
				Key:     EncodingKey(b.Table, encoding),
				Column:  c.Name,
				Message: problem,
			}
		}
		b.values = append(b.values, v)
	}
	for range legacyColumns[b.Table.Name] {
		b.values = append(b.values, Value{})
	}
	return b.values, nil
}

// value gives a cell's value, or says why there is none.
func (b *ReverseConverter) value(c *Column, cell []byte) (v Value, problem string) {
	if cell == nil {
		switch {
		case c.Kind == KindVector:
			return v, "NULL, and the file's column takes none"
		case b.Table.Name == "steps" && c.Name == "output":
			return TextValue("null"), "" // a step without output
		}
		return v, ""
	}
	switch c.Kind {
	case KindText:
		return Value{Class: Text, Bytes: cell}, ""
	case KindInt:
		return IntegerValue(int64(binary.BigEndian.Uint64(cell))), ""
	case KindFloat4, KindFloat8:
		return b.float(c, math.Float64frombits(binary.BigEndian.Uint64(cell)))
	case KindJSON:
		at := len(b.buf)
		b.buf = appendCompact(b.buf, cell[1:])
		return Value{Class: Text, Bytes: b.buf[at:]}, ""
	case KindTime:
		at := Time{Micros: int64(binary.BigEndian.Uint64(cell))}
		if !at.inRange() {
			return v, "a time outside of the years 1 to 9999, which Python does not read"
		}
		from := len(b.buf)
		b.buf = at.append(b.buf)
		return Value{Class: Text, Bytes: b.buf[from:]}, ""
	case KindBool:
		return IntegerValue(int64(cell[0])), ""
	case KindVector:
		return BlobValue(unpackVector(cell)), ""
	}
	panic(fmt.Sprintf("kind %d is none", c.Kind))
}

// float gives a float; one of a real column by the fewest digits that mean it
// there, as somebody wrote them, and not with the digits that widening adds.
func (b *ReverseConverter) float(c *Column, x float64) (v Value, problem string) {
	if math.IsNaN(x) {
		if c.NotNull {
			return v, "NaN, which SQLite does not hold, and the column may not be NULL"
		}
		if b.Nulls == nil {
			b.Nulls = map[string]int64{}
		}
		b.Nulls[c.Name]++
		return v, ""
	}
	if c.Kind == KindFloat4 && !b.Types.Double[b.Table.Name+"."+c.Name] {
		if short, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', -1, 32), 64); err == nil {
			x = short
		}
	}
	return RealValue(x), ""
}

// appendCompact appends JSON, as jsonb prints it, without its white space: a
// space behind each colon and comma that is not in a string.
func appendCompact(dst, s []byte) []byte {
	dst = slices.Grow(dst, len(s))
	for len(s) > 0 {
		switch s[0] {
		case ' ':
			s = s[1:]
		case '"':
			end := stringEnd(s)
			dst, s = append(dst, s[:end]...), s[end:]
		default:
			dst, s = append(dst, s[0]), s[1:]
		}
	}
	return dst
}

// stringEnd gives where the string ends that s begins with: behind the first
// quote that has no backslash before it, or an even number of them.
func stringEnd(s []byte) int {
	for end := 1; ; {
		quote := bytes.IndexByte(s[end:], '"')
		if quote < 0 { // which jsonb does not print
			return len(s)
		}
		end += quote + 1
		backslashes := 0
		for s[end-2-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return end
		}
	}
}

// unpackVector makes packed little-endian float32 of pgvector's binary form.
func unpackVector(cell []byte) []byte {
	floats := cell[4:] // behind the size and a zero
	out := make([]byte, len(floats))
	for i := 0; i+4 <= len(floats); i += 4 {
		binary.LittleEndian.PutUint32(out[i:], binary.BigEndian.Uint32(floats[i:]))
	}
	return out
}

// ParseOriginal gives the value that AppendOriginal kept.
func ParseOriginal(class string, original []byte) (v Value, err error) {
	switch class {
	case "null":
		return Value{}, nil
	case "integer":
		v.Class = Integer
		v.Int, err = strconv.ParseInt(string(original), 10, 64)
	case "real":
		v.Class = Real
		v.Real, err = strconv.ParseFloat(string(original), 64)
	case "text":
		v = Value{Class: Text, Bytes: original}
	case "blob":
		v = BlobValue(original)
	default:
		err = fmt.Errorf("%q is none of SQLite's storage classes", class)
	}
	return v, err
}

// ParseReasons gives the reasons that Reason.String names.
func ParseReasons(names string) (r Reason) {
	for name := range strings.SplitSeq(names, "+") {
		for one, n := range reasonNames {
			if n[0] == name {
				r |= one
			}
		}
	}
	return r
}

// IsRejectedRow reports whether originals are those of a row that was rejected, all
// of its cells, and not just those that changed of one that has. columns are
// their columns in the file, and common the reasons that all of them have.
func (t *Table) IsRejectedRow(columns []string, common Reason) bool {
	if common&rejections != 0 {
		return true // no cell has such a reason by itself
	}
	if common&(NotANumber|OutOfRange) == 0 {
		return false
	}
	for _, name := range columns { // only a number's column can have these by itself
		at := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
		if at < 0 ||
			t.Columns[at].Kind != KindInt && t.Columns[at].Kind != KindFloat4 && t.Columns[at].Kind != KindFloat8 {
			return true
		}
	}
	return false
}
