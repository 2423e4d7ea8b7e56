package sink

import (
	"context"
	"fmt"
	"math"
	"strings"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
)

// LastID gives the highest id in a table with a serial column; 0 where there is
// none above.
func (t *Tx) LastID(ctx context.Context, table *mapping.Table) (id int64, err error) {
	query := fmt.Sprintf("SELECT greatest(max(%s), 0)::bigint FROM %s", ident(table.Serial()), t.name(table.Name))
	if err := t.conn.QueryRow(ctx, query).Scan(&id); err != nil {
		return 0, t.fault(fmt.Sprintf("find the highest id of table %q", table.Name), err)
	}
	return id, nil
}

// SetSequence makes next the next id of a table's serial column. On a sequence
// of one's own that is part of the transaction (ALTER SEQUENCE RESTART, unlike
// setval, is rolled back). Another owner's sequence can only be set outside of
// it: that is put off until right before COMMIT, so a rehearsal leaves it
// alone.
func (t *Tx) SetSequence(ctx context.Context, table *mapping.Table, next int64) error {
	step := fmt.Sprintf("set the sequence of table %q", table.Name)
	sequence, err := t.sequence(ctx, table)
	if err != nil {
		return err
	}
	var own, may bool
	err = t.conn.QueryRow(ctx, `SELECT pg_has_role(relowner, 'USAGE'), has_sequence_privilege(oid, 'UPDATE')
		FROM pg_class WHERE oid = $1::text::regclass`, sequence).Scan(&own, &may)
	if err != nil {
		return t.fault(step, err)
	}
	as := ""
	if next > math.MaxInt32 { // the column is bigint; its sequence need not be yet
		as = "AS bigint"
	}
	switch {
	case own:
		err = t.exec(ctx, fmt.Sprintf("ALTER SEQUENCE %s %s RESTART WITH %d", sequence, as, next))
	case may:
		t.last = append(t.last, fmt.Sprintf("SELECT setval('%s', %d, false)", escape(sequence), next))
	default:
		err = t.exec(ctx, fmt.Sprintf("ALTER SEQUENCE %s RESTART WITH %d", sequence, next)) // for the server's own words
	}
	if err != nil {
		return t.fault(step, err)
	}
	return nil
}

// sequence gives the quoted name of the sequence that fills a table's serial
// column.
func (t *Tx) sequence(ctx context.Context, table *mapping.Table) (name string, err error) {
	err = t.conn.QueryRow(ctx, "SELECT coalesce(pg_get_serial_sequence($1, $2), '')", t.name(table.Name), table.Serial()).Scan(&name)
	if err != nil {
		return "", t.fault(fmt.Sprintf("find the sequence of table %q", table.Name), err)
	}
	if name == "" {
		return "", t.noSequence(table)
	}
	return name, nil
}

func (t *Tx) noSequence(table *mapping.Table) error {
	return &fault.Error{
		Kind: fault.Refused,
		What: fmt.Sprintf("no sequence belongs to column %s.%s of schema %q", table.Name, table.Serial(), t.schema),
		Do:   "make it a serial column, or move the table away",
	}
}

func escape(s string) string { return strings.ReplaceAll(s, "'", "''") }
