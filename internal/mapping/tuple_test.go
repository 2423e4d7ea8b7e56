package mapping

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// splitTuple takes a tuple of binary COPY apart: a field is nil for NULL.
func splitTuple(t *testing.T, b []byte) [][]byte {
	t.Helper()
	take := func(n int) []byte {
		if len(b) < n {
			t.Fatalf("the tuple ends %d bytes early", n-len(b))
		}
		piece := b[:n]
		b = b[n:]
		return piece
	}
	fields := make([][]byte, binary.BigEndian.Uint16(take(2)))
	for i := range fields {
		if n := int32(binary.BigEndian.Uint32(take(4))); n >= 0 {
			fields[i] = slices.Clip(take(int(n)))
		} else if n != -1 {
			t.Fatalf("field %d has length %d", i, n)
		}
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes after the tuple", len(b))
	}
	return fields
}

// decode reads a field as pgx does.
func decode[T any](t *testing.T, oid uint32, field []byte) T {
	t.Helper()
	var v T
	if err := pgtype.NewMap().Scan(oid, pgtype.BinaryFormatCode, field, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// oids are what a server says of Flujo's columns.
var oids = map[Kind]uint32{
	KindText: pgtype.TextOID, KindInt: pgtype.Int4OID, KindFloat4: pgtype.Float4OID, KindFloat8: pgtype.Float8OID,
	KindJSON: pgtype.JSONBOID, KindTime: pgtype.TimestamptzOID, KindBool: pgtype.BoolOID,
}

// onlyColumn is the plan of a table with a key and one column of that kind.
func onlyColumn(kind Kind, required bool) *Plan {
	key := notNull(text("id"))
	table := &Table{Name: "cells", PrimaryKey: "id", Columns: []Column{key, {Name: "cell", Kind: kind, NotNull: required}}}
	return &Plan{Table: table, InFile: true, Target: table.Columns}
}

func packed(floats ...float32) []byte {
	var b []byte
	for _, f := range floats {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

func TestAppendTupleCells(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 100_000)
	for _, tc := range []struct {
		name string
		kind Kind
		cell Value
		want any // what pgx reads; nil for NULL
	}{
		{"text", KindText, TextValue("a réponse"), "a réponse"},
		{"empty text", KindText, TextValue(""), ""},
		{"text in many bytes", KindText, TextValue(long), long},
		{"text beyond the basic plane", KindText, TextValue("🜁\u2028\ufffd\x01"), "🜁\u2028\ufffd\x01"},
		{"text that is a number", KindText, TextValue("42"), "42"},
		{"text null", KindText, TextValue("null"), "null"},
		{"no text", KindText, Value{}, nil},
		{"zero", KindInt, IntegerValue(0), int32(0)},
		{"minus one", KindInt, IntegerValue(-1), int32(-1)},
		{"highest integer", KindInt, IntegerValue(math.MaxInt32), int32(math.MaxInt32)},
		{"lowest integer", KindInt, IntegerValue(math.MinInt32), int32(math.MinInt32)},
		{"no integer", KindInt, Value{}, nil},
		{"cost", KindFloat4, RealValue(0.000808865499794749), float32(0.0008088655)},
		{"real from an integer", KindFloat4, IntegerValue(3), float32(3)},
		{"highest real", KindFloat4, RealValue(math.MaxFloat32), float32(math.MaxFloat32)},
		{"real too small to be told from zero", KindFloat4, RealValue(1e-50), float32(0)},
		{"real Infinity", KindFloat4, RealValue(math.Inf(1)), float32(math.Inf(1))},
		{"real minus Infinity", KindFloat4, RealValue(math.Inf(-1)), float32(math.Inf(-1))},
		{"no real", KindFloat4, Value{}, nil},
		{"17 digits", KindFloat8, RealValue(1767603600.8574798), 1767603600.8574798},
		{"smallest double", KindFloat8, RealValue(math.SmallestNonzeroFloat64), math.SmallestNonzeroFloat64},
		{"highest double", KindFloat8, RealValue(-math.MaxFloat64), -math.MaxFloat64},
		{"double Infinity", KindFloat8, RealValue(math.Inf(-1)), math.Inf(-1)},
		{"double from an integer", KindFloat8, IntegerValue(1767603600), 1767603600.0},
		{"double from 2^53", KindFloat8, IntegerValue(1 << 53), float64(1 << 53)},
		{"double from the lowest integer", KindFloat8, IntegerValue(math.MinInt64), float64(math.MinInt64)},
		{"no double", KindFloat8, Value{}, nil},
		{"false", KindBool, IntegerValue(0), false},
		{"true", KindBool, IntegerValue(1), true},
		{"no boolean", KindBool, Value{}, nil},
		{"time", KindTime, TextValue("2026-01-05T10:00:01.669094+01:00"), time.Date(2026, 1, 5, 9, 0, 1, 669094000, time.UTC)},
		{"time before 2000", KindTime, TextValue("1969-12-31 23:59:59.999999"), time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{"time in year 1", KindTime, TextValue("0001-01-01"), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"time in year 9999", KindTime, TextValue("9999-12-31T23:59:59.999999Z"), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{"no time", KindTime, Value{}, nil},
		{"object", KindJSON, TextValue(`{"a": [1, 2.50, "é", null], "a": 1e2}`), `{"a": [1, 2.50, "é", null], "a": 1e2}`},
		{"JSON string", KindJSON, TextValue(`"null"`), `"null"`},
		{"JSON with white space", KindJSON, TextValue(" \t\r\n[ ]\n"), " \t\r\n[ ]\n"},
		{"JSON number of any size", KindJSON, TextValue("123456789012345678901234567890.5"), "123456789012345678901234567890.5"},
		{"JSON in 10,000 levels", KindJSON, TextValue(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)), strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)},
		{"JSON null", KindJSON, TextValue("null"), nil},
		{"JSON null in white space", KindJSON, TextValue("\n null\t\r"), nil},
		{"no JSON", KindJSON, Value{}, nil},
		{"no vector", KindVector, Value{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plan := onlyColumn(tc.kind, false)
			got, err := plan.AppendTuple(nil, []Value{TextValue("k"), tc.cell})
			if err != nil {
				t.Fatal(err)
			}
			fields := splitTuple(t, got)
			if len(fields) != 2 || string(fields[0]) != "k" {
				t.Fatalf("the tuple is %q", fields)
			}
			field := fields[1]
			if tc.want == nil {
				if field != nil {
					t.Errorf("%s is %q, not NULL", tc.cell, field)
				}
				return
			}
			if field == nil {
				t.Fatalf("%s is NULL", tc.cell)
			}
			oid := oids[tc.kind]
			same := false
			switch want := tc.want.(type) {
			case string:
				if tc.kind == KindJSON {
					same = string(decode[[]byte](t, oid, field)) == want
				} else {
					same = decode[string](t, oid, field) == want
				}
			case int32:
				same = decode[int32](t, oid, field) == want
			case float32:
				same = decode[float32](t, oid, field) == want
			case float64:
				same = decode[float64](t, oid, field) == want
			case bool:
				same = decode[bool](t, oid, field) == want
			case time.Time:
				same = decode[time.Time](t, oid, field).Equal(want)
			}
			if !same {
				t.Errorf("%s is %q, not %v", tc.cell, field, tc.want)
			}
		})
	}
}

func TestAppendTupleVector(t *testing.T) {
	t.Parallel()
	floats := make([]float32, VectorSize)
	for i := range floats {
		floats[i] = float32(i)/7 - 100
	}
	floats[1], floats[2] = float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32
	got, err := onlyColumn(KindVector, false).AppendTuple(nil, []Value{TextValue("k"), BlobValue(packed(floats...))})
	if err != nil {
		t.Fatal(err)
	}
	field := splitTuple(t, got)[1]
	var head struct{ Size, Unused uint16 }
	read := make([]float32, VectorSize)
	in := bytes.NewReader(field)
	if err := errors.Join(binary.Read(in, binary.BigEndian, &head), binary.Read(in, binary.BigEndian, read)); err != nil {
		t.Fatal(err)
	}
	if head.Size != VectorSize || head.Unused != 0 || in.Len() != 0 {
		t.Errorf("head %+v, %d bytes too many", head, in.Len())
	}
	for i := range floats {
		if math.Float32bits(read[i]) != math.Float32bits(floats[i]) {
			t.Fatalf("float %d is %v, not %v", i, read[i], floats[i])
		}
	}
}

func TestAppendTupleRefusals(t *testing.T) {
	t.Parallel()
	infinite := make([]float32, VectorSize)
	infinite[41] = float32(math.Inf(-1))
	nan := make([]float32, VectorSize)
	nan[0] = float32(math.NaN())
	for _, tc := range []struct {
		name     string
		kind     Kind
		required bool
		cell     Value
		problem  string
	}{
		{"text required", KindText, true, Value{}, "the column must have a value"},
		{"NUL in text", KindText, false, TextValue("a\x00b"), "PostgreSQL's text cannot hold a NUL character"},
		{"Latin-1", KindText, false, TextValue("caf\xe9"), "it is not valid UTF-8"},
		{"surrogate in bytes", KindText, false, TextValue("\xed\xa0\x80"), "it is not valid UTF-8"},
		{"overlong", KindText, false, TextValue("\xc0\xaf"), "it is not valid UTF-8"},
		{"blob for text", KindText, false, BlobValue([]byte("abc")), "text is due, it is of class blob"},
		{"empty blob for text", KindText, false, BlobValue(nil), "text is due, it is of class blob"},
		{"integer for text", KindText, false, IntegerValue(4), "text is due, it is of class integer"},
		{"real for text", KindText, false, RealValue(4.5), "text is due, it is of class real"},
		{"integer required", KindInt, true, Value{}, "the column must have a value"},
		{"above int4", KindInt, false, IntegerValue(math.MaxInt32 + 1), "it is beyond PostgreSQL's integer"},
		{"below int4", KindInt, false, IntegerValue(math.MinInt32 - 1), "it is beyond PostgreSQL's integer"},
		{"64 bits", KindInt, false, IntegerValue(math.MinInt64), "it is beyond PostgreSQL's integer"},
		{"real for an integer", KindInt, false, RealValue(12.5), "an integer is due, it is of class real"},
		{"whole real for an integer", KindInt, false, RealValue(12), "an integer is due, it is of class real"},
		{"text for an integer", KindInt, false, TextValue("12"), "an integer is due, it is of class text"},
		{"blob for an integer", KindInt, false, BlobValue([]byte{1}), "an integer is due, it is of class blob"},
		{"real required", KindFloat4, true, Value{}, "the column must have a value"},
		{"beyond float4", KindFloat4, false, RealValue(1e39), "it is beyond PostgreSQL's real"},
		{"below float4", KindFloat4, false, RealValue(-math.MaxFloat64), "it is beyond PostgreSQL's real"},
		{"text for a real", KindFloat4, false, TextValue("0.5"), "a number is due, it is of class text"},
		{"blob for a real", KindFloat4, false, BlobValue([]byte{0}), "a number is due, it is of class blob"},
		{"inexact integer for a real", KindFloat4, false, IntegerValue(1<<53 + 1), "the integer is not exact as a float"},
		{"double required", KindFloat8, true, Value{}, "the column must have a value"},
		{"inexact integer for a double", KindFloat8, false, IntegerValue(1<<53 + 1), "the integer is not exact as a float"},
		{"highest integer for a double", KindFloat8, false, IntegerValue(math.MaxInt64), "the integer is not exact as a float"},
		{"text for a double", KindFloat8, false, TextValue("0.5"), "a number is due, it is of class text"},
		{"boolean required", KindBool, true, Value{}, "the column must have a value"},
		{"2 for a boolean", KindBool, false, IntegerValue(2), "a boolean, 0 or 1, is due"},
		{"-1 for a boolean", KindBool, false, IntegerValue(-1), "a boolean, 0 or 1, is due"},
		{"real for a boolean", KindBool, false, RealValue(1), "a boolean, 0 or 1, is due"},
		{"text for a boolean", KindBool, false, TextValue("true"), "a boolean, 0 or 1, is due"},
		{"time required", KindTime, true, Value{}, "the column must have a value"},
		{"empty time", KindTime, true, TextValue(""), "it is not a time"},
		{"time to seven digits", KindTime, false, TextValue("2026-01-05T09:00:01.1234567"), "it is not a time"},
		{"time out of Python's reach", KindTime, false, TextValue("9999-12-31T23:59:59-01:00"), "it is not a time"},
		{"infinity for a time", KindTime, false, TextValue("infinity"), "it is not a time"},
		{"integer for a time", KindTime, false, IntegerValue(1767603600), "a time is due, it is of class integer"},
		{"real for a time", KindTime, false, RealValue(2460000.5), "a time is due, it is of class real"},
		{"blob for a time", KindTime, false, BlobValue([]byte("2026-01-05")), "a time is due, it is of class blob"},
		{"JSON required", KindJSON, true, Value{}, "the column must have a value"},
		{"empty JSON", KindJSON, false, TextValue(""), "it is not JSON"},
		{"word", KindJSON, false, TextValue("hello"), "it is not JSON"},
		{"NULL in capitals", KindJSON, false, TextValue("NULL"), "it is not JSON"},
		{"null behind a space that is none to JSON", KindJSON, false, TextValue("\u00a0null"), "it is not JSON"},
		{"null behind a form feed", KindJSON, false, TextValue("\fnull"), "it is not JSON"},
		{"NaN token", KindJSON, false, TextValue(`{"a":NaN}`), "it is not JSON"},
		{"Infinity token", KindJSON, false, TextValue(`[-Infinity]`), "it is not JSON"},
		{"leading zero", KindJSON, false, TextValue("01"), "it is not JSON"},
		{"raw control character", KindJSON, false, TextValue("\"a\nb\""), "it is not JSON"},
		{"raw NUL in JSON", KindJSON, false, TextValue("\"a\x00b\""), "it is not JSON"},
		{"two values", KindJSON, false, TextValue("{} {}"), "it is not JSON"},
		{"byte order mark", KindJSON, false, TextValue("\ufeff{}"), "it is not JSON"},
		{"half an object", KindJSON, false, TextValue(`{"a":`), "it is not JSON"},
		{"JSON in 10,001 levels", KindJSON, false, TextValue(strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)), "it is not JSON"},
		{"JSON in Latin-1", KindJSON, false, TextValue("\"caf\xe9\""), "it is not valid UTF-8"},
		{"JSON in a blob", KindJSON, false, BlobValue([]byte("{}")), "JSON text is due, it is of class blob"},
		{"JSON number as an integer", KindJSON, false, IntegerValue(1), "JSON text is due, it is of class integer"},
		{"vector required", KindVector, true, Value{}, "the column must have a value"},
		{"text for a vector", KindVector, false, TextValue("[1,2]"), "packed floats are due, it is of class text"},
		{"empty vector", KindVector, false, BlobValue([]byte{}), "1536 floats of 4 bytes are due, it has 0 bytes"},
		{"short vector", KindVector, false, BlobValue(packed(1, 2, 3)), "1536 floats of 4 bytes are due, it has 12 bytes"},
		{"a byte too many", KindVector, false, BlobValue(make([]byte, VectorSize*4+1)), "1536 floats of 4 bytes are due, it has 6145 bytes"},
		{"Infinity in a vector", KindVector, false, BlobValue(packed(infinite...)), "pgvector takes no NaN or Infinity, which its float number 42 is"},
		{"NaN in a vector", KindVector, false, BlobValue(packed(nan...)), "pgvector takes no NaN or Infinity, which its float number 1 is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			before := []byte("before")
			got, err := onlyColumn(tc.kind, tc.required).AppendTuple(before, []Value{TextValue("k-1"), tc.cell})
			cell, ok := errors.AsType[*CellError](err)
			if !ok {
				t.Fatalf("%s: the error is %v", tc.cell, err)
			}
			want := CellError{Table: "cells", Column: "cell", Key: `"k-1"`, Found: tc.cell.String(), Problem: tc.problem}
			if *cell != want {
				t.Errorf("the error is %+v, not %+v", *cell, want)
			}
			if string(got) != "before" {
				t.Errorf("%q came back", got)
			}
		})
	}
}

func TestAppendTupleJSONNullWhereRequired(t *testing.T) {
	t.Parallel()
	got, err := onlyColumn(KindJSON, true).AppendTuple(nil, []Value{TextValue("k"), TextValue("null")})
	if err != nil {
		t.Fatal(err)
	}
	if field := splitTuple(t, got)[1]; string(field) != "\x01null" {
		t.Errorf("it is %q, not JSON's null", field)
	}
}

func TestAppendTupleAppends(t *testing.T) {
	t.Parallel()
	plan := onlyColumn(KindInt, false)
	var buf []byte
	var err error
	for i := range int64(3) {
		if buf, err = plan.AppendTuple(buf, []Value{TextValue("k"), IntegerValue(i)}); err != nil {
			t.Fatal(err)
		}
	}
	const size = 2 + 4 + 1 + 4 + 4
	if len(buf) != 3*size {
		t.Fatalf("%d bytes, not %d", len(buf), 3*size)
	}
	for i := range 3 {
		fields := splitTuple(t, buf[i*size:(i+1)*size])
		if n := decode[int32](t, pgtype.Int4OID, fields[1]); n != int32(i) {
			t.Errorf("tuple %d holds %d", i, n)
		}
	}
}

func TestAppendTupleHomeless(t *testing.T) {
	t.Parallel()
	plan := onlyColumn(KindText, false)
	plan.Homeless = []string{"end_time", "total_cost"}
	if got := plan.Source(); !slices.Equal(got, []string{"id", "cell", "end_time", "total_cost"}) {
		t.Fatalf("the columns to read are %q", got)
	}
	row := []Value{TextValue("k"), TextValue("x"), {}, {}}
	got, err := plan.AppendTuple(nil, row)
	if err != nil {
		t.Fatal(err)
	}
	if fields := splitTuple(t, got); len(fields) != 2 {
		t.Errorf("homeless NULLs are in the tuple: %q", fields)
	}
	row[3] = RealValue(0)
	got, err = plan.AppendTuple([]byte("before"), row)
	cell, ok := errors.AsType[*CellError](err)
	want := CellError{Table: "cells", Column: "total_cost", Key: `"k"`, Found: "0", Problem: "Flujo's PostgreSQL table has no such column"}
	if !ok || *cell != want || string(got) != "before" {
		t.Errorf("%q, error %v", got, err)
	}
}

func TestCellErrorKeys(t *testing.T) {
	t.Parallel()
	plan := onlyColumn(KindInt, false)
	_, err := plan.AppendTuple(nil, []Value{{}, IntegerValue(1)})
	const keyless = `table "cells", row NULL, column "id" holds NULL: the column must have a value`
	if err == nil || err.Error() != keyless {
		t.Errorf("a key that is NULL: %v", err)
	}
	plan.key = -1
	_, err = plan.AppendTuple(nil, []Value{TextValue("k"), TextValue("12")})
	const without = `table "cells", row without a key, column "cell" holds "12": an integer is due, it is of class text`
	if err == nil || err.Error() != without {
		t.Errorf("a table without a key: %v", err)
	}
}

// TestAppendTupleEveryTable fills a row of each of Flujo's tables and reads it
// back by the columns' types.
func TestAppendTupleEveryTable(t *testing.T) {
	t.Parallel()
	cells := map[Kind]Value{
		KindText: TextValue("x"), KindInt: IntegerValue(7), KindFloat4: RealValue(0.5), KindFloat8: RealValue(0.25),
		KindJSON: TextValue("[]"), KindTime: TextValue("2000-01-01T00:00:01Z"), KindBool: IntegerValue(1),
		KindVector: BlobValue(make([]byte, 4*VectorSize)),
	}
	sizes := map[Kind]int{
		KindText: 1, KindInt: 4, KindFloat4: 4, KindFloat8: 8, KindJSON: 3, KindTime: 8, KindBool: 1, KindVector: 4 + 4*VectorSize,
	}
	for i := range Tables {
		table := &Tables[i]
		plan := Plan{Table: table, Target: table.Columns}
		full, empty := make([]Value, len(table.Columns)), make([]Value, len(table.Columns))
		for n, c := range table.Columns {
			full[n] = cells[c.Kind]
			if c.NotNull {
				empty[n] = full[n]
			}
		}
		for _, row := range [][]Value{full, empty} {
			got, err := plan.AppendTuple(nil, row)
			if err != nil {
				t.Fatal(err)
			}
			for n, field := range splitTuple(t, got) {
				c := table.Columns[n]
				if null := row[n].Class == Null; null != (field == nil) || !null && len(field) != sizes[c.Kind] {
					t.Errorf("%s.%s of %s is %q", table.Name, c.Name, row[n], field)
				}
			}
		}
	}
}
