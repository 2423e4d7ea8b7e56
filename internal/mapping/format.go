package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/sqlite"
)

// TableMapping maps the columns of a state file's table to those of one of Flujo's
// PostgreSQL tables.
type TableMapping struct {
	Table *Table
	// InFile reports whether the state file has the table.
	InFile bool
	// Columns are the columns of the state file's table, in its order. A row to
	// convert has the rowid first: column i is row[i+1].
	Columns []string
	// Fields are the columns of the PostgreSQL table, in their order. Those that
	// the state file does not have get Flujo's default.
	Fields []Field
	// unmapped are the positions in a row of the unmapped columns.
	unmapped []int
	key      int // position of the primary key in a row; absent without one
}

// Field is a column of the PostgreSQL table and where its value comes from.
type Field struct {
	Column
	// from is the position of the value in a row, or absent.
	from int
	// value is the column's value if from is absent.
	value sqlite.Value
	// fallbacks are the positions in a row of the timestamp fallbacks, best first.
	fallbacks []int
	indexed   bool // the column has a btree index
	reference bool // the column refers to the key of another table
}

// Position returns the position in a row of the column's value; 0 if the value is
// the rowid or a default.
func (f *Field) Position() int { return max(f.from, 0) }

// absent is the position of a column that a row does not have.
const absent = -1

// rowID is the position of SQLite's rowid in a row.
const rowID = 0

// KeyColumn returns the state file's column that holds the primary key; "" if the
// rowid is the key, or if there is none.
func (p *TableMapping) KeyColumn() string {
	if p.key <= rowID {
		return ""
	}
	return p.Columns[p.key-1]
}

// filledFrom returns the name of the PostgreSQL column whose value is at the given
// position in a row; "" for none.
func (p *TableMapping) filledFrom(at int) string {
	for _, f := range p.Fields {
		if f.from == at {
			return f.Name
		}
	}
	return ""
}

// Format is a file format: the mappings of the state file's tables.
type Format struct {
	// Name is the versions of Flujo that write this format, such as "Flujo 0.6".
	Name        string
	Mappings    []TableMapping // one for each of Tables, in that order
	OtherTables []string       // tables of the state file that are not Flujo's, sorted
}

// Mapping returns the mapping of the named table, or nil if the table is not Flujo's.
func (l *Format) Mapping(table string) *TableMapping {
	for i := range l.Mappings {
		if l.Mappings[i].Table.Name == table {
			return &l.Mappings[i]
		}
	}
	return nil
}

// ErrNotFlujo is returned by DetectFormat for a file without any of Flujo's tables.
var ErrNotFlujo = errors.New("the file has none of Flujo's tables")

// FormatError is returned by DetectFormat for a file whose tables lack required
// columns, for which there is neither another column nor a default.
type FormatError struct {
	Missing []string // as table.column
}

func (e *FormatError) Error() string {
	missing := strings.Join(e.Missing, ", ")
	return fmt.Sprintf("the file's tables have no known Flujo file format; missing columns: %s", missing)
}

// olderColumn is the column of a file of Flujo 0.4 that corresponds to a column of
// Flujo 0.6.
type olderColumn struct {
	column       string
	keepOriginal bool // the meanings differ, so the value is also stored as an original value
}

// columns04 maps columns of Flujo 0.6, as table.column, to those of 0.4.33 to 0.4.35.
var columns04 = map[string]olderColumn{
	"runs.created_at":         {column: "start_time"},
	"runs.updated_at":         {column: "end_time", keepOriginal: true},
	"steps.created_at":        {column: "start_time"},
	"steps.execution_time_ms": {column: "duration_ms"},
	"steps.cost_usd":          {column: "cost"},
	"steps.token_counts":      {column: "tokens"},
	"steps.output":            {column: "output_blob"},
}

// constants are the values that Flujo 0.6 sets in rows of 0.4 when it opens their
// file.
var constants = map[string]sqlite.Value{"runs.pipeline_id": sqlite.TextValue("unknown")}

// defaults are the values of columns that the state file does not have, by their
// default in PostgreSQL. now() is not among them: the time of the load would be
// wrong for such a row.
var defaults = map[string]sqlite.Value{"0": sqlite.IntegerValue(0), "false": sqlite.IntegerValue(0)}

// columnFallbacks are the timestamp fallbacks in the same row, by table.column, best
// first.
var columnFallbacks = map[string][]string{
	"runs.created_at":  {"start_time"},
	"runs.updated_at":  {"end_time"},
	"steps.created_at": {"start_time", "end_time"},
	"spans.created_at": {"end_time", "start_time"},
}

// DetectFormat returns the file format of a state file with the given columns, by
// table. It does not use user_version, which Flujo 0.6 also sets on files of 0.4.
// If the file cannot be migrated, the error is ErrNotFlujo or a *FormatError.
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

// FullMapping returns the mapping for rows of a table that are not stored in the
// state file: it has all of the table's columns, in their order. It returns nil if
// the table is not Flujo's.
func FullMapping(table string) *TableMapping {
	for i := range Tables {
		if Tables[i].Name == table {
			p, _ := newTableMapping(&Tables[i], nil, false)
			return &p
		}
	}
	return nil
}

// Position returns the position in a row of the named column of the state file, or
// -1 if there is none.
func (p *TableMapping) Position(column string) int {
	if i := slices.Index(p.Columns, column); i >= 0 {
		return i + 1
	}
	return absent
}

// formatName returns the versions of Flujo that write tables with these columns.
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

// newTableMapping returns the mapping of a table that has the given columns in the
// state file, and the required columns that it lacks.
func newTableMapping(t *Table, have []string, inFile bool) (TableMapping, []string) {
	p := TableMapping{Table: t, InFile: inFile, Columns: have, key: absent}
	if !inFile { // no rows are read, and derived rows have all columns
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
		case f.from != absent, f.value.Class != sqlite.Null, c.NotNull && c.Kind == KindTime:
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

// indexed reports whether Flujo has a btree index on the column, which limits the
// length of a text.
func (t *Table) indexed(column string) bool {
	return column == t.PrimaryKey || slices.ContainsFunc(t.Indexes, func(i Index) bool {
		return i.Column == column && i.Method == "btree"
	})
}
