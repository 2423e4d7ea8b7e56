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
		notNull(Column{Name: "receipt", Kind: KindInt8}), // the id of the migration's receipt
		notNull(textColumn("table_name")),
		notNull(textColumn("row_key")), // the primary key in PostgreSQL as text; empty for NULL
		notNull(Column{Name: "source_rowid", Kind: KindInt8}),
		notNull(textColumn("column_name")),   // empty for what a merge stores
		notNull(textColumn("reason")),        // Reason.String, or what a merge stores
		notNull(textColumn("storage_class")), // as SQLite's typeof() returns it, StoredRow or ContentDigest
		{Name: "original", Kind: KindBytes},
	},
}

// What a merge stores in Originals besides original values.
const (
	// Superseded is the reason of a row that another version of its run, key or memory
	// replaced, or that was not taken because another version is newer. The original is
	// the row as JSON (row_to_json), its storage class is StoredRow. In place of a rowid it
	// has the id of the merge's receipt.
	Superseded = "superseded"
	// SupersededUnit is the reason of a run, key or memory that a merge replaced, and
	// NotTakenUnit that of one of the file that it did not take; their rows are Superseded.
	// The receipt is the merge's, the row key is its key, and the original is the digest of
	// its content, as rowdigest.Digest.String returns it.
	SupersededUnit, NotTakenUnit = "superseded-unit", "not-taken-unit"
	// Equal is the reason of a run, key or memory of the file that was there already.
	// The row key is its key, and the original is the id of the receipt of its rows, 0 if
	// Flujo wrote one of them.
	Equal = "equal"
	// StoredRow is the storage class of a whole row, ContentDigest that of a digest.
	StoredRow, ContentDigest = "row", "digest"
)

// Receipts is the name of flujo-port's own table of receipts, with a row for each
// migration into the schema. Flujo does not use it.
const Receipts = "flujo_port_receipts"

// AppendOriginal appends the original value of a change to dst, as a tuple of
// Originals. receipt is the id of the migration's receipt. Text and blobs are stored byte
// for byte, an integer as decimal digits, a real as the shortest digits that represent the
// same float, and NULL as NULL.
func AppendOriginal(dst []byte, receipt int64, table, key string, rowid int64, c Change) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(Originals.Columns)))
	dst = appendInt8(dst, receipt)
	dst = appendBytes(dst, []byte(table))
	dst = appendBytes(dst, []byte(key))
	dst = appendInt8(dst, rowid)
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

// appendInt8 appends a field of type bigint.
func appendInt8(dst []byte, value int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(dst, 8), uint64(value))
}

// appendBytes appends the length and the bytes of a field.
func appendBytes(dst, field []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(field)))
	return append(dst, field...)
}
