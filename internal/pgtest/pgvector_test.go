package pgtest

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPGVectorIsAvailableAndNotThere(t *testing.T) {
	db := PGVector(t)
	var available, there bool
	var tables int
	err := queryRow(db, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'),
		EXISTS (SELECT FROM pg_extension WHERE extname = 'vector'),
		(SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)`, &available, &there, &tables)
	if err != nil {
		t.Fatal(err)
	}
	if !available || there || tables != 0 {
		t.Errorf("available %v, there %v, %d tables in public", available, there, tables)
	}
	mustExec(t, db, "CREATE EXTENSION vector", "CREATE TABLE v (v vector(2))", "INSERT INTO v VALUES ('[1,2]')")
}

// What follows a failed COPY, a lost connection or a role of the connection's
// must not show in the next one.
func TestPGVectorConnectionsAreLikeNew(t *testing.T) {
	db := PGVector(t)
	role := Role(t, db, "")
	ctx := context.Background()
	mustExec(t, db, "CREATE TABLE t (n int)")

	conn, err := pgx.Connect(ctx, WithParameter(t, db, "options", `-c search_path="a\ b",public --work_mem=5MB`))
	if err != nil {
		t.Fatal(err)
	}
	var path, memory string
	if err := conn.QueryRow(ctx, "SELECT current_setting('search_path'), current_setting('work_mem')").Scan(&path,
		&memory); err != nil {
		t.Fatal(err)
	}
	if path != `"a b",public` || memory != "5MB" {
		t.Errorf("search_path %q, work_mem %q", path, memory)
	}
	rows := strings.NewReader(strings.Repeat("1\n", 100_000) + "x\n" + strings.Repeat("2\n", 100_000))
	_, err = conn.PgConn().CopyFrom(ctx, rows, "COPY t FROM STDIN")
	wantCode(t, err, "22P02")
	rows.Reset(strings.Repeat("1\n", 300_000))
	if tag, err := conn.PgConn().CopyFrom(ctx, rows, "COPY t FROM STDIN"); err != nil || tag.RowsAffected() != 300_000 {
		t.Errorf("%v, error %v", tag, err)
	}
	if _, err := conn.Exec(ctx, "BEGIN; DROP TABLE t"); err != nil {
		t.Fatal(err)
	}
	if err := conn.PgConn().Conn().Close(); err != nil { // as if it were lost
		t.Fatal(err)
	}

	wantCode(t, execAll(role, "DELETE FROM t"), "42501")
	var user string
	var n int
	if err := queryRow(db, "SELECT current_user, current_setting('work_mem'), (SELECT count(*) FROM t)", &user, &memory,
		&n); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(user, "flujo_port_test_") || memory == "5MB" || n != 300_000 {
		t.Errorf("user %q, work_mem %q, %d rows", user, memory, n)
	}
	if err := execAll(strings.Replace(role, "flujo_port_test_", "nobody_", 1), "SELECT"); err == nil {
		t.Error("a role that does not exist could log in")
	}
}
