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

	"flujo-port/internal/initialize"
	"flujo-port/internal/migrate"

	"github.com/jackc/pgx/v5"
)

// These tests need a server with pgvector: see pgtest.PGVector, and run them with `make test-pgvector`. They hold one
// connection at a time, and none while the program runs, since the server may allow no more.

// withPGVector returns the options that migrate file to url with pgvector.
func withPGVector(t testing.TB, file, url string) migrate.Options {
	t.Helper()
	o := options(t, file, url)
	o.WithoutPGVector = false
	return o
}

// ask returns the one value of a query as text, on a new connection.
func ask(t testing.TB, url, query string, args ...any) string {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(context.Background())
	return one(t, conn, query, args...)
}

// prepare executes statements on a new connection.
func prepare(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(context.Background())
	run(t, conn, statements...)
}

// catalog lists the names of all objects in a database.
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

// wantUnchanged tests that the database has the same objects as before, a result of catalog.
func wantUnchanged(t testing.TB, url, before string) {
	t.Helper()
	want, got := strings.Split(before, "\n"), strings.Split(catalog(t, url), "\n")
	for _, object := range got {
		if !slices.Contains(want, object) {
			t.Errorf("unexpected in the database: %s", object)
		}
	}
	for _, object := range want {
		if !slices.Contains(got, object) {
			t.Errorf("missing in the database: %s", object)
		}
	}
}

// extension selects the version and the schema of pgvector.
const extension = "SELECT format('%s in %s', extversion, extnamespace::regnamespace) FROM pg_extension " +
	"WHERE extname = 'vector'"

// available selects the version that CREATE EXTENSION creates.
const available = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"

// wantMemoriesTable tests that memories and its index are as Flujo's migrations 3 and 5 create them, with pgvector in
// the schema types.
func wantMemoriesTable(t testing.TB, url, types string) {
	t.Helper()
	got := ask(t, url,
		`SELECT string_agg(format('%s %s%s', attname, format_type(atttypid, atttypmod),
			CASE WHEN attnotnull THEN '!' END), ', ' ORDER BY attnum)
		FROM pg_attribute, set_config('search_path', '', false)
		WHERE attrelid = 'flujo.memories'::regclass AND attnum > 0`)
	want := "id text!, vector " + types +
		".vector(1536), payload jsonb, metadata jsonb, created_at timestamp with time zone"
	if got != want {
		t.Errorf("got memories (%s), want (%s)", got, want)
	}
	got = ask(t, url,
		"SELECT pg_get_indexdef('flujo.idx_memories_embedding'::regclass) FROM set_config('search_path', '', false)")
	want = "CREATE INDEX idx_memories_embedding ON flujo.memories USING hnsw (vector " + types + ".vector_cosine_ops)"
	if got != want {
		t.Errorf("got index %s, want %s", got, want)
	}
	if got := ask(t, url, "SELECT indisvalid AND indisready FROM pg_index "+
		"WHERE indexrelid = 'flujo.idx_memories_embedding'::regclass"); got != "true" {
		t.Error("the index is not valid and ready")
	}
	if got := ask(t, url, versions); got != "1 2 3 4 5" {
		t.Errorf("got versions %s, want 1 2 3 4 5", got)
	}
}

// versions selects Flujo's recorded migrations.
const versions = "SELECT string_agg(version::text, ' ' ORDER BY version) FROM flujo.flujo_schema_versions"

func TestPGVectorIsCreated(t *testing.T) {
	url := pgtest.PGVector(t)
	version := ask(t, url, available)
	result := mustMigrate(t, withPGVector(t, fixture, url))
	if !result.Committed || result.Target.PGVector != version || !result.Target.CreatedPGVector ||
		!result.Target.CreatedSchema {
		t.Errorf("got committed %v and target %+v, want pgvector %s created", result.Committed, result.Target, version)
	}
	if len(result.Notes) != 0 {
		t.Errorf("got notes %q, want none", result.Notes)
	}
	var text bytes.Buffer
	if err := result.Text(&text); err != nil {
		t.Fatal(err)
	}
	if want := "pgvector " + version + " (created)"; !strings.Contains(text.String(), want) {
		t.Errorf("the report does not say %q:\n%s", want, &text)
	}
	if got, want := ask(t, url, extension), version+" in public"; got != want {
		t.Errorf("got extension %s, want %s", got, want)
	}
	wantMemoriesTable(t, url, "public")
	if got := ask(t, url, "SELECT count(*) FROM flujo.memories"); got != "0" {
		t.Errorf("got %s memories, want 0", got)
	}
}

