package report

import (
	"testing"
	"time"
)

// started is the start of every report in the golden files.
var started = time.Date(2026, 1, 5, 9, 0, 1, 669094000, time.UTC)

const (
	cutoverAddress  = "postgresql://app:***@db.example/med13?options=-c%20search_path%3Dflujo%2Cpublic"
	rollbackAddress = "sqlite:////data/flujo_state.db"
)

// run returns the run of a command that ended with 0.
func run(command string, seconds float64) Run {
	return Run{
		Format: Format, Command: command, Version: "1.0.0", Commit: "0123456789abcdef0123456789abcdef01234567",
		Host: "pod-1", Arguments: []string{command, "--postgres", "postgresql://app:***@db.example/med13"},
		Started: started, Seconds: seconds,
	}
}

// fail sets the error that a command ended with.
func (r *Run) fail(code int, message, hint string) {
	r.ExitCode, r.Error = code, &Failure{Message: message, Consequence: "nothing was committed", Hint: hint}
}

func stateFile() Source {
	return Source{
		Path: "/data/flujo_state.db", Bytes: 434176, FileFormat: "Flujo 0.6", Integrity: "integrity_check",
		SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	}
}

func target() Target {
	return Target{
		Host:     "db.example:5432",
		Server:   "16.4",
		Database: "med13",
		Role:     "app",
		Schema:   "flujo",
		PGVector: "0.8.0",
	}
}

// noFindings returns the findings of a file in which nothing was found.
func noFindings() *Findings {
	return &Findings{
		Tables: []Table{
			{
				Name: "runs", RowsRead: 60, InPostgres: 60, Bytes: 10342, Seconds: 0.004, Match: true,
				Digest: "1,2",
			},
			{
				Name: "steps", RowsRead: 1213, InPostgres: 1213, Bytes: 83021, Seconds: 0.012, Match: true,
				Digest: "-3,4",
			},
			{
				Name: "traces", Derived: 60, InPostgres: 60, Bytes: 68608, Seconds: 0.005, Match: true,
				Digest: "5,-6",
			},
		},
		Derived:         []Derived{},
		Changes:         []Change{},
		FirstRejected:   []RejectedRow{},
		Widened:         []string{},
		NaiveTimestamps: []NaiveColumn{},
		Rounded:         []Rounded{},
		Ignored:         []string{},
		Notes:           []string{},
	}
}

// changes returns the three ways in which changes are printed.
func changes() []Change {
	return []Change{
		{
			Table: "steps", Column: "output", Reason: "nul-removed", Explanation: "NUL characters are removed",
			Count: 2, Keys: []string{"7", "9"},
		},
		{
			Table:       "runs",
			Column:      "run_name",
			Reason:      "unmapped-column",
			Explanation: "only the original value is stored: Flujo's PostgreSQL table has no such column",
			Count:       1500,
			Keys:        []string{"r\n1", "r2"},
		},
		{
			Table: "steps", Reason: "null-key", Explanation: "the key is NULL", Count: 1, Keys: []string{""},
			Rejected: true,
		},
	}
}

// someFindings returns findings of every kind.
func someFindings() *Findings {
	f := noFindings()
	f.Tables[1].Rejected, f.Tables[1].InPostgres = 1, 1212
	f.Changes = changes()
	f.FirstRejected = []RejectedRow{{
		Table: "steps", RowID: 14, Column: "id", Value: "NULL", Reason: "null-key", Explanation: "the key is NULL",
	}}
	f.Derived = []Derived{
		{
			Table: "runs", Rows: 1, From: "workflow_state", Count: 1,
			Why: "rows of other tables refer to runs that the state file does not have, " +
				"and Flujo's PostgreSQL tables require them",
		},
		{
			Table: "traces", Rows: 60, From: "spans", Count: 2261,
			Why: "Flujo's SQLite backend rebuilds a run's trace from its spans; " +
				"its PostgreSQL backend reads only traces",
		},
	}
	f.Widened = []string{"steps.token_counts", "steps.id"}
	f.NaiveTimestamps = []NaiveColumn{{Column: "runs.created_at", Count: 1060, Zone: "Europe/Berlin"}}
	f.Rounded = []Rounded{
		{Column: "steps.cost_usd", Count: 121, Largest: 5.96e-08},
		{Column: "runs.memory_usage_mb", Count: 1, Largest: 1e-9},
	}
	f.Ignored = []string{"alembic_version", "notes", "notes, old", "x\nDone in 0.1 s"}
	f.Notes = []string{"without pgvector, Flujo works without memory indexing"}
	return f
}

