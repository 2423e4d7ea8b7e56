package transfer

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// destination receives the tuples of an extraction.
type destination interface {
	// Copy stores all tuples in a table and returns their size in bytes. It
	// returns an error of tuples unchanged. After a *mapping.WidenError none of
	// the tuples is stored.
	Copy(ctx context.Context, table *mapping.Table, tuples sink.Tuples) (bytes int64, err error)
	// Widen changes an integer column to bigint.
	Widen(ctx context.Context, table *mapping.Table, column string) error
}

// extraction is one pass over a state file: it converts the rows to tuples,
// derives stub runs and traces, and collects findings. migrate, verify and check
// use the same extraction and differ in its destination.
type extraction struct {
	snapshot     *source.Snapshot
	format       *mapping.Format
	options      mapping.Options
	types        *mapping.Types
	modified     mapping.Time // modification time of the file: the last timestamp fallback
	dst          destination
	withDigest   bool   // compute digests
	allowChanges bool   // continue if the file is written to: in a dry run
	phase        string // the phase of its progress
	absentTable  string // a table that the target does not have: rows of it are refused,
	skipAbsent   bool   // or skipped if this is set
	progress     func(Progress)

	findings   *report.Findings
	digests    map[string]*mapping.Digest // by table
	rowsDone   int64                      // rows read so far
	totalRows  int64                      // rows in the file
	rowID      int64                      // rowid of the last tuple's row; noRow for a derived row
	bytesDone  int64                      // size of the rows so far, by sizeOf
	totalBytes int64                      // size of all rows; an estimate for tables that were not read yet
	tableBytes map[string]int64           // size of each table, or its estimate

	duplicates   map[string]map[int64]mapping.Reason // rows rejected for a duplicate key, by table and rowid
	keys         map[string]*tableKeys               // of the tables whose keys may collide
	rejectedRuns []sqlite.Value                      // run_ids of rejected runs
	missingRuns  map[string]bool                     // keys of rejected runs that no other run has
}

// newExtraction returns an extraction without options and destination, which the
// caller sets.
func newExtraction(snapshot *source.Snapshot, format *mapping.Format) *extraction {
	return &extraction{
		snapshot: snapshot,
		format:   format,
		modified: mapping.TimeOf(snapshot.Modified()),
		types:    mapping.NewTypes(false),
		progress: func(Progress) {},
		findings: &report.Findings{
			Ignored:         format.OtherTables,
			Notes:           []string{},
			Derived:         []report.Derived{},
			Changes:         []report.Change{},
			Widened:         []string{},
			NaiveTimestamps: []report.NaiveColumn{},
			Rounded:         []report.Rounded{},
		},
		digests:     map[string]*mapping.Digest{},
		duplicates:  map[string]map[int64]mapping.Reason{},
		keys:        map[string]*tableKeys{},
		missingRuns: map[string]bool{},
	}
}

// extractAll reads every table.
func (r *extraction) extractAll(ctx context.Context) error {
	if err := r.countRows(ctx); err != nil {
		return err
	}
	for i := range r.findings.Tables {
		if err := r.extractTable(ctx, &r.findings.Tables[i]); err != nil {
			return err
		}
	}
	return nil
}

// replayTable extracts a table again without changing the findings. It calls each
// with each tuple, which is valid only during the call, and the rowid of its row
// in the file (noRow for a derived row).
func (r *extraction) replayTable(ctx context.Context, table string, each func(tuple []byte, rowid int64) error) error {
	q := *r
	q.findings = &report.Findings{Tables: slices.Clone(r.findings.Tables)}
	q.withDigest, q.progress, q.dst = false, func(Progress) {}, &tupleVisitor{
		types: r.types,
		visit: func(tuple []byte) error { return each(tuple, q.rowID) },
	}
	q.duplicates, q.keys = maps.Clone(r.duplicates), maps.Clone(r.keys)
	if table == mapping.Runs {
		q.rejectedRuns, q.missingRuns = nil, map[string]bool{}
	}
	at := slices.IndexFunc(q.findings.Tables, func(t report.Table) bool { return t.Name == table })
	return q.extractTable(ctx, &q.findings.Tables[at])
}

// tupleVisitor is a destination that calls visit with each tuple. A tuple is valid
// only during the call.
type tupleVisitor struct {
	types *mapping.Types
	visit func(tuple []byte) error
	buf   []byte
}

// Copy implements destination.
func (v *tupleVisitor) Copy(_ context.Context, _ *mapping.Table, tuples sink.Tuples) (bytes int64, err error) {
	for {
		if v.buf, err = tuples.Append(v.buf[:0]); err == io.EOF {
			return bytes, nil
		} else if err != nil {
			return bytes, err
		}
		bytes += int64(len(v.buf))
		if err := v.visit(v.buf); err != nil {
			return bytes, err
		}
	}
}

// Widen implements destination.
func (v *tupleVisitor) Widen(_ context.Context, table *mapping.Table, column string) error {
	v.types.Wide[table.Name+"."+column] = true
	return nil
}