func TestPGVectorDryRunLeavesNothing(t *testing.T) {
	url := pgtest.PGVector(t)
	before := catalog(t, url)
	file, _ := memoriesFile(t)
	o := withPGVector(t, file, url)
	o.DryRun = true
	result := mustMigrate(t, o)
	if result.Committed || result.Target.PGVector == "" || !result.Target.CreatedPGVector {
		t.Errorf("got committed %v and target %+v, want pgvector created and nothing committed", result.Committed,
			result.Target)
	}
	if row := result.Tables[len(result.Tables)-1]; row.Name != mapping.Memories || row.InPostgres != 30 || !row.Match {
		t.Errorf("got %+v, want 30 memories and a match", row)
	}
	wantUnchanged(t, url, before)
	if result := mustMigrate(t, withPGVector(t, file, url)); !result.Target.CreatedPGVector {
		t.Errorf("got target %+v, want pgvector created", result.Target)
	}
}

// memory is a row of memories in a file.
type memory struct {
	id       string
	bits     []uint32 // the floats of the vector
	payload  any      // string or nil
	metadata any
	created  string
}

// packed returns the vector as Flujo stores it in SQLite.
func (m *memory) packed() []byte {
	var packed []byte
	for _, b := range m.bits {
		packed = binary.LittleEndian.AppendUint32(packed, b)
	}
	return packed
}

// text returns the vector as Flujo sends it to PostgreSQL.
func (m *memory) text() string {
	numbers := make([]string, len(m.bits))
	for i, b := range m.bits {
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

// ordinary is the index of the first memory whose cosine distance is defined: the length of those before is 0 or
// exceeds a float4.
const ordinary = 3

// memoriesFile returns the path of a copy of the fixture with 30 memories, and the memories.
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
				m.bits[j] = extremeFloats[8+j%2] // the largest floats
			case j%97 == i: // a few tiny floats and zeros
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

// change executes a statement on a file.
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

// wantMemories compares every memory in PostgreSQL, the vectors bit by bit.
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
			t.Errorf("%s: the bits of the vector differ from the file's", want.id)
		}
		if string(got[0]) != want.id || string(got[4]) != want.created {
			t.Errorf("got the memory %s of %s, want %s of %s", got[0], got[4], want.id, want.created)
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

// wantNearest tests that Flujo's query for the nearest memory finds each memory itself, with the index and without it.
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
			t.Errorf("with %s off: got the plan\n%.300s\nwant %s", setting, text, tm)
		}
		for _, m := range memories[ordinary:] {
			if got := one(t, conn, nearest, m.text()); got != m.id {
				t.Errorf("with %s off: got %s as the nearest to %s", setting, got, m.id)
			}
		}
		run(t, conn, "RESET "+setting)
	}
}

// wantMemoryUpsert tests Flujo's statement that inserts or updates a memory.
func wantMemoryUpsert(t testing.TB, address string, m memory) {
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
	got := one(t, conn, "SELECT payload #>> '{}' FROM memories WHERE id = 'new' AND created_at IS NOT NULL")
	if got != "newer" {
		t.Errorf("got payload %s, want newer", got)
	}
}

