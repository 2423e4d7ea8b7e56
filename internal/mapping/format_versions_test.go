package mapping

import (
	"encoding/binary"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"

	"github.com/jackc/pgx/v5/pgtype"
)

// unmappedOf returns the unmapped columns of a mapping, determined from the changes of
// a row with a value in every column.
func unmappedOf(t testing.TB, p *TableMapping) (unmapped []string) {
	t.Helper()
	c := newConverter(t, p)
	c.InferTime = func(string, string, []sqlite.Value) (Time, string, error) { return Time{}, "", nil }
	c.Types.VectorSize = 1
	row := []sqlite.Value{integer(1)}
	for _, column := range p.Columns {
		v := text("2026-01-05")
		switch {
		case p.Table.Name == Memories && column == "vector":
			v = blob(packed(1))
		case p.Table.Name == Spans && (column == "start_time" || column == "end_time"),
			column == "score",
			column == "id",
			strings.HasSuffix(column, "_index"):
			v = integer(1)
		}
		row = append(row, v)
	}
	appendRow(t, c, row...)
	for _, change := range c.Changes() {
		if change.Reason == UnmappedColumn {
			unmapped = append(unmapped, change.Column)
		}
	}
	return unmapped
}

// Columns of tables of Flujo 0.4, as it creates them.
const (
	state0429 = "run_id pipeline_id pipeline_name pipeline_version current_step_index pipeline_context " +
		"last_step_output status created_at updated_at total_steps error_message execution_time_ms memory_usage_mb"
	state0433 = "run_id pipeline_id pipeline_name pipeline_version current_step_index pipeline_context " +
		"last_step_output step_history status created_at updated_at total_steps error_message execution_time_ms " +
		"memory_usage_mb"
	runs0433  = "run_id pipeline_name pipeline_version status start_time end_time total_cost final_context_blob"
	steps0433 = "step_run_id run_id step_name step_index status start_time end_time duration_ms cost tokens " +
		"input_blob output_blob error_blob"
	spans0433 = "span_id run_id parent_span_id name start_time end_time status attributes created_at"
	stateBy06 = state0433 + " metadata is_background_task parent_run_id task_id background_error"
	runsBy06  = runs0433 + " pipeline_id created_at updated_at execution_time_ms memory_usage_mb total_steps " +
		"error_message"
	stepsBy06  = steps0433 + " raw_response"
	evaluation = "id run_id step_name score feedback metadata created_at"
)

func allTables(columns map[string]string) map[string][]string {
	split := map[string][]string{}
	for table, names := range columns {
		split[table] = strings.Fields(names)
	}
	return split
}

