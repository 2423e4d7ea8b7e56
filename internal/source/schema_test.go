package source

import (
	"fmt"
	"slices"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqlite"
)

// TestNamesAreFolded tests that tables and columns are found as SQLite finds them.
func TestNamesAreFolded(t *testing.T) {
	t.Parallel()
	path := build(t,
		`CREATE TABLE STEPS ("ID" INTEGER PRIMARY KEY AUTOINCREMENT, Run_Id TEXT, "Start_Time" TEXT, myNote TEXT)`,
		"INSERT INTO steps VALUES (7, 'a', 's', 'n'), (9, 'b', 's', 'n')",
		"DELETE FROM steps WHERE id = 9",
		"INSERT INTO sqlite_sequence VALUES ('steps', 1000)", // SQLite does not read it
		"CREATE TABLE Runs (RUN_ID TEXT PRIMARY KEY, EXTRA TEXT)",
		"INSERT INTO runs VALUES ('c', 'x')",
		`CREATE TABLE "ſpans" (Run_Id TEXT)`,
		"CREATE TABLE Other (Run_Id TEXT)",
	)
	watch(t, path)
	s := openSnapshot(t, path)
	want := map[string][]string{
		"steps": {"id", "run_id", "start_time", "myNote"}, "runs": {"run_id", "EXTRA"},
		"ſpans": {"Run_Id"}, "Other": {"Run_Id"},
	}
	if got := fmt.Sprint(s.Tables()); got != fmt.Sprint(want) {
		t.Errorf("the tables are %v, not %v", got, want)
	}
	rows, err := collect(s.Rows(t.Context(), "steps", s.Tables()["steps"]))
	if err != nil || !slices.Equal(rows, []string{`7, 7, "a", "s", "n"`}) {
		t.Errorf("%q, %v", rows, err)
	}
	if kind, err := s.KeyKind(t.Context(), "steps", "id"); err != nil || kind != RowIDKey {
		t.Errorf("the key of steps is of kind %d, %v", kind, err)
	}
	if kind, err := s.KeyKind(t.Context(), "runs", "run_id"); err != nil || kind != UniqueKey {
		t.Errorf("the key of runs is of kind %d, %v", kind, err)
	}
	if id, err := s.LastID(t.Context(), "steps", "id"); err != nil || id != 9 {
		t.Errorf("the last id is %d, %v", id, err)
	}
	missing, err := collect(s.MissingRuns(t.Context(), []string{"steps"}))
	if err != nil || !slices.Equal(missing, []string{`"a"`}) {
		t.Errorf("%q, %v", missing, err)
	}
	if err := s.CheckIntegrity(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOpenRefusesNameConflicts tests that whatever SQLite finds under a name of Flujo's is an ordinary table with
// ordinary columns.
func TestOpenRefusesNameConflicts(t *testing.T) {
	t.Parallel()
	const other = "CREATE TABLE other (run_id TEXT, a TEXT)"
	for name, tc := range map[string]struct {
		statements []string
		says       string
	}{
		"view": {[]string{other, "CREATE VIEW spans AS SELECT * FROM other"},
			`"spans" is a view, but Flujo's spans is an ordinary table`},
		"VIEW":        {[]string{other, "CREATE VIEW sPANS AS SELECT * FROM other"}, `"sPANS" is a view`},
		"broken view": {[]string{"CREATE VIEW traces AS SELECT * FROM gone"}, `"traces" is a view`},
		"virtual table": {[]string{"CREATE VIRTUAL TABLE Memories USING fts5(id)"},
			`"Memories" is a virtual table, but Flujo's memories is an ordinary table`},
		"virtual table without its module": {[]string{"PRAGMA writable_schema = ON",
			"INSERT INTO sqlite_master VALUES ('table', 'steps', 'steps', 0, " +
				"'CREATE VIRTUAL TABLE steps USING vec99(a)')"},
			`"steps" is a virtual table`},
		"virtual table, spelled otherwise": {[]string{"PRAGMA writable_schema = ON",
			"INSERT INTO sqlite_master VALUES ('TABLE', 'Steps', 'steps', 0, " +
				"'CREATE/**/VIRTUAL TABLE Steps USING dbstat')"},
			`"Steps" is a virtual table`},
		"index": {[]string{other, "CREATE INDEX Evaluations ON other (a)"},
			`"Evaluations" is an index, but Flujo's evaluations is a table`},
		"VIRTUAL column": {[]string{"CREATE TABLE steps (id INTEGER PRIMARY KEY, Output TEXT AS (upper(id)))"},
			`"Output" of table steps is a generated column, but Flujo writes steps.output itself`},
		"STORED column": {[]string{"CREATE TABLE STEPS (id INTEGER PRIMARY KEY, output TEXT AS (id + 1) STORED)"},
			`"output" of table steps is a generated column`},
		"VIRTUAL column of 0.4": {[]string{"CREATE TABLE steps (id INTEGER PRIMARY KEY, cost AS (id))"},
			`"cost" of table steps is a generated column`},
		"VIRTUAL column that only dates a row": {[]string{
			"CREATE TABLE spans (id INTEGER PRIMARY KEY, end_time AS (id))"},
			`"end_time" of table spans is a generated column`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := build(t, append([]string{rowsTable}, tc.statements...)...)
			watch(t, path)
			s, err := Open(t.Context(), path)
			if err == nil {
				s.Close()
			}
			isError(t, err, clierr.Refused, fmt.Sprintf("open %q: ", path), tc.says, "replace it in a copy of the file")
		})
	}
}

// TestOpenRefusesNameConflictsInWAL: the -wal is not blamed for a view that it holds.
func TestOpenRefusesNameConflictsInWAL(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable)
	leftByKilled(t, path, "CREATE VIEW steps AS SELECT * FROM runs")
	_, err := Open(t.Context(), path)
	isError(t, err, clierr.Refused, `"steps" is a view`, "; "+passStateFile)
}

