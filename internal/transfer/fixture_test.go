package transfer_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// wantTables holds, by table and column, how a cell of the file is compared with PostgreSQL. It is written
// independently of the program's table mapping.
var wantTables = map[string]map[string]string{
	"runs": {
		"run_id":            "text",
		"pipeline_id":       "text",
		"pipeline_name":     "text",
		"pipeline_version":  "text",
		"status":            "text",
		"created_at":        "time",
		"updated_at":        "time",
		"execution_time_ms": "text",
		"memory_usage_mb":   "float4",
		"total_steps":       "text",
		"error_message":     "text",
	},
	"workflow_state": {"run_id": "text", "pipeline_id": "text", "pipeline_name": "text", "pipeline_version": "text",
		"current_step_index": "text", "pipeline_context": "json", "last_step_output": "json", "step_history": "json",
		"status": "text", "created_at": "time", "updated_at": "time", "total_steps": "text", "error_message": "text",
		"execution_time_ms": "text", "memory_usage_mb": "float4", "metadata": "json", "is_background_task": "bool",
		"parent_run_id": "text", "task_id": "text", "background_error": "text"},
	"steps": {
		"id":                "text",
		"run_id":            "text",
		"step_name":         "text",
		"step_index":        "text",
		"status":            "text",
		"output":            "json",
		"raw_response":      "json",
		"cost_usd":          "float4",
		"token_counts":      "text",
		"execution_time_ms": "text",
		"created_at":        "time",
	},
	"spans": {"id": "text", "run_id": "text", "span_id": "text", "parent_span_id": "text", "name": "text",
		"start_time": "float8", "end_time": "float8", "status": "text", "attributes": "json", "created_at": "time"},
	"evaluations": {"id": "text", "run_id": "text", "step_name": "text", "score": "float8", "feedback": "text",
		"metadata": "json", "created_at": "time"},
	"system_state": {"key": "text", "value": "json", "updated_at": "time"},
}

// TestMigrateFixture compares every cell of a real state file with the database. It reads the file with database/sql
// and the database as text, independently of the program.
func TestMigrateFixture(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	result := mustMigrate(t, options(t, fixture, url))
	if !result.Committed {
		t.Error("the report says that the migration was not committed")
	}
	db, err := sql.Open("sqlite", "file:"+fixture+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn := connect(t, url)
	cells := 0
	for table, columns := range wantTables {
		cells += compareTable(t, db, conn, table, columns)
	}
	if want := 60*11 + 60*20 + 213*11 + 261*10 + 15*7 + 5*3; cells != want {
		t.Errorf("compared %d cells, want %d", cells, want)
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.steps WHERE output IS NULL"); got != "32" {
		t.Errorf("got %s steps whose output is NULL, want 32 (those with JSON null in the file)", got)
	}
}

// compareTable compares the columns of a table and returns the number of cells compared.
func compareTable(t *testing.T, db *sql.DB, conn *pgx.Conn, table string, columns map[string]string) (cells int) {
	t.Helper()
	names := make([]string, 0, len(columns))
	for name := range columns {
		names = append(names, name)
	}
	key := map[string]string{"runs": "run_id", "workflow_state": "run_id", "system_state": "key"}[table]
	if key == "" {
		key = "id"
	}
	have := map[string][]*string{}
	rows, err := conn.Query(context.Background(),
		fmt.Sprintf("SELECT %s::text, %s::text FROM flujo.%s", key, strings.Join(names, "::text, "), table))
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		row, into := make([]*string, len(names)+1), make([]any, len(names)+1)
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		have[*row[0]] = row[1:]
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	file, err := db.Query(fmt.Sprintf("SELECT %s, +%s FROM %s", key, strings.Join(names, ", +"), table))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for file.Next() {
		row, into := make([]any, len(names)+1), make([]any, len(names)+1)
		for i := range row {
			into[i] = &row[i]
		}
		if err := file.Scan(into...); err != nil {
			t.Fatal(err)
		}
		n++
		k := fmt.Sprint(row[0])
		got, ok := have[k]
		if !ok {
			t.Errorf("%s %s is not in PostgreSQL", table, k)
			continue
		}
		for i, name := range names {
			cells++
			if problem := differs(columns[name], row[i+1], got[i]); problem != "" {
				t.Errorf("%s %s %s: %s", table, k, name, problem)
			}
		}
	}
	if file.Err() != nil {
		t.Fatal(file.Err())
	}
	if n != len(have) {
		t.Errorf("%s: got %d rows in PostgreSQL, want %d as in the file", table, len(have), n)
	}
	return cells
}

// differs compares a cell of the file with the text that PostgreSQL returns for it. It returns a description of the
// difference, or "".
func differs(kind string, file any, got *string) string {
	if file == nil || kind == "json" && file == "null" {
		if got != nil {
			return fmt.Sprintf("NULL became %q", *got)
		}
		return ""
	}
	if got == nil {
		return fmt.Sprintf("%v became NULL", file)
	}
	same := false
	switch kind {
	case "text":
		same = fmt.Sprint(file) == *got
	case "bool":
		same = (file == int64(1)) == (*got == "true")
	case "float8":
		f, err := strconv.ParseFloat(*got, 64)
		same = err == nil && f == file.(float64)
	case "float4":
		f, err := strconv.ParseFloat(*got, 32)
		same = err == nil && float32(f) == float32(file.(float64))
	case "json":
		same = reflect.DeepEqual(decode(file.(string)), decode(*got))
	case "time":
		same = fileTime(file.(string)).Equal(postgresTime(*got))
	}
	if !same {
		return fmt.Sprintf("%v became %q", file, *got)
	}
	return ""
}

// decode parses JSON, with numbers as exact fractions. It returns an error as the value.
func decode(s string) any {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	return exactNumbers(v)
}

// exactNumbers replaces the numbers in v by exact fractions.
func exactNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		r, ok := new(big.Rat).SetString(string(v))
		if !ok {
			return "not a number: " + string(v)
		}
		return r.RatString()
	case []any:
		for i := range v {
			v[i] = exactNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = exactNumbers(v[k])
		}
	}
	return v
}

