// Package bench generates state files for the benchmarks.
package bench

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// The number of rows of a run in the generated file. With them a run takes about
// runBytes of the file.
const (
	stepsPerRun = 8
	spansPerRun = 10
	runBytes    = 50_000
)

// schema has the tables of Flujo 0.6 that the benchmarks need.
const schema = `
CREATE TABLE runs (run_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, pipeline_name TEXT NOT NULL,
	pipeline_version TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
	execution_time_ms INTEGER, memory_usage_mb REAL, total_steps INTEGER DEFAULT 0, error_message TEXT,
	end_time TEXT, total_cost REAL, final_context_blob TEXT);
CREATE TABLE workflow_state (run_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, pipeline_name TEXT NOT NULL,
	pipeline_version TEXT NOT NULL, current_step_index INTEGER NOT NULL, pipeline_context TEXT,
	last_step_output TEXT, step_history TEXT, status TEXT NOT NULL, created_at TEXT NOT NULL,
	updated_at TEXT NOT NULL, total_steps INTEGER DEFAULT 0, error_message TEXT, execution_time_ms INTEGER,
	memory_usage_mb REAL, metadata TEXT, is_background_task INTEGER DEFAULT 0, parent_run_id TEXT, task_id TEXT,
	background_error TEXT);
CREATE TABLE steps (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, step_name TEXT NOT NULL,
	step_index INTEGER NOT NULL, status TEXT NOT NULL, output TEXT, raw_response TEXT, cost_usd REAL,
	token_counts INTEGER, execution_time_ms INTEGER, created_at TEXT NOT NULL,
	FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE);
CREATE TABLE traces (run_id TEXT PRIMARY KEY, trace_data TEXT NOT NULL, created_at TEXT NOT NULL,
	FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE);
CREATE TABLE spans (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, span_id TEXT NOT NULL,
	parent_span_id TEXT, name TEXT NOT NULL, start_time REAL NOT NULL, end_time REAL, status TEXT NOT NULL,
	attributes TEXT, created_at TEXT NOT NULL, FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE);
CREATE TABLE evaluations (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, step_name TEXT,
	score REAL NOT NULL, feedback TEXT, metadata TEXT, created_at TEXT NOT NULL DEFAULT (DATETIME('now')),
	FOREIGN KEY (run_id) REFERENCES runs(run_id) ON DELETE CASCADE);
CREATE TABLE system_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE INDEX idx_runs_status ON runs(status);
CREATE INDEX idx_runs_pipeline_id ON runs(pipeline_id);
CREATE INDEX idx_runs_created_at ON runs(created_at);
CREATE INDEX idx_runs_pipeline_name ON runs(pipeline_name);
CREATE INDEX idx_workflow_state_status ON workflow_state(status);
CREATE INDEX idx_workflow_state_pipeline_id ON workflow_state(pipeline_id);
CREATE INDEX idx_workflow_state_parent_run_id ON workflow_state(parent_run_id);
CREATE INDEX idx_workflow_state_created_at ON workflow_state(created_at);
CREATE INDEX idx_steps_run_id ON steps(run_id);
CREATE INDEX idx_steps_step_index ON steps(step_index);
CREATE INDEX idx_spans_run_id ON spans(run_id);
CREATE INDEX idx_spans_parent_span ON spans(parent_span_id);
CREATE INDEX idx_evaluations_run_id ON evaluations(run_id);
CREATE INDEX idx_evaluations_created_at ON evaluations(created_at);
PRAGMA user_version = 1;
`

