package verify_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestVerifyAfterDumpAndRestore tests a receipt that pg_dump took to another server: what is equal is proven, and a row
// that differs is drift, although the restore's transaction id is that of the migration.
func TestVerifyAfterDumpAndRestore(t *testing.T) {
	t.Parallel()
	from := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, from))
	const writer = "SELECT DISTINCT xmin::text::int FROM flujo.runs"
	migration := number(t, from, writer)
	dump := flujotest.Command(t, pgtest.Client(t, from, "pg_dump"), "--no-owner", from)
	cell := flujotest.OneAt(t, from, "SELECT key FROM flujo.system_state ORDER BY 1 LIMIT 1")

	server := pgtest.StartFor(t)
	load := func(url, text string) {
		file := filepath.Join(t.TempDir(), "dump.sql")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flujotest.Command(t, pgtest.Client(t, url, "psql"), "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction",
			"--output="+os.DevNull, "--file="+file, url)
	}

	changed := server.URL("changed")
	if err := server.CreateDatabase("changed"); err != nil {
		t.Fatal(err)
	}
	next := number(t, changed, "SELECT pg_current_xact_id()::text::int")
	if next >= migration {
		t.Fatalf("the new server is at transaction %d, the migration had %d", next, migration)
	}
	flujotest.ExecAt(t, changed, "DO $$ BEGIN FOR i IN 1.."+strconv.Itoa(migration-next-1)+
		" LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
	// A key of system_state, to which no foreign key leads, gets another name in the dump.
	load(changed, strings.Replace(dump, "\n"+cell+"\t", "\nother\t", 1))
	if got := number(t, changed, writer); got != migration {
		t.Fatalf("the restore has transaction id %d, want %d", got, migration)
	}
	result, differences := flujotest.WantVerdict(t, flujotest.Fixture, changed, report.Drift, 0)
	if !result.Receipt.Elsewhere || len(differences) != 2 {
		t.Errorf("got elsewhere %v and the differences %+v, want a missing and an added key",
			result.Receipt.Elsewhere, differences)
	}

	equal := server.URL("equal")
	if err := server.CreateDatabase("equal"); err != nil {
		t.Fatal(err)
	}
	load(equal, dump)
	flujotest.WantVerdict(t, flujotest.Fixture, equal, report.Equal, 0)
}

// TestVerifyAfterCopy tests a receipt that CREATE DATABASE … TEMPLATE took to another database: a row that differs is
// drift, and the report does not claim that there was a dump.
func TestVerifyAfterCopy(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t)
	if err := server.CreateDatabase("original"); err != nil {
		t.Fatal(err)
	}
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, server.URL("original")))
	flujotest.ExecAt(t, server.URL("postgres"), "CREATE DATABASE copy TEMPLATE original")
	copied := server.URL("copy")
	text := func(verdict string) string {
		t.Helper()
		result, _ := flujotest.WantVerdict(t, flujotest.Fixture, copied, verdict, 0)
		if !result.Receipt.Elsewhere {
			t.Error("the receipt is not of another database")
		}
		return strings.Join(flujotest.ReportLines(t, result.Document()), "\n")
	}
	const words = "written in another database, before a dump and a restore, or a copy of the database"
	if got := text(report.Equal); !strings.Contains(got, words) {
		t.Errorf("got the report %s", got)
	}
	flujotest.ExecAt(t, copied, "DELETE FROM flujo.system_state")
	if got := text(report.Drift); !strings.Contains(got, words) {
		t.Errorf("got the report %s", got)
	}
}

func number(t *testing.T, url, query string) int {
	t.Helper()
	n, err := strconv.Atoi(flujotest.OneAt(t, url, query))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
