package compare

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
)

// formatCells returns two different cells of a column as readable text, one line
// each. Long cells are shortened to the part where they begin to differ.
func formatCells(kind mapping.Kind, a, b []byte) (string, string) {
	switch kind {
	case mapping.KindText:
		from := commonStart(a, b)
		return formatText(a, from), formatText(b, from)
	case mapping.KindJSON:
		from := commonStart(a, b)
		return formatJSON(a, from), formatJSON(b, from)
	}
	return formatCell(kind, a), formatCell(kind, b)
}

// commonStart returns the number of bytes to omit at the start of two texts; 0 if
// both are short.
func commonStart(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if max(len(a), len(b)) <= sqlite.LongestShown || n < sqlite.LongestShown/3 {
		return 0
	}
	n -= sqlite.LongestShown / 3
	for n > 0 && !utf8.RuneStart(a[n]) {
		n--
	}
	return n
}

func formatText(cell []byte, from int) string {
	if cell == nil {
		return "NULL"
	}
	shown := sqlite.Value{Class: sqlite.Text, Bytes: cell[min(from, len(cell)):]}.String()
	if from > 0 {
		return fmt.Sprintf("… from byte %d: %s", from, shown)
	}
	return shown
}

func formatJSON(cell []byte, from int) string {
	if cell == nil {
		return "NULL"
	}
	shown, more := cell[min(max(from, 1), len(cell)):], "" // 1: the version of jsonb's binary form
	if len(shown) > sqlite.LongestShown {
		shown, more = shown[:sqlite.LongestShown], fmt.Sprintf("… (%d bytes)", len(cell)-1)
		for len(shown) > 0 && !utf8.RuneStart(cell[min(max(from, 1), len(cell))+len(shown)]) {
			shown = shown[:len(shown)-1]
		}
	}
	if from > 0 {
		return fmt.Sprintf("… from byte %d: %s%s", from-1, shown, more)
	}
	return string(shown) + more
}

func formatCell(kind mapping.Kind, cell []byte) string {
	if cell == nil {
		return "NULL"
	}
	switch kind {
	case mapping.KindInt:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(cell)), 10)
	case mapping.KindFloat4, mapping.KindFloat8:
		return strconv.FormatFloat(math.Float64frombits(binary.BigEndian.Uint64(cell)), 'g', -1, 64)
	case mapping.KindTime:
		return mapping.Time{Micros: int64(binary.BigEndian.Uint64(cell))}.String()
	case mapping.KindBool:
		return strconv.FormatBool(cell[0] != 0)
	}
	return sqlite.Value{Class: sqlite.Blob, Bytes: cell}.String()
}