// fails is an expression that is an error whenever it is evaluated. Unlike one that takes hours, it shows at once.
const fails = "json('{')"

// TestComputedColumns tests that VIRTUAL columns are named and never computed, and that STORED ones are read.
func TestComputedColumns(t *testing.T) {
	t.Parallel()
	path := build(t,
		"CREATE TABLE runs (run_id TEXT PRIMARY KEY, status TEXT, rowid AS (-1), kept AS (upper(status)) STORED)",
		"CREATE TABLE steps (k TEXT PRIMARY KEY, run_id TEXT) WITHOUT ROWID",
		"CREATE TABLE other (a)",
		"INSERT INTO runs VALUES ('a', 's')",
		"INSERT INTO steps VALUES ('k', 'a')",
		"INSERT INTO other VALUES (1)",
		"ALTER TABLE runs ADD COLUMN big AS ("+fails+")",
		"ALTER TABLE runs ADD COLUMN note AS ("+fails+")",
		"ALTER TABLE steps ADD COLUMN big AS ("+fails+")",
		"ALTER TABLE other ADD COLUMN big AS ("+fails+")",
	)
	watch(t, path)
	s := openSnapshot(t, path)
	if got := s.Tables()["runs"]; !slices.Equal(got, []string{"run_id", "status", "kept"}) {
		t.Errorf("the columns are %q", got)
	}
	if got := s.Computed(); !slices.Equal(got, []string{"runs.rowid", "runs.big", "runs.note", "steps.big"}) {
		t.Errorf("the computed columns are %q", got)
	}
	rows, err := collect(s.Rows(t.Context(), "runs", s.Tables()["runs"]))
	if err != nil || !slices.Equal(rows, []string{`1, "a", "s", "S"`}) {
		t.Errorf("%q, %v", rows, err)
	}
	row, err := s.RowAt(t.Context(), "runs", 1, []string{"run_id", "big"})
	if err != nil || len(row) != 2 || show(row) != `"a", NULL` {
		t.Errorf("%v, %v", row, err)
	}
	for _, table := range []string{"runs", "steps"} {
		if bytes, err := s.EstimateBytes(t.Context(), table, 1); err != nil || bytes == 0 {
			t.Errorf("the size of %s is %d, %v", table, bytes, err)
		}
	}
	if n, err := s.CountWhere(t.Context(), "runs", "big", sqlite.TextValue("x")); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if err := s.CheckIntegrity(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCheckIntegrityCallsNothing tests that the check of one of Flujo's tables whose schema calls functions is
// refused, and that other tables of that kind are skipped.
func TestCheckIntegrityCallsNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		table string // %s is its name
		calls string // "" if it is checked
	}{
		"VIRTUAL column with a type": {"CREATE TABLE %[1]s (run_id TEXT, a TEXT AS (" + fails + "))", "json"},
		"VIRTUAL column that is NOT NULL": {"CREATE TABLE %[1]s (run_id TEXT, a NOT NULL AS (hex(zeroblob(9))))",
			"hex, zeroblob"},
		"STRICT table": {"CREATE TABLE %[1]s (run_id TEXT, a TEXT AS (hex(run_id))) STRICT", "hex"},
		"index":        {"CREATE TABLE %[1]s (run_id TEXT); CREATE INDEX i ON %[1]s (quote(run_id))", "quote"},
		"partial index": {"CREATE TABLE %[1]s (run_id TEXT); CREATE INDEX i ON %[1]s (run_id) " +
			"WHERE run_id LIKE '%%a%%b%%c'", "like"},
		"partial index without functions": {"CREATE TABLE %[1]s (run_id TEXT); CREATE INDEX i ON %[1]s (run_id) " +
			"WHERE run_id > 'b' AND run_id IS NOT NULL", ""},
		"cheap functions": {"CREATE TABLE %[1]s (run_id TEXT, a TEXT AS (upper(run_id))); " +
			"CREATE INDEX i ON %[1]s (run_id ->> 'a')", ""},
		"CHECK constraint": {"CREATE TABLE %[1]s (run_id TEXT CHECK (" + fails + " IS NULL))", ""},
		"default":          {"CREATE TABLE %[1]s (run_id TEXT, a TEXT DEFAULT (" + fails + "))", ""},
	} {
		for _, table := range []string{"Runs", "theirs"} {
			t.Run(name+" of "+table, func(t *testing.T) {
				t.Parallel()
				path := build(t, fmt.Sprintf(tc.table, table), "CREATE TABLE steps (id INTEGER PRIMARY KEY, a)",
					"CREATE INDEX by_a ON steps (a)", "INSERT INTO steps VALUES (1, 2)")
				watch(t, path)
				err := openSnapshot(t, path).CheckIntegrity(t.Context())
				if tc.calls == "" || table == "theirs" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				isError(t, err, clierr.Refused, fmt.Sprintf("check %q: ", path),
					"an index or generated column of table runs calls "+tc.calls, "drop the index or the column")
			})
		}
	}
}

// TestCheckIntegrityNextToOddTables tests that damage is found in tables next to those that are skipped.
func TestCheckIntegrityNextToOddTables(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]string{
		"function":      "CREATE TABLE odd (a TEXT AS (" + fails + "), b)",
		"virtual table": "CREATE VIRTUAL TABLE odd USING fts5(a)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := build(t, odd, "CREATE TABLE runs (run_id TEXT, status TEXT)",
				"CREATE INDEX by_status ON runs (status)", "INSERT INTO runs VALUES ('a', 'b'), ('c', 'd')",
				"PRAGMA writable_schema = ON",
				"UPDATE sqlite_master SET sql = 'CREATE INDEX by_status ON runs (run_id)' WHERE name = 'by_status'")
			err := openSnapshot(t, path).CheckIntegrity(t.Context())
			isError(t, err, clierr.Refused, "missing from index by_status")
		})
	}
}
