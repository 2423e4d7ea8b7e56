package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"
)

// TestStorageClasses: what is stored comes, whatever the column was declared.
func TestStorageClasses(t *testing.T) {
	t.Parallel()
	type cell struct {
		sql  string
		want sqlite.Value
	}
	cells := []cell{
		{"NULL", sqlite.Value{}},
		{"0", sqlite.IntegerValue(0)},
		{"1", sqlite.IntegerValue(1)},
		{"-1", sqlite.IntegerValue(-1)},
		{"9223372036854775807", sqlite.IntegerValue(math.MaxInt64)},
		{"-9223372036854775808", sqlite.IntegerValue(math.MinInt64)},
		{"1767603600", sqlite.IntegerValue(1767603600)},
		{"12.5", sqlite.RealValue(12.5)},
		{"1767603600.8574798", sqlite.RealValue(1767603600.8574798)},
		{"5e-324", sqlite.RealValue(math.SmallestNonzeroFloat64)},
		{"9e999", sqlite.RealValue(math.Inf(1))},
		{"-9e999", sqlite.RealValue(math.Inf(-1))},
		{"''", sqlite.TextValue("")},
		{"'null'", sqlite.TextValue("null")},
		{"'é 文字 🜁'", sqlite.TextValue("é 文字 🜁")},
		{"'2026-11-23 02:18:25'", sqlite.TextValue("2026-11-23 02:18:25")},
		{"'2026-01-05T09:00:01.669094+00:00'", sqlite.TextValue("2026-01-05T09:00:01.669094+00:00")},
		{"'true'", sqlite.TextValue("true")},
		{"'a' || char(0) || 'b'", sqlite.TextValue("a\x00b")},
		{"char(0)", sqlite.TextValue("\x00")},
		{"CAST(x'ff00fe' AS TEXT)", sqlite.TextValue("\xff\x00\xfe")},
		{"x''", sqlite.BlobValue(nil)},
		{"x'00'", sqlite.BlobValue([]byte{0})},
		{"x'7b7d'", sqlite.BlobValue([]byte("{}"))},
		{"zeroblob(6144)", sqlite.BlobValue(make([]byte, 6144))},
		{"printf('%.*c', 100000, 'x')", sqlite.TextValue(strings.Repeat("x", 100_000))},
	}
	for _, declared := range []string{"", "BLOB", "TEXT", "REAL", "INTEGER", "DATETIME", "DATE", "TIMESTAMP", "BOOLEAN",
		"VARCHAR(3)"} {
		for _, state := range []string{"file", "-wal"} {
			t.Run(declared+" in the "+state, func(t *testing.T) {
				t.Parallel()
				// Without affinity nothing is converted when it is written: the
				// column gets its type afterwards.
				statements := []string{"CREATE TABLE cells (cell, declared)"}
				for i, c := range cells {
					statements = append(
						statements,
						fmt.Sprintf("INSERT INTO cells (rowid, cell) VALUES (%d, %s)", i+1, c.sql),
					)
				}
				statements = append(
					statements,
					"UPDATE cells SET declared = cell",
					"PRAGMA writable_schema = ON",
					"UPDATE sqlite_master SET sql = 'CREATE TABLE cells (cell, declared "+declared+")'",
					"PRAGMA writable_schema = OFF",
				)
				path := build(t, walMode)
				if state == "file" {
					execute(t, path, statements...)
				} else {
					leftByKilled(t, path, statements...)
				}
				watch(t, path)
				s := openSnapshot(t, path)
				rows, err := s.Rows(t.Context(), "cells", []string{"declared", "cell"})
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
				for i, c := range cells {
					row, err := rows.Next()
					if err != nil {
						t.Fatal(err)
					}
					if !same(row[0], sqlite.IntegerValue(int64(i+1))) {
						t.Errorf("row %d has the rowid %s", i+1, row[0])
					}
					// SQLite keeps a whole real as an integer in a REAL column,
					// so it takes any integer there for a real.
					want := c.want
					if declared == "REAL" && want.Class == sqlite.Integer {
						want = sqlite.RealValue(float64(want.Int))
					}
					if !same(row[1], want) || !same(row[2], c.want) {
						t.Errorf("%s came as %s %s and %s %s", c.sql, row[1].Class, row[1], row[2].Class, row[2])
					}
				}
				for range 2 { // the end stays the end
					if _, err := rows.Next(); err != io.EOF {
						t.Errorf("after the last row: %v", err)
					}
				}
			})
		}
	}
}

