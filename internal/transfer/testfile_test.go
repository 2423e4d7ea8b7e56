package transfer_test

import (
	"database/sql"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// cells holds a row by column name. The type of a value (nil, int64, float64, string or []byte) determines its
// storage class.
type cells map[string]any

// format06 is the file format of Flujo 0.6. The letters are types: T is text, I integer, R real, K a text that is the
// primary key, S an AUTOINCREMENT primary key.
var format06 = map[string]string{
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

// defaults holds, by table, the cells that every row of Flujo has.
var defaults = map[string]cells{
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

// testFile writes a SQLite file. Its columns have no declared types while rows are inserted, so that every value
// keeps its storage class; close declares the types.
type testFile struct {
	t      testing.TB
	db     *sql.DB
	path   string
	format map[string]string
}

// newFile creates a file with the tables of a format.
func newFile(t testing.TB, format map[string]string) *testFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	db, err := sql.Open("sqlite", path+unsynced+"&_pragma=journal_mode(memory)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	f := &testFile{t: t, db: db, path: path, format: format}
	for _, table := range slices.Sorted(maps.Keys(format)) {
		f.exec(declaration(table, format[table],
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

func (f *testFile) exec(statement string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(statement, args...); err != nil {
		f.t.Fatalf("%.200s: %v", statement, err)
	}
}

// insert adds a row: the given cells, and the table's defaults for the other columns that the format has.
func (f *testFile) insert(table string, given cells) {
	f.t.Helper()
	row := cells{}
	for name, value := range defaults[table] {
		if hasColumn(f.format[table], name) {
			row[name] = value
		}
	}
	maps.Copy(row, given)
	names := slices.Sorted(maps.Keys(row))
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = row[name]
	}
	f.exec(
		fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s)", table, strings.Join(names, ", "),
			strings.Repeat(", ?", len(names)-1)),
		args...)
}

// hasColumn reports whether a list of columns has one of that name.
func hasColumn(columns, name string) bool {
	return strings.HasPrefix(columns, name+" ") || strings.Contains(columns, ", "+name+" ")
}

// close declares the types of the columns without changing rows, closes the file and returns its path.
func (f *testFile) close() string {
	f.t.Helper()
	f.exec("PRAGMA writable_schema = ON")
	for table, columns := range f.format {
		f.exec(
			"UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?",
			declaration(table, columns, map[string]string{
				"T": "TEXT", "I": "INTEGER", "R": "REAL", "K": "TEXT PRIMARY KEY",
				"S": "INTEGER PRIMARY KEY AUTOINCREMENT"}),
			table,
		)
	}
	f.exec("PRAGMA writable_schema = RESET")
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.path
}

// closeUntyped closes the file, leaves its columns without types and returns its path.
func (f *testFile) closeUntyped() string {
	f.t.Helper()
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.path
}

// classOf returns the storage class of a value.
func classOf(cell any) string {
	switch cell.(type) {
	case nil:
		return "null"
	case int64:
		return "integer"
	case float64:
		return "real"
	case string:
		return "text"
	case []byte:
		return "blob"
	}
	panic(fmt.Sprintf("%T has no storage class in SQLite", cell))
}

// bytesOf returns the bytes that flujo_port_originals stores for a cell; nil for NULL.
func bytesOf(cell any) []byte {
	switch v := cell.(type) {
	case int64:
		return []byte(strconv.FormatInt(v, 10))
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64)
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}

// stored returns a cell of a file as it is stored, and its storage class.
func stored(t testing.TB, db *sql.DB, table, column string, rowid int64) (class string, content []byte) {
	t.Helper()
	var integer sql.NullInt64
	var real sql.NullFloat64
	query := fmt.Sprintf(`SELECT typeof(+%s), CAST(iif(typeof(+%[1]s) IN ('text', 'blob'), +%[1]s, NULL) AS BLOB),
		iif(typeof(+%[1]s) = 'integer', +%[1]s, NULL), iif(typeof(+%[1]s) = 'real', +%[1]s, NULL) FROM %s
			WHERE rowid = ?`, quoted(column), quoted(table))
	if err := db.QueryRow(query, rowid).Scan(&class, &content, &integer, &real); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	switch {
	case integer.Valid:
		content = bytesOf(integer.Int64)
	case real.Valid:
		content = bytesOf(real.Float64)
	case class != "null" && content == nil:
		content = []byte{}
	}
	return class, content
}

// quoted returns a name as a quoted SQL identifier.
func quoted(name string) string { return `"` + name + `"` }

// sameFloat reports whether two floats have the same bits.
func sameFloat(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
