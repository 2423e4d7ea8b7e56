package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/rowdigest"

	"github.com/jackc/pgx/v5"
)

// openSnapshot opens a snapshot of Flujo's schema.
func openSnapshot(t *testing.T, url string) *Snapshot {
	t.Helper()
	s, err := OpenSnapshot(background, url, schema, briefly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// encodedRow is a row as the server encodes it for the tests, by statements that do not depend on the program.
type encodedRow struct {
	key      string
	writer   int64
	encoding []byte
}

func (r encodedRow) hash() []byte { h := sha256.Sum256(r.encoding); return h[:] }

// runsSQL and stepsSQL encode the rows of two tables: integers as bigint, and reals as double precision.
const (
	runsSQL = `SELECT run_id, xmin::text::bigint, record_send(ROW(run_id, pipeline_id, pipeline_name, pipeline_version,
		status, created_at, updated_at, execution_time_ms::bigint, memory_usage_mb::double precision,
		total_steps::bigint, error_message)) FROM flujo.runs ORDER BY convert_to(run_id, 'UTF8')`
	stepsSQL = `SELECT id::text, xmin::text::bigint, record_send(ROW(id::bigint, run_id, step_name, step_index::bigint,
		status, output, raw_response, cost_usd::double precision, token_counts::bigint, execution_time_ms::bigint,
		created_at)) FROM flujo.steps ORDER BY id`
)

// encoded returns the rows of a query as above.
func encoded(t *testing.T, conn *pgx.Conn, query string) (all []encodedRow) {
	t.Helper()
	rows, err := conn.Query(background, query)
	if err != nil {
		t.Fatal(err)
	}
	var r encodedRow
	_, err = pgx.ForEachRow(rows, []any{&r.key, &r.writer, &r.encoding}, func() error {
		all = append(all, encodedRow{r.key, r.writer, bytes.Clone(r.encoding)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// digestOf adds the hashes of rows, as rowdigest describes it.
func digestOf(rows []encodedRow) rowdigest.Digest {
	var a, b big.Int
	for _, r := range rows {
		h := r.hash()
		a.Add(&a, big.NewInt(int64(binary.BigEndian.Uint64(h))))
		b.Add(&b, big.NewInt(int64(binary.BigEndian.Uint64(h[8:]))))
	}
	return rowdigest.Digest{Rows: int64(len(rows)), Sum: fmt.Sprintf("%s,%s", &a, &b)}
}

// TestSnapshotRows compares everything that a snapshot says of rows with what the tests' own statements say.
func TestSnapshotRows(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	// Rows of several transactions, and the wider types that a migration makes.
	run(t, owner, "ALTER TABLE flujo.steps ALTER token_counts TYPE bigint, ALTER cost_usd TYPE double precision",
		"UPDATE flujo.steps SET token_counts = 5000000000, cost_usd = 0.1 WHERE id = 2")
	s := openSnapshot(t, url)
	for name, query := range map[string]string{"runs": runsSQL, "steps": stepsSQL} {
		table, want := mapping.TableOf(name), encoded(t, owner, query)
		if len(want) != 3 {
			t.Fatalf("%s has %d rows", name, len(want))
		}
		if n, err := s.Count(background, table); n != 3 || err != nil {
			t.Errorf("%s: Count returned %d, %v", name, n, err)
		}
		if d, err := s.Digest(background, table); d != digestOf(want) || err != nil {
			t.Errorf("%s: Digest returned %+v, %v, want %+v", name, d, err, digestOf(want))
		}
		wantWriters(t, s, table, want)
		wantBuckets(t, s, table, want)
		wantEncodings(t, s, table, want)
		var got []encodedRow
		err := s.Each(background, table, func(r StoredEncoding) error {
			got = append(got, encodedRow{rowdigest.Key(table, r.Encoding), r.Writer, bytes.Clone(r.Encoding)})
			return nil
		})
		if err != nil || !slices.EqualFunc(got, want, func(a, b encodedRow) bool {
			return a.key == b.key && a.writer == b.writer && bytes.Equal(a.encoding, b.encoding)
		}) {
			t.Errorf("%s: Each returned %v, %v, want %v", name, got, err, want)
		}
	}
	empty := mapping.TableOf("spans")
	if d, err := s.Digest(background, empty); d != rowdigest.Empty || err != nil {
		t.Errorf("no rows: Digest returned %+v, %v", d, err)
	}
	wantWriters(t, s, empty, nil)
	wantBuckets(t, s, empty, nil)
}

func wantWriters(t *testing.T, s *Snapshot, table *mapping.Table, rows []encodedRow) {
	t.Helper()
	want := map[int64]bool{}
	for _, r := range rows {
		want[r.writer] = true
	}
	got, err := s.Writers(background, table)
	if err != nil || !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%s: Writers returned %v, %v, want %v", table.Name, got, err, want)
	}
}

// wantBuckets tests Buckets and Rows: the bucket of a row is the first two bytes of its key's SHA-256.
func wantBuckets(t *testing.T, s *Snapshot, table *mapping.Table, rows []encodedRow) {
	t.Helper()
	in := map[int][]encodedRow{}
	for _, r := range rows {
		h := sha256.Sum256([]byte(r.key))
		at := int(binary.BigEndian.Uint16(h[:]))
		in[at] = append(in[at], r)
	}
	got := map[int]rowdigest.Digest{}
	if err := s.Buckets(background, table, func(at int, d rowdigest.Digest) { got[at] = d }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(in) {
		t.Errorf("%s: Buckets returned %v, want %d buckets", table.Name, got, len(in))
	}
	for at, some := range in {
		if got[at] != digestOf(some) {
			t.Errorf("%s: the digest of bucket %d is %+v, want %+v", table.Name, at, got[at], digestOf(some))
		}
		var found []StoredRow
		if err := s.Rows(
			background,
			table,
			[]int32{int32(at)},
			func(r StoredRow) { found = append(found, r) },
		); err != nil {
			t.Fatal(err)
		}
		if len(found) != len(some) || found[0].Key != some[0].key || found[0].Writer != some[0].writer ||
			found[0].Hash != rowdigest.Hash(some[0].encoding) {
			t.Errorf("%s: the rows of bucket %d are %+v, want %v", table.Name, at, found, some)
		}
	}
	if err := s.Rows(background, table, nil, func(r StoredRow) { t.Errorf("no bucket has %+v", r) }); err != nil {
		t.Error(err)
	}
}

func wantEncodings(t *testing.T, s *Snapshot, table *mapping.Table, rows []encodedRow) {
	t.Helper()
	want := []encodedRow{rows[0], rows[2]}
	slices.SortFunc(want, func(a, b encodedRow) int { // the keys of bigint columns are numbers
		if x, y := len(a.key), len(b.key); table.Serial() != "" && x != y {
			return x - y
		}
		return strings.Compare(a.key, b.key)
	})
	got := encodingsOf(t, s, table, want[1].key, want[0].key, "777")
	if len(got) != 2 || got[0].key != want[0].key || got[1].key != want[1].key ||
		!bytes.Equal(got[0].encoding, want[0].encoding) || !bytes.Equal(got[1].encoding, want[1].encoding) {
		t.Errorf("%s: got %+v, want %+v", table.Name, got, want)
	}
}

// encodingsOf returns what Encodings passes to its function.
func encodingsOf(t *testing.T, s *Snapshot, table *mapping.Table, keys ...string) (all []encodedRow) {
	t.Helper()
	err := s.Encodings(background, table, keys, func(key string, encoding []byte) error {
		all = append(all, encodedRow{key: key, encoding: bytes.Clone(encoding)})
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", table.Name, err)
	}
	return all
}

// TestSnapshotWithoutPrimaryKey tests rows that have the same key.
func TestSnapshotWithoutPrimaryKey(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	run(t, owner, "ALTER TABLE flujo.steps DROP CONSTRAINT steps_pkey", "UPDATE flujo.steps SET id = 1 WHERE id = 2")
	s := openSnapshot(t, url)
	got := encodingsOf(t, s, mapping.TableOf("steps"), "1")
	if len(got) != 2 || bytes.Equal(got[0].encoding, got[1].encoding) {
		t.Errorf("got %+v, want two rows", got)
	}
}

// TestSnapshotIsOne tests that a snapshot does not see what is committed after it was opened.
func TestSnapshotIsOne(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	s := openSnapshot(t, url)
	run(t, owner, "DELETE FROM flujo.steps")
	if n, err := s.Count(background, mapping.TableOf("steps")); n != 3 || err != nil {
		t.Errorf("got %d rows, %v, want 3", n, err)
	}
	if err := s.Conn().Run(background, "DELETE FROM flujo.runs"); Code(err) != ReadOnlyTransaction {
		t.Errorf("writing returns %v", err)
	}
	if s.Server().Role == "" || s.Server() != s.Conn().Server {
		t.Errorf("Server returned %+v", s.Server())
	}
}

// TestSnapshotBlocksTruncate tests that --replace, whose TRUNCATE older snapshots see, waits for a snapshot.
func TestSnapshotBlocksTruncate(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	s := openSnapshot(t, url)
	run(t, owner, "SET lock_timeout = 50")
	for _, table := range []string{"runs, flujo.steps, flujo.spans, flujo.traces, flujo.evaluations", "system_state"} {
		if _, err := owner.Exec(background, "TRUNCATE flujo."+table); Code(err) != LockNotAvailable {
			t.Errorf("TRUNCATE of %s returns %v", table, err)
		}
	}
	s.Close()
	if !s.Conn().IsClosed() {
		t.Error("Close left the connection open")
	}
	run(t, owner, "TRUNCATE flujo.system_state")
}

func TestOpenSnapshotTables(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	run(t, owner, "DROP TABLE flujo.traces", "ALTER TABLE flujo.steps ALTER id TYPE bigint",
		"ALTER TABLE flujo.runs ALTER memory_usage_mb TYPE double precision")
	s := openSnapshot(t, url)
	var names []string
	for _, table := range s.Tables() {
		names = append(names, table.Name)
	}
	if want := []string{
		"runs",
		"workflow_state",
		"steps",
		"spans",
		"evaluations",
		"system_state",
	}; !slices.Equal(
		names,
		want,
	) {
		t.Errorf("got the tables %v, want %v", names, want)
	}
	if types := s.Types(); !types.Wide["steps.id"] || !types.Double["runs.memory_usage_mb"] ||
		len(types.Wide)+len(types.Double) != 2 {
		t.Errorf("got the types %+v", types)
	}
	if err := s.CheckNoExtraColumns(); err != nil {
		t.Error(err)
	}
	s.Close() // it holds a lock on the table
	run(t, owner, "ALTER TABLE flujo.evaluations ADD z int, ADD a int")
	wantError(t, openSnapshot(t, url).CheckNoExtraColumns(), clierr.Refused, "evaluations.a, evaluations.z")
}

func TestOpenSnapshotErrors(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	role := pgtest.Role(t, url, "")
	fails := func(url, schema string) error {
		s, err := OpenSnapshot(background, url, schema, briefly)
		if err == nil {
			s.Close()
		}
		return err
	}
	for _, name := range []string{"none", "public"} {
		wantError(
			t,
			fails(url, name),
			clierr.Refused,
			fmt.Sprintf("schema %q of database", name),
			"none of Flujo's tables",
		)
	}
	wantError(t, fails(pgtest.WithDatabase(t, url, "flujo_port_test_none"), schema), clierr.Usage, "3D000")

	locker, process := holder(t, url, "LOCK TABLE flujo.steps")
	err := fails(url, schema)
	wantTimeout(t, url, err, "a lock to begin a snapshot", process, "AccessExclusiveLock on flujo.steps")
	run(t, locker, "ROLLBACK")

	run(t, owner, "ALTER TABLE flujo.steps DROP status, ALTER step_index TYPE smallint")
	err = fails(url, schema)
	wantError(t, err, clierr.Refused, "steps.step_index is smallint, not integer; steps has no column status")

	run(t, owner, "CREATE SCHEMA readable; CREATE TABLE readable.traces (LIKE flujo.traces)",
		"CREATE TABLE readable.system_state (LIKE flujo.system_state)",
		"GRANT USAGE ON SCHEMA readable TO PUBLIC", "GRANT SELECT ON readable.traces TO PUBLIC")
	s, err := OpenSnapshot(background, role, "readable", briefly)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if d, err := s.Digest(background, mapping.TableOf("traces")); d != rowdigest.Empty || err != nil {
		t.Errorf("got %+v, %v", d, err)
	}
	_, err = s.Digest(background, mapping.TableOf("system_state"))
	wantError(t, err, clierr.Refused, `read back table "system_state"`, "42501")
}

func TestInTransaction(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	conn := open(t, url)
	run(t, conn.Conn, "BEGIN; DELETE FROM flujo.steps WHERE id = 1")
	s, err := InTransaction(background, conn, tables[:1], mapping.NewTypes(false), "")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Count(background, mapping.TableOf("steps")); n != 2 || err != nil {
		t.Errorf("got %d rows, %v, want 2: those of the transaction", n, err)
	}
	if len(s.Tables()) != 1 || s.Conn() != conn {
		t.Errorf("got %+v", s)
	}
	run(t, conn.Conn, "ROLLBACK")
	conn.End(background)
	_, err = InTransaction(background, conn, nil, nil, "")
	wantError(t, err, clierr.Failed, "configure the session for reading")
}

func TestSameJSON(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	s := openSnapshot(t, url)
	for form, want := range map[string]bool{
		"\x01" + `{"a": "é", "b": 1.50}`: true, "\x01" + `{"a": "é", "b": 1.5}`: false, "": false,
	} {
		if same, err := s.SameJSON(
			background,
			[]byte(`{"b":1.50,"a":"\u00e9"}`),
			[]byte(form),
		); same != want ||
			err != nil {
			t.Errorf("%q: got %t, %v, want %t", form, same, err, want)
		}
	}
	_, err := s.SameJSON(background, []byte(`{`), nil)
	wantError(t, err, clierr.Refused, "read a JSON text as jsonb", "22P02")
}

// TestSnapshotErrors tests that every method reports a table that cannot be read.
func TestSnapshotErrors(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	conn := open(t, url)
	s, err := InTransaction(background, conn, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	run(t, conn.Conn, "DROP TABLE flujo.steps")
	steps := mapping.TableOf("steps")
	for name, f := range map[string]func(ctx context.Context) error{
		"Count":   func(ctx context.Context) error { _, err := s.Count(ctx, steps); return err },
		"Digest":  func(ctx context.Context) error { _, err := s.Digest(ctx, steps); return err },
		"Writers": func(ctx context.Context) error { _, err := s.Writers(ctx, steps); return err },
		"Buckets": func(ctx context.Context) error {
			return s.Buckets(ctx, steps, func(int, rowdigest.Digest) {})
		},
		"Rows":      func(ctx context.Context) error { return s.Rows(ctx, steps, nil, func(StoredRow) {}) },
		"Encodings": func(ctx context.Context) error { return s.Encodings(ctx, steps, nil, nil) },
		"Each": func(ctx context.Context) error {
			return s.Each(ctx, steps, func(StoredEncoding) error { return nil })
		},
		"LastID": func(ctx context.Context) error { _, _, err := s.LastID(ctx, steps); return err },
	} {
		wantError(t, f(background), clierr.Failed, `table "steps"`, "42P01")
		cancelled, cancel := context.WithCancel(background)
		cancel()
		if err := f(cancelled); err != context.Canceled {
			t.Errorf("%s: got error %v with a cancelled context", name, err)
		}
		if conn.IsClosed() {
			t.Fatalf("%s: the connection is closed", name)
		}
	}
}

func TestLastID(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	steps := mapping.TableOf("steps")
	for _, tc := range []struct {
		name, sql string
		want      int64
		known     bool
	}{
		{"rows", "", 3, true},
		{"the sequence is ahead", "SELECT setval('flujo.steps_id_seq', 9)", 9, true},
		{"the rows are ahead", "UPDATE flujo.steps SET id = 12 WHERE id = 1", 12, true},
		{"only negative ids", "UPDATE flujo.steps SET id = -id; ALTER SEQUENCE flujo.steps_id_seq RESTART", 0, true},
		{"no rows", "DELETE FROM flujo.steps", 0, true},
		{"no sequence", "ALTER TABLE flujo.steps ALTER id DROP DEFAULT; DROP SEQUENCE flujo.steps_id_seq", 0, false},
	} {
		run(t, owner, tc.sql)
		s := openSnapshot(t, url)
		id, known, err := s.LastID(background, steps)
		s.Close()
		if id != tc.want || known != tc.known || err != nil {
			t.Errorf("%s: got %d, %t, %v", tc.name, id, known, err)
		}
	}
}

// errStop is the error with which a function ends a query.
var errStop = errors.New("stop")

// wantUsable tests that a connection answers after its transaction has been rolled back.
func wantUsable(t *testing.T, conn *Conn) {
	t.Helper()
	if conn.IsClosed() {
		t.Fatal("the connection is closed")
	}
	run(t, conn.Conn, "ROLLBACK")
	for range 3 { // a cancel request that arrives late would end one of these
		if got := one(t, conn.Conn, "7"); got != "7" {
			t.Fatalf("got %s", got)
		}
	}
}

// TestEachStops tests that an error of the function, or of the context, ends a query with many rows at once.
func TestEachStops(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	run(t, owner, `INSERT INTO flujo.steps (run_id, step_name, step_index, status, output, created_at)
		SELECT 'b', repeat('x', 1000), n, '', '{}', '2026-01-05' FROM generate_series(1, 20000) n`)
	steps := mapping.TableOf("steps")
	for _, n := range []int{1, 10000, 20003} {
		s := openSnapshot(t, url)
		seen := 0
		err := s.Each(background, steps, func(StoredEncoding) error {
			if seen++; seen == n {
				return errStop
			}
			return nil
		})
		if err != errStop || seen != n {
			t.Errorf("got error %v after %d rows, want that of the function after %d", err, seen, n)
		}
		wantUsable(t, s.Conn())
	}
	s := openSnapshot(t, url)
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	seen := 0
	err := s.Each(ctx, steps, func(StoredEncoding) error { seen++; cancel(); return nil })
	// The server reports the cancel request; the operations return the error of the context instead.
	if err == nil || seen == 20003 {
		t.Errorf("got error %v after %d rows", err, seen)
	}
	wantUsable(t, s.Conn())
}

const originalsSQL = `CREATE TABLE flujo.flujo_port_originals (receipt bigint NOT NULL, table_name text NOT NULL,
	row_key text NOT NULL,
	source_rowid bigint NOT NULL, column_name text NOT NULL, reason text NOT NULL, storage_class text NOT NULL,
	original bytea)`

func TestOriginals(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	none := openSnapshot(t, url)
	if has, err := none.HasOriginals(background); has || err != nil {
		t.Errorf("HasOriginals returned %t, %v", has, err)
	}
	if err := none.Originals(background, func(o Original) error { return errStop }); err != nil {
		t.Errorf("got error %v without the table", err)
	}
	run(t, owner, originalsSQL, `INSERT INTO flujo.flujo_port_originals VALUES
		(1, 'runs', 'a', 1, 'status', 'nul-removed', 'text', '\x610062'),
		(1, 'runs', '', -2, 'run_id', 'null-key', 'null', NULL),
		(2, 'steps', '7', 9223372036854775807, 'output', 'rounded+nul-removed', 'integer', '-5'),
		(3, 'runs', 'a', 0, '', 'superseded', 'row', '{}'), (3, 'runs', 'b', 0, '', 'equal', 'integer', '1'),
		(2, 'steps', '8', 3, 'cost_usd', 'x', 'real', '0.1'), (2, 'steps', '9', 4, 'output', 'x', 'blob', '\xff')`)
	s := openSnapshot(t, url)
	if has, err := s.HasOriginals(background); !has || err != nil {
		t.Errorf("HasOriginals returned %t, %v", has, err)
	}
	var got []string
	err := s.Originals(background, func(o Original) error {
		got = append(got, fmt.Sprintf("%d %s %q %d %s %s %s %s",
			o.Receipt, o.Table, o.Key, o.RowID, o.Column, o.Reason, o.Value.Class, o.Value))
		return nil
	})
	want := []string{
		`1 runs "a" 1 status nul-removed text "a\x00b"`,
		`1 runs "" -2 run_id null-key null NULL`,
		`2 steps "7" 9223372036854775807 output rounded+nul-removed integer -5`,
		`2 steps "8" 3 cost_usd x real 0.1`,
		`2 steps "9" 4 output x blob x'ff'`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
	if err := s.Originals(background, func(Original) error { return io.EOF }); err != io.EOF {
		t.Errorf("got error %v, want that of the function", err)
	}
	wantUsable(t, s.Conn())

	cancelled, cancel := context.WithCancel(background)
	cancel()
	if err := s.Originals(cancelled, func(Original) error { return nil }); err != context.Canceled {
		t.Errorf("got error %v", err)
	}
	wantUsable(t, s.Conn())
}

// TestOriginalsUnreadable tests a table of originals that somebody changed.
func TestOriginalsUnreadable(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	run(t, owner, originalsSQL,
		"INSERT INTO flujo.flujo_port_originals VALUES (1, 'runs', 'a', 1, 'status', 'x', 'integer', 'seven')")
	s := openSnapshot(t, url)
	err := s.Originals(background, func(Original) error { return nil })
	wantError(t, err, clierr.Failed, `read the originals of runs "a"`)
	wantUsable(t, s.Conn())

	run(t, owner, "ALTER TABLE flujo.flujo_port_originals DROP original")
	err = openSnapshot(t, url).Originals(background, func(Original) error { return nil })
	wantError(t, err, clierr.Failed, "read the originals", "42703")
}
