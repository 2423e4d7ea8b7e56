package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Plan says how one table of a file becomes one of Flujo's PostgreSQL tables.
type Plan struct {
	Table *Table
	// InFile reports whether the file has the table; without it there is
	// nothing to read and the table stays empty.
	InFile bool
	// Target are the PostgreSQL columns that are filled, in the order of the
	// tuple. Columns that the file does not have keep their default.
	Target []Column
	// Homeless are the file's columns that Flujo's PostgreSQL table has no
	// place for, in the file's order.
	Homeless []string
	key      int // position of the primary key among Target; -1 without one
}

// Source gives the columns to read from the file, in the order that
// AppendTuple takes them: the target columns, then the homeless ones.
func (p *Plan) Source() []string {
	names := make([]string, 0, len(p.Target)+len(p.Homeless))
	for _, c := range p.Target {
		names = append(names, c.Name)
	}
	return append(names, p.Homeless...)
}

// Layout is what is in a file, as far as this program is concerned.
type Layout struct {
	Plans  []Plan   // one for each of Tables, in that order
	Others []string // tables of the file that are not Flujo's, sorted
}

// Plan gives the plan of the named table.
func (l *Layout) Plan(table string) *Plan {
	for i := range l.Plans {
		if l.Plans[i].Table.Name == table {
			return &l.Plans[i]
		}
	}
	return nil
}

// ErrNotFlujo is returned by Detect for a database without any of Flujo's
// tables.
var ErrNotFlujo = errors.New("none of Flujo's tables is in it")

// LayoutError is returned by Detect for a file whose tables lack columns that
// PostgreSQL requires.
type LayoutError struct {
	Missing []string // as table.column
}

func (e *LayoutError) Error() string {
	return fmt.Sprintf("it is not laid out as Flujo 0.6 lays it out: no column %s", strings.Join(e.Missing, ", "))
}

// Detect decides from the columns that are there, per table, how a file is
// laid out. It returns ErrNotFlujo or a *LayoutError where it cannot be moved.
func Detect(columns map[string][]string) (*Layout, error) {
	layout := &Layout{Plans: make([]Plan, 0, len(Tables))}
	var missing []string
	found := 0
	for i := range Tables {
		t := &Tables[i]
		have, ok := columns[t.Name]
		plan := Plan{Table: t, InFile: ok, key: -1}
		if ok {
			found++
		}
		for _, c := range t.Columns {
			switch {
			case !ok || slices.Contains(have, c.Name):
				if c.Name == t.PrimaryKey {
					plan.key = len(plan.Target)
				}
				plan.Target = append(plan.Target, c)
			case c.NotNull && c.Default == "":
				missing = append(missing, t.Name+"."+c.Name)
			}
		}
		for _, name := range have {
			if !slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Name == name }) {
				plan.Homeless = append(plan.Homeless, name)
			}
		}
		layout.Plans = append(layout.Plans, plan)
	}
	if found == 0 {
		return nil, ErrNotFlujo
	}
	if len(missing) > 0 {
		return nil, &LayoutError{Missing: missing}
	}
	for name := range columns {
		if layout.Plan(name) == nil {
			layout.Others = append(layout.Others, name)
		}
	}
	slices.Sort(layout.Others)
	return layout, nil
}
