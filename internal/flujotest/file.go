package flujotest

import (
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Cells holds a row by column name. The type of a value (nil, int64, float64, string or []byte) determines its
// storage class.
type Cells map[string]any

// Format06 is the file format of Flujo 0.6. The letters are types: T is text, I integer, R real, K a text that is the
// primary key, S an AUTOINCREMENT primary key.
var Format06 = map[string]string{
	"runs": "run_id K, pipeline_id T, pipeline_name T, pipeline_version T, status T, created_at T, updated_at T, " +
		"execution_time_ms I, memory_usage_mb R, total_steps I, error_message T, end_time T, total_cost R, " +
		"final_context_blob T",
	"workflow_state": "run_id K, pipeline_id T, pipeline_name T, pipeline_version T, current_step_index I, " +
		"pipeline_context T, last_step_output T, step_history T, status T, created_at T, updated_at T, " +
		"total_steps I, error_message T, execution_time_ms I, memory_usage_mb R, metadata T, " +
		"is_background_task I, parent_run_id T, task_id T, background_error T",
	"steps": "id S, run_id T, step_name T, step_index I, status T, output T, raw_response T, cost_usd R, " +
		"token_counts I, execution_time_ms I, created_at T",
	"spans": "id S, run_id T, span_id T, parent_span_id T, name T, start_time R, end_time R, status T, attributes T, " +
		"created_at T",
	"traces":       "run_id K, trace_data T, created_at T",
	"evaluations":  "id S, run_id T, step_name T, score R, feedback T, metadata T, created_at T",
	"system_state": "key K, value T, updated_at T",
}

// Defaults holds, by table, the cells that every row of Flujo has.
var Defaults = map[string]Cells{
	"runs": {"run_id": "r", "pipeline_id": "p", "pipeline_name": "n", "pipeline_version": "1", "status": "completed",
		"created_at": "2026-01-05T09:00:00+00:00", "updated_at": "2026-01-05T09:00:09+00:00"},
	"workflow_state": {
		"run_id":             "r",
		"pipeline_id":        "p",
		"pipeline_name":      "n",
		"pipeline_version":   "1",
		"current_step_index": int64(0),
		"status":             "completed",
		"created_at":         "2026-01-05T09:00:00+00:00",
		"updated_at":         "2026-01-05T09:00:09+00:00",
	},
	"steps": {
		"run_id":     "r",
		"step_name":  "s",
		"step_index": int64(0),
		"status":     "completed",
		"created_at": "2026-01-05T09:00:05+00:00",
	},
	"spans": {"run_id": "r", "span_id": "a", "name": "root", "start_time": 1767603600.5, "status": "completed",
		"attributes": "{}", "created_at": "2026-01-05T09:00:06+00:00"},
	"traces":       {"run_id": "r", "trace_data": "{}", "created_at": "2026-01-05T09:00:07+00:00"},
	"evaluations":  {"run_id": "r", "score": 0.5, "created_at": "2026-01-05T09:00:08+00:00"},
	"system_state": {"key": "k", "value": "1", "updated_at": "2026-01-05T09:00:00+00:00"},
}

// File writes a SQLite file. Its columns have no declared types while rows are inserted, so that every value
// keeps its storage class; Close declares the types.
type File struct {
	t      testing.TB
	db     *sql.DB
	path   string
	format map[string]string
}

// NewFile creates a file with the tables of a format.
func NewFile(t testing.TB, format map[string]string) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	db, err := sql.Open("sqlite", path+unsynced+"&_pragma=journal_mode(memory)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	f := &File{t: t, db: db, path: path, format: format}
	for _, table := range slices.Sorted(maps.Keys(format)) {
		f.Exec(declaration(table, format[table],
			map[string]string{"K": "PRIMARY KEY", "S": "INTEGER PRIMARY KEY AUTOINCREMENT"}))
	}
	return f
}

// declaration returns the CREATE TABLE statement of a table. A letter that types does not have declares a column
// without a type; a type of several letters is used unchanged.
func declaration(table, columns string, types map[string]string) string {
	var parts []string
	for column := range strings.SplitSeq(columns, ", ") {
		last := strings.LastIndexByte(column, ' ')
		name, letter := column[:last], column[last+1:]
		kind := types[letter]
		if len(letter) > 1 && len(types) > 2 {
			kind = letter
		}
		parts = append(parts, strings.TrimSpace(name+" "+kind))
	}
	return fmt.Sprintf("CREATE TABLE %s (%s)", table, strings.Join(parts, ", "))
}

// Exec executes a statement.
func (f *File) Exec(statement string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(statement, args...); err != nil {
		f.t.Fatalf("%.200s: %v", statement, err)
	}
}

// Insert adds a row: the given cells, and the table's defaults for the other columns that the format has.
func (f *File) Insert(table string, given Cells) {
	f.t.Helper()
	row := Cells{}
	for name, value := range Defaults[table] {
		if HasColumn(f.format[table], name) {
			row[name] = value
		}
	}
	maps.Copy(row, given)
	names := slices.Sorted(maps.Keys(row))
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = row[name]
	}
	f.Exec(
		fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s)", table, strings.Join(names, ", "),
			strings.Repeat(", ?", len(names)-1)),
		args...)
}

