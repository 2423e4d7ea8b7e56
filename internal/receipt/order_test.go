package receipt_test

import (
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestReceiptsAreInOrder tests that verify uses the receipt of the last migration, regardless of the clock.
func TestReceiptsAreInOrder(t *testing.T) {
	t.Parallel()
	url, second := pgtest.Database(t), flujotest.Changed(t, "DELETE FROM evaluations WHERE id = 3")
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	flujotest.Exec(t, flujotest.Connect(t, url),
		"UPDATE flujo.flujo_port_receipts SET migrated_at = migrated_at + interval '1 hour'",
		"TRUNCATE flujo.runs, flujo.workflow_state, flujo.steps, flujo.spans, flujo.traces, flujo.evaluations, "+
			"flujo.system_state")
	flujotest.Migrate(t, flujotest.Options(t, second, url))
	flujotest.WantVerdict(t, second, url, report.Equal, 0)
}
