package sqlite

import (
	"errors"
	"slices"
	"strings"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"
)

// TestFoldName compares FoldName with SQLite, which finds a table by any name that it folds to the same.
func TestFoldName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"": "", "steps": "steps", "STEPS": "steps", "Runs_1[Z]": "runs_1[z]", "ſteps": "ſteps", "ÉTÉ": "ÉtÉ",
		"\u212a": "\u212a", "@AZ[`az{": "@az[`az{", "\xff\xc4": "\xff\xc4",
	} {
		if got := FoldName(name); got != want {
			t.Errorf("FoldName(%q) = %q, want %q", name, got, want)
		}
	}
	names := []string{"steps", "Steps", "ſteps", "ſTEPS", "été", "ÉTÉ", "éTé", "K", "k", "\u212a"}
	for _, a := range names {
		c := openConn(t, `CREATE TABLE "`+a+`" (x)`)
		for _, b := range names {
			_, err := c.Calls(t.Context(), `SELECT x FROM "`+b+`"`)
			if found := err == nil; found != (FoldName(a) == FoldName(b)) {
				t.Errorf("the table %q is found as %q: %v, but folded they are %q and %q",
					a, b, found, FoldName(a), FoldName(b))
			}
		}
	}
}

// TestCalls tests that functions are found wherever a schema can call them.
func TestCalls(t *testing.T) {
	t.Parallel()
	const check, insert = "PRAGMA integrity_check", "INSERT INTO t (a) VALUES (?)"
	const update, remove = "UPDATE t SET a = ?", "DELETE FROM t WHERE rowid = ?"
	for name, tc := range map[string]struct {
		schema string
		calls  map[string]string // by statement
	}{
		"none": {"CREATE TABLE t (a TEXT NOT NULL, b AS (a || 'x')); CREATE INDEX i ON t (a) WHERE a > 'b'", nil},
		"cheap ones": {"CREATE TABLE t (a, b AS (lower(a) || length(a)), c DEFAULT (datetime('now')), " +
			"d DEFAULT CURRENT_TIMESTAMP); CREATE INDEX i ON t (substr(a, 2), a ->> 'b', a -> 'c')", nil},
		"a VIRTUAL column with a type": {"CREATE TABLE t (a, b TEXT AS (hex(zeroblob(9))))",
			map[string]string{check: "hex zeroblob", insert: "hex zeroblob", update: "hex zeroblob"}},
		"a VIRTUAL column that is NOT NULL": {"CREATE TABLE t (a, b NOT NULL AS (hex(a)))",
			map[string]string{check: "hex", insert: "hex", update: "hex"}},
		"a VIRTUAL column": {"CREATE TABLE t (a, b AS (hex(a)))", map[string]string{insert: "hex", update: "hex"}},
		"a STORED column": {"CREATE TABLE t (a, b AS (json(a)) STORED)",
			map[string]string{insert: "json", update: "json"}},
		"an index on an expression": {"CREATE TABLE t (a); CREATE INDEX i ON t (json_extract(a, '$'))",
			map[string]string{check: "json_extract", insert: "json_extract", update: "json_extract",
				remove: "json_extract"}},
		"an index on a VIRTUAL column": {"CREATE TABLE t (a, b AS (quote(a))); CREATE INDEX i ON t (b)",
			map[string]string{check: "quote", insert: "quote", update: "quote", remove: "quote"}},
		"a partial index": {"CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE a LIKE '%x' OR a GLOB '*'",
			map[string]string{check: "glob like", insert: "glob like", update: "glob like", remove: "glob like"}},
		"a CHECK constraint": {"CREATE TABLE t (a CHECK (a LIKE '%x'))",
			map[string]string{check: "like", insert: "like", update: "like"}},
		"a default": {"CREATE TABLE t (a, b DEFAULT (randomblob(9)))", map[string]string{insert: "randomblob"}},
		"a trigger": {"CREATE TABLE t (a); CREATE TRIGGER r BEFORE INSERT ON t BEGIN SELECT hex(NEW.a); END", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := openConn(t, tc.schema)
			for _, statement := range []string{check, insert, update, remove} {
				calls, err := c.Calls(t.Context(), statement)
				if got := strings.Join(calls, " "); err != nil || got != tc.calls[statement] {
					t.Errorf("%s calls %q, %v; want %q", statement, got, err, tc.calls[statement])
				}
			}
		})
	}
}

// TestCallsRunsNothing tests that the statement is only compiled.
func TestCallsRunsNothing(t *testing.T) {
	t.Parallel()
	c := openConn(t, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
	if calls, err := c.Calls(t.Context(), "DELETE FROM t WHERE hex(a) = a OR quote(a) = a OR hex(a) = 2"); err != nil ||
		!slices.Equal(calls, []string{"hex", "quote"}) {
		t.Errorf("got %q, %v", calls, err)
	}
	if rows := all(t, c, "SELECT a FROM t"); len(rows) != 1 {
		t.Errorf("got %d rows, want 1", len(rows))
	}
	if _, err := c.Calls(t.Context(), "DELETE FROM gone"); !strings.Contains(err.Error(), "no such table: gone") {
		t.Errorf("got %v", err)
	}
}

// TestDistrust tests that nothing in a database runs by itself.
func TestDistrust(t *testing.T) {
	t.Parallel()
	c := openConn(t, "CREATE TABLE t (a)", "CREATE TABLE log (a)", "CREATE VIEW v AS SELECT a FROM t",
		"CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (NEW.a); END", "INSERT INTO t VALUES (1)")
	if rows := all(t, c, "SELECT a FROM log"); len(rows) != 0 {
		t.Errorf("the trigger wrote %d rows", len(rows))
	}
	if err := c.Defend(); err != nil {
		t.Fatal(err)
	}
	for statement, says := range map[string]string{
		"SELECT a FROM v": "access to view \"v\" prohibited",
		`SELECT "gone"`:   "no such column",
		"PRAGMA writable_schema = 1; DELETE FROM sqlite_master": "may not be modified",
	} {
		err := c.Exec(t.Context(), statement)
		if e, ok := errors.AsType[*Error](err); !ok || e.Primary() != sqlite3.SQLITE_ERROR ||
			!strings.Contains(e.Message, says) {
			t.Errorf("%s: got %v, want %q", statement, err, says)
		}
	}
	if rows := all(t, c, "PRAGMA trusted_schema"); rows[0][0].Int != 0 {
		t.Error("the schema is trusted")
	}
}
