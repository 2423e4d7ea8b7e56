package restore_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/restore"
)

// writes are statements that change, insert and delete rows in PostgreSQL.
var writes = []string{
	"UPDATE flujo.steps SET status = 'later' WHERE id = 3",
	"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) " +
		"SELECT run_id, 'new', 99, 'completed', now() FROM flujo.runs ORDER BY run_id LIMIT 1",
	"DELETE FROM flujo.steps WHERE id = 5",
}

// restoreWritten migrates a file, executes writes, and restores with the file as base.
func restoreWritten(t *testing.T, file string) (path string, result *report.Restoration, err error) {
	t.Helper()
	url := pgtest.Database(t)
	o := flujotest.Options(t, file, url)
	o.SkipIntegrity = true
	flujotest.Migrate(t, o)
	flujotest.Exec(t, flujotest.Connect(t, url), writes...)
	path = filepath.Join(t.TempDir(), "new.db")
	result, err = restore.Run(context.Background(), restore.Options{
		SQLite: path, Base: file, Postgres: url, Schema: flujotest.Schema})
	return path, result, err
}

// queryFile returns the rows of a query of one column on a file.
func queryFile(t *testing.T, path, query string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return flujotest.QueryColumn(t, db, query)
}

// renamed returns a statement that renames a column of steps that was added to it. SQLite itself would not rename one
// to a name of the rowid.
func renamed(from, to string) string {
	return "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = " +
		"replace(replace(sql, ' " + from + " ', ' " + to + " '), ' " + from + ")', ' " + to + ")') WHERE name = 'steps'"
}

// TestRestoreOddBase tests that rows are written to a base whose tables are Flujo's, but not as Flujo makes them.
func TestRestoreOddBase(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		statements []string
		query      string
		want       []string
	}{
		"names of other case": {
			[]string{"ALTER TABLE steps RENAME TO x", "ALTER TABLE x RENAME TO Steps",
				"ALTER TABLE Steps RENAME COLUMN status TO x", "ALTER TABLE Steps RENAME COLUMN x TO STATUS",
				"UPDATE sqlite_sequence SET seq = 214 WHERE name = 'Steps'"},
			"SELECT name || seq FROM sqlite_sequence WHERE name LIKE 'steps'", []string{"Steps215"},
		},
		"generated columns": {
			[]string{"ALTER TABLE steps ADD COLUMN big AS (upper(status))",
				"CREATE INDEX by_big ON steps (big)", "ALTER TABLE steps ADD COLUMN x AS (status || '!')",
				renamed("x", "rowid")},
			"SELECT big || rowid FROM steps WHERE id = 3", []string{"LATERlater!"},
		},
		"a column called rowid": {
			[]string{"ALTER TABLE steps ADD COLUMN x INTEGER", "UPDATE steps SET x = id + 1", renamed("x", "ROWID")},
			"SELECT rowid FROM steps WHERE id IN (3, 4) ORDER BY id", []string{"4", "5"},
		},
		"triggers": {
			[]string{"CREATE TABLE log (x)",
				"CREATE TRIGGER a AFTER UPDATE ON steps BEGIN INSERT INTO log VALUES (1); DELETE FROM runs; END",
				"CREATE TRIGGER b BEFORE DELETE ON STEPS BEGIN SELECT RAISE(IGNORE); END",
				"CREATE TRIGGER c BEFORE INSERT ON steps BEGIN SELECT RAISE(ABORT, 'no'); END",
				"CREATE TRIGGER d BEFORE INSERT ON spans BEGIN SELECT RAISE(ABORT, 'no'); END"},
			"SELECT count(*) || ' ' || (SELECT count(*) FROM log) FROM sqlite_master WHERE type = 'trigger'",
			[]string{"4 0"},
		},
		"conflicts that SQLite would ignore": {
			[]string{"CREATE TABLE other (x)", "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = " +
				"replace(sql, 'status TEXT NOT NULL', 'status TEXT NOT NULL ON CONFLICT IGNORE') WHERE name = 'steps'"},
			"SELECT count(*) FROM other", []string{"0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := flujotest.Changed(t, tc.statements...)
			path, result, err := restoreWritten(t, file)
			if err != nil {
				t.Fatal(err)
			}
			steps := "SELECT id || step_name || status FROM steps WHERE id IN (3, 4, 5) OR step_name = 'new' " +
				"ORDER BY id"
			if got := queryFile(t, path, steps); len(got) != 3 || !strings.HasSuffix(got[0], "later") ||
				!strings.HasSuffix(got[2], "newcompleted") {
				t.Errorf("got steps %q", got)
			}
			if got := queryFile(t, path, tc.query); !slices.Equal(got, tc.want) {
				t.Errorf("%s: got %q, want %q", tc.query, got, tc.want)
			}
			warned := slices.Contains(result.Warnings,
				"the base has triggers on steps, which did not run for the rows that were restored: a, b, c")
			if warned != (name == "triggers") {
				t.Errorf("got warnings %q", result.Warnings)
			}
		})
	}
}

