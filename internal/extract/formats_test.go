package extract_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// The file formats before 0.6, with the types of format06.
var (
	workflowState35 = "run_id K, pipeline_id T, pipeline_name T, pipeline_version T, current_step_index I, " +
		"pipeline_context T, last_step_output T, step_history T, status T, created_at T, updated_at T, " +
		"total_steps I, error_message T, execution_time_ms I, memory_usage_mb R"
	format29 = map[string]string{"workflow_state": strings.Replace(workflowState35, "step_history T, ", "", 1)}
	format33 = map[string]string{
		"workflow_state": workflowState35,
		"runs": "run_id K, pipeline_name T, pipeline_version T, status T, start_time T, end_time T, " +
			"total_cost R, final_context_blob T",
		"steps": "step_run_id K, run_id T, step_name T, step_index I, status T, start_time T, end_time T, " +
			"duration_ms I, cost R, tokens I, input_blob T, output_blob T, error_blob T",
		"spans": "span_id K, run_id T, parent_span_id T, name T, start_time R, end_time R, status T, attributes T, " +
			"created_at DATETIME",
	}
	formatOpened = map[string]string{
		"workflow_state": workflowState35 +
			", metadata T, is_background_task I, parent_run_id T, task_id T, background_error T",
		"runs": format33["runs"] + ", pipeline_id T, created_at T, updated_at T, execution_time_ms I, " +
			"memory_usage_mb R, total_steps I, error_message T",
		"steps":        format33["steps"] + ", raw_response T",
		"spans":        format33["spans"],
		"system_state": flujotest.Format06["system_state"],
		"traces":       flujotest.Format06["traces"],
		"evaluations":  flujotest.Format06["evaluations"],
	}
)

// row04 returns row i of a table of 0.4, with a value in every column.
func row04(table string, i int) flujotest.Cells {
	run, at := fmt.Sprintf("run-%02d", i%7), fmt.Sprintf("2025-09-01T08:%02d:00.%06d", i, i*7919)
	switch table {
	case "workflow_state":
		return flujotest.Cells{
			"run_id":             run,
			"current_step_index": int64(i),
			"pipeline_context":   fmt.Sprintf(`{"i": %d}`, i),
			"last_step_output":   "null",
			"step_history":       "[]",
			"created_at":         at,
			"updated_at":         at,
			"total_steps":        int64(i),
			"error_message":      "e",
			"execution_time_ms":  int64(i),
			"memory_usage_mb":    0.25,
		}
	case "runs":
		return flujotest.Cells{
			"run_id":             run,
			"start_time":         at,
			"end_time":           at + "+00:00",
			"total_cost":         0.1 * float64(i+1),
			"final_context_blob": "{\x00",
		}
	case "steps":
		return flujotest.Cells{
			"step_run_id": fmt.Sprintf("%s:step:%d", run, 99-i),
			"run_id":      run,
			"step_index":  int64(i),
			"start_time":  at,
			"end_time":    at,
			"duration_ms": int64(10 * i),
			"cost":        0.000808865499794749 * float64(i),
			"tokens":      int64(i),
			"input_blob":  `{"in": 1}`,
			"output_blob": fmt.Sprintf(`{"out": [%d, "x"]}`, i),
			"error_blob":  "boom",
		}
	}
	return flujotest.Cells{
		"span_id":        fmt.Sprintf("span-%02d", 99-i),
		"run_id":         run,
		"parent_span_id": "p",
		"start_time":     1756713600.1234567 + float64(i),
		"end_time":       1756713601.7654321 + float64(i),
		"status":         "running",
		"attributes":     `{"a": 1.50}`,
		"created_at":     "2025-09-01 08:00:01",
	}
}

