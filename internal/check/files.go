package check

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/jsonb"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// stateFile is a state file that is checked.
type stateFile struct {
	report   *report.CheckedFile
	snapshot *source.Snapshot // nil if the file cannot be read
	format   *mapping.Format  // nil if the file's rows cannot be read
	found    *extract.Result  // what is in the file; nil if its rows cannot be read
	sameAs   *stateFile       // a file before it with the same content; then its rows are not read
	hashes   []uint64         // of the keys of its units, if there are several files

	hash      *source.Hash // the computation of the SHA-256; nil if none was started
	main, wal string       // the SHA-256 of the file and of its -wal; empty until sum was called
}

// sum computes the SHA-256 of the file, or waits for it, unless it is known.
func (f *stateFile) sum(ctx context.Context) (err error) {
	switch {
	case f.main != "":
	case f.hash != nil:
		f.main, f.wal, err = f.hash.Wait()
	default:
		f.main, f.wal, err = f.snapshot.SHA256(ctx)
	}
	return err
}

// about has results added to a file.
func (c *checker) about(f *stateFile) { c.group, c.file = report.GroupFile, f }

func (c *checker) closeFiles() {
	for _, f := range c.files {
		if f.hash != nil {
			f.hash.Stop()
		}
		if f.snapshot != nil {
			f.snapshot.Close()
		}
	}
}

// describeFiles adds the files to the report. A single file's part is that of the report.
func (c *checker) describeFiles() {
	if len(c.files) > 1 {
		for _, f := range c.files {
			c.report.Files = append(c.report.Files, f.report)
		}
		return
	}
	only := c.files[0].report
	c.report.Source, c.report.Findings = only.Source, only.Findings
	c.report.Results = append(only.Results, c.report.Results...)
}

// distinct returns the files without those that have the content of another.
func (c *checker) distinct() (all []*stateFile) {
	for _, f := range c.files {
		if f.sameAs == nil {
			all = append(all, f)
		}
	}
	return all
}

// wereRead reports whether the rows of all files were read.
func (c *checker) wereRead() bool {
	for _, f := range c.distinct() {
		if f.found == nil {
			return false
		}
	}
	return true
}

// open checks a state file except its rows, and adds it to the files. Its snapshot stays
// open.
func (c *checker) open(ctx context.Context, path string) (err error) {
	f := &stateFile{report: &report.CheckedFile{Path: path, Results: []report.CheckResult{}}}
	c.files = append(c.files, f)
	c.about(f)
	f.snapshot, err = source.Open(ctx, path)
	if err != nil {
		return c.addError(ctx, "readable", notChecked, err)
	}
	c.ok("readable", "%s, %s", f.snapshot.Path(), humanize.IBytes(uint64(f.snapshot.Size())))
	c.wal(f.snapshot)
	if n := f.snapshot.Links(); n > 1 {
		c.warning(
			"hard links",
			"make sure that Flujo's state_uri names this one, and that no other has a -wal next to it",
			"the file has %d names; a -wal next to another name is not read",
			n,
		)
	}
	if f.snapshot.Locked() {
		c.warning(
			"other processes",
			"stop Flujo before the cutover; it may run during a dry run",
			"another process has the file open and may write to it",
		)
	} else {
		c.ok("other processes", "no other process on this machine has the file open")
	}
	format, err := mapping.DetectFormat(f.snapshot.Tables())
	if err != nil {
		c.failure("file format", "pass the file that Flujo's state_uri names", "%v", err)
		return nil
	}
	f.format = format
	c.ok("file format", "%s", format.Name)
	s := extract.Describe(f.snapshot, format)
	f.report.Source = &s
	return c.findSame(ctx, f)
}