// Generate creates a state file of about the given number of bytes at path,
// which must not exist. It has the runs that Flujo 0.6 would write, mostly
// JSON. In each run, long cells have at least cell bytes, beginning with those
// that have no GIN index. The same arguments generate the same rows. Another
// seed generates other runs, and the same keys of system_state.
func Generate(path string, bytes, cell int64, long int, seed uint64) error {
	db, err := sql.Open(
		"sqlite",
		"file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(off)&_pragma=cache_size(-65536)",
	)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(schema); err != nil {
		return fmt.Errorf("create the tables: %w", err)
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	w := &writer{
		tx:         tx,
		cell:       int(cell),
		perRun:     long,
		rand:       rand.New(rand.NewPCG(seed, 2)),
		statements: map[string]*sql.Stmt{},
	}
	for n := range max(bytes/(runBytes+cell*int64(long)), 1) {
		w.run(int(n))
	}
	for n := range 5 {
		w.insert(
			"system_state",
			fmt.Sprintf("tracker:%d", n),
			fmt.Sprintf(`{"k":%d,"cursor":"%s"}`, n, w.id()),
			w.at(0),
		)
	}
	if w.err != nil {
		return w.err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	return db.Close()
}

// Rows returns the number of rows in the tables of a state file.
func Rows(path string) (n int64, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	for _, table := range []string{"runs", "workflow_state", "steps", "traces", "spans", "evaluations",
		"system_state"} {
		var rows int64
		if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&rows); err != nil {
			return 0, err
		}
		n += rows
	}
	return n, nil
}

// writer inserts rows until the first error, which it stores in err.
type writer struct {
	tx         *sql.Tx
	cell       int // minimum number of bytes of a long cell
	perRun     int // number of long cells in each run
	left       int // number of long cells that the current run still gets
	rand       *rand.Rand
	statements map[string]*sql.Stmt
	begin      time.Time // of the current run
	err        error
}

func (w *writer) insert(table string, cells ...any) {
	if w.err != nil {
		return
	}
	s := w.statements[table]
	if s == nil {
		s, w.err = w.tx.Prepare(fmt.Sprintf("INSERT INTO %s VALUES (?%s)", table, strings.Repeat(", ?", len(cells)-1)))
		if w.err != nil {
			return
		}
		w.statements[table] = s
	}
	_, w.err = s.Exec(cells...)
}

func (w *writer) run(n int) {
	w.left = w.perRun
	w.begin = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC).Add(time.Duration(n) * 7 * time.Second)
	id := w.id()
	status := pick(w.rand, "completed", "completed", "completed", "completed", "failed", "paused")
	pipeline := pick(w.rand, "pubmed_query_generation", "evidence_extraction", "variant_summary")
	w.insert(
		"runs",
		id,
		pipeline,
		strings.ReplaceAll(pipeline, "_", " "),
		"1.0",
		status,
		w.at(0),
		w.at(60),
		w.rand.IntN(60000),
		w.rand.Float64()*300,
		stepsPerRun,
		nil,
		nil,
		nil,
		nil,
	)
	w.insert(
		"workflow_state",
		id,
		pipeline,
		strings.ReplaceAll(pipeline, "_", " "),
		"1.0",
		stepsPerRun,
		fmt.Sprintf(`{"run_id":"%s","gene":"%s","initial_prompt":"%s","scores":[0.1,1e-7,%d,-0.0,%v],"documents":%s}`,
			id, w.gene(), w.text(60), w.rand.Uint64(), w.rand.Float64(), w.documents(4)),
		w.long(
			w.output(),
		),
		w.long("["+w.output()+","+w.output()+"]"),
		status,
		w.at(0),
		w.at(60),
		stepsPerRun,
		w.longOrNone(),
		w.rand.IntN(60000),
		w.rand.Float64()*300,
		`{"source":"pubmed","attempt":1}`,
		0,
		nil,
		nil,
		w.longOrNone(),
	)
	for i := range stepsPerRun {
		var raw any
		if i%2 == 0 {
			raw = w.long(fmt.Sprintf(
				`{"model":"gpt-4o-mini","usage":{"prompt_tokens":%d,"completion_tokens":%d},"choices":[{"text":"%s"}]}`,
				w.rand.IntN(4000),
				w.rand.IntN(1000),
				w.text(150),
			))
		}
		output := w.output()
		if i == 3 {
			output = "null"
		}
		w.insert(
			"steps",
			nil,
			id,
			pick(w.rand, "plan_search", "generate_query", "validate_query", "summarise"),
			i,
			"completed",
			w.long(output),
			raw,
			w.rand.Float64()/1000,
			w.rand.IntN(5000),
			w.rand.IntN(9000),
			w.at(float64(i)*5+w.rand.Float64()),
		)
	}
	w.spans(id)
	w.insert(
		"evaluations",
		nil,
		id,
		"generate_query",
		w.rand.Float64(),
		"Good coverage of "+w.text(4),
		`{"judge":"gpt-4o"}`,
		w.begin.Format(time.DateTime),
	)
}

