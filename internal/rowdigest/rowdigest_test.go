package rowdigest

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// cellsTable has a column of every kind that needs no extension. The columns wide and exact have the wider of two
// types.
var cellsTable = &mapping.Table{Name: "cells", PrimaryKey: "id", Columns: []mapping.Column{
	{Name: "id", Kind: mapping.KindInt, NotNull: true},
	{Name: "t", Kind: mapping.KindText},
	{Name: "i", Kind: mapping.KindInt},
	{Name: "wide", Kind: mapping.KindInt},
	{Name: "r", Kind: mapping.KindFloat4},
	{Name: "exact", Kind: mapping.KindFloat4},
	{Name: "d", Kind: mapping.KindFloat8},
	{Name: "j", Kind: mapping.KindJSON},
	{Name: "z", Kind: mapping.KindTime},
	{Name: "b", Kind: mapping.KindBool},
	{Name: "o", Kind: mapping.KindBytes},
	{Name: "k", Kind: mapping.KindInt8},
}}

const createCells = `CREATE TABLE cells (id int PRIMARY KEY, t text, i int, wide bigint, r real,
	exact double precision, d double precision, j jsonb, z timestamptz, b boolean, o bytea, k bigint)`

// tupleOf returns a tuple in the binary COPY format. A nil cell is NULL.
func tupleOf(cells ...[]byte) []byte {
	tuple := binary.BigEndian.AppendUint16(nil, uint16(len(cells)))
	for _, cell := range cells {
		if cell == nil {
			tuple = binary.BigEndian.AppendUint32(tuple, math.MaxUint32)
			continue
		}
		tuple = append(binary.BigEndian.AppendUint32(tuple, uint32(len(cell))), cell...)
	}
	return tuple
}

