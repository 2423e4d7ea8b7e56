package sink

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
)

// tableNames are Flujo's tables without memories.
var tableNames = []string{"runs", "workflow_state", "steps", "spans", "traces", "evaluations", "system_state"}

func namesOf(s *Schema) (names []string) {
	for _, table := range s.Tables() {
		names = append(names, table.Name)
	}
	return names
}

func TestPrepareCreates(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tx, s := prepare(t, url)
	if !s.Created || len(s.Existing) > 0 || s.PGVector != "" || s.CreatedPGVector || s.VectorSchema() != "" {
		t.Errorf("got %+v", s)
	}
	if names := namesOf(s); !slices.Equal(names, tableNames) {
		t.Errorf("got the tables %v", names)
	}
	if !s.Has("runs") || s.Has("memories") || s.Has("flujo_schema_versions") {
		t.Errorf("Has is wrong: %v", namesOf(s))
	}
	conn := tx.Conn.Conn
	wantOne(t, conn, "SELECT count(*) FROM pg_class WHERE relnamespace = 'flujo'::regnamespace AND relkind = 'r'", "8")
	wantOne(t, conn, "SELECT array_agg(version ORDER BY version) FROM flujo.flujo_schema_versions", "{1,2,3,4,5}")
	const foreignKeys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confdeltype = 'c'"
	const indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'flujo' AND indexname LIKE 'idx%'"
	wantOne(t, conn, foreignKeys, "0")
	wantOne(t, conn, indexes, "0")
	check(t, tx.Finish(background, s))
	wantOne(t, conn, foreignKeys, "4")
	wantOne(t, conn, indexes, "16")
	if len(s.Indexes) > 0 {
		t.Errorf("the indexes %v were not added to existing tables", s.Indexes)
	}
	check(t, tx.Analyze(background, s))
	commit(t, tx)
	wantNoDifferences(t, url)
}

// wantNoDifferences tests that the tables are Flujo's.
func wantNoDifferences(t *testing.T, url string) {
	t.Helper()
	tx := begin(t, url)
	defer tx.Rollback()
	have, err := tx.Inspect(background)
	check(t, err)
	if all, err := tx.Differences(background, mapping.Tables, have); err != nil || len(all) > 0 {
		t.Errorf("the tables differ from Flujo's: %v, %v", all, err)
	}
}

// TestPrepareExisting tests that existing tables and their rows are used, and that Finish adds what they lack.
func TestPrepareExisting(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, rowsSQL, "DROP TABLE flujo.traces; DROP INDEX flujo.idx_runs_status",
		"DELETE FROM flujo.flujo_schema_versions WHERE version > 2",
		"UPDATE flujo.flujo_schema_versions SET applied_at = '2001-01-01'")
	tx, s := prepare(t, url)
	if s.Created || s.Existing["traces"] || !s.Existing["runs"] || !s.Existing["flujo_schema_versions"] ||
		len(s.Existing) != 7 || !slices.Equal(namesOf(s), tableNames) {
		t.Errorf("got %+v", s)
	}
	if !tx.fresh["traces"] || len(tx.fresh) != 1 {
		t.Errorf("the fresh tables are %v", tx.fresh)
	}
	// Other sessions may read and may not write.
	run(t, conn, "SELECT FROM flujo.steps")
	run(t, conn, "SET lock_timeout = 50")
	if _, err := conn.Exec(background, "DELETE FROM flujo.steps"); postgres.Code(err) != postgres.LockNotAvailable {
		t.Errorf("writing returns %v", err)
	}
	check(t, tx.Finish(background, s))
	if !slices.Equal(s.Indexes, []string{"idx_runs_status"}) {
		t.Errorf("got the added indexes %v", s.Indexes)
	}
	commit(t, tx)
	wantNoDifferences(t, url)
	wantOne(t, conn, "SELECT count(*) FROM flujo.steps", "3")
	wantOne(t, conn, "SELECT count(*) FROM flujo.flujo_schema_versions WHERE applied_at < '2020-01-01'", "2")
	wantOne(t, conn, "SELECT count(*) FROM flujo.flujo_schema_versions", "5")
}

