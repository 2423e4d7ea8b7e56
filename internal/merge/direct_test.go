package merge_test

import (
	"fmt"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestDirectIDs tests the new ids of rows of a file that has no run in common with the others: they keep their
// distances, in one range, whatever gaps and order they have in the file, unless that takes too large ids. The file
// verifies by them.
func TestDirectIDs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ids    string // SQL of the ids of the steps
		exists int64  // the highest id in the target
		alone  bool   // the steps have no primary key, so that SQLite returns them in the order of their insertion
		stored string // the lowest and the highest id in the target, and the type of the column
		ranges string // the number of ranges in the receipt
	}{
		"consecutive": {ids: "value", exists: 9, stored: "101 200 integer", ranges: "1"},
		"gaps":        {ids: "value * 3", exists: 9, stored: "301 598 integer", ranges: "1"},
		"negative":    {ids: "value - 50", exists: 9, stored: "51 150 integer", ranges: "1"},
		"unordered":   {ids: "200 - value", exists: 9, alone: true, stored: "200 299 integer", ranges: "1"},
		"unordered with gaps": {
			ids: "value * 37 % 101 * 2", exists: 9, alone: true,
			stored: "201 399 integer", ranges: "1"},
		"wide gaps": {
			ids: "value * 20000000", exists: 9,
			stored: "2000000001 2000000100 integer", ranges: "100"},
		"wide gaps, unordered": {
			ids: "(101 - value) * 20000000", exists: 9, alone: true,
			stored: "2000000001 2000000100 integer", ranges: "100"},
		"no integer is left": {
			ids: "value * 2", exists: 2147483640,
			stored: "2147483641 2147483839 bigint", ranges: "1"},
		"bigint with gaps": {
			ids: "value * 46116860184273879", exists: 9,
			stored: "4611686018427387901 9177255176670501922 bigint", ranges: "1"},
		"bigint with too wide gaps": {
			ids: "value * 60000000000000000", exists: 9,
			stored: "6000000000000000001 6000000000000000100 bigint", ranges: "100"},
		"text among them": {
			ids: "CASE value WHEN 50 THEN '3' ELSE value + 100 END", exists: 9, alone: true,
			stored: "10 110 integer", ranges: "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := flujotest.NewFile(t, flujotest.Format06)
			f.Insert("runs", flujotest.Cells{"run_id": "r"})
			if tc.alone {
				f.Exec("DROP TABLE steps")
				f.Exec("CREATE TABLE steps (id, run_id, step_name, step_index, status, created_at)")
			}
			f.Exec("INSERT INTO steps (id, run_id, step_name, step_index, status, created_at) WITH RECURSIVE " +
				"n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 100) " +
				"SELECT " + tc.ids + ", 'r', 's', value, 'completed', '2026-01-05T09:00:00+00:00' FROM n")
			path := f.CloseUntyped()
			url := pgtest.Database(t)
			first := sideOf(aRun{"first", 1, []int64{tc.exists}})
			flujotest.Migrate(t, flujotest.Options(t, first.file(t), url))
			result := flujotest.Migrate(t, mergeOptions(t, path, url))
			conn := flujotest.Connect(t, url)
			got := flujotest.One(t, conn, "SELECT format('%s %s %s', min(id), max(id), min(pg_typeof(id)::text)) "+
				"FROM flujo.steps WHERE run_id = 'r'")
			if got != tc.stored {
				t.Errorf("got ids %s, want %s", got, tc.stored)
			}
			got = flujotest.One(t, conn, `SELECT count(*) FROM flujo.flujo_port_receipts,
				jsonb_path_query(tables, '$[*] ? (@.name == "steps").merged.ids[*]') WHERE id = 2`)
			if got != tc.ranges {
				t.Errorf("got %s ranges, want %s", got, tc.ranges)
			}
			lowest := flujotest.One(t, conn, "SELECT min(id) FROM flujo.steps WHERE run_id = 'r'")
			if r := result.Merge.Renumbered; len(r) != 1 || r[0].Rows != 100 || fmt.Sprint(r[0].First) != lowest {
				t.Errorf("got renumbered %+v, want 100 rows from %s", r, lowest)
			}
			verified, _, err := flujotest.Verify(t, path, url)
			if err != nil || verified.Verdict != report.Merged {
				t.Errorf("got %+v and error %v, want merged", verified, err)
			}
		})
	}
}
