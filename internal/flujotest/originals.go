package flujotest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Original is a row of flujo_port_originals.
type Original struct {
	Table, Key string
	RowID      int64
	Column     string
	Reason     string
	Class      string
	Hex        string // hexadecimal; "NULL" for NULL
}

// OriginalCell returns the row of flujo_port_originals for a cell.
func OriginalCell(table, key string, rowid int64, column, kind string, cell any) Original {
	k := Original{
		Table:  table,
		Key:    key,
		RowID:  rowid,
		Column: column,
		Reason: kind,
		Class:  StorageClass(cell),
		Hex:    "NULL",
	}
	if cell != nil {
		k.Hex = fmt.Sprintf("%x", OriginalBytes(cell))
	}
	return k
}

// Originals returns the original values in flujo_port_originals, without what a merge stores besides; nil if the table
// does not exist.
func Originals(t testing.TB, conn *pgx.Conn) (all []Original) {
	t.Helper()
	if One(t, conn, "SELECT to_regclass('flujo.flujo_port_originals')") == "NULL" {
		return nil
	}
	rows, err := conn.Query(context.Background(),
		`SELECT table_name, row_key, source_rowid, column_name, reason, storage_class,
		coalesce(encode(original, 'hex'), 'NULL') FROM flujo.flujo_port_originals WHERE column_name <> ''`)
	if err != nil {
		t.Fatal(err)
	}
	var k Original
	_, err = pgx.ForEachRow(rows,
		[]any{&k.Table, &k.Key, &k.RowID, &k.Column, &k.Reason, &k.Class, &k.Hex},
		func() error {
			all = append(all, k)
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 && One(t, conn, "SELECT count(*) FROM flujo.flujo_port_originals") == "0" {
		t.Error("flujo_port_originals exists and is empty")
	}
	return all
}

// CompareOriginals orders originals by table, rowid, column and the rest.
func CompareOriginals(a, b Original) int {
	if c := strings.Compare(a.Table, b.Table); c != 0 {
		return c
	}
	if a.RowID != b.RowID {
		return int(a.RowID - b.RowID)
	}
	return cmp.Or(strings.Compare(a.Column, b.Column), strings.Compare(a.Key, b.Key),
		strings.Compare(a.Reason, b.Reason), strings.Compare(a.Class, b.Class), strings.Compare(a.Hex, b.Hex))
}

// WantOriginals tests that flujo_port_originals has exactly the given rows, in any order. Without rows, the table
// must not exist.
func WantOriginals(t testing.TB, conn *pgx.Conn, want []Original) {
	t.Helper()
	got := Originals(t, conn)
	if got != nil && len(want) == 0 {
		t.Errorf("got originals %.300v, want none", got)
		return
	}
	slices.SortFunc(got, CompareOriginals)
	want = slices.Clone(want)
	slices.SortFunc(want, CompareOriginals)
	WantSame(t, "originals", got, want)
}

// StorageClass returns the storage class of a value.
func StorageClass(cell any) string {
	switch cell.(type) {
	case nil:
		return "null"
	case int64:
		return "integer"
	case float64:
		return "real"
	case string:
		return "text"
	case []byte:
		return "blob"
	}
	panic(fmt.Sprintf("%T has no storage class in SQLite", cell))
}

// OriginalBytes returns the bytes that flujo_port_originals stores for a cell; nil for NULL.
func OriginalBytes(cell any) []byte {
	switch v := cell.(type) {
	case int64:
		return []byte(strconv.FormatInt(v, 10))
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64)
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}
