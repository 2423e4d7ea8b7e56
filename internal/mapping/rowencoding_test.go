package mapping

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/sqlite"
)

// cellsTable has a column of every kind that needs no extension.
var cellsTable = &Table{Name: "cells", PrimaryKey: "id", Columns: []Column{
	notNull(integerColumn("id")), textColumn("t"), integerColumn("i"), integerColumn("wide"), real4Column("r"),
	real4Column("exact"), real8Column("d"), jsonColumn("j"), timestampColumn("z"), {Name: "b", Kind: KindBool},
}}

var cellRows = [][]sqlite.Value{
	{integer(1), text("é"), integer(-7), integer(math.MaxInt64), real(0.1), real(0.1), real(-1.5),
		text(`{"bb": [1e2, "\u00e9"], "a":null}`), text("2026-01-05T09:00:01.669094+00:00"), integer(1)},
	{integer(2), text(""), integer(0), integer(-1), real(math.Inf(1)), real(math.SmallestNonzeroFloat64), real(0),
		text(`[]`), text("0001-01-01T00:00:00Z"), integer(0)},
	{integer(3), {}, {}, {}, {}, {}, {}, {}, {}, {}},
}

// encodedCells returns the tuples and the encodings of cellRows.
func encodedCells(t *testing.T) (tuples, encodings [][]byte) {
	t.Helper()
	p, _ := newTableMapping(cellsTable, names(cellsTable.Columns), true)
	c := newConverter(t, &p)
	c.Types.Wide["cells.wide"], c.Types.Double["cells.exact"] = true, true
	var encoder RowEncoder
	for n, row := range cellRows {
		tuple, accepted, err := c.Append(nil, append([]sqlite.Value{integer(int64(n))}, row...))
		if err != nil || !accepted {
			t.Fatal(accepted, err)
		}
		tuples, encodings = append(tuples, tuple), append(encodings, encoder.Append(nil, cellsTable, tuple))
	}
	return tuples, encodings
}

// TestRowEncodingOnServer compares encodings and digest with those that the server
// computes from the rows that it stored.
func TestRowEncodingOnServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(ctx, `CREATE TABLE cells (id int, t text, i int, wide bigint, r real,
		exact double precision, d double precision, j jsonb, z timestamptz, b boolean)`); err != nil {
		t.Fatal(err)
	}
	tuples, encodings := encodedCells(t)
	copied := "PGCOPY\n\xff\r\n\x00" + strings.Repeat("\x00", 8)
	digest := NewDigest(cellsTable)
	for _, tuple := range tuples {
		copied += string(tuple)
		digest.Add(tuple)
	}
	const binary = "COPY cells FROM STDIN (FORMAT binary)"
	if _, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(copied+"\xff\xff"), binary); err != nil {
		t.Fatal(err)
	}
	const encoding = "record_send(ROW(id::int8, t, i::int8, wide, r::float8, exact, d, j, z, b))"
	var stored [][]byte
	if err := conn.QueryRow(ctx, "SELECT array_agg("+encoding+" ORDER BY id) FROM cells").Scan(&stored); err != nil {
		t.Fatal(err)
	}
	for i, got := range encodings {
		if string(got) != string(stored[i]) {
			t.Errorf("row %d\n%s, the server has\n%s", i, hex.Dump(got), hex.Dump(stored[i]))
		}
	}
	half := func(from int) string {
		return fmt.Sprintf("sum(('x' || substr(h, %d, 16))::bit(64)::bigint)", from)
	}
	var want string
	if err := conn.QueryRow(ctx, "SELECT "+half(1)+" || ',' || "+half(17)+" FROM (SELECT encode(sha256("+encoding+
		"), 'hex') AS h FROM cells) rows").Scan(&want); err != nil {
		t.Fatal(err)
	}
	if digest.Sum.String() != want || digest.Rows != 3 {
		t.Errorf("%d rows, digest %s, the server has %s", digest.Rows, digest.Sum.String(), want)
	}
}

