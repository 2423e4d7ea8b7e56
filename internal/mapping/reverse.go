package mapping

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/sqlite"
)

// ReverseConverter converts rows of PostgreSQL to rows of a SQLite file, as Flujo's
// SQLite backend writes them. It is not safe for concurrent use.
type ReverseConverter struct {
	Table *Table
	Types *Types
	// Nulls counts, by column, the NaN that became NULL, since SQLite cannot store
	// NaN. Row updates it.
	Nulls map[string]int64

	values []sqlite.Value
	buf    []byte // the cells of the row that are not parts of the encoding
}

// maxBufferBytes is the maximum size of a buffer that is reused for the next row.
const maxBufferBytes = 4 << 20

// UnrepresentableError is returned by ReverseConverter.Row for a cell that Flujo's
// SQLite file cannot hold.
type UnrepresentableError struct{ Table, Key, Column, Message string }

func (e *UnrepresentableError) Error() string {
	return fmt.Sprintf("%s %q, column %s: %s", e.Table, e.Key, e.Column, e.Message)
}

// Row converts a row and returns its values in the order of Table.FileColumns. cells
// are its cells in the binary form of a row encoding, nil for NULL; key is for the
// error. Columns that PostgreSQL does not have are NULL. The values are valid until
// the next call, and may refer to bytes of cells. The error is an
// *UnrepresentableError.
func (b *ReverseConverter) Row(key string, cells [][]byte) ([]sqlite.Value, error) {
	if cap(b.buf) > maxBufferBytes {
		b.buf = nil
	}
	b.values, b.buf = b.values[:0], b.buf[:0]
	for i, cell := range cells {
		c := &b.Table.Columns[i]
		v, problem := b.value(c, cell)
		if problem != "" {
			return nil, &UnrepresentableError{
				Table:   b.Table.Name,
				Key:     key,
				Column:  c.Name,
				Message: problem,
			}
		}
		b.values = append(b.values, v)
	}
	for range legacyColumns[b.Table.Name] {
		b.values = append(b.values, sqlite.Value{})
	}
	return b.values, nil
}

// value converts a cell; nil is NULL. If it cannot be converted, problem says why.
func (b *ReverseConverter) value(c *Column, cell []byte) (v sqlite.Value, problem string) {
	if cell == nil {
		switch {
		case c.Kind == KindVector:
			return v, "NULL, and the column in the file is NOT NULL"
		case b.Table.Name == "steps" && c.Name == "output":
			return sqlite.TextValue("null"), "" // a step without output
		}
		return v, ""
	}
	switch c.Kind {
	case KindText:
		return sqlite.Value{Class: sqlite.Text, Bytes: cell}, ""
	case KindInt:
		return sqlite.IntegerValue(int64(binary.BigEndian.Uint64(cell))), ""
	case KindFloat4, KindFloat8:
		return b.float(c, math.Float64frombits(binary.BigEndian.Uint64(cell)))
	case KindJSON:
		at := len(b.buf)
		b.buf = appendCompact(b.buf, cell[1:])
		return sqlite.Value{Class: sqlite.Text, Bytes: b.buf[at:]}, ""
	case KindTime:
		at := Time{Micros: int64(binary.BigEndian.Uint64(cell))}
		if !at.inRange() {
			return v, "a timestamp outside of the years 1 to 9999, which Python cannot read"
		}
		from := len(b.buf)
		b.buf = at.append(b.buf)
		return sqlite.Value{Class: sqlite.Text, Bytes: b.buf[from:]}, ""
	case KindBool:
		return sqlite.IntegerValue(int64(cell[0])), ""
	case KindVector:
		return sqlite.BlobValue(unpackVector(cell)), ""
	}
	panic(fmt.Sprintf("column of unknown kind %d", c.Kind))
}

// float converts a float. A float of a real column becomes the double with the
// shortest digits that represent it as real, not with the digits that widening adds.
func (b *ReverseConverter) float(c *Column, x float64) (v sqlite.Value, problem string) {
	if math.IsNaN(x) {
		if c.NotNull {
			return v, "NaN, which SQLite cannot store, and the column in the file is NOT NULL"
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
	return sqlite.RealValue(x), ""
}

// appendCompact appends JSON, as jsonb prints it, without white space. jsonb prints
// a space after each colon and comma outside of strings.
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

// stringEnd returns the index after the string at the start of s, which ends with
// the first quote that follows an even number of backslashes.
func stringEnd(s []byte) int {
	for end := 1; ; {
		quote := bytes.IndexByte(s[end:], '"')
		if quote < 0 { // jsonb does not print such a string
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

// unpackVector converts pgvector's binary format to packed little-endian float32.
func unpackVector(cell []byte) []byte {
	floats := cell[4:] // after the dimension and a zero
	out := make([]byte, len(floats))
	for i := 0; i+4 <= len(floats); i += 4 {
		binary.LittleEndian.PutUint32(out[i:], binary.BigEndian.Uint32(floats[i:]))
	}
	return out
}

// ParseOriginal returns the value that AppendOriginal stored, given the columns
// storage_class and original of its tuple. The value refers to original.
func ParseOriginal(class string, original []byte) (v sqlite.Value, err error) {
	switch class {
	case "null":
		return sqlite.Value{}, nil
	case "integer":
		v.Class = sqlite.Integer
		v.Int, err = strconv.ParseInt(string(original), 10, 64)
	case "real":
		v.Class = sqlite.Real
		v.Real, err = strconv.ParseFloat(string(original), 64)
	case "text":
		v = sqlite.Value{Class: sqlite.Text, Bytes: original}
	case "blob":
		v = sqlite.BlobValue(original)
	default:
		err = fmt.Errorf("%q is not a storage class of SQLite", class)
	}
	return v, err
}

// ParseReasons returns the reasons whose names Reason.String joined. Unknown names
// are ignored.
func ParseReasons(names string) (r Reason) {
	for name := range strings.SplitSeq(names, "+") {
		for one, meaning := range meanings {
			if meaning.Name == name {
				r |= one
			}
		}
	}
	return r
}

// IsRejectedRow reports whether the original values of a row are all cells of a
// rejected row, and not only the changed cells of a stored row. columns are their
// columns in the state file, and common are the reasons that all of them have.
func (t *Table) IsRejectedRow(columns []string, common Reason) bool {
	if common&rejections != 0 {
		return true // these are reasons of rows only
	}
	if common&(NotANumber|OutOfRange) == 0 {
		return false
	}
	for _, name := range columns { // a changed cell has these reasons only in a number column
		at := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
		if at < 0 ||
			t.Columns[at].Kind != KindInt && t.Columns[at].Kind != KindFloat4 && t.Columns[at].Kind != KindFloat8 {
			return true
		}
	}
	return false
}
