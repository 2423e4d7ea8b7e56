package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

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
	ReadOnly   bool   // its transactions are read-only by default
	Runs       string // schema of the table that the name runs resolves to; "" if there is none
	Pooled     bool   // the session goes through a pooler: the process id is not the announced one
	// VectorSchema is the schema of pgvector if it is not on the search_path, or "".
	VectorSchema string
	// Unprepared is the error of a statement that was prepared by name in an earlier
	// transaction, as by a pooler that changes the server's process after each; "" if it
	// works. Flujo's driver uses such statements.
	Unprepared string
}

// TryAddress opens a session by a cutover address, reads its settings and
// closes it. It writes nothing.
func TryAddress(ctx context.Context, address string) (t AddressTrial, err error) {
	conn, err := Dial(ctx, address)
	if err != nil {
		return t, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// A server that is not PostgreSQL is named as such, and not by the first statement that
	// it does not know.
	if server, err := ReadServer(ctx, conn); err == nil {
		if err := server.CheckVersion(); err != nil {
			return t, err
		}
	}
	values, err := rowWithoutTimeout(ctx, conn, addressSettings.Fill(sqltext.Parts{"runs": mapping.Runs}))
	if err != nil {
		return t, (&Conn{Conn: conn}).WrapError("query the server by the cutover address", err)
	}
	t.Role, t.Database, t.SearchPath, t.ReadOnly = values[0], values[1], values[2], values[3] == "t"
	t.Runs, t.VectorSchema = values[4], values[6]
	t.Pooled = values[5] != fmt.Sprint(conn.PgConn().PID())
	if t.Unprepared, err = tryPrepared(ctx, conn, address, t.Pooled); err != nil {
		return t, (&Conn{Conn: conn}).WrapError("try prepared statements by the cutover address", err)
	}
	return t, nil
}

var addressSettings = sqltext.New(`SELECT current_user, current_database(), current_setting('search_path'),
	current_setting('default_transaction_read_only')::boolean,
	coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass({{literal .runs}})), ''),
	pg_backend_pid(),
	coalesce((SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'vector' AND n.nspname <> ALL (current_schemas(true))), '')`)

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
	t, err = TryAddress(ctx, address.Reveal())
	if _, refused := errors.AsType[*optionsRefusedError](err); refused {
		return withoutOptions(ctx, address, schema, withPGVector)
	}
	if err != nil {
		return address, t, nil, err
	}
	if !withPGVector || t.VectorSchema == "" || !t.beginsWith(schema) {
		return address, t, nil, nil
	}
	if resolved, err = address.WithSearchPath(schema, t.VectorSchema); err != nil {
		return address, t, nil, err
	}
	note := fmt.Sprintf("pgvector is in schema %q, which was added to search_path", t.VectorSchema)
	t, err = TryAddress(ctx, resolved.Reveal())
	return resolved, t, []string{note}, err
}

// withoutOptions tries the address without the parameter options.
func withoutOptions(
	ctx context.Context, address stateuri.Address, schema string, withPGVector bool,
) (stateuri.Address, AddressTrial, []string, error) {
	bare, others, err := address.WithoutOptions()
	if err != nil {
		return address, AddressTrial{}, nil, err
	}
	t, err := TryAddress(ctx, bare.Reveal())
	if err != nil {
		return bare, t, nil, err
	}
	var more []string
	if withPGVector && t.VectorSchema != "" {
		more = []string{t.VectorSchema}
	}
	if !t.beginsWith(schema) || more != nil {
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

// beginsWith reports whether schema is the first one on the search_path.
func (t AddressTrial) beginsWith(schema string) bool {
	for _, name := range []string{schema, sqltext.Ident(schema)} {
		if t.SearchPath == name || strings.HasPrefix(t.SearchPath, name+",") {
			return true
		}
	}
	return false
}

// pathStatement returns the advice to set search_path on the role.
func (t AddressTrial) pathStatement(schema string, more ...string) string {
	path := strings.ReplaceAll(stateuri.SearchPath(schema, more...), ",", ", ")
	return fmt.Sprintf("run ALTER ROLE %s IN DATABASE %s SET search_path = %s",
		sqltext.Ident(t.Role), sqltext.Ident(t.Database), path)
}

// preparedWait limits the part of tryPrepared that waits for a pooler.
const preparedWait = 2 * time.Second

// tryPrepared prepares a statement by name and executes it in the next transaction. Behind
// a pooler, another session occupies the server's process that prepared it meanwhile.
func tryPrepared(ctx context.Context, conn *pgx.Conn, address string, pooled bool) (failure string, err error) {
	name := "flujo_port_" + strings.ToLower(rand.Text())
	if _, err := conn.Prepare(ctx, name, "SELECT pg_backend_pid()"); err != nil {
		return lost(err)
	}
	wait, cancel := context.WithTimeout(ctx, preparedWait)
	defer cancel()
	if pooled {
		// Without another session, for example because the pool has only one process, the
		// statement is merely tried.
		if other, err := Dial(wait, address); err == nil {
			defer other.Close(context.WithoutCancel(ctx))
			_, _ = other.Exec(wait, "BEGIN")
		}
	}
	_, err = conn.PgConn().ExecPrepared(wait, name, nil, nil, nil).Close()
	if ctx.Err() == nil && wait.Err() != nil {
		return "", nil // the pool has no other process
	}
	return lost(err)
}

// lost returns the text of an error that the server sent about a prepared statement.
func lost(err error) (failure string, other error) {
	if code := Code(err); code == "" || code[:2] == "57" {
		return "", err
	}
	return ServerError(err).Error(), nil
}

// CheckPrepared returns a clierr.Refused if Flujo's statements would fail in sessions
// like this one.
func (t AddressTrial) CheckPrepared() error {
	if t.Unprepared == "" {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: "Flujo's driver prepares statements by name, and the pooler of the cutover address loses them " +
			"between transactions, so most of Flujo's calls would fail: " + t.Unprepared,
		Hint: "use session pooling, or PgBouncer 1.21 or later with max_prepared_statements, or connect to the " +
			"server directly",
	}
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
	case !t.beginsWith(schema):
		return refuse(
			"a pooler may drop the options parameter: "+t.pathStatement(schema)+", or connect to the server directly",
			"has search_path %q, which does not begin with schema %q",
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
			"Flujo could not write: check default_transaction_read_only of the role and the database",
			"has read-only transactions",
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
