package extract

import (
	"context"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// stubRuns reads a row of runs for each run_id that rows of child tables have and
// PostgreSQL's runs would not. The row is the one that Flujo inserts for a span of
// an unknown run, completed from workflow_state. It implements rowReader.
type stubRuns struct {
	ctx        context.Context
	extraction *Extraction
	known      *known
	missing    *source.Rows
	rejected   []sqlite.Value // run_ids of rejected runs
	row        []sqlite.Value // of runs, as mapping.FullMapping has it
	columns    []string
	children   []string
	created    map[string]bool // created keys that several run_ids can have in PostgreSQL
	fromState  int64           // rows that were completed from workflow_state
}

// stubDefaults are the values of a run that Flujo inserts for an unknown run_id.
var stubDefaults = map[string]sqlite.Value{
	"pipeline_id":      sqlite.TextValue("unknown"),
	"pipeline_name":    sqlite.TextValue("unknown"),
	"pipeline_version": sqlite.TextValue("latest"),
	"status":           sqlite.TextValue("running"),
	"total_steps":      sqlite.IntegerValue(0),
}

// stubRunStage returns the stage of the stub runs: one for each run_id of a child row
// that no row of runs has. It returns none if the file has no such tables.
func (e *Extraction) stubRunStage(k *known) []stage {
	var children []string
	for i := range e.config.Format.Mappings {
		if p := &e.config.Format.Mappings[i]; p.InFile && p.Table.ChildOf != "" && p.Position("run_id") >= 0 {
			children = append(children, p.Table.Name)
		}
	}
	if len(children) == 0 {
		return nil
	}
	tm := mapping.FullMapping(mapping.Runs)
	var o *stubRuns
	return []stage{{
		mapping: tm,
		open: func(ctx context.Context) (rowReader, error) {
			missing, err := e.snapshot.MissingRuns(ctx, children)
			if err != nil {
				return nil, err
			}
			o = &stubRuns{
				ctx:        ctx,
				extraction: e,
				known:      k,
				missing:    missing,
				rejected:   k.rejected.ids,
				columns:    tm.Columns,
				children:   children,
				row:        make([]sqlite.Value, len(tm.Columns)+1),
				created:    map[string]bool{},
			}
			return o, nil
		},
		describe: func(f *report.Findings, l *loaded) {
			created := l.read - l.rejected
			if created == 0 {
				return
			}
			f.Derived = append(f.Derived, report.Derived{
				Table: mapping.Runs, Rows: created, From: "workflow_state", Count: o.fromState,
				Why: "rows of other tables refer to runs that the state file does not have, " +
					"and Flujo's PostgreSQL tables require them",
			})
		},
	}}
}

// Next implements rowReader.
func (o *stubRuns) Next() ([]sqlite.Value, error) {
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

// nextRun returns the next run_id that may need a stub run: first those of
// rejected runs with children, then those that the file does not have.
func (o *stubRuns) nextRun() (sqlite.Value, error) {
	for len(o.rejected) > 0 {
		run := o.rejected[0]
		o.rejected = o.rejected[1:]
		if found, err := o.inChildren(run); err != nil || found {
			return run, err
		}
	}
	row, err := o.missing.Next()
	if err != nil {
		return sqlite.Value{}, err
	}
	return row[0], nil
}

func (o *stubRuns) inChildren(run sqlite.Value) (bool, error) {
	for _, table := range o.children {
		if found, err := o.extraction.snapshot.Holds(o.ctx, table, "run_id", run); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// needed reports whether a run_id needs a stub run that was not created yet.
// Several run_ids may have the same key in PostgreSQL.
func (o *stubRuns) needed(run sqlite.Value) (bool, error) {
	key, plain := mapping.KeyText(run), isPlain(run)
	if mapping.TextKeyFlaw(run) != 0 || o.created[key] {
		return false, nil
	}
	lost := o.known.rejected.missing[key]
	if !lost {
		if held, err := o.extraction.hasKey(o.ctx, o.known, mapping.Runs, key, plain); err != nil || held {
			return false, err
		}
	}
	if !plain { // a child with the plain key is returned by nextRun too
		if found, err := o.inChildren(sqlite.TextValue(key)); err != nil || found {
			return false, err
		}
	}
	if lost || !plain {
		o.created[key] = true
	}
	return true, nil
}

// buildRow returns the stub run of a run_id.
func (o *stubRuns) buildRow(run sqlite.Value) ([]sqlite.Value, error) {
	key := sqlite.TextValue(mapping.KeyText(run))
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
		fallback := stubDefaults[name]
		switch {
		case name == "run_id":
			o.row[i+1] = run // unconverted: timestamp fallbacks look up its children by it
		case state == nil, state[i].Class == sqlite.Null:
			o.row[i+1] = fallback
		case fallback.Class != sqlite.Null && mapping.TextKeyFlaw(state[i])&mapping.TextTooLong != 0:
			o.row[i+1] = fallback // the column has an index, which limits its length
		default:
			o.row[i+1] = state[i]
		}
	}
	return o.row, nil
}

// Close implements rowReader.
func (o *stubRuns) Close() { o.missing.Close() }
