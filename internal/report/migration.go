// Package report holds the results of the commands as plain data, and writes
// them as text and as JSON. It also defines the receipt of a migration.
package report

import (
	"fmt"
	"slices"

	"flujo-port/internal/stateuri"
)

// Format is the version of the JSON reports. It increases when a field is removed
// or changes its meaning, but not when a field is added.
const Format = 1

// The modes of verification before the commit.
const (
	VerifyContent = "content" // every cell is compared
	VerifyCounts  = "counts"  // rows are counted
)

// Migration is the report of the command migrate.
type Migration struct {
	Run
	DryRun    bool   `json:"dry_run"`
	Committed bool   `json:"committed"`
	Source    Source `json:"source"`
	Target    Target `json:"target"`
	Refused   bool   `json:"refused"` // the findings do not allow a migration
	Verify    string `json:"verify"`  // how the rows were verified: content or counts
	Differing int64  `json:"differing_rows"`
	// Differences are the first of each table; only the text report has them.
	Differences []Difference `json:"-"`
	FileResult
	// Further are the results of the state files after the first, which were merged.
	Further []*FurtherFile `json:"further_files"`
	// Replaced describes the rows that were archived; nil if there were none.
	Replaced *Replaced `json:"replaced" jsonschema:"nullable"`
	// AlreadyMigrated is the verification of files that were migrated before, so that nothing was written; nil if
	// they were migrated now.
	AlreadyMigrated *Verification `json:"already_migrated" jsonschema:"nullable"`
	// Warnings need the user's attention.
	Warnings []string `json:"warnings"`
	// Address is the cutover address that was tried; zero if none was.
	Address stateuri.Address `json:"-"`
	// FLUJO_STATE_URI for the cutover and for a rollback; passwords are masked,
	// except with --reveal.
	Cutover  string `json:"cutover"`
	Rollback string `json:"rollback"`
	// Next are the steps that follow, in order; only the reports for readers have them.
	Next []string `json:"-"`
	// RestoreCommand is the command line that makes a state file of what PostgreSQL holds; JSON does not have it.
	RestoreCommand string `json:"-"`
}

// FileResult is the result of one state file.
type FileResult struct {
	*Findings
	// Originals is the number of cells stored in flujo_port_originals.
	Originals int64 `json:"originals"`
	// Merge is the result of the merge; nil if the tables were empty.
	Merge *Merge `json:"merge" jsonschema:"nullable"`
	// Receipt is the id of the file's receipt.
	Receipt int64 `json:"receipt"`
	// SameAs is the path of an earlier file with the same content, whose receipt that is;
	// empty if there is none. Then nothing of this file was migrated.
	SameAs string `json:"same_as"`
}

// FurtherFile is a state file after the first.
type FurtherFile struct {
	Source   Source `json:"source"`
	Rollback string `json:"rollback"` // FLUJO_STATE_URI for a rollback to this file
	FileResult
}

// Warn adds a warning.
func (m *Migration) Warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}

// Findings are the findings of an extraction.
type Findings struct {
	Tables  []Table   `json:"tables"`
	Derived []Derived `json:"derived"`
	// Changes count the converted cells and the rejected rows.
	Changes []Change `json:"changes"`
	// FirstRejected are up to ten rejected rows for each reason.
	FirstRejected []RejectedRow `json:"first_rejected"`
	// Widened are the integer columns that were changed to bigint, as table.column.
	Widened []string `json:"widened"`
	// NaiveTimestamps count the timestamps without a time zone.
	NaiveTimestamps []NaiveColumn `json:"naive_timestamps"`
	// Rounded counts the floats that lost digits in a real column.
	Rounded []Rounded `json:"rounded"`
	// Ignored are the state file's tables that are not Flujo's.
	Ignored []string `json:"ignored_tables"`
	// Notes inform the user and require no action.
	Notes []string `json:"notes"`
}

// NewFindings returns findings of nothing, whose lists are empty and not nil.
func NewFindings() *Findings {
	return &Findings{
		Tables: []Table{}, Derived: []Derived{}, Changes: []Change{}, FirstRejected: []RejectedRow{},
		Widened: []string{}, NaiveTimestamps: []NaiveColumn{}, Rounded: []Rounded{}, Ignored: []string{},
		Notes: []string{},
	}
}

// Count returns the number of rejected rows, and the number of changed cells in
// other rows.
func (f *Findings) Count() (rows, cells int64) {
	for _, c := range f.Changes {
		if c.Rejected {
			rows += c.Count
		} else {
			cells += c.Count
		}
	}
	return rows, cells
}

// NaiveCount returns the number of timestamps without a time zone.
func (f *Findings) NaiveCount() (n int64) {
	for _, naive := range f.NaiveTimestamps {
		n += naive.Count
	}
	return n
}

// RoundedCount returns the number of floats that a real column rounded.
func (f *Findings) RoundedCount() (n int64) {
	for _, r := range f.Rounded {
		n += r.Count
	}
	return n
}

