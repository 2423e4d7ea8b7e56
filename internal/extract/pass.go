package extract

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
)

// pass is one run of an extraction. Its fields change only between two stages.
type pass struct {
	*Extraction
	dst    Destination
	result *Result
	size   sizes
}

// sizes are what progress is computed from.
type sizes struct {
	rowsDone   int64            // rows read so far
	totalRows  int64            // rows in the file
	bytesDone  int64            // size of the rows so far, by sizeOf
	totalBytes int64            // size of all rows; an estimate for tables that were not read yet
	tableBytes map[string]int64 // size of each table, or its estimate
}

// newPass counts the rows to read.
func (e *Extraction) newPass(ctx context.Context, dst Destination) (*pass, error) {
	p := &pass{Extraction: e, dst: dst, size: sizes{tableBytes: map[string]int64{}}}
	p.result = &Result{
		extraction: e,
		Types:      e.config.Types.Clone(),
		Options:    e.config.Options,
		Findings:   report.NewFindings(),
		sums:       map[string]*rowdigest.Sum{},
		known:      known{keys: map[string]*keyIndex{}, rejected: rejectedRuns{missing: map[string]bool{}}},
	}
	p.result.Findings.Ignored = append(p.result.Findings.Ignored, e.config.Format.OtherTables...)
	for _, column := range e.snapshot.Computed() {
		p.result.Findings.Notes = append(p.result.Findings.Notes, fmt.Sprintf(
			"%s is a generated column that the state file does not store (VIRTUAL): it is not computed or migrated",
			column,
		))
	}
	for i := range e.config.Format.Mappings {
		tm := &e.config.Format.Mappings[i]
		if tm.Table.Name == e.config.Exclude {
			continue
		}
		rows := int64(0)
		if tm.InFile {
			var err error
			if rows, err = e.snapshot.Count(ctx, tm.Table.Name); err != nil {
				return nil, err
			}
		}
		p.size.totalRows += rows
		p.result.Findings.Tables = append(p.result.Findings.Tables, report.Table{Name: tm.Table.Name, RowsRead: rows})
	}
	return p, p.estimateSizes(ctx)
}

// smallFile is the size of a file for whose progress every row counts as equally long.
const smallFile = 4 << 20

// estimateSizes estimates the size of each table. To look at rows of a small file would
// take a good part of the time in which all of it is read.
func (p *pass) estimateSizes(ctx context.Context) error {
	for _, row := range p.result.Findings.Tables {
		bytes := int64(0)
		switch {
		case row.RowsRead == 0:
		case p.snapshot.Size() < smallFile:
			bytes = p.snapshot.Size() * row.RowsRead / p.size.totalRows
		default:
			var err error
			if bytes, err = p.snapshot.EstimateBytes(ctx, row.Name, row.RowsRead); err != nil {
				return err
			}
		}
		if row.Name == mapping.Traces { // most are derived, and about as long as their spans
			bytes += p.size.tableBytes[mapping.Spans]
		}
		p.size.tableBytes[row.Name] = bytes
		p.size.totalBytes += bytes
	}
	return nil
}

// table extracts one table: it looks for duplicate keys, and then sends the table's
// stages. Before the call row.RowsRead is the result of count(*), afterwards the
// number of rows read.
func (p *pass) table(ctx context.Context, row *report.Table) (err error) {
	started := time.Now()
	tm := p.config.Format.Mapping(row.Name)
	counted := row.RowsRead
	row.RowsRead = 0
	show := p.progressOf(row.Name, counted)
	show(0, 0, false)
	if p.result.known.keys[row.Name], err = p.indexKeys(ctx, tm); err != nil {
		return err
	}
	rows, bytes := int64(0), int64(0)
	for _, s := range p.stages(tm, &p.result.known) {
		before, beforeBytes := rows, bytes
		l, err := p.load(ctx, s, func(n, size int64) {
			rows, bytes = before+n, beforeBytes+size
			show(rows, bytes, false)
		})
		if err != nil {
			return err
		}
		p.add(s, l, row)
	}
	if err := p.checkCount(row, counted); err != nil {
		return err
	}
	p.size.totalBytes += bytes - p.size.tableBytes[row.Name]
	p.size.tableBytes[row.Name] = bytes
	show(row.RowsRead+row.Derived, bytes, true)
	p.size.rowsDone += row.RowsRead
	p.size.bytesDone += bytes
	row.Seconds = time.Since(started).Seconds()
	return nil
}

