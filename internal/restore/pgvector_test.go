package restore_test

import (
	"database/sql"
	"slices"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// memoriesFixture is a state file with memories.
const memoriesFixture = "../../testdata/flujo_state_memories.db"

// TestPGVectorRestore tests that vectors are restored byte for byte; with a base, all cells are, except for those that
// changed in PostgreSQL.
func TestPGVectorRestore(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	flujotest.Migrate(t, flujotest.PGVectorOptions(t, memoriesFixture, url))
	based, _ := flujotest.Restore(t, url, memoriesFixture)
	flujotest.WantSameDump(t, flujotest.Dump(t, based), flujotest.Dump(t, memoriesFixture))
	restored, _ := flujotest.Restore(t, url, "")
	vectors := func(path string) []string {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		return flujotest.QueryColumn(t, db,
			"SELECT id || hex(vector) || created_at || iif(json_type(payload) = 'object', '', payload) FROM memories "+
				"ORDER BY id")
	}
	want := vectors(memoriesFixture)
	if got := vectors(restored); len(want) != 30 || !slices.Equal(got, want) {
		t.Errorf("got %d memories that differ from the %d of the file", len(got), len(want))
	}
	func() { // one connection at a time
		conn := flujotest.Connect(t, url)
		defer conn.Close(t.Context())
		flujotest.Exec(
			t,
			conn,
			"UPDATE flujo.memories SET payload = '\"later\"' WHERE id = (SELECT min(id) FROM flujo.memories)",
			"DELETE FROM flujo.memories WHERE id = (SELECT max(id) FROM flujo.memories)",
		)
	}()
	based, result := flujotest.Restore(t, url, memoriesFixture)
	got := vectors(based)
	if len(got) != 29 || got[0] == want[0] || !slices.Equal(got[1:], want[1:29]) {
		t.Errorf("got %d memories with a base, want 29, of which the first has changed", len(got))
	}
	if row := result.Tables[len(result.Tables)-1]; row.Name != "memories" || row.FromBase != 28 || row.Written != 1 ||
		row.Removed != 1 {
		t.Errorf("got %+v, want 28 from the base, 1 written and 1 removed", row)
	}
}
