package main

import (
	"context"
	"errors"

	"flujo-port/internal/fault"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/transfer"

	"github.com/urfave/cli/v2"
)

func (e *env) migrateCommand() *cli.Command {
	return &cli.Command{
		Name:  "migrate",
		Usage: "move the file's rows into PostgreSQL, in one transaction",
		Description: "Everything happens in one transaction: on any error, and on Ctrl-C, the database is left as it was.\n" +
			"The file is only read. Stop Flujo before the real run; --dry-run may run beside it.",
		Flags: []cli.Flag{
			sqliteFlag, postgresFlag, schemaFlag,
			&cli.BoolFlag{Name: "dry-run", Usage: "do all of it, report, then roll back"},
			&cli.BoolFlag{Name: "without-pgvector", Usage: "do without the extension pgvector and Flujo's memories table; Flujo starts all the same"},
			&cli.BoolFlag{Name: "json", Usage: "print the report as one JSON object"},
			revealFlag,
			&cli.StringFlag{Name: "env-file", Usage: "after the commit, write FLUJO_STATE_URI with its password to `PATH`, mode 0600"},
		},
		Action: e.migrate,
	}
}

func (e *env) migrate(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path, err := e.sqlitePath(c)
	if err != nil {
		return err
	}
	target, err := e.postgres(c)
	if err != nil {
		return err
	}
	rollback, err := rollbackAddress(path)
	if err != nil {
		return err
	}
	envFile := c.String("env-file")
	if err := checkEnvFile(envFile); err != nil {
		return err
	}
	progress := newProgress(e.stderr)
	result, err := transfer.Migrate(c.Context, transfer.MigrateOptions{
		SQLite: path, Postgres: target.url, Schema: target.schema, Cutover: target.address,
		DryRun: c.Bool("dry-run"), WithoutPGVector: c.Bool("without-pgvector"), Progress: progress.show,
	})
	progress.end()
	if result == nil {
		return &outcome{err: err, means: migrateMeans(err)}
	}
	reveal := c.Bool(revealFlag.Name)
	result.Version = version()
	result.Cutover = show(target.address, reveal)
	result.Rollback = show(rollback, reveal)
	result.Notes = append(result.Notes, target.notes...)
	if envFile != "" && result.Committed {
		if writeErr := writeEnvFile(envFile, target.address); writeErr != nil {
			err = errors.Join(err, writeErr)
		} else {
			result.Notes = append(result.Notes, "the cutover address is in "+envFile)
		}
	}
	if printErr := e.print(c, result); printErr != nil {
		err = errors.Join(err, printErr)
	}
	if err != nil {
		return &outcome{err: err, means: "the rows are committed; do not migrate again"}
	}
	return nil
}

func (e *env) print(c *cli.Context, result *report.Migration) error {
	if c.Bool("json") {
		return result.JSON(e.stdout)
	}
	return result.Text(e.stdout)
}

// migrateMeans says what a failed migration means for the data.
func migrateMeans(err error) string {
	if _, unknown := errors.AsType[*sink.CommitUnknownError](err); unknown {
		return "it is not known whether the rows are there: when the server can be reached, \"flujo-port migrate --dry-run\" refuses if they are"
	}
	if fault.KindOf(err) == fault.Usage {
		return "nothing was written"
	}
	if errors.Is(err, context.Canceled) {
		return "everything was rolled back, nothing was committed"
	}
	return "nothing was committed"
}