// contents reads the file's rows, checks its integrity and computes its SHA-256 at the same
// time, and adds the results. A damaged file has no other results, since what is read of it
// means nothing.
func (c *checker) contents(ctx context.Context, f *stateFile) error {
	if c.options.SkipIntegrity {
		c.warning("integrity", "", "skipped")
		c.advise(clierr.CheckIntegrity, "")
	}
	reading, integrity := ctx, (*source.Integrity)(nil)
	if !c.options.SkipIntegrity {
		reading, integrity = f.snapshot.StartIntegrityCheck(ctx)
		defer integrity.Stop()
	}
	if f.main == "" {
		f.hash = f.snapshot.StartHash(ctx)
	}
	results := len(f.report.Results)
	scanErr := c.scan(reading, f)
	c.options.OnProgress.Start(progress.Integrity)
	if err := integrity.Wait(); err != nil {
		f.report.Source.IntegrityFailed = true
		f.found, f.report.Findings, f.report.Results = nil, nil, f.report.Results[:results]
		return c.addError(ctx, "integrity", notChecked, err)
	}
	if !c.options.SkipIntegrity {
		f.report.Source.Integrity = source.IntegrityCheck
		c.ok("integrity", "PRAGMA integrity_check found no damage")
	}
	if scanErr != nil {
		f.found = nil
		return c.addError(ctx, "findings", notChecked, scanErr)
	}
	return nil
}

// identify adds the SHA-256 of each file when all was read of it, and whether it was written
// to meanwhile.
func (c *checker) identify(ctx context.Context) error {
	for _, f := range c.files {
		if f.format == nil {
			continue
		}
		changed, sumErr, err := f.identify(ctx)
		if f.sameAs != nil {
			f.report.Source.Integrity = f.sameAs.report.Source.Integrity
			f.report.Source.IntegrityFailed = f.sameAs.report.Source.IntegrityFailed
		} else if f.found == nil {
			continue // the error that its rows could not be read for is in the report
		}
		c.about(f)
		if err := c.writes(ctx, changed, err); err != nil {
			return err
		}
		if sumErr != nil {
			if err := c.addError(ctx, "SHA-256", notChecked, sumErr); err != nil {
				return err
			}
		}
	}
	c.file = nil
	return ctx.Err()
}

// identify adds the SHA-256 of the file to its report, and returns whether the file was
// written to since it was opened. Then the report has no SHA-256, since that of no state of
// the file is known to be the one that was checked. sumErr is the error of computing it.
func (f *stateFile) identify(ctx context.Context) (changed bool, sumErr, err error) {
	sumErr = f.sum(ctx)
	changed, err = f.snapshot.Changed()
	if err != nil || changed { // a file that was written to may have become shorter, which is an error of sum
		return changed, nil, err
	}
	f.report.Source.SHA256, f.report.Source.WALSHA256 = f.main, f.wal
	return false, sumErr, nil
}

// writes adds whether the file was written to, given the results of identify.
func (c *checker) writes(ctx context.Context, changed bool, err error) error {
	switch {
	case err != nil:
		return c.addError(ctx, "concurrent writes", notChecked, err)
	case changed:
		c.warning("concurrent writes", "stop Flujo before the cutover",
			"the file was written to during the check, so its SHA-256 is not known")
	default:
		c.ok("concurrent writes", "no process wrote to the file during the check")
	}
	return nil
}

// findSame finds a file before f that has the same content.
func (c *checker) findSame(ctx context.Context, f *stateFile) error {
	for _, other := range c.distinct() {
		if other == f || other.format == nil || other.snapshot.Size() != f.snapshot.Size() ||
			other.snapshot.WALSize() != f.snapshot.WALSize() {
			continue
		}
		same, err := haveSameContent(ctx, other, f)
		if err != nil {
			f.format = nil
			return c.addError(ctx, "content", notChecked, err)
		}
		if same {
			f.sameAs, f.report.SameAs = other, other.report.Path
			c.ok("content", "that of %s: it is migrated once", clierr.Name(other.report.Path))
			return nil
		}
	}
	return nil
}

