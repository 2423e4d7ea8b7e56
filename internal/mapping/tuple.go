package mapping

import (
	"bytes"
	"encoding/binary"
	stdjson "encoding/json"
	"fmt"
	"math"
	"unicode/utf8"
)

// CellError is a cell that PostgreSQL cannot hold as it is.
type CellError struct {
	Table, Column string
	Key           string // the row's primary key, as Value.String shows it
	Found         string // the cell, as Value.String shows it
	Problem       string // what is wrong with it
}

func (e *CellError) Error() string {
	return fmt.Sprintf("table %q, row %s, column %q holds %s: %s", e.Table, e.Key, e.Column, e.Found, e.Problem)
}

// AppendTuple appends row to dst as one tuple of PostgreSQL's binary COPY
// format (https://www.postgresql.org/docs/current/sql-copy.html) with the
// columns of p.Target. row holds the columns of p.Source. The error is a
// *CellError; dst is then returned as it came.
func (p *Plan) AppendTuple(dst []byte, row []Value) ([]byte, error) {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.Target)))
	for i := range p.Target {
		length := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		field, null, problem := appendField(dst, &p.Target[i], row[i])
		if problem != "" {
			return dst[:start], p.cellError(row, p.Target[i].Name, row[i], problem)
		}
		size := uint32(math.MaxUint32) // -1: NULL
		if !null {
			size = uint32(len(field) - len(dst))
		}
		dst = field
		binary.BigEndian.PutUint32(dst[length:], size)
	}
	for i, name := range p.Homeless {
		if v := row[len(p.Target)+i]; v.Class != Null {
			return dst[:start], p.cellError(row, name, v, "Flujo's PostgreSQL table has no such column")
		}
	}
	return dst, nil
}

func (p *Plan) cellError(row []Value, column string, v Value, problem string) *CellError {
	key := "without a key"
	if p.key >= 0 {
		key = row[p.key].String()
	}
	return &CellError{Table: p.Table.Name, Column: column, Key: key, Found: v.String(), Problem: problem}
}

// appendField appends the binary form of v for column c to dst, or reports
// that it is NULL, or says why it cannot.
func appendField(dst []byte, c *Column, v Value) (field []byte, null bool, problem string) {
	if v.Class == Null {
		if c.NotNull {
			return dst, true, "the column must have a value"
		}
		return dst, true, ""
	}
	switch c.Kind {
	case KindText:
		field, problem = appendText(dst, v)
	case KindInt:
		field, problem = appendInt4(dst, v)
	case KindFloat4:
		field, problem = appendFloat4(dst, v)
	case KindFloat8:
		field, problem = appendFloat8(dst, v)
	case KindBool:
		field, problem = appendBool(dst, v)
	case KindTime:
		field, problem = appendTime(dst, v)
	case KindJSON:
		return appendJSON(dst, c, v)
	case KindVector:
		field, problem = appendVector(dst, v)
	}
	return field, false, problem
}

func appendText(dst []byte, v Value) ([]byte, string) {
	if v.Class != Text {
		return dst, "text is due, it is of class " + v.Class.String()
	}
	return appendUTF8(dst, v.Bytes)
}

func appendUTF8(dst, s []byte) ([]byte, string) {
	if bytes.IndexByte(s, 0) >= 0 {
		return dst, "PostgreSQL's text cannot hold a NUL character"
	}
	if !utf8.Valid(s) {
		return dst, "it is not valid UTF-8"
	}
	return append(dst, s...), ""
}

func appendInt4(dst []byte, v Value) ([]byte, string) {
	if v.Class != Integer {
		return dst, "an integer is due, it is of class " + v.Class.String()
	}
	if v.Int < math.MinInt32 || v.Int > math.MaxInt32 {
		return dst, "it is beyond PostgreSQL's integer"
	}
	return binary.BigEndian.AppendUint32(dst, uint32(int32(v.Int))), ""
}

// number gives the float that SQLite answers for v in a column declared REAL.
func number(v Value) (f float64, problem string) {
	switch v.Class {
	case Real:
		return v.Real, ""
	case Integer:
		f = float64(v.Int)
		if v.Int == math.MaxInt64 || int64(f) != v.Int {
			return 0, "the integer is not exact as a float"
		}
		return f, ""
	}
	return 0, "a number is due, it is of class " + v.Class.String()
}

func appendFloat4(dst []byte, v Value) ([]byte, string) {
	f, problem := number(v)
	if problem != "" {
		return dst, problem
	}
	rounded := float32(f)
	if math.IsInf(float64(rounded), 0) && !math.IsInf(f, 0) {
		return dst, "it is beyond PostgreSQL's real"
	}
	return binary.BigEndian.AppendUint32(dst, math.Float32bits(rounded)), ""
}

func appendFloat8(dst []byte, v Value) ([]byte, string) {
	f, problem := number(v)
	if problem != "" {
		return dst, problem
	}
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(f)), ""
}

func appendBool(dst []byte, v Value) ([]byte, string) {
	if v.Class != Integer || (v.Int != 0 && v.Int != 1) {
		return dst, "a boolean, 0 or 1, is due"
	}
	return append(dst, byte(v.Int)), ""
}

func appendTime(dst []byte, v Value) ([]byte, string) {
	if v.Class != Text {
		return dst, "a time is due, it is of class " + v.Class.String()
	}
	t, ok := ParseTime(v.Bytes)
	if !ok {
		return dst, "it is not a time"
	}
	return binary.BigEndian.AppendUint64(dst, uint64(t.Micros)), ""
}

// appendJSON takes JSON's null for NULL where the column allows it: Flujo's
// SQLite backend writes the text null for a step without output, its
// PostgreSQL backend NULL.
func appendJSON(dst []byte, c *Column, v Value) (field []byte, null bool, problem string) {
	if v.Class != Text {
		return dst, false, "JSON text is due, it is of class " + v.Class.String()
	}
	if !c.NotNull && string(bytes.Trim(v.Bytes, " \t\r\n")) == "null" {
		return dst, true, ""
	}
	if !utf8.Valid(v.Bytes) {
		return dst, false, "it is not valid UTF-8"
	}
	if !stdjson.Valid(v.Bytes) {
		return dst, false, "it is not JSON"
	}
	dst = append(dst, 1) // version of jsonb's binary form
	return append(dst, v.Bytes...), false, ""
}

// appendVector turns packed little-endian float32, as Flujo's SQLite backend
// stores a memory's vector, into pgvector's binary form: two uint16 (size,
// zero), then the floats, big-endian.
func appendVector(dst []byte, v Value) ([]byte, string) {
	if v.Class != Blob {
		return dst, "packed floats are due, it is of class " + v.Class.String()
	}
	if len(v.Bytes) != VectorSize*4 {
		return dst, fmt.Sprintf("%d floats of 4 bytes are due, it has %d bytes", VectorSize, len(v.Bytes))
	}
	dst = binary.BigEndian.AppendUint16(dst, VectorSize)
	dst = append(dst, 0, 0)
	for i := 0; i < len(v.Bytes); i += 4 {
		bits := binary.LittleEndian.Uint32(v.Bytes[i:])
		const exponent = 0x7f800000
		if bits&exponent == exponent {
			return dst, fmt.Sprintf("pgvector takes no NaN or Infinity, which its float number %d is", i/4+1)
		}
		dst = binary.BigEndian.AppendUint32(dst, bits)
	}
	return dst, ""
}
