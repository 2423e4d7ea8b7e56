package mapping

import (
	"cmp"
	"fmt"
)

// Types are the PostgreSQL types of the columns whose type depends on what is
// in the file, or on what was there before.
type Types struct {
	// Wide are the integer columns that are bigint, by table.column.
	Wide map[string]bool
	// Double are the float4 columns that are double precision, by
	// table.column.
	Double map[string]bool
	// VectorSize is the number of floats in a memory's vector; 0 when the file
	// has none to go by: then what is there stays, and Flujo's own size is made.
	VectorSize int
}

// NewTypes gives the types that Flujo declares; with exactFloats float4 columns
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

// Of gives a column's type as format_type() prints it; a vector's without the
// schema that the extension lives in.
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
