package mapping

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"
)

// format06 returns the columns of a file that Flujo 0.6.11 created, as in
// testdata/flujo_state.db. The table memories exists only after it was used.
func format06() map[string][]string {
	columns := map[string]string{
		"workflow_state": "run_id pipeline_id pipeline_name pipeline_version current_step_index pipeline_context " +
			"last_step_output step_history status created_at updated_at total_steps error_message execution_time_ms " +
			"memory_usage_mb metadata is_background_task parent_run_id task_id background_error",
		"runs": "run_id pipeline_id pipeline_name pipeline_version status created_at updated_at execution_time_ms " +
			"memory_usage_mb total_steps error_message end_time total_cost final_context_blob",
		"system_state": "key value updated_at",
		"steps": "id run_id step_name step_index status output raw_response cost_usd token_counts execution_time_ms " +
			"created_at",
		"traces":      "run_id trace_data created_at",
		"spans":       "id run_id span_id parent_span_id name start_time end_time status attributes created_at",
		"evaluations": "id run_id step_name score feedback metadata created_at",
	}
	split := map[string][]string{}
	for table, names := range columns {
		split[table] = strings.Fields(names)
	}
	return split
}

func names(columns []Column) []string {
	var all []string
	for _, c := range columns {
		all = append(all, c.Name)
	}
	return all
}

// filled returns the columns that a mapping fills from the file. It checks that the
// fields are the table's columns, and that the others have Flujo's default.
func filled(t testing.TB, p *TableMapping) (all []string) {
	t.Helper()
	for i, f := range p.Fields {
		if !reflect.DeepEqual(f.Column, p.Table.Columns[i]) {
			t.Fatalf("field %d of %s is %s", i, p.Table.Name, f.Name)
		}
		required := f.NotNull && (f.Default == "" || f.Kind == KindTime)
		if f.from != absent || required {
			all = append(all, f.Name)
			continue
		}
		want := sqlite.Value{}
		if f.Name == "total_steps" || f.Name == "is_background_task" {
			want = integer(0)
		}
		if !reflect.DeepEqual(f.value, want) {
			t.Errorf("%s.%s gets %s", p.Table.Name, f.Name, f.value)
		}
	}
	if len(p.Fields) != len(p.Table.Columns) {
		t.Fatalf("%d fields of %d columns", len(p.Fields), len(p.Table.Columns))
	}
	return all
}

func TestDetect06(t *testing.T) {
	t.Parallel()
	format, err := DetectFormat(format06())
	if err != nil {
		t.Fatal(err)
	}
	if len(format.Mappings) != len(Tables) || len(format.OtherTables) != 0 {
		t.Fatalf("%d mappings, others %q", len(format.Mappings), format.OtherTables)
	}
	for i := range format.Mappings {
		tm := &format.Mappings[i]
		if tm.Table != &Tables[i] {
			t.Errorf("mapping %d is of %s", i, tm.Table.Name)
		}
		if tm.InFile != (tm.Table.Name != Memories) {
			t.Errorf("%s: InFile is %v", tm.Table.Name, tm.InFile)
		}
		if got := filled(t, tm); !slices.Equal(got, names(tm.Table.Columns)) {
			t.Errorf("%s is filled in %q", tm.Table.Name, got)
		}
		var unmapped []string
		if tm.Table.Name == Runs {
			unmapped = []string{"end_time", "total_cost", "final_context_blob"}
		}
		if got := unmappedOf(t, tm); !slices.Equal(got, unmapped) {
			t.Errorf("%s: unmapped %q", tm.Table.Name, got)
		}
		if want := append(names(tm.Table.Columns), unmapped...); !slices.Equal(tm.Columns, want) {
			t.Errorf("%s is read by %q", tm.Table.Name, tm.Columns)
		}
	}
}

