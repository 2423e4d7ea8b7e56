package postgres

import (
	"context"
	"errors"
	"fmt"
	neturl "net/url"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
	"flujo-port/internal/stateuri"

	"github.com/jackc/pgx/v5"
)

// AddressTrial describes a session that was opened by the cutover address.
type AddressTrial struct {
	Role       string
	Database   string
	SearchPath string
	// First is the schema of search_path in which unqualified names are looked up first: the
	// first one that the role may use, or that Flujo's tables are in or will be in.
	First    string
	ReadOnly bool   // its transactions are read-only by default
	Replica  bool   // session_replication_role is not origin, so foreign keys are not checked
	Runs     string // schema of the table that the name runs resolves to; "" if there is none
	Pooled   bool   // the session goes through a pooler: the process id is not the announced one
	// VectorSchema is the schema of pgvector if it is not on the search_path, or "".
	VectorSchema string
	// Unprepared is the error of a statement that was prepared by name in an earlier
	// transaction, as by a pooler that changes the server's process after each; "" if it
	// works. Flujo's driver uses such statements.
	Unprepared string
	// Untried reports whether it is not known if such statements work, because the pooler
	// had no other process for the trial.
	Untried bool
}

// TryAddress opens a session by a cutover address for the schema of Flujo's tables, which
// need not exist. It reads the session's settings and closes it. It writes nothing.
func TryAddress(ctx context.Context, address, schema string) (AddressTrial, error) {
	conn, t, err := tryAddress(ctx, address, schema)
	closeTried(ctx, conn)
	return t, err
}

// tryAddress is TryAddress, and returns the connection of the session unless there is an
// error. Its Server is zero if the server did not answer what it consists of.
func tryAddress(ctx context.Context, address, schema string) (c *Conn, t AddressTrial, err error) {
	c = &Conn{Schema: schema, url: address}
	if c.Conn, err = dial(ctx, address, c.notice); err != nil {
		return nil, t, err
	}
	defer func() {
		if err != nil {
			closeTried(ctx, c)
			c = nil
		}
	}()
	// A server that is not PostgreSQL is named as such, and not by the first statement that
	// it does not know.
	if server, err := ReadServer(ctx, c.Conn); err == nil {
		if err := server.CheckVersion(); err != nil {
			return c, t, err
		}
		c.Server = server
	}
	if err := t.read(ctx, c.Conn, schema); err != nil {
		return c, t, (&Conn{Conn: c.Conn, Reads: true}).WrapError("query the server by the cutover address", err)
	}
	if t.Unprepared, t.Untried, err = tryPrepared(ctx, c.Conn, address, t.Pooled); err != nil {
		return c, t, (&Conn{Conn: c.Conn, Reads: true}).WrapError("try prepared statements by the cutover address", err)
	}
	return c, t, nil
}

// closeTried closes the connection of tryAddress, which may be nil.
func closeTried(ctx context.Context, c *Conn) {
	if c != nil {
		_ = c.Close(context.WithoutCancel(ctx))
	}
}