func int4(v int32) []byte     { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
func int8(v int64) []byte     { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
func float4(v float32) []byte { return binary.BigEndian.AppendUint32(nil, math.Float32bits(v)) }
func float8(v float64) []byte { return binary.BigEndian.AppendUint64(nil, math.Float64bits(v)) }
func json(v string) []byte    { return []byte("\x01" + v) }

// sampleTuples returns tuples of cellsTable: some with edge cases, and n random ones.
func sampleTuples(n int) [][]byte {
	tuples := [][]byte{
		tupleOf(int4(1), []byte("é"), int4(-7), int8(math.MaxInt64), float4(0.1), float8(0.1), float8(-1.5),
			json(`{"bb": [1e2, "\u00e9"], "a":null}`), int8(821091601669094), []byte{1}, []byte{0, 255}, int8(-1)),
		tupleOf(int4(2), []byte(""), int4(0), int8(-1), float4(float32(math.Inf(1))), float8(math.NaN()),
			float8(math.Copysign(0, -1)), json(`[]`), int8(-63082281600000000), []byte{0}, []byte{}, int8(0)),
		tupleOf(int4(3), nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil),
	}
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "a", "zzz", "\"quoted\"", "心", "\t"}
	documents := []string{
		`null`,
		`{}`,
		`{"b":1,"a":[1.50,{}]}`,
		`"x\ny"`,
		`-0.10`,
		`[true,false,null]`,
		`{"aa":1,"b":2}`,
	}
	for i := range n {
		cell := func(v []byte) []byte {
			if random.IntN(5) == 0 {
				return nil
			}
			return v
		}
		tuples = append(tuples, tupleOf(int4(int32(i+4)),
			cell([]byte(texts[random.IntN(len(texts))])), cell(int4(int32(random.Uint32()))),
			cell(int8(int64(random.Uint64()))), cell(float4(random.Float32())), cell(float8(random.NormFloat64())),
			cell(float8(random.ExpFloat64())), cell(json(documents[random.IntN(len(documents))])),
			cell(int8(random.Int64N(8e14))), cell([]byte{byte(random.IntN(2))}),
			cell([]byte(texts[random.IntN(len(texts))])), cell(int8(random.Int64()))))
	}
	return tuples
}

// store copies tuples into a new table "cells" on a server and returns the connection.
func store(t *testing.T, tuples [][]byte) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), createCells); err != nil {
		t.Fatal(err)
	}
	copied := "PGCOPY\n\xff\r\n\x00" + strings.Repeat("\x00", 8)
	for _, tuple := range tuples {
		copied += string(tuple)
	}
	const statement = "COPY cells FROM STDIN (FORMAT binary)"
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(copied+"\xff\xff"), statement); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestServerAgrees compares everything that this package computes from tuples with what the server computes from the
// rows that it stored.
func TestServerAgrees(t *testing.T) {
	t.Parallel()
	tuples := sampleTuples(500)
	conn := store(t, tuples)
	hasher, encoder := NewHasher(cellsTable), Encoder{}
	buckets := map[int]*Sum{}
	hashes := map[string][2]int64{}
	var encodings [][]byte
	for _, tuple := range tuples {
		hasher.Add(tuple)
		encoding := encoder.Append(nil, cellsTable, tuple)
		encodings = append(encodings, encoding)
		key := Key(cellsTable, encoding)
		if buckets[BucketOf(key)] == nil {
			buckets[BucketOf(key)] = new(Sum)
		}
		buckets[BucketOf(key)].Add(Hash(encoding))
		hashes[key] = Hash(encoding)
	}
	t.Run("encodings", func(t *testing.T) {
		var stored [][]byte
		query := fmt.Sprintf("SELECT array_agg(%s ORDER BY id) FROM cells", EncodingSQL(cellsTable, ""))
		if err := conn.QueryRow(t.Context(), query).Scan(&stored); err != nil {
			t.Fatal(err)
		}
		for i, got := range encodings {
			if string(got) != string(stored[i]) {
				t.Errorf("row %d\n%s, the server has\n%s", i, hex.Dump(got), hex.Dump(stored[i]))
			}
		}
	})
	t.Run("digest", func(t *testing.T) {
		var stored Digest
		if err := conn.QueryRow(t.Context(), Query(cellsTable, "cells", "")).
			Scan(&stored.Rows, &stored.Sum); err != nil {
			t.Fatal(err)
		}
		if got := hasher.Digest(); got != stored || got.Rows != int64(len(tuples)) {
			t.Errorf("got %+v, the server has %+v", got, stored)
		}
	})
	t.Run("buckets", func(t *testing.T) {
		rows, err := conn.Query(t.Context(), BucketsQuery(cellsTable, "cells", ""))
		if err != nil {
			t.Fatal(err)
		}
		var at int
		var stored Digest
		n := 0
		_, err = pgx.ForEachRow(rows, []any{&at, &stored.Rows, &stored.Sum}, func() error {
			n++
			if buckets[at] == nil || buckets[at].Digest() != stored {
				t.Errorf("bucket %d: got %+v, the server has %+v", at, buckets[at], stored)
			}
			return nil
		})
		if err != nil || n != len(buckets) {
			t.Errorf("the server has %d buckets (error %v), want %d", n, err, len(buckets))
		}
	})
	t.Run("hashes", func(t *testing.T) {
		wanted := []int32{int32(BucketOf("1")), int32(BucketOf("2"))}
		rows, err := conn.Query(t.Context(), HashesQuery(cellsTable, "cells", ""), wanted)
		if err != nil {
			t.Fatal(err)
		}
		var key string
		var writer int64
		var hash [2]int64
		n := 0
		_, err = pgx.ForEachRow(rows, []any{&key, &writer, &hash[0], &hash[1]}, func() error {
			n++
			if hashes[key] != hash || writer == 0 {
				t.Errorf("row %s: got %v, the server has %v, written by %d", key, hashes[key], hash, writer)
			}
			return nil
		})
		if err != nil || n < 2 {
			t.Errorf("the server has %d rows in the buckets of 1 and 2 (error %v)", n, err)
		}
	})
}

