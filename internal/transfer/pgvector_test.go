package transfer_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/transfer"

	"github.com/jackc/pgx/v5"
)

// These tests need a server with pgvector: see pgtest.PGVector, and run them
// as `make test-pgvector`. They hold one connection at a time, and none while
// the program runs, since the server may have no more.

// withPGVector makes the options for moving file to url, pgvector and all.
func withPGVector(t testing.TB, file, url string) transfer.MigrateOptions {
	t.Helper()
	o := options(t, file, url)
	o.WithoutPGVector = false
	return o
}

// ask asks for a single value, as text, on a connection of its own.
func ask(t testing.TB, url, query string, args ...any) string {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(context.Background())
	return one(t, conn, query, args...)
}

// prepare runs statements on a connection of its own.
func prepare(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(context.Background())
	run(t, conn, statements...)
}

// catalog lists everything that a database holds, by name.
func catalog(t testing.TB, url string) string {
	t.Helper()
	return ask(t, url, `SELECT string_agg(what, E'\n' ORDER BY what) FROM (
		SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
		UNION ALL SELECT format('extension %s %s in %s', extname, extversion, extnamespace::regnamespace)
			FROM pg_extension
		UNION ALL SELECT format('relation %s.%s', relnamespace::regnamespace, relname) FROM pg_class
		UNION ALL SELECT 'type ' || oid::regtype FROM pg_type
		UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc
		UNION ALL SELECT 'access method ' || amname FROM pg_am
		UNION ALL SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) x(what)`)
}

// wantUnchanged fails if the database is not what it was; before is what
// catalog gave.
func wantUnchanged(t testing.TB, url, before string) {
	t.Helper()
	was, is := strings.Split(before, "\n"), strings.Split(catalog(t, url), "\n")
	for _, what := range is {
		if !slices.Contains(was, what) {
			t.Errorf("left in the database: %s", what)
		}
	}
	for _, what := range was {
		if !slices.Contains(is, what) {
			t.Errorf("gone from the database: %s", what)
		}
	}
}

const extension = "SELECT format('%s in %s', extversion, extnamespace::regnamespace) FROM pg_extension " +
	"WHERE extname = 'vector'"

// available is the version that CREATE EXTENSION makes.
const available = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"

// wantMemoriesTable checks what Flujo's migrations 3 and 5 would have made,
// with pgvector in the given schema.
func wantMemoriesTable(t testing.TB, url, types string) {
	t.Helper()
	got := ask(t, url,
		`SELECT string_agg(format('%s %s%s', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull
			THEN '!' END), ', ' ORDER BY attnum)
		FROM pg_attribute, set_config('search_path', '', false) WHERE attrelid = 'flujo.memories'::regclass
			AND attnum > 0`)
	want := "id text!, vector " + types +
		".vector(1536), payload jsonb, metadata jsonb, created_at timestamp with time zone"
	if got != want {
		t.Errorf("memories is (%s), want (%s)", got, want)
	}
	got = ask(t, url,
		"SELECT pg_get_indexdef('flujo.idx_memories_embedding'::regclass) FROM set_config('search_path', '', false)")
	want = "CREATE INDEX idx_memories_embedding ON flujo.memories USING hnsw (vector " + types + ".vector_cosine_ops)"
	if got != want {
		t.Errorf("index %s, want %s", got, want)
	}
	if got := ask(t, url, "SELECT indisvalid AND indisready FROM pg_index "+
		"WHERE indexrelid = 'flujo.idx_memories_embedding'::regclass"); got != "true" {
		t.Error("the index can't be used")
	}
	if got := ask(t, url,
		"SELECT string_agg(version::text, ' ' ORDER BY version) FROM flujo.flujo_schema_versions"); got != "1 2 3 4 5" {
		t.Errorf("versions %s, want 1 2 3 4 5", got)
	}
}