func (w *writer) spans(run string) {
	root := w.id()[:16]
	start := float64(w.begin.Unix()) + w.rand.Float64()
	for i := range spansPerRun {
		id, parent := w.id()[:16], any(root)
		if i == 0 {
			id, parent = root, nil
		}
		w.insert(
			"spans",
			nil,
			run,
			id,
			parent,
			pick(w.rand, "pipeline_run", "plan_search", "agent_call"),
			start+float64(i),
			start+float64(i)+w.rand.Float64(),
			"completed",
			fmt.Sprintf(
				`{"flujo.step.name":"plan_search","flujo.attempt":%d,"latency":%v,"prompt":"%s"}`,
				i,
				w.rand.Float64(),
				w.text(20),
			),
			w.begin.Format(time.DateTime),
		)
	}
}

func (w *writer) id() string {
	return fmt.Sprintf(
		"%08x-%04x-4%03x-%04x-%012x",
		w.rand.Uint32(),
		w.rand.IntN(1<<16),
		w.rand.IntN(1<<12),
		0x8000+w.rand.IntN(1<<14),
		w.rand.Uint64()>>16,
	)
}

// at returns the time that many seconds after the beginning of the run.
func (w *writer) at(seconds float64) string {
	return w.begin.Add(time.Duration(seconds * 1e9)).Format("2006-01-02T15:04:05.000000+00:00")
}

func (w *writer) gene() string { return pick(w.rand, "MED13", "MED13L", "CDK8", "BRCA1", "CCNC") }

// text returns n random words.
func (w *writer) text(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[w.rand.IntN(len(words))])
	}
	return b.String()
}

func (w *writer) output() string {
	return fmt.Sprintf(
		`{"query":"(\"%s\"[Gene]) AND \"%s\"[tiab]","confidence":%.4f,"terms":["%s","%s"],`+
			`"nested":{"depth":2,"flags":[true,false,null],"note":"line1\nline2\t\"quoted\""},"documents":%s}`,
		w.gene(),
		w.text(2),
		w.rand.Float64(),
		w.text(1),
		w.text(1),
		w.documents(3),
	)
}

// long returns cell, or a long cell instead if the run gets more of them.
func (w *writer) long(cell string) string {
	if w.left == 0 {
		return cell
	}
	w.left--
	var b strings.Builder
	b.WriteString(`{"documents":[` + w.output())
	for b.Len() < w.cell {
		b.WriteString("," + w.output())
	}
	b.WriteString("]}")
	return b.String()
}

// longOrNone returns a long cell if the run gets more of them, and NULL
// otherwise.
func (w *writer) longOrNone() any {
	if w.left == 0 {
		return nil
	}
	return w.long("")
}

func (w *writer) documents(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`{"pmid":%d,"title":"%s","abstract":"%s","score":%v,"mesh":["%s","%s"]}`,
			w.rand.IntN(40_000_000), w.text(9), w.text(90), w.rand.Float64(), w.text(1), w.text(2))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// words are the words of the generated texts. Some are not ASCII, as in the
// papers that Flujo's users read.
var words = strings.Fields(`the of and in with patients variants gene expression mediator complex subunit kinase module
	transcription regulation intellectual disability developmental delay congenital heart defects hypotonia cleft palate
	autism spectrum disorder de novo missense mutation loss-of-function haploinsufficiency phenotype genotype
	correlation exome sequencing cohort study clinical features dysmorphism speech seizures MRI findings protein domain
	structure binding affinity zebrafish mouse model knockout embryonic cardiac neural crest cells signalling pathway
	Wnt naïve β-catenin cyclin 心臓奇形 für p.Arg1899Ter c.5695C>T RNA polymerase II enhancer promoter
	chromatin looping review`)
