// Package rowdigest computes digests of the rows of Flujo's tables, from which two
// sides learn whether they hold the same rows without exchanging them. Each part
// exists twice, side by side: in Go, from the tuples that are sent to PostgreSQL,
// and as SQL, with which the server computes the same from what it stored.
package rowdigest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/jsonb"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// A row encoding is the result of PostgreSQL's record_send for a row: the number of
// columns, then for each column the OID of its type, its length (-1 for NULL) and
// its binary form. All numbers have four bytes and are big-endian. The columns are
// those of mapping.Tables, in their order.
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

// Encoder encodes tuples. The zero value is ready to use. It is not safe for
// concurrent use.
type Encoder struct{ json jsonb.Canonicalizer }

// Append appends the encoding of a row to dst. tuple is the row in the binary COPY
// format, with all columns of the table in their order, as mapping.Converter.Append
// returns it.
func (m *Encoder) Append(dst []byte, table *mapping.Table, tuple []byte) []byte {
	// An encoding has a longer header for each field than a tuple, and spaces in JSON.
	dst = slices.Grow(dst, len(tuple)+len(tuple)/16+16*len(table.Columns))
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

// Field returns the binary form of the column at a position in a tuple, nil for NULL. It
// refers to bytes of tuple.
func Field(tuple []byte, at int) []byte {
	field, null, rest := nextField(tuple[2:])
	for range at {
		field, null, rest = nextField(rest)
	}
	if null {
		return nil
	}
	return field
}

// appendField appends the encoding of a field and returns the OID of its type.
func (m *Encoder) appendField(dst []byte, kind mapping.Kind, field []byte, null bool) ([]byte, uint32) {
	switch kind {
	case mapping.KindText:
		return append(dst, field...), oidText
	case mapping.KindInt, mapping.KindInt8:
		if len(field) == 4 {
			return binary.BigEndian.AppendUint64(dst, uint64(int32(binary.BigEndian.Uint32(field)))), oidInt8
		}
		return append(dst, field...), oidInt8
	case mapping.KindFloat4, mapping.KindFloat8:
		if len(field) == 4 {
			short := math.Float32frombits(binary.BigEndian.Uint32(field))
			return binary.BigEndian.AppendUint64(dst, math.Float64bits(float64(short))), oidFloat8
		}
		return append(dst, field...), oidFloat8
	case mapping.KindTime:
		return append(dst, field...), oidTimestamptz
	case mapping.KindBool:
		return append(dst, field...), oidBool
	case mapping.KindVector, mapping.KindBytes:
		return append(dst, field...), oidBytea
	case mapping.KindJSON:
		if null {
			return dst, oidJSONB
		}
		dst = append(dst, field[0]) // the version of jsonb's binary format
		return m.json.Append(dst, field[1:]), oidJSONB
	}
	panic(fmt.Sprintf("column of unknown kind %d", kind))
}

// EncodingSQL returns the SQL of a row's encoding. vectors is the schema of
// pgvector's types.
func EncodingSQL(table *mapping.Table, vectors string) string {
	columns := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		columns[i] = cellSQL(c, sqltext.Ident(c.Name), vectors)
	}
	return "record_send(ROW(" + strings.Join(columns, ", ") + "))"
}

// ContentSQL returns the SQL of the encoding of a row's content as Flujo sees it:
// without the id from a sequence, and with a JSON null in a nullable column replaced
// by NULL. vectors is the schema of pgvector's types.
func ContentSQL(table *mapping.Table, vectors string) string {
	var columns []string
	for _, c := range table.Columns {
		cell := sqltext.Ident(c.Name)
		switch {
		case c.Serial:
			continue
		case c.Kind == mapping.KindJSON && !c.NotNull:
			cell = fmt.Sprintf("nullif(%s, 'null'::jsonb)", cell)
		}
		columns = append(columns, cellSQL(c, cell, vectors))
	}
	return "record_send(ROW(" + strings.Join(columns, ", ") + "))"
}

// AppendContent appends what ContentSQL computes of a row to dst, given its encoding.
func AppendContent(dst []byte, table *mapping.Table, encoding []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	columns := uint32(0)
	rest := encoding[4:]
	for i := range table.Columns {
		c := &table.Columns[i]
		field, null, after := nextField(rest[4:])
		header := rest[:4]
		rest = after
		if c.Serial {
			continue
		}
		columns++
		dst = append(dst, header...)
		if null || c.Kind == mapping.KindJSON && !c.NotNull && string(field) == "\x01null" {
			dst = binary.BigEndian.AppendUint32(dst, 1<<32-1)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(field)))
		dst = append(dst, field...)
	}
	binary.BigEndian.PutUint32(dst[at:], columns)
	return dst
}

// ID returns the id from a sequence in a row's encoding. The table has such a column.
func ID(table *mapping.Table, encoding []byte) (id int64) {
	for i, cell := range Cells(encoding) {
		if table.Columns[i].Serial {
			id = int64(binary.BigEndian.Uint64(cell))
		}
	}
	return id
}

// SetID sets the id from a sequence in a row's encoding. The table has such a column.
func SetID(table *mapping.Table, encoding []byte, id int64) {
	for i, cell := range Cells(encoding) {
		if table.Columns[i].Serial {
			binary.BigEndian.PutUint64(cell, uint64(id))
		}
	}
}

// cellSQL returns the SQL of a cell in an encoding.
func cellSQL(c mapping.Column, cell, vectors string) string {
	switch c.Kind {
	case mapping.KindInt:
		return cell + "::int8"
	case mapping.KindFloat4:
		return cell + "::float8"
	case mapping.KindVector:
		return fmt.Sprintf("%s.vector_send(%s)", sqltext.Ident(vectors), cell)
	}
	return cell
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

// Key returns the primary key of an encoded row, as PostgreSQL prints it.
func Key(table *mapping.Table, encoding []byte) string {
	at := slices.IndexFunc(table.Columns, func(c mapping.Column) bool { return c.Name == table.PrimaryKey })
	cell := Cells(encoding)[at]
	if table.Columns[at].Kind == mapping.KindInt && cell != nil {
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(cell)), 10)
	}
	return string(cell)
}

// KeySQL returns the SQL of a row's key, as Key returns it.
func KeySQL(table *mapping.Table) string { return sqltext.Ident(table.PrimaryKey) + "::text" }
