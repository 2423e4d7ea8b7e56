// Package report is what a command has to say at its end, as plain data, and
// that as text and as JSON.
package report

import (
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
	Tables    []Table   `json:"tables"`
	Derived   []Derived `json:"derived"`
	// Changes are what did not arrive as it was, and rows without a place.
	Changes []Change `json:"changes"`
	// Originals is the number of cells that are kept in Originals' table.
	Originals int64 `json:"originals"`
	// Widened are the integer columns that were made bigint, as table.column.
	Widened []string `json:"widened"`
	// Naive are the times that named no zone.
	Naive []Naive `json:"naive_times"`
	// Rounded are the floats that lost digits in a real column.
	Rounded []Rounded `json:"rounded"`
	// Ignored are the file's tables that are not Flujo's.
	Ignored []string `json:"ignored_tables"`
	// Warnings are what a person should look at.
	Warnings []string `json:"warnings"`
	// Notes are what a person should know and needs to do nothing about.
	Notes []string `json:"notes"`
	// The two FLUJO_STATE_URI, masked unless the user asked otherwise.
	Cutover  string `json:"cutover"`
	Rollback string `json:"rollback"`
}

// Source is the file that was read.
type Source struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`  // with its -wal
	Layout string `json:"layout"` // the versions of Flujo that lay a file out like that
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
	SetAside   int64   `json:"set_aside"`   // of these, without a place in Flujo's table
	Derived    int64   `json:"derived"`     // made from other tables' rows
	InPostgres int64   `json:"in_postgres"` // counted there, in the transaction
	Bytes      int64   `json:"bytes"`       // sent to the server
	Seconds    float64 `json:"seconds"`     // from the first row's reading to the last one's arrival
	Match      bool    `json:"match"`       // the counts agree
}

// Change counts what did not arrive as it was, for one reason in one column;
// or the rows of a table that have no place.
type Change struct {
	Table    string   `json:"table"`
	Column   string   `json:"column"` // empty for rows
	Kind     string   `json:"kind"`   // the names of the reasons, joined by "+"
	Explain  string   `json:"explanation"`
	Count    int64    `json:"count"`
	Keys     []string `json:"first_keys"` // of up to ten rows
	SetAside bool     `json:"set_aside"`
}

// Naive counts the times of a column that named no zone.
type Naive struct {
	Column string `json:"column"` // as table.column
	Count  int64  `json:"count"`
	Zone   string `json:"taken_as"`
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
