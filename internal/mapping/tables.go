// Package mapping describes Flujo's state and converts it. It has Flujo's tables and
// columns, the file formats of state files, the conversion of cells in both
// directions, row encodings and digests, timestamps and traces. It does no I/O.
package mapping

// Kind is the kind of a column. It determines the PostgreSQL type, and how a SQLite
// value is converted.
type Kind uint8

// The kinds of Flujo's columns, with their PostgreSQL types.
const (
	KindText   Kind = iota // text
	KindInt                // integer (int4)
	KindFloat4             // real
	KindFloat8             // double precision
	KindJSON               // jsonb
	KindTime               // timestamp with time zone
	KindBool               // boolean
	KindVector             // pgvector's vector(1536)
	KindInt8               // bigint, only in flujo-port's own tables
	KindBytes              // bytea, only in flujo-port's own tables
)

// VectorSize is the dimension of a memory's vector that Flujo's migration 5 declares.
const VectorSize = 1536

// LongestVector is the maximum dimension of pgvector's type (its README, "Vector
// Type").
const LongestVector = 16000

// Type returns the PostgreSQL type as format_type() prints it. For KindVector it
// does not include the extension's schema.
func (k Kind) Type() string {
	return [...]string{
		KindText: "text", KindInt: "integer", KindFloat4: "real", KindFloat8: "double precision",
		KindJSON: "jsonb", KindTime: "timestamp with time zone", KindBool: "boolean", KindVector: "vector(1536)",
		KindInt8: "bigint", KindBytes: "bytea",
	}[k]
}

// Column is a column of one of Flujo's PostgreSQL tables.
type Column struct {
	Name    string
	Kind    Kind
	NotNull bool
	Serial  bool   // int4 whose default is the sequence TABLE_COLUMN_seq
	Default string // SQL text of the default; empty without one
}

// Index is a secondary index of one of Flujo's PostgreSQL tables.
type Index struct {
	Name    string
	Column  string
	Method  string // access method: btree, gin, hnsw
	OpClass string // operator class; empty for the method's default
}

// Table is one of Flujo's PostgreSQL tables.
type Table struct {
	Name       string
	Columns    []Column
	PrimaryKey string
	ChildOf    string // the table that run_id references, ON DELETE CASCADE; empty without a foreign key
	Indexes    []Index
}

// Serial returns the column whose default is a sequence, or "" if there is none.
func (t *Table) Serial() string {
	for _, c := range t.Columns {
		if c.Serial {
			return c.Name
		}
	}
	return ""
}

// Unit returns the kind of the units that the table's rows belong to, and the column with
// the unit's key. A unit is what a merge takes as a whole from one side: a run with its
// rows in all tables, or a row of a table that does not belong to runs.
func (t *Table) Unit() (kind, column string) {
	for _, c := range t.Columns {
		if c.Name == "run_id" {
			return Runs, c.Name
		}
	}
	return t.Name, t.PrimaryKey
}

// ForeignKeyName returns the name of the foreign key of a table with a parent, which
// is the name that PostgreSQL assigns.
func (t *Table) ForeignKeyName() string { return t.Name + "_run_id_fkey" }

// Names of tables that are treated specially.
const (
	Runs     = "runs"
	Spans    = "spans"
	Traces   = "traces"
	Memories = "memories"
	Versions = "flujo_schema_versions"
)

func textColumn(name string) Column      { return Column{Name: name, Kind: KindText} }
func integerColumn(name string) Column   { return Column{Name: name, Kind: KindInt} }
func real4Column(name string) Column     { return Column{Name: name, Kind: KindFloat4} }
func real8Column(name string) Column     { return Column{Name: name, Kind: KindFloat8} }
func jsonColumn(name string) Column      { return Column{Name: name, Kind: KindJSON} }
func timestampColumn(name string) Column { return Column{Name: name, Kind: KindTime} }
func notNull(c Column) Column            { c.NotNull = true; return c }
func serialColumn(name string) Column {
	return Column{Name: name, Kind: KindInt, NotNull: true, Serial: true}
}
func withDefault(c Column, def string) Column { c.Default = def; return c }

