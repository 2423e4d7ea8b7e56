package sink

import (
	"context"
	"fmt"
	"math"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// LastID returns the highest id in a table with a serial column, or 0 if there
// is none above 0.
func (t *Tx) LastID(ctx context.Context, table *mapping.Table) (id int64, err error) {
	query := fmt.Sprintf(
		"SELECT greatest(max(%s), 0)::bigint FROM %s",
		sqltext.Ident(table.Serial()),
		t.Name(table.Name),
	)
	if err := t.QueryRow(ctx, query).Scan(&id); err != nil {
		return 0, t.WrapError(fmt.Sprintf("find the highest id of table %q", table.Name), err)
	}
	return id, nil
}

// SetSequence sets the next id of a table's serial column. If probe is set, it
// also checks, with a row that it rolls back, that Flujo's next insert gets
// this id.
//
// If the role owns the sequence, all of this is part of the transaction: ALTER
// SEQUENCE RESTART, unlike setval, is rolled back. The sequence of another
// owner can be set only outside of the transaction. Then SetSequence defers the
// work until right before COMMIT and tried is false, so a dry run does not
// change the sequence.
func (t *Tx) SetSequence(ctx context.Context, table *mapping.Table, next int64, probe bool) (tried bool, err error) {
	step := fmt.Sprintf("set the sequence of table %q", table.Name)
	var sequence string
	var isOwner, canUpdate bool
	err = t.QueryRow(ctx, `SELECT coalesce(name, ''), coalesce(pg_has_role(relowner, 'USAGE'), false),
			coalesce(has_sequence_privilege(oid, 'UPDATE'), false)
		FROM pg_get_serial_sequence($1, $2) name LEFT JOIN pg_class ON oid = name::regclass`,
		t.Name(table.Name), table.Serial()).Scan(&sequence, &isOwner, &canUpdate)
	if err != nil {
		return false, t.WrapError(step, err)
	}
	if sequence == "" {
		return false, t.noSequence(table)
	}
	as := ""
	if next > math.MaxInt32 { // the column is bigint, but its sequence may not be yet
		as = "AS bigint"
	}
	restart := fmt.Sprintf("ALTER SEQUENCE %s %s RESTART WITH %d", sequence, as, next)
	if !isOwner && canUpdate {
		t.last = append(t.last, func(ctx context.Context) error {
			return t.setForeignSequence(ctx, table, sequence, next, probe)
		})
		return false, nil
	}
	if err := t.Run(ctx, restart); err != nil {
		return false, t.WrapError(step, err)
	}
	if !probe {
		return false, nil
	}
	return true, t.probe(ctx, table, restart, next)
}

// setForeignSequence sets a sequence of another owner with setval, which a
// rollback does not undo.
func (t *Tx) setForeignSequence(
	ctx context.Context,
	table *mapping.Table,
	sequence string,
	next int64,
	probe bool,
) error {
	set := fmt.Sprintf("SELECT setval(%s, %d, false)", sqltext.Literal(sequence), next)
	step := fmt.Sprintf("set the sequence of table %q", table.Name)
	if err := t.Run(ctx, set); err != nil {
		return t.WrapError(step, err)
	}
	if !probe {
		return nil
	}
	if err := t.probe(ctx, table, "", next); err != nil {
		return err
	}
	if err := t.Run(ctx, set); err != nil {
		return t.WrapError(step, err)
	}
	return nil
}

// sequence returns the quoted name of the sequence of a table's serial column.
// If there is none, the error is a clierr.Refused.
func (t *Tx) sequence(ctx context.Context, table *mapping.Table) (string, error) {
	name, err := t.Sequence(ctx, table)
	if err == nil && name == "" {
		return "", t.noSequence(table)
	}
	return name, err
}

func (t *Tx) noSequence(table *mapping.Table) error {
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("column %s.%s of schema %q has no sequence", table.Name, table.Serial(), t.Schema),
		Hint:    "make it a serial column, or move the table to another schema",
	}
}