// TestServerNotices changes each cell on the server: the digest must change.
func TestServerNotices(t *testing.T) {
	t.Parallel()
	conn := store(t, sampleTuples(0)[:1])
	digest := func() (d Digest) {
		if err := conn.QueryRow(t.Context(), Query(cellsTable, "cells", "")).Scan(&d.Rows, &d.Sum); err != nil {
			t.Fatal(err)
		}
		return d
	}
	seen := map[Digest]bool{digest(): true}
	for _, change := range []string{
		"id = 2", "t = 'e'", "t = NULL", "i = 7", "wide = 1", "r = 0.2", "exact = 0.1 + 1e-17 * 10", "d = 1.5",
		`j = '{"bb": [100, "e"], "a": null}'`, "j = 'null'", "j = NULL", "z = z + '1 microsecond'", "b = false",
		"b = NULL", `o = '\x00ff00'`, "k = 1",
	} {
		if _, err := conn.Exec(t.Context(), "UPDATE cells SET "+change); err != nil {
			t.Fatal(err)
		}
		if d := digest(); seen[d] {
			t.Errorf("the digest after %q is that of another state", change)
		} else {
			seen[d] = true
		}
	}
}

// TestSumJoin checks that a digest depends neither on the order of rows nor on how they are divided.
func TestSumJoin(t *testing.T) {
	t.Parallel()
	tuples := sampleTuples(0)
	whole, even, odd := NewHasher(cellsTable), NewHasher(cellsTable), NewHasher(cellsTable)
	for i := range 300 {
		whole.Add(tuples[i%3])
		[]*Hasher{even, odd}[i%2].Add(tuples[(i+1)%3])
	}
	odd.Join(&even.Sum)
	if odd.Digest() != whole.Digest() {
		t.Errorf("got %+v, want %+v", odd.Digest(), whole.Digest())
	}
	odd.Add(tuples[0])
	if odd.Digest() == whole.Digest() {
		t.Error("one more row does not change the digest")
	}
	if Empty != (Digest{Sum: "0,0"}) {
		t.Errorf("the empty digest is %+v", Empty)
	}
}

