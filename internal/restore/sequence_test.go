package restore_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

// pod is the state of an instance of Flujo with a state file of its own.
type pod struct {
	rows  map[string][]flujotest.Cells
	clock *int             // shared by all pods
	ids   map[string]int64 // the last allocated ids
}

func (p *pod) insert(table string, row flujotest.Cells) {
	if table == "steps" || table == "evaluations" {
		p.ids[table]++
		row["id"] = p.ids[table]
	}
	p.rows[table] = append(p.rows[table], row)
}

// delete deletes rows with a value in a column.
func (p *pod) delete(table, column string, value any) {
	p.rows[table] = slices.DeleteFunc(p.rows[table], func(r flujotest.Cells) bool { return r[column] == value })
}

// now returns a timestamp that is often later than the last one.
func (p *pod) now(random *rand.Rand) string {
	if random.IntN(6) > 0 {
		*p.clock++
	}
	return fmt.Sprintf("2026-01-05T09:%02d:%02d+00:00", *p.clock/60, *p.clock%60)
}

func (p *pod) addStep(random *rand.Rand, run any) {
	p.insert("steps", flujotest.Cells{
		"run_id": run, "step_name": fmt.Sprint("s", random.IntN(3)), "created_at": p.now(random),
		"output": []string{"1", "2", "no JSON"}[random.IntN(3)],
		"status": []string{"ok", "o\x00k"}[random.IntN(2)],
	})
}

// work changes a pod as Flujo does. A run may also be copied to another pod, with other ids.
func (p *pod) work(random *rand.Rand, other *pod) {
	var run flujotest.Cells
	if runs := p.rows["runs"]; len(runs) > 0 {
		run = runs[random.IntN(len(runs))]
	}
	switch k := random.IntN(20); {
	case k < 5 || run == nil:
		*p.clock++
		id, at := fmt.Sprint("r", *p.clock), p.now(random)
		p.insert("runs", flujotest.Cells{"run_id": id, "created_at": at, "updated_at": at})
		p.addStep(random, id)
	case k < 12:
		p.addStep(random, run["run_id"])
		if random.IntN(3) > 0 {
			run["updated_at"] = p.now(random)
		}
	case k < 16:
		for _, table := range []string{"runs", "steps", "evaluations"} {
			other.delete(table, "run_id", run["run_id"])
			for _, row := range p.rows[table] {
				if row["run_id"] == run["run_id"] {
					other.insert(table, maps.Clone(row))
				}
			}
		}
	case k < 18:
		key := fmt.Sprint("k", random.IntN(3))
		p.delete("system_state", "key", key)
		p.insert("system_state", flujotest.Cells{
			"key": key, "value": []string{"1", "2", "no JSON"}[random.IntN(3)], "updated_at": p.now(random)})
	case k < 19:
		p.insert("evaluations", flujotest.Cells{"run_id": run["run_id"], "score": float64(random.IntN(3)),
			"created_at": p.now(random)})
	default:
		for _, row := range p.rows["steps"] {
			if row["run_id"] == run["run_id"] {
				p.delete("steps", "id", row["id"])
				break
			}
		}
	}
}

// write writes the pod's file.
func (p *pod) write(t testing.TB) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	for _, table := range []string{"runs", "steps", "evaluations", "system_state"} {
		for _, row := range p.rows[table] {
			f.Insert(table, row)
		}
	}
	return f.Close()
}

// TestFromReceiptSequence migrates the files of three pods in several runs, while the pods work on. In between, runs
// are copied from one to the other, as after a rollback. Every file verifies, and is restored by each of its receipts
// with its ids and with the values that were converted.
func TestFromReceiptSequence(t *testing.T) {
	t.Parallel()
	seed := flujotest.Seed(t)
	for n := range pgtest.Count(2, 40) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("FLUJO_PORT_TEST_SEED=%d, case %d", seed, n)
				}
			})
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			url := pgtest.Database(t)
			pods, clock := make([]*pod, 3), 0
			for i := range pods {
				pods[i] = &pod{rows: map[string][]flujotest.Cells{}, clock: &clock, ids: map[string]int64{}}
			}
			var files []string // by receipt
			for range 2 + random.IntN(2) {
				for range 3 + random.IntN(11) {
					at := random.IntN(3)
					pods[at].work(random, pods[(at+1+random.IntN(2))%3])
				}
				files = append(files, migratePods(t, url, pods, random)...)
			}
			result, err := verify.Run(context.Background(), verify.Options{
				SQLite: files[0], More: files[1:], Postgres: url, Schema: flujotest.Schema})
			if err != nil || result.Verdict == report.Drift {
				t.Errorf("got %+v and error %v from verify, want equal or merged", result, err)
			}
			for i, file := range files {
				restored := fromReceipt(t, url, "", int64(i+1))
				for _, query := range []string{
					"SELECT run_id || ' ' || status FROM runs ORDER BY run_id",
					"SELECT id || ' ' || run_id || step_name || hex(status) || output FROM steps ORDER BY id",
					"SELECT id || ' ' || run_id || ' ' || score FROM evaluations ORDER BY id",
					"SELECT key || ' ' || value FROM system_state ORDER BY key",
				} {
					got, want := queryFile(t, restored, query), queryFile(t, file, query)
					if !slices.Equal(got, want) {
						t.Errorf("receipt %d: %s: got\n%s\nwant\n%s", i+1, query, strings.Join(got, "\n"),
							strings.Join(want, "\n"))
					}
				}
			}
		})
	}
}

