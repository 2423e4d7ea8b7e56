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
	`CREATE TABLE spans (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, span_id TEXT NOT NULL,
		parent_span_id TEXT, name TEXT NOT NULL, start_time REAL NOT NULL, end_time REAL, status TEXT NOT NULL,
		attributes TEXT, created_at TEXT NOT NULL, FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE)`,
	"CREATE INDEX idx_spans_run_id ON spans(run_id)",
	"CREATE INDEX idx_spans_parent_span ON spans(parent_span_id)",
}

func addSpan(id int, run, span string) string {
	return fmt.Sprintf(
		"INSERT INTO spans (id, run_id, span_id, name, start_time, status, created_at) VALUES (%d, '%s', '%s', "+
			"'n', %d, 'ok', '2026-11-23 02:18:25')",
		id,
		run,
		span,
		-id,
	)
}

func TestSpansWithoutTrace(t *testing.T) {
	t.Parallel()
	spans := []string{
		addSpan(
			9,
			"b",
			"b9",
		), addSpan(2, "a", "a2"), addSpan(5, "b", "b5"), addSpan(1, "traced", "t1"), addSpan(7, "a", "a7"),
		addSpan(3, "traced", "t3"), addSpan(4, "a", "a4"), addSpan(8, "Z", "Z8"), addSpan(6, "é", "é6"),
	}
	traced := "INSERT INTO traces VALUES ('traced', '{}', '2026-11-23 02:18:25'), ('without spans', '{}', " +
		"'2026-11-23 02:18:25')"
	want := []string{
		`8, "Z", "Z8"`,
		`2, "a", "a2"`,
		`4, "a", "a4"`,
		`7, "a", "a7"`,
		`5, "b", "b5"`,
		`9, "b", "b9"`,
		`6, "é", "é6"`,
	}
	withTraced := slices.Insert(slices.Clone(want), 6, `1, "traced", "t1"`, `3, "traced", "t3"`)
	for name, tc := range map[string]struct {
		statements []string
		want       []string
	}{
		"as Flujo makes it": {slices.Concat(spansSchema, spans, []string{traced}), want},
		"without an index": {slices.Concat(spansSchema, []string{"DROP INDEX idx_spans_run_id"}, spans,
			[]string{traced}), want},
		"without traces":    {slices.Concat(spansSchema[1:], spans), withTraced},
		"with empty traces": {slices.Concat(spansSchema, spans), withTraced},
		"without spans":     {slices.Concat(spansSchema, []string{traced}), nil},
		"by storage class": {
			slices.Concat(spansSchema, []string{
				addSpan(1, "a", "a1"), addSpan(2, "b", "b2"), "UPDATE spans SET run_id = x'62' WHERE id = 2",
				addSpan(3, "b", "b3"), addSpan(4, "c", "c4"),
				"INSERT INTO traces VALUES ('a', '{}', ''), ('b', '{}', ''), (x'63', '{}', '')",
			}),
			[]string{`4, "c", "c4"`, `2, x'62', "b2"`},
		},
		"by storage class, whatever is declared": {
			[]string{
				"CREATE TABLE traces (run_id TEXT PRIMARY KEY)", "INSERT INTO traces VALUES ('1'), ('a')",
				"CREATE TABLE spans (run_id INTEGER, span_id)",
				"INSERT INTO spans VALUES (1, 's1'), ('a', 's2'), (x'61', 's3')",
			},
			[]string{`1, 1, "s1"`, `3, x'61', "s3"`},
		},
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

// TestSpansWithoutTraceByBytes: runs are told apart whatever collation is declared.
func TestSpansWithoutTraceByBytes(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, build(t, "CREATE TABLE spans (run_id TEXT COLLATE NOCASE, span_id TEXT)",
		"CREATE TABLE traces (run_id TEXT COLLATE NOCASE PRIMARY KEY)", "INSERT INTO traces VALUES ('c')",
		"INSERT INTO spans VALUES ('a', 's1'), ('A', 's2'), ('a', 's3'), ('C', 's4'), ('c', 's5'), ('A', 's6')"))
	got, err := collect(s.SpansWithoutTrace(t.Context(), []string{"run_id", "span_id"}))
	want := []string{`2, "A", "s2"`, `6, "A", "s6"`, `4, "C", "s4"`, `1, "a", "s1"`, `3, "a", "s3"`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; not %q", got, err, want)
	}
}

// queryPlan says how SQLite means to run a query.
func queryPlan(t *testing.T, s *Snapshot, query string) string {
	t.Helper()
	plan, err := collect(s.query(t.Context(), "EXPLAIN QUERY PLAN "+query))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}

// TestSpansWithoutTraceOfOldFiles: spans of 0.4 have no id, and others lack
// more; what is not there is NULL, and not its name.
func TestSpansWithoutTraceOfOldFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		table string
		want  []string
	}{
		"0.4": {
			"CREATE TABLE spans (span_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, start_time REAL NOT NULL, " +
				"created_at DATETIME DEFAULT CURRENT_TIMESTAMP)",
			[]string{
				`1, "a", "s2", NULL, NULL, 2 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
				`3, "a", "s3", NULL, NULL, 3 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
				`2, "b", "s1", NULL, NULL, 1 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
			},
		},
		"without rowids": {
			"CREATE TABLE spans (span_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, start_time REAL NOT NULL, " +
				"created_at DATETIME) WITHOUT ROWID",
			[]string{
				`2, "a", "s2", NULL, NULL, 2 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
				`3, "a", "s3", NULL, NULL, 3 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
				`1, "b", "s1", NULL, NULL, 1 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
			},
		},
		"a column called rowid": {
			"CREATE TABLE spans (span_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, start_time REAL NOT NULL, " +
				"created_at DATETIME, ROWID TEXT DEFAULT 'x')",
			[]string{
				`1, "a", "s2", NULL, NULL, 2 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
				`3, "a", "s3", NULL, NULL, 3 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
				`2, "b", "s1", NULL, NULL, 1 real, NULL, NULL, NULL, "2026-11-23 02:18:25"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openSnapshot(t, build(t, tc.table, `INSERT INTO spans (span_id, run_id, start_time, created_at) VALUES
				('s2', 'a', 2, '2026-11-23 02:18:25'), ('s1', 'b', 1, '2026-11-23 02:18:25'),
				('s3', 'a', 3, '2026-11-23 02:18:25')`))
			got, err := collect(s.SpansWithoutTrace(t.Context(), mapping.SpanColumns))
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("%q, %v", got, err)
			}
		})
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
			query, err := s.spansWithoutTraceSQL(t.Context(), mapping.SpanColumns)
			if err != nil {
				t.Fatal(err)
			}
			text := queryPlan(t, s, query)
			if strings.Contains(text, "B-TREE") || !strings.Contains(text, "SCAN s USING INDEX idx_spans_run_id") ||
				!strings.Contains(text, "SEARCH t USING COVERING INDEX sqlite_autoindex_traces_1 (run") {
				t.Errorf("the plan is\n%s", text)
			}
		})
	}
}
