package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
)

// TestSettings tests that a transaction does not depend on settings of the database, and that the session keeps them.
func TestSettings(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	owner := connect(t, url)
	settings := []struct{ name, database, transaction string }{
		{"search_path", "nowhere", "pg_catalog, pg_temp"},
		{"statement_timeout", "11s", "0"},
		{"lock_timeout", "12s", "1500ms"},
		{"idle_in_transaction_session_timeout", "13s", "0"},
		{"row_security", "on", "off"},
		{"client_min_messages", "log", "warning"},
		{"datestyle", "German, DMY", "ISO, YMD"},
		{"quote_all_identifiers", "on", "off"},
	}
	if one(t, owner, "current_setting('server_version_num')::int >= 170000") == "true" {
		settings = append(settings, struct{ name, database, transaction string }{"transaction_timeout", "14s", "0"})
	}
	database := one(t, owner, "current_database()")
	for _, s := range settings {
		run(t, owner, fmt.Sprintf("ALTER DATABASE %s SET %s = %s", database, s.name, quoteEach(s.database)))
	}
	conn := open(t, url)
	conn.LockWait = 1500 * time.Millisecond
	run(t, conn.Conn, "BEGIN; "+conn.Settings())
	for _, s := range settings {
		if got := one(t, conn.Conn, "current_setting($1)", s.name); got != s.transaction {
			t.Errorf("in the transaction %s is %q, want %q", s.name, got, s.transaction)
		}
	}
	run(t, conn.Conn, "COMMIT")
	for _, s := range settings {
		if got := one(t, conn.Conn, "current_setting($1)", s.name); got != s.database {
			t.Errorf("after the transaction %s is %q, want %q", s.name, got, s.database)
		}
	}
}

// quoteEach quotes the members of a list of values.
func quoteEach(list string) string { return "'" + strings.ReplaceAll(list, ", ", "', '") + "'" }

func TestOpen(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := open(t, url)
	if conn.Schema != schema || conn.Server.Version == 0 || conn.LockWait != 0 {
		t.Errorf("got %+v", conn)
	}
	if got := conn.Name(`a"b`); got != `"flujo"."a""b"` {
		t.Errorf("got the name %s", got)
	}
	other, err := conn.Reconnect(background)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(background)
	if a, b := one(t, conn.Conn, "pg_backend_pid()"), one(t, other, "pg_backend_pid()"); a == b {
		t.Error("Reconnect returned the same session")
	}
	if a, b := one(t, conn.Conn, "current_database()"), one(t, other, "current_database()"); a != b {
		t.Errorf("Reconnect led to %s, not %s", b, a)
	}
	conn.End(background)
	if !conn.IsClosed() {
		t.Error("End did not close the connection")
	}
	conn.End(background)
}

// TestOpenErrors tests servers that cannot be asked what they are.
func TestOpenErrors(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	_, err := Open(background, pgtest.WithDatabase(t, url, "flujo_port_test_none"), schema)
	wantError(t, err, clierr.Usage, "3D000")

	proxy.RewriteServerParameter("server_version", "devel")
	_, err = Open(background, proxy.Rewrite(url), schema)
	wantError(t, err, clierr.Failed, "read the server's version", `"devel"`)

	proxy.RewriteServerParameter("server_version", "15.1")
	proxy.OnClientMessage(func(typ byte, _ []byte) bool { return typ == 'P' || typ == 'Q' }) // a query
	_, err = Open(background, proxy.Rewrite(url), schema)
	wantError(t, err, clierr.Failed, "read the server's version")
}

func TestEach(t *testing.T) {
	t.Parallel()
	conn := open(t, pgtest.Database(t))
	var n, sum int
	if err := conn.Each(
		background,
		"SELECT generate_series(1, $1::int)",
		[]any{4},
		[]any{&n},
		func() { sum += n },
	); err != nil {
		t.Fatal(err)
	}
	if sum != 10 {
		t.Errorf("got the sum %d, want 10", sum)
	}
	for _, query := range []string{"SELECT * FROM missing", "SELECT 1 / (3 - generate_series(1, 3))"} {
		err := conn.Each(background, query, nil, []any{&n}, func() {})
		if err == nil || !strings.HasPrefix(err.Error(), "read the catalog: ") {
			t.Errorf("%s: got error %v", query, err)
		}
	}
}

func TestCleanupContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := CleanupContext()
	defer cancel()
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 10*time.Second {
		t.Errorf("the deadline is %s", deadline)
	}
}

// TestRunAll tests that the error names the statement that failed, and that none is run after it.
func TestRunAll(t *testing.T) {
	t.Parallel()
	conn := open(t, pgtest.Database(t))
	run(t, conn.Conn, "BEGIN")
	table := func(name string) Statement {
		return Statement{Step: "create table " + name, SQL: "CREATE TABLE public." + name + " ()"}
	}
	if err := conn.RunAll(background, nil); err != nil {
		t.Errorf("no statements: %v", err)
	}
	if err := conn.RunAll(background, []Statement{table("a"), table("b")}); err != nil {
		t.Fatal(err)
	}
	for i, all := range [][]Statement{
		{table("a"), table("c")}, {table("c"), table("a"), table("d")}, {table("d"), table("e"), table("a")},
	} {
		run(t, conn.Conn, "SAVEPOINT s")
		err := conn.RunAll(background, all)
		wantError(t, err, clierr.Failed, "create table a", "42P07")
		run(t, conn.Conn, "ROLLBACK TO s")
		if got := one(t, conn.Conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "2" {
			t.Errorf("%d: there are %s tables", i, got)
		}
	}
	run(t, conn.Conn, "ROLLBACK")
	err := conn.RunAll(background, []Statement{table("a"), {Step: "write nonsense", SQL: "CREATE NONSENSE"}})
	wantError(t, err, clierr.Failed, "create table a", "42601") // a message is parsed as a whole
}
