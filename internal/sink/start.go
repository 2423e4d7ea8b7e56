package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// FlujoStart is how Flujo will start.
type FlujoStart struct {
	// SearchPath is the search_path of its sessions, as SHOW prints it; "" means the
	// schema and then public.
	SearchPath string
	// NoMigrations says that Flujo is started with FLUJO_AUTO_MIGRATE=false. Then it only
	// looks its tables up. Otherwise it creates tables and indexes that do not exist, for
	// which it must own the tables even if all of them exist.
	NoMigrations bool
}

// TryStart executes what Flujo executes at its start, in a savepoint that is rolled
// back. If Flujo would not start, the error is a clierr.Refused. role is the role that
// Flujo connects as; "" means the role of t.
func (t *Tx) TryStart(ctx context.Context, s *Schema, role string, how FlujoStart) error {
	sql := "SAVEPOINT flujo_port_start;"
	if role != "" {
		tablespace, err := t.defaultTablespace(ctx, role)
		if err != nil {
			return err
		}
		sql += "SET LOCAL default_tablespace = " + sqltext.Literal(
			tablespace,
		) + ";SET LOCAL ROLE " + sqltext.Ident(
			role,
		)
	}
	if err := t.Run(ctx, sql); err != nil {
		return t.WrapError(fmt.Sprintf("become role %q to try what Flujo does at its start", role), err)
	}
	if role == "" {
		role = t.Server.Role
	}
	if err := t.startAsFlujo(ctx, s.Types, role, how); err != nil {
		return err
	}
	if err := t.Run(ctx, "ROLLBACK TO flujo_port_start; RELEASE flujo_port_start"); err != nil {
		return t.WrapError("undo what Flujo does at its start", err)
	}
	return nil
}

// defaultTablespace returns the default_tablespace of the sessions of a role, which SET ROLE does not change.
func (t *Tx) defaultTablespace(ctx context.Context, role string) (name string, err error) {
	err = t.QueryRow(ctx, `SELECT coalesce(
		(SELECT substr(setting, length('default_tablespace=') + 1) FROM pg_db_role_setting s, unnest(setconfig) setting
			WHERE setting LIKE 'default\_tablespace=%' AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = $1))
				AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
			ORDER BY setrole <> 0 DESC, setdatabase <> 0 DESC LIMIT 1),
		(SELECT CASE WHEN source = 'configuration file' THEN setting END FROM pg_settings
			WHERE name = 'default_tablespace'), '')`, role).Scan(&name)
	if err != nil {
		return "", t.WrapError(fmt.Sprintf("read the settings of role %q", role), err)
	}
	return name, nil
}

// TryStartAt is Tx.TryStart in a session of its own, opened by the cutover address. The
// transaction is rolled back. It waits for each lock no longer than lockWait.
func TryStartAt(ctx context.Context, address, schema string, lockWait time.Duration, how FlujoStart) error {
	conn, err := postgres.Open(ctx, address, schema)
	if err != nil {
		return err
	}
	conn.LockWait = lockWait
	t := &Tx{Conn: conn}
	defer t.Rollback()
	if err := t.Run(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; "+t.Settings()); err != nil {
		return t.WrapError("begin a transaction by the cutover address", err)
	}
	if err := t.LockMigrations(ctx); err != nil {
		return err
	}
	return t.startAsFlujo(ctx, mapping.NewTypes(false), t.Server.Role, how)
}

