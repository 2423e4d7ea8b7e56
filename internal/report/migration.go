// Package report is what a command has to say at its end, as plain data, and
// that as text and as JSON.
package report

import (
	"slices"
	"time"
)

// Format is the version of the JSON form. It grows when a field changes its
// meaning or goes; a field that is added leaves it.
const Format = 1

// Migration is the report of migrate.
type Migration struct {
	Format    int       `json:"format"`
	Command   string    `json:"command"`
	Version   string    `json:"version"`
	DryRun    bool      `json:"dry_run"`
	Committed bool      `json:"committed"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	Source    Source    `json:"source"`
	Target    Target    `json:"target"`
	Refused   bool      `json:"refused"` // because of what is in the file
	Verify    string    `json:"verify"`  // how the rows were verified: content or counts
	Differing int64     `json:"differing_rows"`
	// Differences are the first of each table, for a person.
	Differences []Difference `json:"-"`
	*Findings
	// Originals is the number of cells that are kept in Originals' table.
	Originals int64 `json:"originals"`
	// Merge is what became of runs that both sides had; nil where nothing was
	// merged.
	Merge *Merge `json:"merge"`
	// Replaced is what was there before; nil where nothing was replaced.
	Replaced *Replaced `json:"replaced"`
	// Warnings are what a person should look at.
	Warnings []string `json:"warnings"`
	// The two FLUJO_STATE_URI, masked unless the user asked otherwise.
	Cutover  string `json:"cutover"`
	Rollback string `json:"rollback"`
}

// Findings are what the extraction found.
type Findings struct {
	Tables  []Table   `json:"tables"`
	Derived []Derived `json:"derived"`
	// Changes are what did not arrive as it was, and rejected rows.
	Changes []Change `json:"changes"`
	// Widened are the integer columns that were made bigint, as table.column.
	Widened []string `json:"widened"`
	// NaiveTimestamps are the times that named no zone.
	NaiveTimestamps []NaiveColumn `json:"naive_timestamps"`
	// Rounded are the floats that lost digits in a real column.
	Rounded []Rounded `json:"rounded"`
	// Ignored are the file's tables that are not Flujo's.
	Ignored []string `json:"ignored_tables"`
	// Notes are what a person should know and needs to do nothing about.
	Notes []string `json:"notes"`
}

// Count gives the rejected rows, and the cells of others that do not
// arrive as they are.
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

// NaiveCount gives the number of times that named no zone.
func (f *Findings) NaiveCount() (n int64) {
	for _, naive := range f.NaiveTimestamps {
		n += naive.Count
	}
	return n
}

// WithoutKeys gives the findings without the keys of rows.
func (f Findings) WithoutKeys() Findings {
	f.Changes = slices.Clone(f.Changes)
	for i := range f.Changes {
		f.Changes[i].Keys = []string{}
	}
	return f
}

// Source is the file that was read.
type Source struct {
	Path       string `json:"path"`
	Bytes      int64  `json:"bytes"`       // with its -wal
	FileFormat string `json:"file_format"` // the versions of Flujo that write it
	WAL        bool   `json:"wal"`         // there was a -wal next to it, with something in it
	Frames     int    `json:"wal_frames"`  // of committed transactions in it
	// Integrity says how that was found out: "quick_check", or "" when it was not.
	Integrity string `json:"integrity"`
	SHA256    string `json:"sha256"` // of the file; empty where it was not computed
}

// Target is where the rows went.
type Target struct {
	Server   string `json:"server"` // its version
	Database string `json:"database"`
	Role     string `json:"role"`
	Schema   string `json:"schema"`
	PGVector string `json:"pgvector"` // version; empty without it
	// What was created, and not just used.
	MadeSchema   bool `json:"made_schema"`
	MadePGVector bool `json:"made_pgvector"`
}

// Table is what became of one table.
type Table struct {
	Name       string  `json:"name"`
	RowsRead   int64   `json:"rows_read"`   // from the file
	Rejected   int64   `json:"rejected"`    // of these, rejected
	Derived    int64   `json:"derived"`     // made from other tables' rows
	InPostgres int64   `json:"in_postgres"` // counted there, in the transaction
	Bytes      int64   `json:"bytes"`       // sent to the server
	Seconds    float64 `json:"seconds"`     // from the first row's reading to the last one's arrival
	Match      bool    `json:"match"`       // the counts agree, and with Verify content every cell
	Digest     string  `json:"digest"`      // of the rows in PostgreSQL; empty when only counts were compared
}

// Change counts what did not arrive as it was, for one reason in one column;
// or the rejected rows of a table.
type Change struct {
	Table       string   `json:"table"`
	Column      string   `json:"column"` // empty for rows
	Reason      string   `json:"reason"` // the names of the reasons, joined by "+"
	Explanation string   `json:"explanation"`
	Count       int64    `json:"count"`
	Keys        []string `json:"first_keys"` // of up to ten rows
	Rejected    bool     `json:"rejected"`
}

// NaiveColumn counts the times of a column that named no zone.
type NaiveColumn struct {
	Column string `json:"column"` // as table.column
	Count  int64  `json:"count"`
	Zone   string `json:"interpreted_as"`
}

// Rounded says what a real column did to floats.
type Rounded struct {
	Column  string  `json:"column"` // as table.column
	Count   int64   `json:"count"`
	Largest float64 `json:"largest_relative_change"`
}

// Derived says which rows were made, and of what.
type Derived struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	From  string `json:"from"`
	Count int64  `json:"from_rows"`
	Why   string `json:"why"`
}