func TestDetectKeys(t *testing.T) {
	t.Parallel()
	columns := format06()
	for _, have := range columns {
		slices.Reverse(have) // the file's order has no say
	}
	format, err := DetectFormat(columns)
	if err != nil {
		t.Fatal(err)
	}
	for i := range format.Mappings {
		p := &format.Mappings[i]
		row := make([]sqlite.Value, len(p.Columns)+1)
		row[slices.Index(p.Columns, p.Table.PrimaryKey)+1] = text("the key")
		if got := newConverter(t, p).Key(row); got != "the key" {
			t.Errorf("%s: the key is %q", p.Table.Name, got)
		}
		if p.KeyColumn() != p.Table.PrimaryKey {
			t.Errorf("%s: the key is in column %q", p.Table.Name, p.KeyColumn())
		}
		for n, column := range p.Columns {
			if p.Position(column) != n+1 {
				t.Errorf("%s.%s is at %d", p.Table.Name, column, p.Position(column))
			}
		}
		if p.Position("zebra") != -1 || p.Position("") != -1 {
			t.Errorf("%s has a column that it has not", p.Table.Name)
		}
	}
}

func TestDetectSevenColumns(t *testing.T) {
	t.Parallel()
	first := strings.Fields("run_id pipeline_id pipeline_name pipeline_version status created_at updated_at")
	format, err := DetectFormat(map[string][]string{"runs": first})
	if err != nil {
		t.Fatal(err)
	}
	tm := format.Mapping(Runs)
	if !tm.InFile || !slices.Equal(filled(t, tm), first) || !slices.Equal(tm.Columns, first) {
		t.Errorf("runs is read by %q", tm.Columns)
	}
	row := make([]sqlite.Value, len(first)+1)
	for i := range row {
		row[i] = text("2026-01-05")
	}
	if fields := appendRow(t, newConverter(t, tm), row...); len(fields) != len(tm.Table.Columns) {
		t.Errorf("a tuple of %d fields", len(fields))
	}
	for _, table := range []string{"steps", "spans", Traces, Memories} {
		if format.Mapping(table).InFile {
			t.Errorf("%s is said to be in the file", table)
		}
	}
	if format.Name != "Flujo 0.6" {
		t.Errorf("it is said to be of %s", format.Name)
	}
}

