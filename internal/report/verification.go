package report

import (
	"strconv"
	"time"
)

// The verdicts of verify.
const (
	Equal          = "equal"           // the database holds what the file says
	Merged         = "merged"          // the database holds what a merge of the file left there
	Drift          = "drift"           // the copy was good; rows were written, changed or deleted since
	CopyMismatch   = "copy-mismatch"   // rows of the migration are not what the file says
	Mismatch       = "mismatch"        // rows differ, and without a receipt nobody can say since when
	SourceMismatch = "source-mismatch" // the file is not the one that was migrated, or was written since
)

// Verification is the report of verify.
type Verification struct {
	Format   int          `json:"format"`
	Command  string       `json:"command"`
	Version  string       `json:"version"`
	Started  time.Time    `json:"started"`
	Seconds  float64      `json:"seconds"`
	Verdict  string       `json:"verdict"`
	Source   Source       `json:"source"`
	Target   Target       `json:"target"`
	Receipt  *ReceiptNote `json:"receipt"` // nil where there is none
	Tables   []Comparison `json:"tables"`
	Warnings []string     `json:"warnings"`
	Notes    []string     `json:"notes"`
}

// ReceiptNote is what verify says of the receipt.
type ReceiptNote struct {
	MigratedAt time.Time `json:"migrated_at"`
	Version    string    `json:"version"`
	Path       string    `json:"path"`
	SHA256     string    `json:"sha256"`
	Verify     string    `json:"verify"`
	SameBytes  bool      `json:"same_bytes"` // the file is, byte for byte, the one that was migrated
	Merged     bool      `json:"merged"`     // into rows that were there
}

// Comparison is what a table holds, in the file and in PostgreSQL. The counts
// of rows that differ are 0 where nothing was looked for.
type Comparison struct {
	Name       string `json:"name"`
	InFile     int64  `json:"in_file"`     // rows that the file gives for it, derived ones included
	AtReceipt  int64  `json:"at_receipt"`  // rows at the migration; 0 without a receipt
	InPostgres int64  `json:"in_postgres"` // rows now
	Match      bool   `json:"match"`
	// AsMerged says that PostgreSQL holds what a merge left there, which is not
	// what the file has.
	AsMerged bool `json:"as_merged"`
	// SourceMismatch says that the file has not the rows that were migrated.
	SourceMismatch bool `json:"source_mismatch"`
	// TableMissing says that PostgreSQL has no such table any more.
	TableMissing bool   `json:"table_missing"`
	Digest       string `json:"digest"` // of the rows in PostgreSQL
	// Rows that were written, changed or deleted after the migration.
	Added   int64 `json:"added_since"`
	Changed int64 `json:"changed_since"`
	Deleted int64 `json:"deleted_since"`
	// Rows that differ and were not written after the migration, or of which
	// nobody can say.
	Mismatched int64 `json:"mismatched"`
	// First are the first differences.
	First []Difference `json:"-"`
}

// Count counts a row by one of its differences.
func (c *Comparison) Count(d Difference) {
	switch {
	case !d.Since:
		c.Mismatched++
	case d.Kind == RowMissing:
		c.Deleted++
	case d.Kind == RowExtra:
		c.Added++
	default:
		c.Changed++
	}
}

// FirstDifferences is how many differences of a table are shown to a person.
const FirstDifferences = 20

// The kinds of differences.
const (
	RowMissing = "missing" // the file has the row, PostgreSQL has not
	RowExtra   = "extra"   // PostgreSQL has it, the file has not
	CellDiffer = "differs"
)

// Difference is a row that one side lacks, or a cell that is not the same.
type Difference struct {
	Table      string `json:"table"`
	Key        string `json:"key"`
	Column     string `json:"column"` // empty for a row
	Kind       string `json:"kind"`
	InFile     string `json:"in_file"` // cut to a line
	InPostgres string `json:"in_postgres"`
	Since      bool   `json:"since"` // by a transaction after the migration's
	Derived    bool   `json:"-"`     // the row is none of the file's
}

// String says it on one line.
func (d Difference) String() string {
	row := d.Table + " " + strconv.Quote(d.Key)
	switch d.Kind {
	case RowMissing:
		return row + " is not in PostgreSQL"
	case RowExtra:
		return row + " is in PostgreSQL and not in the file"
	}
	if d.Column != "" {
		row += ", column " + d.Column
	}
	return row + ": the file has " + d.InFile + ", PostgreSQL " + d.InPostgres
}