func TestSumDigest(t *testing.T) {
	t.Parallel()
	var s Sum
	for range 3 {
		s.Add([2]int64{math.MaxInt64, math.MinInt64})
	}
	if got := s.Digest(); got != (Digest{3, "27670116110564327421,-27670116110564327424"}) {
		t.Error(got)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	byText := *cellsTable
	byText.PrimaryKey = "t"
	for i, want := range []string{"é", "", ""} {
		encoding := new(Encoder).Append(nil, cellsTable, sampleTuples(0)[i])
		if got := Key(&byText, encoding); got != want {
			t.Errorf("got key %q, want %q", got, want)
		}
		if got := Key(cellsTable, encoding); got != fmt.Sprint(i+1) {
			t.Errorf("got key %q, want %d", got, i+1)
		}
	}
	// The SHA-256 of "é" begins with 4a99 (sha256sum).
	if got := BucketOf("é"); got != 0x4a99 {
		t.Errorf("got bucket %x, want 4a99", got)
	}
}

// TestContentSQL checks that the content of a row is equal if only what Flujo does not see differs.
func TestContentSQL(t *testing.T) {
	t.Parallel()
	table := *cellsTable
	table.Columns = append([]mapping.Column{}, cellsTable.Columns...)
	table.Columns[0].Serial = true
	conn := store(t, sampleTuples(0)[2:])
	for _, change := range []string{"id = 9", "j = 'null'"} {
		query := fmt.Sprintf("SELECT a.c = b.c FROM (SELECT %[1]s AS c FROM cells) a, "+
			"(SELECT %[1]s AS c FROM (SELECT * FROM cells) cells) b", ContentSQL(&table, ""))
		var before []byte
		if err := conn.QueryRow(t.Context(), "SELECT "+ContentSQL(&table, "")+" FROM cells").Scan(&before); err != nil {
			t.Fatal(err, query)
		}
		if _, err := conn.Exec(t.Context(), "UPDATE cells SET "+change); err != nil {
			t.Fatal(err)
		}
		var after []byte
		if err := conn.QueryRow(t.Context(), "SELECT "+ContentSQL(&table, "")+" FROM cells").Scan(&after); err != nil {
			t.Fatal(err)
		}
		if string(before) != string(after) {
			t.Errorf("the content changed with %q", change)
		}
	}
	var same bool
	err := conn.QueryRow(t.Context(), fmt.Sprintf("SELECT %s = (SELECT %[1]s FROM (SELECT id, 'x' AS t, i, wide, r, "+
		"exact, d, j, z, b, o, k FROM cells) cells) FROM cells", ContentSQL(&table, ""))).Scan(&same)
	if err != nil || same {
		t.Errorf("another text has the same content (error %v)", err)
	}
}

// TestAppendContent compares the content of rows with the server's, for rows with and without JSON null, and for ids
// that SetID sets.
func TestAppendContent(t *testing.T) {
	t.Parallel()
	table := *cellsTable
	table.Columns = append([]mapping.Column{}, cellsTable.Columns...)
	table.Columns[0].Serial = true
	conn := store(t, sampleTuples(0))
	for i, tuple := range sampleTuples(0) {
		encoding := new(Encoder).Append(nil, &table, tuple)
		if got := ID(&table, encoding); got != int64(i+1) {
			t.Errorf("got id %d, want %d", got, i+1)
		}
		content := AppendContent([]byte("before"), &table, encoding)
		var want, renumbered []byte
		query := fmt.Sprintf("SELECT %s, (SELECT %s FROM (SELECT 77 AS id, t, i, wide, r, exact, d, j, z, b, o, k) r) "+
			"FROM cells WHERE id = %d", ContentSQL(&table, ""), EncodingSQL(&table, ""), i+1)
		err := conn.QueryRow(t.Context(), query).Scan(&want, &renumbered)
		if err != nil || string(content) != "before"+string(want) {
			t.Errorf("row %d: got content %q (%v), want %q", i+1, content, err, want)
		}
		if SetID(&table, encoding, 77); string(encoding) != string(renumbered) {
			t.Errorf("row %d: got encoding %q with another id, want %q", i+1, encoding, renumbered)
		}
	}
}

// TestPlusMinus checks that digests can be added and subtracted, past 64 bits and below zero.
func TestPlusMinus(t *testing.T) {
	t.Parallel()
	var a, b, both Sum
	for i := range 100 {
		hash := [2]int64{math.MaxInt64 - int64(i), math.MinInt64 + int64(i)}
		[]*Sum{&a, &b}[i%2].Add(hash)
		both.Add(hash)
	}
	if got := a.Digest().Plus(b.Digest()); got != both.Digest() {
		t.Errorf("got %+v, want %+v", got, both.Digest())
	}
	if got := both.Digest().Minus(b.Digest()); got != a.Digest() {
		t.Errorf("got %+v, want %+v", got, a.Digest())
	}
	if got := a.Digest().Minus(a.Digest()); got != Empty {
		t.Errorf("got %+v, want that of no rows", got)
	}
}

// ExampleHasher computes the digest that the server computes for the same row, by Query.
func ExampleHasher() {
	table := &mapping.Table{Name: "notes", PrimaryKey: "key", Columns: []mapping.Column{
		{Name: "key", Kind: mapping.KindText}, {Name: "value", Kind: mapping.KindJSON},
	}}
	hasher := NewHasher(table)
	hasher.Add(tupleOf([]byte("a"), json(`{"n":1}`)))
	fmt.Println(hasher.Digest().Rows, hasher.Digest().Sum)
	// Output:
	// 1 -8532488798359052416,1430694145385422489
}

// BenchmarkHasher adds the tuple of a row with 2 KB of JSON to a digest, as a migration does during the load.
// Throughput is in bytes of tuples.
func BenchmarkHasher(b *testing.B) {
	document := `{"text":"` + strings.Repeat(
		"Résumé of a study, with numbers: 1, 2, 3. ",
		45,
	) + `","score":0.25,"tags":["a","b"]}`
	tuple := tupleOf(int4(1), []byte("run-1"), int4(1), int8(7), float4(0.25), float8(0.25), float8(1), json(document),
		int8(821091601669094), []byte{1}, nil, nil)
	h := NewHasher(cellsTable)
	b.SetBytes(int64(len(tuple)))
	b.ReportAllocs()
	for b.Loop() {
		h.Add(tuple)
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	tuple := tupleOf([]byte("a"), nil, []byte{}, []byte("last"))
	for at, want := range [][]byte{[]byte("a"), nil, {}, []byte("last")} {
		if got := Field(tuple, at); string(got) != string(want) || (got == nil) != (want == nil) {
			t.Errorf("column %d: got %q, want %q", at, got, want)
		}
	}
	if got := Field(tupleOf(nil), 0); got != nil {
		t.Errorf("NULL: got %q", got)
	}
}
