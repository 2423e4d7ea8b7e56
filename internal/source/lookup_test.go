package source

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"
)

// Flujo's own statements for the tables that belong to runs and their indexes,
// as testdata/flujo_state.db has them; see also spansSchema.
var childrenSchema = slices.Concat([]string{
	`CREATE TABLE runs (run_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, pipeline_name TEXT NOT NULL,
		pipeline_version TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)`,
	`CREATE TABLE steps (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, step_name TEXT NOT NULL,
		step_index INTEGER NOT NULL, status TEXT NOT NULL, output TEXT, raw_response TEXT, cost_usd REAL,
		token_counts INTEGER, execution_time_ms INTEGER, created_at TEXT NOT NULL,
		FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE)`,
	"CREATE INDEX idx_steps_run_id ON steps(run_id)",
	"CREATE INDEX idx_steps_step_index ON steps(step_index)",
	`CREATE TABLE evaluations (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, step_name TEXT,
		score REAL NOT NULL, feedback TEXT, metadata TEXT, created_at TEXT NOT NULL DEFAULT (DATETIME('now')),
		FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE)`,
	"CREATE INDEX idx_evaluations_run_id ON evaluations(run_id)",
	"CREATE INDEX idx_evaluations_created_at ON evaluations(created_at)",
}, spansSchema)

var children = []string{"steps", "spans", "traces", "evaluations"}

func addRun(run string) string {
	return fmt.Sprintf("INSERT INTO runs VALUES ('%s', 'p', 'p', '1', 'ok', '2026-11-23', '2026-11-23')", run)
}

func addStep(run string) string {
	return fmt.Sprintf(
		"INSERT INTO steps (run_id, step_name, step_index, status, created_at) VALUES (%s, 'n', 0, 'ok', '2026-11-23')",
		run,
	)
}

func addEvaluation(run string) string {
	return fmt.Sprintf("INSERT INTO evaluations (run_id, score) VALUES (%s, 1)", run)
}

