package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/mapping"
)

// Flujo's own statements for the two tables and their indexes.
var spansSchema = []string{
	`CREATE TABLE traces (run_id TEXT PRIMARY KEY, trace_data TEXT NOT NULL, created_at TEXT NOT NULL,
		FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE)`,
	`CREATE TABLE spans (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_span_id TEXT,
		name TEXT NOT NULL, start_time REAL NOT NULL, end_time REAL, status TEXT NOT NULL, attributes TEXT, created_at TEXT NOT NULL,
		FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE)`,
	"CREATE INDEX idx_spans_run_id ON spans(run_id)",
	"CREATE INDEX idx_spans_parent_span ON spans(parent_span_id)",
}

func addSpan(id int, run, span string) string {
	return fmt.Sprintf("INSERT INTO spans (id, run_id, span_id, name, start_time, status, created_at) VALUES (%d, '%s', '%s', 'n', %d, 'ok', '2026-11-23 02:18:25')", id, run, span, -id)
}

func TestSpansWithoutTrace(t *testing.T) {
	t.Parallel()
	spans := []string{
		addSpan(9, "b", "b9"), addSpan(2, "a", "a2"), addSpan(5, "b", "b5"), addSpan(1, "traced", "t1"), addSpan(7, "a", "a7"),
		addSpan(3, "traced", "t3"), addSpan(4, "a", "a4"), addSpan(8, "Z", "Z8"), addSpan(6, "é", "é6"),
	}
	traced := "INSERT INTO traces VALUES ('traced', '{}', '2026-11-23 02:18:25'), ('without spans', '{}', '2026-11-23 02:18:25')"
	want := []string{`"Z", "Z8"`, `"a", "a2"`, `"a", "a4"`, `"a", "a7"`, `"b", "b5"`, `"b", "b9"`, `"é", "é6"`}
	withTraced := slices.Insert(slices.Clone(want), 6, `"traced", "t1"`, `"traced", "t3"`)
	for name, tc := range map[string]struct {
		statements []string
		want       []string
	}{
		"as Flujo makes it": {slices.Concat(spansSchema, spans, []string{traced}), want},
		"without an index":  {slices.Concat(spansSchema, []string{"DROP INDEX idx_spans_run_id"}, spans, []string{traced}), want},
		"without traces":    {slices.Concat(spansSchema[1:], spans), withTraced},
		"with empty traces": {slices.Concat(spansSchema, spans), withTraced},
		"without spans":     {slices.Concat(spansSchema, []string{traced}), nil},
	} {
		for _, state := range []string{"file", "-wal"} {
			t.Run(name+", in the "+state, func(t *testing.T) {
				t.Parallel()
				path := build(t, walMode)
				if state == "file" {
					execute(t, path, tc.statements...)
				} else {
					leftByKilled(t, path, tc.statements...)
				}
				watch(t, path)
				s := openSnapshot(t, path)
				got, err := collect(s.SpansWithoutTrace(t.Context(), []string{"run_id", "span_id"}))
				if err != nil || !slices.Equal(got, tc.want) {
					t.Errorf("%q, %v; not %q", got, err, tc.want)
				}
				all, err := collect(s.SpansWithoutTrace(t.Context(), mapping.SpanColumns))
				if err != nil || len(all) != len(tc.want) {
					t.Errorf("%q, %v", all, err)
				}
			})
		}
	}
}

// TestSpansWithoutTraceNeedsNoSorter: a sorter would hold every span in memory
// before the first one comes.
func TestSpansWithoutTraceNeedsNoSorter(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{
		"without statistics": nil,
		"with statistics":    {addSpan(1, "a", "a1"), addSpan(2, "a", "a2"), "ANALYZE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openSnapshot(t, build(t, slices.Concat(spansSchema, more)...))
			plan, err := collect(s.query(t.Context(), "EXPLAIN QUERY PLAN "+s.spansWithoutTrace(mapping.SpanColumns)))
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Join(plan, "\n")
			if strings.Contains(text, "B-TREE") || !strings.Contains(text, "SCAN s USING INDEX idx_spans_run_id") ||
				!strings.Contains(text, "SEARCH t USING COVERING INDEX sqlite_autoindex_traces_1 (run") {
				t.Errorf("the plan is\n%s", text)
			}
		})
	}
}
