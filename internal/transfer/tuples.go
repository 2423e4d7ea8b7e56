package transfer

import (
	"context"
	"io"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// rowReader gives rows one after the other, io.EOF after the last. A row is
// good until the next call.
type rowReader interface {
	Next() ([]mapping.Value, error)
}

// tuples makes the tuples of one table out of the rows of its readers, in
// turn. It implements sink.Tuples.
type tuples struct {
	plan *mapping.Plan
	rows []rowReader
	n    int64         // rows so far
	each func(n int64) // called with n after every row
}

// Append implements sink.Tuples.
func (t *tuples) Append(dst []byte) ([]byte, error) {
	for len(t.rows) > 0 {
		row, err := t.rows[0].Next()
		if err == io.EOF {
			t.rows = t.rows[1:]
			continue
		}
		if err != nil {
			return dst, err
		}
		if dst, err = t.plan.AppendTuple(dst, row); err != nil {
			return dst, err
		}
		t.n++
		t.each(t.n)
		return dst, nil
	}
	return dst, io.EOF
}

// traceRows derives a row of traces for every run that has spans and no trace.
// It holds the spans of one run at a time.
type traceRows struct {
	spans *source.Rows
	row   []mapping.Value
	next  *mapping.Trace // of the run that begins with the row already read
	runID string
	ended bool
	made  int64
	used  int64 // spans of the runs for which a row was made
}

// deriveTraces gives the rows to add to traces, or nil for a file without
// spans.
func (m *migration) deriveTraces(ctx context.Context, traces *mapping.Plan) (*traceRows, error) {
	if !m.layout.Plan(mapping.Spans).InFile {
		return nil, nil
	}
	spans, err := m.snapshot.SpansWithoutTrace(ctx, mapping.SpanColumns)
	if err != nil {
		return nil, err
	}
	return &traceRows{spans: spans, row: make([]mapping.Value, len(traces.Source()))}, nil
}

// Next implements rowReader with the columns of traces.
func (t *traceRows) Next() ([]mapping.Value, error) {
	for !t.ended {
		runID, trace, err := t.run()
		if err != nil {
			return nil, err
		}
		if trace == nil {
			break
		}
		tree, ok := trace.JSON()
		if !ok {
			continue // Flujo answers that this run has no trace
		}
		t.made++
		t.used += int64(trace.Len())
		clear(t.row)
		t.row[0], t.row[1], t.row[2] = mapping.TextValue(runID), mapping.Value{Class: mapping.Text, Bytes: tree}, trace.CreatedAt()
		return t.row, nil
	}
	return nil, io.EOF
}

// run collects the spans of the next run, up to the first span of another; nil
// after the last run.
func (t *traceRows) run() (runID string, trace *mapping.Trace, err error) {
	trace, runID = t.next, t.runID
	t.next = nil
	for {
		row, err := t.spans.Next()
		if err == io.EOF {
			t.ended = trace == nil
			return runID, trace, nil
		}
		if err != nil {
			return "", nil, err
		}
		id := string(row[0].Bytes)
		if trace == nil {
			trace, runID = &mapping.Trace{}, id
		}
		if id != runID {
			t.next, t.runID = &mapping.Trace{}, id
			t.next.Add(row)
			return runID, trace, nil
		}
		trace.Add(row)
	}
}

// Close ends the reading of spans.
func (t *traceRows) Close() error { return t.spans.Close() }

func (t *traceRows) derived() report.Derived {
	return report.Derived{
		Table: mapping.Traces, Rows: t.made, From: mapping.Spans, Count: t.used,
		Why: "Flujo's SQLite backend rebuilds a run's trace from its spans, its PostgreSQL backend reads traces alone",
	}
}
