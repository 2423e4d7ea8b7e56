package transfer

import (
	"context"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// orphans gives a row of runs for every run_id that children in the file have
// and runs in PostgreSQL will not: what Flujo inserts when it is given a span
// of a run that it does not know, with what workflow_state tells of it.
type orphans struct {
	ctx      context.Context
	r        *reading
	missing  *source.Rows
	aside    []mapping.Value // run_ids of runs without a place
	row      []mapping.Value // of runs, as mapping.WholePlan has it
	columns  []string
	children []string
	made     map[string]bool // of the keys, those that another run_id may become too
	stated   int64           // rows that workflow_state told something of
}

// placeholders are the values that Flujo gives such a run.
var placeholders = map[string]mapping.Value{
	"pipeline_id":      mapping.TextValue("unknown"),
	"pipeline_name":    mapping.TextValue("unknown"),
	"pipeline_version": mapping.TextValue("latest"),
	"status":           mapping.TextValue("running"),
	"total_steps":      mapping.IntegerValue(0),
}

// loadOrphans adds the rows of runs that children need.
func (r *reading) loadOrphans(ctx context.Context, row *report.Table) error {
	var children []string
	for i := range r.layout.Plans {
		if p := &r.layout.Plans[i]; p.InFile && p.Table.ChildOf != "" && p.Position("run_id") >= 0 {
			children = append(children, p.Table.Name)
		}
	}
	if len(children) == 0 {
		return nil
	}
	plan := mapping.WholePlan(mapping.Runs)
	converter := r.converter(ctx, plan)
	converter.Aside = nil // rowids of the file mean nothing here
	o := &orphans{}
	done := &tuples{each: func(int64, int64) {}, derived: true}
	sent, err := r.load(ctx, converter, func() (rowReader, error) {
		missing, err := r.snapshot.RunsMissing(ctx, children)
		if err != nil {
			return nil, err
		}
		*o = orphans{ctx: ctx, r: r, missing: missing, aside: r.asideRuns, columns: plan.Columns, children: children,
			row: make([]mapping.Value, len(plan.Columns)+1), made: map[string]bool{}}
		return o, nil
	}, done)
	if err != nil {
		return err
	}
	if made := done.read - done.aside; made > 0 {
		row.Derived, row.Bytes = made, row.Bytes+sent
		r.found.Derived = append(r.found.Derived, report.Derived{
			Table: mapping.Runs, Rows: made, From: "workflow_state", Count: o.stated,
			Why: "rows of other tables belong to runs that the file does not have, and Flujo's PostgreSQL tables require them",
		})
	}
	return nil
}

// Next implements rowReader.
func (o *orphans) Next() ([]mapping.Value, error) {
	for {
		run, err := o.next()
		if err != nil {
			return nil, err
		}
		if needed, err := o.needed(run); err != nil || needed {
			if err != nil {
				return nil, err
			}
			return o.fill(run)
		}
	}
}

// next gives the next run_id of a child that may have no run: after those of
// runs without a place the ones that the file does not have at all.
func (o *orphans) next() (mapping.Value, error) {
	for len(o.aside) > 0 {
		run := o.aside[0]
		o.aside = o.aside[1:]
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

func (o *orphans) inChildren(run mapping.Value) (bool, error) {
	for _, table := range o.children {
		if found, err := o.r.snapshot.Holds(o.ctx, table, "run_id", run); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// needed reports whether the row is still to be made that a run_id needs in
// PostgreSQL, where several become one.
func (o *orphans) needed(run mapping.Value) (bool, error) {
	key, plain := mapping.KeyText(run), isPlain(run)
	if mapping.TextKeyFlaw(run) != 0 || o.made[key] {
		return false, nil
	}
	lost := o.r.lostRuns[key]
	if !lost {
		if held, err := o.r.held(o.ctx, mapping.Runs, key, plain); err != nil || held {
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

// fill makes the row of a run.
func (o *orphans) fill(run mapping.Value) ([]mapping.Value, error) {
	key := mapping.TextValue(mapping.KeyText(run))
	state, err := o.r.snapshot.Row(o.ctx, "workflow_state", "run_id", run, o.columns)
	if err == nil && state == nil && !isPlain(run) {
		state, err = o.r.snapshot.Row(o.ctx, "workflow_state", "run_id", key, o.columns)
	}
	if err != nil {
		return nil, err
	}
	if state != nil {
		o.stated++
	}
	clear(o.row)
	for i, name := range o.columns {
		stand := placeholders[name]
		switch {
		case name == "run_id":
			o.row[i+1] = run // as its children have it, whose times are asked for by it
		case state == nil, state[i].Class == mapping.Null:
			o.row[i+1] = stand
		case stand.Class != mapping.Null && mapping.TextKeyFlaw(state[i])&mapping.TooLong != 0:
			o.row[i+1] = stand // there is an index on it
		default:
			o.row[i+1] = state[i]
		}
	}
	return o.row, nil
}

// Close implements rowReader.
func (o *orphans) Close() { o.missing.Close() }
