package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/jsonb"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/stateuri"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// CheckOptions are the options of Check. Fields that are not documented here
// have the same meaning as in MigrateOptions.
type CheckOptions struct {
	SQLite          string
	HasTarget       bool // a database was named; otherwise only the state file is checked
	Postgres        string
	Schema          string
	Cutover         stateuri.Address
	WithoutPGVector bool
	Quarantine      bool
	ExactFloats     bool
	NaiveZone       *time.Location
	SkipIntegrity   bool
	OnFinding       func(mapping.Finding)
	OnProgress      func(Progress)
}

// Check runs the preflight checks and changes nothing. If a check result has the
// status report.Error, Check returns the report and an error of kind
// clierr.Refused.
func Check(ctx context.Context, o CheckOptions) (*report.Check, error) {
	started := time.Now()
	c := &checker{
		CheckOptions: o,
		report: &report.Check{
			Format:  report.Format,
			Command: "check",
			Started: started.UTC().Truncate(time.Millisecond),
		},
	}
	if c.OnProgress == nil {
		c.OnProgress = func(Progress) {}
	}
	if err := c.run(ctx); err != nil {
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

// checker is one run of Check.
type checker struct {
	CheckOptions
	report        *report.Check
	extraction    *extraction    // of the state file; nil if the file cannot be read
	integrityTime time.Duration  // duration of quick_check
	group         string         // of the results that are being added
	conn          *postgres.Conn // nil if the connection failed; closed after survey
	unknown       []string       // names of checks that could not run
	targetFacts
}

// run checks the server before it reads the file's rows, because the findings
// depend on the server.
func (c *checker) run(ctx context.Context) error {
	c.group = report.GroupFile
	snapshot, format, err := c.file(ctx)
	if snapshot != nil {
		defer snapshot.Close()
	}
	if err != nil {
		return err
	}
	if c.HasTarget {
		c.OnProgress(Progress{Phase: PhaseConnect})
		if err := c.survey(ctx); err != nil {
			return interrupted(ctx, err)
		}
		if c.hasServer() {
			if err := c.address(ctx); err != nil {
				return err
			}
		}
	}
	if format != nil {
		c.group = report.GroupFile
		if err := c.contents(ctx, snapshot, format); err != nil {
			return interrupted(ctx, err)
		}
	}
	if c.hasServer() {
		c.group = report.GroupTarget
		if err := c.target(ctx); err != nil {
			return interrupted(ctx, err)
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
	message, hint := postgres.ServerError(err).Error(), ""
	if f, ok := errors.AsType[*clierr.Error](err); ok {
		plain := *f
		plain.Hint = ""
		message, hint = plain.Error(), f.Hint
	}
	c.unknown = append(c.unknown, name)
	if _, held := errors.AsType[*postgres.LockTimeoutError](err); held {
		c.warning(
			name,
			fmt.Sprintf("run check again when the lock is free; a migration waits up to %s for it", postgres.LockWait),
			"%s: %s",
			failed,
			message,
		)
		return nil
	}
	c.failure(name, cmp.Or(hint, "fix the cause, and run check again"), "%s", message)
	return nil
}

// notChecked is the text of a line whose check could not run.
const notChecked = "could not be checked"

// file checks the state file except its rows. The returned format is nil if the
// rows cannot be read. The caller closes the snapshot.
func (c *checker) file(ctx context.Context) (snapshot *source.Snapshot, format *mapping.Format, err error) {
	snapshot, err = source.Open(ctx, c.SQLite)
	if err != nil {
		return nil, nil, c.addError(ctx, "readable", notChecked, err)
	}
	c.ok("readable", "%s, %s", snapshot.Path(), humanize.IBytes(uint64(snapshot.Size())))
	c.wal(snapshot)
	if snapshot.Locked() {
		c.warning(
			"other processes",
			"stop Flujo before the cutover; it may run during a dry run",
			"another process has the file open and may write to it",
		)
	} else {
		c.ok("other processes", "no other process on this machine has the file open")
	}
	sound, err := c.integrity(ctx, snapshot)
	if err != nil || !sound {
		return snapshot, nil, err
	}
	format, err = mapping.DetectFormat(snapshot.Tables())
	if err != nil {
		c.failure("file format", "pass the file that Flujo's state_uri names", "%v", err)
		return snapshot, nil, nil
	}
	c.ok("file format", "%s", format.Name)
	s := describeSource(snapshot, format)
	if !c.SkipIntegrity {
		s.Integrity = "quick_check"
	}
	c.report.Source = &s
	return snapshot, format, nil
}

// contents reads the file's rows and adds the results for them.
func (c *checker) contents(ctx context.Context, snapshot *source.Snapshot, format *mapping.Format) error {
	c.extraction = newExtraction(snapshot, format)
	c.report.Findings = c.extraction.findings
	if err := c.scan(ctx); err != nil {
		c.extraction = nil
		return c.addError(ctx, "findings", notChecked, err)
	}
	changed, err := snapshot.Changed()
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

func (c *checker) integrity(ctx context.Context, snapshot *source.Snapshot) (sound bool, err error) {
	if c.SkipIntegrity {
		c.warning("integrity", "run without --skip-integrity", "skipped")
		return true, nil
	}
	started := time.Now()
	_, err = checkIntegrity(ctx, snapshot, false, c.OnProgress)
	if err != nil {
		return false, c.addError(ctx, "integrity", notChecked, err)
	}
	c.integrityTime = time.Since(started)
	c.ok("integrity", "PRAGMA quick_check found no damage, in %.1f s", c.integrityTime.Seconds())
	return true, nil
}

// scan reads all rows as a migration into the target would, and adds what it
// finds.
func (c *checker) scan(ctx context.Context) (err error) {
	r := c.extraction
	r.options = mapping.Options{NaiveZone: c.NaiveZone, JSONDepth: jsonb.DefaultDepth}
	if c.hasServer() {
		r.options.JSONDepth = c.conn.Server.JSONDepth()
	}
	r.types = mapping.NewTypes(c.ExactFloats)
	if c.vectorSize, err = r.vectorSize(ctx); err != nil {
		return err
	}
	r.types.VectorSize = c.vectorSize
	if len(c.differences) == 0 {
		if _, err := postgres.AdoptTypes(r.types, mapping.Tables, c.have); err != nil {
			return err
		}
	}
	r.progress, r.phase = c.OnProgress, PhaseRead
	r.dst = &tupleVisitor{types: r.types, visit: func([]byte) error { return nil }}
	if err := r.extractAll(ctx); err != nil {
		return err
	}
	var rows []string
	for _, t := range r.findings.Tables {
		if t.RowsRead > 0 {
			rows = append(rows, fmt.Sprintf("%s %s", t.Name, humanize.Comma(t.RowsRead)))
		}
	}
	c.ok("rows", "%s", strings.Join(rows, ", "))
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
			n, err := c.extraction.snapshot.CountWhere(ctx, table, "status", sqlite.TextValue(status))
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
	rows, cells := c.extraction.findings.Count()
	var parts []string
	add := func(n int64, noun, format string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, humanize.Comma(n)+" "+english.PluralWord(int(n), noun, "")))
		}
	}
	add(rows, "row", "%s rejected by Flujo's PostgreSQL tables")
	add(cells, "cell", "%s that would be converted")
	add(int64(len(c.extraction.findings.Widened)), "column", "%s that would be widened to bigint")
	for _, d := range c.extraction.findings.Derived {
		if d.Table == mapping.Runs {
			add(d.Rows, "stub run", "%s that would be created for rows without a run")
		}
	}
	if c.NaiveZone == nil {
		naive := c.extraction.findings.NaiveCount()
		add(naive, "timestamp", "%s without a time zone, read as UTC (see --naive-timezone)")
	}
	switch {
	case len(parts) == 0:
		c.ok("findings", "every value can be stored unchanged")
	case rows > 0 && !c.Quarantine:
		c.failure(
			"findings",
			"fix the rows in a copy of the file, or use --quarantine, which stores them in flujo_port_originals",
			"%s",
			strings.Join(parts, ", "),
		)
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
	}
	return c.extraction.reportFindings(ctx, c.OnFinding)
}
