package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestAfter tests that a migration writes nothing if the last receipt is another than the caller has seen.
func TestAfter(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	o := flujotest.Options(t, flujotest.Fixture, url)
	run := func(o migrate.Options, after int64) error {
		o.After = &after
		_, err := migrate.Run(context.Background(), o)
		return err
	}
	if err := run(o, 1); !errors.Is(err, migrate.ErrMigratedSince) || flujotest.Leftovers(t, conn) != "" {
		t.Errorf("into an empty database: got error %v and leftovers %s", err, flujotest.Leftovers(t, conn))
	}
	if err := run(o, 0); err != nil {
		t.Fatal(err)
	}
	replace, merge := o, o
	replace.Replace, merge.Merge = true, true
	before := databaseState(t, conn)
	for _, after := range []int64{0, 2} {
		for _, o := range []migrate.Options{o, replace, merge} {
			if err := run(o, after); !errors.Is(err, migrate.ErrMigratedSince) || databaseState(t, conn) != before {
				t.Errorf("after receipt %d: got error %v and %s", after, err, databaseState(t, conn))
			}
		}
	}
	if err := run(merge, 1); err != nil {
		t.Error(err)
	}
	if err := run(replace, 2); err != nil {
		t.Error(err)
	}
}

// TestAfterWaits tests that the receipts are compared when the migration that holds the lock has ended.
func TestAfterWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holder, conn := flujotest.Connect(t, url), flujotest.Connect(t, url)
	flujotest.Exec(t, holder, "BEGIN", "SELECT pg_advisory_xact_lock(4059087070)")
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.After = new(int64)
	results := make(chan error)
	for range 2 {
		go func() {
			_, err := migrate.Run(context.Background(), o)
			results <- err
		}()
	}
	awaitLockWaits(t, conn, "2")
	flujotest.Exec(t, holder, "COMMIT")
	first, second := <-results, <-results
	if first != nil {
		first, second = second, first
	}
	if first != nil || !errors.Is(second, migrate.ErrMigratedSince) {
		t.Errorf("got errors %v and %v, want one of them to be ErrMigratedSince", first, second)
	}
	if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.flujo_port_receipts"); got != "1" {
		t.Errorf("got %s receipts, want 1", got)
	}
}

// TestTablesOfTheHolder tests that a migration finds tables that were created while it waited for Flujo's migration
// lock, although neither the trial of the cutover address nor its session knew them before.
func TestTablesOfTheHolder(t *testing.T) {
	t.Parallel()
	for _, sameSession := range []bool{true, false} {
		t.Run(fmt.Sprint(sameSession), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
			holder, conn := flujotest.Connect(t, url), flujotest.Connect(t, url)
			flujotest.Exec(t, holder, "ALTER SCHEMA flujo RENAME TO hidden", "SELECT pg_advisory_lock(4059087070)")
			o := flujotest.Options(t, flujotest.Changed(t, "DELETE FROM system_state WHERE key = 'tracker:1'"), url)
			o.Merge = true
			if !sameSession {
				o.Postgres = pgtest.WithParameter(t, o.Postgres, "application_name", "another")
			}
			result := make(chan error)
			go func() {
				_, err := migrate.Run(context.Background(), o)
				result <- err
			}()
			awaitLockWaits(t, conn, "1")
			flujotest.Exec(t, holder, "ALTER SCHEMA hidden RENAME TO flujo", "SELECT pg_advisory_unlock(4059087070)")
			if err := <-result; err != nil {
				t.Error(err)
			}
			if got := flujotest.One(t, conn, "SELECT string_agg(id::text, ' ' ORDER BY id) "+
				"FROM flujo.flujo_port_receipts"); got != "1 2" {
				t.Errorf("got the receipts %s, want 1 2", got)
			}
		})
	}
}

// awaitLockWaits waits until n sessions of the database wait for Flujo's migration lock.
func awaitLockWaits(t *testing.T, conn *pgx.Conn, n string) {
	t.Helper()
	const waiting = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	deadline := time.Now().Add(time.Minute)
	for flujotest.One(t, conn, waiting) != n {
		if time.Now().After(deadline) {
			t.Fatalf("%s sessions never waited for the lock", n)
		}
	}
}
