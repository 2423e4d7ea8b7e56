//go:build unix

package merge_test

import (
	"errors"
	"syscall"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
)

// TestMergeRolledBackBeforeCrash tests that a server that crashes right after a merge was rolled back starts again.
//
// A rollback removes the init fork of an unlogged table at once and its main fork at the next checkpoint. If the record
// of the rollback is not in the write-ahead log, the recovery creates the init fork again, and ends because the main
// fork exists. PostgreSQL 15.18 does so.
func TestMergeRolledBackBeforeCrash(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t)
	if err := server.CreateDatabase("merged"); err != nil {
		t.Fatal(err)
	}
	url := server.URL("merged")
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	o := mergeOptions(t, flujotest.Changed(t, "UPDATE runs SET updated_at = '2031-01-01' WHERE rowid % 2 = 0"), url)
	for _, strict := range []bool{false, true} { // rolled back as a dry run, and for a refusal
		o.DryRun, o.Strict = !strict, strict
		if strict {
			o.SQLite = flujotest.Changed(t, `UPDATE steps SET output = '{"x": NaN}' WHERE id = 7`)
			if _, err := migrate.Run(t.Context(), o); clierr.KindOf(err) != clierr.Refused {
				t.Errorf("got error %v, want a refusal", err)
			}
		} else {
			flujotest.Migrate(t, o)
		}
		if err := errors.Join(server.Halt(syscall.SIGQUIT), server.Resume()); err != nil {
			t.Fatal(err)
		}
		if n := flujotest.OneAt(t, url, "SELECT count(*) FROM flujo.runs"); n != "60" {
			t.Errorf("got %s runs after the crash, want 60", n)
		}
	}
}