func TestPGVectorMigrateMemories(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := memoriesFile(t)
	o := withPGVector(t, file, url)
	result := mustMigrate(t, o)
	row := result.Tables[len(result.Tables)-1]
	if row.Name != mapping.Memories || row.RowsRead != 30 || row.InPostgres != 30 || !row.Match {
		t.Errorf("got %+v, want 30 memories and a match", row)
	}
	wantMemoriesTable(t, url, "public")
	wantMemories(t, url, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
	wantMemoryUpsert(t, o.Cutover.Reveal(), memories[ordinary])
}

func TestPGVectorExists(t *testing.T) {
	cases := []struct {
		name, types string
		before      []string
		visible     bool // on Flujo's search_path
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
			result := mustMigrate(t, o)
			if result.Target.CreatedPGVector || result.Target.PGVector != ask(t, url, available) ||
				result.Target.CreatedSchema != (c.types != "flujo") {
				t.Errorf("got target %+v, want pgvector found, not created", result.Target)
			}
			if got := ask(t, url, extension); got != had {
				t.Errorf("got extension %s, want %s as before", got, had)
			}
			wantMemoriesTable(t, url, c.types)
			wantMemories(t, url, memories)
			if c.visible {
				if len(result.Notes) != 0 {
					t.Errorf("got notes %q, want none", result.Notes)
				}
				wantNearest(t, o.Cutover.Reveal(), memories)
				wantMemoryUpsert(t, o.Cutover.Reveal(), memories[ordinary])
				return
			}
			if notes := strings.Join(result.Notes, "\n"); !strings.Contains(notes, "types of, others") ||
				!strings.Contains(notes, "search_path") {
				t.Errorf("got notes %q, want one on the search_path", notes)
			}
			conn := connect(t, o.Cutover.Reveal())
			defer conn.Close(context.Background())
			_, err := conn.Exec(context.Background(), "SELECT id FROM memories ORDER BY vector <=> vector")
			if err == nil {
				t.Error("the note is wrong: the search_path has the operators")
			}
		})
	}
}

func TestPGVectorWithoutSchemaPublic(t *testing.T) {
	url := pgtest.PGVector(t)
	prepare(t, url, "DROP SCHEMA public")
	file, memories := memoriesFile(t)
	o := withPGVector(t, file, url)
	mustMigrate(t, o)
	wantMemoriesTable(t, url, "flujo")
	wantMemories(t, url, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
}

func TestPGVectorAfterInit(t *testing.T) {
	url := pgtest.PGVector(t)
	o := initialize.Options{Postgres: url, Schema: schema}
	made, err := initialize.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	version := ask(t, url, available)
	if made.PGVector != version || !slices.Contains(made.Created, "extension pgvector "+version) ||
		!slices.Contains(made.Created, mapping.Memories) {
		t.Errorf("got pgvector %s and made %q, want the extension and memories made", made.PGVector, made.Created)
	}
	wantMemoriesTable(t, url, "public")
	before := catalog(t, url)
	again, err := initialize.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Created) != 0 || !slices.Contains(again.Existing, mapping.Memories) {
		t.Errorf("got made %q and found %q from the second init, want nothing made", again.Created, again.Existing)
	}

	file, memories := memoriesFile(t)
	result := mustMigrate(t, withPGVector(t, file, url))
	if result.Target.CreatedPGVector || result.Target.CreatedSchema {
		t.Errorf("got target %+v, want pgvector and the schema found", result.Target)
	}
	func() { // the program's own table is not in before
		conn := connect(t, url)
		defer conn.Close(context.Background())
		run(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	}()
	wantUnchanged(t, url, before)
	wantMemories(t, url, memories)
	wantNearest(t, cutover(t, url).Reveal(), memories)

	wantError(t, withPGVector(t, file, url), clierr.Refused, "memories has 30")
}

// TestPGVectorOtherDimension tests a table for vectors of another dimension: it is unchanged if the file has no
// memories, and gets the dimension of the file otherwise.
func TestPGVectorOtherDimension(t *testing.T) {
	const size = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute " +
		"WHERE attrelid = 'flujo.memories'::regclass AND attname = 'vector'"
	for _, file := range []string{fixture, ""} {
		url := pgtest.PGVector(t)
		initializePGVector(t, url, "")
		prepare(t, url, "ALTER TABLE flujo.memories ALTER COLUMN vector TYPE vector(768)")
		if file != "" {
			mustMigrate(t, withPGVector(t, file, url))
			if got := ask(t, url, size); got != "vector(768)" {
				t.Errorf("got memories.vector %s, want vector(768)", got)
			}
			continue
		}
		file, memories := memoriesFile(t)
		mustMigrate(t, withPGVector(t, file, url))
		wantMemoriesTable(t, url, "public")
		wantMemories(t, url, memories)
	}
}

func TestPGVectorTooOldIsRefused(t *testing.T) {
	url := pgtest.PGVector(t)
	if ask(t, url, "SELECT current_setting('is_superuser')") != "on" {
		t.Skip("needs a superuser, to change the extension's version in the catalog")
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
			if result := mustMigrate(t, o); result.Target.PGVector != version {
				t.Errorf("got pgvector %s, want %s", result.Target.PGVector, version)
			}
		}
		wantUnchanged(t, url, before)
	}
}