// TestFormatNames checks the name, the mappings and the conversion of every file format
// that Flujo has written.
func TestFormatNames(t *testing.T) {
	t.Parallel()
	whole := map[string][]string{}
	for _, table := range Tables {
		whole[table.Name] = names(table.Columns)
	}
	without := func(table string, columns ...string) []string {
		return slices.DeleteFunc(slices.Clone(whole[table]), func(c string) bool { return slices.Contains(columns, c) })
	}
	type tm struct {
		fills    []string // PostgreSQL columns, in their order
		unmapped []string
	}
	old := []string{"end_time", "total_cost", "final_context_blob"}
	steps := []string{"step_run_id", "end_time", "input_blob", "error_blob"}
	for name, tc := range map[string]struct {
		columns  map[string][]string
		is       string
		mappings map[string]tm // of tables in the file
		others   []string
	}{
		"0.4.29": {
			allTables(map[string]string{"workflow_state": state0429}), "Flujo 0.4.29 to 0.4.32",
			map[string]tm{"workflow_state": {strings.Fields(state0429), nil}}, nil,
		},
		"0.4.33": {
			allTables(map[string]string{"workflow_state": state0433, Runs: runs0433, "steps": steps0433,
				Spans: spans0433}), "Flujo 0.4.33 to 0.4.35",
			map[string]tm{
				"workflow_state": {strings.Fields(state0433), nil},
				Runs: {
					strings.Fields("run_id pipeline_id pipeline_name pipeline_version status created_at updated_at"),
					old,
				},
				"steps": {without("steps", "raw_response"), steps},
				Spans:   {whole[Spans], nil},
			}, nil,
		},
		"0.4.33 opened by 0.6": {
			allTables(map[string]string{
				"workflow_state": stateBy06, Runs: runsBy06, "steps": stepsBy06, Spans: spans0433,
				Traces:         "run_id trace_data created_at",
				"system_state": "key value updated_at", "evaluations": evaluation,
			}), "Flujo 0.4, opened by 0.6",
			map[string]tm{
				"workflow_state": {whole["workflow_state"], nil},
				Runs:             {whole[Runs], append([]string{"start_time"}, old...)},
				"steps":          {whole["steps"], steps},
				Spans:            {whole[Spans], nil},
				Traces:           {whole[Traces], nil},
				"system_state":   {whole["system_state"], nil},
				"evaluations":    {whole["evaluations"], nil},
			}, nil,
		},
		"0.6": {
			format06(), "Flujo 0.6",
			map[string]tm{
				"workflow_state": {whole["workflow_state"], nil}, Runs: {whole[Runs], old},
				"steps": {whole["steps"], nil}, Spans: {whole[Spans], nil},
				Traces: {whole[Traces], nil}, "system_state": {whole["system_state"], nil},
				"evaluations": {whole["evaluations"], nil},
			}, nil,
		},
		"0.6 with memories": {
			map[string][]string{Memories: whole[Memories]}, "Flujo 0.6",
			map[string]tm{Memories: {whole[Memories], nil}}, nil,
		},
		"0.6 after save_run_start": {
			map[string][]string{Runs: whole[Runs][:7]}, "Flujo 0.6", map[string]tm{Runs: {whole[Runs][:7], nil}}, nil,
		},
		"more columns than anybody knows": {
			map[string][]string{"system_state": {"owner", "updated_at", "Key", "value", "key", "rank"}}, "Flujo 0.6",
			map[string]tm{"system_state": {whole["system_state"], []string{"owner", "Key", "rank"}}}, nil,
		},
		"both names of a column": {
			allTables(map[string]string{"steps": stepsBy06 + " cost_usd token_counts output id created_at " +
				"execution_time_ms"}), "Flujo 0.4.33 to 0.4.35",
			map[string]tm{"steps": {
				whole["steps"],
				strings.Fields("step_run_id start_time end_time duration_ms cost tokens input_blob output_blob " +
					"error_blob"),
			}}, nil,
		},
		"other people's tables": {
			map[string][]string{"zebra": {"x"}, "flujo_schema_versions": {"version"}, "Traces": nil,
				"system_state": whole["system_state"], "": {"y"}}, "Flujo 0.6",
			map[string]tm{"system_state": {whole["system_state"], nil}},
			[]string{"", "Traces", "flujo_schema_versions", "zebra"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := map[string][]string{}
			for table, columns := range tc.columns {
				before[table] = slices.Clone(columns)
			}
			format, err := DetectFormat(tc.columns)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(before, tc.columns) {
				t.Error("Detect changed what it was given")
			}
			if format.Name != tc.is || !slices.Equal(format.OtherTables, tc.others) {
				t.Errorf("it is %q with others %q", format.Name, format.OtherTables)
			}
			found := map[string]bool{}
			for i := range format.Mappings {
				p := &format.Mappings[i]
				want, in := tc.mappings[p.Table.Name]
				if p.InFile != in {
					t.Errorf("%s: InFile is %v", p.Table.Name, p.InFile)
				}
				if !in {
					continue
				}
				found[p.Table.Name] = true
				if got := filled(t, p); !slices.Equal(got, want.fills) {
					t.Errorf("%s: filled are %q, not %q", p.Table.Name, got, want.fills)
				}
				got := unmappedOf(t, p)
				if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want.unmapped))) {
					t.Errorf("%s: unmapped are %q, not %q", p.Table.Name, got, want.unmapped)
				}
			}
			if len(found) != len(tc.mappings) {
				t.Errorf("planned are %q", slices.Sorted(maps.Keys(found)))
			}
		})
	}
}

// TestOldRuns checks the corresponding columns of runs of 0.4.33 to 0.4.35.
func TestOldRuns(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOf(t, Runs, strings.Fields(runs0433)...))
	row := []sqlite.Value{
		integer(3), text("r-1"), text("name"), text("1.0"), text("completed"),
		text("2000-01-01T00:00:01"),
		text("2000-01-01T00:00:02"), real(0.25), text("{}"),
	}
	fields := appendRow(t, c, row...)
	want := []string{
		"r-1",
		"unknown",
		"name",
		"1.0",
		"completed",
		"\x00\x00\x00\x00\x00\x0f\x42\x40",
		"\x00\x00\x00\x00\x00\x1e\x84\x80",
		"",
		"",
		"\x00\x00\x00\x00",
		"",
	} // execution_time_ms memory_usage_mb total_steps error_message
	if len(fields) != len(want) {
		t.Fatalf("%d fields", len(fields))
	}
	for i, field := range fields {
		if string(field) != want[i] {
			t.Errorf("%s is %q, not %q", c.Mapping.Table.Columns[i].Name, field, want[i])
		}
	}
	sameChanges(t, c.Changes(), []Change{
		{Column: "end_time", Reason: UnmappedColumn, Original: row[6]},
		{Column: "total_cost", Reason: UnmappedColumn, Original: row[7]},
		{Column: "final_context_blob", Reason: UnmappedColumn, Original: row[8]},
	})
	if c.Naive["created_at"] != 1 || c.Naive["updated_at"] != 1 || c.Key(row) != "r-1" ||
		c.Mapping.KeyColumn() != "run_id" {
		t.Errorf("naive %v, key %q in %q", c.Naive, c.Key(row), c.Mapping.KeyColumn())
	}
}

