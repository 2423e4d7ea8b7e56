// Package postgres holds what the program knows of a PostgreSQL server and
// reads from it: connections, the server's version and settings, the shapes of
// Flujo's tables, locks, and the meaning of the server's errors. It does not
// write.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"flujo-port/internal/clierr"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// applicationName is the name of the connections in pg_stat_activity.
const applicationName = "flujo-port"

// Config parses a connection string: a URL, or "" if the PG* variables hold all
// settings. Several hosts are refused: a migration goes to one primary. The
// error is a clierr.Usage and never contains any part of the string, which may
// hold a password.
func Config(conn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(conn)
	if err == nil && hasSeveralHosts(config) {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the PostgreSQL address, PGHOST or the service file lists several hosts",
			Hint:    "name only the primary server",
		}
	}
	if err == nil {
		return config, nil
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "cannot read a file that the connection settings name",
			Err:     path,
			Hint:    "check sslrootcert, sslcert, sslkey and the PGSSL* variables",
		}
	}
	// With this host pgx reads PGSSLMODE, which it does not for a Unix socket.
	if _, err := pgx.ParseConfig("host=localhost"); err != nil {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the PG* variables or the service file are invalid (hidden, may contain a password)",
			Hint:    "check PGSERVICE, PGSSLMODE, PGPORT and PGCONNECT_TIMEOUT",
		}
	}
	return nil, &clierr.Error{
		Kind:    clierr.Usage,
		Message: "the PostgreSQL address is malformed (hidden, may contain a password)",
		Hint: "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, " +
			"with @ : / % # in the password percent-encoded",
	}
}

// hasSeveralHosts reports whether config would try another server if the first
// one does not answer. With sslmode=prefer, the same host without TLS is among
// the fallbacks.
func hasSeveralHosts(config *pgx.ConnConfig) bool {
	return slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.Host != config.Host || f.Port != config.Port
	})
}

// Dial opens a connection. When the ctx of a statement ends, the server is
// asked to cancel the statement, and the connection stays open for the
// rollback.
func Dial(ctx context.Context, conn string) (*pgx.Conn, error) {
	config, err := Config(conn)
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = applicationName
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 30 * time.Second
	}
	config.RuntimeParams["client_encoding"] = "UTF8" // overrides the settings of role and address
	// No statement is prepared by name, since poolers may not support it.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 10 * time.Second}
	}
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, connectError(config, err)
	}
	return c, nil
}

// connectError converts the error of a failed connection to a clierr.Error. The
// causes come from the server or the network, and pgx puts no password into
// them.
func connectError(config *pgx.ConnConfig, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	e := &clierr.Error{
		Kind: clierr.Failed,
		Message: fmt.Sprintf(
			"connect to PostgreSQL at %s:%d, database %q, as %q",
			config.Host,
			config.Port,
			config.Database,
			config.User,
		),
		Err: cause(err), Hint: "check that the server is running and can be reached from here, then run again",
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.Err = ServerError(err)
		switch pgErr.Code {
		case "28P01", "28000":
			e.Kind = clierr.Usage
			e.Hint = "check the user, the password in the address, PGPASSWORD or .pgpass, and the server's pg_hba.conf"
		case "3D000":
			e.Kind, e.Hint = clierr.Usage, "name an existing database in the address, or create it"
		default:
			e.Hint = "run again when the server accepts connections"
		}
	}
	return e
}

// cause returns the innermost error. pgx wraps the errors of all addresses that
// it tried; cause returns that of the last one.
func cause(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) > 0 {
			return cause(all[len(all)-1])
		}
	}
	if inner := errors.Unwrap(err); inner != nil {
		return cause(inner)
	}
	return err
}