// fileTime parses a timestamp of the file; it returns the zero time if s is not one.
func fileTime(s string) time.Time {
	for _, format := range []string{"2006-01-02T15:04:05.999999-07:00", "2006-01-02T15:04:05.999999",
		"2006-01-02 15:04:05"} {
		if at, err := time.Parse(format, s); err == nil {
			return at
		}
	}
	return time.Time{}
}

// postgresTime parses a timestamp of PostgreSQL; it returns 1970 if s is not one.
func postgresTime(s string) time.Time {
	at, err := time.Parse("2006-01-02 15:04:05.999999-07", s)
	if err != nil {
		return time.Unix(0, 0)
	}
	return at
}

// TestDeriveTracesOfFixture compares each derived trace with a tree that the test builds from the spans of the file.
func TestDeriveTracesOfFixture(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	result := mustMigrate(t, options(t, fixture, url))
	if len(result.Derived) != 1 || result.Derived[0].Rows != 60 || result.Derived[0].Count != 261 {
		t.Errorf("got derived rows %+v, want 60 from 261", result.Derived)
	}
	db, err := sql.Open("sqlite", "file:"+fixture+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn := connect(t, url)
	runs, err := db.Query("SELECT DISTINCT run_id FROM spans")
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	var ids []string
	for runs.Next() {
		var id string
		if err := runs.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if runs.Err() != nil {
		t.Fatal(runs.Err())
	}
	if len(ids) != 60 {
		t.Fatalf("got %d runs with spans, want 60", len(ids))
	}
	for _, id := range ids {
		want := treeOf(t, db, id)
		got := decode(one(t, conn, "SELECT trace_data FROM flujo.traces WHERE run_id = $1", id))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("trace of %s:\ngot  %v\nwant %v", id, got, want)
		}
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.traces t WHERE created_at <> (SELECT max(created_at) "+
		"FROM flujo.spans s WHERE s.run_id = t.run_id)"); got != "0" {
		t.Errorf("got %s traces whose created_at differs from that of their latest span, want 0", got)
	}
}

// treeOf returns the trace of a run as Flujo's SQLite backend returns it. It is written independently of the program.
func treeOf(t *testing.T, db *sql.DB, run string) any {
	t.Helper()
	rows, err := db.Query("SELECT span_id, parent_span_id, name, start_time, end_time, status, attributes "+
		"FROM spans WHERE run_id = ? ORDER BY start_time, id", run)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	byID := map[string]map[string]any{}
	var order []string
	for rows.Next() {
		var id, name, status, attributes string
		var parent *string
		var start float64
		var end *float64
		if err := rows.Scan(&id, &parent, &name, &start, &end, &status, &attributes); err != nil {
			t.Fatal(err)
		}
		node := map[string]any{"span_id": id, "parent_span_id": nil, "name": name, "status": status,
			"start_time": shortest(start), "end_time": nil, "attributes": decode(attributes), "children": []any{}}
		if parent != nil {
			node["parent_span_id"] = *parent
		}
		if end != nil {
			node["end_time"] = shortest(*end)
		}
		byID[id] = node
		order = append(order, id)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	var root any
	for i := len(order) - 1; i >= 0; i-- {
		node := byID[order[i]]
		parent, ok := node["parent_span_id"].(string)
		if !ok || byID[parent] == nil {
			root = node
		}
	}
	var attach func(node map[string]any)
	attach = func(node map[string]any) {
		for _, id := range order {
			if child := byID[id]; child["parent_span_id"] == node["span_id"] {
				attach(child)
				node["children"] = append(node["children"].([]any), child)
			}
		}
	}
	attach(root.(map[string]any))
	return root
}

// shortest returns the exact fraction of a float's shortest decimal form, which is the form in JSON.
func shortest(f float64) string {
	r, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	return r.RatString()
}
