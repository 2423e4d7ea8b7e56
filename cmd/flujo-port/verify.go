package main

import (
	"errors"
	"fmt"

	"flujo-port/internal/report"
	"flujo-port/internal/verify"

	"github.com/urfave/cli/v2"
)

func (e *env) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "compare the state file with PostgreSQL after a migration",
		Description: "verify can run at any time; it compares every cell in one read-only snapshot.\n" +
			"By the migration's receipt it distinguishes rows that were written since\n" +
			"(exit code 0) from a copy mismatch (exit code 4). It refuses a state file\n" +
			"other than the one that was migrated (exit code 3). Without a receipt, any\n" +
			"difference is exit code 4.",
		Flags: []cli.Flag{
			sqliteFlag, postgresFlag, schemaFlag,
			receiptTimezoneFlag, skipIntegrityFlag, jsonFlag,
		},
		Action: e.verify,
	}
}

func (e *env) verify(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path, err := e.sqlitePath(c)
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
	differences, err := newSpool[report.Difference](c.Bool(jsonFlag.Name))
	if err != nil {
		return err
	}
	defer differences.close()
	shown := newDisplay(e.stderr)
	result, err := verify.Run(c.Context, verify.Options{
		SQLite:        path,
		Postgres:      target.url,
		Schema:        target.schema,
		SkipIntegrity: c.Bool(skipIntegrityFlag.Name),
		NaiveZone:     zone,
		OnDifference:  differences.add,
		OnProgress:    shown.show,
	})
	shown.end()
	if result == nil {
		return &outcome{err: err, consequence: "nothing was changed"}
	}
	result.Version = version()
	if printErr := e.print(c, result, result.Text, report.ListOf("differences", differences.each)); printErr != nil {
		err = errors.Join(err, printErr)
	}
	for _, warning := range result.Warnings {
		fmt.Fprintf(e.stderr, "flujo-port: warning: %s\n", warning)
	}
	if err != nil {
		return &outcome{err: err, consequence: "nothing was changed"}
	}
	return nil
}