// changedError returns the error for a state file that was written to while it was
// read.
func changedError(snapshot *source.Snapshot) error {
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("%q changed while it was read", snapshot.Path()),
		Hint:    "stop Flujo and run again",
	}
}

func (r *extraction) note(format string, args ...any) {
	r.findings.Notes = append(r.findings.Notes, fmt.Sprintf(format, args...))
}

// A state file with memories needs pgvector; the message has their number.
const (
	memoriesMessage = "the state file has %d memories, and Flujo's memories table requires pgvector"
	memoriesHint    = "install pgvector on the server and run without --without-pgvector"
)

// countRows fills in the report's tables with the number of rows to read.
func (r *extraction) countRows(ctx context.Context) (err error) {
	r.tableBytes = map[string]int64{}
	for i := range r.format.Mappings {
		tm := &r.format.Mappings[i]
		var rows, bytes int64
		if tm.InFile {
			if rows, err = r.snapshot.Count(ctx, tm.Table.Name); err != nil {
				return err
			}
			if bytes, err = r.snapshot.EstimateBytes(ctx, tm.Table.Name, rows); err != nil {
				return err
			}
		}
		if r.absentTable == tm.Table.Name {
			if rows > 0 && !r.skipAbsent {
				return &clierr.Error{
					Kind:    clierr.Refused,
					Message: fmt.Sprintf(memoriesMessage, rows),
					Hint:    memoriesHint,
				}
			}
			continue
		}
		r.totalRows += rows
		if tm.Table.Name == mapping.Traces { // most are derived, and about as long as their spans
			bytes += r.tableBytes[mapping.Spans]
		}
		r.tableBytes[tm.Table.Name] = bytes
		r.totalBytes += bytes
		r.findings.Tables = append(r.findings.Tables, report.Table{Name: tm.Table.Name, RowsRead: rows})
	}
	return nil
}

// extractTable reads one table: first the file's rows, then derived rows. Before
// the call row.RowsRead is the result of count(*), afterwards the number of rows
// read.
func (r *extraction) extractTable(ctx context.Context, row *report.Table) (err error) {
	started := time.Now()
	tm := r.format.Mapping(row.Name)
	expected := row.RowsRead
	of := expected
	if row.Name == mapping.Traces {
		of += r.findings.Tables[0].RowsRead // a trace for each run, at most
	}
	show := func(n, bytes int64, done bool) {
		all := r.rowsDone + min(n, expected)
		r.progress(
			Progress{
				Phase:   r.phase,
				Table:   row.Name,
				Rows:    n,
				Of:      max(of, n),
				All:     all,
				Rest:    r.totalRows - all,
				Done:    done,
				Bytes:   r.bytesDone + bytes,
				OfBytes: r.totalBytes + max(bytes-r.tableBytes[row.Name], 0),
			},
		)
	}
	show(0, 0, false)
	read, derived := int64(0), int64(0) // bytes
	if tm.InFile {
		onRow := func(n, bytes int64) { read = bytes; show(n, bytes, false) }
		if err := r.extractRows(ctx, row, tm, onRow); err != nil {
			return err
		}
	}
	switch row.Name {
	case mapping.Runs:
		err = r.loadStubRuns(ctx, row)
	case mapping.Traces:
		err = r.loadTraces(ctx, row, func(n, bytes int64) { derived = bytes; show(expected+n, read+bytes, false) })
	}
	if err != nil {
		return err
	}
	if row.RowsRead != expected {
		changed, err := r.snapshot.Changed()
		switch {
		case err != nil:
			return err
		case changed && r.allowChanges:
			expected = row.RowsRead
		case changed:
			return changedError(r.snapshot)
		}
	}
	if row.RowsRead != expected {
		return &clierr.Error{
			Kind: clierr.Mismatch,
			Message: fmt.Sprintf("%d rows of table %q of the state file were read, but count(*) returned %d",
				row.RowsRead, row.Name, expected),
			Hint: "an index of the state file may be damaged: run PRAGMA integrity_check in sqlite3",
		}
	}
	of, read = row.RowsRead+row.Derived, read+derived
	r.totalBytes += read - r.tableBytes[row.Name]
	r.tableBytes[row.Name] = read
	show(of, read, true)
	r.rowsDone += expected
	r.bytesDone += read
	row.Seconds = time.Since(started).Seconds()
	return nil
}

// extractRows reads the rows of a table in the file.
func (r *extraction) extractRows(
	ctx context.Context,
	row *report.Table,
	tm *mapping.TableMapping,
	each func(n, bytes int64),
) (err error) {
	if r.duplicates[row.Name], err = r.findDuplicateKeys(ctx, tm); err != nil {
		return err
	}
	converter := r.converter(ctx, tm)
	done := &tuples{
		onRow:    each,
		onChange: func(row []sqlite.Value) { r.recordChanges(converter, row) },
		onRetry:  func() { r.forgetTable(row.Name) },
	}
	row.Bytes, err = r.load(ctx, converter, func() (rowReader, error) {
		return r.snapshot.Rows(ctx, row.Name, tm.Columns)
	}, done)
	if err != nil {
		return err
	}
	row.RowsRead, row.Rejected = done.read, done.rejected
	r.addCounts(converter)
	return nil
}
