package flujotest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Versions selects Flujo's recorded migrations.
const Versions = "SELECT string_agg(version::text, ' ' ORDER BY version) FROM flujo.flujo_schema_versions"

// Tables holds the columns of the tables that Flujo itself creates in PostgreSQL. The letters are types: T is
// text, I integer, R real, D double precision, J jsonb, Z timestamptz, B boolean; "!" is NOT NULL.
var Tables = map[string]string{
	"runs": "run_id T!, pipeline_id T!, pipeline_name T!, pipeline_version T!, status T!, created_at Z!, " +
		"updated_at Z!, execution_time_ms I, memory_usage_mb R, total_steps I default 0, error_message T",
	"workflow_state": "run_id T!, pipeline_id T!, pipeline_name T!, pipeline_version T!, " +
		"current_step_index I!, pipeline_context J, last_step_output J, step_history J, status T!, created_at Z!, " +
		"updated_at Z!, total_steps I default 0, error_message T, execution_time_ms I, memory_usage_mb R, " +
		"metadata J, is_background_task B default false, parent_run_id T, task_id T, background_error T",
	"steps": "id I!, run_id T!, step_name T!, step_index I!, status T!, output J, raw_response J, " +
		"cost_usd R, token_counts I, execution_time_ms I, created_at Z!",
	"traces": "run_id T!, trace_data J!, created_at Z!",
	"spans": "id I!, run_id T!, span_id T!, parent_span_id T, name T!, start_time D!, end_time D, " +
		"status T!, attributes J, created_at Z!",
	"evaluations": "id I!, run_id T!, step_name T, score D!, feedback T, metadata J, " +
		"created_at Z! default now()",
	"system_state":          "key T!, value J!, updated_at Z! default now()",
	"flujo_schema_versions": "version I!, applied_at Z! default now()",
}

// Keys holds the primary key of each table.
var Keys = map[string]string{"runs": "run_id", "workflow_state": "run_id", "steps": "id", "traces": "run_id",
	"spans": "id", "evaluations": "id", "system_state": "key", "flujo_schema_versions": "version"}

// Children holds the tables with a foreign key to runs.
var Children = []string{"steps", "traces", "spans", "evaluations"}

// columnTypes returns "table.column type" for each column of Flujo's tables, and "name type" for each sequence.
func columnTypes(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	return strings.Split(One(t, conn, `SELECT string_agg(what, E'\n' ORDER BY what) FROM (
		SELECT format('%s.%s %s', relname, attname, format_type(atttypid, atttypmod)) FROM pg_attribute a
			JOIN pg_class c ON c.oid = attrelid
			WHERE relnamespace = 'flujo'::regnamespace AND relkind = 'r' AND attnum > 0
				AND relname NOT LIKE 'flujo\_port%'
		UNION ALL SELECT format('%s %s', sequencename, data_type) FROM pg_sequences
			WHERE schemaname = 'flujo' AND sequencename NOT LIKE 'flujo\_port%') x(what)`), "\n")
}

// WantTypes tests that all columns and sequences have Flujo's types, except for the given ones.
func WantTypes(t testing.TB, conn *pgx.Conn, other map[string]string) {
	t.Helper()
	kinds := map[string]string{
		"T": "text",
		"I": "integer",
		"R": "real",
		"D": "double precision",
		"J": "jsonb",
		"Z": "timestamp with time zone",
		"B": "boolean",
	}
	all := map[string]string{}
	for table, columns := range Tables {
		for column := range strings.SplitSeq(columns, ", ") {
			words := strings.Fields(column)
			all[table+"."+words[0]] = kinds[strings.TrimSuffix(words[1], "!")]
		}
		if Keys[table] == "id" {
			all[table+"_id_seq"] = "integer"
		}
	}
	maps.Copy(all, other)
	var want []string
	for name, kind := range all {
		want = append(want, name+" "+kind)
	}
	slices.Sort(want)
	got := columnTypes(t, conn)
	slices.Sort(got)
	WantSame(t, "types", got, want)
}