func TestMissingRuns(t *testing.T) {
	t.Parallel()
	rows := []string{
		addRun(
			"there",
		), addStep("'there'"), addSpan(1, "there", "s"), addStep("'b'"), addStep("'b'"), addSpan(2, "b", "s"),
		addEvaluation("'b'"),
		addEvaluation(
			"'é'",
		), addSpan(3, "Z", "s"), addSpan(4, "a", "s"), addStep("'a'"),
		"INSERT INTO traces VALUES ('t', '{}', ''), ('there', '{}', '')",
		addStep("''"), addEvaluation("'There'"), addStep("'there '"),
	}
	odd := slices.Concat(rows, []string{
		addStep(
			"x'62'",
		), addEvaluation("x'62'"), addEvaluation("'b' || char(0)"), addEvaluation("CAST(x'ff' AS TEXT)"),
		addRun("\u00ff"), addStep("12"),
	})
	want := []string{`""`, `"There"`, `"Z"`, `"a"`, `"b"`, `"t"`, `"there "`, `"é"`}
	for name, tc := range map[string]struct {
		statements []string
		children   []string
		want       []string
	}{
		"as Flujo makes it": {slices.Concat(childrenSchema, rows), children, want},
		"without indexes": {
			slices.Concat(childrenSchema, []string{"DROP INDEX idx_spans_run_id", "DROP INDEX idx_steps_run_id",
				"DROP INDEX idx_evaluations_run_id"}, rows),
			children, want,
		},
		"without runs": {slices.Concat(childrenSchema, rows, []string{"DROP TABLE runs"}), children,
			slices.Insert(slices.Clone(want), 6, `"there"`)},
		"of one table": {slices.Concat(childrenSchema, rows), []string{"traces"}, []string{`"t"`}},
		"of one table without an index": {
			[]string{rowsTable, "CREATE TABLE steps (run_id TEXT)",
				"INSERT INTO steps VALUES ('c'), ('a'), ('c'), ('b'), ('a')"},
			[]string{"steps"}, []string{`"a"`, `"b"`, `"c"`},
		},
		"none":          {slices.Concat(childrenSchema, rows[:3]), children, nil},
		"nothing there": {childrenSchema, children, nil},
		"odd keys": {
			slices.Concat(childrenSchema, odd), children,
			[]string{`""`, `"12"`, `"There"`, `"Z"`, `"a"`, `"b"`, `"b\x00"`, `"t"`, `"there "`, `"é"`, "x'ff'",
				"x'62'"},
		},
		"NULL": {
			[]string{rowsTable, "CREATE TABLE steps (run_id)", "INSERT INTO steps VALUES (NULL), ('a'), (NULL), ('r')",
				"INSERT INTO runs VALUES ('r', 'ok')"},
			[]string{"steps"}, []string{"NULL", `"a"`},
		},
		"by storage class": {
			[]string{
				"CREATE TABLE runs (run_id TEXT PRIMARY KEY)", "INSERT INTO runs VALUES ('a'), (x'62'), ('13'), (x'')",
				"CREATE TABLE steps (run_id)",
				"INSERT INTO steps VALUES ('a'), (x'61'), ('b'), (x'62'), ('12'), (12), (13), ('13'), (''), (x'')",
				"CREATE TABLE spans (run_id TEXT)",
				"INSERT INTO spans VALUES ('a'), (x'61'), ('b'), (x'62'), ('12'), ('13')",
			},
			[]string{"steps", "spans"}, []string{"12", "13", `""`, `"12"`, `"b"`, "x'61'"},
		},
		"by storage class, whatever is declared": {
			[]string{
				rowsTable, "INSERT INTO runs VALUES ('12', 'ok'), ('a', 'ok')",
				"CREATE TABLE steps (run_id INTEGER)", "INSERT INTO steps VALUES (12), ('a'), ('b')",
			},
			[]string{"steps"}, []string{"12", `"b"`},
		},
		"whatever collation is declared": {
			[]string{
				"CREATE TABLE runs (run_id TEXT COLLATE NOCASE PRIMARY KEY)", "INSERT INTO runs VALUES ('A'), ('b')",
				"CREATE TABLE steps (run_id TEXT COLLATE NOCASE)",
				"INSERT INTO steps VALUES ('a'), ('c'), ('C'), ('b')",
				"CREATE TABLE spans (run_id TEXT COLLATE RTRIM)", "INSERT INTO spans VALUES ('c'), ('c ')",
			},
			[]string{"steps", "spans"}, []string{`"C"`, `"a"`, `"c"`, `"c "`},
		},
		"numbers that are alike": {
			[]string{
				"CREATE TABLE runs (run_id PRIMARY KEY)", "INSERT INTO runs VALUES (7), (8.0)",
				"CREATE TABLE steps (run_id)",
				"INSERT INTO steps VALUES (5), (5.0), (7), (7.0), (8), (8.0), (1000000000000000), (1e15), " +
					"(5.0), (5), ('5'), (x'35'), (NULL)",
				"CREATE TABLE spans (run_id)", "INSERT INTO spans VALUES (5.0), (9e999), (5), ('5'), (-0.5)",
			},
			[]string{"steps", "spans"},
			[]string{"NULL", "5", "8", "1000000000000000", `"5"`, "x'35'", "-0.5 real", "5 real", "7 real",
				"1e+15 real", "+Inf real"},
		},
		"a column declared a time": {
			[]string{rowsTable, "CREATE TABLE steps (run_id DATETIME)",
				"INSERT INTO steps VALUES ('2026-11-23 02:18:25'), ('b')"},
			[]string{"steps"}, []string{`"2026-11-23 02:18:25"`, `"b"`},
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
				got, err := collect(s.MissingRuns(t.Context(), tc.children))
				if err != nil || !slices.Equal(got, tc.want) {
					t.Errorf("%q, %v; not %q", got, err, tc.want)
				}
			})
		}
	}
}

// TestMissingRunsNeedsNoSorter: nothing that grows with the file is held in
// memory, the indexes that Flujo makes give the order.
func TestMissingRunsNeedsNoSorter(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{
		"without statistics": nil,
		"with statistics": {addRun("a"), addStep("'a'"), addStep("'b'"), addSpan(1, "a", "s"), addSpan(2, "c", "s"),
			addEvaluation("'d'"), "ANALYZE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openSnapshot(t, build(t, slices.Concat(childrenSchema, more)...))
			text := queryPlan(t, s, s.missingRunsSQL(children))
			for _, part := range []string{
				"SCAN steps USING COVERING INDEX idx_steps_run_id", "SCAN spans USING COVERING INDEX idx_spans_run_id",
				"SCAN traces USING COVERING INDEX sqlite_autoindex_traces_1",
				"SCAN evaluations USING COVERING INDEX idx_evaluations_run_id",
				"SEARCH r USING COVERING INDEX sqlite_autoindex_runs_1 (run",
			} {
				if !strings.Contains(text, part) {
					t.Errorf("the plan has no %q", part)
				}
			}
			if strings.Contains(text, "B-TREE") || t.Failed() {
				t.Errorf("the plan is\n%s", text)
			}
		})
	}
}

