package extract_test

import (
	"fmt"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// allOfRun selects every column of a run as one text.
const allOfRun = `SELECT concat_ws('|', run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at,
	updated_at, coalesce(execution_time_ms::text, '-'), coalesce(memory_usage_mb::text, '-'),
	coalesce(total_steps::text, '-'), coalesce(error_message, '-'))
	FROM flujo.runs WHERE run_id = $1`

// TestStubRuns tests stub runs for children in each table, with and without a row of workflow_state.
func TestStubRuns(t *testing.T) {
	t.Parallel()
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", flujotest.Cells{"run_id": "known"})
	f.Insert("steps", flujotest.Cells{"id": int64(1), "run_id": "known"})
	f.Insert("workflow_state", flujotest.Cells{"run_id": "childless"})
	want := map[string]string{}
	stated := 0
	times := map[string]string{"steps": "09:00:05", "traces": "09:00:07", "evaluations": "09:00:08"}
	for _, table := range flujotest.Children {
		f.Insert(table, flujotest.Cells{"run_id": table + " alone"})
		created, updated := times[table], times[table]
		if table == "spans" {
			created, updated = "09:00:00.5", "09:00:06" // start_time and created_at of the span
		}
		want[table+" alone"] = fmt.Sprintf("%s alone|unknown|unknown|latest|running|2026-01-05 %s+00|2026-01-05 "+
			"%s+00|-|-|0|-", table, created, updated)

		f.Insert(table, flujotest.Cells{"run_id": table + " in state"})
		f.Insert(
			"workflow_state",
			flujotest.Cells{
				"run_id":            table + " in state",
				"pipeline_id":       "pid",
				"pipeline_name":     "name",
				"pipeline_version":  "7",
				"status":            "failed",
				"total_steps":       int64(3),
				"execution_time_ms": 12.5,
				"memory_usage_mb":   "1.5",
				"error_message":     "oh\x00no",
				"created_at":        "2026-01-01T00:00:00+00:00",
				"updated_at":        "2026-01-02T00:00:00+00:00",
			},
		)
		want[table+" in state"] = table +
			" in state|pid|name|7|failed|2026-01-01 00:00:00+00|2026-01-02 00:00:00+00|12|1.5|3|ohno"
		stated++
	}
	// run_ids that are not clean text. Some of them are equal to others in PostgreSQL.
	for _, id := range []any{int64(12), 1.5, "bad \xff", []byte("a blob"), []byte("known"), []byte("steps alone"),
		"bad \uFFFD"} {
		f.Insert("evaluations", flujotest.Cells{"run_id": id})
	}
	for _, id := range []string{"12", "1.5", "bad \uFFFD", "a blob"} {
		want[id] = id + "|unknown|unknown|latest|running|2026-01-05 09:00:08+00|2026-01-05 09:00:08+00|-|-|0|-"
	}
	f.Insert("spans", flujotest.Cells{"run_id": "many", "start_time": 1767603609.0})
	f.Insert("spans", flujotest.Cells{"run_id": "many", "start_time": 1767603601.25, "end_time": 1767603620.5})
	f.Insert("spans", flujotest.Cells{"run_id": "many", "start_time": 1767603605.0})
	want["many"] = "many|unknown|unknown|latest|running|2026-01-05 09:00:01.25+00|2026-01-05 09:00:20.5+00|-|-|0|-"
	// An integer beyond int4 in workflow_state also widens the column of runs.
	f.Insert("steps", flujotest.Cells{"run_id": "wide"})
	f.Insert("workflow_state", flujotest.Cells{"run_id": "wide", "total_steps": int64(5_000_000_000)})
	want["wide"] = "wide|p|n|1|completed|2026-01-05 09:00:00+00|2026-01-05 09:00:09+00|-|-|5000000000|-"
	stated++
	path := f.CloseUntyped() // a TEXT column would convert the numbers to text

	url := pgtest.Database(t)
	o := flujotest.Options(t, path, url)
	o.Strict = true
	wantStrict(t, o, plural(len(want), "stub run"))
	o.Strict = false
	result := flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, "SET TimeZone = 'UTC'")
	for id, row := range want {
		if got := flujotest.One(t, conn, allOfRun, id); got != row {
			t.Errorf("run %q:\ngot  %s\nwant %s", id, got, row)
		}
	}
	if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.runs"); got != fmt.Sprint(len(want)+1) {
		t.Errorf("got %s runs, want %d", got, len(want)+1)
	}
	if got := flujotest.One(
		t,
		conn,
		"SELECT count(*) FROM flujo.evaluations e JOIN flujo.runs USING (run_id)",
	); got != "9" {
		t.Errorf("got %s evaluations with a run, want 9", got)
	}
	if len(result.Derived) == 0 || result.Derived[0].Table != "runs" || result.Derived[0].Rows != int64(len(want)) ||
		result.Derived[0].Count != int64(stated) {
		t.Errorf("got derived %+v, want %d runs, %d of them from workflow_state", result.Derived, len(want), stated)
	}
	if row := result.Tables[0]; row.Name != "runs" || row.RowsRead != 1 || row.Derived != int64(len(want)) ||
		!row.Match {
		t.Errorf("got %+v, want 1 row read, %d derived and a match", row, len(want))
	}
	text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n") + "\n"
	line := fmt.Sprintf("runs: %d rows derived from %d rows of workflow_state", len(want), stated)
	if !strings.Contains(text, line) {
		t.Errorf("the report does not say %q:\n%s", line, text)
	}
	flujotest.WantSame(t, "widened", result.Widened, []string{"runs.total_steps", "workflow_state.total_steps"})
}

// summary returns derived rows as text.
func summary(all []report.Derived) string {
	var parts []string
	for _, d := range all {
		parts = append(parts, fmt.Sprintf("%d %s from %d %s", d.Rows, d.Table, d.Count, d.From))
	}
	return strings.Join(parts, ", ")
}