// write04 writes a file of 0.4 whose rowids have gaps and are not in the order of the text keys. It returns its path.
func write04(t testing.TB, format map[string]string, version int) string {
	t.Helper()
	f := flujotest.NewFile(t, format)
	for i := range 7 {
		for _, table := range []string{"workflow_state", "runs"} {
			if format[table] == "" {
				continue
			}
			row := row04(table, i)
			for name := range row {
				if !flujotest.HasColumn(format[table], name) {
					delete(row, name)
				}
			}
			if table == "runs" && flujotest.HasColumn(format[table], "created_at") { // the values that 0.6 adds
				row["pipeline_id"], row["created_at"], row["updated_at"], row["total_steps"] = "unknown", "",
					"", int64(0)
				if i == 3 {
					row["end_time"] = nil
				}
			}
			f.Insert(table, row)
		}
	}
	for i := range 12 {
		for _, table := range []string{"steps", "spans"} {
			if format[table] == "" {
				continue
			}
			row := row04(table, i)
			row["rowid"] = int64(10*i + 3)
			if flujotest.HasColumn(format[table], "raw_response") {
				row["raw_response"] = `"raw"`
			}
			f.Insert(table, row)
		}
	}
	if format["steps"] != "" {
		f.Exec("DELETE FROM steps WHERE rowid IN (13, 113)")
	}
	f.Exec(fmt.Sprintf("PRAGMA user_version = %d", version))
	return f.Close()
}

// formatCase is a file format that the tests write themselves.
type formatCase struct {
	name, formatName string
	path             func(t testing.TB) string
	ignored          []string
}

var formatCases = []formatCase{
	{"0.4.29 to 0.4.32", "Flujo 0.4.29 to 0.4.32", func(t testing.TB) string { return write04(t, format29, 0) }, nil},
	{"0.4.33 to 0.4.35", "Flujo 0.4.33 to 0.4.35", func(t testing.TB) string { return write04(t, format33, 0) }, nil},
	{
		"0.4.33 to 0.4.35 with the version of 0.6",
		"Flujo 0.4.33 to 0.4.35",
		func(t testing.TB) string { return write04(t, format33, 1) },
		nil,
	},
	{
		"0.4 opened by 0.6",
		"Flujo 0.4, opened by 0.6",
		func(t testing.TB) string { return write04(t, formatOpened, 1) },
		nil,
	},
	{
		"0.4 opened by 0.6 with the version of 0.4",
		"Flujo 0.4, opened by 0.6",
		func(t testing.TB) string { return write04(t, formatOpened, 0) },
		nil,
	},
	{"0.6", "Flujo 0.6", func(t testing.TB) string { return write06(t, flujotest.Format06) }, nil},
	{"0.6 without three columns of runs", "Flujo 0.6", func(t testing.TB) string {
		format := withoutColumns("runs", "end_time", "total_cost", "final_context_blob")
		return write06(t, format)
	}, nil},
	{"0.6 with the first seven columns of runs", "Flujo 0.6", func(t testing.TB) string {
		format := withoutColumns("runs", "execution_time_ms", "memory_usage_mb", "total_steps", "error_message",
			"end_time",
			"total_cost", "final_context_blob")
		return write06(t, format)
	}, nil},
	{"only runs of seven columns", "Flujo 0.6", func(t testing.TB) string {
		return write06(t, map[string]string{
			"runs": "run_id K, pipeline_id T, pipeline_name T, pipeline_version T, status T, created_at T, " +
				"updated_at T",
		})
	}, nil},
	{"extra columns", "Flujo 0.6", func(t testing.TB) string {
		format := withoutColumns("", "")
		for table := range format {
			format[table] += ", tenant T, cost R, " + `"quoted ""name" T`
		}
		return write06(t, format)
	}, nil},
	{"tables that are not Flujo's", "Flujo 0.6", func(t testing.TB) string {
		format := withoutColumns("", "")
		format["notes"], format["alembic_version"], format["flujo_port_originals"] = "run_id K, x T", "version_num T",
			"table_name T, original T"
		return write06(t, format)
	}, []string{"alembic_version", "flujo_port_originals", "notes"}},
	{
		"without step_history, and with runs",
		"Flujo 0.6",
		func(t testing.TB) string { return write06(t, withoutColumns("workflow_state", "step_history")) },
		nil,
	},
}

