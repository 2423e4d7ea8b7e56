package extract_test

import (
	"fmt"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// testRow is a row of a state file, rejected or accepted.
type testRow struct {
	table      string
	rowid      int64
	given      flujotest.Cells
	reason     string            // why the row is rejected; "" if it is accepted
	ownReasons map[string]string // reasons of changed cells, by column
}

// incompressible returns a text of n bytes that PostgreSQL cannot compress.
func incompressible(n int) string {
	var b strings.Builder
	state := uint32(1)
	for b.Len() < n {
		state = state*1664525 + 1013904223
		fmt.Fprintf(&b, "%08x", state)
	}
	return b.String()[:n]
}

// rejectedRows holds rows of every table that are rejected for different reasons, and accepted rows that refer to
// them.
var rejectedRows = []testRow{
	{table: "runs", rowid: 1, given: flujotest.Cells{"run_id": "good", "end_time": "soon", "error_message": "a\x00"},
		ownReasons: map[string]string{"end_time": "unmapped-column", "error_message": "nul-removed"}},
	{table: "runs", rowid: 2, given: flujotest.Cells{"run_id": nil}, reason: "null-key"},
	{table: "runs", rowid: 3, given: flujotest.Cells{"run_id": nil, "status": nil}, reason: "null-key+missing-value"},
	{
		table:      "runs",
		rowid:      4,
		given:      flujotest.Cells{"run_id": "good\x00"},
		reason:     "nul-in-key",
		ownReasons: map[string]string{"run_id": "nul-removed+nul-in-key"},
	},
	{
		table:      "runs",
		rowid:      5,
		given:      flujotest.Cells{"run_id": "nul\x00"},
		reason:     "nul-in-key",
		ownReasons: map[string]string{"run_id": "nul-removed+nul-in-key"},
	},
	{
		table:      "runs",
		rowid:      6,
		given:      flujotest.Cells{"run_id": []byte("good"), "total_cost": 2.5},
		reason:     "duplicate-key",
		ownReasons: map[string]string{"total_cost": "unmapped-column"},
	},
	{
		table:      "runs",
		rowid:      7,
		given:      flujotest.Cells{"run_id": "bad \xff"},
		ownReasons: map[string]string{"run_id": "invalid-utf8"},
	},
	{
		table:      "runs",
		rowid:      8,
		given:      flujotest.Cells{"run_id": "bad \xfe"},
		reason:     "duplicate-key",
		ownReasons: map[string]string{"run_id": "invalid-utf8"},
	},
	{
		table:      "runs",
		rowid:      9,
		given:      flujotest.Cells{"run_id": []byte("bad \xff")},
		reason:     "duplicate-key",
		ownReasons: map[string]string{"run_id": "invalid-utf8"},
	},
	{
		table:      "runs",
		rowid:      10,
		given:      flujotest.Cells{"run_id": "lost", "pipeline_name": nil, "created_at": "", "total_steps": 1.5},
		reason:     "missing-value",
		ownReasons: map[string]string{"created_at": "time-inferred", "total_steps": "rounded"},
	},
	{
		table:  "runs",
		rowid:  11,
		given:  flujotest.Cells{"run_id": "lost with state", "status": nil},
		reason: "missing-value",
	},
	{
		table:  "runs",
		rowid:  12,
		given:  flujotest.Cells{"run_id": "lost and childless", "status": nil},
		reason: "missing-value",
	},
	{
		table:  "runs",
		rowid:  13,
		given:  flujotest.Cells{"run_id": "long", "pipeline_name": incompressible(3000)},
		reason: "text-too-long",
	},
	{table: "runs", rowid: 14, given: flujotest.Cells{"run_id": incompressible(9000)}, reason: "text-too-long"},
	{
		table: "runs",
		rowid: 15,
		given: flujotest.Cells{
			"run_id":        "almost long",
			"pipeline_name": incompressible(2690),
			"error_message": incompressible(100_000),
		},
	},
	{
		table: "workflow_state",
		rowid: 21,
		given: flujotest.Cells{
			"run_id":      "lost with state",
			"pipeline_id": "stated",
			"status":      "paused",
			"total_steps": int64(4),
		},
	},
	{
		table:  "workflow_state",
		rowid:  22,
		given:  flujotest.Cells{"run_id": "w1", "current_step_index": "many"},
		reason: "not-a-number",
	},
	{
		table:  "workflow_state",
		rowid:  23,
		given:  flujotest.Cells{"run_id": "w2", "current_step_index": 1e300},
		reason: "out-of-range",
	},
	{
		table: "workflow_state",
		rowid: 24,
		given: flujotest.Cells{
			"run_id":           "w3",
			"pipeline_id":      nil,
			"metadata":         "{",
			"background_error": []byte{0xff},
		},
		reason:     "missing-value",
		ownReasons: map[string]string{"metadata": "invalid-json", "background_error": "invalid-utf8"},
	},
	{table: "workflow_state", rowid: 25, given: flujotest.Cells{"run_id": nil}, reason: "null-key"},
	{
		table:  "workflow_state",
		rowid:  26,
		given:  flujotest.Cells{"run_id": "w4", "parent_run_id": incompressible(2691)},
		reason: "text-too-long",
	},
	{
		table:      "steps",
		rowid:      31,
		given:      flujotest.Cells{"run_id": "lost", "output": `"\u0000"`},
		ownReasons: map[string]string{"output": "nul-removed"},
	},
	{table: "steps", rowid: 32, given: flujotest.Cells{"run_id": "good", "step_index": nil}, reason: "missing-value"},
	{table: "steps", rowid: 33, given: flujotest.Cells{"run_id": nil}, reason: "missing-value"},
	{
		table:      "steps",
		rowid:      34,
		given:      flujotest.Cells{"run_id": "nul\x00"},
		reason:     "nul-in-key",
		ownReasons: map[string]string{"run_id": "nul-removed+nul-in-key"},
	},
	{
		table:      "steps",
		rowid:      35,
		given:      flujotest.Cells{"run_id": "bad \xff"},
		ownReasons: map[string]string{"run_id": "invalid-utf8"},
	},
	{table: "steps", rowid: 36, given: flujotest.Cells{"run_id": []byte("good")}},
	{table: "steps", rowid: 37, given: flujotest.Cells{"run_id": "long"}},
	{table: "steps", rowid: 38, given: flujotest.Cells{"run_id": incompressible(9000)}, reason: "text-too-long"},
	{table: "steps", rowid: 39, given: flujotest.Cells{"run_id": []byte{}}}, // "" is a key; NULL is not
	{
		table:  "spans",
		rowid:  41,
		given:  flujotest.Cells{"run_id": "good", "start_time": "early"},
		reason: "not-a-number",
	},
	{
		table:  "spans",
		rowid:  42,
		given:  flujotest.Cells{"run_id": "good", "start_time": nil, "name": nil},
		reason: "missing-value",
	},
	{table: "spans", rowid: 43, given: flujotest.Cells{"run_id": "good"}},
	{table: "spans", rowid: 44, given: flujotest.Cells{"run_id": nil}, reason: "missing-value"},
	{table: "spans", rowid: 45, given: flujotest.Cells{"run_id": []byte{}}},
	{table: "traces", rowid: 51, given: flujotest.Cells{"run_id": "good"}},
	{
		table:      "traces",
		rowid:      52,
		given:      flujotest.Cells{"run_id": []byte("good"), "trace_data": "{"},
		reason:     "duplicate-key",
		ownReasons: map[string]string{"trace_data": "invalid-json"},
	},
	{
		table:  "traces",
		rowid:  53,
		given:  flujotest.Cells{"run_id": "lost with state", "trace_data": nil},
		reason: "missing-value",
	},
	{table: "evaluations", rowid: 61, given: flujotest.Cells{"run_id": "good", "score": nil}, reason: "missing-value"},
	{
		table:  "evaluations",
		rowid:  62,
		given:  flujotest.Cells{"run_id": "good", "score": []byte{1}},
		reason: "not-a-number",
	},
	{table: "evaluations", rowid: 63, given: flujotest.Cells{"run_id": "lost with state"}},
	{table: "system_state", rowid: 71, given: flujotest.Cells{"key": "k", "value": nil}, reason: "missing-value"},
	{
		table:  "system_state",
		rowid:  72,
		given:  flujotest.Cells{"key": nil, "value": nil},
		reason: "null-key+missing-value",
	},
	{table: "system_state", rowid: 73, given: flujotest.Cells{"key": "k2"}},
	{table: "system_state", rowid: 74, given: flujotest.Cells{"key": []byte("k2")}, reason: "duplicate-key"},
	{table: "system_state", rowid: 75, given: flujotest.Cells{"key": []byte("k3")}},
}

// key returns the key of the row in PostgreSQL, or the key that a rejected row would have.
func (r testRow) key() string {
	if flujotest.Keys[r.table] == "id" {
		return fmt.Sprint(r.rowid)
	}
	key := strings.ReplaceAll(string(flujotest.OriginalBytes(r.given[flujotest.Keys[r.table]])), "\x00", "")
	return strings.ReplaceAll(strings.ReplaceAll(key, "\xff", "\uFFFD"), "\xfe", "\uFFFD")
}

// cells returns all cells of the row as they are in the file.
func (r testRow) cells() flujotest.Cells {
	all := flujotest.Cells{}
	for column := range strings.SplitSeq(flujotest.Format06[r.table], ", ") {
		name, _, _ := strings.Cut(column, " ")
		all[name] = flujotest.Defaults[r.table][name]
		if v, ok := r.given[name]; ok {
			all[name] = v
		}
	}
	if flujotest.Keys[r.table] == "id" {
		all["id"] = r.rowid
	}
	return all
}

// wantFindings returns the original values, the findings and the numbers of rejected rows by table that a migration
// of rows must yield.
func wantFindings(rows []testRow) (originals []flujotest.Original, found []finding, rejected map[string]int64) {
	rejected = map[string]int64{}
	for _, r := range rows {
		if r.reason == "" {
			for column, kind := range r.ownReasons {
				originals = append(
					originals,
					flujotest.OriginalCell(r.table, r.key(), r.rowid, column, kind, r.given[column]),
				)
				found = append(found,
					finding{table: r.table, key: r.key(), rowid: r.rowid, column: column, reason: kind})
			}
			continue
		}
		rejected[r.table]++
		found = append(found, finding{table: r.table, key: r.key(), rowid: r.rowid, reason: r.reason, rejected: true})
		for column, cell := range r.cells() {
			originals = append(
				originals,
				flujotest.OriginalCell(
					r.table,
					r.key(),
					r.rowid,
					column,
					joinReasons(r.ownReasons[column], r.reason),
					cell,
				),
			)
		}
	}
	return originals, found, rejected
}

// joinReasons joins reasons in the order in which the program lists them, each once.
func joinReasons(kinds ...string) string {
	order := []string{
		"nul-removed",
		"invalid-utf8",
		"invalid-json",
		"number-as-text",
		"rounded",
		"text-as-number",
		"not-a-number",
		"out-of-range",
		"time-inferred",
		"unmapped-column",
		"null-key",
		"nul-in-key",
		"duplicate-key",
		"missing-value",
		"json-too-large",
		"text-too-long",
	}
	var all []string
	for _, kind := range order {
		for _, k := range kinds {
			if strings.Contains("+"+k+"+", "+"+kind+"+") {
				all = append(all, kind)
				break
			}
		}
	}
	return strings.Join(all, "+")
}

// writeRows writes a file with the rows and returns its path.
func writeRows(t testing.TB, rows []testRow) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	for _, r := range rows {
		given := r.cells()
		given["rowid"] = r.rowid
		f.Insert(r.table, given)
	}
	return f.Close()
}

