package transfer

import (
	"context"
	"fmt"
	"io"
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

// found counts what became of a row that does not arrive as it was.
func (m *migration) found(c *mapping.Converter, row []mapping.Value) {
	table, key := c.Plan.Table.Name, c.Key(row)
	if why := c.Why(); why != 0 {
		m.countChange(table, "", why, key, true)
		if table == mapping.Runs {
			m.lose(row[c.Plan.Position("run_id")], why)
		}
		return
	}
	for _, change := range c.Changes() {
		m.countChange(table, change.Column, change.Reason, key, false)
	}
}

// lose notes a run that has no place, since its children may have one.
func (m *migration) lose(run mapping.Value, why mapping.Reason) {
	if mapping.TextKeyFlaw(run) != 0 {
		return
	}
	run.Bytes = slices.Clone(run.Bytes)
	m.asideRuns = append(m.asideRuns, run)
	if why&mapping.SameKey == 0 { // or else another row has the key
		m.lostRuns[mapping.KeyText(run)] = true
	}
}

func (m *migration) countChange(table, column string, reason mapping.Reason, key string, aside bool) {
	kind := reason.String()
	at := slices.IndexFunc(m.report.Changes, func(c report.Change) bool {
		return c.Table == table && c.Column == column && c.Kind == kind && c.SetAside == aside
	})
	if at < 0 {
		at = len(m.report.Changes)
		m.report.Changes = append(m.report.Changes, report.Change{
			Table: table, Column: column, Kind: kind, Explain: reason.Explain(), Keys: []string{}, SetAside: aside,
		})
	}
	c := &m.report.Changes[at]
	c.Count++
	if len(c.Keys) < firstKeys && !slices.Contains(c.Keys, key) {
		c.Keys = append(c.Keys, key)
	}
}

// forget takes back what was found in a table that is read again.
func (m *migration) forget(table string) {
	m.report.Changes = slices.DeleteFunc(m.report.Changes, func(c report.Change) bool { return c.Table == table })
	if table == mapping.Runs {
		m.asideRuns = nil
		clear(m.lostRuns)
	}
}

// tally takes over what a converter counted.
func (m *migration) tally(c *mapping.Converter) {
	table := c.Plan.Table.Name + "."
	for _, column := range slices.Sorted(maps.Keys(c.Naive)) {
		m.report.Naive = append(m.report.Naive, report.Naive{Column: table + column, Count: c.Naive[column], Zone: m.zone()})
	}
	for _, column := range slices.Sorted(maps.Keys(c.Rounded)) {
		loss := c.Rounded[column]
		m.report.Rounded = append(m.report.Rounded, report.Rounded{Column: table + column, Count: loss.Count, Largest: loss.Largest})
	}
}

func (m *migration) zone() string {
	if m.NaiveZone == nil {
		return "UTC"
	}
	return m.NaiveZone.String()
}

// judge refuses what may not be committed, when all of it is known, and keeps
// the originals of the rest.
func (m *migration) judge(ctx context.Context) error {
	rows, cells := int64(0), int64(0)
	for _, c := range m.report.Changes {
		if c.SetAside {
			rows += c.Count
		} else {
			cells += c.Count
		}
	}
	refusal := m.refusal(rows, cells)
	m.report.Refused = refusal != nil
	if rows+cells > 0 {
		m.phase(PhaseOriginals)
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
		naive := int64(0)
		for _, n := range m.report.Naive {
			naive += n.Count
		}
		add(naive, "time", "%s without a zone (--naive-times says which)")
	}
	if len(what) == 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.Refused, What: "--strict: " + strings.Join(what, ", "), Do: "see the list; run without --strict, which keeps what is changed as it was",
	}
}

// keepOriginals reads the tables again of which something did not arrive as it
// was, tells Found of it, and with write puts it into the table of originals.
func (m *migration) keepOriginals(ctx context.Context, write bool) error {
	if !write && m.Found == nil {
		return nil
	}
	o := &originals{ctx: ctx, m: m, close: func() {}}
	for i := range m.layout.Plans {
		plan := &m.layout.Plans[i]
		if slices.ContainsFunc(m.report.Changes, func(c report.Change) bool { return c.Table == plan.Table.Name }) {
			o.plans = append(o.plans, plan)
		}
	}
	defer func() { o.close() }()
	if write {
		if err := m.tx.MakeOriginals(ctx, m.schema); err != nil {
			return err
		}
		_, err := m.tx.Copy(ctx, &mapping.Originals, mapping.Originals.Columns, o)
		m.report.Originals = o.kept
		return err
	}
	for {
		if _, err := o.Append(nil); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// originals gives a tuple of mapping.Originals for every cell that did not
// arrive as it was, table after table. It implements sink.Tuples.
type originals struct {
	ctx       context.Context
	m         *migration
	plans     []*mapping.Plan // still to be read
	converter *mapping.Converter
	rows      rowReader
	close     func()
	row       []mapping.Value  // whose changes are being given
	changes   []mapping.Change // still to be given
	scratch   []byte
	kept      int64
}

// Append implements sink.Tuples.
func (o *originals) Append(dst []byte) ([]byte, error) {
	for len(o.changes) == 0 {
		if err := o.read(); err != nil {
			return dst, err
		}
	}
	c := o.changes[0]
	o.changes = o.changes[1:]
	o.kept++
	return mapping.AppendOriginal(dst, o.converter.Plan.Table.Name, o.converter.Key(o.row), o.row[0].Int, c), nil
}

// read converts the next row once more and notes what does not arrive of it.
func (o *originals) read() error {
	if o.rows == nil {
		if len(o.plans) == 0 {
			return io.EOF
		}
		if err := o.open(); err != nil {
			return err
		}
	}
	row, err := o.rows.Next()
	if err == io.EOF {
		o.close()
		o.rows = nil
		return nil
	}
	if err != nil {
		return err
	}
	if o.scratch, _, err = o.converter.Append(o.scratch[:0], row); err != nil {
		return err
	}
	o.row, o.changes = row, o.converter.Changes()
	o.tell()
	return nil
}

func (o *originals) open() error {
	plan := o.plans[0]
	o.plans = o.plans[1:]
	rows, err := o.m.snapshot.Rows(o.ctx, plan.Table.Name, plan.Columns)
	if err != nil {
		return err
	}
	o.rows, o.converter = rows, o.m.converter(o.ctx, plan)
	o.close = func() { rows.Close() }
	return nil
}

// tell calls Found for the row: once where it has no place, else for each cell.
func (o *originals) tell() {
	if o.m.Found == nil || len(o.changes) == 0 {
		return
	}
	f := mapping.Finding{Table: o.converter.Plan.Table.Name, Key: o.converter.Key(o.row), RowID: o.row[0].Int}
	if why := o.converter.Why(); why != 0 {
		f.Reason, f.Aside = why, true
		o.m.Found(f)
		return
	}
	for _, c := range o.changes {
		f.Column, f.Reason, f.Note = c.Column, c.Reason, c.Note
		o.m.Found(f)
	}
}

// vectorSize gives the number of floats that most of the file's vectors have,
// 0 without any, and notes when there are several.
func (m *migration) vectorSize(ctx context.Context) (int, error) {
	if !m.layout.Plan(mapping.Memories).InFile || m.layout.Plan(mapping.Memories).Position("vector") < 0 {
		return 0, nil
	}
	sizes, err := m.snapshot.VectorSizes(ctx)
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
		m.note("the memories' vectors are of several sizes, and pgvector's column has one: %s", strings.Join(all, ", "))
	}
	return int(best / 4), nil
}
