package postgres

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// TLS describes how a connection is protected.
type TLS struct {
	Local   bool // a Unix socket or a loopback address
	Used    bool
	Checked bool // the server's certificate is verified
	Version string
}

// TLS returns how the connection is protected.
func (c *Conn) TLS() (t TLS) {
	switch address := c.PgConn().Conn().RemoteAddr().(type) {
	case *net.UnixAddr:
		t.Local = true
	case *net.TCPAddr:
		t.Local = address.IP.IsLoopback()
	}
	conn, ok := c.PgConn().Conn().(*tls.Conn)
	if !ok {
		return t
	}
	t.Used, t.Version = true, tls.VersionName(conn.ConnectionState().Version)
	// For sslmode=verify-ca pgx sets its own callback; for verify-full Go verifies.
	config := c.Config().TLSConfig
	t.Checked = config != nil &&
		(!config.InsecureSkipVerify || config.VerifyPeerCertificate != nil || config.VerifyConnection != nil)
	return t
}

// Origin identifies a database. Transaction ids mean nothing in another one.
type Origin struct {
	Cluster  string `json:"cluster,omitempty"`  // its system identifier; empty if the role may not read it
	Database uint32 `json:"database,omitempty"` // the oid; 0 if unknown
}

// Equal reports whether o and other are the same database, as far as both know.
func (o Origin) Equal(other Origin) bool {
	return (o.Cluster == "" || other.Cluster == "" || o.Cluster == other.Cluster) &&
		(o.Database == 0 || other.Database == 0 || o.Database == other.Database)
}

// Origin returns the identity of the connection's database. It reads it once.
func (c *Conn) Origin(ctx context.Context) (o Origin, err error) {
	if c.origin != (Origin{}) {
		return c.origin, nil
	}
	var readable bool
	err = c.QueryRow(ctx, `SELECT oid, has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
		FROM pg_database WHERE datname = current_database()`).Scan(&o.Database, &readable)
	if err == nil && readable {
		err = c.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&o.Cluster)
	}
	if err != nil {
		return o, c.WrapError("read the identity of the database", err)
	}
	c.origin = o
	return o, nil
}

// Timeouts returns the settings of role, database and server that would end a
// long transaction, as name=value. Settings of 0 are omitted.
func (c *Conn) Timeouts(ctx context.Context) (all []string, err error) {
	// The view pg_settings would take longer, and one of them may end this statement.
	var name, value string
	err = c.Each(ctx, `SELECT name, current_setting(name, true) FROM unnest(ARRAY
			['idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout', 'transaction_timeout']) name
		WHERE current_setting(name, true) <> '0'`,
		nil, []any{&name, &value}, func() { all = append(all, name+"="+value) })
	return all, err
}

// Privilege is a privilege that a role does not have.
type Privilege struct {
	Name  string // such as CREATE on schema flujo
	Grant string // the statement that grants it; "" for those on tables and sequences
}

// MissingPrivileges returns the privileges that a migration needs in the schema
// and the role does not have. withoutPGVector says that it creates no table with
// vectors.
func (c *Conn) MissingPrivileges(ctx context.Context, withoutPGVector bool) (all []Privilege, err error) {
	if all, err = c.missingInSchema(ctx); err != nil {
		return nil, err
	}
	vector, err := c.missing(
		ctx,
		`SELECT format('USAGE on schema %s, which has pgvector', n.nspname),
			format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user)
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'vector' AND NOT has_schema_privilege(n.oid, 'USAGE')
			AND ($1::boolean OR EXISTS (SELECT FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
				WHERE s.nspname = $2 AND c.relname = $3))`,
		!withoutPGVector, c.Schema, mapping.Memories,
	)
	if err != nil {
		return nil, err
	}
	tablespace, err := c.missing(
		ctx,
		`SELECT format('CREATE on tablespace %s, its default_tablespace', s.spcname),
			format('GRANT CREATE ON TABLESPACE %I TO %I', s.spcname, current_user)
		FROM pg_tablespace s JOIN pg_database d ON d.datname = current_database() AND d.dattablespace <> s.oid
		WHERE s.spcname = current_setting('default_tablespace') AND NOT has_tablespace_privilege(s.oid, 'CREATE')
			AND (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE n.nspname = $1 AND c.relname = ANY ($2)) < cardinality($2::text[])`,
		c.Schema, append(tableNames(), mapping.Receipts, mapping.Originals.Name),
	)
	return append(append(all, vector...), tablespace...), err
}

// missing returns the privileges that a query selects, each with its Grant.
func (c *Conn) missing(ctx context.Context, query string, args ...any) (all []Privilege, err error) {
	var p Privilege
	err = c.Each(ctx, query, args, []any{&p.Name, &p.Grant}, func() { all = append(all, p) })
	return all, err
}

