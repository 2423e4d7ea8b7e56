package sink

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
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
		return t.makeSchema(ctx, s)
	}
	return t.useTemporarySchema(ctx)
}

// useTemporarySchema makes t write to the session's schema of temporary tables.
// The server creates that schema with the first temporary table.
func (t *Tx) useTemporarySchema(ctx context.Context) error {
	err := t.Run(ctx, "CREATE TEMPORARY TABLE flujo_port_check ()")
	if err == nil {
		err = t.QueryRow(ctx, "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()").Scan(&t.Schema)
	}
	if err != nil {
		return t.WrapError("create a temporary table", err)
	}
	return nil
}
