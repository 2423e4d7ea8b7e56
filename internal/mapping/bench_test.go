package mapping

import (
	"fmt"
	"strings"
	"testing"
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
			rows := make([][]Value, 20_000)
			size := int64(0)
			for i := range rows {
				named := map[string]Value{
					"id": IntegerValue(int64(i)), "step_run_id": TextValue(fmt.Sprintf("step-%032d", i)),
					"run_id":    TextValue(fmt.Sprintf("run-%032d", i/10)),
					"step_name": TextValue("summarise"), "step_index": IntegerValue(int64(i % 10)),
					"status": TextValue("completed"),
					"output": TextValue(output), "output_blob": TextValue(output),
					"cost_usd": RealValue(0.000808865499794749 * float64(i)),
					"cost":     RealValue(0.5), "token_counts": IntegerValue(int64(i)),
					"tokens":            IntegerValue(int64(i)),
					"execution_time_ms": IntegerValue(int64(i)), "duration_ms": IntegerValue(int64(i)),
					"created_at": TextValue("2026-01-05T09:00:01.669094+00:00"),
					"start_time": TextValue("2025-09-01T08:00:00.783607"),
				}
				if bm.odd {
					named["output"] = TextValue(strings.Replace(output, "0.25", "NaN", 1))
					named["token_counts"] = RealValue(12.5)
				}
				rows[i] = []Value{IntegerValue(int64(i))}
				for _, column := range c.Mapping.Columns {
					v := named[column]
					size += int64(len(v.Bytes))
					if v.Class == Integer || v.Class == Real {
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

// BenchmarkDigest adds the tuple of a step with 2 KB of JSON to a digest, as a
// migration does during the load. BenchmarkReverseConverter converts its encoding to a
// row of a file. Throughput is in bytes of tuples.
func BenchmarkDigest(b *testing.B) {
	table, tuple := benchStep(b)
	d := NewDigest(table)
	b.SetBytes(int64(len(tuple)))
	b.ReportAllocs()
	for b.Loop() {
		d.Add(tuple)
	}
}

func BenchmarkReverseConverter(b *testing.B) {
	table, tuple := benchStep(b)
	encoding := new(RowEncoder).Append(nil, table, tuple)
	reverse := &ReverseConverter{Table: table, Types: NewTypes(false)}
	b.SetBytes(int64(len(tuple)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reverse.Row(encoding); err != nil {
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
		[]Value{
			IntegerValue(1),
			IntegerValue(1),
			TextValue("run-1"),
			TextValue("summarise"),
			IntegerValue(1),
			TextValue("completed"),
			TextValue(output),
			{},
			RealValue(0.25),
			IntegerValue(7),
			IntegerValue(8),
			TextValue("2026-01-05T09:00:01.669094+00:00"),
		},
	)
	if err != nil || !accepted {
		b.Fatal(accepted, err)
	}
	return c.Mapping.Table, tuple
}
