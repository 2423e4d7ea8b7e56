package report

import (
	"testing"
	"time"
)

// comparisons returns the tables of a verification in which nothing differs.
func comparisons() []Comparison {
	return []Comparison{
		{Name: "runs", RowsRead: 60, InFile: 60, AtReceipt: 60, InPostgres: 60, Match: true, Digest: "1,2"},
		{
			Name: "steps", RowsRead: 1214, Rejected: 1, InFile: 1213, AtReceipt: 1213, InPostgres: 1213, Match: true,
			Digest: "-3,4",
		},
	}
}

func verification(verdict string) *Verification {
	return &Verification{
		Run: run("verify", 0.312), Verdict: verdict,
		Source: stateFile(), Target: target(),
		Receipt: &ReceiptNote{
			MigratedAt: time.Date(2026, 1, 4, 22, 15, 0, 0, time.UTC), Version: "0.9.0", Path: "/data/flujo_state.db",
			SHA256: stateFile().SHA256, Verify: VerifyContent, SameBytes: true,
		},
		Tables: comparisons(), Files: []*VerifiedFile{}, Warnings: []string{}, Notes: []string{},
	}
}

// verifiedFiles returns the results of two files: one that was merged, and one with a mismatch.
func verifiedFiles() []*VerifiedFile {
	at := time.Date(2026, 1, 4, 22, 15, 0, 0, time.UTC)
	units := func(kind string) ComparedUnits {
		return ComparedUnits{
			Kind:            kind,
			FirstSuperseded: []string{},
			FirstChanged:    []string{},
			FirstIncomplete: []string{},
			FirstMissing:    []string{},
			FirstMismatched: []string{},
		}
	}
	merged, wrong := &VerifiedFile{Source: stateFile(), Receipt: verification(Merged).Receipt, Verdict: Merged},
		&VerifiedFile{Source: stateFile(), Receipt: verification(Merged).Receipt, Verdict: CopyMismatch}
	merged.Receipt.ID, merged.Receipt.Merged = 2, true
	runs, keys := units("runs"), units("system_state")
	for i, status := range []string{UnitEqual, UnitEqual, UnitRenumbered, UnitSuperseded, UnitSuperseded} {
		runs.Count(status, string(rune('a'+i)))
	}
	keys.Count(UnitEqual, "key")
	merged.Units = []ComparedUnits{runs, keys}
	merged.Superseded = []SupersededBy{{Receipt: 3, Path: "/data/pod-2.db", MigratedAt: &at, Units: 1}, {Units: 1}}
	changed := units("runs")
	for i, status := range []string{UnitChanged, UnitMissing, UnitMismatched} {
		changed.Count(status, string(rune('a'+i)))
	}
	changed.CountIncomplete("a")
	wrong.Receipt.ID, wrong.Receipt.SameBytes = 1, false
	wrong.Units, wrong.Superseded = []ComparedUnits{changed}, []SupersededBy{}
	wrong.Originals = &Comparison{Name: "flujo_port_originals", Derived: 3, InFile: 3, AtReceipt: 3, InPostgres: 2}
	return []*VerifiedFile{merged, wrong}
}

