package flujotest

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// CellKinds holds, by table and column, how a cell of the file is compared with PostgreSQL. It is written
// independently of the program's table mapping.
var CellKinds = map[string]map[string]string{
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

// Difference compares a cell of the file with the text that PostgreSQL returns for it. It returns a description of the
// difference, or "".
func Difference(kind string, file any, got *string) string {
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
		same = reflect.DeepEqual(DecodeJSON(file.(string)), DecodeJSON(*got))
	case "time":
		same = fileTime(file.(string)).Equal(postgresTime(*got))
	}
	if !same {
		return fmt.Sprintf("%v became %q", file, *got)
	}
	return ""
}

// DecodeJSON parses JSON, with numbers as exact fractions. It returns an error as the value.
func DecodeJSON(s string) any {
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
