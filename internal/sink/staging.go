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

// BeginStaging opens a transaction with Flujo's tables, empty, in a schema that
// nobody else has: for a trial that ends with Rollback. Where the role may not
// make schemas they are temporary tables, which are somewhat faster, since they
// need no write-ahead log. Without pgvector there is no table of memories.
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
			return t.WrapError(fmt.Sprintf("create table %q on trial", table.Name), err)
		}
	}
	return nil
}

// chooseStagingSchema makes t's schema, or where the role may not make schemas has t write
// temporary tables.
func (t *Tx) chooseStagingSchema(ctx context.Context, s *Schema) error {
	var may bool
	if err := t.QueryRow(ctx, "SELECT has_database_privilege(current_database(), 'CREATE')").Scan(&may); err != nil {
		return t.WrapError("ask for rights", err)
	}
	if may {
		return t.makeSchema(ctx, s)
	}
	return t.useTemporarySchema(ctx)
}

// useTemporarySchema makes the session's own schema of temporary tables the one that
// is written to. It comes into being with the first of them.
func (t *Tx) useTemporarySchema(ctx context.Context) error {
	err := t.Run(ctx, "CREATE TEMPORARY TABLE flujo_port_check ()")
	if err == nil {
		err = t.QueryRow(ctx, "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()").Scan(&t.Schema)
	}
	if err != nil {
		return t.WrapError("make a temporary table on trial", err)
	}
	return nil
}
