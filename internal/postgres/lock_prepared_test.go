package postgres

import (
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestPreparedTransactionHoldsALock tests that a prepared transaction, which has no session, is named with the
// statement that ends it.
func TestPreparedTransactionHoldsALock(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t, pgtest.WithSettings("max_prepared_transactions=2"))
	if err := server.CreateDatabase("prepared"); err != nil {
		t.Fatal(err)
	}
	url := server.URL("prepared")
	conn := connect(t, url)
	run(t, conn, "CREATE SCHEMA flujo; CREATE TABLE flujo.runs (status text)")
	run(t, conn, "BEGIN; UPDATE flujo.runs SET status = ''; PREPARE TRANSACTION 'billing''s 7'")
	waiter := waiting(t, url)
	err := FindBlocker(background, url, waiter.LockTable(background, "runs"))
	run(t, waiter.Conn, "ROLLBACK")
	const statement = "ROLLBACK PREPARED 'billing''s 7'"
	for _, part := range []string{
		"held by the prepared transaction 'billing''s 7'", "RowExclusiveLock on " +
			"flujo.runs", "role postgres", "since 2", "); end it with COMMIT PREPARED 'billing''s 7' or " + statement,
		"in database prepared, then run again",
	} {
		if strings.Contains(err.Error(), "stop Flujo") {
			t.Errorf("advises to stop Flujo: %v", err)
		}
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want one that contains %q", err, part)
		}
	}
	run(t, conn, statement)
	run(t, waiter.Conn, "BEGIN; "+waiter.Settings())
	if err := waiter.LockTable(background, "runs"); err != nil {
		t.Error(err)
	}
}
