// Package sink writes Flujo's state: into a PostgreSQL schema, in one
// transaction.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// applicationName is how the connections show in pg_stat_activity.
const applicationName = "flujo-port"

// oldestServer is the first major version that is supported.
const oldestServer = 13

// Server is what has to be known of a server before anything is written to it.
type Server struct {
	Version  int    // server_version_num, such as 150018
	Name     string // server_version, such as 15.18 (Debian …)
	Encoding string // of the database
	Database string
	Role     string
	Standby  bool // in recovery
	ReadOnly bool // default_transaction_read_only
	StackKB  int  // max_stack_depth
	Replica  bool // session_replication_role is not origin: nothing checks foreign keys
}

// JSONDepth gives how deep the server lets JSON be nested.
func (s Server) JSONDepth() int { return mapping.JSONDepth(s.StackKB) }

// Config parses a connection string: a URL, keywords and values, or "" when
// the PG* variables say everything. The error is a fault.Usage and never holds
// any of the string.
func Config(conn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(conn)
	if err == nil {
		return config, nil
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, &fault.Error{Kind: fault.Usage, What: "a file that the connection settings name can't be used", Err: path,
			Do: "see sslrootcert, sslcert, sslkey and the PGSSL* variables"}
	}
	if _, err := pgx.ParseConfig(""); err != nil {
		return nil, &fault.Error{Kind: fault.Usage, What: "the PG* variables or the service file can't be used (not shown, they may hold a password)",
			Do: "see PGSERVICE, PGSSLMODE, PGPORT and PGCONNECT_TIMEOUT"}
	}
	return nil, &fault.Error{
		Kind: fault.Usage, What: "the PostgreSQL address is malformed (not shown, it may hold a password)",
		Do: "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / % # in the password percent-encoded",
	}
}

// connect opens a connection whose statements end cleanly when ctx does: the
// server is asked to cancel them, and the connection lives on for the rollback.
func connect(ctx context.Context, conn string) (*pgx.Conn, error) {
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
	// Nothing is prepared by name: a pooler may be in the way.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 10 * time.Second}
	}
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, connectFault(config, err)
	}
	return c, nil
}

// connectFault says what a failed connection means. The causes come from the
// server or the network; pgx puts no password into them.
func connectFault(config *pgx.ConnConfig, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	e := &fault.Error{
		Kind: fault.Failed,
		What: fmt.Sprintf("connect to PostgreSQL at %s:%d, database %q, as %q", config.Host, config.Port, config.Database, config.User),
		Err:  cause(err), Do: "check that the server runs and can be reached from here, then run again",
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.Err = serverError(err)
		switch pgErr.Code {
		case "28P01", "28000":
			e.Kind, e.Do = fault.Usage, "check user and password in --postgres, PGPASSWORD or .pgpass, and the server's pg_hba.conf"
		case "3D000":
			e.Kind, e.Do = fault.Usage, "name an existing database in --postgres, or create it"
		default:
			e.Do = "nothing is wrong with the file; run again when the server takes connections"
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

// serverError makes the message of a server an error of one line; another
// error stays as it is.
func serverError(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	s := fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Where != "" {
		s += " [" + e.Where + "]"
	}
	return errors.New(s)
}

func readServer(ctx context.Context, c *pgx.Conn) (s Server, err error) {
	s.Name = c.PgConn().ParameterStatus("server_version")
	if s.Version, err = versionNumber(s.Name); err != nil {
		return s, err
	}
	if s.Version < oldestServer*10000 {
		return s, nil // older servers may not answer the rest
	}
	err = c.QueryRow(ctx, `SELECT current_setting('server_encoding'), current_database(), current_user,
		pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean,
		(SELECT setting::int FROM pg_settings WHERE name = 'max_stack_depth'), current_setting('session_replication_role') <> 'origin'`).
		Scan(&s.Encoding, &s.Database, &s.Role, &s.Standby, &s.ReadOnly, &s.StackKB, &s.Replica)
	return s, err
}

// versionNumber makes 150018 of "15.18 (Debian 15.18-0)".
func versionNumber(name string) (int, error) {
	var major, minor int
	n, _ := fmt.Sscanf(name, "%d.%d", &major, &minor)
	if n == 0 {
		return 0, fmt.Errorf("the server calls its version %q, which is not PostgreSQL's way", name)
	}
	return major*10000 + minor, nil
}

// unfit says why Flujo's state can't be written to the server, as a
// fault.Refused, or gives nil.
func (s Server) unfit() error {
	refuse := func(what, do string) error {
		return &fault.Error{Kind: fault.Refused, What: what, Do: do}
	}
	switch {
	case s.Version < oldestServer*10000:
		return refuse(fmt.Sprintf("the server is PostgreSQL %s, older than %d", s.Name, oldestServer), "use a newer server")
	case s.Standby:
		return refuse("the server is a standby, which takes no writes", "connect to the primary")
	case s.Replica:
		return refuse("session_replication_role is not origin, so nothing would check foreign keys", "reset it for this role and database")
	case s.Encoding != "UTF8":
		return refuse(fmt.Sprintf("database %q is encoded as %s", s.Database, s.Encoding),
			"use a database with ENCODING 'UTF8': Flujo's text does not fit into another one")
	}
	return nil
}