func TestPGVectorIsCreated(t *testing.T) {
	url := pgtest.PGVector(t)
	version := ask(t, url, available)
	result := migrate(t, withPGVector(t, fixture, url))
	if !result.Committed || result.Target.PGVector != version || !result.Target.MadePGVector ||
		!result.Target.MadeSchema {
		t.Errorf("committed %v, target %+v; want pgvector %s created", result.Committed, result.Target, version)
	}
	if len(result.Notes) != 0 {
		t.Errorf("notes %q", result.Notes)
	}
	var text bytes.Buffer
	if err := result.Text(&text); err != nil {
		t.Fatal(err)
	}
	if want := "pgvector " + version + " (created)"; !strings.Contains(text.String(), want) {
		t.Errorf("the report does not say %q:\n%s", want, &text)
	}
	if got, want := ask(t, url, extension), version+" in public"; got != want {
		t.Errorf("extension %s, want %s", got, want)
	}
	wantMemoriesTable(t, url, "public")
	if got := ask(t, url, "SELECT count(*) FROM flujo.memories"); got != "0" {
		t.Errorf("%s memories of a file without any", got)
	}
}

func TestPGVectorDryRunLeavesNothing(t *testing.T) {
	url := pgtest.PGVector(t)
	before := catalog(t, url)
	file, _ := memoriesFile(t)
	o := withPGVector(t, file, url)
	o.DryRun = true
	result := migrate(t, o)
	if result.Committed || result.Target.PGVector == "" || !result.Target.MadePGVector {
		t.Errorf("committed %v, target %+v", result.Committed, result.Target)
	}
	if row := result.Tables[len(result.Tables)-1]; row.Name != mapping.Memories || row.InPostgres != 30 || !row.Match {
		t.Errorf("last table of the report: %+v", row)
	}
	wantUnchanged(t, url, before)
	if result := migrate(t, withPGVector(t, file, url)); !result.Target.MadePGVector { // and it can be done then
		t.Errorf("target %+v", result.Target)
	}
}

// memory is a row of the file's memories.
type memory struct {
	id       string
	bits     []uint32 // of the floats
	payload  any      // string or nil
	metadata any
	created  string
}

func (m *memory) packed() []byte {
	var packed []byte
	for _, b := range m.bits {
		packed = binary.LittleEndian.AppendUint32(packed, b)
	}
	return packed
}

// text is the vector as Flujo sends it.
func (m *memory) text() string {
	numbers := make([]string, len(m.bits))
	for i, b := range m.bits {
		numbers[i] = strconv.FormatFloat(float64(math.Float32frombits(b)), 'g', -1, 32)
	}
	return "[" + strings.Join(numbers, ",") + "]"
}

// extremeFloats are floats at the ends of what there is: 0 and -0, the smallest and
// largest denormal, the smallest normal, the largest, each with both signs.
var extremeFloats = []uint32{
	0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x7f7fffff,
	0xff7fffff,
}

// ordinary is where the memories begin that have a direction that cosine can
// tell: those before have no length, or one beyond a float4.
const ordinary = 3

// memoriesFile makes a copy of the fixture with 30 memories.
func memoriesFile(t testing.TB) (path string, memories []memory) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		m := memory{
			id: fmt.Sprintf("memory-%02d", i), bits: make([]uint32, 1536), payload: `"plain \u00e9"`,
			created: fmt.Sprintf("2026-11-23T02:18:26.8774%02d+00:00", i),
		}
		if i%2 == 0 {
			m.payload = fmt.Sprintf(`{"text": "memory %d"}`, i)
			m.metadata = `{"step": "generate_query"}`
		}
		for j := range m.bits {
			switch {
			case i == 0:
				m.bits[j] = extremeFloats[j%len(extremeFloats)]
			case i == 1:
				m.bits[j] = extremeFloats[j%2] // 0 and -0
			case i == 2:
				m.bits[j] = extremeFloats[8+j%2] // the largest
			case j%97 == i: // a few that are tiny or zero
				m.bits[j] = extremeFloats[j%8]
			default:
				m.bits[j] = math.Float32bits(random.Float32()*2 - 1)
			}
		}
		memories = append(memories, m)
	}
	path = changed(t,
		"CREATE TABLE memories (id TEXT PRIMARY KEY, vector BLOB NOT NULL, payload TEXT, metadata TEXT, "+
			"created_at TEXT)")
	for _, m := range memories {
		change(t, path, "INSERT INTO memories VALUES (?, ?, ?, ?, ?)", m.id, m.packed(), m.payload, m.metadata,
			m.created)
	}
	return path, memories
}