// keyed is a table whose keys hold all that a key can.
var keyed = []string{
	"CREATE TABLE keyed (k, n INTEGER, at DATETIME, note TEXT)",
	`INSERT INTO keyed VALUES ('a', 1, '2026-11-23 02:18:25', 'x'), (x'61', 2, 12.5, NULL), ('a', 3, NULL, ''),
		(12, 4, 1767603600, x'00'), ('12', 5, '', 'y'), (12.0, 6, x'', 'z'), (NULL, 7, '', ''), ('', 8, '', ''),
		(x'', 9, '', ''), ('a' || char(0) || 'b', 10, '', ''), (CAST(x'ff' AS TEXT), 11, '', ''),
		(9223372036854775807, 12, '', ''), (0.1, 13, '', ''), (char(0), 14, '', ''), (x'00', 15, '', '')`,
}

func TestValues(t *testing.T) {
	t.Parallel()
	path := build(t, keyed...)
	watch(t, path)
	s := openSnapshot(t, path)
	for _, tc := range []struct {
		key  sqlite.Value
		want string // of n
	}{
		{sqlite.TextValue("a"), "1 3"},
		{sqlite.BlobValue([]byte("a")), "2"},
		{sqlite.IntegerValue(12), "4"},
		{sqlite.RealValue(12), "6"},
		{sqlite.TextValue("12"), "5"},
		{sqlite.Value{}, ""},
		{sqlite.TextValue(""), "8"},
		{sqlite.BlobValue([]byte{}), "9"},
		{sqlite.BlobValue(nil), "9"},
		{sqlite.TextValue("a\x00b"), "10"},
		{sqlite.TextValue("\xff"), "11"},
		{sqlite.BlobValue([]byte("\xff")), ""},
		{sqlite.IntegerValue(math.MaxInt64), "12"},
		{sqlite.RealValue(0.1), "13"},
		{sqlite.TextValue("\x00"), "14"},
		{sqlite.BlobValue([]byte{0}), "15"},
		{sqlite.TextValue("A"), ""},
		{sqlite.TextValue("'a' OR 1"), ""},
	} {
		values, err := s.Values(t.Context(), "keyed", "n", "k", tc.key)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range values {
			if v.Class != sqlite.Integer {
				t.Errorf("%s: n is of class %s", tc.key, v.Class)
			}
			got = append(got, v.String())
		}
		slices.Sort(got)
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s %s: %q, not %q", tc.key.Class, tc.key, got, tc.want)
		}
		if held, err := s.Holds(t.Context(), "keyed", "k", tc.key); err != nil || held != (tc.want != "") {
			t.Errorf("%s %s: held is %v, %v", tc.key.Class, tc.key, held, err)
		}
	}
}

// TestValuesAreAsStored: by storage class, whatever was declared, and the
// caller's to keep.
func TestValuesAreAsStored(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, build(t, keyed...))
	ask := func(column string, key sqlite.Value) []sqlite.Value {
		t.Helper()
		values, err := s.Values(t.Context(), "keyed", column, "k", key)
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	first := ask("at", sqlite.TextValue("a"))
	for _, v := range []sqlite.Value{sqlite.BlobValue([]byte("a")), sqlite.IntegerValue(12),
		sqlite.TextValue("12")} {
		ask("at", v) // what was given before stays
	}
	if want := []sqlite.Value{sqlite.TextValue("2026-11-23 02:18:25"), {}}; !slices.EqualFunc(first, want, same) {
		t.Errorf("%v", first)
	}
	if got, want := ask("at", sqlite.BlobValue([]byte("a"))),
		[]sqlite.Value{sqlite.RealValue(12.5)}; !slices.EqualFunc(
		got,
		want,
		same,
	) {
		t.Errorf("%v", got)
	}
	if got, want := ask("at", sqlite.RealValue(12)), []sqlite.Value{sqlite.BlobValue(nil)}; !slices.EqualFunc(
		got,
		want,
		same,
	) {
		t.Errorf("%v", got)
	}
	if got, want := ask("at", sqlite.IntegerValue(12)),
		[]sqlite.Value{sqlite.IntegerValue(1767603600)}; !slices.EqualFunc(
		got,
		want,
		same,
	) {
		t.Errorf("%v", got)
	}
	for _, at := range []struct{ table, column, keyColumn string }{
		{"gone", "n", "k"}, {"keyed", "gone", "k"}, {"keyed", "n", "gone"}, {"keyed", "N", "k"},
		{"sqlite_master", "sql", "name"}, {"keyed", "a", "a"},
	} {
		// SQLite would take a quoted name without a column for a string.
		if values, err := s.Values(t.Context(), at.table, at.column, at.keyColumn,
			sqlite.TextValue("a")); err != nil ||
			values != nil {
			t.Errorf("%v: %v, %v", at, values, err)
		}
	}
	for _, at := range []struct{ table, column string }{{"gone", "k"}, {"keyed", "a"}, {"keyed", "K"},
		{"sqlite_master", "name"}} {
		if held, err := s.Holds(t.Context(), at.table, at.column, sqlite.TextValue("a")); err != nil || held {
			t.Errorf("%v: %v, %v", at, held, err)
		}
	}
}