// AddWidened adds columns that were changed to bigint.
func (f *Findings) AddWidened(columns []string) { f.Widened = append(f.Widened, columns...) }

// StubRuns returns the number of stub runs.
func (f *Findings) StubRuns() (n int64) {
	for _, d := range f.Derived {
		if d.Table == "runs" {
			n += d.Rows
		}
	}
	return n
}

// WithoutKeys returns a copy of the findings without the keys of rows.
func (f Findings) WithoutKeys() Findings {
	f.Changes, f.FirstRejected = slices.Clone(f.Changes), []RejectedRow{}
	for i := range f.Changes {
		f.Changes[i].Keys = []string{}
	}
	return f
}

// Source is the state file that was read.
type Source struct {
	Path       string `json:"path"`
	Bytes      int64  `json:"bytes"`       // including its -wal
	FileFormat string `json:"file_format"` // the versions of Flujo that write this file format
	WAL        bool   `json:"wal"`         // the file has a -wal that is not empty
	Frames     int    `json:"wal_frames"`  // frames of committed transactions in the -wal
	// Integrity is the check that the file passed, "integrity_check"; empty if it was
	// skipped or failed.
	Integrity string `json:"integrity"`
	// IntegrityFailed says that the file did not pass the check.
	IntegrityFailed bool `json:"-"`
	// SHA256 is that of the file, in hex; empty if it was not computed, or if the file was written to while check
	// read it.
	SHA256    string `json:"sha256"`
	WALSHA256 string `json:"wal_sha256"` // of the -wal; empty if there is none, or as SHA256
}

// Target is the schema that the rows were written to.
type Target struct {
	Host     string `json:"host"`   // and port, or the folder of the socket
	Server   string `json:"server"` // the server's version
	Database string `json:"database"`
	Role     string `json:"role"`
	Schema   string `json:"schema"`
	PGVector string `json:"pgvector"` // its version; empty without pgvector
	// Whether the migration created the schema and the extension.
	CreatedSchema   bool `json:"created_schema"`
	CreatedPGVector bool `json:"created_pgvector"`
}

// Table is the result for one table. check and verify set only what the state file has: they leave NotStored,
// HeldBefore, InPostgres, Match and Digest empty.
type Table struct {
	Name       string  `json:"name"`
	RowsRead   int64   `json:"rows_read"`   // from the state file
	Rejected   int64   `json:"rejected"`    // those of RowsRead that were rejected
	Derived    int64   `json:"derived"`     // computed from rows of other tables
	NotStored  int64   `json:"not_stored"`  // by a merge, since PostgreSQL's version of their unit stayed
	HeldBefore int64   `json:"held_before"` // by a merge: rows that the table held before and still holds
	InPostgres int64   `json:"in_postgres"` // counted in the transaction
	Bytes      int64   `json:"bytes"`       // sent to the server
	Seconds    float64 `json:"seconds"`     // from reading the first row to storing the last
	Match      bool    `json:"match"`       // the counts are equal and, if Verify is content, every cell
	// The digests of the file's rows, as they are converted, and of the rows in PostgreSQL. They are
	// equal, unless the tables held rows before. A digest is empty if it was not computed.
	FileDigest string `json:"file_digest"`
	Digest     string `json:"digest"`
}

// Change counts the cells of one column that were changed for the same reasons,
// or the rows of one table that were rejected for the same reasons.
type Change struct {
	Table       string   `json:"table"`
	Column      string   `json:"column"` // empty for rows
	Reason      string   `json:"reason"` // the names of the reasons, joined by "+"
	Explanation string   `json:"explanation"`
	Count       int64    `json:"count"`
	Keys        []string `json:"first_keys"` // the keys of up to ten rows
	Rejected    bool     `json:"rejected"`
}

// RejectedRow is a row that was rejected, and the cell because of which it was.
type RejectedRow struct {
	Table       string `json:"table"`
	RowID       int64  `json:"source_rowid"`
	Key         string `json:"key"`
	Column      string `json:"column"` // the first that Flujo's table cannot hold
	Value       string `json:"value"`  // in that column, shortened to one line
	Reason      string `json:"reason"`
	Explanation string `json:"explanation"`
}

// NaiveColumn counts the timestamps of a column that have no time zone.
type NaiveColumn struct {
	Column string `json:"column"` // as table.column
	Count  int64  `json:"count"`
	Zone   string `json:"interpreted_as"`
}

// Rounded counts the floats that a real column rounded.
type Rounded struct {
	Column  string  `json:"column"` // as table.column
	Count   int64   `json:"count"`
	Largest float64 `json:"largest_relative_change"`
}

// Derived counts the rows of a table that were computed from another table.
type Derived struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	From  string `json:"from"`
	Count int64  `json:"from_rows"`
	Why   string `json:"why"`
}
