package load

import (
	"context"
	"os"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// TestVerifyCounts tests that a row that is missing in PostgreSQL is found by counting, not only by the result of
// COPY.
func TestVerifyCounts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tx, err := sink.Begin(ctx, pgtest.Database(t), "flujo", postgres.LockWait)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	schema, err := tx.Prepare(ctx, true, mapping.NewTypes(false))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := Snapshot(ctx, sink.Loader{Tx: tx, Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	l := &Loaded{File: &extract.Result{Findings: &report.Findings{Tables: []report.Table{
		{Name: "steps", RowsRead: 1}, {Name: "runs", RowsRead: 1, Rejected: 1}, {Name: "traces", Derived: 2},
	}}}}
	v, err := l.Verify(ctx, stored, Options{Verify: report.VerifyCounts})
	if clierr.KindOf(err) != clierr.Mismatch || !strings.Contains(err.Error(), "steps has 0 instead of 1") ||
		!strings.Contains(err.Error(), "traces has 0 instead of 2") || strings.Contains(err.Error(), "runs") {
		t.Errorf("got error %v, want a mismatch of steps and traces", err)
	}
	if v.Tables[0].Match || !v.Tables[1].Match || v.Tables[2].Match {
		t.Errorf("got tables %+v, want a match only of runs", v.Tables)
	}
}
