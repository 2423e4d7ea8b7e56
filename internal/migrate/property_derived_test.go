package migrate_test

import (
	"encoding/json"
	"slices"
)

// derivedRows returns the stored rows that are not in the file.
func (k *propertyCheck) derivedRows(table *propertyRows, stored map[string]propertyStored) map[string]propertyStored {
	rest := map[string]propertyStored{}
	inFile := map[string]bool{}
	for i := range table.rows {
		if f := &table.rows[i].outcome; !f.rejected {
			inFile[f.key] = true
		}
	}
	for key, row := range stored {
		if !inFile[key] {
			rest[key] = row
		}
	}
	return rest
}

// owners returns the keys of runs to which children refer; true if one of the children is accepted.
func (k *propertyCheck) owners() map[string]bool {
	owners := map[string]bool{}
	for _, table := range k.tables {
		reference := slices.ContainsFunc(table.spec.columns, func(c propertyColumn) bool { return c.reference })
		for i := range table.rows {
			run, ok := table.reference(&table.rows[i])
			if key, isKey := propertyKeyText(run); ok && isKey && reference {
				owners[key] = owners[key] || !table.rows[i].outcome.rejected
			}
		}
	}
	return owners
}

// checkDerivedRuns tests that each stub run has children, and that its columns are those of workflow_state or Flujo's
// defaults.
func (k *propertyCheck) checkDerivedRuns(derived map[string]propertyStored) {
	k.Helper()
	owners := k.owners()
	states := map[string][]*propertyRow{}
	var state *propertyRows
	for _, table := range k.tables {
		if table.spec.name == "workflow_state" {
			state = table
			for i := range table.rows {
				if run, ok := table.reference(&table.rows[i]); ok && run != nil {
					key, _ := propertyText(run)
					states[key] = append(states[key], &table.rows[i])
				}
			}
		}
	}
	for key, row := range derived {
		if _, owned := owners[key]; !owned {
			k.problem("got a stub run %q without children", key)
		}
		for _, column := range []string{"pipeline_id", "pipeline_name", "pipeline_version", "status"} {
			var may []string
			plain := false
			for _, s := range states[key] {
				if at := slices.Index(state.columns, column); at >= 0 && s.cells[at] != nil {
					text, _ := propertyText(s.cells[at])
					may = append(may, text)
					plain = state.cell(s, 0) == propertyCell(key)
				}
			}
			if len(states[key]) != 1 || len(may) != 1 || len(may[0]) > propertyIndexed || !plain {
				may = append(may, map[string]string{"pipeline_id": "unknown", "pipeline_name": "unknown",
					"pipeline_version": "latest", "status": "running"}[column])
			}
			if got := string(*row[column]); !slices.Contains(may, got) {
				k.problem("stub run %q: got %s %q, want one of %q", key, column, got, may)
			}
		}
	}
}

// checkDerivedTraces tests that each run with spans and without a trace has a derived trace if Flujo would return one.
func (k *propertyCheck) checkDerivedTraces(derived map[string]propertyStored) {
	k.Helper()
	traced := map[string]bool{}
	spans := map[string]map[string]string{} // span_id → parent, by run
	rejected := map[string]bool{}           // runs with a rejected span or a changed key
	for _, table := range k.tables {
		for i := range table.rows {
			row := &table.rows[i]
			run, ok := table.reference(row)
			key, isKey := propertyKeyText(run)
			if !ok || !isKey {
				continue
			}
			switch table.spec.name {
			case "traces":
				traced[key] = true
			case "spans":
				if spans[key] == nil {
					spans[key] = map[string]string{}
				}
				id, _ := propertyText(row.cells[slices.Index(table.columns, "span_id")])
				parent := ""
				if at := slices.Index(table.columns, "parent_span_id"); at >= 0 {
					parent, _ = propertyText(row.cells[at])
				}
				_, twice := spans[key][id]
				spans[key][id] = parent
				rejected[key] = rejected[key] || row.outcome.rejected || twice || run != propertyCell(key)
			}
		}
	}
	for key, ids := range spans {
		rooted := false
		for _, parent := range ids {
			_, known := ids[parent]
			rooted = rooted || parent == "" || !known
		}
		row, made := derived[key]
		if !made {
			if rooted && !traced[key] && !rejected[key] {
				k.problem("run %q: got no derived trace, want one of %d spans", key, len(ids))
			}
			continue
		}
		if traced[key] && !rejected[key] {
			k.problem("run %q: got a derived trace, want the trace of the file", key)
		}
		var tree propertySpan
		if err := json.Unmarshal((*row["trace_data"])[1:], &tree); err != nil {
			k.problem("trace of run %q: %v", key, err)
		}
		k.checkTree(key, &tree, ids, map[string]bool{})
	}
	for key := range derived {
		if spans[key] == nil {
			k.problem("run %q: got a derived trace, want none since it has no spans", key)
		}
	}
}

// propertySpan is a span of a derived trace.
type propertySpan struct {
	ID       string         `json:"span_id"`
	Parent   *string        `json:"parent_span_id"`
	Children []propertySpan `json:"children"`
}

// checkTree tests that the spans of a derived trace belong to the run, occur once, and are under their parents.
func (k *propertyCheck) checkTree(run string, span *propertySpan, ids map[string]string, seen map[string]bool) {
	k.Helper()
	if _, known := ids[span.ID]; !known || seen[span.ID] {
		k.problem("trace of run %q: got span %q, which is known %v and a repetition %v", run, span.ID, known,
			seen[span.ID])
		return
	}
	seen[span.ID] = true
	for i := range span.Children {
		child := &span.Children[i]
		if child.Parent == nil || *child.Parent != span.ID {
			k.problem("trace of run %q: got span %q under %q", run, child.ID, span.ID)
		}
		k.checkTree(run, child, ids, seen)
	}
}