// TestPGVectorWithoutPrivilege tests a role that owns the schema and may not create extensions.
func TestPGVectorWithoutPrivilege(t *testing.T) {
	url := pgtest.PGVector(t)
	asRole := pgtest.Role(t, url, "")
	role := ask(t, asRole, "SELECT current_user")
	prepare(t, url, "CREATE SCHEMA flujo AUTHORIZATION "+role)
	before := catalog(t, url)
	file, memories := memoriesFile(t)
	wantError(t, withPGVector(t, file, asRole), clierr.Refused, role, "may not create", "CREATE EXTENSION vector",
		"--without-pgvector")
	wantUnchanged(t, url, before)

	prepare(t, url, "CREATE EXTENSION vector SCHEMA public") // as the hint says
	o := withPGVector(t, file, asRole)
	mustMigrate(t, o)
	wantMemories(t, asRole, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
	wantMemoryUpsert(t, o.Cutover.Reveal(), memories[ordinary])
}

// TestPGVectorAfterInitGrantTo tests that a role that may create nothing can migrate after init --grant-to.
func TestPGVectorAfterInitGrantTo(t *testing.T) {
	url := pgtest.PGVector(t)
	asRole := pgtest.Role(t, url, "")
	role := ask(t, asRole, "SELECT current_user")
	initializePGVector(t, url, role)
	file, memories := memoriesFile(t)
	o := withPGVector(t, file, asRole)
	mustMigrate(t, o)
	wantMemories(t, asRole, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
	wantMemoryUpsert(t, o.Cutover.Reveal(), memories[ordinary])
}

func TestPGVectorInvalidVectors(t *testing.T) {
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
		{"one byte too long", append(bytes.Clone(good), 0), "invalid-vector"},
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
	result, err := migrate.Run(context.Background(), o)
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), "9 rows") || result == nil {
		t.Fatalf("got error %v, want a refusal of 9 rows", err)
	}
	notes := strings.Join(result.Notes, " ")
	if !strings.Contains(notes, "1 × 1535 floats, 34 × 1536 floats, 1 × 3072 floats") {
		t.Errorf("got notes %q, want a count of the dimensions", notes)
	}
	if len(found) != len(bad) {
		t.Fatalf("got %d findings, want %d", len(found), len(bad))
	}
	for i, f := range found {
		if f.Key != bad[i].name || f.Reason.String() != bad[i].kind || !f.Rejected {
			t.Errorf("got %+v (%s), want %s of %s", f, f.Reason, bad[i].kind, bad[i].name)
		}
	}
	wantUnchanged(t, url, before)

	o.Quarantine = true
	mustMigrate(t, o)
	wantMemories(t, url, memories)
	for _, c := range bad {
		want, class := c.vector, "blob"
		if s, ok := want.(string); ok {
			want, class = []byte(s), "text"
		}
		got := ask(t, url, "SELECT storage_class || ' ' || reason || ' ' || encode(original, 'hex') "+
			"FROM flujo.flujo_port_originals WHERE row_key = $1 AND column_name = 'vector'", c.name)
		if want := fmt.Sprintf("%s %s %x", class, c.kind, want); got != want {
			t.Errorf("%s: got original %.80s, want %.80s", c.name, got, want)
		}
	}
}

