// Package check runs the preflight checks: what would stop a migration. It changes
// nothing.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/stateuri"

	"github.com/dustin/go-humanize/english"
)

// Options are the options of Run. Fields that are not documented here have the same
// meaning as in migrate.Options.
type Options struct {
	SQLite          string
	More            []string // further files, in the order in which they would be migrated
	HasTarget       bool     // a database was named; otherwise only the state file is checked
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
func Run(ctx context.Context, o Options) (*report.Check, error) { return runInParts(ctx, o, maxUnits) }

// runInParts is Run with about maxUnits units at a time.
func runInParts(ctx context.Context, o Options, maxUnits int) (*report.Check, error) {
	started := time.Now()
	c := &checker{
		options:  o,
		maxUnits: maxUnits,
		report: &report.Check{
			Run: report.Run{Started: started.UTC().Truncate(time.Millisecond)},
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
		Message: "the preflight check found " + english.Plural(c.report.Errors(), "error", "") + c.report.WhereErrors(),
		Hint:    "see the lines marked ✗",
	}
}

// checker is one run of Run.
type checker struct {
	options  Options
	maxUnits int // compared at a time
	report   *report.Check
	group    string     // of the results that are being added
	file     *stateFile // to which results are added; nil for those of no single file
	unknown  []string   // names of checks that could not run
	files    []*stateFile
	conn     *postgres.Conn // nil if the connection failed; closed after survey
	facts    targetFacts
}

// run checks the server before it reads the file's rows, because the findings
// depend on the server.
func (c *checker) run(ctx context.Context) error {
	defer c.closeFiles()
	for _, path := range append([]string{c.options.SQLite}, c.options.More...) {
		if err := c.open(ctx, path); err != nil {
			return err
		}
	}
	c.file = nil
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
	for _, f := range c.files {
		if f.format == nil || f.sameAs != nil {
			continue
		}
		c.about(f)
		if err := c.contents(ctx, f); err != nil {
			return err
		}
		f.snapshot.ReleaseMemory()
	}
	c.file = nil
	if len(c.files) > 1 {
		c.group = report.GroupConflicts
		if err := c.conflicts(ctx); err != nil {
			return err
		}
	}
	if c.hasServer() {
		c.group = report.GroupTarget
		if err := c.target(ctx); err != nil {
			return err
		}
	}
	if err := c.identify(ctx); err != nil {
		return err
	}
	groups := []string{report.GroupConflicts, report.GroupServer, report.GroupTarget}
	slices.SortStableFunc(c.report.Results, func(a, b report.CheckResult) int {
		return slices.Index(groups, a.Group) - slices.Index(groups, b.Group)
	})
	c.describeFiles()
	return nil
}

// results returns the results of the current file, or those of no single file.
func (c *checker) results() *[]report.CheckResult {
	if c.file != nil {
		return &c.file.report.Results
	}
	return &c.report.Results
}

func (c *checker) addResult(status report.Status, name, hint, format string, args ...any) {
	results := c.results()
	*results = append(*results, report.CheckResult{
		Group:   c.group,
		Name:    name,
		Status:  status,
		Message: fmt.Sprintf(format, args...),
		Hint:    hint,
	})
}

// advise adds an advice to the last result.
func (c *checker) advise(topic clierr.Topic, arg string) {
	results := *c.results()
	results[len(results)-1].Advice = clierr.Advice{Topic: topic, Arg: arg}
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
