package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"
)

func openConn(t testing.TB, statements ...string) *Conn {
	t.Helper()
	c, err := Open("file:" + filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, s := range statements {
		if err := c.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// all returns the rows of a query, with copies of their bytes.
func all(t testing.TB, c *Conn, sql string, parameters ...Value) (rows [][]Value) {
	t.Helper()
	r, err := c.Query(t.Context(), sql, parameters...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		row, err := r.Next()
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		var own []Value
		for _, v := range row {
			own = append(own, v.Clone())
		}
		rows = append(rows, own)
	}
}

// show returns an exact representation of a value.
func show(v Value) string {
	return fmt.Sprintf("%s %d %x %x", v.Class, v.Int, math.Float64bits(v.Real), v.Bytes)
}

// TestValues checks that values are read as they were written, and that SQLite sees the
// same values.
func TestValues(t *testing.T) {
	t.Parallel()
	c := openConn(t, "CREATE TABLE t (a BLOB)") // a column that converts nothing
	insert, err := c.Prepare("INSERT INTO t VALUES (?)")
	if err != nil {
		t.Fatal(err)
	}
	defer insert.Close()
	long := strings.Repeat("0123456789abcdef", 2*maxTextBuffer/16)
	for _, tc := range []struct {
		in     Value
		quoted string // by SQLite
	}{
		{Value{}, "NULL"},
		{IntegerValue(math.MinInt64), "-9223372036854775808"},
		{IntegerValue(1), "1"},
		{RealValue(0.5), "0.5"},
		{RealValue(math.Inf(-1)), "-9.0e+999"},
		{TextValue(""), "''"},
		{TextValue("it's ü"), "'it''s ü'"},
		{TextValue(long), "'" + long + "'"},
		{BlobValue(nil), "X''"},
		{BlobValue([]byte{}), "X''"},
		{BlobValue([]byte{0, 255}), "X'00FF'"},
		{TextValue("short, after a long one"), "'short, after a long one'"},
	} {
		if changed, err := insert.Run(t.Context(), []Value{tc.in}); err != nil || changed != 1 {
			t.Fatal(changed, err)
		}
		row := all(t, c, "SELECT a, quote(a), a IS ?1 FROM t ORDER BY rowid DESC LIMIT 1", tc.in)[0]
		if got, want := show(row[0]), show(tc.in); got != want && len(got) < 100 {
			t.Errorf("got %s, want %s", got, want)
		}
		if !bytes.Equal(row[0].Bytes, tc.in.Bytes) || row[0].Class != tc.in.Class {
			t.Errorf("%s of %d bytes came as %s of %d", tc.in.Class, len(tc.in.Bytes), row[0].Class, len(row[0].Bytes))
		}
		if string(row[1].Bytes) != tc.quoted || row[2].Int != 1 {
			t.Errorf("SQLite has %.50s, not %.50s", row[1].Bytes, tc.quoted)
		}
	}
	if insert.size > maxTextBuffer {
		t.Errorf("%d bytes are kept", insert.size)
	}
	// A NUL and bytes that are not UTF-8 are stored like other bytes of a text.
	odd := all(t, c, "SELECT CAST(X'61006280' AS TEXT)")[0][0]
	if show(odd) != show(TextValue("a\x00b\x80")) {
		t.Errorf("got %s", show(odd))
	}
	// A column's declared type does not matter.
	c = openConn(t, "CREATE TABLE d (a DATETIME, b BOOLEAN)", "INSERT INTO d VALUES ('2026-01-05 09:00:00', 1)")
	if row := all(t, c, "SELECT * FROM d")[0]; string(row[0].Bytes) != "2026-01-05 09:00:00" ||
		row[1].Class != Integer {
		t.Error(row)
	}
}

// TestLongAmongShort tests that parameters that are copied and those that are not do not mix.
func TestLongAmongShort(t *testing.T) {
	t.Parallel()
	c := openConn(t, "CREATE TABLE t (a, b, c, d)")
	insert, err := c.Prepare("INSERT INTO t VALUES (?, ?, ?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	defer insert.Close()
	rows := [][]Value{
		{
			TextValue("short"), TextValue(strings.Repeat("t", maxTextBuffer+1)),
			BlobValue(bytes.Repeat([]byte{0, 1}, maxTextBuffer)), TextValue("last"),
		},
		{TextValue("a"), TextValue(""), IntegerValue(1), BlobValue([]byte{2})},
	}
	for _, row := range rows {
		if _, err := insert.Run(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	for i, row := range all(t, c, "SELECT * FROM t ORDER BY rowid") {
		for j, v := range row {
			if want := rows[i][j]; v.Class != want.Class || v.Int != want.Int || !bytes.Equal(v.Bytes, want.Bytes) {
				t.Errorf("row %d, column %d: got %s, want %s", i, j, v, want)
			}
		}
	}
}

func TestText16(t *testing.T) {
	t.Parallel()
	c := openConn(t, "PRAGMA encoding = 'UTF-16le'", "CREATE TABLE t (a)", "INSERT INTO t VALUES ('für'), ('')")
	rows := all(t, c, "SELECT a, octet_length(a) FROM t")
	if string(rows[0][0].Bytes) != "für" || rows[0][1].Int != 6 || rows[1][0].Class != Text ||
		len(rows[1][0].Bytes) != 0 {
		t.Error(rows)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	c := openConn(t, "CREATE TABLE t (a); INSERT INTO t VALUES (1); SELECT * FROM t; ; -- that was all\n")
	if n := all(t, c, "SELECT count(*) FROM t")[0][0].Int; n != 1 {
		t.Errorf("%d rows", n)
	}
	err := c.Exec(t.Context(), "INSERT INTO t VALUES (2); INSERT INTO nowhere VALUES (3); INSERT INTO t VALUES (4)")
	if err == nil || err.Error() != "no such table: nowhere (SQLite error 1)" {
		t.Error(err)
	}
	if n := all(t, c, "SELECT count(*) FROM t")[0][0].Int; n != 2 {
		t.Errorf("%d rows", n)
	}
	for _, none := range []string{"SELECT", "", "-- nothing"} {
		if _, err := c.Prepare(none); err == nil {
			t.Errorf("no error for %q", none)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	c := openConn(t, "CREATE TABLE t (a INTEGER PRIMARY KEY, b UNIQUE)", "INSERT INTO t VALUES (1, 1)")
	s, err := c.Prepare("INSERT INTO t VALUES (?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Run(t.Context(), []Value{IntegerValue(2), IntegerValue(1)})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Primary() != sqlite3.SQLITE_CONSTRAINT ||
		!strings.Contains(e.Message, "t.b") {
		t.Error(err)
	}
	// The statement can be run again.
	if n, err := s.Run(t.Context(), []Value{IntegerValue(2), IntegerValue(2)}); err != nil ||
		n != 1 {
		t.Error(n, err)
	}
	if _, err := Open("file:" + filepath.Join(t.TempDir(), "no", "such.db")); err == nil ||
		!strings.Contains(err.Error(), "unable to open database file") {
		t.Error(err)
	}
	if _, err := Open("file:x.db?vfs=nosuch"); err == nil || !strings.Contains(err.Error(), "no such vfs") {
		t.Error(err)
	}
}

// TestCloseBeforeRows checks that a connection with an open query is not closed, and
// that Close returns an error.
func TestCloseBeforeRows(t *testing.T) {
	t.Parallel()
	c := openConn(t)
	rows, err := c.Query(t.Context(), "SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rows.Next(); err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*Error](c.Close()); !ok || e.Primary() != sqlite3.SQLITE_BUSY {
		t.Errorf("error %v", e)
	}
	if _, err := rows.Next(); err != io.EOF {
		t.Error(err)
	}
	rows.Close()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	rows.Close()
}

// TestRunCancelledByAnother checks that Run returns ctx's error if an open query with
// the same ctx interrupts it.
func TestRunCancelledByAnother(t *testing.T) {
	t.Parallel()
	c := openConn(t, "CREATE TABLE t (a)")
	ctx, cancel := context.WithCancel(t.Context())
	rows, err := c.Query(ctx, "SELECT 1 UNION ALL SELECT 2")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if _, err := rows.Next(); err != nil {
		t.Fatal(err)
	}
	s, err := c.Prepare("INSERT INTO t " + endless)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	go cancel()
	if _, err := s.Run(ctx, nil); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}

// endless is a query that does not end and returns no row.
const endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i FROM c WHERE i < 0"

// TestCancel checks that an endless query can be cancelled at any time.
func TestCancel(t *testing.T) {
	t.Parallel()
	c := openConn(t)
	for n := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		if n == 0 {
			cancel()
		}
		go cancel()
		if n%2 == 0 {
			if err := c.Exec(ctx, "SELECT 1;"+endless); err != context.Canceled {
				t.Fatal(err)
			}
			continue
		}
		rows, err := c.Query(ctx, endless)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rows.Next(); err != context.Canceled {
			t.Fatal(err)
		}
		rows.Close()
		if _, err := rows.Next(); err != context.Canceled {
			t.Error(err)
		}
	}
	// A later query is not interrupted.
	const count = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 100000) SELECT count(*) FROM c"
	if n := all(t, c, count)[0][0].Int; n != 100000 {
		t.Error(n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := c.Prepare("SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Run(ctx, nil); err != context.Canceled {
		t.Error(err)
	}
}

// TestAllocations checks that reading and writing rows does not allocate.
func TestAllocations(t *testing.T) {
	c := openConn(t, "CREATE TABLE t (a, b, c, d)", "BEGIN")
	s, err := c.Prepare("INSERT INTO t VALUES (?, ?, ?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	values := []Value{
		IntegerValue(1),
		TextValue(strings.Repeat("long ", 2000)),
		RealValue(1.5),
		BlobValue([]byte("blob")),
	}
	const rows = 1000
	if n := testing.AllocsPerRun(rows, func() {
		if _, err := s.Run(t.Context(), values); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to write a row", n)
	}
	r, err := c.Query(t.Context(), "SELECT rowid, * FROM t")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := testing.AllocsPerRun(rows-1, func() {
		if row, err := r.Next(); err != nil || len(row) != 5 {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to read a row", n)
	}
}
