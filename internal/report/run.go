package report

import "time"

// Run describes the run of a command. It is a part of every report.
type Run struct {
	Format  int    `json:"format"` // the version of this format
	Command string `json:"command"`
	Version string `json:"version"`
	Commit  string `json:"commit"` // of the build; empty if the build does not record it
	Host    string `json:"host"`   // name of the machine; empty if it is unknown
	// Arguments are the command line after the program's name. What may contain a password
	// is masked.
	Arguments []string  `json:"arguments"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	ExitCode  int       `json:"exit_code"`
	Error     *Failure  `json:"error"     jsonschema:"nullable"` // nil if the exit code is 0
}

// Head returns the part of a report that all have.
func (r *Run) Head() *Run { return r }

// Failure is the error that a command ended with.
type Failure struct {
	Message     string `json:"message"`     // what happened
	Consequence string `json:"consequence"` // what it means for the data; may be empty
	Hint        string `json:"hint"`        // what to do; may be empty
}

// Failed is the report of a command that ended with an error before it had results. The state files and the database
// are those that the command was to use, and for restore also the new file; whether it read them depends on the error.
// They are empty if the command line was refused before they were known, or there are none.
type Failed struct {
	Run
	Files    []string `json:"state_files"` // paths
	Database string   `json:"database"`    // schema, database, server and role; may be empty
}
