package sink

import (
	"context"
	"fmt"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
)

// narrow is a column that is there with a type that does not hold what is to
// come.
type narrow struct {
	table  string
	column mapping.Column
}

// adoptTypes takes over the wider types of columns that are there, and notes
// which ones Adapt has to alter.
func (s *Schema) adoptTypes(have map[string]*shape) error {
	for _, table := range s.tables {
		if have[table.Name] == nil {
			continue
		}
		for _, c := range table.Columns {
			name := table.Name + "." + c.Name
			got := have[table.Name].columns[c.Name].plainKind()
			switch {
			case got == s.Types.Of(table.Name, c):
			case c.Kind == mapping.KindVector && s.Types.VectorSize == 0:
				if _, err := fmt.Sscanf(got, "vector(%d)", &s.Types.VectorSize); err != nil {
					return fmt.Errorf("column %s is of type %q: %w", name, got, err)
				}
			case c.Kind == mapping.KindInt:
				s.Types.Wide[name] = true
			case c.Kind == mapping.KindFloat4 && got == mapping.KindFloat8.Type():
				s.Types.Double[name] = true
			default:
				s.narrow = append(s.narrow, narrow{table: table.Name, column: c})
			}
		}
	}
	return nil
}

// Adapt alters the columns of tables that were there, and are empty, to the
// types that were asked of Prepare.
func (t *Tx) Adapt(ctx context.Context, s *Schema) error {
	for _, n := range s.narrow {
		if err := t.alterType(ctx, s, n.table, n.column); err != nil {
			return err
		}
	}
	return nil
}

// Widen makes an integer column bigint, and its sequence with it.
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
			if err := t.exec(ctx, fmt.Sprintf("ALTER SEQUENCE %s AS bigint", sequence)); err != nil {
				return t.fault(fmt.Sprintf("make the sequence of table %q bigint", table.Name), err)
			}
		}
	}
	return nil
}

func (t *Tx) alterType(ctx context.Context, s *Schema, table string, c mapping.Column) error {
	kind := s.columnType(table, c)
	sql := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s", t.name(table), ident(c.Name), kind)
	err := t.exec(ctx, sql)
	if err == nil {
		return nil
	}
	step := fmt.Sprintf("make column %s.%s %s, which the file needs", table, c.Name, kind)
	if code(err) != insufficientPrivilege {
		return t.fault(step, err)
	}
	if c.Serial {
		sql += fmt.Sprintf("; ALTER SEQUENCE %s AS bigint", t.name(table+"_"+c.Name+"_seq"))
	}
	return &fault.Error{
		Kind: fault.Refused, What: step, Err: serverError(err), Do: fmt.Sprintf("have the table's owner run %s; then run again", sql),
	}
}

// Savepoint marks a place to which RollbackTo goes back.
func (t *Tx) Savepoint(ctx context.Context) error {
	if err := t.exec(ctx, "SAVEPOINT flujo_port"); err != nil {
		return t.fault("set a savepoint", err)
	}
	return nil
}

// RollbackTo undoes what was done since Savepoint, and forgets it.
func (t *Tx) RollbackTo(ctx context.Context) error {
	if err := t.exec(ctx, "ROLLBACK TO flujo_port; RELEASE flujo_port"); err != nil {
		return t.fault("roll back to the savepoint", err)
	}
	return nil
}

// Release forgets the savepoint and keeps what was done since.
func (t *Tx) Release(ctx context.Context) error {
	if err := t.exec(ctx, "RELEASE flujo_port"); err != nil {
		return t.fault("release the savepoint", err)
	}
	return nil
}
