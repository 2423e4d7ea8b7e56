package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// TableMapping says how one table of a file becomes one of Flujo's PostgreSQL tables.
type TableMapping struct {
	Table *Table
	// InFile reports whether the file has the table; without it there is
	// nothing to read and the table stays empty.
	InFile bool
	// Columns are the file's columns, in its order. A row to convert holds
	// them after its rowid: column i is row[i+1].
	Columns []string
	// Fields are the table's columns, in their order. Those that the file does
	// not have get Flujo's default.
	Fields []Field
	// unmapped are the positions in a row of columns that Flujo's PostgreSQL
	// table does not have.
	unmapped []int
	key      int // position in a row of the primary key; -1 without one
}

// Field says how one column is filled.
type Field struct {
	Column
	// from is the position in a row; absent without one.
	from int
	// value is what the column gets when from is absent.
	value Value
	// fallbacks are the positions in a row of what tells the time when the
	// column itself does not.
	fallbacks []int
	indexed   bool // a btree index is on it
	reference bool // it holds another table's key
}

// Position gives the position in a row that fills the column; 0 where none does but
// the rowid or a default.
func (f *Field) Position() int { return max(f.from, 0) }

const absent = -1

// rowID is the position in a row of SQLite's rowid.
const rowID = 0

// KeyColumn gives the file's column that holds the primary key; "" where the
// rowid does, or nothing.
func (p *TableMapping) KeyColumn() string {
	if p.key <= rowID {
		return ""
	}
	return p.Columns[p.key-1]
}

// filledFrom gives the PostgreSQL column that gets what is at the position in a
// row; "" for none.
func (p *TableMapping) filledFrom(at int) string {
	for _, f := range p.Fields {
		if f.from == at {
			return f.Name
		}
	}
	return ""
}

// Format is what is in a file, as far as this program is concerned.
type Format struct {
	Name        string         // names the versions of Flujo that write it, such as "Flujo 0.6"
	Mappings    []TableMapping // one for each of Tables, in that order
	OtherTables []string       // tables of the file that are not Flujo's, sorted
}

// Mapping returns the mapping of the named table.
func (l *Format) Mapping(table string) *TableMapping {
	for i := range l.Mappings {
		if l.Mappings[i].Table.Name == table {
			return &l.Mappings[i]
		}
	}
	return nil
}

// ErrNotFlujo is returned by Detect for a database without any of Flujo's
// tables.
var ErrNotFlujo = errors.New("none of Flujo's tables is in it")

// FormatError is returned by Detect for a file whose tables lack columns that
// PostgreSQL requires and nothing else stands for.
type FormatError struct {
	Missing []string // as table.column
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("its tables are in no file format of Flujo's: no column %s", strings.Join(e.Missing, ", "))
}

// olderColumn says what stands for a column in the files of Flujo 0.4.
type olderColumn struct {
	column       string
	keepOriginal bool // it means more than the column it stands for: kept as an original too
}

// columns04 is how the columns of 0.4 (0.4.33 to 0.4.35) correspond to those
// of 0.6; the key is table.column.
var columns04 = map[string]olderColumn{
	"runs.created_at":         {column: "start_time"},
	"runs.updated_at":         {column: "end_time", keepOriginal: true},
	"steps.created_at":        {column: "start_time"},
	"steps.execution_time_ms": {column: "duration_ms"},
	"steps.cost_usd":          {column: "cost"},
	"steps.token_counts":      {column: "tokens"},
	"steps.output":            {column: "output_blob"},
}

// constants are the values that Flujo 0.6 gives rows of 0.4 when it opens
// their file.
var constants = map[string]Value{"runs.pipeline_id": TextValue("unknown")}

// defaults are the values of columns that the file does not have, by their
// default in PostgreSQL. The time of the load, which now() would be, says
// nothing of such a row.
var defaults = map[string]Value{"0": IntegerValue(0), "false": IntegerValue(0)}

// columnFallbacks are columns of the same row that tell a time, by table.column,
// best first.
var columnFallbacks = map[string][]string{
	"runs.created_at":  {"start_time"},
	"runs.updated_at":  {"end_time"},
	"steps.created_at": {"start_time", "end_time"},
	"spans.created_at": {"end_time", "start_time"},
}