// TestDeclaredTypesHaveNoSay: by a column's declared type SQLite takes '5' for
// 5; PostgreSQL's two would be two keys.
func TestDeclaredTypesHaveNoSay(t *testing.T) {
	t.Parallel()
	s := openSnapshot(
		t,
		build(
			t,
			"CREATE TABLE t (k TEXT)",
			"INSERT INTO t VALUES ('5'), (x'35')",
			"CREATE TABLE i (k INTEGER)",
			"INSERT INTO i VALUES (5), (x'35')",
		),
	)
	for _, tc := range []struct {
		table string
		key   sqlite.Value
		want  int
	}{
		{"t", sqlite.TextValue("5"), 1}, {"t", sqlite.BlobValue([]byte("5")), 1}, {"t", sqlite.IntegerValue(5), 0},
		{"t", sqlite.RealValue(5), 0},
		{"i", sqlite.TextValue("5"), 0}, {"i", sqlite.BlobValue([]byte("5")), 1}, {"i", sqlite.IntegerValue(5), 1},
		{"i", sqlite.RealValue(5), 0},
	} {
		values, err := s.Values(t.Context(), tc.table, "k", "k", tc.key)
		if err != nil || len(values) != tc.want || tc.want == 1 && !same(values[0], tc.key) {
			t.Errorf("%s %s in %s: %v, %v", tc.key.Class, tc.key, tc.table, values, err)
		}
		held, err := s.Holds(t.Context(), tc.table, "k", tc.key)
		if err != nil || held != (tc.want == 1) {
			t.Errorf("%s %s in %s is held: %v, %v", tc.key.Class, tc.key, tc.table, held, err)
		}
		row, err := s.Row(t.Context(), tc.table, "k", tc.key, []string{"k"})
		if err != nil || len(row) != tc.want {
			t.Errorf("%s %s in %s: row %v, %v", tc.key.Class, tc.key, tc.table, row, err)
		}
	}
}

// TestLookupsUseIndexes: they are made once per row or run.
func TestLookupsUseIndexes(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, build(t, childrenSchema...))
	for table, index := range map[string]string{
		"runs": "sqlite_autoindex_runs_1", "steps": "idx_steps_run_id", "spans": "idx_spans_run_id",
		"traces":      "sqlite_autoindex_traces_1",
		"evaluations": "idx_evaluations_run_id",
	} {
		query := fmt.Sprintf("SELECT * FROM %s WHERE %s", table, sameAs("run_id"))
		if text := queryPlan(t, s, strings.ReplaceAll(query, "?1", "'a'")); !strings.Contains(
			text,
			"SEARCH "+table+" USING ",
		) ||
			!strings.Contains(text, index) {
			t.Errorf("%s: the plan is\n%s", table, text)
		}
	}
}

