package load

import (
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"

	"github.com/dustin/go-humanize/english"
)

// judge returns a clierr.Refused if the options do not permit what was found.
func judge(file *extract.Result, schema string, o Options) error {
	f := file.Findings
	rows, cells := f.Count()
	if rows > 0 && !o.Quarantine {
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("%s rejected by Flujo's PostgreSQL tables",
				english.Plural(int(rows), "row of the state file is", "rows of the state file are")),
			Hint: fmt.Sprintf("fix the rows in a copy of the file, or use --quarantine, which stores them in %s.%s",
				schema, mapping.Originals.Name),
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
	add(cells, "cell", "%s would be converted or stored only as an original value")
	add(rows, "row", "%s would be quarantined")
	add(int64(len(f.Widened)), "column", "%s would be widened to bigint")
	add(f.StubRuns(), "stub run", "%s would be created for rows without a run")
	if file.Options.NaiveZone == nil {
		add(f.NaiveCount(), "timestamp", "%s without a time zone (see --naive-timezone)")
	}
	if len(what) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: "--strict: " + strings.Join(what, ", "),
		Hint:    "run without --strict to convert them and store the original values",
	}
}
