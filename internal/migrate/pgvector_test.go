package migrate_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/initialize"
	"flujo-port/internal/mapping"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// These tests need a server with pgvector: see pgtest.PGVector, and run them with `make test-pgvector`. They hold one
// connection at a time, and none while the program runs, since the server may allow no more.

// extension selects the version and the schema of pgvector.
const extension = "SELECT format('%s in %s', extversion, extnamespace::regnamespace) FROM pg_extension " +
	"WHERE extname = 'vector'"

// available selects the version that CREATE EXTENSION creates.
const available = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"

func TestPGVectorIsCreated(t *testing.T) {
	url := pgtest.PGVector(t)
	version := flujotest.OneAt(t, url, available)
	result := flujotest.Migrate(t, flujotest.PGVectorOptions(t, flujotest.Fixture, url))
	if !result.Committed || result.Target.PGVector != version || !result.Target.CreatedPGVector ||
		!result.Target.CreatedSchema {
		t.Errorf("got committed %v and target %+v, want pgvector %s created", result.Committed, result.Target, version)
	}
	if len(result.Notes) != 0 {
		t.Errorf("got notes %q, want none", result.Notes)
	}
	text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n")
	if want := "pgvector " + version + " (created)"; !strings.Contains(text, want) {
		t.Errorf("the report does not say %q:\n%s", want, text)
	}
	if got, want := flujotest.OneAt(t, url, extension), version+" in public"; got != want {
		t.Errorf("got extension %s, want %s", got, want)
	}
	flujotest.WantMemoriesTable(t, url, "public")
	if got := flujotest.OneAt(t, url, "SELECT count(*) FROM flujo.memories"); got != "0" {
		t.Errorf("got %s memories, want 0", got)
	}
}

func TestPGVectorDryRunLeavesNothing(t *testing.T) {
	url := pgtest.PGVector(t)
	before := flujotest.Catalog(t, url)
	file, _ := flujotest.MemoriesFile(t)
	o := flujotest.PGVectorOptions(t, file, url)
	o.DryRun = true
	result := flujotest.Migrate(t, o)
	if result.Committed || result.Target.PGVector == "" || !result.Target.CreatedPGVector {
		t.Errorf("got committed %v and target %+v, want pgvector created and nothing committed", result.Committed,
			result.Target)
	}
	if row := result.Tables[len(result.Tables)-1]; row.Name != mapping.Memories || row.InPostgres != 30 || !row.Match {
		t.Errorf("got %+v, want 30 memories and a match", row)
	}
	flujotest.WantCatalog(t, url, before)
	if result := flujotest.Migrate(t, flujotest.PGVectorOptions(t, file, url)); !result.Target.CreatedPGVector {
		t.Errorf("got target %+v, want pgvector created", result.Target)
	}
}

// ordinary is the index of the first memory whose cosine distance is defined: the length of those before is 0 or
// exceeds a float4.
const ordinary = 3

// wantNearest tests that Flujo's query for the nearest memory finds each memory itself, with the index and without it.
func wantNearest(t testing.TB, address string, memories []flujotest.Memory) {
	t.Helper()
	ctx := context.Background()
	conn := flujotest.Connect(t, address)
	defer conn.Close(ctx)
	const nearest = "SELECT id FROM memories ORDER BY vector <=> $1::text::vector LIMIT 1"
	for setting, tm := range map[string]string{"enable_seqscan": "Index Scan using idx_memories_embedding",
		"enable_indexscan": "Seq Scan"} {
		flujotest.Exec(t, conn, "SET "+setting+" = off")
		rows, err := conn.Query(ctx,
			"EXPLAIN (COSTS OFF) "+strings.Replace(nearest, "$1", "'"+memories[ordinary].Text()+"'", 1))
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
			if got := flujotest.One(t, conn, nearest, m.Text()); got != m.ID {
				t.Errorf("with %s off: got %s as the nearest to %s", setting, got, m.ID)
			}
		}
		flujotest.Exec(t, conn, "RESET "+setting)
	}
}

