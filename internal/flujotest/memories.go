package flujotest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Memory is a row of memories in a file.
type Memory struct {
	ID       string
	Bits     []uint32 // the floats of the vector
	Payload  any      // string or nil
	Metadata any
	Created  string
}

// Packed returns the vector as Flujo stores it in SQLite.
func (m *Memory) Packed() []byte {
	var packed []byte
	for _, b := range m.Bits {
		packed = binary.LittleEndian.AppendUint32(packed, b)
	}
	return packed
}

// Text returns the vector as Flujo sends it to PostgreSQL.
func (m *Memory) Text() string {
	numbers := make([]string, len(m.Bits))
	for i, b := range m.Bits {
		numbers[i] = strconv.FormatFloat(float64(math.Float32frombits(b)), 'g', -1, 32)
	}
	return "[" + strings.Join(numbers, ",") + "]"
}

// extremeFloats holds 0, the smallest and the largest denormal, the smallest normal and the largest float, each with
// both signs.
var extremeFloats = []uint32{
	0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x7f7fffff,
	0xff7fffff,
}

// MemoriesFile returns the path of a copy of the fixture with 30 memories, and the memories.
func MemoriesFile(t testing.TB) (path string, memories []Memory) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		m := Memory{
			ID: fmt.Sprintf("memory-%02d", i), Bits: make([]uint32, 1536), Payload: `"plain \u00e9"`,
			Created: fmt.Sprintf("2026-11-23T02:18:26.8774%02d+00:00", i),
		}
		if i%2 == 0 {
			m.Payload = fmt.Sprintf(`{"text": "memory %d"}`, i)
			m.Metadata = `{"step": "generate_query"}`
		}
		for j := range m.Bits {
			switch {
			case i == 0:
				m.Bits[j] = extremeFloats[j%len(extremeFloats)]
			case i == 1:
				m.Bits[j] = extremeFloats[j%2] // 0 and -0
			case i == 2:
				m.Bits[j] = extremeFloats[8+j%2] // the largest floats
			case j%97 == i: // a few tiny floats and zeros
				m.Bits[j] = extremeFloats[j%8]
			default:
				m.Bits[j] = math.Float32bits(random.Float32()*2 - 1)
			}
		}
		memories = append(memories, m)
	}
	path = Changed(t,
		"CREATE TABLE memories (id TEXT PRIMARY KEY, vector BLOB NOT NULL, payload TEXT, metadata TEXT, "+
			"created_at TEXT)")
	for _, m := range memories {
		Change(t, path, "INSERT INTO memories VALUES (?, ?, ?, ?, ?)", m.ID, m.Packed(), m.Payload, m.Metadata,
			m.Created)
	}
	return path, memories
}

// WantMemories compares every memory in PostgreSQL, the vectors bit by bit.
func WantMemories(t testing.TB, url string, memories []Memory) {
	t.Helper()
	ctx := context.Background()
	conn := Connect(t, url)
	defer conn.Close(ctx)
	const query = `SELECT id, vector, payload::text, metadata::text,
		to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') FROM flujo.memories ORDER BY id`
	rows, err := conn.Query(ctx, query, pgx.QueryResultFormats{pgx.TextFormatCode, pgx.BinaryFormatCode,
		pgx.TextFormatCode, pgx.TextFormatCode, pgx.TextFormatCode})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		if n == len(memories) {
			continue
		}
		want, got := &memories[n], rows.RawValues()
		vector := []byte{0x06, 0x00, 0, 0} // 1536 dimensions, and a reserved zero
		for _, b := range want.Bits {
			vector = binary.BigEndian.AppendUint32(vector, b)
		}
		if !bytes.Equal(got[1], vector) {
			t.Errorf("%s: the bits of the vector differ from the file's", want.ID)
		}
		if string(got[0]) != want.ID || string(got[4]) != want.Created {
			t.Errorf("got the memory %s of %s, want %s of %s", got[0], got[4], want.ID, want.Created)
		}
		for i, cell := range []any{want.Payload, want.Metadata} {
			if problem := Difference("json", cell, stringOrNil(got[2+i])); problem != "" {
				t.Errorf("%s, column %d: %s", want.ID, 3+i, problem)
			}
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	if n != len(memories) {
		t.Errorf("got %d memories, want %d", n, len(memories))
	}
}

// stringOrNil returns b as a string; nil for nil.
func stringOrNil(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// WantMemoriesTable tests that memories and its index are as Flujo's migrations 3 and 5 create them, with pgvector in
// the schema types.
func WantMemoriesTable(t testing.TB, url, types string) {
	t.Helper()
	got := OneAt(t, url,
		`SELECT string_agg(format('%s %s%s', attname, format_type(atttypid, atttypmod),
			CASE WHEN attnotnull THEN '!' END), ', ' ORDER BY attnum)
		FROM pg_attribute, set_config('search_path', '', false)
		WHERE attrelid = 'flujo.memories'::regclass AND attnum > 0`)
	want := "id text!, vector " + types +
		".vector(1536), payload jsonb, metadata jsonb, created_at timestamp with time zone"
	if got != want {
		t.Errorf("got memories (%s), want (%s)", got, want)
	}
	got = OneAt(t, url,
		"SELECT pg_get_indexdef('flujo.idx_memories_embedding'::regclass) FROM set_config('search_path', '', false)")
	want = "CREATE INDEX idx_memories_embedding ON flujo.memories USING hnsw (vector " + types + ".vector_cosine_ops)"
	if got != want {
		t.Errorf("got index %s, want %s", got, want)
	}
	if got := OneAt(t, url, "SELECT indisvalid AND indisready FROM pg_index "+
		"WHERE indexrelid = 'flujo.idx_memories_embedding'::regclass"); got != "true" {
		t.Error("the index is not valid and ready")
	}
	if got := OneAt(t, url, Versions); got != "1 2 3 4 5" {
		t.Errorf("got versions %s, want 1 2 3 4 5", got)
	}
}
