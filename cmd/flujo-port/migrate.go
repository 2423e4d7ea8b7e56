package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // for --naive-timezone where the system has no zones

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/stateuri"
	"flujo-port/internal/transfer"

	"github.com/urfave/cli/v2"
)

func (e *env) migrateCommand() *cli.Command {
	return &cli.Command{
		Name:  "migrate",
		Usage: "move the file's rows into PostgreSQL, in one transaction",
		Description: "Everything happens in one transaction: on any error, and on Ctrl-C, the database is left as it was.\n" +
			"The file is only read. Stop Flujo before the real run; --dry-run may run next to it.",
		Flags: []cli.Flag{
			sqliteFlag, postgresFlag, schemaFlag,
			&cli.BoolFlag{Name: "dry-run", Usage: "do all of it, report, then roll back"},
			&cli.BoolFlag{
				Name:  "replace",
				Usage: "put the file's rows in place of those in the target, which are archived in schema SCHEMA_archive_TIME; the report says how to go back to them",
			},
			&cli.BoolFlag{
				Name:  "merge",
				Usage: "take what either side has: each run, key of system_state and memory whole from the side that wrote it last, on a tie from the target",
			},
			&cli.BoolFlag{Name: "strict", Usage: "refuse a file of which anything would arrive changed"},
			quarantineFlag, naiveTimezoneFlag, exactFloatsFlag, withoutPGVectorFlag,
			&cli.StringFlag{
				Name:  "verify",
				Value: transfer.VerifyContent,
				Usage: "verify by `MODE` before the commit: content compares every cell with the state file, counts only counts the rows",
			},
			skipIntegrityFlag, jsonFlag, revealFlag,
			&cli.StringFlag{
				Name:  "env-file",
				Usage: "after the commit, write FLUJO_STATE_URI with its password to `PATH`, mode 0600",
			},
		},
		Action: e.migrate,
	}
}

func (e *env) migrate(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.Bool("replace") && c.Bool("merge") {
		return usagef(
			"--replace puts the file's rows in place of the target's, --merge takes what either has: say one of them",
		)
	}
	path, err := e.sqlitePath(c)
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
	envFile := c.String("env-file")
	if err := checkEnvFile(envFile); err != nil {
		return err
	}
	zone, err := naiveZone(c.String(naiveTimezoneFlag.Name))
	if err != nil {
		return err
	}
	verify := c.String("verify")
	if verify != transfer.VerifyContent && verify != transfer.VerifyCounts {
		return usagef("--verify is content or counts, not %q", verify)
	}
	findings, err := newSpool[report.Finding](c.Bool(jsonFlag.Name))
	if err != nil {
		return err
	}
	defer findings.close()
	differences, err := newSpool[report.Difference](c.Bool(jsonFlag.Name))
	if err != nil {
		return err
	}
	defer differences.close()
	progress := newProgress(e.stderr)
	result, err := transfer.Migrate(c.Context, transfer.MigrateOptions{
		SQLite: path, Postgres: target.url, Schema: target.schema, Cutover: target.address,
		DryRun: c.Bool(
			"dry-run",
		), WithoutPGVector: c.Bool(withoutPGVectorFlag.Name), Strict: c.Bool("strict"), Quarantine: c.Bool(quarantineFlag.Name),
		ExactFloats: c.Bool(
			exactFloatsFlag.Name,
		), NaiveZone: zone, Verify: verify, SkipIntegrity: c.Bool(skipIntegrityFlag.Name), Version: version(),
		Replace: c.Bool("replace"), Merge: c.Bool("merge"),
		OnFinding: func(f mapping.Finding) { findings.add(finding(f)) }, OnDifference: differences.add, OnProgress: progress.show,
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
	leaveEnvFile(result, envFile, target.address)
	if printErr := e.print(c, result, result.Text, report.ListOf("findings", findings.each), report.ListOf("differences", differences.each)); printErr != nil {
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

// leaveEnvFile writes the cutover address where --env-file says, once it is
// committed, and says so in the report.
func leaveEnvFile(result *report.Migration, path string, address stateuri.Address) {
	switch {
	case path == "":
		return
	case !result.Committed:
		result.Notes = append(result.Notes, "--env-file: nothing was written, since nothing was committed")
		return
	}
	if err := writeEnvFile(path, address); err != nil {
		result.Warnings = append(result.Warnings, err.Error())
		return
	}
	result.Notes = append(result.Notes, "the cutover address is in "+path)
}

// naiveZone gives the zone of --naive-timezone; nil when nothing was said.
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
		return nil, usagef("--naive-timezone %q is neither utc nor local nor a zone such as Europe/Berlin", name)
	}
	return zone, nil
}

// localZone gives the zone of this machine by the name that it has everywhere,
// since the receipt keeps the name.
func localZone() (*time.Location, error) {
	if name, set := os.LookupEnv("TZ"); set {
		zone, err := time.LoadLocation(strings.TrimPrefix(name, ":"))
		if err != nil {
			return nil, usagef(
				"--naive-timezone local: TZ is %q, which is no zone such as Europe/Berlin: name the zone",
				name,
			)
		}
		return zone, nil
	}
	const file = "/etc/localtime"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return time.UTC, nil
	}
	path, err := filepath.EvalSymlinks(file)
	if _, name, findings := strings.Cut(path, "zoneinfo/"); err == nil && findings {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, usagef(
		"--naive-timezone local: this machine does not say the name of its zone: name it, such as Europe/Berlin",
	)
}

// print prints a report: as text, or with --json as one JSON object.
func (e *env) print(c *cli.Context, result any, text func(io.Writer) error, lists ...report.List) error {
	if c.Bool(jsonFlag.Name) {
		return report.JSON(e.stdout, result, lists...)
	}
	return text(e.stdout)
}

// migrateMeans says what a failed migration means for the data.
func migrateMeans(err error) string {
	if _, unknown := errors.AsType[*sink.CommitUnknownError](err); unknown {
		return "it is not known whether the rows are there: when the server can be reached, \"flujo-port verify\" says equal if they are"
	}
	if clierr.KindOf(err) == clierr.Usage {
		return "nothing was written"
	}
	if errors.Is(err, context.Canceled) {
		return "everything was rolled back, nothing was committed"
	}
	return "nothing was committed"
}
