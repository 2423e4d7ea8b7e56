package extract

import (
	"context"
	"fmt"
	"io"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// traceRows derives a row of traces for each run that has spans and no trace. It
// holds the spans of one run in memory. It implements rowReader.
type traceRows struct {
	ctx          context.Context
	extraction   *Extraction
	known        *known
	spans        *source.Rows
	row          []sqlite.Value
	pendingTrace *mapping.Trace   // of the next run, whose first span was read; may be nil
	run          sqlite.Value     // its run_id
	traces       [2]mapping.Trace // of the current and the next run
	ended        bool
	changedKeys  map[string]bool // derived keys that were changed
	spansUsed    int64           // spans of the runs for which a row was derived
}

// traceStage returns the stage of the derived traces. It returns none if the file has
// no spans.
func (e *Extraction) traceStage(k *known) []stage {
	if !e.config.Format.Mapping(mapping.Spans).InFile {
		return nil
	}
	tm := mapping.FullMapping(mapping.Traces)
	var t *traceRows
	return []stage{{
		mapping: tm,
		open: func(ctx context.Context) (rowReader, error) {
			spans, err := e.snapshot.SpansWithoutTrace(ctx, mapping.SpanColumns)
			if err != nil {
				return nil, err
			}
			t = &traceRows{
				ctx:         ctx,
				extraction:  e,
				known:       k,
				spans:       spans,
				row:         make([]sqlite.Value, len(tm.Columns)+1),
				changedKeys: map[string]bool{},
			}
			return t, nil
		},
		describe: func(f *report.Findings, l *loaded) {
			if l.rejected > 0 {
				f.Notes = append(f.Notes, fmt.Sprintf("%d traces could not be derived: "+
					"their run_id is not a valid key, or they exceed jsonb's size limit", l.rejected))
			}
			f.Derived = append(f.Derived, report.Derived{
				Table: mapping.Traces, Rows: l.read - l.rejected, From: mapping.Spans, Count: t.spansUsed,
				Why: "Flujo's SQLite backend rebuilds a run's trace from its spans; " +
					"its PostgreSQL backend reads only traces",
			})
		},
	}}
}

// Next implements rowReader with the columns of traces.
func (t *traceRows) Next() ([]sqlite.Value, error) {
	for !t.ended {
		run, trace, err := t.collect()
		if err != nil {
			return nil, err
		}
		if trace == nil {
			break
		}
		tree, ok := trace.JSON()
		if !ok || run.Class == sqlite.Null {
			continue // Flujo returns no trace for this run, or the spans are rejected
		}
		if taken, err := t.taken(run); err != nil || taken {
			if err != nil {
				return nil, err
			}
			continue
		}
		t.spansUsed += int64(trace.Len())
		t.row[1], t.row[2], t.row[3] = run, sqlite.Value{Class: sqlite.Text, Bytes: tree}, trace.CreatedAt()
		return t.row, nil
	}
	return nil, io.EOF
}

// taken reports whether the key of a run has a trace in PostgreSQL from another
// run_id. The trace of the plain run_id has priority.
func (t *traceRows) taken(run sqlite.Value) (bool, error) {
	if mapping.TextKeyFlaw(run) != 0 {
		return false, nil // the converter rejects it
	}
	key, plain := mapping.KeyText(run), isPlain(run)
	if t.changedKeys[key] {
		return true, nil
	}
	if held, err := t.extraction.hasKey(t.ctx, t.known, mapping.Traces, key, plain); err != nil || held || plain {
		return held, err
	}
	if found, err := t.extraction.snapshot.Holds(t.ctx, mapping.Spans, "run_id", sqlite.TextValue(key)); err != nil ||
		found {
		return found, err
	}
	t.changedKeys[key] = true
	return false, nil
}

// collect reads the spans of the next run, and the first span of the run after it.
// The trace is nil after the last run.
func (t *traceRows) collect() (run sqlite.Value, trace *mapping.Trace, err error) {
	trace, run = t.pendingTrace, t.run
	t.pendingTrace = nil
	for {
		row, err := t.spans.Next()
		if err == io.EOF {
			t.ended = trace == nil
			return run, trace, nil
		}
		if err != nil {
			return sqlite.Value{}, nil, err
		}
		id := row[1]
		if trace == nil {
			trace, run = t.begin(id, nil)
		}
		if !sameRun(id, run) {
			t.pendingTrace, t.run = t.begin(id, trace)
			t.pendingTrace.Add(row)
			return run, trace, nil
		}
		trace.Add(row)
	}
}

// sameRun reports whether two run_ids, adjacent in SQLite's order, have the same
// key in PostgreSQL, such as the numbers 5 and 5.0.
func sameRun(a, b sqlite.Value) bool {
	if a.Class < sqlite.Text && b.Class < sqlite.Text {
		return a.Class == b.Class && a.Class == sqlite.Null || mapping.KeyText(a) == mapping.KeyText(b)
	}
	return a.Class == b.Class && string(a.Bytes) == string(b.Bytes)
}

// begin returns an empty trace for a run, which is not inUse, and a copy of id.
func (t *traceRows) begin(id sqlite.Value, inUse *mapping.Trace) (*mapping.Trace, sqlite.Value) {
	trace := &t.traces[0]
	if trace == inUse {
		trace = &t.traces[1]
	}
	trace.Reset()
	trace.Options = t.extraction.config.Options
	return trace, id.Clone()
}

// Close implements rowReader.
func (t *traceRows) Close() { t.spans.Close() }
