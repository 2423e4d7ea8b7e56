//go:build slow && unix

package torture

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/flujotest"

	_ "modernc.org/sqlite"
)

// damaged migrates a file whose bytes are not SQLite's.
func damaged(t *testing.T, w *worker) outcome {
	file := flujotest.Copy(t, w.file)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if w.random.IntN(5) == 0 {
		content = content[:w.random.IntN(len(content))]
	}
	for range 1 + w.random.IntN(20) {
		if len(content) > 0 {
			content[w.random.IntN(len(content))] = byte(w.random.UintN(256))
		}
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return w.migrateFile(t, file)
}

// migrateFile checks, migrates and verifies a file of which nothing is known. What is migrated must verify.
func (w *worker) migrateFile(t *testing.T, file string) outcome {
	t.Helper()
	p := w.place(t, w.server, w.jobs[0])
	before := sum(t, file)
	migrate := w.start(t, p.url, "migrate", "--sqlite", file, "--quarantine", "--without-pgvector")
	migrate.wait(t)
	p.check(t, migrate)
	check := w.start(t, p.url, "check", "--sqlite", file)
	check.wait(t)
	p.check(t, check)
	p.settle(t)
	o := outcome{result: done}
	if migrate.code != 0 {
		o.result = unchanged
		if state := p.look(t); state != p.before {
			t.Errorf("refused, but not unchanged: %s\n%s", state, migrate)
		}
	} else {
		verify := w.start(t, p.url, "verify", "--sqlite", file)
		verify.wait(t)
		p.check(t, verify)
		if verify.code != 0 {
			t.Errorf("migrated, but %s\n%s", verify, migrate)
		}
		restored := filepath.Join(p.dir, "restored.db")
		restore := w.start(t, p.url, "restore", "--sqlite", restored, "--base", file)
		restore.wait(t)
		p.check(t, restore)
	}
	if sum(t, file) != before {
		t.Errorf("the file changed: %s", migrate)
	}
	return o
}

// hostile migrates a file that SQLite reads, and that is not as Flujo makes it.
func hostile(t *testing.T, w *worker) outcome {
	file := flujotest.Copy(t, w.file)
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	for range 1 + w.random.IntN(4) {
		// Some exclude each other; those that SQLite refuses are left out.
		_, _ = db.Exec(hostilities[w.random.IntN(len(hostilities))])
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return w.migrateFile(t, file)
}

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
	"UPDATE system_state SET key = key || char(10) || 'Done: forged', value = '{'",
	"UPDATE runs SET created_at = '0000-99-99', updated_at = NULL",
	"UPDATE steps SET token_counts = 9223372036854775807",
	"UPDATE evaluations SET score = 'nan'",
	"DROP TABLE evaluations",
	"DROP TABLE runs",
	"CREATE UNIQUE INDEX u ON runs (status COLLATE NOCASE)",
	"PRAGMA user_version = -1; PRAGMA application_id = 1",
	"PRAGMA journal_mode = WAL; UPDATE runs SET status = 'in the wal'",
	"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'TEXT', 'TEXT COLLATE nobody')",
	"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'view' WHERE name = 'steps'",
	"PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'spans'",
}
