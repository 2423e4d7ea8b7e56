package mapping

// TimestampFallback is where else a time may be told: a column of the same run's rows
// in some table.
type TimestampFallback struct {
	Table, Column string
	Latest        bool // of several the latest counts, not the earliest
}

// TimestampFallbacks gives, by table.column, where to look for a time that neither
// the cell nor a column of the same meaning tells; best first. What is left
// after that is the time at which the file was written.
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

// runFallbacks is what tells the time of a run's child.
var runFallbacks = []TimestampFallback{
	{Table: "workflow_state", Column: "updated_at"},
	{Table: Runs, Column: "updated_at"}, {Table: Runs, Column: "end_time"},
	{Table: Runs, Column: "created_at"}, {Table: Runs, Column: "start_time"},
}
