package source

import (
	"fmt"
	"testing"

	"flujo-port/internal/clierr"
)

// setBytes overwrites bytes of a file.
func setBytes(t testing.TB, path string, at int, bytes string) {
	t.Helper()
	contents := read(t, path)
	copy(contents[at:], bytes)
	write(t, path, contents)
}

// readEverything opens a file and reads it as a migration does.
func readEverything(t testing.TB, path string) error {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.CheckIntegrity(t.Context()); err != nil {
		return err
	}
	for table, columns := range s.Tables() {
		if columns == nil {
			continue
		}
		if _, err := s.Count(t.Context(), table); err != nil {
			return err
		}
		if _, err := collect(s.Rows(t.Context(), table, columns)); err != nil {
			return err
		}
		if _, err := s.LastID(t.Context(), table, columns[0]); err != nil {
			return err
		}
	}
	return nil
}

const needsOther = "the file is damaged, or needs an extension or a newer version of SQLite than 3."

// TestRefusesWhatSQLiteCannotRead tests that every error of SQLite whose cause is the file is a refusal.
func TestRefusesWhatSQLiteCannotRead(t *testing.T) {
	t.Parallel()
	// schemaAs replaces an object's statement in sqlite_schema.
	schemaAs := func(name, statement string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			execute(t, path, "PRAGMA writable_schema = ON",
				fmt.Sprintf("UPDATE sqlite_master SET sql = '%s' WHERE name = '%s'", statement, name))
		}
	}
	header := func(at int, bytes string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { setBytes(t, path, at, bytes) }
	}
	for name, tc := range map[string]struct {
		change func(t *testing.T, path string)
		says   string
		hint   string
	}{
		"schema format":    {header(44, "\x00\x00\x00\x09"), "unsupported file format", needsOther},
		"read version":     {header(18, "\x03\x03"), "file is not a database", notSQLite},
		"text encoding":    {header(56, "\x00\x00\x00\x07"), "", ""},
		"another coding":   {header(56, "\x00\x00\x00\x02"), "malformed database schema", needsOther},
		"page size":        {header(16, "\x00\x03"), "file is not a database", notSQLite},
		"payload fraction": {header(21, "\x41"), "file is not a database", notSQLite},
		"reserved bytes":   {header(20, "\xff"), "", ""},
		"collation of the key": {schemaAs("runs",
			"CREATE TABLE runs (run_id TEXT COLLATE theirs PRIMARY KEY, status TEXT)"),
			"no such collation sequence: theirs", needsOther},
		"collation of an index": {schemaAs("by_status", "CREATE INDEX by_status ON runs (status COLLATE theirs)"),
			"no such collation sequence: theirs", needsOther},
		"function in an index": {schemaAs("by_status", "CREATE INDEX by_status ON runs (theirs(status))"),
			"unknown function: theirs()", needsOther},
		"function in a partial index": {schemaAs("by_status",
			"CREATE INDEX by_status ON runs (status) WHERE theirs(status)"),
			"unknown function: theirs()", needsOther},
		"statement of a table": {schemaAs("runs", "CREATE TABLE runs ("),
			"malformed database schema (runs)", needsOther},
		"statement of an index": {schemaAs("by_status", "CREATE"), "malformed database schema (by_status)", needsOther},
		"newer syntax": {schemaAs("runs", "CREATE TABLE runs (run_id TEXT PRIMARY KEY, status TEXT) ENCRYPTED"),
			"malformed database schema (runs)", needsOther},
		"another name": {schemaAs("runs", "CREATE TABLE walks (run_id TEXT PRIMARY KEY, status TEXT)"),
			"malformed database schema", needsOther},
		"a view of sequences": {func(t *testing.T, path string) {
			execute(t, path, "PRAGMA writable_schema = ON", "INSERT INTO sqlite_master VALUES ('view', "+
				"'sqlite_sequence', "+
				"'sqlite_sequence', 0, 'CREATE VIEW sqlite_sequence AS SELECT 1 AS name, 2 AS seq')")
		}, `access to view "sqlite_sequence" prohibited`, needsOther},
	} {
		for _, mode := range []string{"DELETE", "WAL"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				path := build(t, "PRAGMA journal_mode = "+mode, rowsTable, "CREATE INDEX by_status ON runs (status)",
					addRows(200))
				tc.change(t, path)
				watch(t, path)
				isError(t, readEverything(t, path), clierr.Refused, fmt.Sprintf("%q", path), tc.says, tc.hint)
			})
		}
	}
}

// TestDamagedHeader tests that no byte of the header makes a file that is neither read nor refused.
func TestDamagedHeader(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"DELETE", "WAL"} {
		whole := read(t, build(t, "PRAGMA journal_mode = "+mode, rowsTable, addRows(200)))
		for at := range 100 {
			t.Run(fmt.Sprintf("%s %d", mode, at), func(t *testing.T) {
				t.Parallel()
				path := build(t)
				for _, b := range []byte{0, 1, 2, 3, 4, 9, 0x7f, 0xff} {
					damaged := append([]byte(nil), whole...)
					damaged[at] = b
					write(t, path, damaged)
					if err := readEverything(t, path); err != nil {
						isError(t, err, clierr.Refused, fmt.Sprintf("%q", path))
					}
				}
			})
		}
	}
}
