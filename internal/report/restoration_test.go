package report

import (
	"slices"
	"testing"
)

func restoration() *Restoration {
	from := target()
	return &Restoration{
		Run:    run("restore", 0.412),
		Done:   true,
		Source: from,
		File:   RestoredFile{Path: "/data/restored.db", Bytes: 1434176, SHA256: stateFile().SHA256},
		Tables: []RestoredTable{
			{Name: "runs", InPostgres: 61, Written: 61, Originals: 3, Match: true,
				FileDigest: "1,2", Digest: "1,2"},
			{Name: "steps", InPostgres: 1300, Written: 1300, Rejected: 1, Match: true,
				FileDigest: "5,6", Digest: "-3,4"},
			{Name: "traces", InPostgres: 61, Derived: 61, Match: true,
				FileDigest: "7,-8", Digest: "7,-8"},
		},
		Lost:     []Change{},
		Warnings: []string{},
		Notes:    []string{},
		Rollback: "sqlite:////data/restored.db",
	}
}

func restorations() []golden {
	base := stateFile()
	base.WAL, base.Frames = true, 12
	withBase := restoration()
	withBase.Base = &base
	withBase.Receipt = verification(Equal).Receipt
	withBase.Tables[0].Written, withBase.Tables[0].FromBase, withBase.Tables[0].Removed = 1, 60, 2
	withBase.Note("original values that remain in %s: %d", "flujo_port_originals", 2)

	merge := restoration()
	merge.Base, merge.Merge = &base, merged()

	lost := restoration()
	lost.Lost = []Change{{
		Table: "steps", Column: "cost_usd", Reason: "non-finite-number",
		Explanation: "NaN became NULL, because SQLite has no NaN", Count: 1200, Keys: []string{},
	}}
	lost.Warn("schema %q has no table %s, so the new file has none", "flujo", "memories")

	mismatch := restoration()
	mismatch.Done, mismatch.Differing, mismatch.Tables[0].Match = false, 1, false
	mismatch.Merge = merged()
	mismatch.Differences = []Difference{
		{Table: "runs", Key: "r1", Column: "status", Kind: CellDiffer, InFile: `"failed"`, InPostgres: `"done"`},
	}

	dryRun := restoration()
	dryRun.DryRun, dryRun.Done = true, false
	return []golden{
		{name: "restoration-plain", report: restoration()},
		{name: "restoration-with-base", report: withBase},
		{name: "restoration-merged", report: merge},
		{name: "restoration-lost-values", report: lost},
		{name: "restoration-mismatch", report: mismatch},
		{name: "restoration-dry-run", report: dryRun},
	}
}

// TestRestorationNote tests that a note is added once, and a warning each time.
func TestRestorationNote(t *testing.T) {
	t.Parallel()
	var r Restoration
	for range 2 {
		r.Note("%d of %s", 1, "x")
		r.Warn("%d of %s", 2, "x")
	}
	r.Note("%d of %s", 3, "x")
	if want := []string{"1 of x", "3 of x"}; !slices.Equal(r.Notes, want) {
		t.Errorf("got the notes %q, want %q", r.Notes, want)
	}
	if want := []string{"2 of x", "2 of x"}; !slices.Equal(r.Warnings, want) {
		t.Errorf("got the warnings %q, want %q", r.Warnings, want)
	}
}