func TestDetectFormats(t *testing.T) {
	t.Parallel()
	drop := func(table, column string) func(map[string][]string) {
		return func(m map[string][]string) {
			m[table] = slices.DeleteFunc(m[table], func(c string) bool { return c == column })
		}
	}
	for name, tc := range map[string]struct {
		change  func(map[string][]string)
		missing []string
		others  []string
	}{
		"missing tables": {change: func(m map[string][]string) { delete(m, "spans"); delete(m, "runs") }},
		"unknown tables": {
			change: func(m map[string][]string) {
				m["zebra"], m["Audit log"], m["sqlean_define"] = []string{"x"}, nil, []string{"y"}
			},
			others: []string{"Audit log", "sqlean_define", "zebra"},
		},
		"Flujo's own record in SQLite": {change: func(m map[string][]string) { m[Versions] = []string{"version"} },
			others: []string{Versions}},
		"column that may be NULL missing": {change: drop("steps", "raw_response")},
		"column with a default missing":   {change: drop("evaluations", "created_at")},
		"column that is required missing": {change: drop("steps", "step_name"), missing: []string{"steps.step_name"}},
		"time that is required missing":   {change: drop("steps", "created_at")}, // it is inferred
		"key missing":                     {change: drop("system_state", "key"), missing: []string{"system_state.key"}},
		"serial missing":                  {change: drop("spans", "id")}, // it is the rowid
		"run's pipeline missing":          {change: drop("runs", "pipeline_id")},
		"state's pipeline missing": {change: drop("workflow_state", "pipeline_id"),
			missing: []string{"workflow_state.pipeline_id"}},
		"a table of that name, and no more": {
			change: func(m map[string][]string) { m["traces"] = []string{"x"} },
			missing: []string{
				"traces.run_id", "traces.trace_data",
			},
		},
		"0.4.35 without what nothing stands for": {
			change: func(m map[string][]string) {
				clear(m)
				m["runs"] = strings.Fields("run_id pipeline_version start_time")
				m["steps"] = strings.Fields("step_run_id run_id step_name step_index start_time")
			},
			missing: []string{"runs.pipeline_name", "runs.status", "steps.status"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			columns := format06()
			tc.change(columns)
			before := maps.Clone(columns)
			format, err := DetectFormat(columns)
			if !reflect.DeepEqual(before, columns) {
				t.Error("Detect changed what it was given")
			}
			if tc.missing != nil {
				e, ok := errors.AsType[*FormatError](err)
				if !ok || !slices.Equal(e.Missing, tc.missing) || format != nil {
					t.Fatalf("error %v, format %v", err, format)
				}
				const prefix = "the file's tables have no known Flujo file format; missing columns: "
				if want := prefix + strings.Join(tc.missing, ", "); err.Error() != want {
					t.Errorf("it says %q", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(format.OtherTables, tc.others) {
				t.Errorf("others are %q", format.OtherTables)
			}
			for i := range format.Mappings {
				p := &format.Mappings[i]
				have, ok := columns[p.Table.Name]
				if p.InFile != ok {
					t.Errorf("%s: InFile is %v", p.Table.Name, p.InFile)
				}
				if ok && !slices.Equal(p.Columns, have) {
					t.Errorf("%s: %q are read, %q are there", p.Table.Name, p.Columns, have)
				}
				if !ok && !slices.Equal(p.Columns, names(p.Table.Columns)) {
					t.Errorf("%s is not there, and has %q", p.Table.Name, p.Columns)
				}
			}
		})
	}
}

func TestDetectNotFlujo(t *testing.T) {
	t.Parallel()
	for name, columns := range map[string]map[string][]string{
		"nothing":           nil,
		"other tables":      {"customers": {"run_id"}},
		"names in capitals": {"RUNS": {"run_id"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if format, err := DetectFormat(columns); !errors.Is(err, ErrNotFlujo) || format != nil {
				t.Errorf("format %v, error %v", format, err)
			}
		})
	}
}

func TestMappingOfUnknownTable(t *testing.T) {
	t.Parallel()
	format, err := DetectFormat(format06())
	if err != nil || format.Mapping("zebra") != nil || format.Mapping("spans") != &format.Mappings[3] {
		t.Errorf("mappings %p, %p, error %v", format.Mapping("zebra"), format.Mapping("spans"), err)
	}
}

// TestTables checks the properties of Tables that the rest of the program relies on.
func TestTables(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	indexes := map[string]bool{}
	for _, table := range append(slices.Clone(Tables), VersionsTable) {
		if seen[table.Name] {
			t.Errorf("%s is there twice", table.Name)
		}
		if table.ChildOf != "" && !seen[table.ChildOf] {
			t.Errorf("%s comes before its parent", table.Name)
		}
		seen[table.Name] = true
		byName := map[string]Column{}
		for _, c := range table.Columns {
			byName[c.Name] = c
		}
		if len(byName) != len(table.Columns) || !byName[table.PrimaryKey].NotNull {
			t.Errorf("%s: columns %q, key %q", table.Name, names(table.Columns), table.PrimaryKey)
		}
		if serial := table.Serial(); serial != "" && serial != table.PrimaryKey {
			t.Errorf("%s: serial %q", table.Name, serial)
		}
		for _, index := range table.Indexes {
			if indexes[index.Name] || byName[index.Column].Name == "" {
				t.Errorf("%s: index %+v", table.Name, index)
			}
			indexes[index.Name] = true
		}
	}
	if !seen[Runs] || !seen[Spans] || !seen[Traces] || !seen[Memories] || !seen[Versions] || len(indexes) != 17 {
		t.Errorf("tables %v, %d indexes", slices.Sorted(maps.Keys(seen)), len(indexes))
	}
	spans := Tables[slices.IndexFunc(Tables, func(t Table) bool { return t.Name == Spans })]
	for _, c := range SpanColumns {
		if !slices.Contains(names(spans.Columns), c) {
			t.Errorf("a trace is made of spans.%s, which is not there", c)
		}
	}
}
