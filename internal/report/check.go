package report

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// State is what a line of a checklist comes to.
type State string

// The states of a line.
const (
	OK   State = "ok"   // ✓
	Look State = "look" // ! nothing that stops a migration, but somebody should look
	Stop State = "stop" // ✗ a migration would be refused or fail
)

// The groups of a checklist's lines, in their order.
const (
	GroupFile   = "file"
	GroupServer = "server"
	GroupTarget = "target"
)

// Line is a line of the checklist.
type Line struct {
	Group string `json:"group"`
	Name  string `json:"name"`
	State State  `json:"state"`
	What  string `json:"what"` // what was found
	Do    string `json:"do"`   // what to do about it; empty where there is nothing
}

// Check is the report of check.
type Check struct {
	Format  int       `json:"format"`
	Command string    `json:"command"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Fit     bool      `json:"fit"` // no line is a Stop
	Source  *Source   `json:"source"`
	Target  *Target   `json:"target"` // nil where none was named
	Lines   []Line    `json:"lines"`
	// Expected is how many seconds a migration will take; 0 where nothing could
	// be measured.
	Expected float64 `json:"expected_seconds"`
	*Findings
}

// Stops gives the number of lines that would stop a migration.
func (c *Check) Stops() (n int) {
	for _, l := range c.Lines {
		if l.State == Stop {
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
	for _, l := range c.Lines {
		width = max(width, len(l.Name))
	}
	for _, l := range c.Lines {
		if l.Group != group {
			if group != "" {
				fmt.Fprintln(&b)
			}
			group = l.Group
			fmt.Fprintf(&b, "%s\n", group)
		}
		mark := map[State]string{OK: "✓", Look: "!", Stop: "✗"}[l.State]
		fmt.Fprintf(&b, "  %s %-*s  %s\n", mark, width, l.Name, l.What)
		if l.Do != "" {
			fmt.Fprintf(&b, "    %-*s  → %s\n", width, "", l.Do)
		}
	}
	if c.Findings != nil && len(c.Changes) > 0 {
		fmt.Fprintln(&b)
		c.changes(&b, true)
	}
	fmt.Fprintf(&b, "\n%s\n", c.conclusion())
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Check) conclusion() string {
	looks := 0
	for _, l := range c.Lines {
		if l.State == Look {
			looks++
		}
	}
	switch stops := c.Stops(); {
	case stops == 1:
		return "NOT READY: 1 line (✗) would stop a migration. Nothing was changed."
	case stops > 1:
		return fmt.Sprintf("NOT READY: %d lines (✗) would stop a migration. Nothing was changed.", stops)
	case c.Target == nil:
		return "The file is fit for a migration; no server was named. Nothing was changed."
	case looks > 0:
		return "Ready, with what is marked ! to be looked at. Rehearse with \"flujo-port migrate --dry-run\". Nothing was changed."
	}
	return "Ready. Rehearse with \"flujo-port migrate --dry-run\". Nothing was changed."
}
