package main

import (
	"fmt"

	"flujo-port/internal/check"
	"flujo-port/internal/clierr"
	"flujo-port/internal/report"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"
)

func (e *env) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "run preflight checks; change nothing",
		Description: "Each line of the checklist is ✓ (ok), ! (warning) or ✗ (error: a migration " +
			"would fail or be refused), with a hint. check reads the whole state file, and " +
			"rolls back a migration without rows and the load of a sample. " +
			"If no database is named, it checks only the state file.\n" +
			"\n" +
			"--sqlite may be repeated: then check also looks for conflicts, which are runs, keys " +
			"and memories that differ between the files, and says whose version would win.\n" +
			"\n" +
			"The exit code is 0, 3 if there is an error, or 5 if no database was named.",
		Flags: []cli.Flag{
			sqliteFilesFlag,
			postgresFlag,
			schemaFlag,
			checkQuarantineFlag,
			naiveTimezoneFlag,
			checkExactFloatsFlag,
			checkWithoutPGVectorFlag,
			skipIntegrityFlag,
			jsonFlag,
			reportFlag,
			quietFlag,
			logFormatFlag,
		},
		Action: e.check,
	}
}

func (e *env) check(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path, more, err := e.sqlitePaths(c)
	if err != nil {
		return err
	}
	for _, path := range append([]string{path}, more...) {
		if _, err := rollbackAddress(path); err != nil {
			return err
		}
	}
	zone, err := naiveZone(c.String(naiveTimezoneFlag.Name))
	if err != nil {
		return err
	}
	o := check.Options{
		SQLite:          path,
		More:            more,
		WithoutPGVector: c.Bool(withoutPGVectorFlag.Name),
		NoMigrations:    e.startsWithoutMigrations(),
		Quarantine:      c.Bool(quarantineFlag.Name),
		ExactFloats:     c.Bool(exactFloatsFlag.Name),
		NaiveZone:       zone,
		SkipIntegrity:   c.Bool(skipIntegrityFlag.Name),
	}
	if e.namesDatabase(c) {
		target, err := e.databaseTarget(c)
		if err != nil {
			return err
		}
		o.HasTarget, o.Postgres, o.Schema, o.Cutover = true, target.url, target.schema, target.address
		o.CutoverNotes, o.StateURI = target.notes, target.stateURI
	}
	s, err := e.begin(c, append([]string{path}, more...)...)
	if err != nil {
		return err
	}
	defer s.close()
	o.OnFinding = s.onFinding()
	o.OnProgress = s.show
	result, err := check.Run(c.Context, o)
	if result == nil {
		return s.fail(err, "nothing was changed")
	}
	result.Next = fmt.Sprintf("Do a dry run with \"%s\" and the same state %s.",
		e.suggested("migrate", "--dry-run"), english.PluralWord(1+len(more), "file", ""))
	result.EachResult(func(r *report.CheckResult) { r.Hint = e.withAdvice(r.Hint, r.Advice) })
	if err == nil && !o.HasTarget {
		err = &clierr.Error{
			Kind: clierr.Partial, Message: "the server was not checked, because none was named",
			Hint: "name it by --postgres to have it checked too",
		}
	}
	consequence := "nothing was changed"
	if clierr.KindOf(err) == clierr.Refused {
		consequence = "" // the report says so
	}
	p := printed{report: result, lists: []report.List{s.findingList()}}
	return s.end(p, err, consequence)
}
