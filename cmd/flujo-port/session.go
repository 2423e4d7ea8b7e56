package main

import (
	"cmp"
	"errors"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/document"
	"flujo-port/internal/fileio"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"

	"github.com/urfave/cli/v2"
)

// session is what every command that runs an operation does: it shows the progress,
// stores what is listed only in the JSON report, prints the report and the warnings,
// and returns the error with its consequence.
type session struct {
	env         *env
	json        bool
	file        *fileio.Output // of --report, or nil
	endProgress func()
	findings    *spool[report.Finding]
	differences *spool[report.Difference]
	units       *spool[report.Unit]
}

// begin starts a session, and has the context of c report waits to the console. files are
// those that the operation uses. The caller closes the session, and has the operation
// report its progress to show.
func (e *env) begin(c *cli.Context, files ...string) (*session, error) {
	s := &session{env: e, json: c.Bool(jsonFlag.Name)}
	var err error
	if s.file, err = e.reportFile(c, files...); err != nil {
		return nil, err
	}
	store := s.stores()
	if s.findings, err = newSpool[report.Finding](store); err != nil {
		return nil, withConsequence(err, "nothing was changed")
	}
	if s.differences, err = newSpool[report.Difference](store); err != nil {
		s.findings.close()
		return nil, withConsequence(err, "nothing was changed")
	}
	if s.units, err = newSpool[report.Unit](store); err != nil {
		s.findings.close()
		s.differences.close()
		return nil, withConsequence(err, "nothing was changed")
	}
	s.endProgress = e.console.begin()
	c.Context = postgres.ReportWaits(c.Context, e.console.wait)
	return s, nil
}

// stores reports whether the findings, differences and units are stored.
func (s *session) stores() bool { return s.json || s.file != nil }

// show shows the progress of the operation.
func (s *session) show(e progress.Event) { s.env.console.show(e) }

// close ends the progress and removes the temporary files.
func (s *session) close() {
	s.endProgress()
	s.findings.close()
	s.differences.close()
	s.units.close()
}

// addFinding stores a finding for the JSON report.
func (s *session) addFinding(f mapping.Finding) error { return s.findings.add(finding(f)) }

// onFinding returns a function that stores a finding, or nil if findings are not stored. If storing fails, print
// returns the error, as after addDifference.
func (s *session) onFinding() func(mapping.Finding) {
	if s.stores() {
		return func(f mapping.Finding) { _ = s.addFinding(f) }
	}
	return nil
}

// addDifference stores a difference for the JSON report. If that fails, print returns the
// error. The operation does not end: after a difference nothing is committed, and the
// verdict does not need the report.
func (s *session) addDifference(d report.Difference) { _ = s.differences.add(d) }

// addUnit stores a unit for the JSON report, as addDifference does.
func (s *session) addUnit(u report.Unit) { _ = s.units.add(u) }

// fail returns the error of an operation that returned no report, and writes the file of
// --report.
func (s *session) fail(err error, consequence string) error {
	s.endProgress()
	err = withConsequence(err, consequence)
	if notWritten := s.writeReportFile(printed{report: s.env.failed(err)}); notWritten != nil {
		s.env.warn("the report: " + notWritten.Error())
	}
	return err
}

// result is the report of a command.
type result interface {
	Head() *report.Run
	Document() *document.Document
}

// printed is a report to be printed.
type printed struct {
	report   result
	lists    []report.List // of the JSON report
	warnings *[]string     // may be nil
	// done describes the change that the operation has made; it is empty if it made
	// none. Then every failure is a warning, and the exit code is 0.
	done string
	// mask masks the passwords that the report has with --reveal, before it is written to a file that is kept. It may
	// be nil.
	mask func()
}

// end prints a report and its warnings. It returns err, or an error of printing if err
// is nil, with its consequence.
func (s *session) end(p printed, err error, consequence string) error {
	s.endProgress()
	var warnings []string
	if p.warnings != nil {
		warnings = *p.warnings
	}
	// failed takes an error of writing a report: it is a warning if the command has changed something, or has failed
	// anyway, and otherwise the command's error.
	failed := func(what string, cause error) {
		switch {
		case cause == nil:
		case p.done != "":
			warnings = append(warnings, fmt.Sprintf("%s, but %s: %v", p.done, what, cause))
		case err != nil: // it says what the report is about
			warnings = append(warnings, fmt.Sprintf("%s: %v", what, cause))
		default:
			e := &clierr.Error{Kind: clierr.Failed, Message: what, Err: cause, Hint: "run again"}
			if known, ok := errors.AsType[*clierr.Error](cause); ok {
				plain := *known
				plain.Hint = ""
				e.Err, e.Hint = &plain, known.Hint
			}
			err = withConsequence(e, consequence)
		}
	}
	err = withConsequence(err, consequence)
	s.env.describe(p.report.Head(), err)
	failed("the report cannot be printed, or only in part", s.print(p))
	s.env.describe(p.report.Head(), err)
	if p.mask != nil {
		p.mask()
	}
	failed("the file of --"+reportFlag.Name+" cannot be written", s.writeReportFile(p))
	for _, warning := range warnings {
		s.env.warn(warning)
	}
	return err
}

// print prints a report as text, or as one JSON object with --json. It prints nothing if
// a list of the object is incomplete.
func (s *session) print(p printed) error {
	if !s.json {
		s.env.reported = true
		return p.report.Document().Text(s.env.stdout, s.env.width())
	}
	if err := s.checkLists(); err != nil {
		return err
	}
	s.env.reported = true
	return report.JSON(s.env.stdout, p.report, p.lists...)
}

// checkLists returns an error if a list is incomplete.
func (s *session) checkLists() error {
	return cmp.Or(s.findings.check(), s.differences.check(), s.units.check())
}

func (s *session) findingList() report.List { return report.ListOf("findings", s.findings.each) }

func (s *session) differenceList() report.List {
	return report.ListOf("differences", s.differences.each)
}

func (s *session) unitList() report.List { return report.ListOf("units", s.units.each) }

// outcome is an error together with its consequence for the data.
type outcome struct {
	err         error
	consequence string
}

func (o *outcome) Error() string { return o.err.Error() }

// Unwrap returns the error without its consequence.
func (o *outcome) Unwrap() error { return o.err }

// withConsequence returns err with its consequence, or nil if err is nil.
func withConsequence(err error, consequence string) error {
	if err == nil {
		return nil
	}
	return &outcome{err: err, consequence: consequence}
}
