package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/jsonb"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5"
)

// oldestServer is the first major version that is supported.
const oldestServer = 13

// Server is a server's version and settings.
type Server struct {
	Host     string // and port, or the folder of the socket
	Version  int    // server_version_num, such as 150018
	Name     string // server_version, such as 15.18 (Debian …)
	Encoding string // server_encoding of the database
	Database string
	Role     string
	Standby  bool // in recovery
	ReadOnly bool // default_transaction_read_only
	StackKB  int  // max_stack_depth
	Replica  bool // session_replication_role is not origin, so foreign keys are not checked

	Product string // name of a server that only speaks PostgreSQL's protocol; "" for PostgreSQL
	Lacks   string // functions of PostgreSQL that the program needs and the server does not have
}

// JSONDepth returns how deeply JSON may be nested on the server.
func (s Server) JSONDepth() int { return jsonb.Depth(s.StackKB) }

// ReadServer reads the version and settings of a server. If the server is older
// than version 13, it reads only the version.
func ReadServer(ctx context.Context, c *pgx.Conn) (s Server, err error) {
	s.Name = c.PgConn().ParameterStatus("server_version")
	s.Host = c.Config().Host
	if !strings.HasPrefix(s.Host, "/") {
		s.Host = net.JoinHostPort(s.Host, strconv.Itoa(int(c.Config().Port)))
	}
	var text string
	if err := c.QueryRow(ctx, "SELECT version()").Scan(&text); err != nil {
		return s, err
	}
	if s.Product = product(text); s.Product != "" {
		return s, nil // it may not answer the rest
	}
	if s.Version, err = versionNumber(s.Name); err != nil {
		return s, err
	}
	if s.Version < oldestServer*10000 {
		return s, nil // older servers may not answer the rest
	}
	values, err := rowWithoutTimeout(ctx, c, serverSettings.Fill(sqltext.Parts{
		"functions": sqltext.Literal("{" + strings.Join(neededFunctions, ",") + "}"),
	}))
	if err != nil {
		return s, err
	}
	s.Encoding, s.Database, s.Role = values[0], values[1], values[2]
	s.Standby, s.ReadOnly, s.Replica = values[3] == "t", values[4] == "t", values[5] == "t"
	if s.StackKB, err = strconv.Atoi(values[6]); err != nil {
		return s, fmt.Errorf("cannot parse max_stack_depth: %w", err)
	}
	s.Lacks = values[7]
	return s, nil
}

var serverSettings = sqltext.New(`SELECT current_setting('server_encoding'), current_database(), current_user,
	pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean,
	current_setting('session_replication_role') <> 'origin',
	pg_size_bytes(current_setting('max_stack_depth')) / 1024,
	(SELECT coalesce(string_agg(name, ', ' ORDER BY name), '') FROM unnest({{.functions}}::name[]) name
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = name
			AND pronamespace = 'pg_catalog'::regnamespace))`)

// rowWithoutTimeout executes a query that returns one row, and returns its values as text; "" for NULL. The
// statement_timeout of the role does not end it. Both statements are one message, so that no setting is left behind in
// a process of a pooler.
func rowWithoutTimeout(ctx context.Context, c *pgx.Conn, query string) ([]string, error) {
	results, err := c.PgConn().Exec(ctx, "SET LOCAL statement_timeout = 0;"+query).ReadAll()
	if err != nil {
		return nil, err
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 {
		return nil, fmt.Errorf("the server returned %d rows instead of one", len(last.Rows))
	}
	values := make([]string, len(last.Rows[0]))
	for i, value := range last.Rows[0] {
		values[i] = string(value)
	}
	return values, nil
}

// neededFunctions are functions of PostgreSQL that servers which only speak its protocol
// may not have: with them the program learns how a transaction ended, verifies rows, and
// excludes Flujo's migrations.
var neededFunctions = []string{
	"pg_advisory_xact_lock", "pg_backend_pid", "pg_current_xact_id", "pg_xact_status", "record_send", "sha256",
}

// products are servers that speak PostgreSQL's protocol and are not PostgreSQL, by what
// their version() contains.
var products = []struct{ text, name string }{
	{"CockroachDB", "CockroachDB"}, {"-YB-", "YugabyteDB"}, {"Yugabyte", "YugabyteDB"}, {"Redshift", "Amazon Redshift"},
	{"Aurora DSQL", "Amazon Aurora DSQL"}, {"Greenplum", "Greenplum"}, {"Materialize", "Materialize"},
	{"RisingWave", "RisingWave"}, {"CrateDB", "CrateDB"}, {"QuestDB", "QuestDB"}, {"Spanner", "Spanner"},
	{"DuckDB", "DuckDB"},
}

// product returns the name of the server whose version() is text, or "" for PostgreSQL.
func product(text string) string {
	for _, p := range products {
		if strings.Contains(text, p.text) {
			return p.name
		}
	}
	if strings.HasPrefix(text, "PostgreSQL ") || strings.HasPrefix(text, "EnterpriseDB ") {
		return ""
	}
	name, _, _ := strings.Cut(text, " ")
	return name
}

// versionNumber returns 150018 for "15.18 (Debian 15.18-0)".
func versionNumber(name string) (int, error) {
	var major, minor int
	n, _ := fmt.Sscanf(name, "%d.%d", &major, &minor)
	if n == 0 {
		return 0, fmt.Errorf("cannot parse the server version %q", name)
	}
	return major*10000 + minor, nil
}

// CheckSupported returns a clierr.Refused if Flujo's state cannot be written to
// the server.
func (s Server) CheckSupported() error {
	refuse := func(message, hint string) error {
		return &clierr.Error{Kind: clierr.Refused, Message: message, Hint: hint}
	}
	if err := s.CheckVersion(); err != nil {
		return err
	}
	switch {
	case s.Standby:
		return refuse("the server is a standby, which is read-only", "connect to the primary")
	case s.Replica:
		return refuse(
			"session_replication_role is not origin, so foreign keys would not be checked",
			"reset it for this role and database",
		)
	case s.Encoding != "UTF8":
		return refuse(fmt.Sprintf("database %q has the encoding %s", s.Database, s.Encoding),
			"use a database with ENCODING 'UTF8', which Flujo's text needs")
	}
	return nil
}

// CheckVersion returns a clierr.Refused if the server is not PostgreSQL, or older than
// version 13.
func (s Server) CheckVersion() error {
	const hint = "Flujo and flujo-port need PostgreSQL itself: use a PostgreSQL server"
	switch {
	case s.Product != "":
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("the server is %s, which only speaks the protocol of PostgreSQL", s.Product),
			Hint:    hint,
		}
	case s.Version >= oldestServer*10000 && s.Lacks != "":
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("the server calls itself PostgreSQL %s, but lacks functions of PostgreSQL: %s", s.Name,
				s.Lacks),
			Hint: hint,
		}
	case s.Version >= oldestServer*10000:
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("the server is PostgreSQL %s, older than %d", s.Name, oldestServer),
		Hint:    fmt.Sprintf("use PostgreSQL %d or later", oldestServer),
	}
}

// LZ4 reports whether the server can compress large values with lz4, which is
// several times faster than its own pglz. PostgreSQL 14 and later can, if built
// with lz4.
func (c *Conn) LZ4(ctx context.Context) (has bool, err error) {
	err = c.QueryRow(ctx, `SELECT coalesce((SELECT 'lz4' = ANY (enumvals) FROM pg_catalog.pg_settings
		WHERE name = 'default_toast_compression'), false)`).
		Scan(&has)
	return has, err
}
