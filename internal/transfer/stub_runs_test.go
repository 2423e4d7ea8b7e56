package transfer_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

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
	f := newFile(t, format06)
	f.insert("runs", cells{"run_id": "known"})
	f.insert("steps", cells{"id": int64(1), "run_id": "known"})
	f.insert("workflow_state", cells{"run_id": "childless"})
	want := map[string]string{}
	stated := 0
	times := map[string]string{"steps": "09:00:05", "traces": "09:00:07", "evaluations": "09:00:08"}
	for _, table := range flujoChildren {
		f.insert(table, cells{"run_id": table + " alone"})
		created, updated := times[table], times[table]
		if table == "spans" {
			created, updated = "09:00:00.5", "09:00:06" // start_time and created_at of the span
		}
		want[table+" alone"] = fmt.Sprintf("%s alone|unknown|unknown|latest|running|2026-01-05 %s+00|2026-01-05 "+
			"%s+00|-|-|0|-", table, created, updated)

		f.insert(table, cells{"run_id": table + " in state"})
		f.insert("workflow_state",
			cells{"run_id": table + " in state", "pipeline_id": "pid", "pipeline_name": "name", "pipeline_version": "7",
				"status": "failed", "total_steps": int64(3), "execution_time_ms": 12.5, "memory_usage_mb": "1.5",
				"error_message": "oh\x00no",
				"created_at":    "2026-01-01T00:00:00+00:00", "updated_at": "2026-01-02T00:00:00+00:00"})
		want[table+" in state"] = table +
			" in state|pid|name|7|failed|2026-01-01 00:00:00+00|2026-01-02 00:00:00+00|12|1.5|3|ohno"
		stated++
	}
	// run_ids that are not clean text. Some of them are equal to others in PostgreSQL.
	for _, id := range []any{int64(12), 1.5, "bad \xff", []byte("a blob"), []byte("known"), []byte("steps alone"),
		"bad \uFFFD"} {
		f.insert("evaluations", cells{"run_id": id})
	}
	for _, id := range []string{"12", "1.5", "bad \uFFFD", "a blob"} {
		want[id] = id + "|unknown|unknown|latest|running|2026-01-05 09:00:08+00|2026-01-05 09:00:08+00|-|-|0|-"
	}
	f.insert("spans", cells{"run_id": "many", "start_time": 1767603609.0})
	f.insert("spans", cells{"run_id": "many", "start_time": 1767603601.25, "end_time": 1767603620.5})
	f.insert("spans", cells{"run_id": "many", "start_time": 1767603605.0})
	want["many"] = "many|unknown|unknown|latest|running|2026-01-05 09:00:01.25+00|2026-01-05 09:00:20.5+00|-|-|0|-"
	// An integer beyond int4 in workflow_state also widens the column of runs.
	f.insert("steps", cells{"run_id": "wide"})
	f.insert("workflow_state", cells{"run_id": "wide", "total_steps": int64(5_000_000_000)})
	want["wide"] = "wide|p|n|1|completed|2026-01-05 09:00:00+00|2026-01-05 09:00:09+00|-|-|5000000000|-"
	stated++
	path := f.closeUntyped() // a TEXT column would convert the numbers to text

	url := pgtest.Database(t)
	o := options(t, path, url)
	o.Strict = true
	wantStrict(t, o, plural(len(want), "stub run"))
	o.Strict = false
	result := mustMigrate(t, o)
	conn := connect(t, url)
	run(t, conn, "SET TimeZone = 'UTC'")
	for id, row := range want {
		if got := one(t, conn, allOfRun, id); got != row {
			t.Errorf("run %q:\ngot  %s\nwant %s", id, got, row)
		}
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.runs"); got != fmt.Sprint(len(want)+1) {
		t.Errorf("got %s runs, want %d", got, len(want)+1)
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.evaluations e JOIN flujo.runs USING (run_id)"); got != "9" {
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
	var text strings.Builder
	if err := result.Text(&text); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("derived: %d rows in runs from %d rows of workflow_state", len(want), stated)
	if !strings.Contains(text.String(), line) {
		t.Errorf("the report does not say %q:\n%s", line, &text)
	}
	wantSame(t, "widened", result.Widened, []string{"runs.total_steps", "workflow_state.total_steps"})
}

