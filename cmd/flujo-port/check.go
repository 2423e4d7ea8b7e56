package main

import (
	"errors"

	"flujo-port/internal/check"
	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"

	"github.com/urfave/cli/v2"
)

func (e *env) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "run preflight checks; change nothing",
		Description: "Each line of the checklist is ✓ (ok), ! (warning) or ✗ (error: a migration\n" +
			"would fail or be refused), with a hint. check reads the whole state file, and\n" +
			"rolls back a migration without rows and the load of a sample.\n" +
			"If no database is named, it checks only the state file.\n" +
			"The exit code is 0, or 3 if there is an error.",
		Flags: []cli.Flag{
			sqliteFlag, postgresFlag, schemaFlag, quarantineFlag, naiveTimezoneFlag,
			exactFloatsFlag, withoutPGVectorFlag, skipIntegrityFlag, jsonFlag,
		},
		Action: e.check,
	}
}

func (e *env) check(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path, err := e.sqlitePath(c)
	if err != nil {
		return err
	}
	zone, err := naiveZone(c.String(naiveTimezoneFlag.Name))
	if err != nil {
		return err
	}
	o := check.Options{
		SQLite:          path,
		WithoutPGVector: c.Bool(withoutPGVectorFlag.Name),
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
	}
	findings, err := newSpool[report.Finding](c.Bool(jsonFlag.Name))
	if err != nil {
		return err
	}
	defer findings.close()
	if c.Bool(jsonFlag.Name) {
		o.OnFinding = func(f mapping.Finding) { findings.add(finding(f)) }
	}
	shown := newDisplay(e.stderr)
	o.OnProgress = shown.show
	result, err := check.Run(c.Context, o)
	shown.end()
	if result == nil {
		return &outcome{err: err, consequence: "nothing was changed"}
	}
	result.Version = version()
	if printErr := e.print(c, result, result.Text, report.ListOf("findings", findings.each)); printErr != nil {
		err = errors.Join(err, printErr)
	}
	if err != nil && clierr.KindOf(err) != clierr.Refused {
		return &outcome{err: err, consequence: "nothing was changed"}
	}
	return err
}
