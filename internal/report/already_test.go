package report

import (
	"strings"
	"testing"
)

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

// TestMigrated tests that the path of a receipt is not taken for that of the file that was found.
func TestMigrated(t *testing.T) {
	t.Parallel()
	const at = " was migrated at 2026-01-04 22:15:00 UTC (receipt 2)"
	for _, c := range []struct {
		path, receipt string
		sameBytes     bool
		want          string
	}{
		{"/data/a.db", "/data/a.db", true, "/data/a.db" + at},
		{"/data/a.db", "/data/a.db", false, "/data/a.db" + at},
		{"/data/b.db", "/data/a.db", true, "/data/b.db has the content of /data/a.db, which" + at},
		{"/data/b.db", "/data/a.db", false, "/data/b.db has the rows of /data/a.db, which" + at},
		{"/data/b b.db", "/a a.db", true, "/data/b b.db has the content of /a a.db, which" + at},
		{"/data/\xff.db", "/data/\uFFFD.db", true, "/data/\xff.db" + at},
	} {
		v := verification(Equal)
		v.Source.Path, v.Receipt.Path, v.Receipt.SameBytes, v.Receipt.ID = c.path, c.receipt, c.sameBytes, 2
		if got := already(v, c.path).migrated(asIs); got != c.want {
			t.Errorf("%s, receipt of %s, same bytes %t: got %q, want %q", c.path, c.receipt, c.sameBytes, got, c.want)
		}
	}
	v := verification(Equal)
	v.Receipt.Path, v.Receipt.ID = "/data/a.db", 2
	if got, want := already(v, "/data/b.db").Migrated(), `"`+v.Source.Path+`" has the content of "/data/a.db", which`+
		at; got != want {
		t.Errorf("in an error: got %q, want %q", got, want)
	}
	files := verifiedFiles()[:1]
	files[0].Receipt.Path = "/elsewhere.db"
	m := already(byUnit(Merged, files[0]), files[0].Source.Path, "/data/copy.db")
	const want = "Already migrated: the content of these 2 state files was migrated, and was verified again."
	if got := m.alreadyMigratedHeadline(); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