// TestRejectedRows tests that rejected rows refuse a migration, with all of them listed, and that with --quarantine
// all their cells are stored and all other rows are migrated.
func TestRejectedRows(t *testing.T) {
	t.Parallel()
	path := writeRows(t, rejectedRows)
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	originals, wantFound, rejected := wantFindings(rejectedRows)
	for i, f := range wantFound {
		if f.column == "created_at" {
			wantFound[i].note = "steps.created_at"
		}
	}
	all := int64(0)
	for _, n := range rejected {
		all += n
	}
	for name, set := range map[string]func(o *migrate.Options){
		"plain": func(*migrate.Options) {}, "strict": func(o *migrate.Options) { o.Strict = true },
		"dry run": func(o *migrate.Options) { o.DryRun = true },
	} {
		o := flujotest.Options(t, path, url)
		set(&o)
		found := collectFindings(&o)
		result := wantRefused(t, o, plural(all, "row"), "rejected", "advice quarantine")
		wantReport(t, result, *found, wantFound)
		if got := flujotest.Leftovers(t, conn); got != "" {
			t.Errorf("%s: the migration left %s", name, got)
		}
	}
	o := flujotest.Options(t, path, url)
	o.Quarantine, o.Strict = true, true
	wantStrict(t, o, plural(all, "row"))
	o.Strict, o.DryRun = false, true
	flujotest.Migrate(t, o)
	if got := flujotest.Leftovers(t, conn); got != "" {
		t.Errorf("the dry run with --quarantine left %s", got)
	}
	o.DryRun = false
	found := collectFindings(&o)
	result := flujotest.Migrate(t, o)
	wantReport(t, result, *found, wantFound)
	flujotest.WantOriginals(t, conn, originals)
	for _, row := range result.Tables {
		rows := int64(0)
		for _, r := range rejectedRows {
			if r.table == row.Name {
				rows++
			}
		}
		if row.RowsRead != rows || row.Rejected != rejected[row.Name] || !row.Match {
			t.Errorf("%+v; want %d rows read, %d rejected", row, rows, rejected[row.Name])
		}
		want := fmt.Sprint(rows - rejected[row.Name] + row.Derived)
		if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo."+row.Name); got != want {
			t.Errorf("%s: got %s rows, want %s", row.Name, got, want)
		}
	}
	wantAcceptedRows(t, conn)
}

