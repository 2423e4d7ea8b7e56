package merge_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// mergeCases is the number of random merges that TestMergeProperty tests.
var mergeCases = pgtest.Count(6, 25)

// TestMergeProperty tests merges of random rows: the result is the model's, a dry run changes nothing, and a second
// merge changes nothing.
//
// FLUJO_PORT_TEST_SEED sets the seed.
func TestMergeProperty(t *testing.T) {
	t.Parallel()
	seed := flujotest.Seed(t)
	for n := range mergeCases {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			random := flujotest.Random(seed, n)
			target, file := randomMerge(random)
			allocated := map[string]int64{}
			for _, table := range []string{"steps", "spans", "evaluations"} {
				if random.IntN(2) == 0 {
					allocated[table] = random.Int64N(60)
				}
			}
			testMerge(t, target, file, allocated)
			if t.Failed() {
				t.Logf("FLUJO_PORT_TEST_SEED=%d, case %d", seed, n)
			}
		})
	}
}

// randomMerge returns random rows of the target and the file that have much in common.
func randomMerge(random *rand.Rand) (target, file side) {
	target, file = side{}, side{}
	ids := [2]map[string]map[int64]bool{{}, {}}
	put := func(at int, unit side) {
		for table, rows := range unit {
			for _, row := range rows {
				row = maps.Clone(row)
				if _, serial := row["id"]; serial {
					if ids[at][table] == nil {
						ids[at][table] = map[int64]bool{}
					}
					id := 1 + random.Int64N(80)
					for ids[at][table][id] {
						id++
					}
					ids[at][table][id] = true
					row["id"] = id
				}
				s := []side{target, file}[at]
				s[table] = append(s[table], row)
			}
		}
	}
	for i := range 4 + random.IntN(12) {
		unit := func() side { return randomRun(random, fmt.Sprintf("run-%d", i)) }
		if random.IntN(3) == 0 {
			unit = func() side {
				return side{
					"system_state": {
						flujotest.Cells{
							"key":        fmt.Sprintf("key %d", i),
							"value":      fmt.Sprint(random.IntN(2)),
							"updated_at": at(random.IntN(3)),
						},
					},
				}
			}
		}
		switch first := unit(); random.IntN(5) {
		case 0:
			put(0, first)
		case 1:
			put(1, first)
		case 2:
			put(0, first)
			put(1, first)
		default:
			put(0, first)
			put(1, unit())
		}
	}
	return target, file
}

// randomRun returns a run with random children, or only its row of workflow_state.
func randomRun(random *rand.Rand, run string) side {
	s := side{}
	word := func() string { return []string{"a", "b", "ä\n\"'\\"}[random.IntN(3)] }
	when := func() string { return at(random.IntN(4)) }
	if random.IntN(2) == 0 {
		s.add("workflow_state", flujotest.Cells{
			"run_id":     run,
			"status":     word(),
			"created_at": when(),
			"updated_at": when(),
			"metadata":   fmt.Sprintf(`{"n": %d}`, random.IntN(2)),
		})
		if random.IntN(3) == 0 {
			return s
		}
	}
	s.add("runs", flujotest.Cells{
		"run_id":      run,
		"status":      word(),
		"created_at":  when(),
		"updated_at":  when(),
		"total_steps": random.Int64N(2),
	})
	for range random.IntN(4) {
		s.add("steps", flujotest.Cells{
			"id":         int64(0),
			"run_id":     run,
			"step_name":  word(),
			"step_index": random.Int64N(3),
			"output":     fmt.Sprintf(`["%d"]`, random.IntN(2)),
			"created_at": when(),
		})
	}
	spans := random.IntN(3)
	for range spans {
		s.add("spans", flujotest.Cells{
			"id":         int64(0),
			"run_id":     run,
			"span_id":    word(),
			"start_time": float64(random.IntN(3)) + 0.1,
			"created_at": when(),
		})
	}
	if spans > 0 || random.IntN(3) == 0 { // the program derives a trace from spans, the model does not
		s.add(
			"traces",
			flujotest.Cells{
				"run_id":     run,
				"trace_data": fmt.Sprintf(`{"n": %d}`, random.IntN(2)),
				"created_at": when(),
			},
		)
	}
	for range random.IntN(3) {
		s.add("evaluations",
			flujotest.Cells{"id": int64(0), "run_id": run, "score": float64(random.IntN(2)), "created_at": when()})
	}
	return s
}
