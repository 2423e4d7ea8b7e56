// Package postgres is what is known of a PostgreSQL server and of the tables of
// Flujo's names in it: how to connect, what the server is, the tables' shapes,
// and what an error of the server means. It writes nothing.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"flujo-port/internal/clierr"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// applicationName is how the connections show in pg_stat_activity.
const applicationName = "flujo-port"

// Config parses a connection string: a URL, keywords and values, or "" when
// the PG* variables say everything. The error is a clierr.Usage and never holds
// any of the string.
func Config(conn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(conn)
	if err == nil {
		return config, nil
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "a file that the connection settings name can't be used",
			Err:     path,
			Hint:    "see sslrootcert, sslcert, sslkey and the PGSSL* variables",
		}
	}
	if _, err := pgx.ParseConfig(""); err != nil {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the PG* variables or the service file can't be used (not shown, they may hold a password)",
			Hint:    "see PGSERVICE, PGSSLMODE, PGPORT and PGCONNECT_TIMEOUT",
		}
	}
	return nil, &clierr.Error{
		Kind: clierr.Usage, Message: "the PostgreSQL address is malformed (not shown, it may hold a password)",
		Hint: "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / % # in the password percent-encoded",
	}
}

// Dial opens a connection whose statements end cleanly when ctx does: the
// server is asked to cancel them, and the connection lives on for the rollback.
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
	config.RuntimeParams["client_encoding"] = "UTF8" // whatever the role's or the address's
	// Nothing is prepared by name: a pooler may be in the way.
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

// connectError says what a failed connection means. The causes come from the
// server or the network; pgx puts no password into them.
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
		Err: cause(err), Hint: "check that the server runs and can be reached from here, then run again",
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.Err = ServerError(err)
		switch pgErr.Code {
		case "28P01", "28000":
			e.Kind, e.Hint = clierr.Usage, "check user and password in --postgres, PGPASSWORD or .pgpass, and the server's pg_hba.conf"
		case "3D000":
			e.Kind, e.Hint = clierr.Usage, "name an existing database in --postgres, or create it"
		default:
			e.Hint = "nothing is wrong with the file; run again when the server takes connections"
		}
	}
	return e
}

// cause gives the innermost error: pgx wraps one line per address tried.
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