// migratePods migrates the files of some of the pods in one run, and returns those that got a receipt.
func migratePods(t testing.TB, url string, pods []*pod, random *rand.Rand) (paths []string) {
	t.Helper()
	for _, i := range random.Perm(len(pods))[:1+random.IntN(len(pods))] {
		paths = append(paths, pods[i].write(t))
	}
	o := flujotest.Options(t, paths[0], url)
	o.More, o.Merge = paths[1:], true
	result, err := migrate.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var migrated []string
	if result.SameAs == "" {
		migrated = paths[:1]
	}
	for i, further := range result.Further {
		if further.SameAs == "" {
			migrated = append(migrated, paths[1+i])
		}
	}
	return migrated
}

// TestFromReceiptKeptIDs tests that rows which were kept with the ids of the file keep them, although rows of other
// runs of the file, which were equal, have the same ids in PostgreSQL.
func TestFromReceiptKeptIDs(t *testing.T) {
	t.Parallel()
	write := func(steps map[string][]int64) string {
		f := flujotest.NewFile(t, flujotest.Format06)
		for run, ids := range steps {
			f.Insert("runs", flujotest.Cells{"run_id": run})
			for _, id := range ids {
				f.Insert("steps", flujotest.Cells{
					"run_id": run, "id": id, "step_name": fmt.Sprint(run, id), "status": fmt.Sprint("\x00", run, id)})
			}
		}
		return f.Close()
	}
	other := write(map[string][]int64{"other": {1, 2, 3, 4, 5}})
	early := write(map[string][]int64{"equal": {1, 2}, "changed": {3, 4, 5}})
	late := write(map[string][]int64{"equal": {1, 2}, "changed": {3, 4, 5, 6, 7, 8, 9, 10}})
	url := pgtest.Database(t)
	o := flujotest.Options(t, other, url)
	o.More = []string{early}
	flujotest.Migrate(t, o)
	flujotest.ExecAt(t, url, "UPDATE flujo.runs SET updated_at = now() WHERE run_id = 'changed'")
	o = flujotest.Options(t, late, url)
	o.Merge = true
	flujotest.Migrate(t, o)
	for id, file := range map[int64]string{1: other, 3: late} {
		const query = "SELECT id || step_name || hex(status) FROM steps ORDER BY id"
		got, want := queryFile(t, fromReceipt(t, url, "", id), query), queryFile(t, file, query)
		if !slices.Equal(got, want) {
			t.Errorf("receipt %d: got steps %q, want %q", id, got, want)
		}
	}
}

// TestFromReceiptEqual tests the file of a receipt whose run was equal to another file's: after Flujo wrote one of the
// rows again without a change, after a newer version superseded it, and after Flujo changed that one.
func TestFromReceiptEqual(t *testing.T) {
	t.Parallel()
	write := func(run, at string, more ...string) string {
		f := flujotest.NewFile(t, flujotest.Format06)
		f.Insert("runs", flujotest.Cells{"run_id": run, "updated_at": at})
		for i := range 2 {
			f.Insert("steps", flujotest.Cells{"run_id": run, "id": int64(i + 1), "step_name": at})
		}
		for _, other := range more {
			f.Insert("runs", flujotest.Cells{"run_id": other})
		}
		return f.Close()
	}
	const early, late = "2026-01-05T09:00:00+00:00", "2026-01-06T09:00:00+00:00"
	url := pgtest.Database(t)
	o := flujotest.Options(t, write("other", early), url)
	o.More = []string{write("x", early)}
	flujotest.Migrate(t, o)
	flujotest.ExecAt(t, url, "UPDATE flujo.runs SET status = status WHERE run_id = 'x'")
	equal := write("x", early, "y")
	want := func(receipt int64, file string) {
		t.Helper()
		const query = "SELECT id || run_id || step_name FROM steps UNION ALL SELECT run_id FROM runs ORDER BY 1"
		got, want := queryFile(t, fromReceipt(t, url, "", receipt), query), queryFile(t, file, query)
		if !slices.Equal(got, want) {
			t.Errorf("receipt %d: got %q, want %q", receipt, got, want)
		}
	}
	merge := func(file string) {
		t.Helper()
		o := flujotest.Options(t, file, url)
		o.Merge = true
		flujotest.Migrate(t, o)
	}
	merge(equal)
	want(3, equal)
	merge(write("x", "2026-01-04T09:00:00+00:00")) // it is not taken
	want(3, equal)
	merge(write("x", late))
	want(3, equal)
	flujotest.ExecAt(t, url, "UPDATE flujo.runs SET status = 'other' WHERE run_id = 'x'")
	want(3, equal)
	merge(write("x", "2026-01-07T09:00:00+00:00"))
	want(3, equal)
}