func TestRow(t *testing.T) {
	t.Parallel()
	path := build(t, keyed...)
	watch(t, path)
	s := openSnapshot(t, path)
	for name, tc := range map[string]struct {
		table, keyColumn string
		key              sqlite.Value
		columns          []string
		want             string
	}{
		"all of it": {"keyed", "k", sqlite.TextValue("12"), []string{"n", "note", "at", "k"},
			`5, "y", "", "12"`},
		"twice": {"keyed", "n", sqlite.IntegerValue(4), []string{"k", "k"}, `12, 12`},
		"a column absent": {"keyed", "n", sqlite.IntegerValue(2),
			[]string{"gone", "at", "it's", `a "b"`, "rowid", "n"}, `NULL, 12.5 real, NULL, NULL, NULL, 2`},
		"all absent":    {"keyed", "n", sqlite.IntegerValue(2), []string{"gone", "too"}, `NULL, NULL`},
		"the first":     {"keyed", "at", sqlite.TextValue(""), []string{"n"}, `5`},
		"no such row":   {"keyed", "n", sqlite.IntegerValue(99), []string{"k"}, ``},
		"NULL":          {"keyed", "k", sqlite.Value{}, []string{"n"}, ``},
		"no such table": {"gone", "n", sqlite.IntegerValue(1), []string{"k"}, ``},
		"no such key":   {"keyed", "gone", sqlite.TextValue("gone"), []string{"k"}, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openSnapshot(t, path)
			row, err := s.Row(t.Context(), tc.table, tc.keyColumn, tc.key, tc.columns)
			if got := show(row); err != nil || got != tc.want || row != nil && len(row) != len(tc.columns) {
				t.Errorf("%s, %v; not %s", got, err, tc.want)
			}
		})
	}
	row, err := s.Row(t.Context(), "keyed", "n", sqlite.IntegerValue(1), []string{"k", "at"})
	for n := range int64(12) {
		if _, err := s.Row(t.Context(), "keyed", "n", sqlite.IntegerValue(n), []string{"k", "at"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := show(row); err != nil || got != `"a", "2026-11-23 02:18:25"` {
		t.Errorf("%s, %v", got, err)
	}
}

// rowIDTables are tables whose rowid is not just "rowid".
var rowIDTables = []string{
	"CREATE TABLE plain (k TEXT PRIMARY KEY, v)",
	"INSERT INTO plain (rowid, k, v) VALUES (7, 'b', 1), (-3, 'c', 2), (9, 'a', 3)",
	"CREATE TABLE own (id INTEGER PRIMARY KEY, k)", "INSERT INTO own VALUES (7, 'b'), (-3, 'c'), (9, 'a')",
	"CREATE TABLE one (k TEXT PRIMARY KEY, RowID TEXT)",
	"INSERT INTO one (_rowid_, k, RowID) VALUES (7, 'b', 'x'), (-3, 'c', 'y'), (9, 'a', 'z')",
	"CREATE TABLE two (k TEXT PRIMARY KEY, rowid TEXT, _ROWID_ INT)",
	"INSERT INTO two (oid, k) VALUES (7, 'b'), (-3, 'c'), (9, 'a')",
	"CREATE TABLE three (k TEXT PRIMARY KEY, rowid, _rowid_, OID)", "INSERT INTO three (k) VALUES ('b'), ('c'), ('a')",
	"CREATE TABLE none (k TEXT PRIMARY KEY, v) WITHOUT ROWID", "INSERT INTO none VALUES ('b', 1), ('c', 2), ('a', 3)",
	"CREATE INDEX none_v ON none (v DESC, k)", // another order, if it were taken
	"CREATE TABLE empty (k) ",
}

// TestRowIDs: rows and keys come with the same rowid, also where a column took
// its name, or where there is none.
func TestRowIDs(t *testing.T) {
	t.Parallel()
	path := build(t, rowIDTables...)
	watch(t, path)
	s := openSnapshot(t, path)
	for table, want := range map[string][]string{
		"plain": {`-3, "c"`, `7, "b"`, `9, "a"`}, "own": {`-3, "c"`, `7, "b"`, `9, "a"`},
		"one": {`-3, "c"`, `7, "b"`, `9, "a"`},
		"two": {`-3, "c"`, `7, "b"`, `9, "a"`}, "three": {`1, "b"`, `2, "c"`, `3, "a"`},
		"none": {`1, "a"`, `2, "b"`, `3, "c"`}, "empty": nil,
	} {
		if got, err := collect(s.Rows(t.Context(), table, []string{"k"})); err != nil || !slices.Equal(got, want) {
			t.Errorf("rows of %s: %q, %v", table, got, err)
		}
		got, err := collect(s.Keys(t.Context(), table, "k"))
		if slices.Sort(got); err != nil || !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("keys of %s: %q, %v", table, got, err)
		}
		last := int64(9)
		switch table {
		case "three", "none":
			last = 3
		case "empty":
			last = 0
		}
		if got, err := s.LastID(t.Context(), table, "id"); err != nil || got != last {
			t.Errorf("the last id of %s is %d, %v", table, got, err)
		}
	}
}

// TestKeys: as they are stored, each with its row.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, build(t, keyed...))
	rows, err := s.Keys(t.Context(), "keyed", "k")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got := map[int64]sqlite.Value{}
	for {
		row, err := rows.Next()
		if err == io.EOF {
			break
		}
		if err != nil || len(row) != 2 || row[0].Class != sqlite.Integer {
			t.Fatal(row, err)
		}
		v := row[1]
		v.Bytes = slices.Clone(v.Bytes)
		got[row[0].Int] = v
	}
	for i, want := range []sqlite.Value{
		sqlite.TextValue("a"), sqlite.BlobValue([]byte("a")), sqlite.TextValue("a"), sqlite.IntegerValue(12),
		sqlite.TextValue("12"), sqlite.RealValue(12),
		{}, sqlite.TextValue(""), sqlite.BlobValue(nil), sqlite.TextValue("a\x00b"), sqlite.TextValue("\xff"),
		sqlite.IntegerValue(math.MaxInt64),
		sqlite.RealValue(0.1), sqlite.TextValue("\x00"), sqlite.BlobValue([]byte{0}),
	} {
		if !same(got[int64(i+1)], want) {
			t.Errorf("row %d has the key %s, not %s", i+1, got[int64(i+1)], want)
		}
	}
	if len(got) != 15 {
		t.Errorf("%d keys", len(got))
	}
}

