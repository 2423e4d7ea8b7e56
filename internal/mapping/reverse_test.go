package mapping

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
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
