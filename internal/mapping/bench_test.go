package mapping

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"
)

// BenchmarkConverter converts 20,000 steps with 2 KB of JSON each. Throughput is in
// bytes of cells.
func BenchmarkConverter(b *testing.B) {
	output := `{"text": "` + strings.Repeat(
		"Résumé of a study, with numbers: 1, 2, 3. ",
		45,
	) + `", "score": 0.25, "tags": ["a", "b"]}`
	for _, bm := range []struct {
		name, columns string
		odd           bool
	}{
		{
			"clean",
			"id run_id step_name step_index status output raw_response cost_usd token_counts execution_time_ms " +
				"created_at",
			false,
		},
		{
			"every row changed",
			"id run_id step_name step_index status output raw_response cost_usd token_counts execution_time_ms " +
				"created_at",
			true,
		},
		{"of 0.4", steps0433, false},
	} {
		b.Run(bm.name, func(b *testing.B) {
			c := newConverter(b, mappingOf(b, "steps", strings.Fields(bm.columns)...))
			rows := make([][]sqlite.Value, 20_000)
			size := int64(0)
			for i := range rows {
				named := map[string]sqlite.Value{
					"id": integer(int64(i)), "step_run_id": text(fmt.Sprintf("step-%032d", i)),
					"run_id":    text(fmt.Sprintf("run-%032d", i/10)),
					"step_name": text("summarise"), "step_index": integer(int64(i % 10)),
					"status": text("completed"),
					"output": text(output), "output_blob": text(output),
					"cost_usd": real(0.000808865499794749 * float64(i)),
					"cost":     real(0.5), "token_counts": integer(int64(i)),
					"tokens":            integer(int64(i)),
					"execution_time_ms": integer(int64(i)), "duration_ms": integer(int64(i)),
					"created_at": text("2026-01-05T09:00:01.669094+00:00"),
					"start_time": text("2025-09-01T08:00:00.783607"),
				}
				if bm.odd {
					named["output"] = text(strings.Replace(output, "0.25", "NaN", 1))
					named["token_counts"] = real(12.5)
				}
				rows[i] = []sqlite.Value{integer(int64(i))}
				for _, column := range c.Mapping.Columns {
					v := named[column]
					size += int64(len(v.Bytes))
					if v.Class == sqlite.Integer || v.Class == sqlite.Real {
						size += 8
					}
					rows[i] = append(rows[i], v)
				}
			}
			b.SetBytes(size)
			b.ReportAllocs()
			buf := make([]byte, 0, 1<<16)
			for b.Loop() {
				for _, row := range rows {
					out, accepted, err := c.Append(buf[:0], row)
					if err != nil || !accepted {
						b.Fatal(accepted, err)
					}
					buf = out
				}
			}
		})
	}
}

// BenchmarkReverseConverter converts the cells of a step with 2 KB of JSON to a row of
// a file. Throughput is in bytes of tuples.
func BenchmarkReverseConverter(b *testing.B) {
	table, tuple := benchStep(b)
	var cells [][]byte
	rest := tuple[2:]
	for _, c := range table.Columns {
		size := int32(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		switch {
		case size < 0:
			cells = append(cells, nil)
			continue
		case c.Kind == KindInt || c.Kind == KindFloat4: // eight bytes in an encoding
			cells = append(cells, make([]byte, 8))
		default:
			cells = append(cells, rest[:size])
		}
		rest = rest[size:]
	}
	reverse := &ReverseConverter{Table: table, Types: NewTypes(false)}
	b.SetBytes(int64(len(tuple)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reverse.Row("key", cells); err != nil {
			b.Fatal(err)
		}
	}
}

func benchStep(b *testing.B) (*Table, []byte) {
	b.Helper()
	c := newConverter(
		b,
		mappingOf(
			b,
			"steps",
			strings.Fields(
				"id run_id step_name step_index status output raw_response cost_usd token_counts execution_time_ms "+
					"created_at",
			)...),
	)
	output := `{"text": "` + strings.Repeat(
		"Résumé of a study, with numbers: 1, 2, 3. ",
		45,
	) + `", "score": 0.25, "tags": ["a", "b"]}`
	tuple, accepted, err := c.Append(
		nil,
		[]sqlite.Value{
			integer(1),
			integer(1),
			text("run-1"),
			text("summarise"),
			integer(1),
			text("completed"),
			text(output),
			{},
			real(0.25),
			integer(7),
			integer(8),
			text("2026-01-05T09:00:01.669094+00:00"),
		},
	)
	if err != nil || !accepted {
		b.Fatal(accepted, err)
	}
	return c.Mapping.Table, tuple
}