func TestKeyKind(t *testing.T) {
	t.Parallel()
	tables := map[string]struct {
		declared string
		want     KeyKind
	}{
		"Flujo's id":                   {"(k INTEGER PRIMARY KEY AUTOINCREMENT, v)", RowIDKey},
		"rowid":                        {"(k INTEGER PRIMARY KEY, v)", RowIDKey},
		"rowid in small letters":       {"(v, k integer, PRIMARY KEY (k))", RowIDKey},
		"Flujo's run_id":               {"(k TEXT PRIMARY KEY, v)", UniqueKey},
		"without a type":               {"(k PRIMARY KEY, v)", UniqueKey},
		"INT is not INTEGER":           {"(k INT PRIMARY KEY, v)", UniqueKey},
		"INTEGER that is no rowid":     {"(k INTEGER PRIMARY KEY DESC, v)", UniqueKey},
		"INTEGER in a table without":   {"(k INTEGER PRIMARY KEY, v) WITHOUT ROWID", UniqueKey},
		"text in a table without":      {"(k TEXT PRIMARY KEY, v) WITHOUT ROWID", UniqueKey},
		"not a key":                    {"(k TEXT, v INTEGER PRIMARY KEY)", FreeKey},
		"no key at all":                {"(k INTEGER, v)", FreeKey},
		"unique, which is not the key": {"(k TEXT UNIQUE, v TEXT PRIMARY KEY)", FreeKey},
		"one of two":                   {"(k TEXT, v TEXT, PRIMARY KEY (k, v))", FreeKey},
		"the other of two":             {"(v TEXT, k INTEGER, PRIMARY KEY (v, k))", FreeKey},
		"one of two, without":          {"(k TEXT, v TEXT, PRIMARY KEY (k, v)) WITHOUT ROWID", FreeKey},
		"another column":               {"(K2 TEXT PRIMARY KEY, v)", FreeKey},
	}
	var statements []string
	for name, table := range tables {
		statements = append(statements, fmt.Sprintf("CREATE TABLE %s %s", sqltext.Ident(name), table.declared))
	}
	path := build(t, statements...)
	watch(t, path)
	s := openSnapshot(t, path)
	for name, table := range tables {
		if got, err := s.KeyKind(t.Context(), name, "k"); err != nil || got != table.want {
			t.Errorf("%s: %d, %v; not %d", name, got, err, table.want)
		}
	}
	if got, err := s.KeyKind(t.Context(), "gone", "k"); err != nil || got != FreeKey {
		t.Errorf("no such table: %d, %v", got, err)
	}
}

// TestKeyKindTellsTheTruth: where the kind says that keys are unique, SQLite
// does not take one twice, and where it says that they are numbers, no others.
func TestKeyKindTellsTheTruth(t *testing.T) {
	t.Parallel()
	for declared, holds := range map[string]string{
		"(k INTEGER PRIMARY KEY, v)":           "(1, 0)",
		"(k TEXT PRIMARY KEY, v)":              "('a', 0), (x'61', 0), (NULL, 0), (NULL, 0), (CAST(x'ff' AS TEXT), 0)",
		"(k INTEGER PRIMARY KEY DESC, v)":      "('a', 0), (NULL, 0), (NULL, 0), (12, 0)",
		"(k TEXT, v TEXT, PRIMARY KEY (k, v))": "('a', 1), ('a', 2)",
	} {
		s := openSnapshot(t, build(t, "CREATE TABLE t "+declared, "INSERT INTO t VALUES "+holds))
		kind, err := s.KeyKind(t.Context(), "t", "k")
		if err != nil {
			t.Fatal(err)
		}
		keys, err := collect(s.Keys(t.Context(), "t", "k"))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, key := range keys {
			_, key, _ := strings.Cut(key, ", ")
			if kind != FreeKey && seen[key] && key != "NULL" || kind == RowIDKey && key != "1" {
				t.Errorf("%s: %s is of kind %d", declared, key, kind)
			}
			seen[key] = true
		}
	}
}