func haveSameContent(ctx context.Context, a, b *stateFile) (bool, error) {
	if err := a.sum(ctx); err != nil {
		return false, err
	}
	err := b.sum(ctx)
	return err == nil && a.main == b.main && a.wal == b.wal, err
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
func (c *checker) scan(ctx context.Context, f *stateFile) error {
	config := extract.Config{
		Format:     f.format,
		Options:    mapping.Options{NaiveZone: c.options.NaiveZone, JSONDepth: jsonb.DefaultDepth},
		Types:      mapping.NewTypes(c.options.ExactFloats),
		WrittenAt:  extract.WrittenAt(f.snapshot),
		Phase:      progress.Read,
		OnProgress: c.options.OnProgress,
	}
	if c.hasServer() {
		config.Options.JSONDepth = c.conn.Server.JSONDepth()
	}
	size, note, err := extract.VectorSize(ctx, f.snapshot, f.format)
	if err != nil {
		return err
	}
	c.facts.vectorSize = cmp.Or(c.facts.vectorSize, size) // of the first file that has vectors, as in a migration
	config.Types.VectorSize = c.facts.vectorSize
	if len(c.facts.differences) == 0 {
		if _, err := postgres.AdoptTypes(config.Types, mapping.Tables, c.facts.have); err != nil {
			return err
		}
	}
	into := extract.Destination(extract.Discard{})
	if len(c.files) > 1 {
		into = hashKeys{file: f}
	}
	if f.found, err = extract.New(f.snapshot, config).Run(ctx, into); err != nil {
		return err
	}
	if note != "" {
		f.found.Findings.Notes = append([]string{note}, f.found.Findings.Notes...)
	}
	f.report.Findings = f.found.Findings
	var rows []string
	for _, t := range f.found.Findings.Tables {
		if t.RowsRead > 0 {
			rows = append(rows, fmt.Sprintf("%s %s", t.Name, humanize.Comma(t.RowsRead)))
		}
	}
	c.ok("rows", "%s", strings.Join(rows, ", "))
	for _, note := range f.found.Findings.Notes {
		c.ok("note", "%s", note)
	}
	if err := c.inProgress(ctx, f); err != nil {
		return err
	}
	return c.findings(ctx, f)
}

// inProgress adds the number of running and paused runs. A running one may still
// write to the file, and a paused one continues after the cutover.
func (c *checker) inProgress(ctx context.Context, f *stateFile) error {
	var parts []string
	running := false
	for _, table := range []string{mapping.Runs, "workflow_state"} {
		for _, status := range []string{"running", "paused"} {
			n, err := f.snapshot.CountWhere(ctx, table, "status", sqlite.TextValue(status))
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
func (c *checker) findings(ctx context.Context, f *stateFile) error {
	rows, cells := f.found.Findings.Count()
	var parts []string
	add := func(n int64, noun, format string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, humanize.Comma(n)+" "+english.PluralWord(int(n), noun, "")))
		}
	}
	add(rows, "row", "%s rejected by Flujo's PostgreSQL tables")
	add(cells, "value", "%s that would be changed")
	add(int64(len(f.found.Findings.Widened)), "column", "%s that would be widened to bigint")
	add(f.found.Findings.StubRuns(), "stub run", "%s that would be created for rows without a run")
	if c.options.NaiveZone == nil {
		naive := f.found.Findings.NaiveCount()
		add(naive, "timestamp", "%s without a time zone, read as UTC")
	}
	switch {
	case len(parts) == 0:
		but := ""
		if n := f.found.Findings.RoundedCount(); n > 0 {
			but = fmt.Sprintf(", apart from %s %s rounded to real, the type of Flujo's columns",
				humanize.Comma(n), english.PluralWord(int(n), "value", ""))
		}
		c.ok("findings", "every value can be stored unchanged%s", but)
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
		if c.options.NaiveZone == nil && f.found.Findings.NaiveCount() > 0 {
			c.advise(clierr.NameZone, "")
		}
	}
	if c.options.OnFinding == nil {
		return nil
	}
	return f.found.EachFinding(ctx, func(one mapping.Finding) error {
		if len(c.files) > 1 {
			one.File = f.report.Path
		}
		c.options.OnFinding(one)
		return nil
	})
}
