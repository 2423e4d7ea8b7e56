package report

import (
	"flujo-port/internal/clierr"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
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
	GroupFile   = "file"
	GroupServer = "server"
	GroupTarget = "target"
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
	Format  int           `json:"format"`
	Command string        `json:"command"`
	Version string        `json:"version"`
	Started time.Time     `json:"started"`
	Seconds float64       `json:"seconds"`
	Ready   bool          `json:"ready"` // no result is an Error
	Source  *Source       `json:"source"`
	Target  *Target       `json:"target"` // nil if no server was named
	Results []CheckResult `json:"results"`
	// Expected is the estimated duration of a migration in seconds; 0 if it
	// could not be measured.
	Expected float64 `json:"expected_seconds"`
	// Next is what to do if there are no errors; only the text report has it.
	Next string `json:"-"`
	*Findings
}

// Errors returns the number of results that would stop a migration.
func (c *Check) Errors() int { return c.countStatus(Error) }

func (c *Check) countStatus(status Status) (n int) {
	for _, l := range c.Results {
		if l.Status == status {
			n++
		}
	}
	return n
}

// Text writes the checklist as text.
func (c *Check) Text(w io.Writer) error {
	var b strings.Builder
	group := ""
	width := 0
	for _, l := range c.Results {
		width = max(width, len(l.Name))
	}
	for _, l := range c.Results {
		if l.Group != group {
			if group != "" {
				fmt.Fprintln(&b)
			}
			group = l.Group
			printf(&b, "%s\n", group)
		}
		mark := map[Status]string{OK: "✓", Warning: "!", Error: "✗"}[l.Status]
		printf(&b, "  %s %-*s  %s\n", mark, width, l.Name, l.Message)
		if l.Hint != "" {
			printf(&b, "    %-*s  → %s\n", width, "", l.Hint)
		}
	}
	if c.Findings != nil && len(c.Changes) > 0 {
		fmt.Fprintln(&b)
		c.writeChanges(&b, true)
	}
	printf(&b, "\n%s\n", c.conclusion())
	return writeText(w, b.String())
}

// conclusion returns the last line of the checklist.
func (c *Check) conclusion() string {
	next := strings.TrimPrefix(c.Next+" Nothing was changed.", " ")
	errors, warnings := c.countStatus(Error), c.countStatus(Warning)
	switch {
	case errors > 0:
		return fmt.Sprintf("NOT READY: %s (✗) would stop a migration. Nothing was changed.",
			english.Plural(errors, "error", ""))
	case c.Target == nil:
		return "The state file can be migrated; no server was named, so none was checked. Nothing was changed."
	case warnings > 0:
		return fmt.Sprintf("Ready, with %s (!). %s", english.Plural(warnings, "warning", ""), next)
	}
	return "Ready. " + next
}
