package mapping

// TimestampFallback is a column from which a missing timestamp is taken: that of the
// same run's rows in a table.
type TimestampFallback struct {
	Table, Column string
	Latest        bool // the latest of several rows is taken, not the earliest
}

// TimestampFallbacks are the fallbacks for a column, by table.column, best first.
// They are used if neither the cell nor a column of the row with the same meaning
// has a timestamp. If none of them has one, the time at which the state file was
// written is taken.
var TimestampFallbacks = map[string][]TimestampFallback{
	"runs.created_at": {
		{Table: "workflow_state", Column: "created_at"},
		{Table: "steps", Column: "created_at"}, {Table: "steps", Column: "start_time"},
		{Table: "spans", Column: "start_time"}, {Table: "spans", Column: "created_at"},
		{Table: "evaluations", Column: "created_at"}, {Table: Traces, Column: "created_at"},
		{Table: Runs, Column: "updated_at"}, {Table: Runs, Column: "end_time"},
	},
	"runs.updated_at": {
		{Table: "workflow_state", Column: "updated_at"},
		{Table: "steps", Column: "created_at", Latest: true}, {Table: "steps", Column: "end_time", Latest: true},
		{Table: "steps", Column: "start_time", Latest: true},
		{Table: "spans", Column: "end_time", Latest: true}, {Table: "spans", Column: "created_at", Latest: true},
		{Table: "evaluations", Column: "created_at", Latest: true}, {Table: Traces, Column: "created_at", Latest: true},
		{Table: Runs, Column: "created_at"}, {Table: Runs, Column: "start_time"},
	},
	"workflow_state.created_at": {
		{Table: Runs, Column: "created_at"}, {Table: Runs, Column: "start_time"},
		{Table: "steps", Column: "created_at"}, {Table: "spans", Column: "start_time"},
		{Table: "workflow_state", Column: "updated_at"},
	},
	"workflow_state.updated_at": {
		{Table: Runs, Column: "updated_at"}, {Table: Runs, Column: "end_time"},
		{Table: "steps", Column: "created_at", Latest: true}, {Table: "spans", Column: "end_time", Latest: true},
		{Table: "workflow_state", Column: "created_at"},
	},
	"steps.created_at":       runFallbacks,
	"spans.created_at":       runFallbacks,
	"evaluations.created_at": runFallbacks,
	"traces.created_at": append([]TimestampFallback{
		{Table: Spans, Column: "created_at", Latest: true}, {Table: Spans, Column: "end_time", Latest: true},
	}, runFallbacks...),
}

// runFallbacks are the fallbacks for created_at of a run's children.
var runFallbacks = []TimestampFallback{
	{Table: "workflow_state", Column: "updated_at"},
	{Table: Runs, Column: "updated_at"}, {Table: Runs, Column: "end_time"},
	{Table: Runs, Column: "created_at"}, {Table: Runs, Column: "start_time"},
}