func same(a, b sqlite.Value) bool {
	return a.Class == b.Class && a.Int == b.Int && math.Float64bits(a.Real) == math.Float64bits(b.Real) &&
		string(a.Bytes) == string(b.Bytes)
}

// TestAffinityOnWrite: what SQLite makes of a value when it is written is what
// is stored.
func TestAffinityOnWrite(t *testing.T) {
	t.Parallel()
	path := build(
		t,
		"CREATE TABLE c (i INTEGER, r REAL, t TEXT, d DATETIME, b BOOLEAN)",
		"INSERT INTO c VALUES ('12', '12', 12, '2026-11-23 02:18:25', true), (12.5, 12, 12.5, 1767603600, false), "+
			"('x', 'x', x'01', 2460000.5, 2)",
	)
	s := openSnapshot(t, path)
	got, err := collect(s.Rows(t.Context(), "c", s.Tables()["c"]))
	want := []string{
		`1, 12, 12 real, "12", "2026-11-23 02:18:25", 1`,
		`2, 12.5 real, 12 real, "12.5", 1767603600, 0`,
		`3, "x", "x", x'01', 2.4600005e+06 real, 2`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestUTF16(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"UTF-16le", "UTF-16be"} {
		for _, wal := range []bool{false, true} {
			path := build(t, "PRAGMA encoding = '"+encoding+"'", "CREATE TABLE ü (é TEXT)", walMode)
			insert := "INSERT INTO ü VALUES ('é 文字 🜁'), (''), ('a' || char(0) || 'b'), (x'00ff')"
			if wal {
				leftByKilled(t, path, insert)
			} else {
				execute(t, path, insert)
			}
			watch(t, path)
			s := openSnapshot(t, path)
			if !slices.Equal(s.Tables()["ü"], []string{"é"}) {
				t.Errorf("the tables are %q", s.Tables())
			}
			got, err := collect(s.Rows(t.Context(), "ü", []string{"é"}))
			if want := []string{`1, "é 文字 🜁"`, `2, ""`, `3, "a\x00b"`, "4, x'00ff'"}; err != nil ||
				!slices.Equal(got, want) {
				t.Errorf("%s: %q, %v", encoding, got, err)
			}
		}
	}
}

// TestRowsInOrder: by rowid, also where an index holds all the columns.
func TestRowsInOrder(t *testing.T) {
	t.Parallel()
	path := build(
		t,
		"CREATE TABLE a (k TEXT PRIMARY KEY)",
		"CREATE INDEX a_k ON a (k DESC)",
		"INSERT INTO a VALUES ('b'), ('c'), ('a')",
		"CREATE TABLE w (k TEXT PRIMARY KEY) WITHOUT ROWID",
		"INSERT INTO w VALUES ('b'), ('c'), ('a')",
	)
	s := openSnapshot(t, path)
	for table, want := range map[string][]string{"a": {`1, "b"`, `2, "c"`, `3, "a"`},
		"w": {`1, "a"`, `2, "b"`, `3, "c"`}} {
		if got, err := collect(s.Rows(t.Context(), table, []string{"k"})); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", table, got, err)
		}
	}
}

func TestRowsSideBySide(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, withWAL(t))
	a, b := firstRow(t, s), firstRow(t, s)
	theRest(t, a, 109, 'x')
	theRest(t, b, 109, 'x')
}

func TestRowsClosed(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, withWAL(t))
	rows := firstRow(t, s)
	for range 2 {
		rows.Close()
	}
	if _, err := rows.Next(); err != io.EOF {
		t.Errorf("after Close: %v", err)
	}
	holds(t, s, 110)
}

