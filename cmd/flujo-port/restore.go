package main

import (
	"errors"
	"fmt"
	"os"

	"flujo-port/internal/report"
	"flujo-port/internal/stateuri"
	"flujo-port/internal/transfer"

	"github.com/urfave/cli/v2"
)

func (e *env) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "bring what is in PostgreSQL back into a new SQLite file",
		Description: "The file is made next to its final path, compared cell by cell with the database, and only then named; nothing is\n" +
			"overwritten, and the database is only read. With --base, rows that PostgreSQL has not changed since the\n" +
			"migration are taken from the old file, byte for byte. Stop Flujo first: what it writes meanwhile is not in the file.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: sqliteFlag.Name, Usage: "the new file, a `PATH|URI`; there must be nothing yet"},
			postgresFlag, schemaFlag,
			&cli.StringFlag{
				Name:  "base",
				Usage: "the file that was migrated, a `PATH|URI`: what has not changed since is taken from it",
			},
			&cli.BoolFlag{
				Name:  "merge",
				Usage: "with --base, which Flujo may have written to since: take each run, key and memory from the side that wrote it last",
			},
			&cli.BoolFlag{Name: "dry-run", Usage: "do all of it, report, then remove the file"},
			receiptTimezoneFlag,
			jsonFlag,
		},
		Action: e.restore,
	}
}

func (e *env) restore(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path, err := namedFile(c, sqliteFlag.Name)
	if err != nil {
		return err
	}
	if path == "" {
		return usagef("restore wants to know where the new file shall be: --sqlite PATH")
	}
	base, err := namedFile(c, "base")
	if err != nil {
		return err
	}
	if c.Bool("merge") && base == "" {
		return usagef("--merge wants to know with what: --base PATH")
	}
	zone, err := naiveZone(c.String(receiptTimezoneFlag.Name))
	if err != nil {
		return err
	}
	rollback, err := rollbackAddress(path)
	if err != nil {
		return err
	}
	target, err := e.databaseTarget(c)
	if err != nil {
		return err
	}
	differences, err := newSpool[report.Difference](c.Bool(jsonFlag.Name))
	if err != nil {
		return err
	}
	defer differences.close()
	progress := newProgress(e.stderr)
	result, err := transfer.Restore(c.Context, transfer.RestoreOptions{
		SQLite: path, Base: base, Postgres: target.url, Schema: target.schema, DryRun: c.Bool("dry-run"), NaiveZone: zone, Merge: c.Bool("merge"),
		OnDifference: differences.add, OnProgress: progress.show,
	})
	progress.end()
	if result == nil {
		return &outcome{err: err, means: "no file was made, and the database is as it was"}
	}
	result.Version, result.Rollback = version(), rollback.String()
	if printErr := e.print(c, result, result.Text, report.ListOf("differences", differences.each)); printErr != nil {
		if !result.Done {
			err = errors.Join(err, printErr)
		} else {
			fmt.Fprintf(e.stderr, "flujo-port: warning: the file is there, but the report can't be printed: %v\n", printErr)
		}
	}
	for _, warning := range result.Warnings {
		fmt.Fprintf(e.stderr, "flujo-port: warning: %s\n", warning)
	}
	if err != nil {
		return &outcome{err: err, means: "no file was left, and the database is as it was"}
	}
	return nil
}

// namedFile gives the file that a flag names; "" without one.
func namedFile(c *cli.Context, flag string) (string, error) {
	value := c.String(flag)
	if value == "" {
		return "", nil
	}
	if secretive(value) {
		return "", usagef("--%s is no file but looks like an address", flag)
	}
	here, err := os.Getwd()
	if err != nil {
		return "", usagef("find the working directory: %v", err)
	}
	path, err := stateuri.SQLitePath(value, here)
	if err != nil {
		return "", usagef("--%s: %v", flag, err)
	}
	return path, nil
}
