package transfer

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
)

// destination takes the tuples that a reading makes.
type destination interface {
	// Copy takes all tuples that are given to it into a table and gives their
	// bytes. An error of theirs comes back as it is; after a
	// *mapping.WidenError none of them was taken.
	Copy(ctx context.Context, table *mapping.Table, tuples sink.Tuples) (bytes int64, err error)
	// Widen makes an integer column bigint.
	Widen(ctx context.Context, table *mapping.Table, column string) error
}

// reading is one reading of a file: its rows as the tuples that PostgreSQL is
// to hold, what is derived from them, and what was found on the way. migrate,
// verify and check read a file in the same way and differ in where the tuples
// go.
type reading struct {
	snapshot *source.Snapshot
	layout   *mapping.Layout
	convert  mapping.Options
	types    *mapping.Types
	modified mapping.Time // when the file was written: the last witness of a time
	into     destination
	digest   bool   // sum the tuples up
	lenient  bool   // go on when the file is written meanwhile: a rehearsal
	phase    string // that its progress is of
	leftOut  string // a table that the target has not; rows of it are refused,
	skip     bool   // or, with this, not read
	progress func(Progress)

	found   *report.Findings
	digests map[string]*mapping.Digest // by table
	copied  int64                      // rows so far
	total   int64                      // rows in the file
	at      int64                      // the rowid of the row that the last tuple is of
	bytes   int64                      // of the rows so far, as sizeOf has them
	ofBytes int64                      // of all of them: what the tables that are read had, and the others about have
	size    map[string]int64           // about how many bytes each table has

	aside     map[string]map[int64]mapping.Reason // rows that share a key, by table and rowid
	keys      map[string]*keys                    // of the tables whose keys may collide
	asideRuns []mapping.Value                     // run_ids of runs without a place
	lostRuns  map[string]bool                     // of these, the keys that no other run has
}

// newReading begins a reading. Its caller sets what the tuples are made with
// and where they go.
func newReading(snapshot *source.Snapshot, layout *mapping.Layout) *reading {
	return &reading{
		snapshot: snapshot, layout: layout, modified: mapping.TimeOf(snapshot.Modified()), types: mapping.NewTypes(false),
		progress: func(Progress) {},
		found: &report.Findings{
			Ignored: layout.Others, Notes: []string{}, Derived: []report.Derived{}, Changes: []report.Change{},
			Widened: []string{}, Naive: []report.Naive{}, Rounded: []report.Rounded{},
		},
		digests: map[string]*mapping.Digest{},
		aside:   map[string]map[int64]mapping.Reason{}, keys: map[string]*keys{}, lostRuns: map[string]bool{},
	}
}

// all reads every table.
func (r *reading) all(ctx context.Context) error {
	if err := r.count(ctx); err != nil {
		return err
	}
	for i := range r.found.Tables {
		if err := r.table(ctx, &r.found.Tables[i]); err != nil {
			return err
		}
	}
	return nil
}

// again gives the tuples of a table once more, without a word of what is found,
// and with each the rowid of its row in the file; noRow for one that is derived.
func (r *reading) again(ctx context.Context, table string, each func(tuple []byte, rowid int64) error) error {
	q := *r
	q.found = &report.Findings{Tables: slices.Clone(r.found.Tables)}
	q.digest, q.progress, q.into = false, func(Progress) {}, &visitor{types: r.types, each: func(tuple []byte) error { return each(tuple, q.at) }}
	q.aside, q.keys = maps.Clone(r.aside), maps.Clone(r.keys)
	if table == mapping.Runs {
		q.asideRuns, q.lostRuns = nil, map[string]bool{}
	}
	at := slices.IndexFunc(q.found.Tables, func(t report.Table) bool { return t.Name == table })
	return q.table(ctx, &q.found.Tables[at])
}

// visitor is a destination that shows the tuples, each good until the next.
type visitor struct {
	types *mapping.Types
	each  func(tuple []byte) error
	buf   []byte
}

// Copy implements destination.
func (v *visitor) Copy(_ context.Context, _ *mapping.Table, tuples sink.Tuples) (bytes int64, err error) {
	for {
		if v.buf, err = tuples.Append(v.buf[:0]); err == io.EOF {
			return bytes, nil
		} else if err != nil {
			return bytes, err
		}
		bytes += int64(len(v.buf))
		if err := v.each(v.buf); err != nil {
			return bytes, err
		}
	}
}

