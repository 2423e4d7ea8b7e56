package sink

import (
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
)

// mayNotCreate takes from everybody but the owner the privilege to create schemas in a database.
func mayNotCreate(t *testing.T, url string) {
	t.Helper()
	conn := connect(t, url)
	run(t, conn, "REVOKE ALL ON DATABASE "+databaseName(t, conn)+" FROM PUBLIC",
		"GRANT CONNECT, TEMPORARY ON DATABASE "+databaseName(t, conn)+" TO PUBLIC")
}

// TestCreateStaging tests staging tables in a schema of their own, and as temporary tables.
func TestCreateStaging(t *testing.T) {
	t.Parallel()
	for _, temporary := range []bool{false, true} {
		url, conn := initialized(t)
		run(t, conn, rowsSQL)
		role := pgtest.Role(t, url, "")
		if mayNotCreate(t, url); temporary {
			tx, s := prepare(t, url)
			check(t, tx.Grant(background, s, roleName(t, role)))
			commit(t, tx)
			url = role
		}
		tx, s := prepare(t, url)
		s.Types.Wide["steps.token_counts"] = true
		staging, err := tx.CreateStaging(background, s)
		check(t, err)
		name := staging.Tx.Schema
		if strings.HasPrefix(name, "pg_temp") != temporary || staging.Schema.Created == temporary ||
			tx.Schema != schema {
			t.Errorf("temporary %t: the staging tables are in schema %s", temporary, name)
		}
		if _, err := staging.Copy(background, steps, newTuples(nil, step(1, int64(1)<<40), step(2, nil))); err != nil {
			t.Fatal(err)
		}
		check(t, staging.Tx.EnsureOriginals(background, staging.Schema))
		server := tx.Conn.Conn
		wantOne(t, server, "SELECT count(*) FROM "+staging.Tx.Name("steps"), "2")
		wantOne(t, server, "SELECT count(*) FROM flujo.steps", "3")
		const left = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace($1)"
		if got := one(t, server, left, name); got != "8" {
			t.Errorf("temporary %t: %s staging tables", temporary, got)
		}
		run(t, server, "CREATE TABLE "+staging.Tx.Name("units")+" ()")
		check(t, staging.DropStaging(background, []string{"units", "none"}))
		if got := one(t, server, left, name); got != "0" {
			t.Errorf("temporary %t: %s staging tables are left", temporary, got)
		}
		again, err := tx.CreateStaging(background, s)
		check(t, err)
		if (again.Tx.Schema == name) != temporary {
			t.Errorf("temporary %t: staging tables are in schema %s, and then in %s", temporary, name, again.Tx.Schema)
		}
		check(t, again.DropStaging(background, nil))
		commit(t, tx)
		wantOne(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'flujo\\_port%'", "0")
	}
}

func TestCreateStagingErrors(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	tx, s := prepare(t, url)
	check(t, tx.Grant(background, s, roleName(t, role)))
	commit(t, tx)
	run(
		t,
		conn,
		"ALTER TABLE flujo.runs ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE flujo.spans ENABLE ROW LEVEL SECURITY",
	)
	tx, s = prepare(t, role)
	_, err := tx.CreateStaging(background, s)
	wantError(t, err, clierr.Refused, "row-level security may hide rows of runs, spans from role")

	tx.Rollback()
	run(
		t,
		conn,
		"ALTER TABLE flujo.runs DISABLE ROW LEVEL SECURITY",
		"ALTER TABLE flujo.spans DISABLE ROW LEVEL SECURITY",
	)
	mayNotCreate(t, url)
	run(t, conn, "REVOKE TEMPORARY ON DATABASE "+databaseName(t, conn)+" FROM PUBLIC")
	tx, s = prepare(t, role)
	_, err = tx.CreateStaging(background, s)
	wantError(t, err, clierr.Refused, "may create neither a schema nor temporary tables", "42501")

	tx.Rollback()
	tx, s = prepare(t, url)
	staging, err := tx.CreateStaging(background, s)
	check(t, err)
	run(t, tx.Conn.Conn, "DROP SCHEMA "+staging.Tx.Schema+" CASCADE")
	wantError(t, staging.DropStaging(background, nil), clierr.Failed, "drop the staging tables")
}

// TestBeginStaging tests the tables of the check's dry run, of which nothing is left.
func TestBeginStaging(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	mayNotCreate(t, url)
	for _, address := range []string{url, pgtest.Role(t, url, "")} {
		tx, s, err := BeginStaging(background, address, mapping.NewTypes(false), lockWait)
		check(t, err)
		defer tx.Rollback()
		if s.Created == strings.HasPrefix(tx.Schema, "pg_temp") || s.Has("memories") != (s.PGVector != "") ||
			!s.Has("system_state") {
			t.Errorf("got %+v in schema %s", s, tx.Schema)
		}
		if _, err := tx.Copy(background, systemState, newTuples(nil, state("a", "1"))); err != nil {
			t.Fatal(err)
		}
		wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM "+tx.Name("system_state"), "1")
		tx.Rollback()
	}
	conn := connect(t, url)
	wantOne(t, conn, "SELECT count(*) FROM pg_class WHERE relname IN ('system_state', 'flujo_port_check')", "0")
	wantOne(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'flujo%'", "0")

	run(t, conn, "REVOKE TEMPORARY ON DATABASE "+databaseName(t, conn)+" FROM PUBLIC")
	_, _, err := BeginStaging(background, pgtest.Role(t, url, ""), mapping.NewTypes(false), lockWait)
	wantError(t, err, clierr.Refused, "may create neither a schema nor temporary tables", "42501")
	_, _, err = BeginStaging(background, pgtest.WithDatabase(t, url, "flujo_port_test_none"), nil, 0)
	wantError(t, err, clierr.Usage, "3D000")
}