// committed returns the report of a migration with nothing to say.
func committed() *Migration {
	return &Migration{
		Run:            run("migrate", 0.234),
		Committed:      true,
		RestoreCommand: "flujo-port restore",
		Source:         stateFile(),
		Target:         target(),
		Verify:         VerifyContent,
		FileResult:     FileResult{Findings: noFindings(), Receipt: 1},
		Further:        []*FurtherFile{},
		Warnings:       []string{},
		Cutover:        cutoverAddress,
		Rollback:       rollbackAddress,
	}
}

func refused() *Migration {
	m := committed()
	m.Committed, m.Refused, m.Findings, m.Receipt = false, true, someFindings(), 0
	m.fail(3, "1 row of the state file is rejected by Flujo's PostgreSQL tables", "fix the row in a copy of the file")
	for i := range m.Tables {
		m.Tables[i].InPostgres, m.Tables[i].Match, m.Tables[i].Digest = 0, false, ""
	}
	return m
}

func migrations() []golden {
	findings := committed()
	findings.Findings, findings.Originals = someFindings(), 1509
	findings.Source.WAL, findings.Source.Frames, findings.Source.Integrity = true, 1, ""
	findings.Target.CreatedSchema, findings.Target.CreatedPGVector = true, true
	findings.Warn("another process has the state file open (%s)", "pid 4711")

	one := committed()
	one.Changes, one.Originals = changes()[:1], 1
	one.Changes[0].Count, one.Changes[0].Keys = 1, []string{"7"}

	dryRun := committed()
	dryRun.DryRun, dryRun.Committed = true, false
	dryRun.Source.WAL, dryRun.Source.Frames = true, 1204
	dryRun.Next = []string{"Stop Flujo, then run the same command without --dry-run."}

	counts := committed()
	counts.Verify, counts.Target.PGVector = VerifyCounts, ""
	for i := range counts.Tables {
		counts.Tables[i].Digest = ""
	}

	mismatch := committed()
	mismatch.Committed, mismatch.Differing = false, 2
	mismatch.fail(4, "verification failed: 2 rows differ", "run again with a copy of the file")
	mismatch.Tables[1].Match = false
	mismatch.Differences = []Difference{
		{Table: "steps", Key: "7", Column: "output", Kind: CellDiffer, InFile: `{"a": 1}`, InPostgres: "NULL"},
		{Table: "steps", Key: "8", Kind: RowMissing},
	}
	differences := ListOf("differences", func(yield func(Difference) error) error {
		for _, d := range mismatch.Differences {
			if err := yield(d); err != nil {
				return err
			}
		}
		return nil
	})

	several := committed()
	several.Findings, several.Originals = someFindings(), 1509
	several.Tables[0].Derived, several.Tables[0].InPostgres = 1, 61
	second := &FurtherFile{Source: stateFile(), Rollback: "sqlite:////data/b.db",
		FileResult: FileResult{Findings: someFindings(), Merge: merged(), Receipt: 2}}
	second.Source.Path = "/data/b.db"
	several.Further = []*FurtherFile{second}

	oneRow := committed()
	oneRow.Committed, oneRow.Differing = false, 1
	oneRow.Tables[0].Match = false
	oneRow.Differences = []Difference{{Table: "runs", Key: "r<1>", Kind: RowExtra}}

	findingList := ListOf("findings", func(yield func(Finding) error) error {
		return yield(Finding{
			Table: "steps", Key: "7", RowID: 7, Column: "output", Reason: "nul-removed",
			Explanation: "NUL characters are removed",
		})
	})
	return []golden{
		{name: "migration-committed", report: committed()},
		{name: "migration-findings", report: findings, lists: []List{findingList}},
		{name: "migration-one-change", report: one},
		{name: "migration-dry-run", report: dryRun},
		{name: "migration-counts", report: counts},
		{name: "migration-refused", report: refused()},
		{name: "migration-mismatch", report: mismatch, lists: []List{differences}},
		{name: "migration-one-row-differs", report: oneRow},
		{name: "migration-several", report: several, lists: []List{findingList}},
		{name: "migration-replaced", report: replaced(true)},
		{name: "migration-replaced-dry-run", report: replaced(false)},
	}
}

