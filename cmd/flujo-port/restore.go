package main

import (
	"os"

	"flujo-port/internal/report"
	"flujo-port/internal/restore"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

func (e *env) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "copy PostgreSQL's rows to a new state file",
		Description: "restore creates the file in a folder of its own next to its final path, " +
			"compares it with the database cell by cell, and renames it. It overwrites " +
			"nothing and only reads the database. With --base, it takes rows that " +
			"PostgreSQL has not changed since the migration from the old state file, byte " +
			"for byte.\n" +
			"\n" +
			"Stop Flujo first: what it writes during a restore is not in the new file.",
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:      sqliteFlag.Name,
				Category:  groupSource,
				TakesFile: true,
				Usage:     "`PATH|URI` of the new file, which must not exist",
			},
			postgresFlag,
			schemaFlag,
			&cli.StringFlag{
				Name:      "base",
				TakesFile: true,
				Category:  groupOperation,
				Usage:     "`PATH|URI` of the state file that was migrated: take unchanged rows from it",
			},
			&cli.BoolFlag{
				Name:     "merge",
				Category: groupOperation,
				Usage: "with --base: Flujo may have written to the base since; each run, key of " +
					"system_state and memory is taken from the side that wrote it last",
			},
			&cli.Int64Flag{
				Name:     "from-receipt",
				Category: groupOperation,
				Usage: "restore the state file of the receipt with this `ID` as it was migrated: from PostgreSQL's " +
					"rows, if Flujo changed none of them, or byte for byte with that file as the base",
			},
			&cli.BoolFlag{
				Name:     "dry-run",
				Category: groupOperation,
				Usage:    "create and verify the file, print the report, then remove it",
			},
			receiptTimezoneFlag,
			jsonFlag, reportFlag, quietFlag, logFormatFlag,
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
		return usagef("restore requires --sqlite PATH, the path of the new file")
	}
	base, err := namedFile(c, "base")
	if err != nil {
		return err
	}
	e.files = append(e.files, path)
	if base != "" {
		e.files = append(e.files, base)
	}
	if c.Bool("merge") && base == "" {
		return usagef("--merge requires --base PATH")
	}
	if c.IsSet("from-receipt") && (c.Int64("from-receipt") < 1 || c.Bool("merge")) {
		return usagef("--from-receipt requires the id of a receipt, and cannot be combined with --merge")
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
	e.noteAside(target)
	s, err := e.begin(c, path, base)
	if err != nil {
		return err
	}
	defer s.close()
	result, err := restore.Run(c.Context, restore.Options{
		SQLite:       path,
		Base:         base,
		Postgres:     target.url,
		Schema:       target.schema,
		DryRun:       c.Bool("dry-run"),
		NaiveZone:    zone,
		Merge:        c.Bool("merge"),
		FromReceipt:  c.Int64("from-receipt"),
		OnDifference: s.addDifference,
		OnProgress:   s.show,
	})
	const consequence = "no file was created, and the database is unchanged"
	if result == nil {
		return s.fail(err, consequence)
	}
	result.Rollback = rollback.String()
	p := printed{report: result, warnings: &result.Warnings,
		lists: []report.List{s.differenceList()}}
	if result.Done {
		p.done = "the file was restored"
	}
	return s.end(p, err, consequence)
}

// namedFile returns the path in the value of a flag, or "" if it is not set.
func namedFile(c *cli.Context, flag string) (string, error) {
	value := c.String(flag)
	if value == "" {
		return "", nil
	}
	if err := checkPath("--"+flag, value); err != nil {
		return "", err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", usagef("cannot determine the working directory: %v", err)
	}
	path, err := stateuri.SQLitePath(value, here)
	if err != nil {
		return "", usagef("--%s: %v", flag, err)
	}
	return path, nil
}
