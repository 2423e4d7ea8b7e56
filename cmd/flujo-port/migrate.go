package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // for --naive-timezone where the system has no zones

	"flujo-port/internal/clierr"
	"flujo-port/internal/fileio"
	"flujo-port/internal/migrate"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/stateuri"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"
)

func (e *env) migrateCommand() *cli.Command {
	return &cli.Command{
		Name:  "migrate",
		Usage: "copy the state file to PostgreSQL, in one transaction",
		Description: "After an error or an interrupt the database is unchanged. The state file is " +
			"only read. Stop Flujo before the migration; Flujo may run during a dry run.\n" +
			"\n" +
			"Several files, each in a --sqlite of its own, are migrated together, all of " +
			"them or none: each file after the first is merged, as with --merge. On a tie " +
			"the file that is named first wins.\n" +
			"\n" +
			"With --if-needed the same command can be run again, as by a Kubernetes Job. " +
			"If all of the files were migrated, as they are now, nothing is written: they " +
			"are verified, and the exit code is 0, or 3 if runs, keys or memories lack " +
			"rows that were deleted since, or 4 if rows differ that were not written since.",
		Flags: []cli.Flag{
			sqliteFilesFlag,
			postgresFlag,
			schemaFlag,
			&cli.BoolFlag{
				Name:     "dry-run",
				Category: groupOperation,
				Usage:    "run the migration, print the report, then roll back",
			},
			&cli.BoolFlag{
				Name:     "replace",
				Category: groupOperation,
				Usage: "replace the rows of a schema that already holds rows, after archiving them " +
					"in schema SCHEMA_archive_TIME; the report contains the SQL to undo this",
			},
			&cli.BoolFlag{
				Name:     "merge",
				Category: groupOperation,
				Usage: "merge into a schema that already holds rows: each run, key of system_state " +
					"and memory is taken from the side that wrote it last, or from PostgreSQL on a tie",
			},
			ifNeededFlag,
			&cli.BoolFlag{
				Name:     "strict",
				Category: groupValues,
				Usage: "fail on a value converted with loss, a rejected row or a stub run; costs may be " +
					"rounded to real",
			},
			quarantineFlag,
			naiveTimezoneFlag,
			exactFloatsFlag,
			withoutPGVectorFlag,
			&cli.StringFlag{
				Name:     "verify",
				Category: groupOperation,
				Value:    report.VerifyContent,
				Usage: "verify before the commit by `MODE`: content compares every cell with the " +
					"state file, counts compares only row counts",
			},
			skipIntegrityFlag,
			jsonFlag, reportFlag, quietFlag, logFormatFlag,
			revealFlag,
			envFileFlag,
		},
		Action: e.migrate,
	}
}

func (e *env) migrate(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.Bool("replace") && c.Bool("merge") {
		return usagef("--replace and --merge cannot be combined")
	}
	path, more, err := e.sqlitePaths(c)
	if err != nil {
		return err
	}
	target, err := e.databaseTarget(c)
	if err != nil {
		return err
	}
	rollback, err := rollbackAddress(path)
	if err != nil {
		return err
	}
	furtherRollbacks := make([]stateuri.Address, len(more))
	for i, path := range more {
		if furtherRollbacks[i], err = rollbackAddress(path); err != nil {
			return err
		}
	}
	used := append([]string{path}, more...)
	envFile := e.envFile(c, used...)
	if err := e.checkEnvFile(envFile); err != nil {
		return err
	}
	zone, err := naiveZone(c.String(naiveTimezoneFlag.Name))
	if err != nil {
		return err
	}
	verify := c.String("verify")
	if verify != report.VerifyContent && verify != report.VerifyCounts {
		return usagef("--verify must be content or counts")
	}
	if envFile != nil {
		used = append(used, envFile.Path)
	}
	s, err := e.begin(c, used...)
	if err != nil {
		return err
	}
	defer s.close()
	run := migrate.Run
	if c.Bool(ifNeededFlag.Name) {
		run = s.migrateIfNeeded
	}
	result, err := run(c.Context, migrate.Options{
		SQLite:          path,
		More:            more,
		Postgres:        target.url,
		Schema:          target.schema,
		Cutover:         target.address,
		DryRun:          c.Bool("dry-run"),
		WithoutPGVector: c.Bool(withoutPGVectorFlag.Name),
		NoMigrations:    e.startsWithoutMigrations(),
		Strict:          c.Bool("strict"),
		Quarantine:      c.Bool(quarantineFlag.Name),
		ExactFloats:     c.Bool(exactFloatsFlag.Name),
		NaiveZone:       zone,
		Verify:          verify,
		SkipIntegrity:   c.Bool(skipIntegrityFlag.Name),
		Version:         version(),
		Replace:         c.Bool("replace"),
		Merge:           c.Bool("merge"),
		OnFinding:       s.addFinding,
		OnDifference:    s.addDifference,
		OnProgress:      s.show,
	})
	consequence := e.migrateConsequence(err, c.Bool(ifNeededFlag.Name))
	if result == nil {
		return s.fail(err, consequence)
	}
	if !result.Address.IsZero() {
		target.address = result.Address
	}
	var written *fileio.Output // envFile, if it was written
	showAddresses := func(reveal bool) {
		result.Cutover, result.Rollback = show(target.address, reveal), show(rollback, reveal)
		for i, further := range result.Further {
			further.Rollback = show(furtherRollbacks[i], reveal)
		}
		shown := show(target.address, reveal) == target.address.Reveal()
		result.Next = e.nextSteps(result, written, shown, c.String(reportFlag.Name))
	}
	result.RestoreCommand = e.suggested("restore")
	result.Notes = append(result.Notes, target.notes...)
	if len(result.Rounded) > 0 {
		result.Notes = append(result.Notes, "--exact-floats prevents the rounding to real")
	}
	p := printed{report: result, warnings: &result.Warnings, mask: func() { showAddresses(false) },
		lists: []report.List{s.findingList(), s.differenceList(), s.unitList()}}
	if result.AlreadyMigrated != nil {
		e.describe(&result.AlreadyMigrated.Run, err)
		result.Notes = append(result.Notes, unusedFlags(c)...)
	}
	if e.saveEnvFile(result, envFile, target.address) {
		written = envFile
	}
	showAddresses(c.Bool(revealFlag.Name))
	if result.Committed {
		p.done = "the migration is committed"
	}
	return s.end(p, err, consequence)
}

