package postgres

import (
	"context"
	"flujo-port/internal/sqltext"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Conn is a connection to the database of Flujo's schema. Like a pgx.Conn it is
// not safe for concurrent use.
type Conn struct {
	*pgx.Conn
	Server   Server
	Schema   string        // name of the schema with Flujo's tables
	LockWait time.Duration // lock timeout that Settings sets; 0 means no limit
	Reads    bool          // the command only reads: WrapError advises to grant no more than that
	// OnWarning, unless nil, is called for each warning that the server sends, in one line.
	OnWarning func(text string)

	url    string
	origin Origin // zero until Origin was called
}

// Open connects to a server and reads its version and settings. url is what
// Config parses.
func Open(ctx context.Context, url, schema string) (*Conn, error) {
	c := &Conn{Schema: schema, url: url}
	inner, err := dial(ctx, url, c.notice)
	if err != nil {
		return nil, err
	}
	c.Conn = inner
	if c.Server, err = ReadServer(ctx, inner); err != nil {
		err = c.WrapError("read the server's version and settings", err)
		c.End(context.WithoutCancel(ctx))
		return nil, err
	}
	return c, nil
}

// notice passes the server's warnings on.
func (c *Conn) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if c.OnWarning == nil || n.Severity != "WARNING" && n.SeverityUnlocalized != "WARNING" {
		return
	}
	c.OnWarning(ServerError((*pgconn.PgError)(n)).Error())
}

// Reconnect opens another connection with the same address.
func (c *Conn) Reconnect(ctx context.Context) (*pgx.Conn, error) { return Dial(ctx, c.url) }

// LockWait is the default lock timeout.
const LockWait = 30 * time.Second

// Settings returns the statements that make a transaction independent of the
// settings of role and database: names are qualified, no timeout ends the
// transaction, waiting for a lock is limited to LockWait, a row-level security
// policy raises an error instead of hiding rows, and what the server reads and prints
// does not depend on the settings for it.
func (c *Conn) Settings() string {
	s := fmt.Sprintf(
		`SET LOCAL quote_all_identifiers = off; SET LOCAL standard_conforming_strings = on;
		SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = %d;
		SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL client_min_messages = warning;
		SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off;
		SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL timezone = 'UTC';
		SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL array_nulls = on;
		SET LOCAL transform_null_equals = off; SET LOCAL xmloption = 'content';`,
		c.LockWait.Milliseconds(),
	)
	if c.Server.Version >= 170000 {
		s += "SET LOCAL transaction_timeout = 0;"
	}
	return s
}

// CleanupContext returns a context, limited to 10 seconds, for the last
// statements on a connection. It does not end when the caller's context does.
func CleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// Run runs one or more statements by the simple protocol. Its errors are not
// wrapped.
func (c *Conn) Run(ctx context.Context, sql string) error {
	return c.PgConn().Exec(ctx, sql).Close()
}

// Statement is a statement that returns no rows.
type Statement struct {
	Step string // what it does, as for WrapError
	SQL  string
}

// RunAll runs statements, one after the other, in one message to the server. Its error is
// that of the first statement that fails, after which none is run.
func (c *Conn) RunAll(ctx context.Context, statements []Statement) error {
	if len(statements) == 0 {
		return nil
	}
	all := make([]string, len(statements))
	for i, s := range statements {
		all[i] = s.SQL
	}
	results, err := c.PgConn().Exec(ctx, strings.Join(all, ";\n")).ReadAll()
	if err != nil { // without a result of the statement that failed
		return c.WrapError(statements[min(len(results), len(statements)-1)].Step, err)
	}
	return nil
}

// Each runs a query of the catalog, scans every row into dest and calls f.
func (c *Conn) Each(ctx context.Context, query string, args, dest []any, f func()) error {
	rows, err := c.Query(ctx, query, args...)
	if err == nil {
		_, err = pgx.ForEachRow(rows, dest, func() error { f(); return nil })
	}
	if err != nil {
		return c.WrapError("read the catalog", err)
	}
	return nil
}

// End closes the connection and waits, until ctx ends, for the close to finish.
// The server rolls back an open transaction.
func (c *Conn) End(ctx context.Context) {
	_ = c.Close(ctx)
	select {
	case <-c.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// Name returns the qualified and quoted name of a relation in the schema.
func (c *Conn) Name(name string) string { return sqltext.Name(c.Schema, name) }
