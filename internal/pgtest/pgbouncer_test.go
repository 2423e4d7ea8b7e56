package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestPgBouncer tests that roles and databases are reached through it, that passwords are checked, and that two
// sessions that are idle share a process of the server in transaction mode only.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	url := Database(t)
	role := Role(t, url, "")
	for mode, shared := range map[string]bool{"session": false, "transaction": true, "statement": true} {
		pooled := WithServer(t, role, PgBouncer(t, url, mode))
		wrong := WithUser(t, pooled, connect(t, role).Config().User, "wrong")
		if err := execAll(wrong); !hasCode(err, "08P01") && !hasCode(err, "28P01") {
			t.Errorf("%s: a wrong password: %v", mode, err)
		}
		var pids [2]int
		for i := range pids {
			var database string
			conn := connect(t, pooled) // open until the test ends
			err := conn.QueryRow(context.Background(), "SELECT pg_backend_pid(), current_database()",
				pgx.QueryExecModeSimpleProtocol).Scan(&pids[i], &database)
			if err != nil || database != connect(t, url).Config().Database {
				t.Fatalf("%s: database %q: %v", mode, database, err)
			}
		}
		if (pids[0] == pids[1]) != shared {
			t.Errorf("%s: the sessions have the processes %d and %d", mode, pids[0], pids[1])
		}
	}
}
