package sink

import (
	"context"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// Adapt alters the narrower columns that Prepare found to the types that it was
// passed. Their tables must be empty.
func (t *Tx) Adapt(ctx context.Context, s *Schema) error {
	for _, n := range s.narrow {
		if err := t.alterType(ctx, s, n.Table, n.Column); err != nil {
			return err
		}
	}
	return nil
}

// Widen makes an integer column bigint, and its sequence too.
func (t *Tx) Widen(ctx context.Context, s *Schema, table *mapping.Table, column string) error {
	s.Types.Wide[table.Name+"."+column] = true
	for _, c := range table.Columns {
		if c.Name != column {
			continue
		}
		if err := t.alterType(ctx, s, table.Name, c); err != nil {
			return err
		}
		if c.Serial {
			sequence, err := t.sequence(ctx, table)
			if err != nil {
				return err
			}
			if err := t.Run(ctx, fmt.Sprintf("ALTER SEQUENCE %s AS bigint", sequence)); err != nil {
				return t.WrapError(fmt.Sprintf("change the sequence of table %q to bigint", table.Name), err)
			}
		}
	}
	return nil
}

func (t *Tx) alterType(ctx context.Context, s *Schema, table string, c mapping.Column) error {
	kind := s.columnType(table, c)
	sql := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s", t.Name(table), sqltext.Ident(c.Name), kind)
	err := t.Run(ctx, sql)
	if err == nil {
		return nil
	}
	step := fmt.Sprintf("change column %s.%s to %s, which the state file needs", table, c.Name, kind)
	if postgres.Code(err) == postgres.NotSupported {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: step,
			Err:     postgres.ServerError(err),
			Hint:    "drop the views and policies that use the column, run again, then create them again",
		}
	}
	if postgres.Code(err) != postgres.InsufficientPrivilege {
		return t.WrapError(step, err)
	}
	if c.Serial {
		sql += fmt.Sprintf("; ALTER SEQUENCE %s AS bigint", t.Name(table+"_"+c.Name+"_seq"))
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: step,
		Err:     postgres.ServerError(err),
		Hint:    fmt.Sprintf("have the table's owner run %s; then run again", sql),
	}
}
