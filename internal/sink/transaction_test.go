package sink

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
)

func isCommit(typ byte, payload []byte) bool {
	return typ == 'Q' && string(bytes.TrimRight(payload, "\x00")) == "COMMIT"
}

// TestBegin tests the settings of the transaction, and that Flujo's migrations wait for it.
func TestBegin(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	other := connect(t, url)
	run(t, other, "ALTER DATABASE "+databaseName(t, other)+" SET default_transaction_read_only = on",
		"ALTER DATABASE "+databaseName(t, other)+" SET default_transaction_isolation = 'serializable'",
		"ALTER DATABASE "+databaseName(t, other)+" SET maintenance_work_mem = '300MB'")
	tx := begin(t, url)
	conn := tx.Conn.Conn
	for query, want := range map[string]string{
		"current_setting('transaction_read_only')": "off",
		"current_setting('transaction_isolation')": "read committed",
		"current_setting('search_path')":           "pg_catalog, pg_temp",
		"current_setting('lock_timeout')":          "5s",
		"current_setting('maintenance_work_mem')":  "300MB",
	} {
		wantOne(t, conn, query, want)
	}
	lz4, err := tx.LZ4(background)
	check(t, err)
	if got := one(t, conn, "current_setting('default_toast_compression', true)"); (got == "lz4") != lz4 {
		t.Errorf("large values are compressed with %s", got)
	}
	const lock = "SELECT pg_try_advisory_xact_lock(4059087070)"
	wantOne(t, other, lock, "false")
	_, err = Begin(background, url, schema, 50*time.Millisecond)
	wantError(t, err, clierr.Failed, "timed out after 50ms waiting for Flujo's migration lock")
	tx.Rollback()
	wantOne(t, other, lock, "true")
	run(t, other, "ALTER DATABASE "+databaseName(t, other)+" RESET maintenance_work_mem")
	wantOne(t, begin(t, url).Conn.Conn, "current_setting('maintenance_work_mem')", "256MB")
}

func TestBeginErrors(t *testing.T) {
	t.Parallel()
	_, err := Begin(background, pgtest.EncodedDatabase(t, "SQL_ASCII"), schema, lockWait)
	wantError(t, err, clierr.Refused, "has the encoding SQL_ASCII")
	_, err = Begin(background, "postgresql://u:p@a,b/d", schema, lockWait)
	wantError(t, err, clierr.Usage, "several hosts")
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	for _, statement := range []string{"BEGIN ISOLATION", "set_config('maintenance_work_mem'"} {
		proxy.OnClientMessage(func(_ byte, payload []byte) bool { return bytes.Contains(payload, []byte(statement)) })
		_, err = Begin(background, proxy.Rewrite(url), schema, lockWait)
		wantError(t, err, clierr.Failed, "the connection was lost")
	}
}

// TestCommit tests that last runs in the transaction, and that the connection is closed.
func TestCommit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tx, _ := prepare(t, url)
	warnings, err := tx.Commit(func() error { return tx.Run(background, "CREATE TABLE flujo.last ()") })
	if err != nil || len(warnings) > 0 {
		t.Fatalf("got warnings %q and error %v", warnings, err)
	}
	if !tx.IsClosed() {
		t.Error("the connection is open")
	}
	tx.Rollback() // does nothing
	conn := connect(t, url)
	wantOne(t, conn, "SELECT to_regclass('flujo.last')", "flujo.last")
	wantOne(t, conn, "SELECT pg_try_advisory_xact_lock(4059087070)", "true")
}

func TestCommitLastFails(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tx, _ := prepare(t, url)
	changed := errors.New("the state file changed")
	if _, err := tx.Commit(func() error { return changed }); err != changed {
		t.Errorf("got error %v", err)
	}
	if !tx.IsClosed() {
		t.Error("the connection is open")
	}
	wantOne(t, connect(t, url), "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'", "0")
}

// TestCommitFails tests a deferred constraint and a transaction that has failed.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, "ALTER TABLE flujo.steps ALTER CONSTRAINT steps_run_id_fkey DEFERRABLE INITIALLY DEFERRED")
	tx, _ := prepare(t, url)
	if _, err := tx.Copy(background, steps, newTuples(nil, step(1, nil))); err != nil {
		t.Fatal(err)
	}
	_, err := tx.Commit(func() error { return nil })
	wantError(t, err, clierr.Refused, "commit: ", "23503")
	wantOne(t, conn, "SELECT count(*) FROM flujo.steps", "0")

	tx = begin(t, url)
	if err := tx.Run(background, "SELECT 1 / 0"); err == nil {
		t.Fatal("got no error")
	}
	_, err = tx.Commit(func() error { t.Error("last was called"); return nil })
	wantError(t, err, clierr.Failed, "read the transaction id", "25P02")
	tx = begin(t, url)
	_, err = tx.Commit(func() error { _ = tx.Run(background, "SELECT 1 / 0"); return nil })
	wantError(t, err, clierr.Failed, "the transaction had failed before")
}

func TestRollback(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	for _, lost := range []bool{false, true} {
		tx, _ := prepare(t, proxy.Rewrite(url))
		if lost {
			proxy.Cut()
		}
		tx.Rollback()
		tx.Rollback() // does nothing
		if !tx.IsClosed() {
			t.Error("the connection is open")
		}
		proxy.Wait()
		wantOne(t, connect(t, url), "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'", "0")
	}
	tx := begin(t, proxy.Rewrite(url))
	proxy.Cut()
	_, err := tx.Prepare(background, true, mapping.NewTypes(false))
	wantError(t, err, clierr.Failed, "the connection was lost")
	_, err = tx.Commit(func() error { t.Error("last was called"); return nil })
	wantError(t, err, clierr.Failed, "read the transaction id")
	if postgres.Code(err) != "" {
		t.Errorf("got error %v", err)
	}
}