// wantMemoryUpsert tests Flujo's statement that inserts or updates a memory.
func wantMemoryUpsert(t testing.TB, address string, m flujotest.Memory) {
	t.Helper()
	ctx := context.Background()
	conn := flujotest.Connect(t, address)
	defer conn.Close(ctx)
	for _, payload := range []string{`"new"`, `"newer"`} {
		_, err := conn.Exec(ctx,
			`INSERT INTO memories (id, vector, payload, metadata)
				VALUES ('new', $1::text::vector, $2::text::jsonb, NULL)
			ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, payload = excluded.payload`,
			m.Text(),
			payload)
		if err != nil {
			t.Fatal(err)
		}
	}
	got := flujotest.One(t, conn, "SELECT payload #>> '{}' FROM memories WHERE id = 'new' AND created_at IS NOT NULL")
	if got != "newer" {
		t.Errorf("got payload %s, want newer", got)
	}
}

func TestPGVectorMigrateMemories(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := flujotest.MemoriesFile(t)
	o := flujotest.PGVectorOptions(t, file, url)
	result := flujotest.Migrate(t, o)
	row := result.Tables[len(result.Tables)-1]
	if row.Name != mapping.Memories || row.RowsRead != 30 || row.InPostgres != 30 || !row.Match {
		t.Errorf("got %+v, want 30 memories and a match", row)
	}
	flujotest.WantMemoriesTable(t, url, "public")
	flujotest.WantMemories(t, url, memories)
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
			flujotest.ExecAt(t, url, c.before...)
			had := flujotest.OneAt(t, url, extension)
			file, memories := flujotest.MemoriesFile(t)
			o := flujotest.PGVectorOptions(t, file, url)
			result := flujotest.Migrate(t, o)
			if result.Target.CreatedPGVector || result.Target.PGVector != flujotest.OneAt(t, url, available) ||
				result.Target.CreatedSchema != (c.types != "flujo") {
				t.Errorf("got target %+v, want pgvector found, not created", result.Target)
			}
			if got := flujotest.OneAt(t, url, extension); got != had {
				t.Errorf("got extension %s, want %s as before", got, had)
			}
			flujotest.WantMemoriesTable(t, url, c.types)
			flujotest.WantMemories(t, url, memories)
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
			conn := flujotest.Connect(t, o.Cutover.Reveal())
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
	flujotest.ExecAt(t, url, "DROP SCHEMA public")
	file, memories := flujotest.MemoriesFile(t)
	o := flujotest.PGVectorOptions(t, file, url)
	flujotest.Migrate(t, o)
	flujotest.WantMemoriesTable(t, url, "flujo")
	flujotest.WantMemories(t, url, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
}

func TestPGVectorAfterInit(t *testing.T) {
	url := pgtest.PGVector(t)
	o := initialize.Options{Postgres: url, Schema: flujotest.Schema}
	made, err := initialize.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	version := flujotest.OneAt(t, url, available)
	if made.PGVector != version || !slices.Contains(made.Created, "extension pgvector "+version) ||
		!slices.Contains(made.Created, mapping.Memories) {
		t.Errorf("got pgvector %s and made %q, want the extension and memories made", made.PGVector, made.Created)
	}
	flujotest.WantMemoriesTable(t, url, "public")
	before := flujotest.Catalog(t, url)
	again, err := initialize.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Created) != 0 || !slices.Contains(again.Existing, mapping.Memories) {
		t.Errorf("got made %q and found %q from the second init, want nothing made", again.Created, again.Existing)
	}

	file, memories := flujotest.MemoriesFile(t)
	result := flujotest.Migrate(t, flujotest.PGVectorOptions(t, file, url))
	if result.Target.CreatedPGVector || result.Target.CreatedSchema {
		t.Errorf("got target %+v, want pgvector and the schema found", result.Target)
	}
	func() { // the program's own table is not in before
		conn := flujotest.Connect(t, url)
		defer conn.Close(context.Background())
		flujotest.Exec(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	}()
	flujotest.WantCatalog(t, url, before)
	flujotest.WantMemories(t, url, memories)
	wantNearest(t, flujotest.Cutover(t, url).Reveal(), memories)

	flujotest.WantError(t, flujotest.PGVectorOptions(t, file, url), clierr.Refused, "memories has 30")
}

// TestPGVectorOtherDimension tests a table for vectors of another dimension: it is unchanged if the file has no
// memories, and gets the dimension of the file otherwise.
func TestPGVectorOtherDimension(t *testing.T) {
	const size = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute " +
		"WHERE attrelid = 'flujo.memories'::regclass AND attname = 'vector'"
	for _, file := range []string{flujotest.Fixture, ""} {
		url := pgtest.PGVector(t)
		flujotest.InitializePGVector(t, url, "")
		flujotest.ExecAt(t, url, "ALTER TABLE flujo.memories ALTER COLUMN vector TYPE vector(768)")
		if file != "" {
			flujotest.Migrate(t, flujotest.PGVectorOptions(t, file, url))
			if got := flujotest.OneAt(t, url, size); got != "vector(768)" {
				t.Errorf("got memories.vector %s, want vector(768)", got)
			}
			continue
		}
		file, memories := flujotest.MemoriesFile(t)
		flujotest.Migrate(t, flujotest.PGVectorOptions(t, file, url))
		flujotest.WantMemoriesTable(t, url, "public")
		flujotest.WantMemories(t, url, memories)
	}
}

func TestPGVectorTooOldIsRefused(t *testing.T) {
	url := pgtest.PGVector(t)
	if flujotest.OneAt(t, url, "SELECT current_setting('is_superuser')") != "on" {
		t.Skip("needs a superuser, to change the extension's version in the catalog")
	}
	flujotest.ExecAt(t, url, "CREATE EXTENSION vector SCHEMA public")
	for _, version := range []string{"0.4.4", "0.5.0", "1.0.0", "0.10.0"} {
		flujotest.ExecAt(t, url, "UPDATE pg_extension SET extversion = '"+version+"' WHERE extname = 'vector'")
		before := flujotest.Catalog(t, url)
		o := flujotest.PGVectorOptions(t, flujotest.Fixture, url)
		if version == "0.4.4" {
			flujotest.WantError(
				t,
				o,
				clierr.Refused,
				"pgvector 0.4.4 is older than 0.5",
				"ALTER EXTENSION vector UPDATE",
				"advice without-pgvector",
			)
		} else {
			o.DryRun = true
			if result := flujotest.Migrate(t, o); result.Target.PGVector != version {
				t.Errorf("got pgvector %s, want %s", result.Target.PGVector, version)
			}
		}
		flujotest.WantCatalog(t, url, before)
	}
}

// TestPGVectorWithoutPrivilege tests a role that owns the schema and may not create extensions.
func TestPGVectorWithoutPrivilege(t *testing.T) {
	url := pgtest.PGVector(t)
	asRole := pgtest.Role(t, url, "")
	role := flujotest.OneAt(t, asRole, "SELECT current_user")
	flujotest.ExecAt(t, url, "CREATE SCHEMA flujo AUTHORIZATION "+role)
	before := flujotest.Catalog(t, url)
	file, memories := flujotest.MemoriesFile(t)
	flujotest.WantError(
		t,
		flujotest.PGVectorOptions(t, file, asRole),
		clierr.Refused,
		role,
		"may not create",
		"CREATE EXTENSION vector",
		"advice without-pgvector",
	)
	flujotest.WantCatalog(t, url, before)

	flujotest.ExecAt(t, url, "CREATE EXTENSION vector SCHEMA public") // as the hint says
	o := flujotest.PGVectorOptions(t, file, asRole)
	flujotest.Migrate(t, o)
	flujotest.WantMemories(t, asRole, memories)
	wantNearest(t, o.Cutover.Reveal(), memories)
	wantMemoryUpsert(t, o.Cutover.Reveal(), memories[ordinary])
}

// TestPGVectorInGrantedTables tests that a role that may create nothing can migrate into tables that it may use.
func TestPGVectorInGrantedTables(t *testing.T) {
	url := pgtest.PGVector(t)
	asRole := pgtest.Role(t, url, "")
	role := flujotest.OneAt(t, asRole, "SELECT current_user")
	flujotest.InitializePGVector(t, url, role)
	file, memories := flujotest.MemoriesFile(t)
	o := flujotest.PGVectorOptions(t, file, asRole)
	o.NoMigrations = true
	flujotest.Migrate(t, o)
	flujotest.WantMemories(t, asRole, memories)
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
	before := flujotest.Catalog(t, url)
	file, memories := flujotest.MemoriesFile(t)
	for _, c := range bad {
		flujotest.Change(t, file, "INSERT INTO memories (id, vector) VALUES (?, ?)", c.name, c.vector)
	}
	o := flujotest.PGVectorOptions(t, file, url)
	var found []mapping.Finding
	o.OnFinding = func(f mapping.Finding) error { found = append(found, f); return nil }
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
	flujotest.WantCatalog(t, url, before)

	o.Quarantine = true
	flujotest.Migrate(t, o)
	flujotest.WantMemories(t, url, memories)
	for _, c := range bad {
		want, class := c.vector, "blob"
		if s, ok := want.(string); ok {
			want, class = []byte(s), "text"
		}
		got := flujotest.OneAt(t, url, "SELECT storage_class || ' ' || reason || ' ' || encode(original, 'hex') "+
			"FROM flujo.flujo_port_originals WHERE row_key = $1 AND column_name = 'vector'", c.name)
		if want := fmt.Sprintf("%s %s %x", class, c.kind, want); got != want {
			t.Errorf("%s: got original %.80s, want %.80s", c.name, got, want)
		}
	}
}

func TestPGVectorOptionOff(t *testing.T) {
	url := pgtest.PGVector(t)
	before := flujotest.Catalog(t, url)
	file, _ := flujotest.MemoriesFile(t)
	flujotest.WantError(t, flujotest.Options(t, file, url), clierr.Refused, "30 memories", "advice use-pgvector")
	flujotest.WantCatalog(t, url, before)

	result := flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	if result.Target.PGVector != "" || result.Target.CreatedPGVector {
		t.Errorf("got target %+v, want it without pgvector", result.Target)
	}
	if got := flujotest.OneAt(t, url, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"); got != "0" {
		t.Error("the extension was created")
	}
	if got := flujotest.OneAt(t, url, flujotest.Versions); got != "1 2 3 4 5" {
		t.Errorf("got versions %s, want 1 2 3 4 5", got)
	}
}

// TestPGVectorOptionOffWithTable tests --without-pgvector with an existing table: memories are migrated, and the
// missing index is created.
func TestPGVectorOptionOffWithTable(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := flujotest.MemoriesFile(t)
	flujotest.InitializePGVector(t, url, "")
	flujotest.ExecAt(t, url, "DROP INDEX flujo.idx_memories_embedding")
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	flujotest.WantMemories(t, url, memories)
	flujotest.WantMemoriesTable(t, url, "public")
}

// memoriesOf returns the memories of a file.
func memoriesOf(t testing.TB, path string) (all []flujotest.Memory) {
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
		var m flujotest.Memory
		var vector []byte
		if err := rows.Scan(&m.ID, &vector, &m.Payload, &m.Metadata, &m.Created); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(vector); i += 4 {
			m.Bits = append(m.Bits, binary.LittleEndian.Uint32(vector[i:]))
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
	o := flujotest.PGVectorOptions(t, flujotest.Copy(t, path), url)
	o.Strict = true // no value of a file that Flujo 0.6 wrote is converted
	flujotest.Migrate(t, o)
	flujotest.WantMemories(t, url, memories)
	flujotest.WantMemoriesTable(t, url, "public")
	conn := flujotest.Connect(t, url)
	defer conn.Close(context.Background())
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files, cells := flujotest.NewFinder(t, conn), 0
	for table := range flujotest.Tables {
		cells += files.Find(t, db, table)
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
		f := flujotest.NewFile(t, map[string]string{
			"runs":     flujotest.Format06["runs"],
			"memories": "id K, vector T, payload T, metadata T, created_at T",
		})
		vector := bytes.Repeat([]byte{0, 0, 0x80, 0x3f}, size) // 1
		for i := range 3 {
			f.Insert("memories", flujotest.Cells{"id": fmt.Sprint(i), "vector": vector})
		}
		o := flujotest.PGVectorOptions(t, f.Close(), url)
		result := flujotest.Migrate(t, o)
		got := flujotest.OneAt(t, url,
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
		flujotest.ExecAt(t, url, "DROP SCHEMA flujo CASCADE")
	}
}
