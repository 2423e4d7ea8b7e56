//go:build slow && unix

package torture

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// outcome is what became of a trial.
type outcome struct {
	command string // the name of the job
	phase   string // in which it was disturbed
	result  string // one of the results
}

// The results of a trial. A trial whose result is not as the program said fails the test.
const (
	done      = "done"            // everything is there, or the report of a command that changes nothing
	unchanged = "nothing changed" // nothing is there
	unknown   = "not known"       // the program said that it does not know
	skipped   = "not tried"       // this machine cannot do it
	wrong     = "wrong"
)

type results struct {
	mu       sync.Mutex
	kinds    counts
	phases   counts
	commands counts
}

// counts are numbers of trials by a name and the result.
type counts map[string]map[string]int

func (c counts) add(name, result string) {
	if c[name] == nil {
		c[name] = map[string]int{}
	}
	c[name][result]++
}

func newResults() *results { return &results{kinds: counts{}, phases: counts{}, commands: counts{}} }

func (r *results) add(kind string, o outcome, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failed {
		o.result = wrong
	}
	r.kinds.add(kind, o.result)
	if o.result == skipped {
		return
	}
	if o.command != "" {
		r.phases.add(o.phase, o.result)
		r.commands.add(o.command, o.result)
	}
}

// table returns counts as a Markdown table with a row for each of the names that occurs.
func (c counts) table(title string, names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | trials | done | nothing changed | not known | wrong |\n|---|--:|--:|--:|--:|--:|\n", title)
	for _, name := range names {
		n := c[name]
		total := n[done] + n[unchanged] + n[unknown] + n[wrong]
		if total > 0 || n[skipped] > 0 {
			fmt.Fprintf(
				&b,
				"| %s | %d | %d | %d | %d | %d |\n",
				name,
				total,
				n[done],
				n[unchanged],
				n[unknown],
				n[wrong],
			)
		}
	}
	return b.String()
}

func kindNames() (names []string) {
	for _, kind := range slices.Concat(kinds, patient) {
		names = append(names, kind.name)
	}
	return names
}

// phaseNames returns the names of all phases in their order in a run.
func phaseNames() []string {
	names := slices.Concat([]string{atStart}, phases, []string{inCommitPhase})
	for _, call := range []string{renameNewFile, renameEnvFile, "another"} {
		names = append(names, filePhase(call, false), filePhase(call, true))
	}
	return append(names, allAlong, tooLate)
}

// tables returns all results.
func (r *results) tables() string {
	return r.kinds.table("what breaks", kindNames()) + "\n" + r.phases.table("when", phaseNames()) + "\n" +
		r.commands.table("command", append(jobNames(), fileCommands))
}

// document returns the text of docs/reliability.md.
func (r *results) document(begun time.Time, server string, seed uint64) string {
	var how strings.Builder
	for _, kind := range slices.Concat(kinds, patient) {
		how.WriteString(wrap("- **"+kind.name+"**: "+kind.how, 120, "  ") + "\n")
	}
	return strings.NewReplacer(
		"{how}", how.String(),
		"{when}", begun.UTC().Format("2006-01-02 15:04"),
		"{server}", strings.Fields(server)[0],
		"{duration}", duration.String(),
		"{seed}", fmt.Sprint(seed),
		"{kinds}", r.kinds.table("what breaks", kindNames()),
		"{phases}", r.phases.table("when", phaseNames()),
		"{commands}", r.commands.table("command", append(jobNames(), fileCommands)),
	).Replace(documentText)
}

// wrap breaks a text into lines of at most width columns.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

const documentText = `# Reliability

` + "`make torture`" + ` writes this file. It runs the program against a real server while something breaks, and
compares what it finds afterwards with what the program said.

## What is promised

- A migration is there as a whole or not at all, and so are the tables of init, the file of restore and the env file.
- Exit code 0 means that all of it is there. 2, 3, 4 and 130 mean that nothing of it is. 1 means the same, unless the
  error says that it is not known whether the server committed; it says so only if the server could not be asked.
- check, verify, uri and dry runs change nothing, however they end.
- After any of this the same command can be run again, and succeeds.
- The state file and the base are never written.
- A command ends by itself if the server does not answer.
- With ` + "`--json`" + `, stdout is empty or one JSON object, unless the command was killed with -9.
- No password is printed, logged or stored outside of the env file, and nothing is printed that a terminal acts upon.
- Unless it was killed with -9, a command leaves no temporary file.

## How it is tried

Each trial takes a command at random, with or without ` + "`--json` and `--env-file`" + `. Where nothing else is said,
one thing breaks at a random moment: at a random line of progress and a random time later. Then the trial waits until
the server has ended the command's sessions, and reads the database with SQL of its own, and the file with SQLite's
library. If nothing had changed, or the command is ` + "`migrate --if-needed`" + `, it runs the command once more. A
trial is wrong if

- the state is neither that before nor that after the command, or the exit code does not agree with it,
- the exit code is not one for what happened: after a break 0 or 1, and 130 only after a signal,
- the command takes longer than two minutes, or the second run fails,
- the password is found in the output, the server's log, a dump of the database, or any file in the working folder, in
  HOME, in TMPDIR or next to the new file,
- or another promise above is broken.

For damaged and hostile files, check and migrate must agree; what was migrated must verify; each table must have as
many rows as SQLite counts in the file; and restore with the file as the base must return the same rows.

What breaks:

{how}
## Results

{when} UTC, PostgreSQL {server}, {duration}, seed {seed}.

{kinds}
"Done" means that everything was there, or that a command that changes nothing succeeded. "Not known" is what the
program said; the state was that before or that after the command.

By the phase in which the command was disturbed, from its lines of progress:

{phases}
By command:

{commands}`
