//go:build slow && unix

package torture

import (
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// job is a command that is disturbed.
type job struct {
	name     string
	args     []string // {file}, {other}, {third} and {new} are replaced
	asJSON   []string // what asks for a JSON report
	template string   // the database in which it starts
	writes   writes

	// measured in a run that nothing disturbs
	before, after string // what look returns
	takes         time.Duration
	lines         int            // of progress
	messages      map[bool]int   // by whether the server sends them
	calls         map[bool][]int // system calls that concern files, by whether there is an env file
	envText       string         // its content, with {address} for the role, the password, the server and the database
}

// writes is what a command changes.
type writes int

const (
	writesNothing writes = iota
	writesDatabase
	writesFile
)

// takesEnvFile reports whether the command may write an env file.
func (j *job) takesEnvFile() bool { return j.args[0] == "migrate" }

// connects reports whether the command talks to the server.
func (j *job) connects() bool { return j.template != "" }

func (j *job) commits() bool { return j.writes == writesDatabase }

// onlyIfNeeded reports whether the command succeeds again when it was done, and then changes nothing.
func (j *job) onlyIfNeeded() bool { return slices.Contains(j.args, "--if-needed") }

// makesFiles reports whether the command writes a file, at least if it is asked for an env file.
func (j *job) makesFiles() bool {
	return j.writes == writesFile || j.writes == writesDatabase && j.takesEnvFile()
}

// stores reports whether the command stores findings until it prints them.
func (j *job) stores() bool { return slices.Contains(j.args, "--quarantine") }

func newJobs() []*job {
	migrate := func(file string, more ...string) []string {
		return append([]string{"migrate", "--sqlite", file, "--quarantine", "--without-pgvector"}, more...)
	}
	restore := func(more ...string) []string { return append([]string{"restore", "--sqlite", "{new}"}, more...) }
	report, address := []string{"--json"}, []string{"--format", "json"}
	return []*job{
		{name: "migrate", args: migrate("{file}"), asJSON: report, template: "bare", writes: writesDatabase},
		{name: "migrate --if-needed", args: migrate("{file}", "--if-needed"), asJSON: report, template: "bare",
			writes: writesDatabase},
		{name: "migrate --replace", args: migrate("{other}", "--replace"), asJSON: report, template: "filled",
			writes: writesDatabase},
		{name: "migrate --merge", args: migrate("{other}", "--merge"), asJSON: report, template: "filled",
			writes: writesDatabase},
		{name: "migrate of three files", args: migrate("{file}", "--sqlite", "{other}", "--sqlite", "{third}"),
			asJSON: report, template: "bare", writes: writesDatabase},
		{name: "migrate --dry-run", args: migrate("{file}", "--dry-run"), asJSON: report, template: "bare"},
		{name: "init", args: []string{"init", "--without-pgvector"}, asJSON: report, template: "bare",
			writes: writesDatabase},
		{name: "restore", args: restore(), asJSON: report, template: "filled", writes: writesFile},
		{name: "restore --base", args: restore("--base", "{file}"), asJSON: report, template: "filled",
			writes: writesFile},
		{name: "restore --merge", args: restore("--base", "{other}", "--merge"), asJSON: report, template: "filled",
			writes: writesFile},
		{name: "restore --dry-run", args: restore("--dry-run"), asJSON: report, template: "filled"},
		{name: "check", args: []string{"check", "--sqlite", "{file}", "--quarantine", "--without-pgvector"},
			asJSON: report, template: "bare"},
		{name: "verify", args: []string{"verify", "--sqlite", "{file}"}, asJSON: report, template: "filled"},
		{name: "uri cutover", args: []string{"uri", "cutover", "--connect", "--without-pgvector"}, asJSON: address,
			template: "filled"},
		{name: "uri rollback", args: []string{"uri", "rollback", "--sqlite", "{file}"}, asJSON: address},
	}
}

// worker runs trials one after the other.
type worker struct {
	random  *mathrand.Rand
	server  *pgtest.Server
	waiting *pgtest.Server // on which COMMIT waits for a standby that does not exist
	jobs    []*job
	file    string // a state file
	other   string // the same with other rows
	third   string // the same with other rows, some of them in no other file
	places  int    // that were made
}

// newWorker starts servers, and runs each job without a disturbance to know what it does.
func newWorker(t *testing.T, random *mathrand.Rand) *worker {
	t.Helper()
	w := &worker{file: flujotest.RepairedFile(t), jobs: newJobs()}
	w.other = flujotest.Copy(t, w.file)
	flujotest.Change(t, w.other, "UPDATE runs SET updated_at = '2031-01-01T00:00:00+00:00', status = 'failed' "+
		"WHERE rowid % 2 = 0")
	w.third = flujotest.Copy(t, w.file)
	flujotest.Change(t, w.third, "UPDATE runs SET run_id = 'third ' || run_id WHERE rowid % 3 = 0")
	w = w.another(t, random)
	for _, j := range w.jobs {
		w.measure(t, j)
	}
	return w
}

// another returns a worker with servers of its own, and the same jobs.
func (w *worker) another(t *testing.T, random *mathrand.Rand) *worker {
	t.Helper()
	logged := pgtest.WithSettings("log_statement=all", "log_connections=on", "log_lock_waits=on")
	a := &worker{random: random, file: w.file, other: w.other, third: w.third, jobs: w.jobs}
	a.server = pgtest.StartFor(t, logged)
	a.waiting = pgtest.StartFor(t, logged,
		pgtest.WithSettings("synchronous_standby_names=nobody", "synchronous_commit=local"))
	a.fill(t, a.server)
	a.fill(t, a.waiting)
	flujotest.ExecAt(t, a.waiting.URL("postgres"), "ALTER SYSTEM SET synchronous_commit = on",
		"SELECT pg_reload_conf()")
	return a
}

// fill creates the databases in which jobs begin.
func (w *worker) fill(t *testing.T, server *pgtest.Server) {
	t.Helper()
	flujotest.ExecAt(t, server.URL("postgres"), "CREATE DATABASE bare", "CREATE DATABASE filled")
	r := prepare(t, server.URL("filled"), "migrate", "--sqlite", w.file, "--quarantine", "--without-pgvector")
	r.start(t)
	if r.wait(t); r.code != 0 {
		t.Fatal(r)
	}
}

// measure runs a job several times: through a proxy, with an env file, and traced.
func (w *worker) measure(t *testing.T, j *job) {
	t.Helper()
	p := w.placeWith(t, w.server, j, options{})
	j.before = p.look(t)
	j.messages = map[bool]int{}
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, p.url))
	proxy.OnMessage(func(fromServer bool, _ byte, _ []byte) pgtest.Fate {
		j.messages[fromServer]++
		return pgtest.Forward
	})
	begun := time.Now()
	r := prepare(t, proxy.Rewrite(p.url), p.args()...)
	r.start(t)
	if r.wait(t); r.code != 0 {
		t.Fatalf("%s: %s", j.name, r)
	}
	j.takes, j.lines = time.Since(begun), strings.Count(r.stderr, "\n")
	j.after = p.look(t)
	if (j.after == j.before) != (j.writes == writesNothing) {
		t.Fatalf("%s: before %s\nafter %s\n%s", j.name, j.before, j.after, r)
	}
	j.calls = map[bool][]int{}
	for _, envFile := range []bool{false, true} {
		if j.makesFiles() && (!envFile || j.takesEnvFile()) {
			w.measureFiles(t, j, envFile)
		}
	}
}

