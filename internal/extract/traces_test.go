package extract_test

import (
	"database/sql"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// TestDeriveTracesOfFixture compares each derived trace with a tree that the test builds from the spans of the file.
func TestDeriveTracesOfFixture(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	result := flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	if len(result.Derived) != 1 || result.Derived[0].Rows != 60 || result.Derived[0].Count != 261 {
		t.Errorf("got derived rows %+v, want 60 from 261", result.Derived)
	}
	db, err := sql.Open("sqlite", "file:"+flujotest.Fixture+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn := flujotest.Connect(t, url)
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
		got := flujotest.DecodeJSON(flujotest.One(t, conn, "SELECT trace_data FROM flujo.traces WHERE run_id = $1", id))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("trace of %s:\ngot  %v\nwant %v", id, got, want)
		}
	}
	if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.traces t WHERE created_at <> (SELECT max(created_at) "+
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
		node := map[string]any{
			"span_id":        id,
			"parent_span_id": nil,
			"name":           name,
			"status":         status,
			"start_time": shortest(
				start,
			),
			"end_time":   nil,
			"attributes": flujotest.DecodeJSON(attributes),
			"children":   []any{},
		}
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

// TestDerivedTraces tests that derived traces are the trees that Flujo's SQLite backend returns.
func TestDerivedTraces(t *testing.T) {
	t.Parallel()
	f := flujotest.NewFile(t, flujotest.Format06)
	span := func(run, id string, parent any, start float64, more flujotest.Cells) {
		row := flujotest.Cells{
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
		f.Insert("spans", row)
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
		f.Insert("runs", flujotest.Cells{"run_id": run})
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
	span("tree", "b", "a", 11, flujotest.Cells{"attributes": `{"k": 1}`})
	span("tree", "a", nil, 10.5, flujotest.Cells{"end_time": 20.25})

	of("first root wins", node("x", "null", "1", "null", "{}"))
	span("first root wins", "y", nil, 2, nil)
	span("first root wins", "x", nil, 1, nil)

	of("parent is absent", node("x", "gone", "1", "null", "{}", node("y", "x", "2", "null", "{}")))
	span("parent is absent", "y", "x", 2, nil)
	span("parent is absent", "x", "gone", 1, nil)

	of("repaired",
		node("x", "null", "1", "null", `{"a": "NaN", "b": "`+"\uFFFD"+`"}`, node("y", "x", "2", "null", `"{"`)))
	span("repaired", "x", nil, 1, flujotest.Cells{"attributes": `{"a": NaN, "b": "\ud800"}`})
	span("repaired", "y", "x", 2, flujotest.Cells{"attributes": "{"})

	of("exact", node("x", "null", "1767603600.8574831", "1767603600.8574834", "{}"))
	span("exact", "x", nil, 1767603600.8574831, flujotest.Cells{"end_time": 1767603600.8574834})

	of("no attributes", node("x", "null", "1", "null", "{}"))
	span("no attributes", "x", nil, 1, flujotest.Cells{"attributes": nil})

	of("circle", "") // no span is a root, so Flujo returns no trace
	span("circle", "x", "y", 1, nil)
	span("circle", "y", "x", 2, nil)

	of("has a trace", `{"kept": true}`)
	span("has a trace", "x", nil, 1, nil)
	f.Insert("traces", flujotest.Cells{"run_id": "has a trace", "trace_data": `{"kept": true}`})

	of("no spans", "")
	path := f.Close()

	url := pgtest.Database(t)
	o := flujotest.Options(t, path, url)
	result := flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	for run, tree := range want {
		got := flujotest.DecodeJSON(
			flujotest.One(t, conn, "SELECT (SELECT trace_data FROM flujo.traces WHERE run_id = $1)", run),
		)
		if !reflect.DeepEqual(got, flujotest.DecodeJSON(tree)) {
			t.Errorf("trace of %s:\ngot  %v\nwant %v", run, got, flujotest.DecodeJSON(tree))
		}
	}
	if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.traces"); got != fmt.Sprint(len(want)) {
		t.Errorf("got %s traces, want %d", got, len(want))
	}
	flujotest.WantSame(t, "derived", []string{summary(result.Derived)}, []string{"6 traces from 12 spans"})
}