func TestVectorSizes(t *testing.T) {
	t.Parallel()
	memories := "CREATE TABLE memories (id TEXT PRIMARY KEY, vector BLOB NOT NULL, payload TEXT, metadata TEXT, " +
		"created_at TEXT)"
	for name, tc := range map[string]struct {
		rows string
		want map[int64]int64
	}{
		"none":     {"", map[int64]int64{}},
		"one size": {"('a', zeroblob(6144)), ('b', zeroblob(6144))", map[int64]int64{6144: 2}},
		"mixed": {
			"('a', zeroblob(6144)), ('b', zeroblob(8)), ('c', zeroblob(6144)), ('d', zeroblob(7)), ('e', x'')",
			map[int64]int64{0: 1, 7: 1, 8: 1, 6144: 2},
		},
		"what is no vector": {"('a', 'text of 13 b'), ('b', 12), ('c', 1.5), ('d', CAST('1234' AS BLOB))",
			map[int64]int64{4: 1}},
		"bytes, not letters": {"('a', CAST('éé' AS BLOB)), ('b', x'00000000')", map[int64]int64{4: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			statements := []string{memories}
			if tc.rows != "" {
				statements = append(statements, "INSERT INTO memories (id, vector) VALUES "+tc.rows)
			}
			s := openSnapshot(t, build(t, statements...))
			got, err := s.VectorSizes(t.Context())
			if err != nil || !maps.Equal(got, tc.want) {
				t.Errorf("%v, %v; not %v", got, err, tc.want)
			}
		})
	}
	s := openSnapshot(
		t,
		build(t, "CREATE TABLE memories (id, vector)", "INSERT INTO memories VALUES (1, NULL), (2, zeroblob(4))"),
	)
	if got, err := s.VectorSizes(t.Context()); err != nil || !maps.Equal(got, map[int64]int64{4: 1}) {
		t.Errorf("with NULL: %v, %v", got, err)
	}
}

// TestLastIDByRowID: steps of 0.4 have no id, their rowids stand for it.
func TestLastIDByRowID(t *testing.T) {
	t.Parallel()
	path := build(
		t,
		"CREATE TABLE steps (step_run_id TEXT PRIMARY KEY, run_id TEXT)",
		"INSERT INTO steps (rowid, step_run_id) VALUES (3, 'a'), (41, 'b'), (5, 'c')",
		"CREATE TABLE spans (span_id TEXT PRIMARY KEY)",
		// its name is not remembered, but may have been by another table of that name
		"CREATE TABLE evaluations (id INTEGER PRIMARY KEY AUTOINCREMENT)",
		"INSERT INTO sqlite_sequence VALUES ('steps', 77)",
	)
	watch(t, path)
	s := openSnapshot(t, path)
	for _, tc := range []struct {
		table, column string
		want          int64
	}{{"steps", "rowid", 77}, {"steps", "id", 77}, {"spans", "rowid", 0}, {"spans", "id", 0},
		{"evaluations", "id", 0}} {
		if got, err := s.LastID(t.Context(), tc.table, tc.column); err != nil || got != tc.want {
			t.Errorf("%s of %s: %d, %v; not %d", tc.column, tc.table, got, err, tc.want)
		}
	}
	without := openSnapshot(
		t,
		build(
			t,
			"CREATE TABLE steps (step_run_id TEXT PRIMARY KEY)",
			"INSERT INTO steps (rowid, step_run_id) VALUES (3, 'a'), (41, 'b'), (5, 'c')",
		),
	)
	for _, column := range []string{"rowid", "id"} {
		if got, err := without.LastID(t.Context(), "steps", column); err != nil || got != 41 {
			t.Errorf("%s: %d, %v", column, got, err)
		}
	}
}

