package mapping

import (
	"bytes"
	"cmp"
	"encoding/binary"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"
)

// TestAppendCompact checks with encoding/json that only white space is removed from
// JSON as jsonb prints it.
func TestAppendCompact(t *testing.T) {
	t.Parallel()
	texts := []string{
		`null`,
		`""`,
		`"a b"`,
		`"\\"`,
		`"\\\" \" , : "`,
		`" \\\\"`,
		`[]`,
		`[1, 2, "x, y"]`,
		`{"a": {"b c": "d\\"}, "": [true, -1.5e10]}`,
		`"für, \t 心"`,
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var b strings.Builder
		b.WriteString(`{`)
		for n := range random.IntN(5) {
			if n > 0 {
				b.WriteString(`, `)
			}
			fmt.Fprintf(&b, `"%d": "`, n)
			for range random.IntN(12) {
				b.WriteString([]string{`\\`, `\"`, ` `, `, `, `: `, `ä`, `x`}[random.IntN(7)])
			}
			b.WriteString(`"`)
		}
		b.WriteString(`}`)
		texts = append(texts, b.String())
	}
	for _, text := range texts {
		var want bytes.Buffer
		if err := stdjson.Compact(&want, []byte(text)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := appendCompact([]byte("before"), []byte(text)); string(got) != "before"+want.String() {
			t.Errorf("%s became %s, want %s", text, got[6:], want.Bytes())
		}
	}
}

// TestReverseConverterRow checks that a row's cells remain valid until the next row,
// even if the buffer grew.
func TestReverseConverterRow(t *testing.T) {
	t.Parallel()
	table := &Tables[0]
	for i := range Tables {
		if Tables[i].Name == "workflow_state" {
			table = &Tables[i]
		}
	}
	reverse := &ReverseConverter{Table: table, Types: NewTypes(false)}
	for _, size := range []int{10, 5000, 2 << 20, 20} {
		cells, want := cellsOf(table, size)
		row, err := reverse.Row("key", cells)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range row[:len(table.Columns)] {
			want := map[Kind]string{KindJSON: want, KindTime: "2000-01-01T00:00:01+00:00"}[table.Columns[i].Kind]
			if string(v.Bytes) != want {
				t.Errorf("%d bytes: column %s is %.40s", size, table.Columns[i].Name, v.Bytes)
			}
		}
	}
}

// cellsOf returns the cells of a row with JSON of about the given size in each JSON
// column, a timestamp in each timestamp column, and NULL elsewhere. It also returns
// the JSON as a file has it.
func cellsOf(table *Table, size int) (cells [][]byte, compact string) {
	long := strings.Repeat("x", size)
	for _, c := range table.Columns {
		switch c.Kind {
		case KindTime:
			cells = append(cells, []byte{0, 0, 0, 0, 0, 15, 66, 64})
		case KindJSON:
			cells = append(cells, []byte("\x01"+`{"a": 1, "b": "`+long+`"}`))
		default:
			cells = append(cells, nil)
		}
	}
	return cells, `{"a":1,"b":"` + long + `"}`
}

// TestReverseConverterKinds converts a cell of every kind that needs no extension.
func TestReverseConverterKinds(t *testing.T) {
	t.Parallel()
	cellsTable := &Table{Name: "cells", PrimaryKey: "id", Columns: []Column{
		notNull(integerColumn("id")), textColumn("t"), integerColumn("i"), integerColumn("wide"), real4Column("r"),
		real4Column("exact"), real8Column("d"), jsonColumn("j"), timestampColumn("z"), {Name: "b", Kind: KindBool},
	}}
	whole := func(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
	float := func(v float64) []byte { return whole(int64(math.Float64bits(v))) }
	rows := [][][]byte{
		{whole(1), []byte("é"), whole(-7), whole(math.MaxInt64), float(float64(float32(0.1))), float(0.1), float(-1.5),
			[]byte("\x01" + `{"a": null, "bb": [100, "é"]}`), whole(820918801669094), {1}},
		{whole(2), {}, whole(0), whole(-1), float(math.Inf(1)), float(math.SmallestNonzeroFloat64), float(0),
			[]byte("\x01[]"), whole(-63082281600000000), {0}},
		{whole(3), nil, nil, nil, nil, nil, nil, nil, nil, nil},
	}
	reverse := &ReverseConverter{Table: cellsTable, Types: NewTypes(false)}
	reverse.Types.Double["cells.exact"] = true
	for n, want := range [][]sqlite.Value{
		{integer(1), text("é"), integer(-7), integer(math.MaxInt64), real(0.1), real(0.1), real(-1.5),
			text(`{"a":null,"bb":[100,"é"]}`), text("2026-01-05T09:00:01.669094+00:00"), integer(1)},
		{integer(2), text(""), integer(0), integer(-1), real(math.Inf(1)), real(math.SmallestNonzeroFloat64), real(0),
			text(`[]`), text("0001-01-01T00:00:00+00:00"), integer(0)},
		{integer(3), {}, {}, {}, {}, {}, {}, {}, {}, {}},
	} {
		got, err := reverse.Row("key", rows[n])
		if err != nil || !slices.EqualFunc(got, want, sameValue) {
			t.Errorf("%v (%v), not %v", got, err, want)
		}
	}
}

func TestReverseConverterCells(t *testing.T) {
	t.Parallel()
	nan := binary.BigEndian.AppendUint64(nil, math.Float64bits(math.NaN()))
	for name, tc := range map[string]struct {
		table   string
		column  Column
		cell    []byte
		want    sqlite.Value
		problem string
	}{
		"vector": {
			column: Column{Kind: KindVector}, cell: []byte{0, 1, 0, 0, 1, 2, 3, 4}, want: blob([]byte{4, 3, 2, 1}),
		},
		"no vector": {column: Column{Kind: KindVector}, problem: "NULL, and the column in the file is NOT NULL"},
		"no output": {table: "steps", column: jsonColumn("output"), want: text("null")},
		"NaN":       {column: real8Column("x"), cell: nan},
		"NaN where required": {
			column: notNull(real8Column("x")), cell: nan,
			problem: "NaN, which SQLite cannot store, and the column in the file is NOT NULL",
		},
		"infinite time": {
			column: timestampColumn("x"), cell: binary.BigEndian.AppendUint64(nil, math.MaxInt64),
			problem: "a timestamp outside of the years 1 to 9999, which Python cannot read",
		},
	} {
		tc.column.Name = cmp.Or(tc.column.Name, "x")
		table := &Table{Name: cmp.Or(tc.table, "t"), PrimaryKey: tc.column.Name, Columns: []Column{tc.column}}
		reverse := &ReverseConverter{Table: table, Types: NewTypes(false)}
		row, err := reverse.Row(string(tc.cell), [][]byte{tc.cell})
		if tc.problem != "" {
			want := fmt.Sprintf("t %q, column x: %s", tc.cell, tc.problem)
			if e, ok := errors.AsType[*UnrepresentableError](err); !ok || e.Error() != want {
				t.Errorf("%s: error %v, not %s", name, err, want)
			}
			continue
		}
		if err != nil || !sameValue(row[0], tc.want) {
			t.Errorf("%s: %v (%v), not %s", name, row, err, tc.want)
		}
		if nulls := reverse.Nulls["x"]; (nulls == 1) != (name == "NaN") {
			t.Errorf("%s: %d NaN became NULL", name, nulls)
		}
	}
}