// HasColumn reports whether a list of columns has one of that name.
func HasColumn(columns, name string) bool {
	return strings.HasPrefix(columns, name+" ") || strings.Contains(columns, ", "+name+" ")
}

// Close declares the types of the columns without changing rows, closes the file and returns its path.
func (f *File) Close() string {
	f.t.Helper()
	f.Exec("PRAGMA writable_schema = ON")
	for table, columns := range f.format {
		f.Exec(
			"UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?",
			declaration(table, columns, map[string]string{
				"T": "TEXT", "I": "INTEGER", "R": "REAL", "K": "TEXT PRIMARY KEY",
				"S": "INTEGER PRIMARY KEY AUTOINCREMENT"}),
			table,
		)
	}
	f.Exec("PRAGMA writable_schema = RESET")
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.path
}

// CloseUntyped closes the file, leaves its columns without types and returns its path.
func (f *File) CloseUntyped() string {
	f.t.Helper()
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.path
}

// Quoted returns a name as a quoted SQL identifier.
func Quoted(name string) string { return `"` + name + `"` }

// FullFile writes a file with two rows in every table and returns its path.
func FullFile(t testing.TB) string {
	t.Helper()
	f := NewFile(t, Format06)
	for i, key := range []string{"r", "q"} {
		f.Insert("runs", Cells{
			"run_id":            key,
			"execution_time_ms": int64(10 + i),
			"memory_usage_mb":   1.5,
			"total_steps":       int64(2),
			"error_message":     "none" + key,
		})
		f.Insert("workflow_state", Cells{
			"run_id":             key,
			"pipeline_context":   `{"a": {"b": [1.10, 2]}, "c": null}`,
			"last_step_output":   `"x"`,
			"step_history":       "[1]",
			"total_steps":        int64(2),
			"error_message":      "e",
			"execution_time_ms":  int64(3),
			"memory_usage_mb":    2.5,
			"metadata":           `{"m": true}`,
			"is_background_task": int64(i),
			"parent_run_id":      "p",
			"task_id":            "t",
			"background_error":   "b",
		})
		f.Insert("steps", Cells{
			"run_id":            key,
			"output":            `{"n": 123456789012345678901234567890.12345678901234567890}`,
			"raw_response":      `{"z": 1}`,
			"cost_usd":          0.25,
			"token_counts":      int64(7),
			"execution_time_ms": int64(8),
		})
		f.Insert("spans", Cells{
			"run_id":         key,
			"span_id":        "s" + key,
			"parent_span_id": "top",
			"end_time":       1767603601.25,
			"attributes":     `{"k": "v"}`,
		})
		f.Insert("traces", Cells{"run_id": key, "trace_data": `{"span_id": "a"}`})
		f.Insert("evaluations", Cells{"run_id": key, "step_name": "s", "feedback": "fine", "metadata": `{"judge": 1}`})
		f.Insert("system_state", Cells{"key": "k" + key, "value": `{"v": 1}`})
	}
	return f.Close()
}
