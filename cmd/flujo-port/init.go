package main

import (
	"errors"
	"fmt"
	"strings"

	"flujo-port/internal/initialize"
	"flujo-port/internal/sink"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

func (e *env) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "create the schema and Flujo's tables without rows",
		Description: "init can be repeated: it does not change objects that exist, and refuses " +
			"tables that differ from Flujo's. An administrator can run it with --owner, so " +
			"that an application role without the CREATE privilege can migrate, and Flujo " +
			"can start as that role. What Flujo does at its start is then tried.",
		Flags: []cli.Flag{
			postgresFlag, schemaFlag,
			ownerFlag, grantToFlag, grantReadFlag,
			withoutPGVectorFlag,
			jsonFlag, quietFlag, logFormatFlag, revealFlag,
		},
		Action: e.init,
	}
}

var (
	ownerFlag = &cli.StringFlag{
		Name:     "owner",
		Category: groupPrivileges,
		Usage:    "make `ROLE`, as which Flujo connects and migrate runs, the owner of the tables",
	}
	grantToFlag = &cli.StringFlag{
		Name:     "grant-to",
		Category: groupPrivileges,
		Usage: "grant `ROLE` the use of the tables without owning them: Flujo then starts only with " +
			"FLUJO_AUTO_MIGRATE=false",
	}
	grantReadFlag = &cli.StringFlag{
		Name:     "grant-read",
		Category: groupPrivileges,
		Usage:    "grant `ROLE` what verify needs: to read the tables, and the receipts of a migration that ran",
	}
)

// startsWithoutMigrations reports whether Flujo, started with this environment, creates
// nothing and only looks for its tables.
func (e *env) startsWithoutMigrations() bool {
	return strings.EqualFold(e.getenv("FLUJO_AUTO_MIGRATE"), "false")
}

func (e *env) init(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	for _, flag := range []*cli.StringFlag{ownerFlag, grantToFlag, grantReadFlag} {
		// A role of a cloud provider may be called user@domain.
		if role := c.String(flag.Name); strings.ContainsAny(role, ":=") || stateuri.MayContainPassword(role) {
			return usagef("--%s must be a role, but looks like a connection string or credentials "+
				"(hidden, may contain a password)", flag.Name)
		}
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
		NoMigrations:    e.startsWithoutMigrations(),
		Owner:           c.String(ownerFlag.Name),
		GrantTo:         c.String(grantToFlag.Name),
		GrantRead:       c.String(grantReadFlag.Name),
		Cutover:         target.address,
		OnProgress:      s.show,
	})
	if err != nil {
		return s.fail(err, initConsequence(err))
	}
	if result.FlujoRole == result.Role {
		result.Cutover = show(result.Address, c.Bool(revealFlag.Name))
		result.Notes = append(result.Notes, target.notes...)
	} else {
		result.Notes = append(result.Notes, fmt.Sprintf("Flujo connects as role %q, and init ran as role %q, so no "+
			"cutover address was tried or is printed: run \"%s\" with the address of role %q",
			result.FlujoRole, result.Role, e.suggested(cutoverCommand, "--connect"), result.FlujoRole))
	}
	return s.end(
		printed{report: result, warnings: &result.Warnings, done: "the tables exist"},
		nil,
		"",
	)
}

// initConsequence returns what a failed init means for the database.
func initConsequence(err error) string {
	if _, unknown := errors.AsType[*sink.CommitUnknownError](err); unknown {
		return "once the server answers, run init again, which leaves what exists unchanged"
	}
	return "nothing was created"
}
