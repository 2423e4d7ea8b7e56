package report

import "testing"

// already returns the report for files with a verification.
func already(v *Verification, paths ...string) *Migration {
	m := NewAlreadyMigrated(v, paths...)
	m.RestoreCommand = "flujo-port restore"
	m.Run, m.Cutover, m.Rollback = run("migrate", 0.312), cutoverAddress, rollbackAddress
	for _, further := range m.Further {
		further.Rollback = "sqlite:///" + further.Source.Path
	}
	return m
}

// byUnit returns a verification by unit of some of the files of verifiedFiles.
func byUnit(verdict string, files ...*VerifiedFile) *Verification {
	v := verification(verdict)
	v.Tables, v.Files, v.Written = []Comparison{}, files, &Written{Files: 1500, Since: 12, Others: []WrittenBy{}}
	v.Source, v.Receipt = files[0].Source, files[0].Receipt
	return v
}

func alreadyMigrated() []golden {
	const path = "/data/flujo_state.db"
	equal := verification(Equal)
	equal.Receipt.ID = 1
	equal.Warnings = []string{"a warning of the verification"}

	merged := verifiedFiles()[0]
	second := *merged
	second.Source.Path = "/data/pod-1.db"

	deleted := verifiedFiles()[1]
	deleted.Verdict, deleted.Originals = Drift, nil
	deleted.Units[0].Mismatched, deleted.Units[0].FirstMismatched = 0, []string{}

	both := already(byUnit(Merged, merged, &second), path, "/data/pod-1.db", "/data/copy.db")
	both.DryRun = true
	both.AlreadyMigrated.Notes = []string{
		"/data/copy.db has the content of a file before it and was not compared again",
	}
	return []golden{
		{name: "already-migrated", report: already(equal, path)},
		{name: "already-migrated-several", report: both},
		{name: "already-migrated-deleted", report: already(byUnit(Drift, deleted), path)},
		{name: "already-migrated-mismatch", report: already(byUnit(CopyMismatch, verifiedFiles()[1]), path)},
	}
}

func TestHasRows(t *testing.T) {
	t.Parallel()
	for _, g := range alreadyMigrated() {
		want := g.name == "already-migrated" || g.name == "already-migrated-several"
		if got := g.report.(*Migration).HasRows(); got != want {
			t.Errorf("%s: got %t, want %t", g.name, got, want)
		}
	}
	rolledBack := committed()
	rolledBack.Committed = false
	if !committed().HasRows() || rolledBack.HasRows() || refused().HasRows() {
		t.Error("a migration has rows if it was committed, and only then")
	}
}
