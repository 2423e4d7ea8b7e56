package sink

import (
	"context"
	"fmt"
	"math"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
)

// LastID gives the highest id in a table with a serial column; 0 where there is
// none above.
func (t *Tx) LastID(ctx context.Context, table *mapping.Table) (id int64, err error) {
	query := fmt.Sprintf(
		"SELECT greatest(max(%s), 0)::bigint FROM %s",
		postgres.Ident(table.Serial()),
		t.Name(table.Name),
	)
	if err := t.QueryRow(ctx, query).Scan(&id); err != nil {
		return 0, t.WrapError(fmt.Sprintf("find the highest id of table %q", table.Name), err)
	}
	return id, nil
}

// SetSequence makes next the next id of a table's serial column and, with
// probe, sees by a row that it undoes that Flujo's next insert gets it. On a
// sequence of one's own all of that is part of the transaction (ALTER SEQUENCE
// RESTART, unlike setval, is rolled back). Another owner's sequence can only be
// set outside of it: that is put off until right before COMMIT, and tried says
// false, so a dry run leaves it alone.
func (t *Tx) SetSequence(ctx context.Context, table *mapping.Table, next int64, probe bool) (tried bool, err error) {
	step := fmt.Sprintf("set the sequence of table %q", table.Name)
	sequence, err := t.sequence(ctx, table)
	if err != nil {
		return false, err
	}
	var own, may bool
	err = t.QueryRow(ctx, `SELECT pg_has_role(relowner, 'USAGE'), has_sequence_privilege(oid, 'UPDATE')
		FROM pg_class WHERE oid = $1::text::regclass`, sequence).Scan(&own, &may)
	if err != nil {
		return false, t.WrapError(step, err)
	}
	as := ""
	if next > math.MaxInt32 { // the column is bigint; its sequence need not be yet
		as = "AS bigint"
	}
	restart := fmt.Sprintf("ALTER SEQUENCE %s %s RESTART WITH %d", sequence, as, next)
	if !own && may {
		t.last = append(
			t.last,
			func(ctx context.Context) error { return t.setOthers(ctx, table, sequence, next, probe) },
		)
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

// setOthers sets another owner's sequence, which no rollback undoes.
func (t *Tx) setOthers(ctx context.Context, table *mapping.Table, sequence string, next int64, probe bool) error {
	set := fmt.Sprintf("SELECT setval('%s', %d, false)", escape(sequence), next)
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

// sequence gives the quoted name of the sequence that fills a table's serial
// column.
func (t *Tx) sequence(ctx context.Context, table *mapping.Table) (name string, err error) {
	err = t.QueryRow(ctx, "SELECT coalesce(pg_get_serial_sequence($1, $2), '')", t.Name(table.Name), table.Serial()).
		Scan(&name)
	if err != nil {
		return "", t.WrapError(fmt.Sprintf("find the sequence of table %q", table.Name), err)
	}
	if name == "" {
		return "", t.noSequence(table)
	}
	return name, nil
}

func (t *Tx) noSequence(table *mapping.Table) error {
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("no sequence belongs to column %s.%s of schema %q", table.Name, table.Serial(), t.Schema),
		Hint:    "make it a serial column, or move the table away",
	}
}

func escape(s string) string { return strings.ReplaceAll(s, "'", "''") }
