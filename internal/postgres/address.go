package postgres

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
)

// AddressTrial is what a connection by the cutover address is like.
type AddressTrial struct {
	Role       string
	SearchPath string
	ReadOnly   bool   // it begins read-only transactions
	Runs       string // the schema in which the name runs finds a table; "" where it finds none
	Pooled     bool   // a pooler is in the way: the server's process is not the one that was announced
}

// TryAddress opens a connection by a cutover address, before anything is
// written.
func TryAddress(ctx context.Context, address string) (t AddressTrial, err error) {
	conn, err := Dial(ctx, address)
	if err != nil {
		return t, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var process uint32
	err = conn.QueryRow(ctx, `SELECT current_user, current_setting('search_path'), current_setting('default_transaction_read_only')::boolean,
		coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)), ''),
		pg_backend_pid()`, mapping.Runs).
		Scan(&t.Role, &t.SearchPath, &t.ReadOnly, &t.Runs, &process)
	if err != nil {
		return t, (&Conn{Conn: conn}).WrapError("look through the cutover address", err)
	}
	t.Pooled = process != conn.PgConn().PID()
	return t, nil
}

// CheckSchema says, as a clierr.Refused, that the address finds other tables than the
// ones in schema, or none; nil where it finds those. It can be asked before the
// commit only where they were there before.
func (t AddressTrial) CheckSchema(schema string) error {
	if t.Runs == schema {
		return nil
	}
	message := fmt.Sprintf("through the cutover address the name %s finds no table", mapping.Runs)
	if t.Runs != "" {
		message = fmt.Sprintf(
			"through the cutover address the name %s finds the table in schema %q, not in %q",
			mapping.Runs,
			t.Runs,
			schema,
		)
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: message,
		Hint:    "see search_path and the rights of the role on the schema",
	}
}

// CheckSession says why Flujo, connecting like that, would not find or could not
// change what server's role writes into schema, as a clierr.Refused, or gives
// nil.
func (t AddressTrial) CheckSession(server Server, schema string) error {
	refuse := func(hint, format string, args ...any) error {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: "through the cutover address " + fmt.Sprintf(format, args...),
			Hint:    hint,
		}
	}
	first := func(name string) bool { return t.SearchPath == name || strings.HasPrefix(t.SearchPath, name+",") }
	switch {
	case !first(schema) && !first(Ident(schema)):
		return refuse(
			"a pooler in the way may drop the options parameter: connect to the server itself, or set search_path on the role",
			"search_path is %q and does not begin with schema %q",
			t.SearchPath,
			schema,
		)
	case t.Role != server.Role:
		return refuse(
			"unset PGOPTIONS, or say the role in --postgres",
			"the role is %q, and %q would own what is made",
			t.Role,
			server.Role,
		)
	case t.ReadOnly:
		return refuse(
			"Flujo could not write there: see default_transaction_read_only of role and database",
			"transactions are read-only",
		)
	}
	return nil
}

// CheckAddress sees, after the commit, that unqualified names find Flujo's
// tables in schema, with at least the rows that were committed: a Flujo may
// have begun to write.
func CheckAddress(ctx context.Context, address, schema string, rows int64) error {
	conn, err := Dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// The role's timeouts are not for the counting of a long table.
	if err := conn.PgConn().Exec(ctx, "BEGIN READ ONLY; SET LOCAL statement_timeout = 0").Close(); err != nil {
		return err
	}
	var found string
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass($1)), '')`, mapping.Runs).
		Scan(&found)
	if err != nil {
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
		return fmt.Errorf("table %q has %d rows, and %d were committed", mapping.Runs, n, rows)
	}
	return nil
}
