package postgres

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// background is the context of everything that a test does not cancel.
var background = context.Background()

const schema = "flujo"

// tables are Flujo's tables without memories, since the server may not have pgvector.
var tables = mapping.Tables[:7]

// flujoSQL returns the statements that create Flujo's tables and indexes in a schema.
func flujoSQL(schema string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE SCHEMA %s;", schema)
	for _, table := range append(tables[:len(tables):len(tables)], mapping.VersionsTable) {
		fmt.Fprintf(&b, "CREATE TABLE %s.%s (", schema, table.Name)
		for _, c := range table.Columns {
			kind := c.Kind.Type()
			if c.Serial {
				kind = "serial"
			}
			fmt.Fprintf(&b, "%s %s", c.Name, kind)
			if c.NotNull {
				b.WriteString(" NOT NULL")
			}
			if c.Default != "" {
				b.WriteString(" DEFAULT " + c.Default)
			}
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "PRIMARY KEY (%s)", table.PrimaryKey)
		if table.ChildOf != "" {
			fmt.Fprintf(&b, ", FOREIGN KEY (run_id) REFERENCES %s.%s ON DELETE CASCADE", schema, table.ChildOf)
		}
		b.WriteString(");")
		for _, index := range table.Indexes {
			fmt.Fprintf(&b, "CREATE INDEX %s ON %s.%s USING %s (%s);",
				index.Name, schema, table.Name, index.Method, index.Column)
		}
	}
	return b.String()
}

// rowsSQL inserts three runs, of which two have steps and one has a trace.
const rowsSQL = `
INSERT INTO flujo.runs VALUES
	('b', 'p', 'n', '1', 'completed', '2026-01-05 09:00:01.669094+00', '2026-01-05 10:00+02', 7, 0.1, NULL, E'x\ny'),
	('B', 'p', 'n', '1', 'failed', '2026-01-05', '2026-01-05', NULL, NULL, 0, NULL),
	('é', 'p', 'n', '1', 'failed', '2026-01-05', '2026-01-05', NULL, NULL, 0, NULL);
INSERT INTO flujo.steps (run_id, step_name, step_index, status, output, cost_usd, created_at) VALUES
	('b', 's', 0, 'completed', '{"bb": 1.50, "a": [null, "\u00e9"]}', 0.25, '2026-01-05'),
	('b', 's', 1, 'completed', 'null', NULL, '2026-01-05'),
	('é', 's', 0, 'completed', NULL, NULL, '2026-01-05');
INSERT INTO flujo.traces VALUES ('b', '{}', '2026-01-05');`

// connect returns a connection without any of the program's settings. A statement that waits for a lock of the test
// fails.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(background, url)
	if err != nil {
		t.Fatal(err)
	}
	run(t, conn, "SET lock_timeout = '30s'")
	t.Cleanup(func() { conn.Close(background) })
	return conn
}

// flujo returns the URL of a new database with Flujo's tables and rows of rowsSQL, and a connection to it.
func flujo(t testing.TB) (url string, conn *pgx.Conn) {
	t.Helper()
	url = pgtest.Database(t)
	conn = connect(t, url)
	run(t, conn, flujoSQL(schema), rowsSQL)
	return url, conn
}

// open returns a connection of the package.
func open(t testing.TB, url string) *Conn {
	t.Helper()
	conn, err := Open(background, url, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.End(background) })
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

// one returns the one value of a query as text.
func one(t testing.TB, conn *pgx.Conn, query string, args ...any) (value string) {
	t.Helper()
	if err := conn.QueryRow(background, "SELECT ("+query+")::text", args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// roleOf returns the name of a URL's role.
func roleOf(t testing.TB, url string) string {
	t.Helper()
	config, err := Config(url)
	if err != nil {
		t.Fatal(err)
	}
	return config.User
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