func TestRowsCancelled(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"file": build(t, rowsTable, addRows(1000)), "-wal": withWAL(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			watch(t, path)
			s := openSnapshot(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			rows, err := s.Rows(ctx, "runs", []string{"run_id"})
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for range 10 {
				if _, err := rows.Next(); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			for range 2 {
				if row, err := rows.Next(); !errors.Is(err, context.Canceled) || row != nil {
					t.Errorf("%v, %v", row, err)
				}
			}
			rows.Close()
			if _, err := s.Count(ctx, "runs"); !errors.Is(err, context.Canceled) {
				t.Errorf("count: %v", err)
			}
			// The snapshot is as good as before.
			if n, err := s.Count(t.Context(), "runs"); err != nil || n < 110 {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
}

func TestLastID(t *testing.T) {
	t.Parallel()
	path := build(
		t,
		"CREATE TABLE plain (id INTEGER PRIMARY KEY, x)",
		"INSERT INTO plain VALUES (3, 0), (41, 0)",
		"DELETE FROM plain WHERE id = 41",
		"CREATE TABLE remembered (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
		"INSERT INTO remembered VALUES (3, 0), (42, 0)",
		"DELETE FROM remembered WHERE id = 42",
		"CREATE TABLE emptied (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
		"INSERT INTO emptied VALUES (7, 0)",
		"DELETE FROM emptied",
		"CREATE TABLE unused (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
		"CREATE TABLE negative (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
		"INSERT INTO negative VALUES (-5, 0)",
		"CREATE TABLE large (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
		"INSERT INTO large VALUES (9223372036854775807, 0)",
		"CREATE TABLE behind (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
		"INSERT INTO behind VALUES (9, 0)",
		"UPDATE sqlite_sequence SET seq = 4 WHERE name = 'behind'",
		"CREATE TABLE forgotten (id INTEGER PRIMARY KEY AUTOINCREMENT, x)",
		"INSERT INTO forgotten VALUES (6, 0)",
		"DELETE FROM sqlite_sequence WHERE name = 'forgotten'",
		`CREATE TABLE "it's" (id INTEGER PRIMARY KEY AUTOINCREMENT)`,
		`INSERT INTO "it's" VALUES (8)`,
		`DELETE FROM "it's"`,
	)
	watch(t, path)
	s := openSnapshot(t, path)
	for table, want := range map[string]int64{
		"plain": 3, "remembered": 42, "emptied": 7, "unused": 0, "negative": 0, "large": math.MaxInt64, "behind": 9,
		"forgotten": 6, "it's": 8,
	} {
		if got, err := s.LastID(t.Context(), table, "id"); err != nil || got != want {
			t.Errorf("%s: %d, %v; not %d", table, got, err, want)
		}
	}
	without := openSnapshot(t, build(t, "CREATE TABLE plain (id INTEGER PRIMARY KEY)", "INSERT INTO plain VALUES (3)"))
	if got, err := without.LastID(t.Context(), "plain", "id"); err != nil || got != 3 {
		t.Errorf("where SQLite remembers nothing: %d, %v", got, err)
	}
}

// TestIDBounds tests the bounds of ids of any storage class, with a primary key and without, and of rowids.
func TestIDBounds(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, build(t,
		"CREATE TABLE plain (id INTEGER PRIMARY KEY, x)", "INSERT INTO plain VALUES (3, 0), (-41, 0), (7, 0)",
		"CREATE TABLE unordered (id, x)",
		"INSERT INTO unordered VALUES (5, 0), (2, 0), ('9', 0), (NULL, 0), (1.5, 0), (x'00', 0)",
		"CREATE TABLE nocase (id COLLATE NOCASE, x)", "INSERT INTO nocase VALUES (12, 0), (11, 0), ('a', 0)",
		"CREATE TABLE none (id, x)", "INSERT INTO none VALUES ('1', 0)",
		"CREATE TABLE empty (id INTEGER PRIMARY KEY)",
		"CREATE TABLE rowids (x)", "INSERT INTO rowids (rowid, x) VALUES (4, 0), (6, 0)"))
	for table, want := range map[string][2]int64{
		"plain": {-41, 7}, "unordered": {2, 5}, "nocase": {11, 12}, "none": {1, 0}, "empty": {1, 0}, "rowids": {4, 6},
	} {
		if first, last, err := s.IDBounds(t.Context(), table, "id"); err != nil || [2]int64{first, last} != want {
			t.Errorf("%s: got %d, %d and error %v, want %d", table, first, last, err, want)
		}
	}
}
