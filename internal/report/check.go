package report

import (
	"slices"

	"flujo-port/internal/clierr"
)

// Status is the result of one check.
type Status string

// The values of Status.
const (
	OK      Status = "ok"      // printed as ✓
	Warning Status = "warning" // printed as !: does not stop a migration, but needs attention
	Error   Status = "error"   // printed as ✗: a migration would be refused or would fail
)

// The groups of the checklist, in the order in which they are printed.
const (
	GroupFile      = "file"
	GroupConflicts = "conflicts" // between several files
	GroupServer    = "server"
	GroupTarget    = "target"
)

// CheckResult is one line of the checklist.
type CheckResult struct {
	Group   string `json:"group"`
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Message string `json:"message"` // what was found
	Hint    string `json:"hint"`    // what to do about it; may be empty
	// Advice is what else to do. The command line appends it to Hint.
	Advice clierr.Advice `json:"-"`
}

// Check is the report of the command check.
type Check struct {
	Run
	Ready   bool          `json:"ready"`                         // no result is an Error
	Source  *Source       `json:"source"  jsonschema:"nullable"` // nil if it cannot be read, or for several files
	Target  *Target       `json:"target"  jsonschema:"nullable"` // nil if no server was named
	Results []CheckResult `json:"results"`
	// Files are the files if there are several. Then Results are those of no single file,
	// and Findings is nil.
	Files []*CheckedFile `json:"files,omitzero"`
	// Conflicts are the units that several files have, by kind; nil if there is one file, or
	// if not all files can be read.
	Conflicts []Conflicts `json:"conflicts,omitzero"`
	// Expected is the estimated duration of a migration in seconds; 0 if it
	// could not be measured.
	Expected float64 `json:"expected_seconds"`
	// Next is what to do if there are no errors; only the text report has it.
	Next string `json:"-"`
	*Findings
}

// CheckedFile is one of several state files.
type CheckedFile struct {
	Path string `json:"path"`
	// SameAs is the path of an earlier file with the same content; empty if there is none.
	// Then the rows of this file were not read.
	SameAs    string        `json:"same_as"`
	Source    *Source       `json:"source"  jsonschema:"nullable"` // nil if it cannot be read
	Results   []CheckResult `json:"results"`
	*Findings               // nil if the rows were not read
}

// Conflicts counts the units of one kind that several files have. A unit is a run with all
// of its rows, a key of system_state, or a memory.
type Conflicts struct {
	Kind      string `json:"kind"`  // runs, system_state or memories
	Units     int64  `json:"units"` // in several files
	Equal     int64  `json:"equal"` // of these, those with the same content in all
	Different int64  `json:"different"`
	// First are up to ten of those that are different, by their keys.
	First []Conflict `json:"first_different"`
}

// Conflict is a unit whose content differs between files. A migration takes it as a whole
// from the file that wrote it last.
type Conflict struct {
	Key        string   `json:"key"`
	From       string   `json:"from"`       // path of the file whose version is migrated
	Superseded []string `json:"superseded"` // paths of the files with other versions
	// Tied is set if another version has the same time. Then that of the file that is named
	// first is migrated.
	Tied bool `json:"tied"`
}

// Different returns the number of units whose content differs between files.
func (c *Check) Different() (n int64) {
	for _, u := range c.Conflicts {
		n += u.Different
	}
	return n
}

// EachResult calls f with each result, those of the files first.
func (c *Check) EachResult(f func(*CheckResult)) {
	for _, file := range c.Files {
		for i := range file.Results {
			f(&file.Results[i])
		}
	}
	for i := range c.Results {
		f(&c.Results[i])
	}
}

// Errors returns the number of results that would stop a migration.
func (c *Check) Errors() int { return c.countStatus(Error) }

func (c *Check) countStatus(status Status) (n int) {
	c.EachResult(func(l *CheckResult) {
		if l.Status == status {
			n++
		}
	})
	return n
}

// WhereErrors returns which of several files have errors, for a message: ", in …"; or "".
func (c *Check) WhereErrors() string {
	var names []string
	for _, f := range c.Files {
		if slices.ContainsFunc(f.Results, func(l CheckResult) bool { return l.Status == Error }) {
			names = append(names, f.Path)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ", in " + clierr.Names(names)
}
