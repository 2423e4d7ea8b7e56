package transfer_test

import (
	"fmt"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestPGVectorMerge tests that memories are merged one by one, by id, and that vectors keep their bits.
func TestPGVectorMerge(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := memoriesFile(t)
	mustMigrate(t, withPGVector(t, file, url))

	const later, latest = "2026-12-01T00:00:00.000000+00:00", "2026-12-02T00:00:00.000000+00:00"
	other := memories[20]
	// 3: newer in the file; 4: newer in PostgreSQL; 5: equally new; 6: only in the file; 7: only in PostgreSQL; 8: no
	// timestamp in either.
	change(t, file, "UPDATE memories SET vector = ?, created_at = ? WHERE id = ?", other.packed(), later,
		memories[3].id)
	memories[3].bits, memories[3].created = other.bits, later
	prepare(t, url, fmt.Sprintf("UPDATE flujo.memories SET payload = '1', created_at = '%s' WHERE id = '%s'", latest,
		memories[4].id))
	change(t, file, "UPDATE memories SET payload = '2', created_at = ? WHERE id = ?", later, memories[4].id)
	memories[4].payload, memories[4].created = "1", latest
	change(t, file, "UPDATE memories SET payload = '3' WHERE id = ?", memories[5].id)
	prepare(t, url, fmt.Sprintf("DELETE FROM flujo.memories WHERE id = '%s'", memories[6].id))
	change(t, file, "DELETE FROM memories WHERE id = ?", memories[7].id)

	o := withPGVector(t, file, url)
	o.Merge = true
	var result *report.Migration
	for _, o.DryRun = range []bool{true, false} {
		result = mustMigrate(t, o)
		u := result.Merge.Units[len(result.Merge.Units)-1]
		if u.Kind != "memories" || u.Equal != 25 || u.TakenOver != 1 || u.Added != 1 || u.Kept != 3 || u.Alone != 1 ||
			u.Tied != 1 {
			t.Errorf("got %+v, want 25 equal, 1 taken over, 1 added, 3 kept (1 alone, 1 tied)", u)
		}
	}
	wantMemories(t, url, memories)
	wantMemoriesTable(t, url, "public")
	again := mustMigrate(t, o)
	if u := again.Merge.Units[len(again.Merge.Units)-1]; u.Equal != 27 || u.TakenOver+u.Added != 0 || u.Kept != 3 {
		t.Errorf("got %+v from the second merge, want 27 equal and 3 kept", u)
	}
	wantMemories(t, url, memories)
	wantVerdict(t, file, url, report.Merged, 0)

	// Vectors of another dimension cannot be merged into the same table.
	change(t, file, "UPDATE memories SET vector = zeroblob(12)")
	before := catalog(t, url)
	wantError(t, o, clierr.Refused, "memories.vector", "vector(3)")
	wantUnchanged(t, url, before)
}
