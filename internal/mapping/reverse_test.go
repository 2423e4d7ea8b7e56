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
		encoding, want := encodingOf(table, size)
		row, err := reverse.Row(encoding)
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

// encodingOf returns the encoding of a row with JSON of about the given size in each
// JSON column, a timestamp in each required timestamp column, and NULL elsewhere. It
// also returns the JSON as a file has it.
func encodingOf(table *Table, size int) (encoding []byte, compact string) {
	long := strings.Repeat("x", size)
	encoding = []byte{0, 0, 0, byte(len(table.Columns))}
	for _, c := range table.Columns {
		switch c.Kind {
		case KindTime:
			encoding = append(encoding, 0, 0, 4, 160, 0, 0, 0, 8, 0, 0, 0, 0, 0, 15, 66, 64)
			continue
		case KindJSON:
		default:
			encoding = append(encoding, 0, 0, 0, 25, 255, 255, 255, 255)
			continue
		}
		cell := "\x01" + `{"a": 1, "b": "` + long + `"}`
		encoding = append(encoding, 0, 0, 14, 218)
		n := len(cell)
		encoding = append(encoding, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		encoding = append(encoding, cell...)
	}
	return encoding, `{"a":1,"b":"` + long + `"}`
}
