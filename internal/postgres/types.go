package postgres

import (
	"context"
	"fmt"

	"flujo-port/internal/mapping"
)

// NarrowColumn is an existing column whose type cannot hold the values of the
// state file.
type NarrowColumn struct {
	Table  string
	Column mapping.Column
}

// AdoptTypes changes types to those of existing columns that are wider, and
// returns the columns that are narrower than types says.
func AdoptTypes(
	types *mapping.Types,
	tables []mapping.Table,
	have map[string]*TableShape,
) (narrow []NarrowColumn, err error) {
	for _, table := range tables {
		if have[table.Name] == nil {
			continue
		}
		for _, c := range table.Columns {
			name := table.Name + "." + c.Name
			got := have[table.Name].Columns[c.Name].PlainKind()
			switch {
			case c.Kind == mapping.KindVector && types.VectorSize == 0:
				if _, err := fmt.Sscanf(got, "vector(%d)", &types.VectorSize); err != nil {
					return nil, fmt.Errorf("column %s is of type %q: %w", name, got, err)
				}
			case got == types.Of(table.Name, c):
			case c.Kind == mapping.KindInt:
				types.Wide[name] = true
			case c.Kind == mapping.KindFloat4 && got == mapping.KindFloat8.Type():
				types.Double[name] = true
			default:
				narrow = append(narrow, NarrowColumn{Table: table.Name, Column: c})
			}
		}
	}
	return narrow, nil
}

// PGVector returns the version of pgvector and the schema of its types. Both
// are "" if it is not installed.
func (c *Conn) PGVector(ctx context.Context) (version, schema string, err error) {
	err = c.Each(ctx, `SELECT e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'vector'`, nil, []any{&version, &schema}, func() {})
	return version, schema, err
}

// OldestPGVector is the first version of pgvector with the HNSW index that
// Flujo's memories table has.
const OldestPGVector = "0.5"

// SupportsHNSW reports whether a version of pgvector has the HNSW index.
func SupportsHNSW(version string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return n == 2 && (major > 0 || minor >= 5)
}