// read reads the settings of a session in a transaction, which a pooler in statement mode
// does not permit.
func (t *AddressTrial) read(ctx context.Context, conn *pgx.Conn, schema string) error {
	if _, err := conn.Exec(ctx, beginTrial(conn)); err != nil {
		return err
	}
	var process uint32
	err := conn.QueryRow(ctx, `SELECT current_user, current_database(), current_setting('search_path'),
		current_setting('default_transaction_read_only')::boolean,
		current_setting('session_replication_role') <> 'origin',
		coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid = to_regclass($1)), ''),
		pg_backend_pid(),
		coalesce((SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
			WHERE e.extname = 'vector' AND n.nspname <> ALL (current_schemas(true))), '')`, mapping.Runs).
		Scan(&t.Role, &t.Database, &t.SearchPath, &t.ReadOnly, &t.Replica, &t.Runs, &process, &t.VectorSchema)
	if err != nil {
		return err
	}
	t.Pooled = process != conn.PgConn().PID()
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS path (name, place)
		WHERE name IN ($2, 'pg_temp') OR EXISTS (SELECT FROM pg_catalog.pg_namespace
			WHERE nspname = name AND has_schema_privilege(oid, 'USAGE'))
		ORDER BY place LIMIT 1), '')`, stateuri.PathSchemas(t.SearchPath, t.Role), schema).Scan(&t.First)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ROLLBACK")
	return err
}

// beginTrial returns the statements that begin a transaction which no timeout of the role
// or database ends between two statements.
func beginTrial(conn *pgx.Conn) string {
	begin := "BEGIN READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
	if version, err := versionNumber(conn.PgConn().ParameterStatus("server_version")); err == nil && version >= 170000 {
		begin += "; SET LOCAL transaction_timeout = 0"
	}
	return begin
}

// ResolveAddress opens a session by a cutover address that stateuri.Cutover made, and
// returns the address by which Flujo finds its tables in schema, and what to say about it.
//
// If withPGVector is set and pgvector lies in a schema that is not on the address's
// search_path, the schema is added to it. If a pooler refuses the parameter options, the
// result is the address without it, provided that the role's own search_path leads to
// schema; if not, the error is a clierr.Refused with the statement that makes it so.
func ResolveAddress(
	ctx context.Context, address stateuri.Address, schema string, withPGVector bool,
) (resolved stateuri.Address, t AddressTrial, notes []string, err error) {
	conn, resolved, t, notes, err := ResolveAddressOpen(ctx, address, schema, withPGVector)
	closeTried(ctx, conn)
	return resolved, t, notes, err
}

// ResolveAddressOpen is ResolveAddress, and returns the connection of the trial if the
// address is returned unchanged and leads to the server itself. The caller closes it. Else
// it is nil.
func ResolveAddressOpen(
	ctx context.Context, address stateuri.Address, schema string, withPGVector bool,
) (conn *Conn, resolved stateuri.Address, t AddressTrial, notes []string, err error) {
	conn, t, err = tryAddress(ctx, address.Reveal(), schema)
	if _, refused := errors.AsType[*optionsRefusedError](err); refused {
		resolved, t, notes, err = withoutOptions(ctx, address, schema, withPGVector)
		return nil, resolved, t, notes, err
	}
	if err != nil {
		return nil, address, t, nil, err
	}
	change := withPGVector && t.VectorSchema != "" && t.First == schema
	if !change && !t.Pooled && t.Unprepared == "" && conn.Server != (Server{}) {
		return conn, address, t, nil, nil
	}
	closeTried(ctx, conn)
	if !change {
		return nil, address, t, nil, nil
	}
	if resolved, err = address.WithSearchPath(schema, t.VectorSchema); err != nil {
		return nil, address, t, nil, err
	}
	note := fmt.Sprintf("pgvector is in schema %q, which was added to search_path", t.VectorSchema)
	t, err = TryAddress(ctx, resolved.Reveal(), schema)
	return nil, resolved, t, []string{note}, err
}

// OnlyAddsSearchPath reports whether sessions that are opened by a cutover address differ
// from those by url, as Config parses it, in nothing but their search_path.
func OnlyAddsSearchPath(address stateuri.Address, url string) bool {
	config, err := Config(url)
	if err != nil || config.RuntimeParams["options"] != "" || config.RuntimeParams["search_path"] != "" {
		return false
	}
	a, errA := neturl.Parse(address.Reveal())
	b, errB := neturl.Parse(url)
	if errA != nil || errB != nil {
		return false
	}
	query := a.Query()
	query.Del("options")
	return a.User.String() == b.User.String() && a.Host == b.Host && a.Path == b.Path &&
		query.Encode() == b.Query().Encode()
}

// withoutOptions tries the address without the parameter options.
func withoutOptions(
	ctx context.Context, address stateuri.Address, schema string, withPGVector bool,
) (stateuri.Address, AddressTrial, []string, error) {
	bare, others, err := address.WithoutOptions()
	if err != nil {
		return address, AddressTrial{}, nil, err
	}
	t, err := TryAddress(ctx, bare.Reveal(), schema)
	if err != nil {
		return bare, t, nil, err
	}
	var more []string
	if withPGVector && t.VectorSchema != "" {
		more = []string{t.VectorSchema}
	}
	if t.First != schema || more != nil {
		return bare, t, nil, &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("a pooler refuses the parameter options of the cutover address, "+
				"and without it the search_path of role %q is %s", t.Role, t.SearchPath),
			Hint: t.pathStatement(schema, more...) + ", then have the pooler open new connections " +
				"(PgBouncer: RECONNECT), or connect to the server directly",
		}
	}
	notes := []string{fmt.Sprintf("parameter options removed from the address, because a pooler refuses it: "+
		"search_path of role %q leads to schema %q", t.Role, schema)}
	if others {
		notes = append(notes, "options also had other settings, which the address no longer has: "+
			"set them on the role, by ALTER ROLE")
	}
	return bare, t, notes, nil
}

// pathStatement returns the advice to set search_path on the role.
func (t AddressTrial) pathStatement(schema string, more ...string) string {
	return fmt.Sprintf("run ALTER ROLE %s IN DATABASE %s SET search_path = %s",
		sqltext.Ident(t.Role), sqltext.Ident(t.Database), sqltext.Idents(stateuri.SearchPath(schema, more...)))
}

// CheckSchema returns a clierr.Refused if the name runs resolves to no table,
// or to one outside of schema. Before the commit it is meaningful only if the
// tables existed before the transaction.
func (t AddressTrial) CheckSchema(schema string) error {
	if t.Runs == schema {
		return nil
	}
	message := fmt.Sprintf("does not find table %q", mapping.Runs)
	if t.Runs != "" {
		message = fmt.Sprintf("finds table %q in schema %q, not in %q", mapping.Runs, t.Runs, schema)
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: "a session opened with the cutover address " + message,
		Hint:    "check search_path and the role's privileges on the schema",
	}
}

// CheckSession returns a clierr.Refused if Flujo, in a session like this one,
// would not find or could not change the tables that server's role writes into
// schema.
func (t AddressTrial) CheckSession(server Server, schema string) error {
	refuse := func(hint, format string, args ...any) error {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: "a session opened with the cutover address " + fmt.Sprintf(format, args...),
			Hint:    hint,
		}
	}
	switch {
	case t.First != schema && t.Pooled:
		return refuse(
			"a pooler may drop the options parameter: "+t.pathStatement(schema)+", or connect to the server directly",
			"has search_path %q, which does not lead to schema %q",
			t.SearchPath,
			schema,
		)
	case t.First != schema:
		return refuse(
			t.pathStatement(schema),
			"has search_path %q, which does not lead to schema %q",
			t.SearchPath,
			schema,
		)
	case t.Role != server.Role:
		return refuse(
			"unset PGOPTIONS, or name the role in the address",
			"has role %q, but %q would own the tables",
			t.Role,
			server.Role,
		)
	case t.ReadOnly:
		return refuse(
			"Flujo could not write: check default_transaction_read_only of the address, role and database",
			"has read-only transactions",
		)
	case t.Replica:
		return refuse(
			"reset it in the address, and for the role and the database",
			"has another session_replication_role than origin, so foreign keys would not be checked",
		)
	}
	return nil
}

// CheckAddress checks, after the commit, that an unqualified name finds Flujo's
// tables in schema, and that they hold at least the number of rows that were
// committed. Flujo may already have added rows.
func CheckAddress(ctx context.Context, address, schema string, rows int64) error {
	conn, err := Dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Counting a large table may take longer than the role's timeout.
	if err := conn.PgConn().Exec(ctx, "BEGIN READ ONLY; SET LOCAL statement_timeout = 0").Close(); err != nil {
		return err
	}
	var found string
	const query = `SELECT coalesce((SELECT n.nspname
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)), '')`
	if err := conn.QueryRow(ctx, query, mapping.Runs).Scan(&found); err != nil {
		return err
	}
	if found != schema {
		return fmt.Errorf("table %q is found in schema %q, not %q", mapping.Runs, found, schema)
	}
	var n int64
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+mapping.Runs).Scan(&n); err != nil {
		return err
	}
	if n < rows {
		return fmt.Errorf("table %q has %d rows, but %d were committed", mapping.Runs, n, rows)
	}
	return nil
}
