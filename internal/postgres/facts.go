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

	"flujo-port/internal/mapping"
)

// TLS is how a connection is protected.
type TLS struct {
	Local   bool // a Unix socket, or an address of this machine
	Used    bool
	Checked bool // the server's certificate is verified
	Version string
}

// TLS tells how the connection is protected.
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
	// pgx verifies by itself for sslmode=verify-ca, and leaves verify-full to Go.
	config := c.Config().TLSConfig
	t.Checked = config != nil &&
		(!config.InsecureSkipVerify || config.VerifyPeerCertificate != nil || config.VerifyConnection != nil)
	return t
}

// Timeouts gives the settings of role, database and server that would cut a
// long transaction, as name=value; those at 0 are left out.
func (c *Conn) Timeouts(ctx context.Context) (all []string, err error) {
	var name, value string
	err = c.Each(ctx, `SELECT name, current_setting(name) FROM pg_settings WHERE setting <> '0' AND name IN
		('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout') ORDER BY name`,
		nil, []any{&name, &value}, func() { all = append(all, name+"="+value) })
	return all, err
}

// MissingPrivileges names the rights that the role needs in the schema and lacks;
// nothing where it has what a migration takes.
func (c *Conn) MissingPrivileges(ctx context.Context) (all []string, err error) {
	there, err := c.HasSchema(ctx)
	if err != nil {
		return nil, err
	}
	var right string
	add := func() { all = append(all, right) }
	if !there {
		err := c.Each(
			ctx,
			"SELECT format('CREATE on database %s', current_database()) WHERE NOT has_database_privilege(current_database(), 'CREATE')",
			nil,
			[]any{&right},
			add,
		)
		return all, err
	}
	err = c.Each(
		ctx,
		"SELECT format('%s on schema %s', p, $1::text) FROM unnest(ARRAY['USAGE', 'CREATE']) p WHERE NOT has_schema_privilege($1::text, p)",
		[]any{c.Schema},
		[]any{&right},
		add,
	)
	if err != nil || len(all) > 0 {
		return all, err
	}
	// The program's own tables need less than Flujo's.
	err = c.Each(
		ctx,
		`SELECT format('%s on table %s', p, c.relname) FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
		WHERE c.relnamespace = $1::text::regnamespace AND (c.relname = ANY ($2) OR c.relname = $3 AND p IN ('SELECT', 'INSERT') OR c.relname = $4 AND p = 'SELECT')
			AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT has_table_privilege(c.oid, p) ORDER BY c.relname, p`,
		[]any{Ident(c.Schema), tableNames(), Receipts, mapping.Originals.Name},
		[]any{&right},
		add,
	)
	if err != nil {
		return nil, err
	}
	err = c.Each(
		ctx,
		`SELECT format('UPDATE on sequence %s', s.relname) FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i')
			JOIN pg_class c ON c.oid = d.refobjid
		WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY ($2)
			AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'UPDATE') END ORDER BY 1`,
		[]any{Ident(c.Schema), tableNames()},
		[]any{&right},
		add,
	)
	return all, err
}

func tableNames() (names []string) {
	for _, t := range mapping.Tables {
		names = append(names, t.Name)
	}
	return append(names, mapping.Versions)
}

// Extension is what is known of pgvector.
type Extension struct {
	Version   string // that is there; "" where none is
	Schema    string // of its types
	Available string // version that could be created; "" for none
	Creatable bool   // by this role
}

// Extension looks for pgvector.
func (c *Conn) Extension(ctx context.Context) (e Extension, err error) {
	if e.Version, e.Schema, err = c.PGVector(ctx); err != nil {
		return e, err
	}
	// A trusted extension takes the right to create in the database alone.
	err = c.Each(
		ctx,
		`SELECT a.default_version, r.rolsuper OR v.trusted AND has_database_privilege(current_database(), 'CREATE')
		FROM pg_available_extensions a JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version, pg_roles r
		WHERE a.name = 'vector' AND r.rolname = current_user`,
		nil,
		[]any{&e.Available, &e.Creatable},
		func() {},
	)
	return e, err
}

// FreeBytes gives how many bytes are free where the server keeps its data, as far
// as that can be asked: where it runs on this machine and says where that is.
func (c *Conn) FreeBytes(ctx context.Context) (bytes int64, known bool) {
	var folder string
	if !c.TLS().Local || !c.isLocalServer(ctx) {
		return 0, false
	}
	// Only who may read all settings sees this row.
	if c.QueryRow(ctx, "SELECT setting FROM pg_settings WHERE name = 'data_directory'").Scan(&folder) != nil {
		return 0, false
	}
	return availableBytes(folder)
}

// isLocalServer reports whether the process that serves the connection is one of
// this machine, and not of a container behind a local port.
func (c *Conn) isLocalServer(ctx context.Context) bool {
	var process int
	if c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&process) != nil {
		return false
	}
	name, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(process), "comm"))
	return err == nil && strings.HasPrefix(string(name), "postgres")
}

// TablesWithRows names the tables of the schema that hold rows, Flujo's and the
// program's own of originals, each with their number.
func (c *Conn) TablesWithRows(ctx context.Context) (full []string, err error) {
	var name string
	var there []string
	err = c.Each(
		ctx,
		"SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY ($2)",
		[]any{
			c.Schema,
			append(tableNames(), mapping.Originals.Name),
		},
		[]any{&name},
		func() { there = append(there, name) },
	)
	if err != nil {
		return nil, err
	}
	for _, table := range append(mapping.Tables[:len(mapping.Tables):len(mapping.Tables)], mapping.Originals) {
		if !slices.Contains(there, table.Name) {
			continue
		}
		var rows int64
		if err := c.QueryRow(ctx, "SELECT count(*) FROM "+c.Name(table.Name)).Scan(&rows); err != nil {
			return nil, c.WrapError(fmt.Sprintf("count the rows of table %q", table.Name), err)
		}
		if rows > 0 {
			full = append(full, fmt.Sprintf("%s has %d", table.Name, rows))
		}
	}
	return full, nil
}
