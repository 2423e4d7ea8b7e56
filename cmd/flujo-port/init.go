package main

import (
	"flujo-port/internal/initialize"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

func (e *env) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "create the schema and Flujo's tables without rows",
		Description: "init can be repeated: it does not change objects that exist, and refuses\n" +
			"tables that differ from Flujo's. A DBA can run it, so that an application\n" +
			"role without the CREATE privilege can migrate.",
		Flags: []cli.Flag{
			postgresFlag, schemaFlag,
			&cli.StringFlag{Name: "grant-to", Usage: "grant `ROLE` the privileges that Flujo and migrate need"},
			withoutPGVectorFlag,
			jsonFlag, revealFlag,
		},
		Action: e.init,
	}
}

func (e *env) init(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if stateuri.MayContainPassword(c.String("grant-to")) {
		return usagef("--grant-to must be a role, but looks like a connection string")
	}
	target, err := e.databaseTarget(c)
	if err != nil {
		return err
	}
	s, err := e.begin(c)
	if err != nil {
		return err
	}
	defer s.close()
	result, err := initialize.Run(c.Context, initialize.Options{
		Postgres:        target.url,
		Schema:          target.schema,
		WithoutPGVector: c.Bool(withoutPGVectorFlag.Name),
		GrantTo:         c.String("grant-to"),
		Cutover:         target.address,
	})
	if err != nil {
		return s.fail(err, "nothing was created")
	}
	if !result.Address.IsZero() {
		target.address = result.Address
	}
	result.Cutover = show(target.address, c.Bool(revealFlag.Name))
	result.Notes = append(result.Notes, target.notes...)
	return s.end(
		printed{report: result, text: result.Text, warnings: &result.Warnings, done: "the tables exist"},
		nil,
		"",
	)
}