// withoutColumns returns a copy of format06 without the given columns of a table.
func withoutColumns(table string, columns ...string) map[string]string {
	all := map[string]string{}
	for name, have := range flujotest.Format06 {
		if name == table {
			have = strings.Join(slices.DeleteFunc(strings.Split(have, ", "), func(c string) bool {
				return slices.Contains(columns, strings.Fields(c)[0])
			}), ", ")
		}
		all[name] = have
	}
	return all
}

// write06 writes a file with a value in every column of its format, and returns its path.
func write06(t testing.TB, format map[string]string) string {
	t.Helper()
	f := flujotest.NewFile(t, format)
	for i := range 5 {
		for table, columns := range format {
			row := flujotest.Cells{}
			for column := range strings.SplitSeq(columns, ", ") {
				name := column[:strings.LastIndex(column, " ")]
				switch kind := flujotest.CellKinds[table][strings.Trim(name, `"`)]; {
				case name == "id":
				case flujotest.Keys[table] == name, name == "run_id":
					row[name] = fmt.Sprintf("r%d", i)
				case kind == "json":
					row[name] = fmt.Sprintf(`{"%s": [%d, 1.50, null]}`, name, i)
				case kind == "time":
					row[name] = fmt.Sprintf("2026-01-05T09:00:0%d.123456+00:00", i)
				case kind == "float4" || kind == "float8":
					row[name] = 0.1 + float64(i)
				case kind == "bool":
					row[name] = int64(i % 2)
				case strings.HasSuffix(name, "_ms"),
					strings.HasSuffix(name, "_index"),
					strings.HasSuffix(name, "_steps"),
					name == "token_counts":
					row[name] = int64(i)
				case name == "trace_data":
					row[name] = `{"t": 1}`
				case name == "created_at":
					row[name] = "2026-01-05T09:00:00+00:00"
				case strings.HasSuffix(column, " R"):
					row[name] = 0.5 + float64(i)
				default:
					row[name] = fmt.Sprintf("%s é %d", strings.ReplaceAll(name, `"`, ""), i)
				}
			}
			f.Insert(table, row)
		}
	}
	return f.Close()
}

// TestMigrateFormats tests that every cell of every file format is in PostgreSQL after a migration.
func TestMigrateFormats(t *testing.T) {
	t.Parallel()
	for _, l := range formatCases {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			wantEveryCell(t, l.path(t), l.formatName, l.ignored)
		})
	}
	for name, formatName := range map[string]string{
		flujotest.Fixture: "Flujo 0.6", "../../testdata/flujo_0.4.35.db": "Flujo 0.4.33 to 0.4.35",
		"../../testdata/flujo_0.4.35_opened_by_0.6.11.db": "Flujo 0.4, opened by 0.6",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantEveryCell(t, flujotest.Copy(t, name), formatName, nil)
		})
	}
	for _, table := range slices.Sorted(keysOf(flujotest.Format06)) {
		t.Run("without "+table, func(t *testing.T) {
			t.Parallel()
			format := withoutColumns("", "")
			delete(format, table)
			wantEveryCell(t, write06(t, format), "Flujo 0.6", nil)
		})
		t.Run("only "+table, func(t *testing.T) {
			t.Parallel()
			wantEveryCell(t, write06(t, map[string]string{table: flujotest.Format06[table]}), "Flujo 0.6", nil)
		})
	}
}

// wantEveryCell migrates a file and tests that every cell of it is in PostgreSQL.
func wantEveryCell(t *testing.T, path, formatName string, ignored []string) {
	t.Helper()
	url := pgtest.Database(t)
	result := flujotest.Migrate(t, flujotest.Options(t, path, url))
	if result.Source.FileFormat != formatName {
		t.Errorf("got file format %q, want %q", result.Source.FileFormat, formatName)
	}
	flujotest.WantSame(t, "ignored", result.Ignored, ignored)
	text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n") + "\n"
	if line := "ignored, since these tables are not Flujo's: " + strings.Join(ignored, ", ") + "\n"; len(ignored) > 0 &&
		!strings.Contains(text, line) {
		t.Errorf("the report does not say %q:\n%s", line, text)
	}
	for _, row := range result.Tables {
		if !row.Match || row.Rejected != 0 {
			t.Errorf("got %+v, want a match without rejected rows", row)
		}
	}
	conn := flujotest.Connect(t, url)
	flujotest.WantTypes(t, conn, nil)
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files := flujotest.NewFinder(t, conn)
	cells := 0
	for table := range flujotest.Tables {
		cells += files.Find(t, db, table)
	}
	if cells == 0 {
		t.Error("compared no cell")
	}
	if files.Unused() > 0 {
		t.Errorf("got %d originals of no cell in the file: %v", files.Unused(), files.Originals)
	}
}

