package postgres

import (
	"slices"
	"testing"

	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
)

// shapesOf returns shapes with Flujo's own types, except for the given columns, by table.column.
func shapesOf(kinds map[string]string) map[string]*TableShape {
	shapes := map[string]*TableShape{}
	for _, table := range mapping.Tables {
		shape := &TableShape{Columns: map[string]ColumnShape{}}
		for _, c := range table.Columns {
			kind, ok := kinds[table.Name+"."+c.Name]
			if !ok {
				kind = c.Kind.Type()
			}
			shape.Columns[c.Name] = ColumnShape{Kind: kind}
		}
		shapes[table.Name] = shape
	}
	return shapes
}

func TestAdoptTypes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		types  *mapping.Types
		have   map[string]string
		wide   []string // columns of Types.Wide and Double
		vector int
		narrow []string
	}{
		{"the same", mapping.NewTypes(false), nil, nil, mapping.VectorSize, nil},
		{
			"wider columns", mapping.NewTypes(false),
			map[string]string{"steps.id": "bigint", "steps.cost_usd": "double precision"},
			[]string{"steps.cost_usd", "steps.id"}, mapping.VectorSize, nil,
		},
		{
			"narrower floats", mapping.NewTypes(true),
			map[string]string{
				"steps.cost_usd": "double precision", "workflow_state.memory_usage_mb": "double precision",
			},
			[]string{"runs.memory_usage_mb", "steps.cost_usd", "workflow_state.memory_usage_mb"},
			mapping.VectorSize, []string{"runs.memory_usage_mb"},
		},
		{
			"the column's dimension", mapping.NewTypes(false), map[string]string{"memories.vector": "public.vector(3)"},
			nil, 3, nil,
		},
		{
			"the file's dimension", &mapping.Types{
				Wide: map[string]bool{}, Double: map[string]bool{}, VectorSize: 4,
			},
			map[string]string{"memories.vector": "public.vector(3)"}, nil, 4, []string{"memories.vector"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			narrow, err := AdoptTypes(tc.types, mapping.Tables, shapesOf(tc.have))
			if err != nil {
				t.Fatal(err)
			}
			var columns, wide []string
			for _, n := range narrow {
				columns = append(columns, n.Table+"."+n.Column.Name)
			}
			for _, set := range []map[string]bool{tc.types.Wide, tc.types.Double} {
				for column := range set {
					wide = append(wide, column)
				}
			}
			slices.Sort(wide)
			if !slices.Equal(columns, tc.narrow) || !slices.Equal(wide, tc.wide) || tc.types.VectorSize != tc.vector {
				t.Errorf("got narrow columns %v, wide ones %v and vectors of %d, want %v, %v and %d",
					columns, wide, tc.types.VectorSize, tc.narrow, tc.wide, tc.vector)
			}
		})
	}
}

// TestAdoptTypesWithoutTables tests that tables that do not exist say nothing about types.
func TestAdoptTypesWithoutTables(t *testing.T) {
	t.Parallel()
	types := mapping.NewTypes(false)
	narrow, err := AdoptTypes(types, mapping.Tables, map[string]*TableShape{})
	if err != nil || narrow != nil || types.VectorSize != 0 || len(types.Wide)+len(types.Double) > 0 {
		t.Errorf("got %v, %v and the types %+v", narrow, err, types)
	}
	shapes := shapesOf(map[string]string{"memories.vector": "vector"})
	if _, err := AdoptTypes(types, mapping.Tables, shapes); err == nil {
		t.Error("a vector without a dimension is not an error")
	}
}

func TestSupportsHNSW(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"0.4.4": false, "0.5.0": true, "0.5": true, "0.10.1": true, "1.0.0": true, "": false, "x": false, "1": false,
	} {
		if got := SupportsHNSW(version); got != want {
			t.Errorf("%q: got %t", version, got)
		}
	}
}

func TestPGVector(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	conn := open(t, url)
	if version, in, err := conn.PGVector(background); version != "" || in != "" || err != nil {
		t.Errorf("before it is created: got %q in %q, %v", version, in, err)
	}
	run(t, conn.Conn, "CREATE SCHEMA vectors; CREATE EXTENSION vector SCHEMA vectors")
	version, in, err := conn.PGVector(background)
	if !SupportsHNSW(version) || in != "vectors" || err != nil {
		t.Errorf("got %q in %q, %v", version, in, err)
	}
}
