package report

import (
	"cmp"
	"io"
	"strings"
)

// Version is the report of the command version.
type Version struct {
	Format   int    `json:"format"`
	Command  string `json:"command"`
	Version  string `json:"version"`
	Commit   string `json:"commit"`      // empty if the build does not record it
	Time     string `json:"commit_time"` // in UTC; empty if the build does not record it
	Modified bool   `json:"modified"`    // the build has changes that were not committed
	Go       string `json:"go"`
	SQLite   string `json:"sqlite"`
	Platform string `json:"platform"` // operating system and architecture
}

// Text writes the report as text.
func (v *Version) Text(w io.Writer) error {
	var b strings.Builder
	printf(&b, "flujo-port %s\n", v.Version)
	commit := cmp.Or(v.Commit, "not recorded")
	if v.Time != "" {
		commit += " of " + v.Time
	}
	if v.Modified {
		commit += ", with changes that were not committed"
	}
	printf(&b, "commit    %s\n", commit)
	printf(&b, "Go        %s\n", v.Go)
	printf(&b, "SQLite    %s\n", v.SQLite)
	printf(&b, "platform  %s\n", v.Platform)
	return writeText(w, b.String())
}