// DetectFormat decides from the columns that are there, per table, which format a file
// has; user_version says less, since Flujo 0.6 sets it on files of 0.4.
// It returns ErrNotFlujo or a *FormatError where the file cannot be moved.
func DetectFormat(columns map[string][]string) (*Format, error) {
	format := &Format{Mappings: make([]TableMapping, 0, len(Tables))}
	var missing []string
	found := 0
	for i := range Tables {
		have, ok := columns[Tables[i].Name]
		if ok {
			found++
		}
		tm, lacks := newTableMapping(&Tables[i], have, ok)
		format.Mappings = append(format.Mappings, tm)
		missing = append(missing, lacks...)
	}
	if found == 0 {
		return nil, ErrNotFlujo
	}
	if len(missing) > 0 {
		return nil, &FormatError{Missing: missing}
	}
	for name := range columns {
		if format.Mapping(name) == nil {
			format.OtherTables = append(format.OtherTables, name)
		}
	}
	slices.Sort(format.OtherTables)
	format.Name = formatName(columns)
	return format, nil
}

// FullMapping is the mapping for rows of a table that are not in the file: all of
// the table's columns, in their order.
func FullMapping(table string) *TableMapping {
	for i := range Tables {
		if Tables[i].Name == table {
			p, _ := newTableMapping(&Tables[i], nil, false)
			return &p
		}
	}
	return nil
}

// Position gives where in a row the named column of the file is; -1 when there
// is none.
func (p *TableMapping) Position(column string) int {
	if i := slices.Index(p.Columns, column); i >= 0 {
		return i + 1
	}
	return absent
}

// formatName names the versions of Flujo that write a file format.
func formatName(columns map[string][]string) string {
	_, hasRuns := columns[Runs]
	oldSteps := slices.Contains(columns["steps"], "step_run_id")
	oldRuns := slices.Contains(columns[Runs], "start_time")
	switch {
	case !hasRuns && !slices.Contains(columns["workflow_state"], "step_history") && columns["workflow_state"] != nil:
		return "Flujo 0.4.29 to 0.4.32"
	case (oldSteps || oldRuns) && slices.Contains(columns[Runs], "created_at"):
		return "Flujo 0.4, opened by 0.6"
	case oldSteps || oldRuns:
		return "Flujo 0.4.33 to 0.4.35"
	}
	return "Flujo 0.6"
}

// newTableMapping makes the mapping of a table that has the given columns, and names what
// it lacks.
func newTableMapping(t *Table, have []string, inFile bool) (TableMapping, []string) {
	p := TableMapping{Table: t, InFile: inFile, Columns: have, key: absent}
	if !inFile { // nothing is read; what is derived comes with all columns
		for _, c := range t.Columns {
			p.Columns = append(p.Columns, c.Name)
		}
		have = p.Columns
	}
	used := map[int]bool{}
	at := func(name string) int {
		if i := slices.Index(have, name); i >= 0 {
			return i + 1
		}
		return absent
	}
	var missing []string
	for _, c := range t.Columns {
		name := t.Name + "." + c.Name
		f := Field{Column: c, from: at(c.Name), value: constants[name],
			reference: c.Name == "run_id" && t.ChildOf != "", indexed: t.indexed(c.Name)}
		if f.from != absent {
			used[f.from] = true
		} else if old, ok := columns04[name]; ok && at(old.column) != absent {
			f.from = at(old.column)
			used[f.from] = !old.keepOriginal
		}
		for _, w := range columnFallbacks[name] {
			if i := at(w); i != absent && i != f.from {
				f.fallbacks = append(f.fallbacks, i)
			}
		}
		if f.from == absent && c.Serial {
			f.from = rowID
		}
		switch {
		case f.from != absent, f.value.Class != Null, c.NotNull && c.Kind == KindTime:
		case !c.NotNull || c.Default != "":
			f.value = defaults[c.Default]
		default:
			missing = append(missing, name)
			continue
		}
		if c.Name == t.PrimaryKey {
			p.key = f.from
		}
		p.Fields = append(p.Fields, f)
	}
	for i := range have {
		if !used[i+1] {
			p.unmapped = append(p.unmapped, i+1)
		}
	}
	return p, missing
}

// indexed reports whether Flujo has a btree index on a text column, which
// limits its length.
func (t *Table) indexed(column string) bool {
	return column == t.PrimaryKey || slices.ContainsFunc(t.Indexes, func(i Index) bool {
		return i.Column == column && i.Method == "btree"
	})
}