// nextSteps returns what to do after a migration. envFile was written, or is nil. shown says that the report shows the
// address with its password. reportFile is that of --report, or empty.
func (e *env) nextSteps(
	result *report.Migration, envFile *fileio.Output, shown bool, reportFile string,
) []string {
	switch {
	case result.AlreadyMigrated != nil:
		return nil
	case !result.Committed && reportFile != "":
		return []string{
			fmt.Sprintf("Stop Flujo, then run the same command without --dry-run and with another file for "+
				"--report, to keep %s.", clierr.Name(reportFile)),
		}
	case !result.Committed:
		return []string{"Stop Flujo, then run the same command without --dry-run."}
	}
	from := "below"
	switch {
	case envFile != nil:
		from = "in " + envFile.Path
	case !shown:
		from = fmt.Sprintf("that \"%s\" prints", e.suggested(cutoverCommand, printCutover...))
	}
	files := english.PluralWord(1+len(result.Further), "file", "")
	return []string{
		"Start Flujo with the address " + from + ".",
		fmt.Sprintf("Run \"%s\" with the same state %s.", e.suggested("verify"), files),
	}
}

// saveEnvFile writes the cutover address to the file of --env-file, which may be nil, if
// PostgreSQL holds the rows, and adds a note or a warning to the report. It returns whether
// it wrote the file.
func (e *env) saveEnvFile(result *report.Migration, file *fileio.Output, address stateuri.Address) (written bool) {
	switch {
	case file == nil:
		return false
	case !result.HasRows() || result.DryRun:
		result.Notes = append(result.Notes, "--env-file was not written, because nothing was committed")
		return false
	}
	if err := e.writeEnvFile(file, address); err != nil {
		result.Warnings = append(result.Warnings, err.Error())
		return false
	}
	result.Notes = append(result.Notes, "the cutover address was written to "+file.Path)
	return true
}

// naiveZone returns the time zone of --naive-timezone, or nil if name is empty.
func naiveZone(name string) (*time.Location, error) {
	switch strings.ToLower(name) {
	case "":
		return nil, nil
	case "utc":
		return time.UTC, nil
	case "local":
		return localZone()
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, usagef("--naive-timezone is not utc, local, or a time zone such as Europe/Berlin")
	}
	return zone, nil
}

// localZone returns the time zone of this machine under its IANA name, since
// the receipt records the name.
func localZone() (*time.Location, error) {
	if name, set := os.LookupEnv("TZ"); set {
		zone, err := time.LoadLocation(strings.TrimPrefix(name, ":"))
		if err != nil {
			return nil, usagef("--naive-timezone local: TZ is %q, which is not a time zone name; "+
				"use a name such as Europe/Berlin", name)
		}
		return zone, nil
	}
	const file = "/etc/localtime"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return time.UTC, nil
	}
	path, err := filepath.EvalSymlinks(file)
	if _, name, found := strings.Cut(path, "zoneinfo/"); err == nil && found {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, usagef("--naive-timezone local: cannot determine the name of this machine's time zone; " +
		"use a name such as Europe/Berlin")
}

// migrateConsequence returns what a failed migration means for the data. ifNeeded says that --if-needed is set.
func (e *env) migrateConsequence(err error, ifNeeded bool) string {
	_, unknown := errors.AsType[*sink.CommitUnknownError](err)
	switch {
	case unknown && ifNeeded:
		return "once the server answers, run again: --if-needed then finds out if the rows are there"
	case unknown:
		return fmt.Sprintf("once the server answers, run \"%s\" with the same state files: its verdict is "+
			"equal, or merged after --merge, if the rows are there", e.suggested("verify"))
	case clierr.KindOf(err) == clierr.Usage:
		return "nothing was written"
	case errors.Is(err, context.Canceled):
		return "the transaction was rolled back; nothing was committed"
	}
	return "nothing was committed"
}
