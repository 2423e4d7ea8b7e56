package mapping

import (
	"encoding/binary"
	"strconv"

	"flujo-port/internal/sqlite"
)

// Originals is flujo-port's own table of original values. It is created only if
// there are any. Flujo does not use it.
var Originals = Table{
	Name: "flujo_port_originals",
	Columns: []Column{
		notNull(textColumn("table_name")),
		notNull(textColumn("row_key")), // the primary key in PostgreSQL as text; empty for NULL
		notNull(Column{Name: "source_rowid", Kind: KindInt8}),
		notNull(textColumn("column_name")),
		notNull(textColumn("reason")),        // Reason.String
		notNull(textColumn("storage_class")), // as SQLite's typeof() returns it
		{Name: "original", Kind: KindBytes},
	},
}

// Receipts is the name of flujo-port's own table of receipts, with a row for each
// migration into the schema. Flujo does not use it.
const Receipts = "flujo_port_receipts"

// AppendOriginal appends the original value of a change to dst, as a tuple of
// Originals. Text and blobs are stored byte for byte, an integer as decimal digits,
// a real as the shortest digits that represent the same float, and NULL as NULL.
func AppendOriginal(dst []byte, table, key string, rowid int64, c Change) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(Originals.Columns)))
	dst = appendBytes(dst, []byte(table))
	dst = appendBytes(dst, []byte(key))
	dst = binary.BigEndian.AppendUint32(dst, 8)
	dst = binary.BigEndian.AppendUint64(dst, uint64(rowid))
	dst = appendBytes(dst, []byte(c.Column))
	dst = appendBytes(dst, []byte(c.Reason.String()))
	dst = appendBytes(dst, []byte(c.Original.Class.String()))
	switch c.Original.Class {
	case sqlite.Null:
		return binary.BigEndian.AppendUint32(dst, 1<<32-1)
	case sqlite.Integer:
		return appendBytes(dst, strconv.AppendInt(nil, c.Original.Int, 10))
	case sqlite.Real:
		return appendBytes(dst, strconv.AppendFloat(nil, c.Original.Real, 'g', -1, 64))
	}
	return appendBytes(dst, c.Original.Bytes)
}

// appendBytes appends the length and the bytes of a field.
func appendBytes(dst, field []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(field)))
	return append(dst, field...)
}
