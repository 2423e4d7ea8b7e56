package source

import (
	"io"
	"testing"
)

// BenchmarkRows reads steps of 2 KB of JSON each.
func BenchmarkRows(b *testing.B) {
	path := build(
		b,
		walMode,
		`CREATE TABLE steps (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
			step_name TEXT NOT NULL, step_index INTEGER NOT NULL, status TEXT NOT NULL, output TEXT,
			raw_response TEXT, cost_usd REAL, token_counts INTEGER, execution_time_ms INTEGER,
			created_at TEXT NOT NULL)`,
		`INSERT INTO steps WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 20000)
			SELECT i, printf('run-%032d', i / 10), 'summarise', i % 10, 'completed', printf('{"text":"%.*c","n":%d}',
				2000, 'x', i), NULL,
				0.000808865499794749 * i, i, i, '2026-01-05T09:00:01.669094+00:00' FROM c`,
	)
	s := openSnapshot(b, path)
	columns := s.Tables()["steps"]
	b.SetBytes(s.Size())
	b.ReportAllocs()
	for b.Loop() {
		rows, err := s.Rows(b.Context(), "steps", columns)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			if _, err = rows.Next(); err != nil {
				break
			}
		}
		if err != io.EOF || n != 20_000 {
			b.Fatal(n, err)
		}
		rows.Close()
	}
}
