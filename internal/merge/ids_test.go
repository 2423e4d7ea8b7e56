package merge_test

import (
	"fmt"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// aRun is a run of a file, written at at(when), with steps that have the given ids. The name of a step has its place in
// the run.
type aRun struct {
	run  string
	when int
	ids  []int64
}

// sideOf returns the rows of a file with the runs.
func sideOf(runs ...aRun) side {
	s := side{}
	for _, r := range runs {
		s.add("runs", flujotest.Cells{"run_id": r.run, "created_at": at(0), "updated_at": at(r.when)})
		for i, id := range r.ids {
			s.add("steps", flujotest.Cells{"run_id": r.run, "id": id, "step_name": fmt.Sprint(r.run, " ", i),
				"created_at": at(0)})
		}
	}
	return s
}

// wantRecordedIDs tests that a receipt says which id each step of its file has in the schema.
func wantRecordedIDs(t testing.TB, url string, receipt int, file side) {
	t.Helper()
	conn := flujotest.Connect(t, url)
	for _, row := range file["steps"] {
		got := flujotest.One(t, conn, `SELECT coalesce((
			SELECT (r->>'stored')::bigint + $1::bigint - (r->>'in_file')::bigint FROM flujo.flujo_port_receipts,
				jsonb_path_query(tables, '$[*] ? (@.name == "steps").merged.*[*] ? (exists(@.in_file))') r
			WHERE id = $2 AND $1::bigint >= (r->>'in_file')::bigint
				AND $1::bigint < (r->>'in_file')::bigint + (r->>'rows')::bigint), $1::bigint)`, row["id"], receipt)
		want := flujotest.One(t, conn, "SELECT id FROM flujo.steps WHERE step_name = $1", row["step_name"])
		if got != want {
			t.Errorf("receipt %d: step %q with id %d is recorded as %s, but is %s", receipt, row["step_name"],
				row["id"], got, want)
		}
	}
}

// TestRecordedIDs tests that the receipt of the last of several files says which ids its rows got, in whatever order
// the ids of its equal, added and newer runs are in the file and in the schema, and that the file verifies by them.
func TestRecordedIDs(t *testing.T) {
	t.Parallel()
	occupied := sideOf(aRun{"other", 1, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}})
	for name, files := range map[string][]side{
		"equal around newer": {
			sideOf(aRun{"x", 1, []int64{1, 3}}, aRun{"y", 1, []int64{2}}),
			sideOf(aRun{"x", 1, []int64{1, 3}}, aRun{"y", 2, []int64{2}})},
		"newer around equal": {
			sideOf(aRun{"x", 1, []int64{1, 3, 6}}, aRun{"y", 1, []int64{2, 4, 5}}),
			sideOf(aRun{"x", 2, []int64{1, 3, 6}}, aRun{"y", 1, []int64{2, 4, 5}})},
		"added around equal": {
			sideOf(aRun{"x", 1, []int64{2, 4}}, aRun{"y", 1, []int64{5, 3}}),
			sideOf(aRun{"x", 1, []int64{2, 4}}, aRun{"y", 1, []int64{5, 3}}, aRun{"z", 1, []int64{1, 6, 8}})},
		"equal in another order": {
			sideOf(aRun{"x", 1, []int64{1, 2, 3}}, aRun{"y", 1, []int64{4, 5, 6}}),
			sideOf(aRun{"x", 1, []int64{4, 5, 6}}, aRun{"y", 1, []int64{1, 2, 3}})},
		"equal with gaps": {
			sideOf(aRun{"x", 1, []int64{1, 2, 3, 4, 5}}),
			sideOf(aRun{"x", 1, []int64{1, 3, 5, 7, 9}}, aRun{"z", 1, []int64{2, 4}})},
		"of three files": {
			sideOf(aRun{"x", 1, []int64{1, 3}}), sideOf(aRun{"y", 1, []int64{1, 3}}),
			sideOf(aRun{"y", 1, []int64{1, 4}}, aRun{"x", 1, []int64{2, 3}}, aRun{"z", 1, []int64{5}})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.Migrate(t, flujotest.Options(t, occupied.file(t), url))
			var path string
			for _, f := range files {
				path = f.file(t)
				flujotest.Migrate(t, mergeOptions(t, path, url))
			}
			wantRecordedIDs(t, url, len(files)+1, files[len(files)-1])
			verified, _, err := flujotest.Verify(t, path, url)
			if err != nil || verified.Verdict != report.Merged {
				t.Errorf("got verdict %v and error %v, want merged", verified, err)
			}
		})
	}
}
