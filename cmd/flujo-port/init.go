package main

import (
	"flujo-port/internal/transfer"

	"github.com/urfave/cli/v2"
)

func (e *env) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the schema and Flujo's tables, without rows; safe to repeat",
		Description: "What is there already is left as it is; tables of another shape are refused.\n" +
			"A DBA can run it so that an application role without the right to create can migrate.",
		Flags: []cli.Flag{
			postgresFlag, schemaFlag,
			&cli.StringFlag{Name: "grant-to", Usage: "let `ROLE` use the schema and its tables"},
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
	if secretive(c.String("grant-to")) {
		return usagef("--grant-to is no role but looks like an address")
	}
	target, err := e.databaseTarget(c)
	if err != nil {
		return err
	}
	result, err := transfer.Init(c.Context, transfer.InitOptions{
		Postgres: target.url, Schema: target.schema, WithoutPGVector: c.Bool(withoutPGVectorFlag.Name), GrantTo: c.String("grant-to"),
	})
	if err != nil {
		return &outcome{err: err, means: "nothing was created"}
	}
	result.Cutover = show(target.address, c.Bool(revealFlag.Name))
	result.Notes = append(result.Notes, target.notes...)
	return e.print(c, result, result.Text)
}
