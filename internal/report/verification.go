package report

import (
	"strconv"
	"time"
)

// The verdicts of verify.
const (
	// Equal: PostgreSQL and the state file hold the same rows.
	Equal = "equal"
	// Merged: PostgreSQL holds every run, key and memory of the state file, as of the merge:
	// some have other ids, or were superseded by another file's version, which is newer.
	Merged = "merged"
	// Drift: the copy was correct, and rows were added, changed or deleted after it.
	Drift = "drift"
	// CopyMismatch: rows that the migration wrote differ from the state file.
	CopyMismatch = "copy-mismatch"
	// Mismatch: rows differ, and there is no receipt that says whether they were
	// changed after the migration.
	Mismatch = "mismatch"
	// SourceMismatch: the state file is not the one that was migrated, or it was
	// written to after the migration.
	SourceMismatch = "source-mismatch"
)

// Verification is the report of the command verify.
type Verification struct {
	Run
	Verdict string       `json:"verdict"`
	Source  Source       `json:"source"`
	Target  Target       `json:"target"`
	Receipt *ReceiptNote `json:"receipt" jsonschema:"nullable"` // nil without a receipt
	// Found is what a migration rejects, changes and derives of the file; nil with Files.
	Found  *Findings    `json:"found"  jsonschema:"nullable"`
	Tables []Comparison `json:"tables"`
	// Files are the results by unit, if the schema holds the rows of several files or of a
	// merge. Then there are no Tables.
	Files []*VerifiedFile `json:"files"`
	// Written says who wrote the rows in PostgreSQL; nil without Files, and in a copy of the
	// database, where it is unknown.
	Written  *Written `json:"written"  jsonschema:"nullable"`
	Warnings []string `json:"warnings"`
	Notes    []string `json:"notes"`
}

// ReceiptNote is the part of a receipt that a report shows.
type ReceiptNote struct {
	MigratedAt time.Time `json:"migrated_at"`
	Version    string    `json:"version"`
	Path       string    `json:"path"`
	SHA256     string    `json:"sha256"`
	Verify     string    `json:"verify"`
	SameBytes  bool      `json:"same_bytes"` // the state file's checksum equals the receipt's
	ID         int64     `json:"id"`
	Merged     bool      `json:"merged"`    // the state file was merged into existing rows
	Elsewhere  bool      `json:"elsewhere"` // it was written in another database, of which this is a copy
}

// Comparison compares one table of the state file with PostgreSQL. The counts of
// rows that differ are 0 if rows were not compared one by one.
type Comparison struct {
	Name       string `json:"name"`
	RowsRead   int64  `json:"rows_read"`   // from the state file
	Rejected   int64  `json:"rejected"`    // those of RowsRead that Flujo's tables cannot hold
	Derived    int64  `json:"derived"`     // computed from rows of other tables
	InFile     int64  `json:"in_file"`     // RowsRead less Rejected, and Derived
	AtReceipt  int64  `json:"at_receipt"`  // rows at the migration; 0 without a receipt
	InPostgres int64  `json:"in_postgres"` // rows now
	Match      bool   `json:"match"`
	// SourceMismatch reports whether the state file's rows differ from those that
	// were migrated.
	SourceMismatch bool `json:"source_mismatch"`
	// TableMissing reports whether PostgreSQL no longer has the table.
	TableMissing bool   `json:"table_missing"`
	FileDigest   string `json:"file_digest"`
	Digest       string `json:"digest"` // of the rows in PostgreSQL
	// Rows that were added, changed or deleted after the migration.
	Added   int64 `json:"added_since"`
	Changed int64 `json:"changed_since"`
	Deleted int64 `json:"deleted_since"`
	// Mismatched counts the rows that differ and were not written after the
	// migration, or for which this is unknown.
	Mismatched int64 `json:"mismatched"`
	// First are up to FirstDifferences differences; only the text report has them.
	First []Difference `json:"-"`
}

// Count counts the row that d belongs to. It must be called once for each row.
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

// FirstDifferences is the number of differences that the text report shows for
// each table.
const FirstDifferences = 20

// The kinds of differences.
const (
	RowMissing = "missing" // the row is not in PostgreSQL
	RowExtra   = "extra"   // the row is not in the state file
	CellDiffer = "differs" // the row is in both, and a cell differs
)

// Difference is a row that is missing in the state file or in PostgreSQL, or a cell
// that differs.
type Difference struct {
	Table      string `json:"table"`
	Key        string `json:"key"`
	Column     string `json:"column"` // empty for a row
	Kind       string `json:"kind"`
	InFile     string `json:"in_file"` // shortened to one line
	InPostgres string `json:"in_postgres"`
	Since      bool   `json:"since"` // written by a transaction after the migration's
	Derived    bool   `json:"-"`     // the row is not stored in the state file, but derived
}

// String describes the difference on one line.
func (d Difference) String() string {
	row := d.Table + " " + strconv.Quote(d.Key)
	switch d.Kind {
	case RowMissing:
		return row + " is not in PostgreSQL"
	case RowExtra:
		return row + " is in PostgreSQL but not in the state file"
	}
	if d.Column != "" {
		row += ", column " + d.Column
	}
	return row + ": the state file has " + d.InFile + ", PostgreSQL has " + d.InPostgres
}
