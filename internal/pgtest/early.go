package pgtest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// made are the objects that tests created on a server that outlives the process.
var made struct {
	making sync.RWMutex // once locked for writing, nothing more is created
	mu     sync.Mutex
	next   int
	undos  map[int]func() error
}

// makeFor runs a statement that creates an object for the test. It calls undo
// when the test ends, or when the process ends before.
func makeFor(t testing.TB, databaseURL, statement string, undo func() error) {
	t.Helper()
	made.making.RLock()
	defer made.making.RUnlock()
	mustExec(t, databaseURL, statement)
	made.mu.Lock()
	defer made.mu.Unlock()
	if made.undos == nil {
		made.undos = map[int]func() error{}
	}
	number := made.next
	made.next++
	made.undos[number] = undo
	t.Cleanup(func() {
		if err := undo(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
		made.mu.Lock()
		defer made.mu.Unlock()
		delete(made.undos, number)
	})
}

// parentInterval is the interval at which a process checks whether its parent runs.
const parentInterval = 200 * time.Millisecond

// endEarly ends the process when it is interrupted, or when go test, its
// parent, was killed. It drops what tests created on the user's server; the
// guards remove the rest.
func endEarly() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	parent := os.Getppid()
	var tick <-chan time.Time
	if startedByGoTest() {
		tick = time.Tick(parentInterval)
	}
	code := 1
	for waiting := true; waiting; {
		select {
		case sig := <-signals:
			code, waiting = 128+int(sig.(syscall.Signal)), false
		case <-tick:
			if os.Getppid() != parent {
				removeWorkFolder()
				waiting = false
			}
		}
	}
	if wantsOwnServer() {
		undoAll()
	}
	os.Exit(code)
}

var workFolder = regexp.MustCompile(`^(.*/go-build\d+)/b\d+/[^/]+$`)

// removeWorkFolder removes the folder in which go test built this program,
// which go test itself removes unless it is killed.
func removeWorkFolder() {
	program, _ := os.Executable() // "" does not match
	if m := workFolder.FindStringSubmatch(program); m != nil {
		_ = os.RemoveAll(m[1]) // other test processes may remove it too
	}
}

// undoAll undoes everything that was created, the latest first. Afterwards
// nothing can be created.
func undoAll() {
	made.making.Lock()
	made.mu.Lock()
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(made.undos))) {
		if err := made.undos[number](); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
		}
	}
}

// startedByGoTest reports whether go test started this process, and not a
// person, a debugger or a fuzzing process. It checks for a flag that only go
// test passes.
func startedByGoTest() bool {
	is := func(name string) bool {
		f := flag.Lookup(name)
		return f != nil && f.Value.String() == "true"
	}
	return is("test.paniconexit0") && !is("test.fuzzworker")
}