func TestPGVectorOptionOff(t *testing.T) {
	url := pgtest.PGVector(t)
	before := catalog(t, url)
	file, _ := memoriesFile(t)
	wantError(t, options(t, file, url), clierr.Refused, "30 memories", "without --without-pgvector")
	wantUnchanged(t, url, before)

	result := mustMigrate(t, options(t, fixture, url))
	if result.Target.PGVector != "" || result.Target.CreatedPGVector {
		t.Errorf("got target %+v, want it without pgvector", result.Target)
	}
	if got := ask(t, url, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"); got != "0" {
		t.Error("the extension was created")
	}
	if got := ask(t, url, versions); got != "1 2 3 4 5" {
		t.Errorf("got versions %s, want 1 2 3 4 5", got)
	}
}

// TestPGVectorOptionOffWithTable tests --without-pgvector with an existing table: memories are migrated, and the
// missing index is created.
func TestPGVectorOptionOffWithTable(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := memoriesFile(t)
	initializePGVector(t, url, "")
	prepare(t, url, "DROP INDEX flujo.idx_memories_embedding")
	mustMigrate(t, options(t, file, url))
	wantMemories(t, url, memories)
	wantMemoriesTable(t, url, "public")
}

// initializePGVector creates Flujo's empty tables, memories included. It grants their use to the role grantTo, unless
// that is empty.
func initializePGVector(t testing.TB, url, grantTo string) {
	t.Helper()
	o := initialize.Options{Postgres: url, Schema: schema, GrantTo: grantTo}
	if _, err := initialize.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

// memoriesOf returns the memories of a file.
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
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

// TestPGVectorMigrateFixture compares every cell of a file that Flujo's own backend wrote.
func TestPGVectorMigrateFixture(t *testing.T) {
	const path = "../../testdata/flujo_state_memories.db"
	memories := memoriesOf(t, path)
	if len(memories) != 30 {
		t.Fatalf("got %d memories, want 30", len(memories))
	}
	url := pgtest.PGVector(t)
	o := withPGVector(t, copyOf(t, path), url)
	o.Strict = true // no value of a file that Flujo 0.6 wrote is converted
	mustMigrate(t, o)
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
		t.Errorf("compared %d cells, want %d", cells, want)
	}
}

// TestPGVectorDimensions tests that the column gets the dimension of the file's vectors, and that there is no index
// for more than 2,000 dimensions, which HNSW does not support.
func TestPGVectorDimensions(t *testing.T) {
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
		result := mustMigrate(t, o)
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
			t.Errorf("%d dimensions: got %s, want %s", size, got, want)
		}
		notes := strings.Join(result.Notes, " ")
		if strings.Contains(notes, "supports up to 2000 dimensions") != (size > 2000) {
			t.Errorf("%d dimensions: got notes %q", size, notes)
		}
		prepare(t, url, "DROP SCHEMA flujo CASCADE")
	}
}

// TestPGVectorCheck tests that the dry run of check creates pgvector and memories and leaves nothing, and that an
// existing table is unchanged.
func TestPGVectorCheck(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	o := checkOptions(t, "../../testdata/flujo_state_memories.db", url)
	o.WithoutPGVector = false
	before := catalog(t, url)
	wantLine(t, o, "pgvector", report.OK, "will be created")
	wantLine(t, o, "dry run", report.OK)
	wantLine(t, o, "Flujo startup", report.OK)
	wantUnchanged(t, url, before)
	initializePGVector(t, url, "")
	before = catalog(t, url)
	wantLine(t, o, "pgvector", report.OK, "is installed in schema")
	wantLine(t, o, "dry run", report.OK)
	wantUnchanged(t, url, before)
	o.WithoutPGVector = true // the table exists
	wantLine(t, o, "pgvector", report.Warning, "not used")
	wantLine(t, o, "dry run", report.OK)
	got := ask(t, url, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "+
		"WHERE attrelid = 'flujo.memories'::regclass AND attname = 'vector'")
	if !strings.Contains(got, "vector(1536)") {
		t.Errorf("got memories.vector %s, want vector(1536)", got)
	}
}