// startAsFlujo executes what Flujo executes at its start. It does not undo it.
func (t *Tx) startAsFlujo(ctx context.Context, types *mapping.Types, role string, how FlujoStart) error {
	path := cmp.Or(how.SearchPath, sqltext.Idents([]string{t.Schema, "public"}))
	if _, err := t.Exec(ctx, "SELECT set_config('search_path', $1, true)", path); err != nil {
		return t.WrapError("set the search_path that Flujo will have", err)
	}
	if how.NoMigrations {
		return t.findFlujoTables(ctx, role)
	}
	// The memory store runs such statements too, if memory indexing is used.
	var memories, owns bool
	err := t.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL AND to_regtype('vector') IS NOT NULL,
		NOT EXISTS (SELECT FROM unnest($2::text[]) name JOIN pg_class c ON c.oid = to_regclass(name)
			WHERE NOT pg_has_role(c.relowner, 'USAGE'))`, mapping.Memories, flujoTableNames()).Scan(&memories, &owns)
	if err == nil {
		err = t.Run(ctx, startStatements(types, memories))
	}
	if err == nil {
		return nil
	}
	refusal := t.WrapError(fmt.Sprintf("Flujo would not start as role %q", role), err)
	e, ok := errors.AsType[*clierr.Error](refusal)
	if !ok {
		return refusal
	}
	switch code := postgres.Code(err); {
	case code == postgres.InsufficientPrivilege && !owns:
		e.Hint = fmt.Sprintf("Flujo runs CREATE INDEX IF NOT EXISTS, which only the owner of the table may run: "+
			"make role %q the owner of the tables", role)
		e.Advice = clierr.Advice{Topic: clierr.StartAsOwner, Arg: role}
	case code == postgres.InsufficientPrivilege:
		e.Hint, e.Advice = postgres.PrivilegeHint(role, err), clierr.Advice{}
	case code != "" && e.Hint == "": // such as an event trigger's
		e.Kind, e.Hint = clierr.Refused, "Flujo's own start would fail with the same error: remove its cause"
	}
	return refusal
}

// startStatements returns what Flujo runs at its start: it creates the tables and indexes
// that do not exist, and records and reads its migrations.
func startStatements(types *mapping.Types, memories bool) string {
	var all []string
	for _, table := range append(slices.Clip(mapping.Tables), mapping.VersionsTable) {
		if table.Name == mapping.Memories && !memories {
			continue
		}
		all = append(
			all,
			"CREATE TABLE IF NOT EXISTS "+sqltext.Ident(table.Name)+" "+tableDefinition(&table, types, ""),
		)
		for _, index := range table.Indexes {
			if index.Method == "hnsw" && types.VectorSize > longestHNSW {
				continue
			}
			all = append(
				all,
				fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s USING %s (%s %s)", sqltext.Ident(index.Name),
					sqltext.Ident(table.Name), index.Method, sqltext.Ident(index.Column), index.OpClass),
			)
		}
	}
	return strings.Join(append(all,
		fmt.Sprintf("INSERT INTO %s (version) VALUES (1) ON CONFLICT (version) DO NOTHING", mapping.Versions),
		fmt.Sprintf("SELECT version FROM %s ORDER BY version", mapping.Versions)), ";")
}

// flujoTableNames returns the quoted names of Flujo's tables.
func flujoTableNames() (names []string) {
	for _, table := range append(slices.Clip(mapping.Tables), mapping.VersionsTable) {
		names = append(names, sqltext.Ident(table.Name))
	}
	return names
}

// findFlujoTables looks up what Flujo looks up if it is started with
// FLUJO_AUTO_MIGRATE=false.
func (t *Tx) findFlujoTables(ctx context.Context, role string) error {
	var missing string
	names := []string{"workflow_state", mapping.Runs, "steps", mapping.Traces, mapping.Spans, mapping.Versions}
	err := t.QueryRow(ctx, `SELECT coalesce(string_agg(name, ', '), '') FROM unnest($1::text[]) name
		WHERE to_regclass(quote_ident(name)) IS NULL`, names).Scan(&missing)
	if err != nil {
		return t.WrapError("look up Flujo's tables", err)
	}
	if missing == "" {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("Flujo would not start as role %q with FLUJO_AUTO_MIGRATE=false: it does not find %s",
			role, missing),
		Hint: "check search_path and the role's privileges on the schema",
	}
}