// TestOldSteps checks the corresponding columns of steps of 0.4.33 to 0.4.35.
func TestOldSteps(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOf(t, "steps", strings.Fields(steps0433)...))
	row := []sqlite.Value{
		integer(17), text("s-1"), text("r-1"), text("name"), integer(4),
		text("completed"), text("2000-01-01T00:00:01"),
		text("2000-01-01T00:00:02"), integer(1000), real(0.25), integer(99), text("in"),
		text(`{"out": 1}`), {},
	}
	fields := appendRow(t, c, row...)
	// id run_id step_name step_index status output raw_response cost_usd token_counts execution_time_ms created_at
	want := []string{
		"\x00\x00\x00\x11", "r-1", "name", "\x00\x00\x00\x04", "completed", "\x01" + `{"out": 1}`, "",
		"\x3e\x80\x00\x00", "\x00\x00\x00\x63",
		"\x00\x00\x03\xe8", "\x00\x00\x00\x00\x00\x0f\x42\x40",
	}
	if len(fields) != len(want) {
		t.Fatalf("%d fields", len(fields))
	}
	for i, field := range fields {
		if string(field) != want[i] {
			t.Errorf("%s is %q, not %q", c.Mapping.Table.Columns[i].Name, field, want[i])
		}
	}
	sameChanges(t, c.Changes(), []Change{
		{Column: "step_run_id", Reason: UnmappedColumn, Original: row[1]},
		{Column: "end_time", Reason: UnmappedColumn, Original: row[7]},
		{Column: "input_blob", Reason: UnmappedColumn, Original: row[11]},
	})
	if c.Key(row) != "17" || c.Mapping.KeyColumn() != "" {
		t.Errorf("key %q in %q", c.Key(row), c.Mapping.KeyColumn())
	}
}

// TestOldSpans checks that spans of 0.4, whose key is span_id, get the rowid as id.
// Files of 0.4 have no traces.
func TestOldSpans(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOf(t, Spans, strings.Fields(spans0433)...))
	row := []sqlite.Value{
		integer(1 << 20), text("sp"), text("r"), {}, text("n"), real(0.5), {},
		text("running"), {}, text("2000-01-01 00:00:01"),
	}
	fields := appendRow(t, c, row...)
	if len(fields) != 10 || decode[int32](t, pgtype.Int4OID, fields[0]) != 1<<20 || string(fields[2]) != "sp" ||
		fields[3] != nil ||
		binary.BigEndian.Uint64(fields[9]) != 1_000_000 ||
		len(c.Naive) != 0 {
		t.Errorf("%q, naive %v", fields, c.Naive)
	}
	sameChanges(t, c.Changes(), nil)
}

// TestTimestampFallbacks checks that fallbacks are used only for required timestamps,
// and refer only to columns that a Flujo version has, in rows of a run.
func TestTimestampFallbacks(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, table := range Tables {
		for _, c := range table.Columns {
			known[table.Name+"."+c.Name] = true
		}
	}
	for table, columns := range map[string]string{Runs: runs0433, "steps": steps0433, Spans: spans0433} {
		for c := range strings.FieldsSeq(columns) {
			known[table+"."+c] = true
		}
	}
	for column, fallbacks := range TimestampFallbacks {
		table, name, _ := strings.Cut(column, ".")
		tm := FullMapping(table)
		if tm == nil {
			t.Fatalf("%s is of no table", column)
		}
		at := slices.IndexFunc(tm.Table.Columns, func(c Column) bool { return c.Name == name })
		if at < 0 || tm.Table.Columns[at].Kind != KindTime || !tm.Table.Columns[at].NotNull ||
			tm.Position("run_id") < 0 {
			t.Errorf("%s is no required time of a run", column)
		}
		seen := map[TimestampFallback]bool{}
		for _, w := range fallbacks {
			if seen[w] || !known[w.Table+"."+w.Column] || w.Table+"."+w.Column == column {
				t.Errorf("%s is told by %+v", column, w)
			}
			seen[w] = true
		}
	}
	for _, table := range Tables {
		for _, c := range table.Columns {
			_, reported := TimestampFallbacks[table.Name+"."+c.Name]
			hasRun := slices.Contains(names(table.Columns), "run_id")
			if reported != (hasRun && c.Kind == KindTime && c.NotNull) {
				t.Errorf("%s.%s: fallbacks %v", table.Name, c.Name, reported)
			}
		}
	}
	for column, columns := range columnFallbacks {
		table, _, _ := strings.Cut(column, ".")
		for _, c := range columns {
			if !known[column] || !known[table+"."+c] {
				t.Errorf("%s is told by %s", column, c)
			}
		}
	}
}
