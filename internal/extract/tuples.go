package extract

import (
	"context"
	"io"
	"math"
	"slices"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sqlite"
)

// NoRow is the rowid of a row that the file does not have. It is SQLite's lowest
// rowid, which SQLite never allocates.
const NoRow = math.MinInt64

// tuples converts the rows of a stage. It implements mapping.Tuples.
type tuples struct {
	converter *mapping.Converter
	rows      rowReader
	derived   bool                 // the rows are not in the file
	onRow     func(n, bytes int64) // called with the rows so far and their size; may be nil
	hasher    *rowdigest.Hasher    // may be nil
	found     loaded
	bytes     int64 // size of the rows so far, by sizeOf
	rowID     int64 // of the last tuple's row, or NoRow
}

// loaded is what was found in a stage.
type loaded struct {
	read          int64          // rows
	rejected      int64          // those of them that were rejected
	sent          int64          // bytes
	sum           *rowdigest.Sum // of the tuples; nil if it was not computed
	changes       []report.Change
	firstRejected []report.RejectedRow
	rejectedRuns  rejectedRuns // only of the stage of runs
	naive         map[string]int64
	rounded       map[string]*mapping.Loss
}

// tuplesOf returns the tuples of a stage. The caller closes them.
func (e *Extraction) tuplesOf(ctx context.Context, s stage, types *mapping.Types) (*tuples, error) {
	rows, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return &tuples{
		rows:    rows,
		derived: s.describe != nil,
		found:   loaded{rejectedRuns: rejectedRuns{missing: map[string]bool{}}},
		converter: &mapping.Converter{
			Mapping: s.mapping, Options: e.config.Options, Types: types, Rejected: s.duplicates,
			InferTime: func(table, column string, row []sqlite.Value) (mapping.Time, string, error) {
				return e.inferTime(ctx, s.mapping, table, column, row)
			},
		},
	}, nil
}

// Append implements mapping.Tuples. It skips rejected rows.
func (t *tuples) Append(dst []byte) ([]byte, error) {
	for {
		row, err := t.rows.Next()
		if err != nil {
			return dst, err
		}
		out, accepted, err := t.converter.Append(dst, row)
		if err != nil {
			return dst, err
		}
		t.found.read++
		t.bytes += sizeOf(row)
		if !t.derived && len(t.converter.Changes()) > 0 {
			t.found.addChanges(t.converter, row)
		}
		if t.onRow != nil {
			t.onRow(t.found.read, t.bytes)
		}
		if !accepted {
			t.found.rejected++
			continue
		}
		if t.rowID = row[0].Int; t.derived {
			t.rowID = NoRow
		}
		if t.hasher != nil {
			t.hasher.Add(out[len(dst):])
		}
		return out, nil
	}
}

// Close closes the rows.
func (t *tuples) Close() { t.rows.Close() }

// result returns what was found, after the last tuple.
func (t *tuples) result() *loaded {
	t.found.naive, t.found.rounded = t.converter.Naive, t.converter.Rounded
	if t.hasher != nil {
		t.found.sum = &t.hasher.Sum
	}
	return &t.found
}

// sizeOf returns the size of a row's texts and blobs in bytes, which approximates
// the row's size in the file.
func sizeOf(row []sqlite.Value) (n int64) {
	for i := range row {
		n += int64(len(row[i].Bytes))
	}
	return n
}

// firstKeys is the number of keys that the report has for each kind of change.
const firstKeys = 10

// addChanges counts the changes of a row, or its rejection.
func (l *loaded) addChanges(c *mapping.Converter, row []sqlite.Value) {
	table, key := c.Mapping.Table.Name, c.Key(row)
	if why := c.Rejection(); why != 0 {
		if l.countChange(table, "", why, key, true) <= firstKeys {
			column, value := c.RejectedBy(row)
			l.firstRejected = append(l.firstRejected, report.RejectedRow{
				Table: table, RowID: row[0].Int, Key: key, Column: column, Value: value.String(),
				Reason: why.String(), Explanation: why.Explain(true),
			})
		}
		if table == mapping.Runs {
			l.rejectedRuns.add(row[c.Mapping.Position("run_id")], why)
		}
		return
	}
	for _, change := range c.Changes() {
		l.countChange(table, change.Column, change.Reason, key, false)
	}
}

// add records a rejected run.
func (r *rejectedRuns) add(run sqlite.Value, why mapping.Reason) {
	if mapping.TextKeyFlaw(run) != 0 {
		return
	}
	r.ids = append(r.ids, run.Clone())
	if why&mapping.DuplicateKey == 0 { // otherwise another row has the key
		r.missing[mapping.KeyText(run)] = true
	}
}

// countChange counts a change, and returns how many of its kind there are so far.
func (l *loaded) countChange(table, column string, reason mapping.Reason, key string, rejected bool) int64 {
	kind := reason.String()
	at := slices.IndexFunc(l.changes, func(c report.Change) bool {
		return c.Column == column && c.Reason == kind && c.Rejected == rejected
	})
	if at < 0 {
		at = len(l.changes)
		l.changes = append(l.changes, report.Change{
			Table:       table,
			Column:      column,
			Reason:      kind,
			Explanation: reason.Explain(rejected),
			Keys:        []string{},
			Rejected:    rejected,
		})
	}
	c := &l.changes[at]
	c.Count++
	if len(c.Keys) < firstKeys && !slices.Contains(c.Keys, key) {
		c.Keys = append(c.Keys, key)
	}
	return c.Count
}

// Replay converts the rows of a table again and calls visit with each tuple, which
// is valid only during the call, and the rowid of its row in the file, or NoRow.
func (r *Result) Replay(ctx context.Context, table string, visit func(tuple []byte, rowid int64) error) error {
	for _, s := range r.extraction.stages(r.extraction.config.Format.Mapping(table), &r.known) {
		if err := r.replayStage(ctx, s, visit); err != nil {
			return err
		}
	}
	return nil
}

func (r *Result) replayStage(ctx context.Context, s stage, visit func(tuple []byte, rowid int64) error) error {
	t, err := r.extraction.tuplesOf(ctx, s, r.Types)
	if err != nil {
		return err
	}
	defer t.Close()
	var buf []byte
	for {
		if cap(buf) > maxBufferBytes {
			buf = nil
		}
		if buf, err = t.Append(buf[:0]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := visit(buf, t.rowID); err != nil {
			return err
		}
	}
}

// maxBufferBytes is the maximum size of a buffer that is used again for the next row.
const maxBufferBytes = 4 << 20

// Sample is the first tuples of a table. It implements mapping.Tuples.
type Sample struct {
	tuples *tuples
	rest   int // bytes
}

// Sample returns the first rows of a table in the file: tuples until they have the
// given number of bytes. Their digest is computed, as in an extraction. The caller
// closes the sample.
func (r *Result) Sample(ctx context.Context, table string, bytes int) (*Sample, error) {
	tm := r.extraction.config.Format.Mapping(table)
	t, err := r.extraction.tuplesOf(ctx, r.extraction.stages(tm, &r.known)[0], r.Types)
	if err != nil {
		return nil, err
	}
	t.hasher = rowdigest.NewHasher(tm.Table)
	return &Sample{tuples: t, rest: bytes}, nil
}

// Append implements mapping.Tuples.
func (s *Sample) Append(dst []byte) ([]byte, error) {
	if s.rest < 0 {
		return dst, io.EOF
	}
	out, err := s.tuples.Append(dst)
	s.rest -= len(out) - len(dst)
	return out, err
}

// Close closes the rows.
func (s *Sample) Close() { s.tuples.Close() }