// wantAcceptedRows tests that the accepted rows are in PostgreSQL, and stub runs for those without a run.
func wantAcceptedRows(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for _, c := range []struct{ query, want string }{
		{"SELECT string_agg(run_id, '|' ORDER BY run_id) FROM flujo.runs WHERE pipeline_version = '1'",
			"almost long|bad \uFFFD|good|lost with state"},
		{"SELECT string_agg(run_id, '|' ORDER BY run_id) FROM flujo.runs WHERE pipeline_id = 'unknown'",
			"|long|lost"},
		{"SELECT string_agg(DISTINCT pipeline_version || status, '|') FROM flujo.runs WHERE pipeline_id = 'unknown'",
			"latestrunning"},
		{"SELECT format('%s %s %s', pipeline_id, status, total_steps) FROM flujo.runs WHERE run_id = 'lost with state'",
			"stated paused 4"},
		{"SELECT string_agg(id || ' ' || run_id, '|' ORDER BY id) FROM flujo.steps",
			"31 lost|35 bad \uFFFD|36 good|37 long|39 "},
		{"SELECT string_agg(id::text, '|' ORDER BY id) FROM flujo.spans", "43|45"},
		{"SELECT string_agg(run_id, '|' ORDER BY run_id) FROM flujo.traces", "|good"},
		{"SELECT string_agg(id::text, '|') FROM flujo.evaluations", "63"},
		{"SELECT string_agg(key, '|' ORDER BY key) FROM flujo.system_state", "k2|k3"},
		{"SELECT string_agg(run_id, '|' ORDER BY run_id) FROM flujo.workflow_state", "lost with state"},
		{"SELECT created_at = '2026-01-05T09:00:05+00:00' FROM flujo.runs WHERE run_id = 'lost'", "true"},
		{"SELECT count(*) FROM flujo.flujo_port_originals WHERE table_name = 'runs' AND row_key = '' " +
			"AND column_name = 'run_id'", "2"},
	} {
		if got := flujotest.One(t, conn, c.query); got != c.want {
			t.Errorf("%s: got %q, want %q", c.query, got, c.want)
		}
	}
}