// Tables are the tables of Flujo's state in PostgreSQL, parents first, as Flujo
// 0.6.1 to 0.6.11 creates them (its migrations 1 to 5). It must not be modified.
var Tables = []Table{
	{
		Name: Runs, PrimaryKey: "run_id",
		Columns: []Column{
			notNull(textColumn("run_id")),
			notNull(textColumn("pipeline_id")),
			notNull(textColumn("pipeline_name")),
			notNull(textColumn("pipeline_version")),
			notNull(textColumn("status")),
			notNull(timestampColumn("created_at")),
			notNull(timestampColumn("updated_at")),
			integerColumn("execution_time_ms"),
			real4Column("memory_usage_mb"),
			withDefault(integerColumn("total_steps"), "0"),
			textColumn("error_message"),
		},
		Indexes: []Index{
			btree("idx_runs_status", "status"),
			btree("idx_runs_pipeline_id", "pipeline_id"),
			btree("idx_runs_created_at", "created_at"),
			btree("idx_runs_pipeline_name", "pipeline_name"),
		},
	},
	{
		Name: "workflow_state", PrimaryKey: "run_id",
		Columns: []Column{
			notNull(textColumn("run_id")),
			notNull(textColumn("pipeline_id")),
			notNull(textColumn("pipeline_name")),
			notNull(textColumn("pipeline_version")),
			notNull(integerColumn("current_step_index")),
			jsonColumn("pipeline_context"),
			jsonColumn("last_step_output"),
			jsonColumn("step_history"),
			notNull(textColumn("status")),
			notNull(timestampColumn("created_at")),
			notNull(timestampColumn("updated_at")),
			withDefault(integerColumn("total_steps"), "0"),
			textColumn("error_message"),
			integerColumn("execution_time_ms"),
			real4Column("memory_usage_mb"),
			jsonColumn("metadata"),
			withDefault(Column{Name: "is_background_task", Kind: KindBool}, "false"),
			textColumn("parent_run_id"),
			textColumn("task_id"),
			textColumn("background_error"),
		},
		Indexes: []Index{
			btree("idx_workflow_state_status", "status"),
			btree("idx_workflow_state_pipeline_id", "pipeline_id"),
			btree("idx_workflow_state_parent_run_id", "parent_run_id"),
			btree("idx_workflow_state_created_at", "created_at"),
			{Name: "idx_runs_context_gin", Column: "pipeline_context", Method: "gin"},
			{Name: "idx_workflow_state_metadata_gin", Column: "metadata", Method: "gin"},
		},
	},
	{
		Name: "steps", PrimaryKey: "id", ChildOf: Runs,
		Columns: []Column{
			serialColumn("id"),
			notNull(textColumn("run_id")),
			notNull(textColumn("step_name")),
			notNull(integerColumn("step_index")),
			notNull(textColumn("status")),
			jsonColumn("output"),
			jsonColumn("raw_response"),
			real4Column("cost_usd"),
			integerColumn("token_counts"),
			integerColumn("execution_time_ms"),
			notNull(timestampColumn("created_at")),
		},
		Indexes: []Index{btree("idx_steps_run_id", "run_id"), btree("idx_steps_step_index", "step_index")},
	},
	{
		Name: Spans, PrimaryKey: "id", ChildOf: Runs,
		Columns: []Column{
			serialColumn("id"),
			notNull(textColumn("run_id")),
			notNull(textColumn("span_id")),
			textColumn("parent_span_id"),
			notNull(textColumn("name")),
			notNull(real8Column("start_time")),
			real8Column("end_time"),
			notNull(textColumn("status")),
			jsonColumn("attributes"),
			notNull(timestampColumn("created_at")),
		},
		Indexes: []Index{btree("idx_spans_run_id", "run_id"), btree("idx_spans_parent_span", "parent_span_id")},
	},
	{
		Name: Traces, PrimaryKey: "run_id", ChildOf: Runs,
		Columns: []Column{
			notNull(textColumn("run_id")),
			notNull(jsonColumn("trace_data")),
			notNull(timestampColumn("created_at")),
		},
	},
	{
		Name: "evaluations", PrimaryKey: "id", ChildOf: Runs,
		Columns: []Column{
			serialColumn("id"),
			notNull(textColumn("run_id")),
			textColumn("step_name"),
			notNull(real8Column("score")),
			textColumn("feedback"),
			jsonColumn("metadata"),
			withDefault(notNull(timestampColumn("created_at")), "now()"),
		},
		Indexes: []Index{
			btree("idx_evaluations_run_id", "run_id"),
			btree("idx_evaluations_created_at", "created_at"),
		},
	},
	{
		Name: "system_state", PrimaryKey: "key",
		Columns: []Column{
			notNull(textColumn("key")),
			notNull(jsonColumn("value")),
			withDefault(notNull(timestampColumn("updated_at")), "now()"),
		},
	},
	{
		Name: Memories, PrimaryKey: "id",
		Columns: []Column{
			notNull(textColumn("id")),
			{Name: "vector", Kind: KindVector},
			jsonColumn("payload"),
			jsonColumn("metadata"),
			withDefault(timestampColumn("created_at"), "now()"),
		},
		Indexes: []Index{
			{Name: "idx_memories_embedding", Column: "vector", Method: "hnsw", OpClass: "vector_cosine_ops"},
		},
	},
}

// VersionsTable is the table in which Flujo records which of its migrations have
// run. It exists in PostgreSQL only, and holds no state.
var VersionsTable = Table{
	Name: Versions, PrimaryKey: "version",
	Columns: []Column{
		notNull(integerColumn("version")),
		withDefault(notNull(timestampColumn("applied_at")), "now()"),
	},
}

func btree(name, column string) Index { return Index{Name: name, Column: column, Method: "btree"} }

// SchemaVersions are the migrations of Flujo that are recorded as run. Migrations 3
// (extension and memories) and 5 (its repair) are recorded even without pgvector,
// because Flujo 0.6.11 does not start if it cannot run them.
var SchemaVersions = []int{1, 2, 3, 4, 5}

// MigrationLock is the key of the advisory lock (0xF1F0C0DE) that Flujo holds while
// it runs its migrations.
const MigrationLock int64 = 4059087070

// TableOf returns Flujo's table of that name, or nil.
func TableOf(name string) *Table {
	for i := range Tables {
		if Tables[i].Name == name {
			return &Tables[i]
		}
	}
	return nil
}
