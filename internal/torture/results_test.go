//go:build slow && unix

package torture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// outcome is what became of a trial.
type outcome struct {
	phase  string // the last line of progress before it was disturbed
	result string // one of the results
}

// The results of a trial. A trial whose result is not as the program said fails the test.
const (
	done      = "done"            // everything is there, and the program said so or was killed
	unchanged = "nothing changed" // nothing is there, and the program said so or was killed
	unknown   = "not known"       // the program said that it does not know
	skipped   = "not tried"       // this machine cannot do it
)

type results struct {
	mu     sync.Mutex
	counts map[string]map[string]int // by kind and result
	phases map[string]map[string]int // by kind and phase
	failed int
}

func (r *results) add(kind string, o outcome, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range []map[string]map[string]int{r.counts, r.phases} {
		if m[kind] == nil {
			m[kind] = map[string]int{}
		}
	}
	if failed {
		r.failed++
		o.result = "FAILED"
	}
	r.counts[kind][o.result]++
	if o.phase != "" {
		r.phases[kind][o.phase]++
	}
}

// table returns the results as a Markdown table.
func (r *results) table() string {
	var b strings.Builder
	b.WriteString(
		"| what breaks | trials | done | nothing changed | not known | wrong | when |\n|---|---|---|---|---|---|---|\n",
	)
	for _, kind := range kinds {
		counts := r.counts[kind.name]
		total := 0
		for result, n := range counts {
			if result != skipped {
				total += n
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %s |\n", kind.name, total, counts[done], counts[unchanged],
			counts[unknown], counts["FAILED"], phaseList(r.phases[kind.name]))
	}
	return b.String()
}

// phaseList returns the phases with their counts, the most frequent first.
func phaseList(phases map[string]int) string {
	names := slices.SortedFunc(maps.Keys(phases), func(a, b string) int {
		if phases[a] != phases[b] {
			return phases[b] - phases[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, phases[name])
	}
	return strings.Join(names, ", ")
}

// document returns the text of docs/reliability.md.
func (r *results) document(begun time.Time, server string) string {
	var b strings.Builder
	b.WriteString(`# Reliability

` + "`make torture`" + ` writes this file. It runs the program against a real server while something breaks, and
compares what it finds afterwards with what the program said.

## What is promised

- A migration is there as a whole or not at all, and so are the tables of init and the file of restore.
- Exit code 0 means that all of it is there. 2, 3, 4 and 130 mean that nothing of it is. 1 means the same, unless the
  error says that it is not known whether the server committed.
- After any of this the same command can be run again, and succeeds.
- The state file and the base are never written.
- No password is printed, and nothing that a terminal acts upon.

## How it is tried

Each trial takes a command at random: migrate, migrate --replace, migrate --merge, init, restore, restore --base. One
thing breaks at a random moment, or at the one that its row names. Then the trial waits until the server has ended the
command's session, and reads the database with SQL of its own, and the file with SQLite's library. If nothing had
changed, it runs the command once more. A trial is wrong if the state is neither that before nor that after the command,
if the exit code does not agree with it, if the second run fails, or if a promise above is broken.

`)
	for _, kind := range kinds {
		fmt.Fprintf(&b, "- **%s**: %s\n", kind.name, kind.how)
	}
	fmt.Fprintf(&b, "\n## Results\n\n%s UTC, PostgreSQL %s, %s.\n\n%s", begun.UTC().Format("2006-01-02 15:04"),
		strings.Fields(server)[0], duration.String(), r.table())
	b.WriteString(`
"When" counts the trials by the program's last line of progress before the break. "Not known" is right only if the
server could not be asked; the state was then that before or that after the command.
`)
	return b.String()
}
