package transfer

import (
	"context"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
)

// TestCompareCounts tests that a row that is missing in PostgreSQL is found by counting, not only by the result of
// COPY.
func TestCompareCounts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tx, err := sink.Begin(ctx, pgtest.Database(t), "flujo", postgres.LockWait)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	types := mapping.NewTypes(false)
	m := &migration{
		tx:         tx,
		extraction: &extraction{types: types},
		report: &report.Migration{Findings: &report.Findings{Tables: []report.Table{
			{Name: "steps", RowsRead: 1}, {Name: "runs", RowsRead: 1, Rejected: 1}, {Name: "traces", Derived: 2},
		}}},
	}
	if m.sinkSchema, err = tx.Prepare(ctx, true, types); err != nil {
		t.Fatal(err)
	}
	err = m.compareCounts(ctx)
	if clierr.KindOf(err) != clierr.Mismatch || !strings.Contains(err.Error(), "steps has 0 instead of 1") ||
		!strings.Contains(err.Error(), "traces has 0 instead of 2") || strings.Contains(err.Error(), "runs") {
		t.Errorf("got error %v, want a mismatch of steps and traces", err)
	}
	if m.report.Tables[0].Match || !m.report.Tables[1].Match || m.report.Tables[2].Match {
		t.Errorf("got tables %+v, want a match only of runs", m.report.Tables)
	}
}
