package flujotest

import (
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Copy copies a state file to a new folder, so that a test may change it, and returns the copy's path.
func Copy(t testing.TB, path string) string {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	name := filepath.Join(t.TempDir(), "flujo_state.db")
	to, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// unsynced turns off the flushes to disk, which otherwise take a quarter of the tests' time.
const unsynced = "?_pragma=synchronous(off)"

// Changed executes statements on a copy of the fixture and returns the copy's path.
func Changed(t testing.TB, statements ...string) string {
	t.Helper()
	file := Copy(t, Fixture)
	db, err := sql.Open("sqlite", file+unsynced)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// Change executes a statement on a file.
func Change(t testing.TB, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path+unsynced)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(statement, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// KeepOpen executes a statement on a file and calls during before it closes the connection, so that the -wal is not
// checkpointed.
func KeepOpen(t testing.TB, file, statement string, during func()) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	during()
}

// OverwriteLeafPages sets the type of the table leaf pages in the last quarter of the file, where the rows added last
// are, to 0.
func OverwriteLeafPages(t testing.TB, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const page, tableLeaf = 4096, 13
	broken := 0
	for at := len(content) / page * 3 / 4 * page; at < len(content); at += page {
		if content[at] == tableLeaf {
			content[at] = 0
			broken++
		}
	}
	if broken == 0 {
		t.Fatal("found no table leaf page")
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// RepairedFile writes a file with cells that are converted with loss, inferred timestamps and rejected rows, and
// returns its path.
func RepairedFile(t testing.TB) string {
	t.Helper()
	return Changed(t,
		"UPDATE steps SET output = 'no JSON', created_at = '' WHERE id = 1",
		"UPDATE steps SET output = '{\"a\": NaN, \"b\": \"x\\u0000y\"}', token_counts = 5000000000 WHERE id = 2",
		"UPDATE steps SET output = x'ff7b7d', created_at = '2025-09-01T08:00:00.783607' WHERE id = 3",
		"INSERT INTO spans (run_id, span_id, name, start_time, status, created_at) "+
			"VALUES ('lost', 'a', 'b', 1, 'ok', '')",
		"INSERT INTO system_state VALUES (NULL, '{}', '2026-01-05')",
		"INSERT INTO system_state VALUES (x'61', '{}', '2026-01-05'), ('a', '[]', '2026-01-05')")
}
