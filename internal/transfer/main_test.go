package transfer_test

import (
	"context"
	"database/sql"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/stateuri"

	"flujo-port/internal/migrate"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	fixture = "../../testdata/flujo_state.db"
	schema  = "flujo"
)

// options returns the options that migrate file to url, without pgvector, since the server of these tests may not
// have it.
func options(t testing.TB, file, url string) migrate.Options {
	t.Helper()
	return migrate.Options{
		SQLite: file, Postgres: url, Schema: schema, Cutover: cutover(t, url), WithoutPGVector: true,
	}
}

// cutover returns the address that Flujo uses after the cutover to url.
func cutover(t testing.TB, url string) stateuri.Address {
	t.Helper()
	return cutoverFor(t, url, schema)
}

func cutoverFor(t testing.TB, url, schema string) stateuri.Address {
	t.Helper()
	config, err := postgres.Config(url)
	if err != nil {
		t.Fatal(err)
	}
	known := stateuri.Known{Host: config.Host, Port: config.Port, User: config.User, Database: config.Database}
	address, _, err := stateuri.Cutover(url, known, schema)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// migrate runs a migration that must succeed.
func mustMigrate(t testing.TB, o migrate.Options) *report.Migration {
	t.Helper()
	result, err := migrate.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// one returns the one value of a query as text; "NULL" for NULL.
func one(t testing.TB, conn *pgx.Conn, query string, args ...any) string {
	t.Helper()
	var v *string
	if err := conn.QueryRow(context.Background(), "SELECT ("+query+")::text", args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if v == nil {
		return "NULL"
	}
	return *v
}

// run executes statements on the server.
func run(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// copyOf copies a state file to a new folder, so that a test may change it, and returns the copy's path.
func copyOf(t testing.TB, path string) string {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	name := filepath.Join(t.TempDir(), "flujo_state.db")
	to, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	return name
}

// unsynced turns off the flushes to disk, which otherwise take a quarter of the tests' time.
const unsynced = "?_pragma=synchronous(off)"

// changed executes statements on a copy of the fixture and returns the copy's path.
func changed(t testing.TB, statements ...string) string {
	t.Helper()
	file := copyOf(t, fixture)
	db, err := sql.Open("sqlite", file+unsynced)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// keepOpen executes a statement on a file and calls during before it closes the connection, so that the -wal is not
// checkpointed.
func keepOpen(t testing.TB, file, statement string, during func()) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	during()
}

// leftovers lists what a run may have left in the database: schemas, extensions, relations (other than PostgreSQL's
// own) and advisory locks.
func leftovers(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	return one(t, conn, `SELECT coalesce(string_agg(what, ', ' ORDER BY what), '') FROM (
		SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'
			AND nspname NOT IN ('public', 'information_schema')
		UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
		UNION ALL SELECT 'relation ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
		UNION ALL SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) x(what)`)
}

// fileURI returns the path as a URI for SQLite. The folder of a fuzz target's
// seed has a "#" in its name, where the path would end.
func fileURI(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }
