package mapping

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"flujo-port/internal/jsonb"
	"flujo-port/internal/sqlite"
)

// A row encoding is the result of PostgreSQL's record_send for a row: the number of
// columns, then for each column the OID of its type, its length (-1 for NULL) and
// its binary form. All numbers have four bytes and are big-endian. The columns are
// those of Tables, in their order.
//
// So that an encoding depends on the content alone, integers are encoded as bigint
// and reals as double precision, regardless of their columns' types. Vectors are
// encoded as bytea, since the OID of their type differs between databases. jsonb's
// binary form is its printed form.

// The OIDs of the types in a row encoding (pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidText        = 25
	oidFloat8      = 701
	oidTimestamptz = 1184
	oidJSONB       = 3802
)

// RowEncoder encodes tuples. The zero value is ready to use. It is not safe for
// concurrent use.
type RowEncoder struct{ json jsonb.Canonicalizer }

// Append appends the encoding of a row to dst. tuple is the row in the binary COPY
// format, with all columns of the table in their order, as Converter.Append returns
// it.
func (m *RowEncoder) Append(dst []byte, table *Table, tuple []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(table.Columns)))
	tuple = tuple[2:]
	for i := range table.Columns {
		var field []byte
		var null bool
		field, null, tuple = nextField(tuple)
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
		oid := uint32(0)
		dst, oid = m.appendField(dst, table.Columns[i].Kind, field, null)
		size := uint32(len(dst) - at - 8)
		if null {
			size = 1<<32 - 1
		}
		binary.BigEndian.PutUint32(dst[at:], oid)
		binary.BigEndian.PutUint32(dst[at+4:], size)
	}
	return dst
}

// nextField splits the first field, which follows its length, from a tuple or an
// encoding.
func nextField(s []byte) (field []byte, null bool, rest []byte) {
	size := int32(binary.BigEndian.Uint32(s))
	if size < 0 {
		return nil, true, s[4:]
	}
	return s[4 : 4+size], false, s[4+size:]
}

// appendField appends the encoding of a field and returns the OID of its type.
func (m *RowEncoder) appendField(dst []byte, kind Kind, field []byte, null bool) ([]byte, uint32) {
	switch kind {
	case KindText:
		return append(dst, field...), oidText
	case KindInt, KindInt8:
		if len(field) == 4 {
			return binary.BigEndian.AppendUint64(dst, uint64(int32(binary.BigEndian.Uint32(field)))), oidInt8
		}
		return append(dst, field...), oidInt8
	case KindFloat4, KindFloat8:
		if len(field) == 4 {
			short := math.Float32frombits(binary.BigEndian.Uint32(field))
			return binary.BigEndian.AppendUint64(dst, math.Float64bits(float64(short))), oidFloat8
		}
		return append(dst, field...), oidFloat8
	case KindTime:
		return append(dst, field...), oidTimestamptz
	case KindBool:
		return append(dst, field...), oidBool
	case KindVector, KindBytes:
		return append(dst, field...), oidBytea
	case KindJSON:
		if null {
			return dst, oidJSONB
		}
		dst = append(dst, field[0]) // the version of jsonb's binary format
		return m.json.Append(dst, field[1:]), oidJSONB
	}
	panic(fmt.Sprintf("column of unknown kind %d", kind))
}

// Cells returns the columns' binary forms in an encoding, nil for NULL. They refer
// to bytes of encoding.
func Cells(encoding []byte) [][]byte {
	cells := make([][]byte, binary.BigEndian.Uint32(encoding))
	encoding = encoding[4:]
	for i := range cells {
		var null bool
		cells[i], null, encoding = nextField(encoding[4:])
		if null {
			cells[i] = nil
		}
	}
	return cells
}

// EncodingKey returns the primary key of an encoded row, as PostgreSQL prints it.
func EncodingKey(table *Table, encoding []byte) string {
	at := slices.IndexFunc(table.Columns, func(c Column) bool { return c.Name == table.PrimaryKey })
	cell := Cells(encoding)[at]
	if table.Columns[at].Kind == KindInt && cell != nil {
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(cell)), 10)
	}
	return string(cell)
}

// FormatCells returns two different cells of a column as readable text, one line
// each. Long cells are shortened to the part where they begin to differ.
func FormatCells(kind Kind, a, b []byte) (string, string) {
	switch kind {
	case KindText:
		from := commonStart(a, b)
		return formatText(a, from), formatText(b, from)
	case KindJSON:
		from := commonStart(a, b)
		return formatJSON(a, from), formatJSON(b, from)
	}
	return formatCell(kind, a), formatCell(kind, b)
}

// commonStart returns the number of bytes to omit at the start of two texts; 0 if
// both are short.
func commonStart(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if max(len(a), len(b)) <= sqlite.LongestShown || n < sqlite.LongestShown/3 {
		return 0
	}
	n -= sqlite.LongestShown / 3
	for n > 0 && !utf8.RuneStart(a[n]) {
		n--
	}
	return n
}

func formatText(cell []byte, from int) string {
	if cell == nil {
		return "NULL"
	}
	shown := sqlite.Value{Class: sqlite.Text, Bytes: cell[min(from, len(cell)):]}.String()
	if from > 0 {
		return fmt.Sprintf("… from byte %d: %s", from, shown)
	}
	return shown
}

func formatJSON(cell []byte, from int) string {
	if cell == nil {
		return "NULL"
	}
	shown, more := cell[min(max(from, 1), len(cell)):], "" // 1: the version of jsonb's binary form
	if len(shown) > sqlite.LongestShown {
		shown, more = shown[:sqlite.LongestShown], fmt.Sprintf("… (%d bytes)", len(cell)-1)
		for len(shown) > 0 && !utf8.RuneStart(cell[min(max(from, 1), len(cell))+len(shown)]) {
			shown = shown[:len(shown)-1]
		}
	}
	if from > 0 {
		return fmt.Sprintf("… from byte %d: %s%s", from-1, shown, more)
	}
	return string(shown) + more
}

func formatCell(kind Kind, cell []byte) string {
	if cell == nil {
		return "NULL"
	}
	switch kind {
	case KindInt:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(cell)), 10)
	case KindFloat4, KindFloat8:
		return strconv.FormatFloat(math.Float64frombits(binary.BigEndian.Uint64(cell)), 'g', -1, 64)
	case KindTime:
		return Time{Micros: int64(binary.BigEndian.Uint64(cell))}.String()
	case KindBool:
		return strconv.FormatBool(cell[0] != 0)
	}
	return sqlite.Value{Class: sqlite.Blob, Bytes: cell}.String()
}