// TestRestoreBaseAndNewRows tests that rows of which the base has none are added, an empty key among them.
func TestRestoreBaseAndNewRows(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	file := flujotest.Changed(t)
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	flujotest.ExecAt(t, url,
		"INSERT INTO flujo.system_state (key, value) SELECT key, '7' FROM unnest(ARRAY['', 'a', 'Z']) key")
	path := filepath.Join(t.TempDir(), "restored.db")
	_, err := restore.Run(t.Context(), restore.Options{
		SQLite: path, Base: file, Postgres: url, Schema: flujotest.Schema})
	if err != nil {
		t.Fatal(err)
	}
	got := queryFile(t, path, "SELECT quote(key) FROM system_state WHERE value = '7' ORDER BY key")
	if want := []string{"''", "'Z'", "'a'"}; !slices.Equal(got, want) {
		t.Errorf("got keys %s, want %s", got, want)
	}
}

// TestRestoreRefusesBase tests that a base to which the rows cannot be written is refused, and that nothing that it
// names is called.
func TestRestoreRefusesBase(t *testing.T) {
	t.Parallel()
	const schema = "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
	for name, tc := range map[string]struct {
		statement string
		words     []string
	}{
		"CHECK": {schema + "replace(sql, 'output TEXT', 'output TEXT CHECK (json(''{''))') WHERE name = 'steps'",
			[]string{"the base's table calls json for each row", "CHECK constraint in a copy of the base", "no-base"}},
		"default": {"ALTER TABLE steps ADD COLUMN x TEXT; " + schema +
			"replace(sql, 'x TEXT', 'x TEXT DEFAULT (hex(zeroblob(500000000)))') WHERE name = 'steps'",
			[]string{"calls hex, zeroblob"}},
		"VIRTUAL column": {"ALTER TABLE steps ADD COLUMN x AS (json('{'))", []string{"calls json"}},
		"index": {"CREATE INDEX i ON steps (quote(status))",
			[]string{"an index or generated column of table steps calls quote"}},
		"unknown function": {schema + "replace(sql, 'output TEXT', 'output TEXT CHECK (theirs(output))') " +
			"WHERE name = 'steps'", []string{"theirs", "the base's tables differ from Flujo's", "no-base"}},
		"no name of the rowid": {"ALTER TABLE steps ADD COLUMN x INT; ALTER TABLE steps ADD COLUMN y INT; " +
			"ALTER TABLE steps ADD COLUMN z INT;" + renamed("x", "rowid") + ";" + renamed("y", "oid") + ";" +
			renamed("z", "_rowid_"), []string{"every name of its rowid", "no-base"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _, err := restoreWritten(t, flujotest.Changed(t, tc.statement))
			if clierr.KindOf(err) != clierr.Refused || err == nil {
				t.Fatalf("got error %v, want a refusal", err)
			}
			for _, w := range tc.words {
				if !strings.Contains(flujotest.ErrorText(err), w) {
					t.Errorf("the error does not say %q: %s", w, flujotest.ErrorText(err))
				}
			}
			wantNoTemporaryFile(t, filepath.Dir(path))
		})
	}
}