// measureFiles runs a job and stores its system calls, and the env file.
func (w *worker) measureFiles(t *testing.T, j *job, envFile bool) {
	t.Helper()
	p := w.placeWith(t, w.server, j, options{envFile: envFile})
	r := prepare(t, p.url, p.args()...)
	var calls []int
	err := r.trace(t, func(call int, after bool) syscall.Signal {
		if !after && fileCalls[call] != "" {
			calls = append(calls, call)
		}
		return 0
	})
	if err != nil {
		t.Logf("system calls cannot be traced: %v", err)
		r = prepare(t, p.url, p.args()...)
		r.start(t)
	}
	if r.wait(t); r.code != 0 {
		t.Fatalf("%s, traced: %s", j.name, r)
	}
	j.calls[envFile] = calls
	if !envFile {
		return
	}
	content, err := os.ReadFile(p.envPath())
	if err != nil {
		t.Fatal(err)
	}
	if j.envText = strings.ReplaceAll(string(content), addressText(p.url), "{address}"); !strings.Contains(
		j.envText, "{address}") {
		t.Fatalf("the env file of %s is\n%s", p.url, content)
	}
}

// pick returns one of the jobs that are suitable.
func (w *worker) pick(suitable func(*job) bool) *job {
	for {
		if j := w.jobs[w.random.IntN(len(w.jobs))]; suitable == nil || suitable(j) {
			return j
		}
	}
}

// named returns the job of a name.
func (w *worker) named(name string) *job {
	return w.pick(func(j *job) bool { return j.name == name })
}

// disturb starts the run and calls do at a random moment: at a random line of progress, and some time later. It
// returns when the run has ended.
func (w *worker) disturb(t *testing.T, j *job, r *run, do func()) {
	t.Helper()
	line := w.random.IntN(max(j.lines, 1))
	d := time.Duration(w.random.Int64N(2*int64(j.takes)/int64(j.lines+1) + 1))
	r.start(t)
	if r.hasReached(line, d) {
		r.mark()
		do()
	} else {
		r.phase = tooLate
	}
	r.wait(t)
}

// jobNames returns the names in the order of newJobs.
func jobNames() (names []string) {
	for _, j := range newJobs() {
		names = append(names, j.name)
	}
	return names
}

// String returns what was measured.
func (j *job) String() string {
	return fmt.Sprintf(
		"%s: %s, %d lines of progress, %d messages of the client, %d of the server, %d file calls",
		j.name,
		j.takes.Round(
			time.Millisecond,
		),
		j.lines,
		j.messages[false],
		j.messages[true],
		len(slices.Concat(j.calls[false], j.calls[true])),
	)
}
