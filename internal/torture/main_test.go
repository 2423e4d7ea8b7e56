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
	only     = flag.String("only", "", "name of the only kind of trial")
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

// TestTorture runs trials of every kind in turn until the time is over. Each worker has servers of its own.
func TestTorture(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64N(1 << 32)
	}
	t.Logf("seed %d", first)
	begun := time.Now()
	deadline := begun.Add(*duration)
	results := &results{counts: map[string]map[string]int{}, phases: map[string]map[string]int{}}
	var running sync.WaitGroup
	var server string
	for i := range *workers {
		w := newWorker(t, rand.New(rand.NewPCG(first, uint64(i))))
		server = flujotest.OneAt(t, w.server.URL("postgres"), "SELECT current_setting('server_version')")
		running.Go(func() {
			for n := i; time.Now().Before(deadline) || n < len(kinds)+i; n++ { // each kind at least once
				kind := kinds[n%len(kinds)]
				if *only != "" && kind.name != *only {
					if time.Now().After(deadline) {
						break
					}
					continue
				}
				t.Run(fmt.Sprintf("%s %d.%d", kind.name, i, n), func(t *testing.T) {
					defer func() {
						if cause := recover(); cause != nil {
							t.Errorf("the trial: %v\n%s", cause, debug.Stack())
						}
					}()
					outcome := kind.run(t, w)
					results.add(kind.name, outcome, t.Failed())
				})
			}
		})
	}
	running.Wait()
	t.Log("\n" + results.table())
	if *document != "" && *only == "" {
		if err := os.WriteFile(*document, []byte(results.document(begun, server)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
