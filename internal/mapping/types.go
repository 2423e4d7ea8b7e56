package mapping

import (
	"cmp"
	"fmt"
	"maps"
)

// Types are the PostgreSQL types of the columns whose type depends on the state file
// or on an existing table.
type Types struct {
	// Wide contains the integer columns that are bigint, by table.column.
	Wide map[string]bool
	// Double contains the float4 columns that are double precision, by table.column.
	Double map[string]bool
	// VectorSize is the dimension of a memory's vector. It is 0 if the state file
	// has no vectors: then an existing column is used as it is, and a new one has
	// Flujo's own dimension.
	VectorSize int
}

// NewTypes returns the types that Flujo declares. With exactFloats, float4 columns
// are double precision.
func NewTypes(exactFloats bool) *Types {
	t := &Types{Wide: map[string]bool{}, Double: map[string]bool{}}
	for _, table := range Tables {
		for _, c := range table.Columns {
			if exactFloats && c.Kind == KindFloat4 {
				t.Double[table.Name+"."+c.Name] = true
			}
		}
	}
	return t
}

// Of returns a column's type as format_type() prints it. A vector's type does not
// include the extension's schema.
func (t *Types) Of(table string, c Column) string {
	name := table + "." + c.Name
	switch {
	case c.Kind == KindInt && t.Wide[name]:
		return "bigint"
	case c.Kind == KindFloat4 && t.Double[name]:
		return KindFloat8.Type()
	case c.Kind == KindVector:
		return fmt.Sprintf("vector(%d)", cmp.Or(t.VectorSize, VectorSize))
	}
	return c.Kind.Type()
}

// Clone returns a copy that does not share maps with t.
func (t *Types) Clone() *Types {
	return &Types{Wide: maps.Clone(t.Wide), Double: maps.Clone(t.Double), VectorSize: t.VectorSize}
}
