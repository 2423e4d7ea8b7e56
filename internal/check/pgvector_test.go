package check_test

import (
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestPGVectorCheck tests that the dry run of check creates pgvector and memories and leaves nothing, and that an
// existing table is unchanged.
func TestPGVectorCheck(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	o := checkOptions(t, "../../testdata/flujo_state_memories.db", url)
	o.WithoutPGVector = false
	before := flujotest.Catalog(t, url)
	wantLine(t, o, "pgvector", report.OK, "will be created")
	wantLine(t, o, "dry run", report.OK)
	wantLine(t, o, "Flujo startup", report.OK)
	flujotest.WantCatalog(t, url, before)
	flujotest.InitializePGVector(t, url, "")
	before = flujotest.Catalog(t, url)
	wantLine(t, o, "pgvector", report.OK, "is installed in schema")
	wantLine(t, o, "dry run", report.OK)
	flujotest.WantCatalog(t, url, before)
	o.WithoutPGVector = true // the table exists
	wantLine(t, o, "pgvector", report.Warning, "not used")
	wantLine(t, o, "dry run", report.OK)
	got := flujotest.OneAt(t, url, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "+
		"WHERE attrelid = 'flujo.memories'::regclass AND attname = 'vector'")
	if !strings.Contains(got, "vector(1536)") {
		t.Errorf("got memories.vector %s, want vector(1536)", got)
	}
}
