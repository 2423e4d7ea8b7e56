package extract_test

import (
	"fmt"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestFirstRejected tests that the report names the first ten rejected rows of each reason by rowid, column and value,
// and that the finding of a rejected row has all of its cells.
func TestFirstRejected(t *testing.T) {
	t.Parallel()
	file := flujotest.Changed(t,
		"DELETE FROM system_state",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12) INSERT INTO system_state "+
			"(rowid, key, value, updated_at) SELECT 100 + i, NULL, i, '2026-01-01' FROM n",
		"UPDATE workflow_state SET current_step_index = 'first', run_id = 'w' WHERE rowid = 3")
	o := flujotest.Options(t, file, pgtest.Database(t))
	o.Quarantine = true
	cells := map[string]string{}
	o.OnFinding = func(f mapping.Finding) error {
		for _, c := range f.Cells {
			cells[fmt.Sprint(f.Table, f.RowID)] += c.Column + "=" + c.Original.String() + " "
		}
		if f.Rejected != (f.Cells != nil) {
			t.Errorf("rejected %t with the cells %v", f.Rejected, f.Cells)
		}
		return nil
	}
	result := flujotest.Migrate(t, o)
	want := []report.RejectedRow{
		{
			Table:       "workflow_state",
			RowID:       3,
			Key:         "w",
			Column:      "current_step_index",
			Value:       `"first"`,
			Reason:      "not-a-number",
			Explanation: "the column requires a number, and the value is not one",
		},
	}
	for i := range 10 {
		want = append(want, report.RejectedRow{
			Table: "system_state", RowID: int64(101 + i), Column: "key", Value: "NULL",
			Reason: "null-key", Explanation: "the key is NULL",
		})
	}
	flujotest.WantSame(t, "first rejected rows", result.FirstRejected, want)
	if got := cells["system_state112"]; got != `key=NULL value="12" updated_at="2026-01-01" ` {
		t.Errorf("the last rejected row has the cells %s", got)
	}
}
