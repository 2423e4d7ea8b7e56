package load

import (
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"

	"github.com/dustin/go-humanize/english"
)

// judge returns a clierr.Refused if the options do not permit what was found.
func judge(file *extract.Result, o Options) error {
	f := file.Findings
	rows, cells := f.Count()
	if rows > 0 && !o.Quarantine {
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("%s rejected by Flujo's PostgreSQL tables",
				english.Plural(int(rows), "row of the state file is", "rows of the state file are")),
			Hint:   "fix the rows in a copy of the file",
			Advice: clierr.Advice{Topic: clierr.Quarantine},
		}
	}
	if !o.Strict {
		return nil
	}
	var what []string
	add := func(n int64, noun, format string) {
		if n > 0 {
			what = append(what, fmt.Sprintf(format, english.Plural(int(n), noun, "")))
		}
	}
	add(cells, "value", "%s would be changed")
	add(rows, "row", "%s would be quarantined")
	add(int64(len(f.Widened)), "column", "%s would be widened to bigint")
	add(f.StubRuns(), "stub run", "%s would be created for rows without a run")
	topic := clierr.NotStrict
	if file.Options.NaiveZone == nil && f.NaiveCount() > 0 {
		add(f.NaiveCount(), "timestamp", "%s without a time zone would be read as UTC")
		topic = clierr.NotStrictZone
	}
	if len(what) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: "the state file cannot be stored unchanged: " + strings.Join(what, ", "),
		Advice:  clierr.Advice{Topic: topic},
	}
}
