package compare

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// background is the context of everything that a test does not cancel.
var background = context.Background()

// fileSQL creates a state file with two runs, of which one has a span, from which its trace is derived.
const fileSQL = `
CREATE TABLE runs (run_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, pipeline_name TEXT NOT NULL,
	pipeline_version TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
	execution_time_ms INTEGER, memory_usage_mb REAL, total_steps INTEGER DEFAULT 0, error_message TEXT);
CREATE TABLE workflow_state (run_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, pipeline_name TEXT NOT NULL,
	pipeline_version TEXT NOT NULL, current_step_index INTEGER NOT NULL, pipeline_context TEXT, last_step_output TEXT,
	step_history TEXT, status TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE TABLE steps (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, step_name TEXT NOT NULL,
	step_index INTEGER NOT NULL, status TEXT NOT NULL, output TEXT, raw_response TEXT, cost_usd REAL,
	token_counts INTEGER, execution_time_ms INTEGER, created_at TEXT NOT NULL);
CREATE TABLE spans (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, span_id TEXT NOT NULL,
	parent_span_id TEXT, name TEXT NOT NULL, start_time REAL NOT NULL, end_time REAL, status TEXT NOT NULL,
	attributes TEXT, created_at TEXT NOT NULL);
CREATE TABLE system_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL);
INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) VALUES
	('a', 'p', 'n', '1', 'completed', '2026-01-05', '2026-01-05'),
	('é', 'p', 'n', '1', 'failed', '2026-01-05', '2026-01-05');
INSERT INTO steps (id, run_id, step_name, step_index, status, output, cost_usd, created_at) VALUES
	(1, 'a', 'one', 0, 'completed', '{"b": 1, "a": [1.50, null]}', 0.25, '2026-01-05'),
	(2, 'a', 'two', 1, 'completed', 'null', NULL, '2026-01-05'),
	(7, 'é', 'one', 0, 'failed', NULL, NULL, '2026-01-05');
INSERT INTO spans (run_id, span_id, name, start_time, status, created_at) VALUES
	('a', 's1', 'run', 1767603600.5, 'completed', '2026-01-05');
WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 500)
INSERT INTO system_state SELECT 'key ' || v, '"' || v || '"', '2026-01-05' FROM n;`

// migrated is a state file and the database that it was copied to.
type migrated struct {
	file *extract.Result
	url  string
	conn *pgx.Conn // of its own, with which tests change rows
	// writers are the transactions of the copy.
	writers map[int64]bool
}

// migrate makes a state file and copies it to a new database.
func migrate(t *testing.T) *migrated {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	db, err := sql.Open("sqlite", path)
	check(t, err)
	_, err = db.Exec(fileSQL)
	check(t, err)
	check(t, db.Close())
	snapshot, format, err := extract.Open(background, path)
	check(t, err)
	t.Cleanup(func() { snapshot.Close() })

	m := &migrated{url: pgtest.Database(t), writers: map[int64]bool{}}
	tx, err := sink.Begin(background, m.url, "flujo", postgres.LockWait)
	check(t, err)
	defer tx.Rollback()
	schema, err := tx.Prepare(background, true, mapping.NewTypes(false))
	check(t, err)
	m.file, err = extract.New(snapshot, extract.Config{
		Format: format, Options: mapping.Options{JSONDepth: tx.Server.JSONDepth()}, Types: schema.Types,
		Exclude: mapping.Memories, WithDigests: true,
	}).Run(background, sink.Loader{Tx: tx, Schema: schema})
	check(t, err)
	check(t, tx.Finish(background, schema))
	_, err = tx.Commit(func() error { return nil })
	check(t, err)

	m.conn, err = pgx.Connect(background, m.url)
	check(t, err)
	t.Cleanup(func() { m.conn.Close(background) })
	rows, err := m.conn.Query(background, `SELECT xmin::text::bigint FROM flujo.runs
		UNION SELECT xmin::text::bigint FROM flujo.steps UNION SELECT xmin::text::bigint FROM flujo.traces
		UNION SELECT xmin::text::bigint FROM flujo.system_state`)
	check(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	check(t, err)
	for _, writer := range all {
		m.writers[writer] = true
	}
	return m
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *migrated) run(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := m.conn.PgConn().Exec(background, statement).ReadAll(); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// open opens a snapshot of the database.
func (m *migrated) open(t *testing.T) *postgres.Snapshot {
	t.Helper()
	stored, err := postgres.OpenSnapshot(background, m.url, "flujo", postgres.LockWait)
	check(t, err)
	t.Cleanup(stored.Close)
	return stored
}

// found is what Rows reported.
type found struct {
	differing   int64
	differences []report.Difference
	rows        []Row
}

// changed returns what a transaction sees after some statements. The test calls rollback.
func (m *migrated) changed(t *testing.T, statements ...string) (stored *postgres.Snapshot, rollback func()) {
	t.Helper()
	conn, err := postgres.Open(background, m.url, "flujo")
	check(t, err)
	for _, statement := range append([]string{"BEGIN; " + conn.Settings()}, statements...) {
		check(t, conn.Run(background, statement))
	}
	stored, err = postgres.InTransaction(background, conn, mapping.Tables, mapping.NewTypes(false), "")
	check(t, err)
	return stored, func() { conn.End(background) }
}

// rows compares a table as it is stored, and collects what is reported.
func (m *migrated) rows(t *testing.T, table string, o Options) found {
	t.Helper()
	stored := m.open(t)
	defer stored.Close()
	return m.compare(t, stored, table, o)
}

// compare compares a table, and collects what is reported.
func (m *migrated) compare(t *testing.T, stored *postgres.Snapshot, table string, o Options) (f found) {
	t.Helper()
	o.OnDifference = func(d report.Difference) { f.differences = append(f.differences, d) }
	o.OnRow = func(r Row) error {
		r.Stored = bytes.Clone(r.Stored)
		f.rows = append(f.rows, r)
		return nil
	}
	var err error
	f.differing, err = Rows(background, m.file, stored, mapping.TableOf(table), o)
	check(t, err)
	return f
}

// text returns the differences, one on each line.
func (f *found) text() (lines []string) {
	for _, d := range f.differences {
		line := d.String()
		if d.Since {
			line += " (since)"
		}
		if d.Derived {
			line += " (derived)"
		}
		lines = append(lines, line)
	}
	return lines
}
