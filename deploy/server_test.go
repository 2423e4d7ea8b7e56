//go:build linux

package deploy_test

import (
	"context"
	"net/url"
	"slices"
	"testing"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// server is a server with the database med13_dev.
type server struct {
	*pgtest.Server
	hasPGVector bool
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{Server: pgtest.StartFor(t)}
	if err := s.CreateDatabase("med13_dev"); err != nil {
		t.Fatal(err)
	}
	s.hasPGVector = s.ask(t, "postgres", "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") != "0"
	return s
}

// ask returns the result of a query as text.
func (s *server) ask(t *testing.T, database, query string) (result string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), "SELECT ("+query+")::text").Scan(&result); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return result
}

// count returns the number of runs in Flujo's table, or "0" if there is no such table.
func (s *server) count(t *testing.T, database string) string {
	t.Helper()
	if s.ask(t, database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'flujo' AND tablename = 'runs'") == "0" {
		return "0"
	}
	return s.ask(t, database, "SELECT count(*) FROM flujo.runs")
}

// at returns an address at this server, as the given user.
func (s *server) at(t *testing.T, address, user string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.User, u.RawQuery = s.Addr(), url.User(user), "sslmode=disable"
	return u.String()
}

// withoutPGVector adds --without-pgvector to the arguments of a migration if this server needs it, unlike that of the
// image.
func (s *server) withoutPGVector(args []string) []string {
	if s.hasPGVector {
		return args
	}
	return append(slices.Clone(args), "--without-pgvector")
}