// CheckOwners returns a clierr.Refused if the owner of one of Flujo's tables may not use
// the schema. The server checks foreign keys with the owner's privileges, so inserts of
// every role would fail.
func (c *Conn) CheckOwners(ctx context.Context) error {
	var owner, tables string
	var owners, owned []string
	err := c.Each(
		ctx,
		`SELECT quote_ident(pg_get_userbyid(c.relowner)), string_agg(c.relname, ', ' ORDER BY c.relname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind = 'r'
			AND NOT has_schema_privilege(c.relowner, n.oid, 'USAGE')
		GROUP BY 1 ORDER BY 1`,
		[]any{c.Schema, tableNames()},
		[]any{&owner, &tables},
		func() { owners, owned = append(owners, owner), append(owned, owner+" (owner of "+tables+")") },
	)
	if err != nil || len(owners) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("foreign keys are checked as the owner of a table, who lacks USAGE on schema %q: %s",
			c.Schema, strings.Join(owned, ", ")),
		Hint: fmt.Sprintf("have the owner of the schema or a superuser run GRANT USAGE ON SCHEMA %s TO %s",
			sqltext.Ident(c.Schema), strings.Join(owners, ", ")),
	}
}

func (c *Conn) missingInSchema(ctx context.Context) (all []Privilege, err error) {
	exists, err := c.HasSchema(ctx)
	if err != nil {
		return nil, err
	}
	if !exists {
		return c.missing(
			ctx,
			`SELECT format('CREATE on database %s', current_database()),
				format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
			WHERE NOT has_database_privilege(current_database(), 'CREATE')`,
		)
	}
	all, err = c.missing(
		ctx,
		`SELECT format('%s on schema %s', p, $1::text), format('GRANT %s ON SCHEMA %I TO %I', p, $1::text, current_user)
		FROM unnest(ARRAY['USAGE', 'CREATE']) p WHERE NOT has_schema_privilege($1::text, p)`,
		c.Schema,
	)
	if err != nil || len(all) > 0 {
		return all, err
	}
	// The program's own tables need less than Flujo's.
	tables, err := c.missing(
		ctx,
		`SELECT format('%s on table %s', p, c.relname), ''
		FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
		WHERE c.relnamespace = $1::text::regnamespace
			AND (c.relname = ANY ($2)
				OR c.relname = $3 AND p IN ('SELECT', 'INSERT')
				OR c.relname = $4 AND p = 'SELECT')
			AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT has_table_privilege(c.oid, p) ORDER BY c.relname, p`,
		sqltext.Ident(c.Schema), tableNames(), mapping.Receipts, mapping.Originals.Name,
	)
	if err != nil {
		return nil, err
	}
	sequences, err := c.missing(
		ctx,
		`SELECT format('UPDATE on sequence %s', s.relname), ''
		FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i')
			JOIN pg_class c ON c.oid = d.refobjid
		WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY ($2)
			AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'UPDATE') END ORDER BY 1`,
		sqltext.Ident(c.Schema), tableNames(),
	)
	return append(tables, sequences...), err
}

func tableNames() (names []string) {
	for _, t := range mapping.Tables {
		names = append(names, t.Name)
	}
	return append(names, mapping.Versions)
}

// isLocalServer reports whether the server process of the connection runs on
// this machine, and not in a container behind a local port.
func (c *Conn) isLocalServer(ctx context.Context) bool {
	var process int
	if c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&process) != nil {
		return false
	}
	name, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(process), "comm"))
	return err == nil && strings.HasPrefix(string(name), "postgres")
}

// TablesWithRows returns the tables of the schema that hold rows, Flujo's
// tables and the table of originals, each with the number of its rows.
func (c *Conn) TablesWithRows(ctx context.Context) (counts []string, err error) {
	existing, err := c.relations(ctx, append(tableNames(), mapping.Originals.Name))
	if err != nil {
		return nil, err
	}
	var names, queries []string
	for _, table := range append(slices.Clip(mapping.Tables), mapping.Originals) {
		if slices.Contains(existing, table.Name) {
			names = append(names, table.Name)
			queries = append(queries, "(SELECT count(*) FROM "+c.Name(table.Name)+")")
		}
	}
	var rows []int64
	query := "SELECT ARRAY[" + strings.Join(queries, ", ") + "]::bigint[]"
	if err := c.QueryRow(ctx, query).Scan(&rows); err != nil {
		return nil, c.WrapError("count the rows of Flujo's tables", err)
	}
	for i, n := range rows {
		if n > 0 {
			counts = append(counts, fmt.Sprintf("%s has %d", names[i], n))
		}
	}
	return counts, nil
}
