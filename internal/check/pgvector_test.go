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

// TestCheckTriesToCreatePGVector tests that check judges by what the server answers to CREATE EXTENSION, and that its
// hint and that of a migration are about the cause.
func TestCheckTriesToCreatePGVector(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, code, message, hint string }{
		{"not allowed by the server", "0A000", `extension "vector" is not on the list`, ""},
		{"not allowed for the role", "42501", "not for you", "have a superuser, or the server's administrator role"},
		{"objects in the way", "42710", "there is a vector already", "in another schema"},
		{"something else", "P0001", "no extensions at this hour", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.ExecAt(t, url, `CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS
				$$ BEGIN RAISE EXCEPTION USING ERRCODE = '`+tc.code+`', MESSAGE = '`+tc.message+`'; END $$`,
				"CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE EXTENSION') "+
					"EXECUTE FUNCTION public.refuse()")
			before := flujotest.Catalog(t, url)
			o := checkOptions(t, flujotest.Fixture, url)
			o.WithoutPGVector = false
			result := wantLine(t, o, "pgvector", report.Error, tc.message, tc.hint, "advice without-pgvector")
			wantChecked(t, result, "Flujo startup", report.Error, "migration 3")
			for _, l := range result.Results {
				if strings.Contains(l.Message+l.Hint, "row-level") {
					t.Errorf("got %q; %q, but no rows are hidden", l.Message, l.Hint)
				}
			}
			flujotest.WantError(t, flujotest.PGVectorOptions(t, flujotest.Fixture, url), 3, tc.message, tc.hint)
			flujotest.WantCatalog(t, url, before)
		})
	}
}

// TestPGVectorCheckWithoutPublic tests the trial in a database without schema public.
func TestPGVectorCheckWithoutPublic(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	flujotest.ExecAt(t, url, "DROP SCHEMA public")
	before := flujotest.Catalog(t, url)
	o := checkOptions(t, flujotest.Fixture, url)
	o.WithoutPGVector = false
	wantLine(t, o, "pgvector", report.OK, "tried and rolled back")
	flujotest.WantCatalog(t, url, before)
}
