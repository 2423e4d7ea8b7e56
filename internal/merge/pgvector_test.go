package merge_test

import (
	"fmt"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestPGVectorMerge tests that memories are merged one by one, by id, and that vectors keep their bits.
func TestPGVectorMerge(t *testing.T) {
	url := pgtest.PGVector(t)
	file, memories := flujotest.MemoriesFile(t)
	flujotest.Migrate(t, flujotest.PGVectorOptions(t, file, url))

	const later, latest = "2026-12-01T00:00:00.000000+00:00", "2026-12-02T00:00:00.000000+00:00"
	other := memories[20]
	// 3: newer in the file; 4: newer in PostgreSQL; 5: equally new; 6: only in the file; 7: only in PostgreSQL; 8: no
	// timestamp in either.
	flujotest.Change(t, file, "UPDATE memories SET vector = ?, created_at = ? WHERE id = ?", other.Packed(), later,
		memories[3].ID)
	memories[3].Bits, memories[3].Created = other.Bits, later
	flujotest.ExecAt(
		t,
		url,
		fmt.Sprintf("UPDATE flujo.memories SET payload = '1', created_at = '%s' WHERE id = '%s'", latest,
			memories[4].ID),
	)
	flujotest.Change(t, file, "UPDATE memories SET payload = '2', created_at = ? WHERE id = ?", later, memories[4].ID)
	memories[4].Payload, memories[4].Created = "1", latest
	flujotest.Change(t, file, "UPDATE memories SET payload = '3' WHERE id = ?", memories[5].ID)
	flujotest.ExecAt(t, url, fmt.Sprintf("DELETE FROM flujo.memories WHERE id = '%s'", memories[6].ID))
	flujotest.Change(t, file, "DELETE FROM memories WHERE id = ?", memories[7].ID)

	o := flujotest.PGVectorOptions(t, file, url)
	o.Merge = true
	var result *report.Migration
	for _, o.DryRun = range []bool{true, false} {
		result = flujotest.Migrate(t, o)
		u := result.Merge.Units[len(result.Merge.Units)-1]
		if u.Kind != "memories" || u.Equal != 25 || u.TakenOver != 1 || u.Added != 1 || u.Kept != 3 || u.Alone != 1 ||
			u.Tied != 1 {
			t.Errorf("got %+v, want 25 equal, 1 taken over, 1 added, 3 kept (1 alone, 1 tied)", u)
		}
	}
	flujotest.WantMemories(t, url, memories)
	flujotest.WantMemoriesTable(t, url, "public")
	again := flujotest.Migrate(t, o)
	if u := again.Merge.Units[len(again.Merge.Units)-1]; u.Equal != 27 || u.TakenOver+u.Added != 0 || u.Kept != 3 {
		t.Errorf("got %+v from the second merge, want 27 equal and 3 kept", u)
	}
	flujotest.WantMemories(t, url, memories)
	flujotest.WantVerdict(t, file, url, report.Merged, 0)

	// Vectors of another dimension cannot be merged into the same table.
	flujotest.Change(t, file, "UPDATE memories SET vector = zeroblob(12)")
	before := flujotest.Catalog(t, url)
	flujotest.WantError(t, o, clierr.Refused, "memories.vector", "vector(3)")
	flujotest.WantCatalog(t, url, before)
}
