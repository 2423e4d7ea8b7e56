package restore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// restoreCases is the number of random files that TestRestoreRandom tests.
var restoreCases = pgtest.Count(4, 16)

// TestRestoreRandom tests restore after random writes to PostgreSQL: the file has the rows of PostgreSQL and, with a
// base, unchanged rows have the bytes of the base. Some keys are BLOBs, some children have no run, and traces are
// derived.
func TestRestoreRandom(t *testing.T) {
	t.Parallel()
	seed := flujotest.Seed(t)
	for n := range restoreCases {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			file := randomFile(t, random)
			url := pgtest.Database(t)
			o := flujotest.Options(t, file, url)
			o.Quarantine = true
			flujotest.Migrate(t, o)
			statements := randomWrites(random)
			flujotest.Exec(t, flujotest.Connect(t, url), append([]string{"SET search_path = flujo"}, statements...)...)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("FLUJO_PORT_TEST_SEED=%d, case %d:\n%s", seed, n, strings.Join(statements, "\n"))
				}
			})
			for _, base := range []string{"", file} {
				path, result := flujotest.Restore(t, url, base)
				wantSameState(t, path, url, base != "")
				for _, row := range result.Tables {
					if !row.Match || row.FromBase < 0 || row.Derived < 0 {
						t.Errorf("got %+v, want a match", row)
					}
				}
				if base == "" {
					continue
				}
				// Rows of steps that were not written in PostgreSQL have the bytes of the base.
				old, now := flujotest.Dump(t, file)["steps"], flujotest.Dump(t, path)["steps"]
				untouched := flujotest.One(t, flujotest.Connect(t, url),
					"SELECT coalesce(string_agg(id::text, ',' ORDER BY id), '') FROM flujo.steps "+
						"WHERE xmin::text::bigint IN "+
						"(SELECT jsonb_array_elements_text(t->'writers')::bigint FROM flujo.flujo_port_receipts, "+
						"jsonb_array_elements(tables) t WHERE t->>'name' = 'steps')")
				for id := range strings.SplitSeq(untouched, ",") {
					mark := "id=integer " + id + " "
					has := func(row string) bool { return strings.Contains(row, mark) }
					i, j := slices.IndexFunc(old, has), slices.IndexFunc(now, has)
					if id != "" && (i < 0 || j < 0 || old[i] != now[j]) {
						t.Errorf("step %s differs from the base", id)
					}
				}
			}
		})
	}
}

// wantSameState migrates a file to a new database and tests that it has the same rows as the database at url. It does
// not distinguish JSON null and NULL, as Flujo does not, and ignores traces that only the new database has, since they
// are derived.
func wantSameState(t testing.TB, file, url string, withBase bool) {
	t.Helper()
	other := pgtest.Database(t)
	o := flujotest.Options(t, file, other)
	o.Quarantine = true
	flujotest.Migrate(t, o)
	theirs, ours := flujotest.Connect(t, url), flujotest.Connect(t, other)
	for _, conn := range []string{url, other} {
		flujotest.Exec(t, flujotest.Connect(t, conn),
			"UPDATE flujo.steps SET output = NULL WHERE output = 'null'",
			"UPDATE flujo.workflow_state SET last_step_output = NULL WHERE last_step_output = 'null'")
	}
	runs := strings.Split(
		flujotest.One(t, theirs, "SELECT coalesce(string_agg(run_id, E'\\x01'), '') FROM flujo.traces"),
		"\x01",
	)
	for table := range flujotest.Tables {
		if table == "flujo_schema_versions" {
			continue
		}
		query := fmt.Sprintf("SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') FROM flujo.%s r", table)
		if table == "traces" {
			query += fmt.Sprintf(" WHERE run_id = ANY ('{%s}')", strings.Join(arrayElements(runs), ","))
		}
		if a, b := flujotest.One(t, theirs, query), flujotest.One(t, ours, query); a != b {
			t.Errorf("%s differs from PostgreSQL (with base: %v): %s", table, withBase, firstDifference(a, b))
		}
	}
}

// arrayElements returns texts as quoted elements of an array in a SQL literal.
func arrayElements(list []string) []string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `''`).Replace(s) + `"`
	}
	return all
}

// firstDifference describes the first line that only one of two texts has.
func firstDifference(a, b string) string {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, row := range left {
		if !slices.Contains(right, row) {
			return fmt.Sprintf("%d and %d rows, only in PostgreSQL: %.600s", len(left), len(right), row)
		}
	}
	for _, row := range right {
		if !slices.Contains(left, row) {
			return fmt.Sprintf("%d and %d rows, only in the file: %.600s", len(left), len(right), row)
		}
	}
	return "the order"
}

