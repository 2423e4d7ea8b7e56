package transfer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sqlite"

	"github.com/dustin/go-humanize/english"
)

// firstKeys is the number of keys that the report has for each kind of change.
const firstKeys = 10

// recordChanges counts the changes of a row, or its rejection.
func (r *extraction) recordChanges(c *mapping.Converter, row []sqlite.Value) {
	table, key := c.Mapping.Table.Name, c.Key(row)
	if why := c.Rejection(); why != 0 {
		r.countChange(table, "", why, key, true)
		if table == mapping.Runs {
			r.recordRejectedRun(row[c.Mapping.Position("run_id")], why)
		}
		return
	}
	for _, change := range c.Changes() {
		r.countChange(table, change.Column, change.Reason, key, false)
	}
}

// recordRejectedRun records a rejected run, since its children may need a stub
// run.
func (r *extraction) recordRejectedRun(run sqlite.Value, why mapping.Reason) {
	if mapping.TextKeyFlaw(run) != 0 {
		return
	}
	run.Bytes = slices.Clone(run.Bytes)
	r.rejectedRuns = append(r.rejectedRuns, run)
	if why&mapping.DuplicateKey == 0 { // otherwise another row has the key
		r.missingRuns[mapping.KeyText(run)] = true
	}
}

func (r *extraction) countChange(table, column string, reason mapping.Reason, key string, rejected bool) {
	kind := reason.String()
	at := slices.IndexFunc(r.findings.Changes, func(c report.Change) bool {
		return c.Table == table && c.Column == column && c.Reason == kind && c.Rejected == rejected
	})
	if at < 0 {
		at = len(r.findings.Changes)
		r.findings.Changes = append(r.findings.Changes, report.Change{
			Table:       table,
			Column:      column,
			Reason:      kind,
			Explanation: reason.Explain(),
			Keys:        []string{},
			Rejected:    rejected,
		})
	}
	c := &r.findings.Changes[at]
	c.Count++
	if len(c.Keys) < firstKeys && !slices.Contains(c.Keys, key) {
		c.Keys = append(c.Keys, key)
	}
}

// forgetTable removes the findings of a table that is read again.
func (r *extraction) forgetTable(table string) {
	r.findings.Changes = slices.DeleteFunc(r.findings.Changes, func(c report.Change) bool { return c.Table == table })
	if table == mapping.Runs {
		r.rejectedRuns = nil
		clear(r.missingRuns)
	}
}

// addCounts adds the counts of a converter to the findings.
func (r *extraction) addCounts(c *mapping.Converter) {
	table := c.Mapping.Table.Name + "."
	for _, column := range slices.Sorted(maps.Keys(c.Naive)) {
		r.findings.NaiveTimestamps = append(
			r.findings.NaiveTimestamps,
			report.NaiveColumn{Column: table + column, Count: c.Naive[column], Zone: r.zone()},
		)
	}
	for _, column := range slices.Sorted(maps.Keys(c.Rounded)) {
		loss := c.Rounded[column]
		r.findings.Rounded = append(
			r.findings.Rounded,
			report.Rounded{Column: table + column, Count: loss.Count, Largest: loss.Largest},
		)
	}
}

func (r *extraction) zone() string {
	if r.options.NaiveZone == nil {
		return "UTC"
	}
	return r.options.NaiveZone.String()
}

// checkFindings returns a clierr.Refused error if the options do not permit the
// findings, and otherwise stores the original values. It is called when all
// findings are known.
func (m *migration) checkFindings(ctx context.Context) error {
	rows, cells := m.findings.Count()
	refusal := m.refusal(rows, cells)
	m.report.Refused = refusal != nil
	if rows+cells > 0 {
		m.startPhase(PhaseOriginals)
		if err := m.writeOriginals(ctx, refusal == nil); err != nil {
			m.report.Refused = false
			return err
		}
	}
	if refusal != nil {
		m.describeTarget()
	}
	return refusal
}

func (m *migration) refusal(rows, cells int64) error {
	if rows > 0 && !m.Quarantine {
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("%s rejected by Flujo's PostgreSQL tables",
				english.Plural(int(rows), "row of the state file is", "rows of the state file are")),
			Hint: fmt.Sprintf("fix the rows in a copy of the file, or use --quarantine, which stores them in %s.%s",
				m.Schema, mapping.Originals.Name),
		}
	}
	if !m.Strict {
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
	add(int64(len(m.report.Widened)), "column", "%s would be widened to bigint")
	for _, d := range m.report.Derived {
		if d.Table == mapping.Runs {
			add(d.Rows, "stub run", "%s would be created for rows without a run")
		}
	}
	if m.NaiveZone == nil {
		add(m.findings.NaiveCount(), "timestamp", "%s without a time zone (see --naive-timezone)")
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

// vectorSize returns the number of floats that most of the file's vectors have,
// or 0 if there are none. It adds a note if there are several sizes.
func (r *extraction) vectorSize(ctx context.Context) (int, error) {
	if !r.format.Mapping(mapping.Memories).InFile || r.format.Mapping(mapping.Memories).Position("vector") < 0 {
		return 0, nil
	}
	sizes, err := r.snapshot.VectorSizes(ctx)
	if err != nil {
		return 0, err
	}
	var best int64
	var all []string
	for _, bytes := range slices.Sorted(maps.Keys(sizes)) {
		if bytes == 0 || bytes%4 != 0 || bytes/4 > mapping.LongestVector {
			continue
		}
		all = append(all, fmt.Sprintf("%d × %d floats", sizes[bytes], bytes/4))
		if best == 0 || sizes[bytes] > sizes[best] {
			best = bytes
		}
	}
	if len(all) > 1 {
		r.note("the vectors in memories have several sizes, but a pgvector column has one: %s", strings.Join(all, ", "))
	}
	return int(best / 4), nil
}
