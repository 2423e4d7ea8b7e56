package receipt

import (
	"context"
	"os"
	"testing"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const schema = "flujo"

// open connects to a database, as its owner or as the role of the URL.
func open(t *testing.T, url string) *postgres.Conn {
	t.Helper()
	conn, err := postgres.Open(context.Background(), url, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.End(context.Background()) })
	return conn
}

// database returns a connection to a new database with an empty schema.
func database(t *testing.T) (conn *postgres.Conn, url string) {
	t.Helper()
	url = pgtest.Database(t)
	conn = open(t, url)
	run(t, conn, "CREATE SCHEMA "+schema)
	return conn, url
}

func run(t *testing.T, conn *postgres.Conn, sql string) {
	t.Helper()
	if err := conn.Run(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// one returns the one value of a query as text.
func one(t *testing.T, conn *postgres.Conn, query string) (value string) {
	t.Helper()
	if err := conn.QueryRow(context.Background(), "SELECT ("+query+")::text").Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}
