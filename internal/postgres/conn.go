package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Conn is a connection to the database of Flujo's schema. Like pgx's it is not
// safe for concurrent use.
type Conn struct {
	*pgx.Conn
	Server   Server
	Schema   string        // of Flujo's tables
	LockWait time.Duration // how long Settings let a lock be waited for; without end when 0
	url      string
}

// Open connects and asks the server what it is. url is what Config parses.
func Open(ctx context.Context, url, schema string) (*Conn, error) {
	inner, err := Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: inner, Schema: schema, url: url}
	if c.Server, err = ReadServer(ctx, inner); err != nil {
		err = c.WrapError("ask the server what it is", err)
		c.End(context.WithoutCancel(ctx))
		return nil, err
	}
	return c, nil
}

// Reconnect opens another connection by the same address.
func (c *Conn) Reconnect(ctx context.Context) (*pgx.Conn, error) { return Dial(ctx, c.url) }

// LockWait is how long a lock is waited for, unless something else is asked
// for, before a run gives up.
const LockWait = 30 * time.Second

// Settings are the statements that make a transaction independent of what role
// and database set: names are qualified, no timeout ends it, a lock is waited
// for no longer than LockWait, and no policy hides rows (the server refuses
// instead).
func (c *Conn) Settings() string {
	s := fmt.Sprintf(
		`SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = 0; SET LOCAL row_security = off; SET LOCAL lock_timeout = %d;
		SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL client_min_messages = warning;`,
		c.LockWait.Milliseconds(),
	)
	if c.Server.Version >= 170000 {
		s += "SET LOCAL transaction_timeout = 0;"
	}
	return s
}

// CleanupContext gives a context for what is still to be said to a server at the end.
func CleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// Run runs statements by the simple protocol, several at once if need be.
func (c *Conn) Run(ctx context.Context, sql string) error {
	return c.PgConn().Exec(ctx, sql).Close()
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

// End closes the connection and waits, as long as ctx lets it, until that is
// over. What is not committed the server rolls back.
func (c *Conn) End(ctx context.Context) {
	_ = c.Close(ctx)
	select {
	case <-c.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// Name gives the qualified, quoted name of something in the schema.
func (c *Conn) Name(name string) string { return pgx.Identifier{c.Schema, name}.Sanitize() }

// Ident quotes an identifier.
func Ident(name string) string { return pgx.Identifier{name}.Sanitize() }