// randomFile writes a file with runs, some of which have a BLOB as key, children without a run, or cells that are
// converted with loss. It has no timestamps that must be inferred. It returns the file's path.
func randomFile(t testing.TB, random *rand.Rand) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	maybe := func(percent int) bool { return random.IntN(100) < percent }
	for n := range 20 {
		run := fmt.Sprintf("r%d", n)
		var key any = run
		if maybe(10) {
			key = []byte(run)
		}
		if maybe(90) { // otherwise the children have no run
			f.Insert("runs", flujotest.Cells{"run_id": key, "memory_usage_mb": random.Float64()})
		}
		if maybe(70) {
			f.Insert(
				"workflow_state",
				flujotest.Cells{
					"run_id":           run,
					"pipeline_context": `{"b":  [1.50], "a": null}`,
					"last_step_output": "null",
				},
			)
		}
		for i := range random.IntN(4) {
			output := []any{`{"z": 1,  "y": [2]}`, "null", "no JSON", nil, `{"n": NaN}`}[random.IntN(5)]
			f.Insert("steps",
				flujotest.Cells{"run_id": run, "step_index": int64(i), "output": output, "cost_usd": random.Float64()})
		}
		for i := range random.IntN(4) {
			f.Insert(
				"spans",
				flujotest.Cells{
					"run_id":         run,
					"span_id":        fmt.Sprintf("s%d", i),
					"start_time":     1767603600 + random.Float64(),
					"parent_span_id": []any{nil, "s0"}[min(i, 1)],
					"created_at":     fmt.Sprintf("2026-01-05T09:00:%02d+00:00", random.IntN(60)),
				},
			)
		}
		if maybe(40) {
			f.Insert("evaluations", flujotest.Cells{"run_id": run, "score": random.Float64()})
		}
	}
	for n := range 4 {
		var key any = fmt.Sprintf("k%d", n)
		if n == 3 {
			key = []byte("k3")
		}
		f.Insert("system_state", flujotest.Cells{"key": key, "value": `{"v":  1}`})
	}
	f.Insert("system_state", flujotest.Cells{"key": "twin", "value": "1"})
	f.Insert("system_state", flujotest.Cells{"key": []byte("twin"), "value": "2"}) // rejected
	return f.Close()
}

// randomWrites returns random statements that write a few rows.
func randomWrites(random *rand.Rand) (all []string) {
	pick := func() string { return fmt.Sprintf("r%d", random.IntN(20)) }
	id := func(table string) string {
		return fmt.Sprintf("(SELECT id FROM %s ORDER BY id OFFSET %d LIMIT 1)", table, random.IntN(8))
	}
	for n := range 6 + random.IntN(10) {
		at := fmt.Sprintf("'2026-02-%02d 10:00:00+00'", 1+n)
		all = append(all, []string{
			fmt.Sprintf("UPDATE runs SET status = 'later', updated_at = %s WHERE run_id = '%s'", at, pick()),
			fmt.Sprintf("DELETE FROM runs WHERE run_id = '%s'", pick()),
			fmt.Sprintf("INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, "+
				"updated_at) VALUES ('new%d', 'p', 'n', '1', 'running', %s, %s)", n, at, at),
			fmt.Sprintf("UPDATE workflow_state SET status = 'later', pipeline_context = '{\"c\": %d}', "+
				"updated_at = %s WHERE run_id = '%s'", n, at, pick()),
			fmt.Sprintf("DELETE FROM workflow_state WHERE run_id = '%s'", pick()),
			fmt.Sprintf("UPDATE steps SET output = 'null', cost_usd = 0.3 WHERE id = %s", id("steps")),
			fmt.Sprintf("DELETE FROM steps WHERE id = %s", id("steps")),
			fmt.Sprintf("INSERT INTO steps (run_id, step_name, step_index, status, output, created_at) "+
				"SELECT run_id, 'new', 9, 'ok', '[%d]', %s FROM runs WHERE run_id = '%s'", n, at, pick()),
			fmt.Sprintf("INSERT INTO spans (run_id, span_id, name, start_time, status, created_at) "+
				"SELECT run_id, 'n%d', 'new', 5, 'ok', %s FROM runs WHERE run_id = '%s'", n, at, pick()),
			fmt.Sprintf("UPDATE spans SET start_time = start_time - 7 WHERE id = %s", id("spans")),
			fmt.Sprintf("DELETE FROM spans WHERE run_id = '%s'", pick()),
			fmt.Sprintf("UPDATE traces SET trace_data = '{\"own\": %d}', created_at = %s WHERE run_id = '%s'", n,
				at, pick()),
			fmt.Sprintf("DELETE FROM traces WHERE run_id = '%s'", pick()),
			fmt.Sprintf("UPDATE evaluations SET score = -1 WHERE id = %s", id("evaluations")),
			fmt.Sprintf("UPDATE system_state SET value = '%d', updated_at = %s WHERE key = 'k%d'", n, at,
				random.IntN(4)),
			fmt.Sprintf("DELETE FROM system_state WHERE key = 'k%d'", random.IntN(4)),
		}[random.IntN(16)])
	}
	return all
}