// TestModified: the file's own time, or its -wal's where that is later.
func TestModified(t *testing.T) {
	t.Parallel()
	old, new := time.Date(2025, 1, 2, 3, 4, 5, 678000, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
	touch := func(t *testing.T, path string, at time.Time) {
		t.Helper()
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	modified := func(t *testing.T, path string, want time.Time) {
		t.Helper()
		if got := openSnapshot(t, path).Modified(); !got.Equal(want) {
			t.Errorf("%s, not %s", got, want)
		}
	}
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		path := build(t, rowsTable)
		touch(t, path, old)
		modified(t, path, old)
	})
	t.Run("with a later -wal", func(t *testing.T) {
		t.Parallel()
		path := withWAL(t)
		touch(t, path, old)
		touch(t, path+"-wal", new)
		modified(t, path, new)
	})
	t.Run("with an earlier -wal", func(t *testing.T) {
		t.Parallel()
		path := withWAL(t)
		touch(t, path, new)
		touch(t, path+"-wal", old)
		modified(t, path, new)
	})
	t.Run("with an empty -wal", func(t *testing.T) {
		t.Parallel()
		path := build(t, walMode, rowsTable)
		write(t, path+"-wal", nil)
		touch(t, path, old)
		touch(t, path+"-wal", new)
		modified(t, path, old)
	})
	t.Run("through a link", func(t *testing.T) {
		t.Parallel()
		path := build(t, rowsTable)
		touch(t, path, old)
		link := filepath.Join(t.TempDir(), "link.db")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		modified(t, link, old)
	})
}

// TestAbsentColumns: a column that is not there is NULL, and SQLite does not take its
// quoted name for a string.
func TestAbsentColumns(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, build(t, "CREATE TABLE runs (run_id TEXT)", "INSERT INTO runs VALUES ('a')"))
	_, err := collect(s.query(t.Context(), `SELECT "gone" FROM runs`))
	isError(t, err, clierr.Refused, `no such column: "gone"`)
	if got := s.storedOrNull("runs", []string{"gone", "run_id", "RUN_ID"}); got != `NULL, "run_id", NULL` {
		t.Errorf("%s", got)
	}
	row, err := s.Row(t.Context(), "runs", "run_id", sqlite.TextValue("a"), []string{"gone"})
	if err != nil || len(row) != 1 || row[0].Class != sqlite.Null {
		t.Errorf("%v, %v", row, err)
	}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(i))
	}
	return names
}

// TestEstimateBytes: the size of a table is told by a few of its pages.
func TestEstimateBytes(t *testing.T) {
	t.Parallel()
	// Rows get longer, so that the first ones alone would tell little.
	const rows, columns = 20_000, "(a INTEGER, b TEXT, c BLOB)"
	fill := func(table string) string {
		return fmt.Sprintf(
			"INSERT INTO %s WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < %d) SELECT n, "+
				"printf('%%.*c', n / 100, 'x') || 'ü', zeroblob(100) FROM i",
			table,
			rows,
		)
	}
	const bytes = rows*(rows+1)/2/100 + 2*rows + 100*rows // but for what division leaves
	s, c, pages := openCounting(t, build(
		t,
		walMode,
		"CREATE TABLE t "+columns,
		fill("t"),
		"CREATE TABLE empty "+columns,
		"CREATE TABLE far "+columns,
		"INSERT INTO far (rowid, b) VALUES (-9223372036854775808, 'one'), (9223372036854775807, 'three')",
		"CREATE TABLE keyed (a INTEGER PRIMARY KEY, b TEXT, c BLOB) WITHOUT ROWID",
		fill("keyed"),
		"CREATE TABLE named (rowid TEXT, _rowid_ TEXT, oid BLOB)",
		"INSERT INTO named VALUES ('a', 'bc', NULL), (NULL, 'abc', X'00')",
		"CREATE TABLE wide (c"+strings.Join(
			manyNames(1500),
			", c",
		)+")",
		"INSERT INTO wide (c0) VALUES ('more columns than SQLite adds up')",
	))
	for _, tc := range []struct {
		table      string
		rows       int64
		low, high  int64
		ofAllPages int // that it may read, one in so many
	}{
		{"t", rows, bytes * 9 / 10, bytes * 11 / 10, 4},
		{"empty", 0, 0, 0, 100},
		{"far", 2, 8, 8, 100},
		{"keyed", rows, rows * 102, bytes, 100}, // by the first rows alone
		{"named", 2, 7, 7, 100},
		{"wide", 1, 0, 0, 100},
	} {
		before := c.reads
		got, err := s.EstimateBytes(t.Context(), tc.table, tc.rows)
		if err != nil || got < tc.low || got > tc.high {
			t.Errorf("%s: %d bytes, %v", tc.table, got, err)
		}
		if reads := c.reads - before; reads > pages/tc.ofAllPages {
			t.Errorf("%s: %d reads, of %d pages", tc.table, reads, pages)
		}
	}
}