func TestPrepareRefused(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	fails := func(url, schema string, kind clierr.Kind, parts ...string) {
		t.Helper()
		tx, err := Begin(background, url, schema, 50*time.Millisecond)
		check(t, err)
		defer tx.Rollback()
		_, err = tx.Prepare(background, true, mapping.NewTypes(false))
		wantError(t, err, kind, parts...)
	}
	run(t, conn, "REVOKE ALL ON DATABASE "+databaseName(t, conn)+" FROM PUBLIC",
		"GRANT CONNECT ON DATABASE "+databaseName(t, conn)+" TO PUBLIC", "CREATE SCHEMA empty",
		"GRANT USAGE ON SCHEMA empty TO PUBLIC")
	fails(role, "new", clierr.Refused, `create schema "new" in database`, "42501", roleName(t, role))
	fails(role, "empty", clierr.Refused, `create table "runs" in schema "empty"`, "42501")

	writer := connect(t, url)
	run(t, writer, "BEGIN; DELETE FROM flujo.traces")
	fails(url, schema, clierr.Failed, "timed out after 50ms waiting for a lock on table \"traces\"")
	run(t, writer, "ROLLBACK")

	run(t, conn, "ALTER TABLE flujo.runs ADD note text, ALTER status DROP NOT NULL")
	fails(url, schema, clierr.Refused,
		"differ from Flujo's: runs.status is nullable; runs has the extra column note", "move these tables")
}

// TestPrepareWithoutPGVector tests a server that does not have pgvector.
func TestPrepareWithoutPGVector(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.Database(t))
	if one(t, tx.Conn.Conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") != "0" {
		t.Skip("the server has pgvector")
	}
	_, err := tx.Prepare(background, false, mapping.NewTypes(false))
	wantError(t, err, clierr.Refused, "does not have the pgvector extension", "pgvector/pgvector")
}

// TestPreparePGVector tests that pgvector is created in public, and that a long vector has no index.
func TestPreparePGVector(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.PGVector(t))
	types := mapping.NewTypes(false)
	types.VectorSize = longestHNSW + 1
	s, err := tx.Prepare(background, false, types)
	check(t, err)
	if !s.CreatedPGVector || s.PGVector == "" || s.VectorSchema() != "public" || !s.Has("memories") {
		t.Errorf("got %+v", s)
	}
	check(t, tx.Finish(background, s))
	if len(s.Notes) != 1 {
		t.Errorf("got the notes %v, want one on the index", s.Notes)
	}
	wantOne(t, tx.Conn.Conn, "SELECT to_regclass('flujo.idx_memories_embedding')", "NULL")
}

// TestEnsureOriginals tests that the empty table of an earlier run is replaced.
func TestEnsureOriginals(t *testing.T) {
	t.Parallel()
	tx, s := prepare(t, pgtest.Database(t))
	check(t, tx.EnsureOriginals(background, s))
	run(t, tx.Conn.Conn, "ALTER TABLE flujo.flujo_port_originals ADD note text")
	check(t, tx.EnsureOriginals(background, s))
	wantOne(t, tx.Conn.Conn, `SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) ||
		CASE WHEN attnotnull THEN '!' ELSE '' END, ', ' ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = 'flujo.flujo_port_originals'::regclass AND attnum > 0`,
		"receipt bigint!, table_name text!, row_key text!, source_rowid bigint!, column_name text!, reason text!, "+
			"storage_class text!, original bytea, id bigint!")
	run(t, tx.Conn.Conn, "CREATE VIEW flujo.seen AS TABLE flujo.flujo_port_originals")
	wantError(t, tx.EnsureOriginals(background, s), clierr.Failed, `create table "flujo_port_originals"`, "2BP01")
}

