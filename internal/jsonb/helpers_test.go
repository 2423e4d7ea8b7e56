package jsonb

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"flujo-port/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// server tests on a server which texts jsonb accepts.
type server struct {
	conn    *pgx.Conn
	version int // server_version_num
}

// connect returns a database with functions that test a text. The text is sent as
// bytea, since bytes that are not UTF-8 cannot be sent as text. convert_from rejects
// them as COPY does (pg_verifymbstr).
func connect(t testing.TB) server {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(ctx) })
	_, err = conn.Exec(ctx, `
		CREATE FUNCTION jsonb_bytes(bytea) RETURNS int LANGUAGE plpgsql AS $$
		BEGIN
			RETURN pg_column_size(convert_from($1, 'UTF8')::jsonb);
		EXCEPTION WHEN OTHERS THEN
			RETURN NULL;
		END $$;
		CREATE FUNCTION jsonb_state(bytea) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM convert_from($1, 'UTF8')::jsonb;
			RETURN '';
		EXCEPTION WHEN OTHERS THEN
			RETURN SQLSTATE;
		END $$`)
	if err != nil {
		t.Fatal(err)
	}
	s := server{conn: conn}
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&s.version); err != nil {
		t.Fatal(err)
	}
	return s
}

// sizes returns the size in bytes of each text's jsonb, nil if the server rejects the
// text.
func (s server) sizes(t testing.TB, texts [][]byte) (sizes []*int) {
	t.Helper()
	const query = "SELECT array_agg(jsonb_bytes(text) ORDER BY n) FROM unnest($1::bytea[]) WITH ORDINALITY AS u " +
		"(text, n)"
	if err := s.conn.QueryRow(context.Background(), query, texts).Scan(&sizes); err != nil {
		t.Fatal(err)
	}
	return sizes
}

// state returns the SQLSTATE with which the server rejects the text, or "" if it
// accepts it.
func (s server) state(t testing.TB, text []byte) (state string) {
	t.Helper()
	if err := s.conn.QueryRow(context.Background(), "SELECT jsonb_state($1)", text).Scan(&state); err != nil {
		t.Fatal(err)
	}
	return state
}

// flawsOf returns the flaws of a text.
func flawsOf(s []byte, maxDepth int) Flaws {
	_, flaws := AppendRepaired(nil, s, maxDepth)
	return flaws
}

func flawNames(flaws Flaws) string {
	names := []string{"NUL", "surrogate", "UTF-8", "NaN", "syntax", "number", "depth", "size"}
	var set []string
	for i, name := range names {
		if flaws>>i&1 != 0 {
			set = append(set, name)
		}
	}
	return fmt.Sprint(set)
}
