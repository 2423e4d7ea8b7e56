package mapping

import (
	"math"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"
)

func TestFileTable(t *testing.T) {
	t.Parallel()
	table := &Tables[slices.IndexFunc(Tables, func(t Table) bool { return t.Name == "evaluations" })]
	want := "CREATE TABLE evaluations (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, " +
		"step_name TEXT, score REAL NOT NULL, feedback TEXT, metadata TEXT, " +
		"created_at TEXT NOT NULL DEFAULT (DATETIME('now')), FOREIGN KEY (run_id) REFERENCES runs(run_id) " +
		"ON DELETE CASCADE)"
	if got := table.FileTable(); got != want {
		t.Errorf("%s, not\n%s", got, want)
	}
	var all []string
	for i := range Tables {
		all = append(append(all, Tables[i].FileTable()), Tables[i].FileIndexes()...)
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{
		"vector BLOB NOT NULL", "total_steps INTEGER DEFAULT 0", "end_time TEXT", "status TEXT NOT NULL",
		"CREATE INDEX idx_runs_status ON runs(status)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no table or index of a file has %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "gin") || strings.Contains(text, "hnsw") {
		t.Errorf("an index of PostgreSQL:\n%s", text)
	}
}

// TestPreserves stores values in columns of every declaration and compares the result
// with what SQLite returns.
func TestPreserves(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := sqlite.Open("file::memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	values := []sqlite.Value{{}, blob([]byte("12")), blob(nil)}
	for _, s := range []string{
		"", "x", "12", " 12.5 ", "\n7\t", "\u00a07", "+1", "-1e3", "9e999", "1e-400", "1.", ".5", "1.e5", ".", "1e",
		"-", "0x10", "0x1p4", "12x", "1_0", "nan", "inf", "-Infinity", "9223372036854775808", "0.1",
		"12\x00", "12\x00x", "1\x002", "\x0012", "x\x00", "12 \x00", "12\x00 ",
	} {
		values = append(values, text(s))
	}
	for _, n := range []int64{0, 1, -7, 1<<53 + 1, math.MaxInt64, math.MinInt64} {
		values = append(values, integer(n))
	}
	for _, x := range []float64{0.5, 12, -3, 1e15, 1e300, 9007199254740993, math.Inf(1)} {
		values = append(values, real(x))
	}
	stored := func(declaration string, v sqlite.Value) bool {
		if err := conn.Exec(ctx, "DROP TABLE IF EXISTS t; CREATE TABLE t (c "+declaration+")"); err != nil {
			t.Fatal(err)
		}
		insert, err := conn.Prepare("INSERT INTO t VALUES (?)")
		if err != nil {
			t.Fatal(err)
		}
		defer insert.Close()
		if _, err := insert.Run(ctx, []sqlite.Value{v}); err != nil {
			return false // a constraint
		}
		rows, err := conn.Query(ctx, "SELECT c FROM t")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		row, err := rows.Next()
		if err != nil {
			t.Fatal(err)
		}
		return sameValue(row[0], v)
	}
	var seen []string
	for i := range Tables {
		for _, c := range Tables[i].FileColumns() {
			if slices.Contains(seen, c.Declaration) {
				continue
			}
			seen = append(seen, c.Declaration)
			for _, v := range values {
				preserved := c.Preserves(v)
				if was := stored(c.Declaration, v); preserved != was {
					t.Errorf("%s of %s: SQLite preserves it %v, Preserves says %v", v, c.Declaration, was, preserved)
				}
			}
		}
	}
}

// TestHasFileColumn tests that the columns of every file format are known, also those that PostgreSQL does not have.
func TestHasFileColumn(t *testing.T) {
	t.Parallel()
	for table, names := range map[string][]string{
		"runs": {"run_id", "total_steps", "end_time", "total_cost", "final_context_blob", "start_time"},
		"steps": {"id", "step_run_id", "input_blob", "error_blob", "output_blob", "start_time", "end_time", "cost",
			"tokens", "duration_ms"},
		"spans":    {"id", "start_time", "end_time", "created_at"},
		"memories": {"vector"},
	} {
		for _, name := range names {
			if !TableOf(table).HasFileColumn(name) {
				t.Errorf("%s.%s is not known", table, name)
			}
		}
	}
	unknown := map[string]string{"runs": "RUN_ID", "steps": "extra", "memories": "start_time", "spans": ""}
	for table, name := range unknown {
		if TableOf(table).HasFileColumn(name) {
			t.Errorf("%s.%s is known", table, name)
		}
	}
}