// TestFinishErrors tests rows that have no parent, and a step that fails.
func TestFinishErrors(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tx, s := prepare(t, url)
	if _, err := tx.Copy(background, steps, newTuples(nil, step(1, nil))); err != nil {
		t.Fatal(err)
	}
	wantError(t, tx.Finish(background, s), clierr.Refused, `add the foreign key of table "steps"`, "23503")
	wantError(t, tx.Analyze(background, s), clierr.Failed, "gather statistics", "25P02")
	wantError(t, tx.CreateIndexes(background, s), clierr.Failed, "25P02")
	tx.Rollback()

	tx, s = prepare(t, url)
	run(t, tx.Conn.Conn, "ALTER TABLE flujo.runs DROP pipeline_id")
	wantError(t, tx.Finish(background, s), clierr.Failed, `create index "idx_runs_pipeline_id"`, "42703")
}

func TestCheckConstraints(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, "ALTER TABLE flujo.steps ALTER CONSTRAINT steps_run_id_fkey DEFERRABLE INITIALLY DEFERRED")
	tx, _ := prepare(t, url)
	check(t, tx.CheckConstraints(background))
	run(t, tx.Conn.Conn, "SET CONSTRAINTS ALL DEFERRED")
	if _, err := tx.Copy(background, steps, newTuples(nil, step(1, nil))); err != nil {
		t.Fatal(err)
	}
	wantError(t, tx.CheckConstraints(background), clierr.Refused, "check deferred constraints", "23503")
}

// TestGrant tests that the role can do what Flujo does at its start and later.
func TestGrant(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	run(t, conn, "CREATE TABLE flujo.flujo_port_receipts (x int)")
	tx, s := prepare(t, url)
	check(t, tx.EnsureOriginals(background, s))
	check(t, tx.Grant(background, s, roleName(t, role)))
	commit(t, tx)
	user := connect(t, role)
	run(t, user, "CREATE TABLE flujo.notes (); DROP TABLE flujo.notes", rowsSQL,
		"UPDATE flujo.steps SET status = 'x'; DELETE FROM flujo.runs; SELECT setval('flujo.steps_id_seq', 9)",
		"INSERT INTO flujo.flujo_schema_versions VALUES (6)",
		"INSERT INTO flujo.flujo_port_receipts VALUES (1); SELECT FROM flujo.flujo_port_originals")
	for _, sql := range []string{
		"TRUNCATE flujo.runs", "DELETE FROM flujo.flujo_port_receipts",
		"UPDATE flujo.flujo_port_originals SET reason = ''",
		"ALTER TABLE flujo.runs ADD x int",
	} {
		if _, err := user.Exec(background, sql); postgres.Code(err) != postgres.InsufficientPrivilege {
			t.Errorf("%s: got error %v", sql, err)
		}
	}
}

func TestGrantErrors(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	run(t, conn, fmt.Sprintf("GRANT ALL ON SCHEMA flujo TO %[1]s; GRANT ALL ON ALL TABLES IN SCHEMA flujo TO %[1]s",
		roleName(t, role)))
	tx, s := prepare(t, url)
	wantError(t, tx.Grant(background, s, `no "role`), clierr.Usage, `role "no \"role" does not exist`)
	tx.Rollback()
	tx, s = prepare(t, role)
	wantError(t, tx.Grant(background, s, "postgres"), clierr.Refused, `grant privileges to role "postgres"`)
	tx.Rollback()
	run(t, conn, "ALTER TABLE flujo.steps ALTER id DROP DEFAULT; DROP SEQUENCE flujo.steps_id_seq")
	tx = begin(t, url)
	s = &Schema{tables: mapping.Tables[:3]}
	wantError(
		t,
		tx.Grant(background, s, "postgres"),
		clierr.Refused,
		`column steps.id of schema "flujo" has no sequence`,
	)
}
