package report

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Status is what a line of a checklist comes to.
type Status string

// The states of a line.
const (
	OK      Status = "ok"      // ✓
	Warning Status = "warning" // ! nothing that stops a migration, but somebody should look
	Error   Status = "error"   // ✗ a migration would be refused or fail
)

// The groups of a checklist's lines, in their order.
const (
	GroupFile   = "file"
	GroupServer = "server"
	GroupTarget = "target"
)

// CheckResult is a line of the checklist.
type CheckResult struct {
	Group   string `json:"group"`
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Message string `json:"message"` // what was found
	Hint    string `json:"hint"`    // what to do about it; empty where there is nothing
}

// Check is the report of check.
type Check struct {
	Format  int           `json:"format"`
	Command string        `json:"command"`
	Version string        `json:"version"`
	Started time.Time     `json:"started"`
	Seconds float64       `json:"seconds"`
	Ready   bool          `json:"ready"` // no line is a Stop
	Source  *Source       `json:"source"`
	Target  *Target       `json:"target"` // nil where none was named
	Results []CheckResult `json:"results"`
	// Expected is how many seconds a migration will take; 0 where nothing could
	// be measured.
	Expected float64 `json:"expected_seconds"`
	*Findings
}

// Errors gives the number of lines that would stop a migration.
func (c *Check) Errors() (n int) {
	for _, l := range c.Results {
		if l.Status == Error {
			n++
		}
	}
	return n
}

// Text writes the checklist for a person.
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
			fmt.Fprintf(&b, "%s\n", group)
		}
		mark := map[Status]string{OK: "✓", Warning: "!", Error: "✗"}[l.Status]
		fmt.Fprintf(&b, "  %s %-*s  %s\n", mark, width, l.Name, l.Message)
		if l.Hint != "" {
			fmt.Fprintf(&b, "    %-*s  → %s\n", width, "", l.Hint)
		}
	}
	if c.Findings != nil && len(c.Changes) > 0 {
		fmt.Fprintln(&b)
		c.writeChanges(&b, true)
	}
	fmt.Fprintf(&b, "\n%s\n", c.conclusion())
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Check) conclusion() string {
	warnings := 0
	for _, l := range c.Results {
		if l.Status == Warning {
			warnings++
		}
	}
	switch errors := c.Errors(); {
	case errors == 1:
		return "NOT READY: 1 line (✗) would stop a migration. Nothing was changed."
	case errors > 1:
		return fmt.Sprintf("NOT READY: %d lines (✗) would stop a migration. Nothing was changed.", errors)
	case c.Target == nil:
		return "The file is fit for a migration; no server was named. Nothing was changed."
	case warnings > 0:
		return "Ready, with what is marked ! to be looked at. Do a dry run with \"flujo-port migrate --dry-run\". Nothing was changed."
	}
	return "Ready. Do a dry run with \"flujo-port migrate --dry-run\". Nothing was changed."
}
