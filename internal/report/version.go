package report

import (
	"cmp"

	"flujo-port/internal/document"
)

// Version is the report of the command version.
type Version struct {
	Run
	Time     string `json:"commit_time"` // in UTC; empty if the build does not record it
	Modified bool   `json:"modified"`    // the build has changes that were not committed
	Go       string `json:"go"`
	SQLite   string `json:"sqlite"`
	Platform string `json:"platform"` // operating system and architecture
}

// Document returns the report as a document for a terminal.
func (v *Version) Document() *document.Document {
	d := &document.Document{Title: "flujo-port version", Outcome: document.Good, Headline: "flujo-port " + v.Version}
	commit := cmp.Or(v.Commit, "not recorded")
	if v.Time != "" {
		commit += " of " + v.Time
	}
	if v.Modified {
		commit += ", with changes that were not committed"
	}
	d.Add("", document.Facts{
		fact("Commit", commit), fact("Go", v.Go), fact("SQLite", v.SQLite), fact("Platform", v.Platform),
	})
	return d
}
