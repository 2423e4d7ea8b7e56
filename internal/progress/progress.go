// Package progress describes how far an operation is.
package progress

// Phase is a part of an operation.
type Phase string

// The phases, in their order in a migration.
const (
	Integrity Phase = "integrity"
	Connect   Phase = "connect"
	Schema    Phase = "schema"
	Replace   Phase = "replace" // reported for each table
	Copy      Phase = "copy"
	Read      Phase = "read"    // instead of Copy, if nothing is written to PostgreSQL
	Compare   Phase = "compare" // only of check: what several files have is compared
	Originals Phase = "originals"
	Merge     Phase = "merge"
	Indexes   Phase = "indexes"
	Verify    Phase = "verify"
	Commit    Phase = "commit"
	Rename    Phase = "name" // only of restore: the new file is renamed
)

// Event is the progress at one moment. It is reported at the beginning of each
// phase; in Copy and Read also for each row, and when a table is done.
type Event struct {
	Phase     Phase
	Table     string // the current table; empty in most phases
	Rows, Of  int64  // rows of the table: done, and in total
	All, Rest int64  // rows of all tables: done, and remaining
	Bytes     int64  // size of the texts and blobs of all rows so far, including derived traces
	OfBytes   int64  // estimate of the size of all rows; 0 if unknown
	Done      bool   // the table is done
}

// Func is called with each event, by one goroutine at a time. A nil Func ignores
// them.
type Func func(Event)

// Report calls f with an event.
func (f Func) Report(e Event) {
	if f != nil {
		f(e)
	}
}

// Start reports the beginning of a phase.
func (f Func) Start(p Phase) { f.Report(Event{Phase: p}) }