// TestHeadlineOfSeveral tests that the headline says that versions differed between the files, and only then.
func TestHeadlineOfSeveral(t *testing.T) {
	t.Parallel()
	const files, differ = "Migrated and verified: 1,333 rows of 2 files in 0.2 s",
		" (runs, keys and memories in different versions: "
	for name, tc := range map[string]struct {
		units []MergedUnits
		want  string
	}{
		"nothing in common": {[]MergedUnits{{Kind: "runs", Added: 60, Kept: 60, Alone: 60}}, files},
		"equal":             {[]MergedUnits{{Kind: "runs", Equal: 60}}, files},
		"newer": {[]MergedUnits{{Kind: "runs", TakenOver: 3, Equal: 1}},
			files + differ + "3 taken over, 0 not taken)"},
		"older and tied": {
			[]MergedUnits{{Kind: "runs", Kept: 9, Alone: 2, Tied: 1}, {Kind: "memories", TakenOver: 1200}},
			files + differ + "1,200 taken over, 7 not taken)",
		},
	} {
		m := committed()
		further := &FurtherFile{Source: stateFile(), FileResult: FileResult{Findings: noFindings()}}
		further.Merge = &Merge{Units: tc.units}
		m.Further = []*FurtherFile{further}
		if got := m.headline(); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// replaced returns the report of a migration that replaced rows.
func replaced(isCommitted bool) *Migration {
	m := committed()
	m.Committed, m.DryRun = isCommitted, !isCommitted
	m.Replaced = &Replaced{
		ArchiveSchema: "flujo_archive_20260105T090001Z",
		Tables: []ArchivedTable{
			{Name: "runs", Rows: 1}, {Name: "steps", Rows: 2130}, {Name: "flujo_port_receipts", Rows: 1},
		},
		UndoSQL: []string{
			"BEGIN;", `TRUNCATE "flujo"."runs";`,
			`INSERT INTO "flujo"."runs" SELECT * FROM "flujo_archive_20260105T090001Z"."runs";`, "COMMIT;",
		},
		DropSQL: `DROP SCHEMA "flujo_archive_20260105T090001Z" CASCADE;`,
	}
	return m
}

func TestFindingsCount(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		changes     []Change
		rows, cells int64
	}{
		{"nothing", nil, 0, 0},
		{"cells", []Change{{Count: 2}, {Count: 3}}, 0, 5},
		{"rows", []Change{{Count: 2, Rejected: true}, {Count: 1, Rejected: true}}, 3, 0},
		{"both", changes(), 1, 1502},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rows, cells := (&Findings{Changes: tc.changes}).Count()
			if rows != tc.rows || cells != tc.cells {
				t.Errorf("got %d rows and %d cells, want %d and %d", rows, cells, tc.rows, tc.cells)
			}
		})
	}
}

func TestFindingsNaiveCount(t *testing.T) {
	t.Parallel()
	for want, columns := range map[int64][]NaiveColumn{
		0: nil,
		7: {{Column: "runs.created_at", Count: 3}, {Column: "steps.created_at", Count: 4}},
	} {
		if got := (&Findings{NaiveTimestamps: columns}).NaiveCount(); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}

func TestFindingsStubRuns(t *testing.T) {
	t.Parallel()
	for want, derived := range map[int64][]Derived{
		0: {{Table: "traces", Rows: 5}},
		3: {{Table: "runs", Rows: 3}, {Table: "traces", Rows: 5}},
	} {
		if got := (&Findings{Derived: derived}).StubRuns(); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}

func TestFindingsAddWidened(t *testing.T) {
	t.Parallel()
	f := Findings{Widened: []string{"steps.id"}}
	f.AddWidened([]string{"spans.id", "evaluations.id"})
	f.AddWidened(nil)
	if len(f.Widened) != 3 || f.Widened[0] != "steps.id" || f.Widened[2] != "evaluations.id" {
		t.Errorf("got %v", f.Widened)
	}
}

// TestFindingsWithoutKeys tests that the copy has no keys, and that the findings keep theirs.
func TestFindingsWithoutKeys(t *testing.T) {
	t.Parallel()
	f := someFindings()
	without := f.WithoutKeys()
	if without.FirstRejected == nil || len(without.FirstRejected) > 0 || len(f.FirstRejected) != 1 {
		t.Errorf("got the rejected rows %v, want none, and the findings to keep theirs", without.FirstRejected)
	}
	if len(without.Changes) != len(f.Changes) {
		t.Fatalf("got %d changes, want %d", len(without.Changes), len(f.Changes))
	}
	for i, c := range without.Changes {
		if c.Keys == nil || len(c.Keys) > 0 {
			t.Errorf("change %d has the keys %#v, want an empty list", i, c.Keys)
		}
		if c.Count != f.Changes[i].Count || c.Reason != f.Changes[i].Reason {
			t.Errorf("change %d is %+v, want %+v", i, c, f.Changes[i])
		}
		if len(f.Changes[i].Keys) == 0 {
			t.Errorf("change %d of the findings lost its keys", i)
		}
	}
}
