package compare

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"flujo-port/internal/mapping"
)

func TestFormatCells(t *testing.T) {
	t.Parallel()
	number := func(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
	for want, cell := range map[string]struct {
		kind mapping.Kind
		cell []byte
	}{
		`"é"`:                              {mapping.KindText, []byte("é")},
		"-7":                               {mapping.KindInt, number(math.MaxUint64 - 6)},
		"0.10000000149011612":              {mapping.KindFloat4, number(math.Float64bits(float64(float32(0.1))))},
		"-1.5":                             {mapping.KindFloat8, number(math.Float64bits(-1.5))},
		`{"a": null, "bb": [100, "é"]}`:    {mapping.KindJSON, []byte("\x01" + `{"a": null, "bb": [100, "é"]}`)},
		"2026-01-05T09:00:01.669094+00:00": {mapping.KindTime, number(820918801669094)},
		"true":                             {mapping.KindBool, []byte{1}},
	} {
		if a, b := formatCells(cell.kind, cell.cell, nil); a != want || b != "NULL" {
			t.Errorf("got %s and %s, want %s and NULL", a, b, want)
		}
	}
	if a, _ := formatCells(mapping.KindVector, []byte{0, 1}, nil); a != "x'0001'" {
		t.Error(a)
	}
}

// TestFormatCellsFromDifference checks that long texts are shown from shortly before
// the first difference, beginning and ending with a whole character.
func TestFormatCellsFromDifference(t *testing.T) {
	t.Parallel()
	same := strings.Repeat("é", 50)
	for _, tc := range []struct {
		kind               mapping.Kind
		a, b, wantA, wantB string
	}{
		{mapping.KindText, same + "x", same + "y", `… from byte 80: "ééééééééééx"`, `… from byte 80: "ééééééééééy"`},
		{mapping.KindText, same + "xx", same + "é", `… from byte 80: "ééééééééééxx"`, `… from byte 80: "ééééééééééé"`},
		{mapping.KindText, same, "x", `"` + strings.Repeat("é", 30) + `"… (100 bytes)`, `"x"`},
		{mapping.KindText, same, same[:60], `… from byte 40: "` + same[:60] + `"`, `… from byte 40: "éééééééééé"`},
		{
			mapping.KindJSON, "\x01\"" + same + "x", "\x01\"" + same + "y",
			"… from byte 81: ééééééééééx", "… from byte 81: ééééééééééy",
		},
		{mapping.KindJSON, "\x01\"" + same, "\x01{}", `"` + strings.Repeat("é", 29) + "… (101 bytes)", "{}"},
	} {
		if a, b := formatCells(tc.kind, []byte(tc.a), []byte(tc.b)); a != tc.wantA || b != tc.wantB {
			t.Errorf("%.20s…: %s and %s, not %s and %s", tc.a, a, b, tc.wantA, tc.wantB)
		}
	}
}