func verifications() []golden {
	checkpointed := verification(Equal)
	checkpointed.Receipt.SameBytes = false

	restored := verification(Equal)
	restored.Receipt.Elsewhere = true

	merge := verification(CopyMismatch)
	merge.Tables, merge.Files = []Comparison{}, verifiedFiles()
	merge.Written = &Written{Files: 1500, Since: 12, Others: []WrittenBy{
		{Receipt: 3, Path: "/data/pod-2.db", SHA256: stateFile().SHA256, Rows: 7}}}

	stranger := verification(SourceMismatch)
	stranger.Tables, stranger.Files = []Comparison{}, verifiedFiles()
	stranger.Files[1] = &VerifiedFile{Source: stateFile(), Verdict: SourceMismatch, Units: []ComparedUnits{},
		Superseded: []SupersededBy{}}
	stranger.Files[1].Source.Integrity = ""

	drift := verification(Drift)
	drift.Tables[1] = Comparison{
		Name:       "steps",
		RowsRead:   1213,
		InFile:     1213,
		AtReceipt:  1213,
		InPostgres: 2300,
		Added:      1088,
		Changed:    1,
		Deleted:    1,
		Digest:     "7,8",
		First: []Difference{
			{Table: "steps", Key: "7", Column: "status", Kind: CellDiffer, InFile: `"running"`,
				InPostgres: `"completed"`, Since: true},
			{Table: "steps", Key: "8", Kind: RowMissing, Since: true},
			{Table: "steps", Key: "1214", Kind: RowExtra, Since: true},
		},
	}
	counted := verification(Drift)
	counted.Receipt.Verify = VerifyCounts
	counted.Tables[0] = Comparison{
		Name:       "runs",
		RowsRead:   60,
		InFile:     60,
		AtReceipt:  60,
		InPostgres: 61,
		Added:      1,
		Digest:     "7,8",
	}

	copyMismatch := verification(CopyMismatch)
	copyMismatch.Tables[0] = Comparison{
		Name: "runs", RowsRead: 60, InFile: 60, AtReceipt: 60, InPostgres: 60, Mismatched: 1, Digest: "7,8",
		First: []Difference{
			{Table: "runs", Key: "r1", Column: "status", Kind: CellDiffer, InFile: `"failed"`, InPostgres: `"done"`},
		},
	}
	copyMismatch.Warnings = []string{"another process has the state file open"}
	copyMismatch.Notes = []string{"traces was compared row by row, because its digests differ; all rows are equal"}

	noReceipt := verification(Mismatch)
	noReceipt.Receipt = nil
	noReceipt.Tables = []Comparison{
		{
			Name: "runs", RowsRead: 60, InFile: 60, InPostgres: 59, Mismatched: 1, Digest: "7,8",
			First: []Difference{{Table: "runs", Key: "r1", Kind: RowMissing}},
		},
		{Name: "steps", RowsRead: 1213, InFile: 1213, TableMissing: true, Mismatched: 1213},
	}

	source := verification(SourceMismatch)
	source.Receipt.SameBytes = false
	source.Tables[0] = Comparison{
		Name:           "runs",
		RowsRead:       61,
		InFile:         61,
		AtReceipt:      60,
		InPostgres:     60,
		SourceMismatch: true,
	}

	list := ListOf("differences", func(yield func(Difference) error) error {
		for _, d := range drift.Tables[1].First {
			if err := yield(d); err != nil {
				return err
			}
		}
		return nil
	})
	rounded := verification(Equal)
	rounded.Found = NewFindings()
	rounded.Found.Rounded = []Rounded{{Column: "steps.cost_usd", Count: 1213, Largest: 5.2e-08}}
	return []golden{
		{name: "verification-equal", report: verification(Equal)},
		{name: "verification-equal-rounded", report: rounded},
		{name: "verification-equal-after-checkpoint", report: checkpointed},
		{name: "verification-equal-restored", report: restored},
		{name: "verification-merged", report: merge},
		{name: "verification-files-source-mismatch", report: stranger},
		{name: "verification-drift", report: drift, lists: []List{list}},
		{name: "verification-drift-counts", report: counted},
		{name: "verification-copy-mismatch", report: copyMismatch},
		{name: "verification-mismatch", report: noReceipt},
		{name: "verification-source-mismatch", report: source},
	}
}

func TestComparisonCount(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		difference Difference
		want       Comparison
	}{
		{"missing", Difference{Kind: RowMissing}, Comparison{Mismatched: 1}},
		{"extra", Difference{Kind: RowExtra}, Comparison{Mismatched: 1}},
		{"differs", Difference{Kind: CellDiffer}, Comparison{Mismatched: 1}},
		{"missing since", Difference{Kind: RowMissing, Since: true}, Comparison{Deleted: 1}},
		{"extra since", Difference{Kind: RowExtra, Since: true}, Comparison{Added: 1}},
		{"differs since", Difference{Kind: CellDiffer, Since: true}, Comparison{Changed: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got Comparison
			got.Count(tc.difference)
			if got.Mismatched != tc.want.Mismatched || got.Deleted != tc.want.Deleted ||
				got.Added != tc.want.Added || got.Changed != tc.want.Changed {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestDifferenceString(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]Difference{
		`runs "r\n1" is not in PostgreSQL`:                   {Table: "runs", Key: "r\n1", Kind: RowMissing},
		`runs "" is in PostgreSQL but not in the state file`: {Table: "runs", Kind: RowExtra},
		`steps "7", column output: the state file has 1, PostgreSQL has NULL`: {
			Table: "steps", Key: "7", Column: "output", Kind: CellDiffer, InFile: "1", InPostgres: "NULL",
		},
		`steps "7": the state file has the row, PostgreSQL has another`: {
			Table: "steps", Key: "7", Kind: CellDiffer, InFile: "the row", InPostgres: "another",
		},
	} {
		if got := d.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