// Widen implements destination.
func (v *visitor) Widen(_ context.Context, table *mapping.Table, column string) error {
	v.types.Wide[table.Name+"."+column] = true
	return nil
}

// changedFault refuses what was read of a file while somebody wrote to it.
func changedFault(snapshot *source.Snapshot) error {
	return &fault.Error{
		Kind: fault.Refused, What: fmt.Sprintf("%q changed while it was read", snapshot.Path()), Do: "stop Flujo and run again",
	}
}

func (r *reading) note(format string, args ...any) {
	r.found.Notes = append(r.found.Notes, fmt.Sprintf(format, args...))
}

// count lays out the report's table: what there is to read.
func (r *reading) count(ctx context.Context) (err error) {
	r.size = map[string]int64{}
	for i := range r.layout.Plans {
		plan := &r.layout.Plans[i]
		var rows, bytes int64
		if plan.InFile {
			if rows, err = r.snapshot.Count(ctx, plan.Table.Name); err != nil {
				return err
			}
			if bytes, err = r.snapshot.EstimateBytes(ctx, plan.Table.Name, rows); err != nil {
				return err
			}
		}
		if r.leftOut == plan.Table.Name {
			if rows > 0 && !r.skip {
				return &fault.Error{
					Kind: fault.Refused,
					What: fmt.Sprintf("the file holds %d memories, and without pgvector there is no table for them", rows),
					Do:   "install pgvector on the server and run without --without-pgvector",
				}
			}
			continue
		}
		r.total += rows
		if plan.Table.Name == mapping.Traces { // most are derived, and about as long as their spans
			bytes += r.size[mapping.Spans]
		}
		r.size[plan.Table.Name] = bytes
		r.ofBytes += bytes
		r.found.Tables = append(r.found.Tables, report.Table{Name: plan.Table.Name, RowsRead: rows})
	}
	return nil
}

// table reads one table: what the file has of it, then what is derived. RowsRead was what count(*) said; afterwards it
// is what was read.
func (r *reading) table(ctx context.Context, row *report.Table) (err error) {
	started := time.Now()
	plan := r.layout.Plan(row.Name)
	expected := row.RowsRead
	of := expected
	if row.Name == mapping.Traces {
		of += r.found.Tables[0].RowsRead // a trace for each run, at most
	}
	show := func(n, bytes int64, done bool) {
		all := r.copied + min(n, expected)
		r.progress(Progress{Phase: r.phase, Table: row.Name, Rows: n, Of: max(of, n), All: all, Rest: r.total - all, Done: done,
			Bytes: r.bytes + bytes, OfBytes: r.ofBytes + max(bytes-r.size[row.Name], 0)})
	}
	show(0, 0, false)
	read, derived := int64(0), int64(0) // bytes
	if plan.InFile {
		if err := r.rows(ctx, row, plan, func(n, bytes int64) { read = bytes; show(n, bytes, false) }); err != nil {
			return err
		}
	}
	switch row.Name {
	case mapping.Runs:
		err = r.loadOrphans(ctx, row)
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
		case changed && r.lenient:
			expected = row.RowsRead
		case changed:
			return changedFault(r.snapshot)
		}
	}
	if row.RowsRead != expected {
		return &fault.Error{
			Kind: fault.Different, What: fmt.Sprintf("read table %q: %d rows came, count(*) says %d", row.Name, row.RowsRead, expected),
			Do: "an index of the file may be damaged: see what sqlite3's PRAGMA integrity_check says of it",
		}
	}
	of, read = row.RowsRead+row.Derived, read+derived
	r.ofBytes += read - r.size[row.Name]
	r.size[row.Name] = read
	show(of, read, true)
	r.copied += expected
	r.bytes += read
	row.Seconds = time.Since(started).Seconds()
	return nil
}

// rows reads the rows that the file has of a table.
func (r *reading) rows(ctx context.Context, row *report.Table, plan *mapping.Plan, each func(n, bytes int64)) (err error) {
	if r.aside[row.Name], err = r.sameKeys(ctx, plan); err != nil {
		return err
	}
	converter := r.converter(ctx, plan)
	done := &tuples{each: each, changed: func(row []mapping.Value) { r.changed(converter, row) }, again: func() { r.forget(row.Name) }}
	row.Bytes, err = r.load(ctx, converter, func() (rowReader, error) {
		return r.snapshot.Rows(ctx, row.Name, plan.Columns)
	}, done)
	if err != nil {
		return err
	}
	row.RowsRead, row.SetAside = done.read, done.aside
	r.tally(converter)
	return nil
}
