package postgres

import (
	"context"
	"fmt"

	"flujo-port/internal/mapping"
)

// HasTable reports whether the schema has a relation of that name. It is an error if the role may not use the schema.
// The catalog is read too: to_regclass asks the session's cache, which after a wait for a lock may not know yet what
// the holder of the lock has created.
func (c *Conn) HasTable(ctx context.Context, name string) (exists bool, err error) {
	err = c.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL OR EXISTS (
		SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $2 AND c.relname = $3)`, c.Name(name), c.Schema, name).Scan(&exists)
	if err != nil {
		return false, c.WrapError(fmt.Sprintf("look up table %q", name), err)
	}
	return exists, nil
}

// Sequence returns the quoted name of the sequence of a table's serial column, or
// "" if it has none.
func (c *Conn) Sequence(ctx context.Context, table *mapping.Table) (name string, err error) {
	err = c.QueryRow(ctx, "SELECT coalesce(pg_get_serial_sequence($1, $2), '')", c.Name(table.Name), table.Serial()).
		Scan(&name)
	if err != nil {
		return "", c.WrapError(fmt.Sprintf("find the sequence of table %q", table.Name), err)
	}
	return name, nil
}

// LastAllocated returns the last allocated id of the sequence of a table's serial
// column; 0 if it has not allocated one. known is false if there is no sequence or
// the role may not read it.
func (c *Conn) LastAllocated(ctx context.Context, table *mapping.Table) (id int64, known bool, err error) {
	sequence, err := c.Sequence(ctx, table)
	if err != nil || sequence == "" {
		return 0, false, err
	}
	step := fmt.Sprintf("read the sequence of table %q", table.Name)
	if err := c.QueryRow(ctx, "SELECT has_sequence_privilege($1, 'SELECT')", sequence).Scan(&known); err != nil {
		return 0, false, c.WrapError(step, err)
	}
	if !known {
		return 0, false, nil
	}
	query := "SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM " + sequence
	if err := c.QueryRow(ctx, query).Scan(&id); err != nil {
		return 0, false, c.WrapError(step, err)
	}
	return id, true, nil
}
