//go:build slow && unix

package torture

import (
	"testing"

	"flujo-port/internal/flujotest"
)

// hostilities are statements that make a state file one that Flujo would not make.
var hostilities = []string{
	"ALTER TABLE steps RENAME TO STEPS2; ALTER TABLE STEPS2 RENAME TO STEPS",
	"ALTER TABLE spans RENAME TO spans_real; CREATE VIEW spans AS SELECT * FROM spans_real",
	"CREATE VIEW notes AS SELECT * FROM runs",
	"ALTER TABLE runs ADD COLUMN slow AS (zeroblob(1000000000))",
	"ALTER TABLE runs ADD COLUMN twice AS (run_id || run_id) VIRTUAL",
	"CREATE INDEX slow ON runs (length(hex(zeroblob(length(run_id)))))",
	"CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END",
	"CREATE TABLE \"x\nDone: all rows\x1b[2K\" (a); INSERT INTO \"x\nDone: all rows\x1b[2K\" VALUES (1)",
	"ALTER TABLE runs ADD COLUMN \"a\u202eb\nDone\" TEXT; UPDATE runs SET \"a\u202eb\nDone\" = 'x\x1b[2Jy'",
	"UPDATE runs SET status = 'x\x1b[31m\nDone', pipeline_name = char(0)",
	"UPDATE steps SET output = '{\"a\": \"\\u0000\"}' WHERE id % 3 = 0",
	"UPDATE steps SET cost_usd = 9e999 WHERE id % 2 = 0",
	"UPDATE steps SET run_id = 'nobody' WHERE id = 1",
	"UPDATE spans SET start_time = 'yesterday'",
	"UPDATE system_state SET key = key || char(10) || 'Done: forged', value = '{' " +
		"WHERE typeof(key) = 'text'",
	"UPDATE runs SET created_at = '0000-99-99', updated_at = ''",
	"UPDATE steps SET token_counts = 9223372036854775807",
	"UPDATE evaluations SET score = 'nan'",
	"DROP TABLE evaluations",
	"DROP TABLE runs",
	"CREATE UNIQUE INDEX u ON runs (run_id COLLATE NOCASE)",
	"PRAGMA user_version = -1; PRAGMA application_id = 1",
	"PRAGMA journal_mode = WAL; UPDATE runs SET status = 'in the wal'",
	"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'TEXT', 'TEXT COLLATE nobody')",
	"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'view' WHERE name = 'steps'",
	"PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'spans'",

	// names that differ in case, in the eyes of SQLite, of Unicode, or not at all
	"ALTER TABLE runs RENAME TO r; ALTER TABLE r RENAME TO RuNs",
	"ALTER TABLE spans RENAME TO s; ALTER TABLE s RENAME TO \"SPANS\"; CREATE TABLE \"\u017fpans\" (id)",
	"CREATE TABLE \"\u017fteps\" (id INTEGER, run_id TEXT); INSERT INTO \"\u017fteps\" VALUES (1, 'x')",
	"ALTER TABLE steps RENAME TO \"\u017fteps\"",
	"ALTER TABLE runs RENAME COLUMN status TO STATUS",
	"ALTER TABLE steps RENAME COLUMN run_id TO Run_ID; ALTER TABLE steps RENAME COLUMN output TO OUTPUT",
	"ALTER TABLE steps RENAME COLUMN status TO \"\u017ftatus\"",
	"ALTER TABLE system_state RENAME COLUMN key TO \"\u212aey\"",
	"ALTER TABLE system_state RENAME COLUMN key TO \"KEY\"",
	"ALTER TABLE steps ADD COLUMN \"\u017ftatus\" TEXT; UPDATE steps SET \"\u017ftatus\" = 'another'",
	"ALTER TABLE runs ADD COLUMN \" run_id\" TEXT DEFAULT 'space'",
	// views, virtual tables and others under the names of tables
	"ALTER TABLE steps RENAME TO old; CREATE VIEW Steps AS SELECT * FROM old",
	"ALTER TABLE spans RENAME TO old; CREATE VIRTUAL TABLE SPANS USING fts5(run_id, span_id, name)",
	"ALTER TABLE traces RENAME TO old; CREATE VIRTUAL TABLE traces USING rtree(id, a, b)",
	"CREATE VIRTUAL TABLE more USING fts5(status); INSERT INTO more VALUES ('x')",
	"ALTER TABLE evaluations RENAME TO old; CREATE INDEX evaluations ON old (run_id)",
	"CREATE TABLE copy AS SELECT * FROM traces; DROP TABLE traces; ALTER TABLE copy RENAME TO traces",
	"CREATE TABLE copy (run_id TEXT PRIMARY KEY, trace_data TEXT, created_at TEXT) WITHOUT ROWID; " +
		"INSERT INTO copy SELECT * FROM traces; DROP TABLE traces; ALTER TABLE copy RENAME TO traces",
	"CREATE TABLE copy (key TEXT, value TEXT, updated_at TEXT) STRICT; INSERT INTO copy " +
		"SELECT CAST(key AS TEXT), CAST(value AS TEXT), CAST(updated_at AS TEXT) FROM system_state; " +
		"DROP TABLE system_state; ALTER TABLE copy RENAME TO system_state",
	"CREATE TABLE copy (run_id TEXT PRIMARY KEY, trace_data TEXT, created_at TEXT, rowid TEXT, _rowid_ TEXT); " +
		"INSERT INTO copy SELECT *, 'no', 'neither' FROM traces; DROP TABLE traces; ALTER TABLE copy RENAME TO traces",
	"CREATE TABLE copy (run_id TEXT PRIMARY KEY, trace_data TEXT, created_at TEXT, twice TEXT AS (run_id || run_id) " +
		"STORED); INSERT INTO copy SELECT * FROM traces; DROP TABLE traces; ALTER TABLE copy RENAME TO traces",
	"INSERT OR IGNORE INTO system_state SELECT upper(key), value, updated_at FROM system_state",
}

// TestHostilities tests that SQLite executes each statement on a state file that no other has changed.
func TestHostilities(t *testing.T) {
	t.Parallel()
	for _, statement := range hostilities {
		flujotest.Change(t, flujotest.RepairedFile(t), statement)
	}
}