// TestDerivedTraces tests that derived traces are the trees that Flujo's SQLite backend returns.
func TestDerivedTraces(t *testing.T) {
	t.Parallel()
	f := newFile(t, format06)
	span := func(run, id string, parent any, start float64, more cells) {
		row := cells{
			"run_id":         run,
			"span_id":        id,
			"parent_span_id": parent,
			"name":           "span " + id,
			"start_time":     start,
			"attributes":     "{}",
		}
		for k, v := range more {
			row[k] = v
		}
		f.insert("spans", row)
	}
	want := map[string]string{}
	node := func(id, parent, start, end, attributes string, children ...string) string {
		if parent != "null" {
			parent = `"` + parent + `"`
		}
		return fmt.Sprintf(
			`{"span_id": %q, "parent_span_id": %s, "name": "span %s", "start_time": %s, "end_time": %s, `+
				`"status": "completed", "attributes": %s, "children": [%s]}`,
			id, parent, id, start, end, attributes, strings.Join(children, ", "))
	}
	runs := 0
	of := func(run, tree string) {
		f.insert("runs", cells{"run_id": run})
		if runs++; tree != "" {
			want[run] = tree
		}
	}
	of("tree",
		node("a",
			"null",
			"10.5",
			"20.25",
			"{}",
			node("b", "a", "11", "null", `{"k": 1}`, node("d", "b", "12", "null", "{}")),
			node("c", "a", "11.5", "null", "{}")))
	span("tree", "d", "b", 12, nil)
	span("tree", "c", "a", 11.5, nil)
	span("tree", "b", "a", 11, cells{"attributes": `{"k": 1}`})
	span("tree", "a", nil, 10.5, cells{"end_time": 20.25})

	of("first root wins", node("x", "null", "1", "null", "{}"))
	span("first root wins", "y", nil, 2, nil)
	span("first root wins", "x", nil, 1, nil)

	of("parent is absent", node("x", "gone", "1", "null", "{}", node("y", "x", "2", "null", "{}")))
	span("parent is absent", "y", "x", 2, nil)
	span("parent is absent", "x", "gone", 1, nil)

	of("repaired",
		node("x", "null", "1", "null", `{"a": "NaN", "b": "`+"\uFFFD"+`"}`, node("y", "x", "2", "null", `"{"`)))
	span("repaired", "x", nil, 1, cells{"attributes": `{"a": NaN, "b": "\ud800"}`})
	span("repaired", "y", "x", 2, cells{"attributes": "{"})

	of("exact", node("x", "null", "1767603600.8574831", "1767603600.8574834", "{}"))
	span("exact", "x", nil, 1767603600.8574831, cells{"end_time": 1767603600.8574834})

	of("no attributes", node("x", "null", "1", "null", "{}"))
	span("no attributes", "x", nil, 1, cells{"attributes": nil})

	of("circle", "") // no span is a root, so Flujo returns no trace
	span("circle", "x", "y", 1, nil)
	span("circle", "y", "x", 2, nil)

	of("has a trace", `{"kept": true}`)
	span("has a trace", "x", nil, 1, nil)
	f.insert("traces", cells{"run_id": "has a trace", "trace_data": `{"kept": true}`})

	of("no spans", "")
	path := f.close()

	url := pgtest.Database(t)
	o := options(t, path, url)
	result := mustMigrate(t, o)
	conn := connect(t, url)
	for run, tree := range want {
		got := decode(one(t, conn, "SELECT (SELECT trace_data FROM flujo.traces WHERE run_id = $1)", run))
		if !reflect.DeepEqual(got, decode(tree)) {
			t.Errorf("trace of %s:\ngot  %v\nwant %v", run, got, decode(tree))
		}
	}
	if got := one(t, conn, "SELECT count(*) FROM flujo.traces"); got != fmt.Sprint(len(want)) {
		t.Errorf("got %s traces, want %d", got, len(want))
	}
	wantSame(t, "derived", []string{summary(result.Derived)}, []string{"6 traces from 12 spans"})
}

// summary returns derived rows as text.
func summary(all []report.Derived) string {
	var parts []string
	for _, d := range all {
		parts = append(parts, fmt.Sprintf("%d %s from %d %s", d.Rows, d.Table, d.Count, d.From))
	}
	return strings.Join(parts, ", ")
}
