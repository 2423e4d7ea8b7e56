package report

import (
	"fmt"
	"strings"

	"flujo-port/internal/document"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// Document returns the checklist as a document for a terminal.
func (c *Check) Document() *document.Document {
	d := &document.Document{Title: "flujo-port check", Outcome: c.outcome(), Headline: c.headline()}
	c.addResults(d, true)
	c.addFindings(d)
	for i := range c.Conflicts {
		c.Conflicts[i].add(d)
	}
	d.Add("", document.Paragraph(c.conclusion()))
	return d
}

// addResults adds the checklist, with the SHA-256 of each file if hashes is set.
func (c *Check) addResults(d *document.Document, hashes bool) {
	of := func(s *Source) document.Facts { // of their own, since a SHA-256 does not fit next to the lines
		if s == nil || !hashes {
			return nil
		}
		return s.hashes()
	}
	for _, f := range c.Files {
		d.Add("File "+f.Path, resultFacts(f.Results), of(f.Source))
	}
	titles := map[string]string{
		GroupFile: "State file", GroupConflicts: "Conflicts", GroupServer: "Server", GroupTarget: "Target",
	}
	for _, group := range []string{GroupFile, GroupConflicts, GroupServer, GroupTarget} {
		var results []CheckResult
		for _, r := range c.Results {
			if r.Group == group {
				results = append(results, r)
			}
		}
		if len(results) == 0 {
			continue
		}
		var sum document.Facts
		if group == GroupFile {
			sum = of(c.Source)
		}
		d.Add(titles[group], resultFacts(results), sum)
	}
}

// addFindings adds what a migration would reject and change.
func (c *Check) addFindings(d *document.Document) {
	add := func(f *Findings, where string) {
		if f == nil {
			return
		}
		rejected, changed := f.Count()
		f.addRejected(d, "Would be rejected: "+rows(rejected)+where)
		f.addChanges(d, "Would be changed: "+plural(changed, "value")+where)
	}
	add(c.Findings, "")
	for _, f := range c.Files {
		add(f.Findings, " of "+f.Path)
	}
}

// resultFacts returns the lines of a checklist.
func resultFacts(results []CheckResult) document.Facts {
	marks := map[Status]string{OK: "✓", Warning: "!", Error: "✗"}
	var facts document.Facts
	for _, r := range results {
		hint := r.Hint
		if hint != "" {
			hint = "→ " + hint
		}
		facts = append(facts, fact(marks[r.Status]+" "+r.Name, r.Message, hint))
	}
	return facts
}

// add adds the first units that are different, if there are any.
func (u *Conflicts) add(d *document.Document) {
	if u.Different == 0 {
		return
	}
	var list document.List
	for _, one := range u.First {
		tied := ""
		if one.Tied {
			tied = " (the times are equal, and it is named first)"
		}
		list = append(list, fmt.Sprintf("%q: %s wins%s; superseded: %s",
			one.Key, one.From, tied, strings.Join(one.Superseded, ", ")))
	}
	if rest := u.Different - int64(len(u.First)); rest > 0 {
		list = append(list, "… and "+humanize.Comma(rest)+" more")
	}
	d.Add(fmt.Sprintf("%s: %s different; of each, the version that was written last wins",
		u.Kind, humanize.Comma(u.Different)), list)
}

func (c *Check) outcome() document.Outcome {
	switch {
	case c.Errors() > 0:
		return document.Bad
	case c.countStatus(Warning) > 0 || c.Target == nil:
		return document.Attention
	}
	return document.Good
}

func (c *Check) headline() string {
	errors, warnings := c.countStatus(Error), c.countStatus(Warning)
	found := ""
	if warnings > 0 {
		found = " " + english.Plural(warnings, "warning", "") + " (!)."
	}
	switch {
	case errors > 0:
		return fmt.Sprintf("NOT READY: %s (✗) would stop a migration.", english.Plural(errors, "error", ""))
	case c.Target == nil && len(c.Files) > 0:
		return "The state files can be migrated; no server was checked." + found
	case c.Target == nil:
		return "The state file can be migrated; no server was checked." + found
	}
	return "Ready." + found
}

// conclusion returns the last line of the checklist.
func (c *Check) conclusion() string {
	const unchanged = "Nothing was changed."
	switch {
	case c.Errors() > 0:
		return unchanged
	case c.Target == nil:
		return unchanged + " The server was not looked at, because none was named: the exit code is 5."
	case c.Next != "":
		return unchanged + " " + c.Next
	}
	return unchanged
}
