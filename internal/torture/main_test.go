//go:build slow && unix

package torture

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

var (
	duration = flag.Duration("duration", 20*time.Second, "how long the trials run")
	document = flag.String("document", "", "file to which the results are written")
	seed     = flag.Uint64("seed", 0, "of the first worker; 0 for a random one")
	workers  = flag.Int("workers", 2, "trials at a time")
	only     = flag.String("only", "", "names of the only kinds of trials, separated by commas")
)

// binary is the program.
var binary string

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, build)) }

func build(dir string) error {
	binary = filepath.Join(dir, "flujo-port")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/flujo-port")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make build` does
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// patientWorkers is the number of workers of the patient kinds, and patientTime how long most of their trials take at
// most: so long before the end they begin no other.
const (
	patientWorkers = 4
	patientTime    = 100 * time.Second
)

// TestTorture runs trials of every kind in turn until the time is over. Each worker has servers of its own.
func TestTorture(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64N(1 << 32)
	}
	t.Logf("seed %d", first)
	random := func(i int) *rand.Rand { return rand.New(rand.NewPCG(first, uint64(i))) }
	all := []*worker{newWorker(t, random(0))}
	t.Log(all[0].jobs)
	for i := 1; i < *workers+patientWorkers; i++ {
		all = append(all, all[0].another(t, random(i)))
	}
	server := flujotest.OneAt(t, all[0].server.URL("postgres"), "SELECT current_setting('server_version')")
	begun := time.Now()
	results := newResults()
	var running sync.WaitGroup
	for i, w := range all {
		kinds, n := rotated(kinds, i, *workers)
		deadline := begun.Add(*duration)
		if i >= *workers {
			kinds, n = rotated(patient, i-*workers, patientWorkers)
			deadline = deadline.Add(-patientTime)
		}
		running.Go(func() { w.work(t, i, kinds, n, deadline, results) })
	}
	running.Wait()
	t.Log("\n" + results.tables())
	if *document != "" && *only == "" {
		if err := os.WriteFile(*document, []byte(results.document(begun, server, first)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// rotated returns the kinds in the order of worker i of n, and how many of them it runs at least, so that all workers
// together run each kind.
func rotated(kinds []kind, i, n int) ([]kind, int) {
	var chosen []kind
	for k := range kinds {
		kind := kinds[(k+i*len(kinds)/n)%len(kinds)]
		if *only == "" || slices.Contains(strings.Split(*only, ","), kind.name) {
			chosen = append(chosen, kind)
		}
	}
	return chosen, (len(chosen) + n - 1) / n
}

// work runs trials until the deadline, and at least so many.
func (w *worker) work(
	t *testing.T, i int, kinds []kind, least int, deadline time.Time, results *results,
) {
	for n := 0; len(kinds) > 0 && (time.Now().Before(deadline) || n < least); n++ {
		kind := kinds[n%len(kinds)]
		t.Run(fmt.Sprintf("%s %d.%d", kind.name, i, n), func(t *testing.T) {
			var o outcome
			defer func() { // also after t.Fatal
				if cause := recover(); cause != nil {
					t.Errorf("the trial: %v\n%s", cause, debug.Stack())
				}
				results.add(kind.name, o, t.Failed())
			}()
			o = kind.run(t, w)
		})
	}
}
