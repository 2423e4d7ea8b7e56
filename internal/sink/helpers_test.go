package sink

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// background is the context of everything that a test does not cancel.
var background = context.Background()

const schema = "flujo"

// lockWait is the lock timeout. Only tests of locks wait for one.
const lockWait = 5 * time.Second

// begin begins a transaction that the test rolls back, unless it ended before.
func begin(t testing.TB, url string) *Tx {
	t.Helper()
	tx, err := Begin(background, url, schema, lockWait)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tx.Rollback)
	return tx
}

// prepare begins a transaction and creates or locks Flujo's tables, without memories.
func prepare(t testing.TB, url string) (*Tx, *Schema) {
	t.Helper()
	tx := begin(t, url)
	s, err := tx.Prepare(background, true, mapping.NewTypes(false))
	if err != nil {
		t.Fatal(err)
	}
	return tx, s
}

// initialized returns a new database with Flujo's tables and indexes, and a connection to it.
func initialized(t testing.TB) (url string, conn *pgx.Conn) {
	t.Helper()
	url = pgtest.Database(t)
	tx, s := prepare(t, url)
	check(t, tx.Finish(background, s))
	commit(t, tx)
	return url, connect(t, url)
}

// rowsSQL inserts two runs and three steps.
const rowsSQL = `
INSERT INTO flujo.runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at)
	VALUES ('a', 'p', 'n', '1', 'completed', '2026-01-05', '2026-01-05'),
		('b', 'p', 'n', '1', 'failed', '2026-01-05', '2026-01-05');
INSERT INTO flujo.steps (run_id, step_name, step_index, status, output, created_at)
	VALUES ('a', 's', 0, '', '{"a": 1}', '2026-01-05'), ('a', 's', 1, '', NULL, '2026-01-05'),
		('b', 's', 0, '', 'null', '2026-01-05');`

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, tx *Tx) {
	t.Helper()
	_, err := tx.Commit(func() error { return nil })
	check(t, err)
}

// connect returns a connection of its own. A statement that waits for a lock of the test fails.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(background, url)
	check(t, err)
	t.Cleanup(func() { conn.Close(background) })
	run(t, conn, "SET lock_timeout = '30s'")
	return conn
}

func run(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.PgConn().Exec(background, sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// one returns the one value of a query as text, NULL as "NULL".
func one(t testing.TB, conn *pgx.Conn, query string, args ...any) string {
	t.Helper()
	var value *string
	if err := conn.QueryRow(background, "SELECT ("+query+")::text", args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if value == nil {
		return "NULL"
	}
	return *value
}

// wantOne tests the one value of a query.
func wantOne(t testing.TB, conn *pgx.Conn, query, want string) {
	t.Helper()
	if got := one(t, conn, query); got != want {
		t.Errorf("%s: got %s, want %s", query, got, want)
	}
}

// wantError tests the kind and the parts of an error.
func wantError(t testing.TB, err error, kind clierr.Kind, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want one of kind %d", kind)
		return
	}
	if got := clierr.KindOf(err); got != kind {
		t.Errorf("got kind %d, want %d: %v", got, kind, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want one that contains %q", err, part)
		}
	}
}

// roleName returns the name of a URL's role.
func roleName(t testing.TB, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	check(t, err)
	return config.User
}

// databaseName returns the quoted name of a connection's database.
func databaseName(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	return one(t, conn, "quote_ident(current_database())")
}

// document is a cell of a JSON column.
type document string

// tuple encodes a row for COPY: int is an int4, int64 an int8, and time.Time a timestamp.
func tuple(cells ...any) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(cells)))
	for _, cell := range cells {
		var field []byte
		switch v := cell.(type) {
		case nil:
			b = binary.BigEndian.AppendUint32(b, math.MaxUint32)
			continue
		case string:
			field = []byte(v)
		case document:
			field = append([]byte{1}, v...)
		case int:
			field = binary.BigEndian.AppendUint32(nil, uint32(v))
		case int64:
			field = binary.BigEndian.AppendUint64(nil, uint64(v))
		case time.Time:
			field = binary.BigEndian.AppendUint64(nil, uint64(mapping.TimeOf(v).Micros))
		default:
			panic(fmt.Sprintf("cell of type %T", v))
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	return b
}

var moment = time.Date(2026, 1, 5, 9, 0, 1, 669094000, time.UTC)

// state returns a tuple of system_state.
func state(key, value string) []byte { return tuple(key, document(value), moment) }

// step returns a tuple of steps.
func step(id, tokens any) []byte {
	return tuple(id, "a", "s", 0, "", nil, nil, nil, tokens, nil, moment)
}

// tuples are the tuples of a test, after which Append returns err, or io.EOF if that is nil.
type tuples struct {
	left [][]byte
	err  error
}

func newTuples(err error, all ...[]byte) *tuples { return &tuples{left: all, err: err} }

// Append implements mapping.Tuples.
func (s *tuples) Append(dst []byte) ([]byte, error) {
	switch {
	case len(s.left) > 0:
		dst = append(dst, s.left[0]...)
		s.left = s.left[1:]
		return dst, nil
	case s.err != nil:
		return dst, s.err
	}
	return dst, io.EOF
}

// bytesOf returns the number of bytes of a COPY with the tuples.
func bytesOf(all ...[]byte) (n int64) {
	n = int64(len(binaryHeader) + len(binaryTrailer))
	for _, one := range all {
		n += int64(len(one))
	}
	return n
}

var (
	systemState = mapping.TableOf("system_state")
	steps       = mapping.TableOf("steps")
)
