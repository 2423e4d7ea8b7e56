package report

import (
	"slices"
	"time"
)

// VerifiedFile is the result of verify for one state file, by unit. A unit is a run with
// all of its rows, a key of system_state, or a memory.
type VerifiedFile struct {
	Source  Source       `json:"source"`
	Receipt *ReceiptNote `json:"receipt" jsonschema:"nullable"`
	Verdict string       `json:"verdict"`
	// Found is what a migration rejects, changes and derives of the file; nil if that was not looked for.
	Found *Findings       `json:"found" jsonschema:"nullable"`
	Units []ComparedUnits `json:"units"` // by kind
	// Superseded are the superseded units, by who wrote the version in PostgreSQL.
	Superseded []SupersededBy `json:"superseded_by"`
	// Originals compares the original values; nil if there are none on both sides.
	Originals *Comparison `json:"originals" jsonschema:"nullable"`
}

// ComparedUnits counts the units of one kind in a state file. Each is counted once.
type ComparedUnits struct {
	Kind       string `json:"kind"` // runs, system_state or memories
	InFile     int64  `json:"in_file"`
	Equal      int64  `json:"equal"`
	Renumbered int64  `json:"renumbered"` // equal but for ids
	// Superseded are those that were replaced by another version, of another file or of
	// Flujo, or not taken because that is newer. Their rows are kept in flujo_port_originals.
	Superseded int64 `json:"superseded"`
	Changed    int64 `json:"changed"` // Flujo wrote or deleted some of their rows
	// Incomplete are those of Changed whose rows were only deleted.
	Incomplete int64 `json:"incomplete"`
	Missing    int64 `json:"missing"` // none of their rows is left
	// Mismatched are those of which a row differs although it was not written since, or
	// whose superseded rows are not kept.
	Mismatched int64 `json:"mismatched"`
	// The keys of up to ten units.
	FirstSuperseded []string `json:"first_superseded"`
	FirstChanged    []string `json:"first_changed"`
	FirstIncomplete []string `json:"first_incomplete"`
	FirstMissing    []string `json:"first_missing"`
	FirstMismatched []string `json:"first_mismatched"`
}

// SupersededBy counts the units of which another file's version, or Flujo's, is in
// PostgreSQL.
type SupersededBy struct {
	Receipt    int64      `json:"receipt"`                           // of the other file; 0 for Flujo
	Path       string     `json:"path"`                              // of the other file; empty for Flujo
	MigratedAt *time.Time `json:"migrated_at" jsonschema:"nullable"` // nil for Flujo
	Units      int64      `json:"units"`
}

// Unit is a unit of a state file and what became of it.
type Unit struct {
	Path   string `json:"file"`
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	Status string `json:"status"`
	// Incomplete says of a changed unit that rows of it were deleted, and none was written since.
	Incomplete bool  `json:"incomplete"`
	By         int64 `json:"by_receipt"` // of the file that superseded it; 0 if Flujo or nobody did
}

// The statuses of a unit.
const (
	UnitEqual      = "equal"
	UnitRenumbered = "renumbered"
	UnitSuperseded = "superseded"
	UnitChanged    = "changed"
	UnitMissing    = "missing"
	UnitMismatched = "mismatched"
)

// Count counts a unit.
func (u *ComparedUnits) Count(status, key string) {
	first := func(keys *[]string) {
		if len(*keys) < 10 {
			*keys = append(*keys, key)
		}
	}
	u.InFile++
	switch status {
	case UnitEqual:
		u.Equal++
	case UnitRenumbered:
		u.Renumbered++
	case UnitSuperseded:
		u.Superseded++
		first(&u.FirstSuperseded)
	case UnitChanged:
		u.Changed++
		first(&u.FirstChanged)
	case UnitMissing:
		u.Missing++
		first(&u.FirstMissing)
	case UnitMismatched:
		u.Mismatched++
		first(&u.FirstMismatched)
	}
}

// Written says who wrote the rows of a schema.
type Written struct {
	Files int64 `json:"by_files"` // rows of the state files that were verified
	Since int64 `json:"by_flujo"` // rows that Flujo wrote
	// Others are the rows of other files.
	Others []WrittenBy `json:"by_other_files"`
}

// WrittenBy counts the rows of a file that was not verified.
type WrittenBy struct {
	Receipt int64  `json:"receipt"`
	Path    string `json:"path"`
	SHA256  string `json:"sha256"`
	Rows    int64  `json:"rows"`
}

// Worst returns the verdict of several files.
func Worst(verdicts ...string) string {
	order := []string{Equal, Merged, Drift, SourceMismatch, Mismatch, CopyMismatch}
	worst := 0
	for _, verdict := range verdicts {
		worst = max(worst, slices.Index(order, verdict))
	}
	return order[worst]
}
