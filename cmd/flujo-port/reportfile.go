package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/document"
	"flujo-port/internal/fileio"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"

	"github.com/urfave/cli/v2"
)

var reportFlag = &cli.StringFlag{
	Name:      "report",
	Category:  groupOutput,
	TakesFile: true,
	Usage: "also write the report with every finding to `FILE` (mode 0600), to be kept: a page if its name ends in " +
		".html, or .md, or .json; a new file, or the report of a command that changed nothing",
}

// recorded is the report of a command that has --report.
type recorded interface {
	Record(*report.Details) *document.Document
}

// reportForms are the forms of --report by the ending of the file's name. begins is how a file of that form that this
// program wrote begins.
var reportForms = map[string]struct {
	begins string
	write  func(w io.Writer, p printed, x *report.Details) error
}{
	".html": {document.PageBegins, func(w io.Writer, p printed, x *report.Details) error {
		return p.report.(recorded).Record(x).HTML(w)
	}},
	".md": {"# flujo-port ", func(w io.Writer, p printed, x *report.Details) error {
		return p.report.(recorded).Record(x).Markdown(w)
	}},
	".json": {"{\n  \"format\": ", func(w io.Writer, p printed, _ *report.Details) error {
		return report.JSON(w, p.report, p.lists...)
	}},
}

func reportForm(path string) string { return strings.ToLower(filepath.Ext(path)) }

// reportFile returns the file of --report, or nil if the flag is not set. Others are files that the command uses. It
// returns a usage error if the file could not be written, so that no command fails here when its work is done.
func (e *env) reportFile(c *cli.Context, others ...string) (*fileio.Output, error) {
	path := c.String(reportFlag.Name)
	if path == "" {
		return nil, nil
	}
	if err := checkPath("--"+reportFlag.Name, path); err != nil {
		return nil, err
	}
	file := &fileio.Output{Path: path, InUse: append(others, flujoTOML)}
	form, ok := reportForms[reportForm(path)]
	if !ok {
		return nil, usagef("--%s must name a file that ends in .html, .md or .json", reportFlag.Name)
	}
	err := file.Check()
	if err == nil {
		err = checkBegins(path, form.begins)
	}
	if err == nil && e.isOpenAt(path) {
		err = fmt.Errorf("%q is the file to which the report or the progress is redirected", path)
	}
	if err != nil {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "--" + reportFlag.Name,
			Err:     err,
			Hint:    "name another file",
		}
	}
	return file, nil
}

// keptMarks are in a report of a command that has changed something. Such a report is not replaced.
var keptMarks = []string{document.KeptMark, "\n  \"committed\": true", "\n  \"done\": true"}

// checkBegins returns an error if a file exists that is not empty and does not begin with the text, or that is the
// report of a command that has changed something.
func checkBegins(path, text string) error {
	f, err := fileio.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, len(text))
	n, err := io.ReadFull(f, begin)
	if n == 0 && err == io.EOF {
		return nil
	}
	if !bytes.Equal(begin[:n], []byte(text)) {
		return fmt.Errorf("%q exists, and this flag did not write it", path)
	}
	rest := make([]byte, 64<<10) // the marks are in the first lines
	n, err = io.ReadFull(f, rest)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	for _, mark := range keptMarks {
		if bytes.Contains(rest[:n], []byte(mark)) {
			return fmt.Errorf("%q is the report of a command that has changed something, and is kept", path)
		}
	}
	return nil
}

// writeReportFile writes the file of --report, which may be nil.
func (s *session) writeReportFile(p printed) (err error) {
	if s.file == nil {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %q: %w", s.file.Path, err)
		}
	}()
	if err := s.checkLists(); err != nil {
		return err
	}
	f, err := s.file.Create()
	if err != nil {
		return err
	}
	defer f.Discard()
	form := reportForms[reportForm(s.file.Path)]
	var failed error // of a list
	if err := form.write(f, p, s.details(p, &failed)); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if err := checkBegins(s.file.Path, form.begins); err != nil { // it may have been written during the run
		return err
	}
	return f.Commit()
}

// details returns what a record has besides the report. If a list cannot be read, it ends, and failed is set.
func (s *session) details(p printed, failed *error) *report.Details {
	x := &report.Details{
		Findings:    members(s.findings, failed),
		Differences: members(s.differences, failed),
		Units:       members(s.units, failed),
		JSON: document.Data{Name: "json", Title: "This report as JSON", Write: func(w io.Writer) error {
			return report.JSON(w, p.report, p.lists...)
		}},
	}
	for _, m := range mapping.Meanings() {
		x.Meanings = append(x.Meanings, report.Meaning{Name: m.Name, Found: m.Found, Outcome: m.Outcome})
	}
	return x
}

// members returns the members of a spool.
func members[T any](s *spool[T], failed *error) iter.Seq[T] {
	return func(yield func(T) bool) {
		err := s.each(func(one T) error {
			if !yield(one) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) && *failed == nil {
			*failed = err
		}
	}
}

// errEnough ends a loop over a spool.
var errEnough = errors.New("enough")
