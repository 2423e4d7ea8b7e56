package report

// merged returns what a merge did: runs of every kind, one unit of system_state, and equal memories.
func merged() *Merge {
	return &Merge{
		Units: []MergedUnits{
			{
				Kind: "runs", Equal: 39, Kept: 17, Alone: 2, Tied: 3, Added: 5, TakenOver: 1,
				FirstNewer: []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"},
				FirstTied:  []string{"k", "l", "m"}, FirstTakenOver: []string{"run \"1\""},
			},
			{
				Kind: "system_state", TakenOver: 1, FirstNewer: []string{}, FirstTied: []string{},
				FirstTakenOver: []string{"last_cleanup"},
			},
			{Kind: "memories", Equal: 4, FirstNewer: []string{}, FirstTied: []string{}, FirstTakenOver: []string{}},
		},
		Renumbered: []Renumbered{
			{Table: "steps", Rows: 1, First: 214}, {Table: "spans", Rows: 1261, First: 262},
		},
	}
}

func merges() []golden {
	done := committed()
	done.Merge, done.Changes, done.Originals = merged(), changes()[:1], 2
	for i, one := range []struct{ notStored, heldBefore int64 }{{54, 56}, {1100, 1131}, {50, 51}} {
		t := &done.Tables[i]
		t.NotStored, t.HeldBefore = one.notStored, one.heldBefore
		t.InPostgres += one.heldBefore - one.notStored
	}

	dryRun := committed()
	dryRun.Committed, dryRun.DryRun, dryRun.Verify = false, true, VerifyCounts
	for i := range dryRun.Tables {
		t := &dryRun.Tables[i]
		t.NotStored, t.HeldBefore, t.FileDigest, t.Digest = t.InPostgres, t.InPostgres, "", ""
	}
	dryRun.Merge = &Merge{Units: []MergedUnits{{
		Kind: "runs", Equal: 60, FirstNewer: []string{}, FirstTied: []string{}, FirstTakenOver: []string{},
	}}, Renumbered: []Renumbered{}}

	stopped := refused()
	stopped.Merge = merged()
	return []golden{
		{name: "merge-committed", report: done},
		{name: "merge-dry-run", report: dryRun},
		{name: "merge-refused", report: stopped},
	}
}
