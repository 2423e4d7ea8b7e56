package main

import (
	"flujo-port/internal/report"
	"flujo-port/internal/verify"

	"github.com/urfave/cli/v2"
)

func (e *env) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "compare the state file with PostgreSQL after a migration",
		Description: "verify can run at any time; it compares every cell in one read-only snapshot. " +
			"By the migration's receipt it distinguishes rows that were written since " +
			"(exit code 0) from a copy mismatch (exit code 4). It refuses a state file " +
			"other than the one that was migrated (exit code 3). Without a receipt, any " +
			"difference is exit code 4.",
		Flags: []cli.Flag{
			sqliteFilesFlag, postgresFlag, schemaFlag,
			receiptTimezoneFlag, skipIntegrityFlag, jsonFlag, reportFlag, quietFlag, logFormatFlag,
		},
		Action: e.verify,
	}
}

func (e *env) verify(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path, more, err := e.sqlitePaths(c)
	if err != nil {
		return err
	}
	target, err := e.databaseTarget(c)
	if err != nil {
		return err
	}
	zone, err := naiveZone(c.String(receiptTimezoneFlag.Name))
	if err != nil {
		return err
	}
	e.noteAside(target)
	s, err := e.begin(c, append([]string{path}, more...)...)
	if err != nil {
		return err
	}
	defer s.close()
	result, err := verify.Run(c.Context, verify.Options{
		SQLite:        path,
		More:          more,
		Postgres:      target.url,
		Schema:        target.schema,
		SkipIntegrity: c.Bool(skipIntegrityFlag.Name),
		NaiveZone:     zone,
		OnFinding:     s.onFinding(),
		OnDifference:  s.addDifference,
		OnUnit:        s.addUnit,
		OnProgress:    s.show,
	})
	const consequence = "nothing was changed"
	if result == nil {
		return s.fail(err, consequence)
	}
	p := printed{report: result, warnings: &result.Warnings,
		lists: []report.List{s.findingList(), s.differenceList(), s.unitList()}}
	return s.end(p, err, consequence)
}
