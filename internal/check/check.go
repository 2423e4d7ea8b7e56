// Package check runs the preflight checks: what would stop a migration. It changes
// nothing.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/jsonb"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/stateuri"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// Options are the options of Run. Fields that are not documented here have the same
// meaning as in migrate.Options.
type Options struct {
	SQLite          string
	HasTarget       bool // a database was named; otherwise only the state file is checked
	Postgres        string
	Schema          string
	Cutover         stateuri.Address
	CutoverNotes    []string // how Cutover differs from the address that was given
	StateURI        string   // the FLUJO_STATE_URI that is set, if it names PostgreSQL; may be empty
	WithoutPGVector bool
	NoMigrations    bool
	Quarantine      bool
	ExactFloats     bool
	NaiveZone       *time.Location
	SkipIntegrity   bool
	OnFinding       func(mapping.Finding)
	OnProgress      progress.Func
}

// Run runs the preflight checks and changes nothing. If a result has the status
// report.Error, Run returns the report and a clierr.Refused.
func Run(ctx context.Context, o Options) (*report.Check, error) {
	started := time.Now()
	c := &checker{
		options: o,
		report: &report.Check{
			Format:  report.Format,
			Command: "check",
			Started: started.UTC().Truncate(time.Millisecond),
		},
	}
	if err := c.run(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	c.report.Seconds = time.Since(started).Seconds()
	if c.report.Ready = c.report.Errors() == 0; c.report.Ready {
		return c.report, nil
	}
	return c.report, &clierr.Error{
		Kind:    clierr.Refused,
		Message: "the preflight check found " + english.Plural(c.report.Errors(), "error", ""),
		Hint:    "see the lines marked ✗",
	}
}

// checker is one run of Run.
type checker struct {
	options  Options
	report   *report.Check
	group    string           // of the results that are being added
	unknown  []string         // names of checks that could not run
	snapshot *source.Snapshot // of the state file; nil if it cannot be read
	format   *mapping.Format  // nil if the file's rows cannot be read
	found    *extract.Result  // what is in the file; nil if its rows cannot be read
	conn     *postgres.Conn   // nil if the connection failed; closed after survey
	facts    targetFacts
}

// run checks the server before it reads the file's rows, because the findings
// depend on the server.
func (c *checker) run(ctx context.Context) error {
	c.group = report.GroupFile
	err := c.file(ctx)
	if c.snapshot != nil {
		defer c.snapshot.Close()
	}
	if err != nil {
		return err
	}
	if c.options.HasTarget {
		c.options.OnProgress.Start(progress.Connect)
		if err := c.survey(ctx); err != nil {
			return err
		}
		if c.hasServer() {
			if err := c.address(ctx); err != nil {
				return err
			}
			if !c.options.WithoutPGVector && !c.conn.Server.Standby {
				if err := c.tryExtension(ctx); err != nil {
					return err
				}
			}
		}
	}
	if c.format != nil {
		c.group = report.GroupFile
		if err := c.contents(ctx); err != nil {
			return err
		}
	}
	if c.hasServer() {
		c.group = report.GroupTarget
		if err := c.target(ctx); err != nil {
			return err
		}
	}
	groups := []string{report.GroupFile, report.GroupServer, report.GroupTarget}
	slices.SortStableFunc(c.report.Results, func(a, b report.CheckResult) int {
		return slices.Index(groups, a.Group) - slices.Index(groups, b.Group)
	})
	return nil
}

func (c *checker) addResult(status report.Status, name, hint, format string, args ...any) {
	c.report.Results = append(c.report.Results, report.CheckResult{
		Group:   c.group,
		Name:    name,
		Status:  status,
		Message: fmt.Sprintf(format, args...),
		Hint:    hint,
	})
}

// advise adds an advice to the last result.
func (c *checker) advise(topic clierr.Topic, arg string) {
	c.report.Results[len(c.report.Results)-1].Advice = clierr.Advice{Topic: topic, Arg: arg}
}

func (c *checker) ok(name, format string, args ...any) {
	c.addResult(report.OK, name, "", format, args...)
}

func (c *checker) warning(name, hint, format string, args ...any) {
	c.addResult(report.Warning, name, hint, format, args...)
}

func (c *checker) failure(name, hint, format string, args ...any) {
	c.addResult(report.Error, name, hint, format, args...)
}

// addError adds a result for an error that would end a migration: a warning for
// a lock timeout, since the lock may be free by then, otherwise an error. It
// returns only the error of ctx.
func (c *checker) addError(ctx context.Context, name, failed string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err = postgres.FindBlocker(ctx, c.options.Postgres, err)
	message, hint, advice := postgres.ServerError(err).Error(), "", clierr.Advice{}
	if f, ok := errors.AsType[*clierr.Error](err); ok {
		plain := *f
		plain.Hint = ""
		message, hint, advice = plain.Error(), f.Hint, f.Advice
	}
	c.unknown = append(c.unknown, name)
	if lock, held := errors.AsType[*postgres.LockTimeoutError](err); held {
		hint := fmt.Sprintf(
			"run check again when the lock is free; a migration waits up to %s for it",
			postgres.LockWait,
		)
		if lock.EndPrepared != "" {
			hint = lock.EndPrepared + ", then run check again"
		}
		c.warning(
			name,
			hint,
			"%s: %s",
			failed,
			message,
		)
		return nil
	}
	if hint == "" && advice.Topic == clierr.NoAdvice {
		hint = "fix the cause, and run check again"
	}
	c.failure(name, hint, "%s", message)
	c.advise(advice.Topic, advice.Arg)
	return nil
}

// notChecked is the text of a line whose check could not run.
const notChecked = "could not be checked"

// file checks the state file except its rows, and opens its snapshot, which the caller
// closes.
func (c *checker) file(ctx context.Context) (err error) {
	c.snapshot, err = source.Open(ctx, c.options.SQLite)
	if err != nil {
		return c.addError(ctx, "readable", notChecked, err)
	}
	c.ok("readable", "%s, %s", c.snapshot.Path(), humanize.IBytes(uint64(c.snapshot.Size())))
	c.wal(c.snapshot)
	if n := c.snapshot.Links(); n > 1 {
		c.warning(
			"hard links",
			"make sure that Flujo's state_uri names this one, and that no other has a -wal next to it",
			"the file has %d names; a -wal next to another name is not read",
			n,
		)
	}
	if c.snapshot.Locked() {
		c.warning(
			"other processes",
			"stop Flujo before the cutover; it may run during a dry run",
			"another process has the file open and may write to it",
		)
	} else {
		c.ok("other processes", "no other process on this machine has the file open")
	}
	format, err := mapping.DetectFormat(c.snapshot.Tables())
	if err != nil {
		c.failure("file format", "pass the file that Flujo's state_uri names", "%v", err)
		return nil
	}
	c.format = format
	c.ok("file format", "%s", format.Name)
	s := extract.Describe(c.snapshot, format)
	if !c.options.SkipIntegrity {
		s.Integrity = source.IntegrityCheck
	}
	c.report.Source = &s
	return nil
}

// contents reads the file's rows and checks its integrity at the same time, and adds the
// results. A damaged file has no other results, since what is read of it means nothing.
func (c *checker) contents(ctx context.Context) error {
	if c.options.SkipIntegrity {
		c.warning("integrity", "", "skipped")
		c.advise(clierr.CheckIntegrity, "")
	}
	reading, integrity := ctx, (*source.Integrity)(nil)
	if !c.options.SkipIntegrity {
		reading, integrity = c.snapshot.StartIntegrityCheck(ctx)
		defer integrity.Stop()
	}
	results := len(c.report.Results)
	scanErr := c.scan(reading)
	c.options.OnProgress.Start(progress.Integrity)
	if err := integrity.Wait(); err != nil {
		c.found, c.report.Findings, c.report.Results = nil, nil, c.report.Results[:results]
		return c.addError(ctx, "integrity", notChecked, err)
	}
	if !c.options.SkipIntegrity {
		c.ok("integrity", "PRAGMA integrity_check found no damage")
	}
	if scanErr != nil {
		c.found = nil
		return c.addError(ctx, "findings", notChecked, scanErr)
	}
	changed, err := c.snapshot.Changed()
	switch {
	case err != nil:
		return c.addError(ctx, "concurrent writes", notChecked, err)
	case changed:
		c.warning("concurrent writes", "stop Flujo before the cutover", "the file was written to during the check")
	default:
		c.ok("concurrent writes", "no process wrote to the file during the check")
	}
	return nil
}

func (c *checker) wal(snapshot *source.Snapshot) {
	there, frames := snapshot.WAL()
	if there {
		c.ok("-wal", "%s with %s of committed transactions, which are migrated too; copy it together with the file",
			humanize.IBytes(uint64(snapshot.WALSize())), english.Plural(frames, "frame", ""))
		return
	}
	c.ok("-wal", "none; if this file is a copy, make sure that the original has none either")
}

// scan reads all rows as a migration into the target would, and adds what it
// finds.
func (c *checker) scan(ctx context.Context) error {
	config := extract.Config{
		Format:     c.format,
		Options:    mapping.Options{NaiveZone: c.options.NaiveZone, JSONDepth: jsonb.DefaultDepth},
		Types:      mapping.NewTypes(c.options.ExactFloats),
		WrittenAt:  extract.WrittenAt(c.snapshot),
		Phase:      progress.Read,
		OnProgress: c.options.OnProgress,
	}
	if c.hasServer() {
		config.Options.JSONDepth = c.conn.Server.JSONDepth()
	}
	size, note, err := extract.VectorSize(ctx, c.snapshot, c.format)
	if err != nil {
		return err
	}
	c.facts.vectorSize, config.Types.VectorSize = size, size
	if len(c.facts.differences) == 0 {
		if _, err := postgres.AdoptTypes(config.Types, mapping.Tables, c.facts.have); err != nil {
			return err
		}
	}
	if c.found, err = extract.New(c.snapshot, config).Run(ctx, extract.Discard{}); err != nil {
		return err
	}
	if note != "" {
		c.found.Findings.Notes = append([]string{note}, c.found.Findings.Notes...)
	}
	c.report.Findings = c.found.Findings
	var rows []string
	for _, t := range c.found.Findings.Tables {
		if t.RowsRead > 0 {
			rows = append(rows, fmt.Sprintf("%s %s", t.Name, humanize.Comma(t.RowsRead)))
		}
	}
	c.ok("rows", "%s", strings.Join(rows, ", "))
	for _, note := range c.found.Findings.Notes {
		c.ok("note", "%s", note)
	}
	if err := c.inProgress(ctx); err != nil {
		return err
	}
	return c.findings(ctx)
}

// inProgress adds the number of running and paused runs. A running one may still
// write to the file, and a paused one continues after the cutover.
func (c *checker) inProgress(ctx context.Context) error {
	var parts []string
	running := false
	for _, table := range []string{mapping.Runs, "workflow_state"} {
		for _, status := range []string{"running", "paused"} {
			n, err := c.snapshot.CountWhere(ctx, table, "status", sqlite.TextValue(status))
			if err != nil {
				return err
			}
			if n > 0 {
				running = running || status == "running"
				parts = append(parts, fmt.Sprintf("%s %s in %s", humanize.Comma(n), status, table))
			}
		}
	}
	switch {
	case len(parts) == 0:
		c.ok("runs in progress", "no running or paused runs")
	case running:
		c.warning(
			"runs in progress",
			"wait until the running runs end, or stop Flujo; paused runs can be resumed after the cutover",
			"%s",
			strings.Join(parts, ", "),
		)
	default:
		c.warning(
			"runs in progress",
			"paused runs can be resumed after the cutover",
			"%s",
			strings.Join(parts, ", "),
		)
	}
	return nil
}

// findings adds what would be converted or rejected.
func (c *checker) findings(ctx context.Context) error {
	rows, cells := c.found.Findings.Count()
	var parts []string
	add := func(n int64, noun, format string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, humanize.Comma(n)+" "+english.PluralWord(int(n), noun, "")))
		}
	}
	add(rows, "row", "%s rejected by Flujo's PostgreSQL tables")
	add(cells, "cell", "%s that would be converted")
	add(int64(len(c.found.Findings.Widened)), "column", "%s that would be widened to bigint")
	add(c.found.Findings.StubRuns(), "stub run", "%s that would be created for rows without a run")
	if c.options.NaiveZone == nil {
		naive := c.found.Findings.NaiveCount()
		add(naive, "timestamp", "%s without a time zone, read as UTC")
	}
	switch {
	case len(parts) == 0:
		c.ok("findings", "every value can be stored unchanged")
	case rows > 0 && !c.options.Quarantine:
		c.failure(
			"findings",
			"fix the rows in a copy of the file",
			"%s",
			strings.Join(parts, ", "),
		)
		c.advise(clierr.Quarantine, "")
	case rows+cells > 0:
		c.warning(
			"findings",
			"see the list below; a migration stores the original values in flujo_port_originals (docs/values.md)",
			"%s",
			strings.Join(parts, ", "),
		)
	default:
		c.warning(
			"findings",
			"no value is lost; see docs/values.md",
			"%s",
			strings.Join(parts, ", "),
		)
		if c.options.NaiveZone == nil && c.found.Findings.NaiveCount() > 0 {
			c.advise(clierr.NameZone, "")
		}
	}
	if c.options.OnFinding == nil {
		return nil
	}
	return c.found.EachFinding(ctx, func(f mapping.Finding) error {
		c.options.OnFinding(f)
		return nil
	})
}