// progressOf returns a function that reports the progress of a table from the number
// of its rows so far and their size.
func (p *pass) progressOf(table string, counted int64) func(n, bytes int64, done bool) {
	of := counted
	if table == mapping.Traces {
		of += p.result.Findings.Tables[0].RowsRead // a trace for each run, at most
	}
	return func(n, bytes int64, done bool) {
		if done {
			of = n
		}
		all := p.size.rowsDone + min(n, counted)
		p.config.OnProgress.Report(progress.Event{
			Phase:   p.config.Phase,
			Table:   table,
			Rows:    n,
			Of:      max(of, n),
			All:     all,
			Rest:    p.size.totalRows - all,
			Done:    done,
			Bytes:   p.size.bytesDone + bytes,
			OfBytes: p.size.totalBytes + max(bytes-p.size.tableBytes[table], 0),
		})
	}
}

// checkCount compares the number of rows that were read with the result of count(*).
func (p *pass) checkCount(row *report.Table, counted int64) error {
	if row.RowsRead == counted {
		return nil
	}
	changed, err := p.snapshot.Changed()
	switch {
	case err != nil:
		return err
	case changed && p.config.AllowWrites:
		return nil
	case changed:
		return p.snapshot.CheckUnchanged()
	}
	return &clierr.Error{
		Kind: clierr.Mismatch,
		Message: fmt.Sprintf("%d rows of table %q of the state file were read, but count(*) returned %d",
			row.RowsRead, row.Name, counted),
		Hint: "an index of the state file may be damaged: run PRAGMA integrity_check in sqlite3",
	}
}

// load sends the tuples of a stage and returns what was found. If a column must be
// widened to bigint, it widens the column and sends the tuples again. each is called
// with the number of rows so far and their size.
func (p *pass) load(ctx context.Context, s stage, each func(n, bytes int64)) (*loaded, error) {
	table := s.mapping.Table
	for {
		t, err := p.tuplesOf(ctx, s, p.result.Types)
		if err != nil {
			return nil, err
		}
		if p.config.WithDigests {
			t.hasher = rowdigest.NewHasher(table)
		}
		t.onRow = each
		t.found.sent, err = p.dst.Copy(ctx, table, t)
		t.Close()
		wide, widen := errors.AsType[*mapping.WidenError](err)
		switch {
		case err == nil:
			return t.result(), nil
		case !widen:
			return nil, err
		}
		if err := p.widen(ctx, table, wide.Column); err != nil {
			return nil, err
		}
	}
}

// widen changes a column to bigint.
func (p *pass) widen(ctx context.Context, table *mapping.Table, column string) error {
	name := table.Name + "." + column
	if !slices.Contains(p.result.Findings.Widened, name) {
		p.result.Findings.Widened = append(p.result.Findings.Widened, name)
	}
	p.result.Types.Wide[name] = true
	return p.dst.Widen(ctx, table, column)
}

// add adds what was found in a stage to the result.
func (p *pass) add(s stage, l *loaded, row *report.Table) {
	f, table := p.result.Findings, s.mapping.Table.Name
	row.Bytes += l.sent
	if l.sum != nil {
		if p.result.sums[table] == nil {
			p.result.sums[table] = new(rowdigest.Sum)
		}
		p.result.sums[table].Join(l.sum)
		row.FileDigest = p.result.Digest(table).Sum
	}
	if s.describe != nil {
		row.Derived += l.read - l.rejected
		s.describe(f, l)
		return
	}
	row.RowsRead, row.Rejected = l.read, l.rejected
	f.Changes = append(f.Changes, l.changes...)
	f.FirstRejected = append(f.FirstRejected, l.firstRejected...)
	if table == mapping.Runs {
		p.result.known.rejected = l.rejectedRuns
	}
	for _, column := range slices.Sorted(maps.Keys(l.naive)) {
		f.NaiveTimestamps = append(f.NaiveTimestamps, report.NaiveColumn{
			Column: table + "." + column, Count: l.naive[column], Zone: p.config.Options.ZoneName()})
	}
	for _, column := range slices.Sorted(maps.Keys(l.rounded)) {
		loss := l.rounded[column]
		f.Rounded = append(f.Rounded, report.Rounded{
			Column: table + "." + column, Count: loss.Count, Largest: loss.Largest})
	}
}