// TestDigestJoin checks that a digest depends neither on the order of rows nor on how
// they are divided.
func TestDigestJoin(t *testing.T) {
	t.Parallel()
	tuples, _ := encodedCells(t)
	whole, even, odd := NewDigest(cellsTable), NewDigest(cellsTable), NewDigest(cellsTable)
	for i := range 300 {
		whole.Add(tuples[i%3])
		[]*Digest{even, odd}[i%2].Add(tuples[(i+1)%3])
	}
	odd.Join(even)
	if odd.Sum != whole.Sum {
		t.Errorf("%s, not %s", odd.Sum.String(), whole.Sum.String())
	}
	odd.Add(tuples[0])
	if odd.Sum == whole.Sum {
		t.Error("a row more does not change the digest")
	}
}

func TestSumString(t *testing.T) {
	t.Parallel()
	var s Sum
	for range 3 {
		s.Add([2]int64{math.MaxInt64, math.MinInt64})
	}
	if got := s.String(); got != "27670116110564327421,-27670116110564327424" {
		t.Error(got)
	}
}

func TestEncodingKey(t *testing.T) {
	t.Parallel()
	_, encodings := encodedCells(t)
	byText := *cellsTable
	byText.PrimaryKey = "t"
	for i, want := range []string{"é", "", ""} {
		if got := EncodingKey(&byText, encodings[i]); got != want {
			t.Errorf("key %q, not %q", got, want)
		}
		if got := EncodingKey(cellsTable, encodings[i]); got != fmt.Sprint(i+1) {
			t.Errorf("key %q, not %d", got, i+1)
		}
	}
	// The SHA-256 of "é" begins with 4a99 (sha256sum).
	if got := BucketOf([]byte("é")); got != 0x4a99 {
		t.Errorf("bucket %x", got)
	}
}

func TestFormatCells(t *testing.T) {
	t.Parallel()
	_, encodings := encodedCells(t)
	full, empty := Cells(encodings[0]), Cells(encodings[2])
	for i, want := range []string{
		"1", `"é"`, "-7", "9223372036854775807", "0.10000000149011612", "0.1", "-1.5",
		`{"a": null, "bb": [100, "é"]}`, "2026-01-05T09:00:01.669094+00:00", "true",
	} {
		a, b := FormatCells(cellsTable.Columns[i].Kind, full[i], empty[i])
		if null := map[bool]string{true: "3", false: "NULL"}[i == 0]; a != want || b != null {
			t.Errorf("%s: %s and %s, not %s and %s", cellsTable.Columns[i].Name, a, b, want, null)
		}
	}
	if a, _ := FormatCells(KindVector, []byte{0, 1}, nil); a != "x'0001'" {
		t.Error(a)
	}
}

// TestFormatCellsFromDifference checks that long texts are shown from shortly before
// the first difference, beginning and ending with a whole character.
func TestFormatCellsFromDifference(t *testing.T) {
	t.Parallel()
	same := strings.Repeat("é", 50)
	for _, tc := range []struct {
		kind               Kind
		a, b, wantA, wantB string
	}{
		{KindText, same + "x", same + "y", `… from byte 80: "ééééééééééx"`, `… from byte 80: "ééééééééééy"`},
		{KindText, same + "xx", same + "é", `… from byte 80: "ééééééééééxx"`, `… from byte 80: "ééééééééééé"`},
		{KindText, same, "x", `"` + strings.Repeat("é", 30) + `"… (100 bytes)`, `"x"`},
		{KindText, same, same[:60], `… from byte 40: "` + same[:60] + `"`, `… from byte 40: "éééééééééé"`},
		{KindJSON, "\x01\"" + same + "x", "\x01\"" + same + "y", "… from byte 81: ééééééééééx", "… from byte 81: ééééééééééy"},
		{KindJSON, "\x01\"" + same, "\x01{}", `"` + strings.Repeat("é", 29) + "… (101 bytes)", "{}"},
	} {
		if a, b := FormatCells(tc.kind, []byte(tc.a), []byte(tc.b)); a != tc.wantA || b != tc.wantB {
			t.Errorf("%.20s…: %s and %s, not %s and %s", tc.a, a, b, tc.wantA, tc.wantB)
		}
	}
}
