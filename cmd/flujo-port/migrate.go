package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // for --naive-times where the system has no zones

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
			&cli.BoolFlag{Name: "strict", Usage: "refuse a file of which anything would arrive changed"},
			&cli.BoolFlag{Name: "set-aside", Usage: "keep rows that have no place in Flujo's tables in SCHEMA.flujo_port_originals, instead of refusing them"},
			&cli.StringFlag{Name: "naive-times", Usage: "`ZONE` of times that name none: utc, local, or a name such as Europe/Berlin (default: utc, and the report counts them)"},
			&cli.BoolFlag{Name: "exact-floats", Usage: "make cost_usd and memory_usage_mb double precision, where Flujo rounds to real"},
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
	zone, err := naiveZone(c.String("naive-times"))
	if err != nil {
		return err
	}
	found, err := newFindings(c.Bool("json"))
	if err != nil {
		return err
	}
	defer found.close()
	progress := newProgress(e.stderr)
	result, err := transfer.Migrate(c.Context, transfer.MigrateOptions{
		SQLite: path, Postgres: target.url, Schema: target.schema, Cutover: target.address,
		DryRun: c.Bool("dry-run"), WithoutPGVector: c.Bool("without-pgvector"), Strict: c.Bool("strict"), SetAside: c.Bool("set-aside"),
		ExactFloats: c.Bool("exact-floats"), NaiveZone: zone, Found: found.add, Progress: progress.show,
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
	switch {
	case envFile == "":
	case !result.Committed:
		result.Notes = append(result.Notes, "--env-file: nothing was written, since nothing was committed")
	default:
		if err := writeEnvFile(envFile, target.address); err != nil {
			result.Warnings = append(result.Warnings, err.Error())
		} else {
			result.Notes = append(result.Notes, "the cutover address is in "+envFile)
		}
	}
	if printErr := e.print(c, result, found); printErr != nil {
		result.Warnings = append(result.Warnings, fmt.Sprintf("the report can't be printed: %v", printErr))
		if !result.Committed {
			err = errors.Join(err, printErr)
		}
	}
	// Once it is committed it is done, whatever came after: exit 0, and say it.
	for _, warning := range result.Warnings {
		fmt.Fprintf(e.stderr, "flujo-port: warning: %s\n", warning)
	}
	if err != nil {
		return &outcome{err: err, means: migrateMeans(err)}
	}
	return nil
}

// naiveZone gives the zone of --naive-times; nil when nothing was said.
func naiveZone(name string) (*time.Location, error) {
	switch strings.ToLower(name) {
	case "":
		return nil, nil
	case "utc":
		return time.UTC, nil
	case "local":
		return time.Local, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, usagef("--naive-times %q is neither utc nor local nor a zone such as Europe/Berlin", name)
	}
	return zone, nil
}

func (e *env) print(c *cli.Context, result *report.Migration, found *findings) error {
	if c.Bool("json") {
		return result.JSON(e.stdout, found.each)
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
