package transfer

import (
	"context"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// stubRuns gives a row of runs for every run_id that children in the file have
// and runs in PostgreSQL will not: what Flujo inserts when it is given a span
// of a run that it does not know, with what workflow_state tells of it.
type stubRuns struct {
	ctx        context.Context
	extraction *extraction
	missing    *source.Rows
	rejected   []mapping.Value // run_ids of rejected runs
	row        []mapping.Value // of runs, as mapping.FullMapping has it
	columns    []string
	children   []string
	made       map[string]bool // of the keys, those that another run_id may become too
	fromState  int64           // rows that workflow_state told something of
}

// stubDefaults are the values that Flujo gives such a run.
var stubDefaults = map[string]mapping.Value{
	"pipeline_id":      mapping.TextValue("unknown"),
	"pipeline_name":    mapping.TextValue("unknown"),
	"pipeline_version": mapping.TextValue("latest"),
	"status":           mapping.TextValue("running"),
	"total_steps":      mapping.IntegerValue(0),
}

// loadStubRuns adds the rows of runs that children need.
func (r *extraction) loadStubRuns(ctx context.Context, row *report.Table) error {
	var children []string
	for i := range r.format.Mappings {
		if p := &r.format.Mappings[i]; p.InFile && p.Table.ChildOf != "" && p.Position("run_id") >= 0 {
			children = append(children, p.Table.Name)
		}
	}
	if len(children) == 0 {
		return nil
	}
	tm := mapping.FullMapping(mapping.Runs)
	converter := r.converter(ctx, tm)
	converter.Rejected = nil // rowids of the file mean nothing here
	o := &stubRuns{}
	done := &tuples{onRow: func(int64, int64) {}, derived: true}
	sent, err := r.load(ctx, converter, func() (rowReader, error) {
		missing, err := r.snapshot.MissingRuns(ctx, children)
		if err != nil {
			return nil, err
		}
		*o = stubRuns{
			ctx:        ctx,
			extraction: r,
			missing:    missing,
			rejected:   r.rejectedRuns,
			columns:    tm.Columns,
			children:   children,
			row:        make([]mapping.Value, len(tm.Columns)+1),
			made:       map[string]bool{},
		}
		return o, nil
	}, done)
	if err != nil {
		return err
	}
	if made := done.read - done.rejected; made > 0 {
		row.Derived, row.Bytes = made, row.Bytes+sent
		r.findings.Derived = append(r.findings.Derived, report.Derived{
			Table: mapping.Runs, Rows: made, From: "workflow_state", Count: o.fromState,
			Why: "rows of other tables refer to runs that the state file does not have, and Flujo's PostgreSQL tables require them",
		})
	}
	return nil
}

// Next implements rowReader.
func (o *stubRuns) Next() ([]mapping.Value, error) {
	for {
		run, err := o.nextRun()
		if err != nil {
			return nil, err
		}
		if needed, err := o.needed(run); err != nil || needed {
			if err != nil {
				return nil, err
			}
			return o.buildRow(run)
		}
	}
}

// nextRun gives the next run_id of a child that may have no run: after those of
// rejected runs the ones that the file does not have at all.
func (o *stubRuns) nextRun() (mapping.Value, error) {
	for len(o.rejected) > 0 {
		run := o.rejected[0]
		o.rejected = o.rejected[1:]
		if found, err := o.inChildren(run); err != nil || found {
			return run, err
		}
	}
	row, err := o.missing.Next()
	if err != nil {
		return mapping.Value{}, err
	}
	return row[0], nil
}

func (o *stubRuns) inChildren(run mapping.Value) (bool, error) {
	for _, table := range o.children {
		if found, err := o.extraction.snapshot.Holds(o.ctx, table, "run_id", run); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// needed reports whether the row is still to be made that a run_id needs in
// PostgreSQL, where several become one.
func (o *stubRuns) needed(run mapping.Value) (bool, error) {
	key, plain := mapping.KeyText(run), isPlain(run)
	if mapping.TextKeyFlaw(run) != 0 || o.made[key] {
		return false, nil
	}
	lost := o.extraction.missingRuns[key]
	if !lost {
		if held, err := o.extraction.hasKey(o.ctx, mapping.Runs, key, plain); err != nil || held {
			return false, err
		}
	}
	if !plain { // a child that has the key itself comes in its own right
		if found, err := o.inChildren(mapping.TextValue(key)); err != nil || found {
			return false, err
		}
	}
	if lost || !plain {
		o.made[key] = true
	}
	return true, nil
}

// buildRow makes the row of a run.
func (o *stubRuns) buildRow(run mapping.Value) ([]mapping.Value, error) {
	key := mapping.TextValue(mapping.KeyText(run))
	state, err := o.extraction.snapshot.Row(o.ctx, "workflow_state", "run_id", run, o.columns)
	if err == nil && state == nil && !isPlain(run) {
		state, err = o.extraction.snapshot.Row(o.ctx, "workflow_state", "run_id", key, o.columns)
	}
	if err != nil {
		return nil, err
	}
	if state != nil {
		o.fromState++
	}
	clear(o.row)
	for i, name := range o.columns {
		stand := stubDefaults[name]
		switch {
		case name == "run_id":
			o.row[i+1] = run // as its children have it, whose times are asked for by it
		case state == nil, state[i].Class == mapping.Null:
			o.row[i+1] = stand
		case stand.Class != mapping.Null && mapping.TextKeyFlaw(state[i])&mapping.TextTooLong != 0:
			o.row[i+1] = stand // there is an index on it
		default:
			o.row[i+1] = state[i]
		}
	}
	return o.row, nil
}

// Close implements rowReader.
func (o *stubRuns) Close() { o.missing.Close() }
