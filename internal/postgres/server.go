package postgres

import (
	"context"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"

	"github.com/jackc/pgx/v5"
)

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

// ReadServer asks a server what it is; one that is older than 13 only for its
// version.
func ReadServer(ctx context.Context, c *pgx.Conn) (s Server, err error) {
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

// CheckSupported says why Flujo's state can't be written to the server, as a
// clierr.Refused, or gives nil.
func (s Server) CheckSupported() error {
	refuse := func(message, hint string) error {
		return &clierr.Error{Kind: clierr.Refused, Message: message, Hint: hint}
	}
	if err := s.CheckVersion(); err != nil {
		return err
	}
	switch {
	case s.Standby:
		return refuse("the server is a standby, which takes no writes", "connect to the primary")
	case s.Replica:
		return refuse(
			"session_replication_role is not origin, so nothing would check foreign keys",
			"reset it for this role and database",
		)
	case s.Encoding != "UTF8":
		return refuse(fmt.Sprintf("database %q is encoded as %s", s.Database, s.Encoding),
			"use a database with ENCODING 'UTF8': Flujo's text does not fit into another one")
	}
	return nil
}

// CheckVersion refuses a server older than 13, as a clierr.Refused, or gives nil.
func (s Server) CheckVersion() error {
	if s.Version >= oldestServer*10000 {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("the server is PostgreSQL %s, older than %d", s.Name, oldestServer),
		Hint:    "use a newer server",
	}
}

// LZ4 reports whether the server can compress large values by lz4, which it
// does several times faster than by its own pglz: PostgreSQL 14 and later,
// where it was built with it.
func (c *Conn) LZ4(ctx context.Context) (has bool, err error) {
	err = c.QueryRow(ctx, `SELECT coalesce((SELECT 'lz4' = ANY (enumvals) FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression'), false)`).
		Scan(&has)
	return has, err
}