// keysOf returns an iterator over the keys of m.
func keysOf[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestIDsOfFormat04 tests that the steps and spans of 0.4 get their rowids as ids, that the next id is free, and that
// timestamps and pipeline ids of runs are inferred.
func TestIDsOfFormat04(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ path, endTimes string }{
		"0.4.33": {write04(t, format33, 0), "7"},
		"opened": {write04(t, formatOpened, 1), "6"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			result := flujotest.Migrate(t, flujotest.Options(t, c.path, url))
			conn := flujotest.Connect(t, url)
			for _, c := range [][2]string{
				{"SELECT string_agg(id || ':' || step_index, ' ' ORDER BY id) FROM flujo.steps",
					"3:0 23:2 33:3 43:4 53:5 63:6 73:7 83:8 93:9 103:10"},
				{"SELECT string_agg(id || ':' || span_id, ' ' ORDER BY id) FROM flujo.spans WHERE id < 30",
					"3:span-99 13:span-98 23:span-97"},
				{"SELECT nextval('flujo.steps_id_seq')", "104"},
				{"SELECT nextval('flujo.spans_id_seq')", "114"},
				{"SELECT string_agg(DISTINCT pipeline_id, ' ') FROM flujo.runs", "unknown"},
				{"SELECT string_agg(convert_from(original, 'UTF8'), ' ' ORDER BY source_rowid) " +
					"FROM flujo.flujo_port_originals WHERE table_name = 'steps' AND column_name = 'step_run_id' " +
					"AND source_rowid < 30", "run-00:step:99 run-02:step:97"},
				{"SELECT count(*) FROM flujo.runs WHERE created_at = updated_at", "7"},
				{"SELECT created_at AT TIME ZONE 'UTC' FROM flujo.runs WHERE run_id = 'run-01'",
					"2025-09-01 08:01:00.007919"},
				{"SELECT count(*) FROM flujo.runs WHERE total_steps = 0", "7"},
				{"SELECT count(*) FROM flujo.flujo_port_originals WHERE table_name = 'runs' " +
					"AND column_name = 'end_time' AND reason = 'unmapped-column'", c.endTimes},
			} {
				if got := flujotest.One(t, conn, c[0]); got != c[1] {
					t.Errorf("%s: got %s, want %s", c[0], got, c[1])
				}
			}
			i := slices.IndexFunc(result.Changes, func(c report.Change) bool {
				return c.Table == "steps" && c.Column == "step_run_id"
			})
			if i < 0 || result.Changes[i].Count != 10 ||
				strings.Join(result.Changes[i].Keys, " ") != "3 23 33 43 53 63 73 83 93 103" {
				t.Errorf("got changes %+v, want ten of step_run_id", result.Changes)
			}
		})
	}
}

// TestUnknownFormatIsRefused tests that a file in no known format is refused, with the reason.
func TestUnknownFormatIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		format map[string]string
		words  string
	}{
		"no table of Flujo's":   {map[string]string{"notes": "x T"}, "none of Flujo's tables"},
		"runs without a status": {withoutColumns("runs", "status"), "missing columns: runs.status"},
		"several": {withoutColumns("steps", "run_id", "step_index"),
			"missing columns: steps.run_id, steps.step_index"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := flujotest.Options(t, flujotest.NewFile(t, c.format).Close(), url)
			_, err := migrate.Run(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got error %v, want %q", err, c.words)
			}
			if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
				t.Errorf("the migration left %s", got)
			}
		})
	}
}
