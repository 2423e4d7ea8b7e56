package mapping

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestAppendCompact: JSON as jsonb prints it loses its white space and nothing
// else, as encoding/json sees it.
func TestAppendCompact(t *testing.T) {
	t.Parallel()
	texts := []string{`null`, `""`, `"a b"`, `"\\"`, `"\\\" \" , : "`, `" \\\\"`, `[]`, `[1, 2, "x, y"]`, `{"a": {"b c": "d\\"}, "": [true, -1.5e10]}`, `"für, \t 心"`}
	lot := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var b strings.Builder
		b.WriteString(`{`)
		for n := range lot.IntN(5) {
			if n > 0 {
				b.WriteString(`, `)
			}
			fmt.Fprintf(&b, `"%d": "`, n)
			for range lot.IntN(12) {
				b.WriteString([]string{`\\`, `\"`, ` `, `, `, `: `, `ä`, `x`}[lot.IntN(7)])
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

// TestBackRows: a row's cells stay as they are until the next row, also where
// their place had to grow.
func TestBackRows(t *testing.T) {
	t.Parallel()
	table := &Tables[0]
	for i := range Tables {
		if Tables[i].Name == "workflow_state" {
			table = &Tables[i]
		}
	}
	back := &Back{Table: table, Types: NewTypes(false)}
	for _, size := range []int{10, 5000, 2 << 20, 20} {
		image, want := imageOf(table, size)
		row, err := back.Row(image)
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

// imageOf makes an image of a row with JSON of about a size in each column that
// takes it, a time where that is due, NULL elsewhere, and that JSON as a file has it.
func imageOf(table *Table, size int) (image []byte, compact string) {
	long := strings.Repeat("x", size)
	image = []byte{0, 0, 0, byte(len(table.Columns))}
	for _, c := range table.Columns {
		switch c.Kind {
		case KindTime:
			image = append(image, 0, 0, 4, 160, 0, 0, 0, 8, 0, 0, 0, 0, 0, 15, 66, 64)
			continue
		case KindJSON:
		default:
			image = append(image, 0, 0, 0, 25, 255, 255, 255, 255)
			continue
		}
		cell := "\x01" + `{"a": 1, "b": "` + long + `"}`
		image = append(image, 0, 0, 14, 218)
		n := len(cell)
		image = append(image, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		image = append(image, cell...)
	}
	return image, `{"a":1,"b":"` + long + `"}`
}