// change runs a statement on a file.
func change(t testing.TB, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path+unsynced)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(statement, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// wantMemories compares every row with what the server sends of it, the
// vectors bit by bit.
func wantMemories(t testing.TB, url string, memories []memory) {
	t.Helper()
	ctx := context.Background()
	conn := connect(t, url)
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
		for _, b := range want.bits {
			vector = binary.BigEndian.AppendUint32(vector, b)
		}
		if !bytes.Equal(got[1], vector) {
			t.Errorf("the vector of %s is not the file's, bit for bit", want.id)
		}
		if string(got[0]) != want.id || string(got[4]) != want.created {
			t.Errorf("row %s of %s, want %s of %s", got[0], got[4], want.id, want.created)
		}
		for i, cell := range []any{want.payload, want.metadata} {
			if problem := differs("json", cell, stringOrNil(got[2+i])); problem != "" {
				t.Errorf("%s, column %d: %s", want.id, 3+i, problem)
			}
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	if n != len(memories) {
		t.Errorf("%d memories, the file has %d", n, len(memories))
	}
}

func stringOrNil(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// wantNearest asks, as Flujo does, for the memory nearest to each: by the
// index, and again without it.
func wantNearest(t testing.TB, address string, memories []memory) {
	t.Helper()
	ctx := context.Background()
	conn := connect(t, address)
	defer conn.Close(ctx)
	const nearest = "SELECT id FROM memories ORDER BY vector <=> $1::text::vector LIMIT 1"
	for setting, tm := range map[string]string{"enable_seqscan": "Index Scan using idx_memories_embedding",
		"enable_indexscan": "Seq Scan"} {
		run(t, conn, "SET "+setting+" = off")
		rows, err := conn.Query(ctx,
			"EXPLAIN (COSTS OFF) "+strings.Replace(nearest, "$1", "'"+memories[ordinary].text()+"'", 1))
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(lines, "\n"); !strings.Contains(text, tm) {
			t.Errorf("with %s off the plan has no %s:\n%.300s", setting, tm, text)
		}
		for _, m := range memories[ordinary:] {
			if got := one(t, conn, nearest, m.text()); got != m.id {
				t.Errorf("with %s off, nearest to %s is %s", setting, m.id, got)
			}
		}
		run(t, conn, "RESET "+setting)
	}
}

// wantMemoryIndexing does with the table what Flujo does next.
func wantMemoryIndexing(t testing.TB, address string, m memory) {
	t.Helper()
	ctx := context.Background()
	conn := connect(t, address)
	defer conn.Close(ctx)
	for _, payload := range []string{`"new"`, `"newer"`} {
		_, err := conn.Exec(ctx,
			`INSERT INTO memories (id, vector, payload, metadata)
				VALUES ('new', $1::text::vector, $2::text::jsonb, NULL)
			ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, payload = excluded.payload`,
			m.text(),
			payload)
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := one(t, conn,
		"SELECT payload #>> '{}' FROM memories WHERE id = 'new' AND created_at IS NOT NULL"); got != "newer" {
		t.Errorf("payload %s", got)
	}
}

func TestPGVectorMemoriesArrive(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := memoriesFile(t)
	o := withPGVector(t, file, url)
	result := migrate(t, o)
	if row := result.Tables[len(result.Tables)-1]; row.Name != mapping.Memories || row.RowsRead != 30 ||
		row.InPostgres != 30 ||
		!row.Match {
		t.Errorf("last table of the report: %+v", row)
	}
	wantMemoriesTable(t, url, "public")
	wantMemories(t, url, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
	wantMemoryIndexing(t, o.Cutover.Reveal(), memories[ordinary])
}

func TestPGVectorThatIsThere(t *testing.T) {
	cases := []struct {
		name, types string
		before      []string
		seen        bool // by Flujo, on its search_path
	}{
		{"in public", "public", []string{"CREATE EXTENSION vector SCHEMA public"}, true},
		{"in Flujo's schema", "flujo", []string{"CREATE SCHEMA flujo", "CREATE EXTENSION vector SCHEMA flujo"}, true},
		{
			"in another schema",
			`"types of, others"`,
			[]string{`CREATE SCHEMA "types of, others"`, `CREATE EXTENSION vector SCHEMA "types of, others"`},
			false,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			url := pgtest.PGVector(t)
			prepare(t, url, c.before...)
			had := ask(t, url, extension)
			file, memories := memoriesFile(t)
			o := withPGVector(t, file, url)
			result := migrate(t, o)
			if result.Target.MadePGVector || result.Target.PGVector != ask(t, url, available) ||
				result.Target.MadeSchema != (c.types != "flujo") {
				t.Errorf("target %+v; want pgvector found, not made", result.Target)
			}
			if got := ask(t, url, extension); got != had {
				t.Errorf("extension %s, it was %s", got, had)
			}
			wantMemoriesTable(t, url, c.types)
			wantMemories(t, url, memories)
			if c.seen {
				if len(result.Notes) != 0 {
					t.Errorf("notes %q", result.Notes)
				}
				wantNearest(t, o.Cutover.Reveal(), memories)
				wantMemoryIndexing(t, o.Cutover.Reveal(), memories[ordinary])
				return
			}
			if notes := strings.Join(result.Notes, "\n"); !strings.Contains(notes, "types of, others") ||
				!strings.Contains(notes, "search_path") {
				t.Errorf("notes %q", notes)
			}
			conn := connect(t, o.Cutover.Reveal())
			defer conn.Close(context.Background())
			if _, err := conn.Exec(context.Background(),
				"SELECT id FROM memories ORDER BY vector <=> vector"); err == nil {
				t.Error("the note is wrong: Flujo would find the operators")
			}
		})
	}
}

func TestPGVectorWithoutSchemaPublic(t *testing.T) {
	url := pgtest.PGVector(t)
	prepare(t, url, "DROP SCHEMA public")
	file, memories := memoriesFile(t)
	o := withPGVector(t, file, url)
	migrate(t, o)
	wantMemoriesTable(t, url, "flujo")
	wantMemories(t, url, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
}

func TestPGVectorTablesOfInit(t *testing.T) {
	url := pgtest.PGVector(t)
	o := transfer.InitOptions{Postgres: url, Schema: schema}
	made, err := transfer.Init(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	version := ask(t, url, available)
	if made.PGVector != version || !slices.Contains(made.Made, "extension pgvector "+version) ||
		!slices.Contains(made.Made, mapping.Memories) {
		t.Errorf("pgvector %s, made %q", made.PGVector, made.Made)
	}
	wantMemoriesTable(t, url, "public")
	before := catalog(t, url)
	again, err := transfer.Init(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Made) != 0 || !slices.Contains(again.Found, mapping.Memories) {
		t.Errorf("again: made %q, found %q", again.Made, again.Found)
	}

	file, memories := memoriesFile(t)
	result := migrate(t, withPGVector(t, file, url))
	if result.Target.MadePGVector || result.Target.MadeSchema {
		t.Errorf("target %+v", result.Target)
	}
	func() { // the program's own table is more than Flujo's
		conn := connect(t, url)
		defer conn.Close(context.Background())
		run(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	}()
	wantUnchanged(t, url, before)
	wantMemories(t, url, memories)
	wantNearest(t, cutover(t, url).Reveal(), memories)

	wantError(t, withPGVector(t, file, url), clierr.Refused, "memories has 30")
}

// A table for embeddings of another size stays as it is for a file without any,
// and becomes one of the file's size for a file that has some.
func TestPGVectorOfAnotherSize(t *testing.T) {
	const size = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute " +
		"WHERE attrelid = 'flujo.memories'::regclass AND attname = 'vector'"
	for _, file := range []string{fixture, ""} {
		url := pgtest.PGVector(t)
		if _, err := transfer.Init(context.Background(),
			transfer.InitOptions{Postgres: url, Schema: schema}); err != nil {
			t.Fatal(err)
		}
		prepare(t, url, "ALTER TABLE flujo.memories ALTER COLUMN vector TYPE vector(768)")
		if file != "" {
			migrate(t, withPGVector(t, file, url))
			if got := ask(t, url, size); got != "vector(768)" {
				t.Errorf("memories.vector became %s", got)
			}
			continue
		}
		file, memories := memoriesFile(t)
		migrate(t, withPGVector(t, file, url))
		wantMemoriesTable(t, url, "public")
		wantMemories(t, url, memories)
	}
}

func TestPGVectorTooOldIsRefused(t *testing.T) {
	url := pgtest.PGVector(t)
	if ask(t, url, "SELECT current_setting('is_superuser')") != "on" {
		t.Skip("only a superuser can make the extension look older than it is")
	}
	prepare(t, url, "CREATE EXTENSION vector SCHEMA public")
	for _, version := range []string{"0.4.4", "0.5.0", "1.0.0", "0.10.0"} {
		prepare(t, url, "UPDATE pg_extension SET extversion = '"+version+"' WHERE extname = 'vector'")
		before := catalog(t, url)
		o := withPGVector(t, fixture, url)
		if version == "0.4.4" {
			wantError(t, o, clierr.Refused, "pgvector 0.4.4 is older than 0.5", "ALTER EXTENSION vector UPDATE",
				"--without-pgvector")
		} else {
			o.DryRun = true
			if result := migrate(t, o); result.Target.PGVector != version {
				t.Errorf("pgvector %s in the report, want %s", result.Target.PGVector, version)
			}
		}
		wantUnchanged(t, url, before)
	}
}

// The role owns the schema and has no right to the rest of the database.
func TestPGVectorThatTheRoleMayNotCreate(t *testing.T) {
	url := pgtest.PGVector(t)
	asRole := pgtest.Role(t, url, "")
	role := ask(t, asRole, "SELECT current_user")
	prepare(t, url, "CREATE SCHEMA flujo AUTHORIZATION "+role)
	before := catalog(t, url)
	file, memories := memoriesFile(t)
	wantError(t, withPGVector(t, file, asRole), clierr.Refused, role, "may not create", "CREATE EXTENSION vector",
		"--without-pgvector")
	wantUnchanged(t, url, before)

	prepare(t, url, "CREATE EXTENSION vector SCHEMA public") // as the refusal asked
	o := withPGVector(t, file, asRole)
	migrate(t, o)
	wantMemories(t, asRole, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
	wantMemoryIndexing(t, o.Cutover.Reveal(), memories[ordinary])
}

// An owner runs init --grant-to, and the role, which may create nothing, moves
// the rows.
func TestPGVectorTablesOfInitForARole(t *testing.T) {
	url := pgtest.PGVector(t)
	asRole := pgtest.Role(t, url, "")
	role := ask(t, asRole, "SELECT current_user")
	if _, err := transfer.Init(context.Background(),
		transfer.InitOptions{Postgres: url, Schema: schema, GrantTo: role}); err != nil {
		t.Fatal(err)
	}
	file, memories := memoriesFile(t)
	o := withPGVector(t, file, asRole)
	migrate(t, o)
	wantMemories(t, asRole, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
	wantMemoryIndexing(t, o.Cutover.Reveal(), memories[ordinary])
}

func TestPGVectorCellsThatDoNotFit(t *testing.T) {
	good := make([]byte, 1536*4)
	with := func(at int, bits uint32) []byte {
		vector := bytes.Clone(good)
		binary.LittleEndian.PutUint32(vector[4*at:], bits)
		return vector
	}
	bad := []struct {
		name   string
		vector any
		kind   string
	}{
		{"NaN", with(1535, 0x7fc00000), "invalid-vector"},
		{"a signalling NaN", with(0, 0xff800001), "invalid-vector"},
		{"Infinity", with(7, 0x7f800000), "invalid-vector"},
		{"-Infinity", with(7, 0xff800000), "invalid-vector"},
		{"one float short", good[4:], "vector-dimension-mismatch"},
		{"one byte more", append(bytes.Clone(good), 0), "invalid-vector"},
		{"floats of 8 bytes", make([]byte, 1536*8), "vector-dimension-mismatch"},
		{"empty", []byte{}, "invalid-vector"},
		{"text", "[1,2,3]", "invalid-vector"},
	}
	url := pgtest.PGVector(t)
	before := catalog(t, url)
	file, memories := memoriesFile(t)
	for _, c := range bad {
		change(t, file, "INSERT INTO memories (id, vector) VALUES (?, ?)", c.name, c.vector)
	}
	o := withPGVector(t, file, url)
	var found []mapping.Finding
	o.OnFinding = func(f mapping.Finding) { found = append(found, f) }
	result, err := transfer.Migrate(context.Background(), o)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "9 rows") || result == nil {
		t.Fatalf("error %v", err)
	}
	if notes := strings.Join(result.Notes, " "); !strings.Contains(notes,
		"1 × 1535 floats, 34 × 1536 floats, 1 × 3072 floats") {
		t.Errorf("the sizes are not counted: %s", notes)
	}
	if len(found) != len(bad) {
		t.Fatalf("%d findings of %d", len(found), len(bad))
	}
	for i, f := range found {
		if f.Key != bad[i].name || f.Reason.String() != bad[i].kind || !f.Rejected {
			t.Errorf("%+v (%s), want %s of %s", f, f.Reason, bad[i].kind, bad[i].name)
		}
	}
	wantUnchanged(t, url, before)

	o.Quarantine = true
	migrate(t, o)
	wantMemories(t, url, memories)
	for _, c := range bad {
		want, class := c.vector, "blob"
		if s, ok := want.(string); ok {
			want, class = []byte(s), "text"
		}
		if got := ask(t, url, "SELECT storage_class || ' ' || reason || ' ' || encode(original, 'hex') FROM "+
			"flujo.flujo_port_originals WHERE row_key = $1 AND column_name = 'vector'", c.name); got != fmt.Sprintf(
			"%s %s %x",
			class,
			c.kind,
			want,
		) {
			t.Errorf("%s is kept as %.80s", c.name, got)
		}
	}
}

func TestPGVectorThatIsNotWanted(t *testing.T) {
	url := pgtest.PGVector(t)
	before := catalog(t, url)
	file, _ := memoriesFile(t)
	wantError(t, options(t, file, url), clierr.Refused, "30 memories", "without --without-pgvector")
	wantUnchanged(t, url, before)

	result := migrate(t, options(t, fixture, url))
	if result.Target.PGVector != "" || result.Target.MadePGVector {
		t.Errorf("target %+v", result.Target)
	}
	if got := ask(t, url, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"); got != "0" {
		t.Error("the extension is there")
	}
	if got := ask(t, url,
		"SELECT string_agg(version::text, ' ' ORDER BY version) FROM flujo.flujo_schema_versions"); got != "1 2 3 4 5" {
		t.Errorf("versions %s, want 1 2 3 4 5", got)
	}
}

// A table of memories that is there takes them all the same, and gets the
// index that it lacks.
func TestPGVectorThatIsNotWantedAndThere(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := memoriesFile(t)
	if _, err := transfer.Init(context.Background(), transfer.InitOptions{Postgres: url, Schema: schema}); err != nil {
		t.Fatal(err)
	}
	prepare(t, url, "DROP INDEX flujo.idx_memories_embedding")
	migrate(t, options(t, file, url))
	wantMemories(t, url, memories)
	wantMemoriesTable(t, url, "public")
}

// memoriesOf reads the memories of a file.
func memoriesOf(t testing.TB, path string) (all []memory) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT id, vector, payload, metadata, created_at FROM memories ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var m memory
		var vector []byte
		if err := rows.Scan(&m.id, &vector, &m.payload, &m.metadata, &m.created); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(vector); i += 4 {
			m.bits = append(m.bits, binary.LittleEndian.Uint32(vector[i:]))
		}
		all = append(all, m)
	}
	return all
}

// TestPGVectorRealMemoriesArrive: the file that Flujo's own backend wrote, every
// cell of it.
func TestPGVectorRealMemoriesArrive(t *testing.T) {
	const path = "../../testdata/flujo_state_memories.db"
	memories := memoriesOf(t, path)
	if len(memories) != 30 {
		t.Fatalf("%d memories", len(memories))
	}
	url := pgtest.PGVector(t)
	o := withPGVector(t, copyOf(t, path), url)
	o.Strict = true // a file that Flujo 0.6 wrote needs no change
	migrate(t, o)
	wantMemories(t, url, memories)
	wantMemoriesTable(t, url, "public")
	conn := connect(t, url)
	defer conn.Close(context.Background())
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files, cells := newFinder(t, conn), 0
	for table := range flujoTables {
		cells += files.find(t, db, table)
	}
	if want := 40*14 + 40*20 + 144*11 + 176*10 + 10*7 + 5*3; cells != want {
		t.Errorf("%d cells were looked for, want %d", cells, want)
	}
}

// TestPGVectorOfOtherSizes: the column gets the one size of the file; HNSW takes
// up to 2,000.
func TestPGVectorOfOtherSizes(t *testing.T) {
	url := pgtest.PGVector(t)
	for _, size := range []int{1, 768, 2000, 2001, 16000} {
		f := newFile(t, map[string]string{
			"runs":     format06["runs"],
			"memories": "id K, vector T, payload T, metadata T, created_at T",
		})
		vector := bytes.Repeat([]byte{0, 0, 0x80, 0x3f}, size) // 1
		for i := range 3 {
			f.insert("memories", cells{"id": fmt.Sprint(i), "vector": vector})
		}
		o := withPGVector(t, f.close(), url)
		result := migrate(t, o)
		got := ask(t, url,
			`SELECT format('%s of %s', count(*), string_agg(DISTINCT replace(vector::text, ',1', ''), ' ')) ||
			(SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'flujo.memories'::regclass
				AND attname = 'vector') ||
			coalesce(to_regclass('flujo.idx_memories_embedding')::text, ' no index') FROM flujo.memories`)
		want := fmt.Sprintf("3 of [1]vector(%d)flujo.idx_memories_embedding", size)
		if size > 2000 {
			want = fmt.Sprintf("3 of [1]vector(%d) no index", size)
		}
		if got != want {
			t.Errorf("size %d: %s, want %s", size, got, want)
		}
		if notes := strings.Join(result.Notes, " "); strings.Contains(notes, "HNSW takes up to 2000") != (size > 2000) {
			t.Errorf("size %d: notes %q", size, notes)
		}
		prepare(t, url, "DROP SCHEMA flujo CASCADE")
	}
}

// TestPGVectorCheck: pgvector and the memories' table are made on trial, and
// gone afterwards; vectors of another size than the table's make it altered.
func TestPGVectorCheck(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	o := checkOptions(t, "../../testdata/flujo_state_memories.db", url)
	o.WithoutPGVector = false
	before := catalog(t, url)
	wantLine(t, o, "pgvector", report.OK, "will be created")
	wantLine(t, o, "dry run", report.OK)
	wantLine(t, o, "Flujo's start", report.OK)
	wantUnchanged(t, url, before)
	if _, err := transfer.Init(context.Background(), transfer.InitOptions{Postgres: url, Schema: schema}); err != nil {
		t.Fatal(err)
	}
	before = catalog(t, url)
	wantLine(t, o, "pgvector", report.OK, "is there, in schema")
	wantLine(t, o, "dry run", report.OK)
	wantUnchanged(t, url, before)
	o.WithoutPGVector = true // the table is there all the same
	wantLine(t, o, "pgvector", report.Warning, "not asked for")
	wantLine(t, o, "dry run", report.OK)
	if got := ask(t, url, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "+
		"WHERE attrelid = 'flujo.memories'::regclass AND attname = 'vector'"); !strings.Contains(
		got,
		"vector(1536)",
	) {
		t.Errorf("the vectors' column is %s", got)
	}
}
