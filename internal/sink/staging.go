package sink

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// BeginStaging begins a transaction with empty tables of Flujo in a schema with
// a random name, for a dry run that ends with Rollback. If the role may not
// create schemas, they are temporary tables, which are somewhat faster since
// they write no WAL. Without pgvector there is no memories table.
func BeginStaging(ctx context.Context, url string, types *mapping.Types, lockWait time.Duration) (*Tx, *Schema, error) {
	conn, err := postgres.Open(ctx, url, "flujo_port_check_"+strings.ToLower(rand.Text()))
	if err != nil {
		return nil, nil, err
	}
	conn.LockWait = lockWait
	t := &Tx{Conn: conn, fresh: map[string]bool{}}
	s := &Schema{Existing: map[string]bool{}, Types: types}
	if err := t.createStagingTables(ctx, s); err != nil {
		t.Rollback()
		return nil, nil, err
	}
	return t, s, nil
}

func (t *Tx) createStagingTables(ctx context.Context, s *Schema) error {
	if err := t.start(ctx); err != nil {
		return err
	}
	if err := t.chooseStagingSchema(ctx, s); err != nil {
		return err
	}
	if err := t.findPGVector(ctx, s); err != nil {
		return err
	}
	for _, table := range mapping.Tables {
		if table.Name == mapping.Memories && s.PGVector == "" {
			continue
		}
		s.tables = append(s.tables, table)
		if err := t.Run(ctx, t.createTable(&table, s)); err != nil {
			return t.WrapError(fmt.Sprintf("create staging table %q", table.Name), err)
		}
	}
	return nil
}

// chooseStagingSchema creates t's schema. If the role may not create schemas,
// it makes t write to temporary tables.
func (t *Tx) chooseStagingSchema(ctx context.Context, s *Schema) error {
	var canCreate bool
	const query = "SELECT has_database_privilege(current_database(), 'CREATE')"
	if err := t.QueryRow(ctx, query).Scan(&canCreate); err != nil {
		return t.WrapError("read the role's privileges", err)
	}
	if canCreate {
		if err := t.makeSchema(ctx, s); err != nil {
			return err
		}
		return t.makePrivate(ctx, t.Schema, "")
	}
	return t.useTemporarySchema(ctx)
}

// useTemporarySchema makes t write to the session's schema of temporary tables.
// The server creates that schema with the first temporary table, which is dropped again,
// since the session may get staging tables again.
func (t *Tx) useTemporarySchema(ctx context.Context) error {
	err := t.Run(ctx, "CREATE TEMPORARY TABLE flujo_port_check ()")
	if postgres.Code(err) == postgres.InsufficientPrivilege {
		database, role := sqltext.Ident(t.Server.Database), sqltext.Ident(t.Server.Role)
		return &clierr.Error{
			Kind: clierr.Refused, Err: postgres.ServerError(err),
			Message: fmt.Sprintf("role %q may create neither a schema nor temporary tables", t.Server.Role),
			Hint: fmt.Sprintf("have the owner of the database run GRANT TEMPORARY ON DATABASE %s TO %s",
				database, role),
		}
	}
	if err == nil {
		err = t.QueryRow(ctx, "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()").Scan(&t.Schema)
	}
	if err == nil {
		err = t.Run(ctx, "DROP TABLE pg_temp.flujo_port_check")
	}
	if err != nil {
		return t.WrapError("create a temporary table", err)
	}
	return nil
}

// CreateStaging creates empty staging tables for the tables of s in the current
// transaction, in a schema with a random name, or as temporary tables if the role may
// not create schemas. If row-level security may hide rows of the tables of s, the
// error is a clierr.Refused.
func (t *Tx) CreateStaging(ctx context.Context, s *Schema) (Loader, error) {
	names := []string{mapping.Originals.Name}
	for _, table := range s.tables {
		names = append(names, table.Name)
	}
	if err := t.checkRowSecurity(ctx, names); err != nil {
		return Loader{}, err
	}
	conn := *t.Conn
	conn.Schema = "flujo_port_staging_" + strings.ToLower(rand.Text())
	staging := Loader{
		Tx: &Tx{Conn: &conn, staging: true},
		Schema: &Schema{
			Existing:    map[string]bool{},
			PGVector:    s.PGVector,
			Types:       s.Types,
			typesSchema: s.typesSchema,
			tables:      s.tables,
		},
	}
	if err := staging.Tx.chooseStagingSchema(ctx, staging.Schema); err != nil {
		return Loader{}, err
	}
	if staging.Schema.Created {
		staging.Tx.persistence = "UNLOGGED "
		t.hasUnlogged = true
	}
	for i := range s.tables {
		table := &s.tables[i]
		if err := t.Run(ctx, staging.Tx.createTable(table, staging.Schema)); err != nil {
			return Loader{}, t.WrapError(fmt.Sprintf("create staging table %q", table.Name), err)
		}
	}
	return staging, staging.Tx.createOriginals(ctx, staging.Schema)
}

// narrowColumns selects the integer columns of a schema, as table.column.
const narrowColumns = `SELECT relname || '.' || attname FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relkind = 'r'
	AND atttypid = 'int4'::regtype AND attnum > 0 AND NOT attisdropped`

// EmptyStaging empties the tables that CreateStaging created, and makes columns bigint that
// are it in the target now, so that the tables can be used again. The server keeps the locks
// of dropped tables until the end of the transaction, and has room for a limited number.
func (l Loader) EmptyStaging(ctx context.Context) error {
	names := []string{l.Tx.Name(mapping.Originals.Name)}
	for _, table := range l.Schema.tables {
		names = append(names, l.Tx.Name(table.Name))
	}
	if err := l.Tx.Run(ctx, "TRUNCATE "+strings.Join(names, ", ")); err != nil {
		return l.Tx.WrapError("empty the staging tables", err)
	}
	narrow := map[string]bool{}
	var name string
	err := l.Tx.Each(ctx, narrowColumns, []any{l.Tx.Schema}, []any{&name}, func() { narrow[name] = true })
	if err != nil {
		return err
	}
	for _, table := range l.Schema.tables {
		for _, c := range table.Columns {
			if name := table.Name + "." + c.Name; l.Schema.Types.Wide[name] && narrow[name] {
				if err := l.Widen(ctx, &table, c.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// DropStaging drops the tables that CreateStaging created, and others with the given
// names in their schema, if they exist.
func (l Loader) DropStaging(ctx context.Context, others []string) error {
	sql := "DROP SCHEMA " + sqltext.Ident(l.Tx.Schema) + " CASCADE"
	if !l.Schema.Created { // the temporary schema stays
		names := append([]string{mapping.Originals.Name}, others...)
		for _, table := range l.Schema.tables {
			names = append(names, table.Name)
		}
		for i, name := range names {
			names[i] = l.Tx.Name(name)
		}
		sql = "DROP TABLE IF EXISTS " + strings.Join(names, ", ")
	}
	if err := l.Tx.Run(ctx, sql); err != nil {
		return l.Tx.WrapError("drop the staging tables", err)
	}
	return nil
}
