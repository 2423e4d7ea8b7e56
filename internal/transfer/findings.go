package transfer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"

	"github.com/dustin/go-humanize/english"
)

// firstKeys is how many keys the report gives for each kind of change.
const firstKeys = 10

// changed counts what became of a row that does not arrive as it was.
func (r *reading) changed(c *mapping.Converter, row []mapping.Value) {
	table, key := c.Plan.Table.Name, c.Key(row)
	if why := c.Why(); why != 0 {
		r.countChange(table, "", why, key, true)
		if table == mapping.Runs {
			r.lose(row[c.Plan.Position("run_id")], why)
		}
		return
	}
	for _, change := range c.Changes() {
		r.countChange(table, change.Column, change.Reason, key, false)
	}
}

// lose notes a run that has no place, since its children may have one.
func (r *reading) lose(run mapping.Value, why mapping.Reason) {
	if mapping.TextKeyFlaw(run) != 0 {
		return
	}
	run.Bytes = slices.Clone(run.Bytes)
	r.asideRuns = append(r.asideRuns, run)
	if why&mapping.SameKey == 0 { // or else another row has the key
		r.lostRuns[mapping.KeyText(run)] = true
	}
}

func (r *reading) countChange(table, column string, reason mapping.Reason, key string, aside bool) {
	kind := reason.String()
	at := slices.IndexFunc(r.found.Changes, func(c report.Change) bool {
		return c.Table == table && c.Column == column && c.Kind == kind && c.SetAside == aside
	})
	if at < 0 {
		at = len(r.found.Changes)
		r.found.Changes = append(r.found.Changes, report.Change{
			Table: table, Column: column, Kind: kind, Explain: reason.Explain(), Keys: []string{}, SetAside: aside,
		})
	}
	c := &r.found.Changes[at]
	c.Count++
	if len(c.Keys) < firstKeys && !slices.Contains(c.Keys, key) {
		c.Keys = append(c.Keys, key)
	}
}

// forget takes back what was found in a table that is read again.
func (r *reading) forget(table string) {
	r.found.Changes = slices.DeleteFunc(r.found.Changes, func(c report.Change) bool { return c.Table == table })
	if table == mapping.Runs {
		r.asideRuns = nil
		clear(r.lostRuns)
	}
}

// tally takes over what a converter counted.
func (r *reading) tally(c *mapping.Converter) {
	table := c.Plan.Table.Name + "."
	for _, column := range slices.Sorted(maps.Keys(c.Naive)) {
		r.found.Naive = append(r.found.Naive, report.Naive{Column: table + column, Count: c.Naive[column], Zone: r.zone()})
	}
	for _, column := range slices.Sorted(maps.Keys(c.Rounded)) {
		loss := c.Rounded[column]
		r.found.Rounded = append(r.found.Rounded, report.Rounded{Column: table + column, Count: loss.Count, Largest: loss.Largest})
	}
}

func (r *reading) zone() string {
	if r.convert.NaiveZone == nil {
		return "UTC"
	}
	return r.convert.NaiveZone.String()
}

// judge refuses what may not be committed, when all of it is known, and keeps
// the originals of the rest.
func (m *migration) judge(ctx context.Context) error {
	rows, cells := m.found.Count()
	refusal := m.refusal(rows, cells)
	m.report.Refused = refusal != nil
	if rows+cells > 0 {
		m.begin(PhaseOriginals)
		if err := m.keepOriginals(ctx, refusal == nil); err != nil {
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
	if rows > 0 && !m.SetAside {
		return &fault.Error{
			Kind: fault.Refused,
			What: fmt.Sprintf("%s of the file without a place in Flujo's PostgreSQL tables", english.Plural(int(rows), "row", "")),
			Do: fmt.Sprintf("see the list; mend them in a copy of the file, or run with --set-aside, which keeps them in %s.%s",
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
	add(cells, "cell", "%s would arrive changed or be kept aside")
	add(rows, "row", "%s would be set aside")
	add(int64(len(m.report.Widened)), "column", "%s would be made bigint")
	for _, d := range m.report.Derived {
		if d.Table == mapping.Runs {
			add(d.Rows, "run", "%s would be made for rows without one")
		}
	}
	if m.NaiveZone == nil {
		add(m.found.NaiveTimes(), "time", "%s without a zone (--naive-times says which)")
	}
	if len(what) == 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.Refused, What: "--strict: " + strings.Join(what, ", "), Do: "see the list; run without --strict, which keeps what is changed as it was",
	}
}

// vectorSize gives the number of floats that most of the file's vectors have,
// 0 without any, and notes when there are several.
func (r *reading) vectorSize(ctx context.Context) (int, error) {
	if !r.layout.Plan(mapping.Memories).InFile || r.layout.Plan(mapping.Memories).Position("vector") < 0 {
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
		r.note("the memories' vectors are of several sizes, and pgvector's column has one: %s", strings.Join(all, ", "))
	}
	return int(best / 4), nil
}
