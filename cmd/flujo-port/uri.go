package main

import (
	"fmt"
	"strings"

	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

func (e *env) uriCommand() *cli.Command {
	return &cli.Command{
		Name:            "uri",
		HideHelpCommand: true,
		Usage:           "print the FLUJO_STATE_URI for the cutover or the rollback",
		Description: "Example: export FLUJO_STATE_URI=\"$(flujo-port uri cutover --reveal)\"\n" +
			"uri does not connect to the database; migrate tests the address.",
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("uri requires a subcommand: cutover or rollback")
			}
			return unknownCommand("subcommand of uri", c.Args().First(), c.Command.Subcommands)
		},
		Subcommands: []*cli.Command{
			{
				Name:  "cutover",
				Usage: "print the address of the schema in PostgreSQL",
				Description: "A FLUJO_STATE_URI that names PostgreSQL is printed unchanged, unless\n" +
					"--postgres is set; it must not name another database than DATABASE_URL. If DATABASE_URL names SQLite, the address of the state\n" +
					"file is printed.",
				Flags:        []cli.Flag{postgresFlag, sqliteFlag, schemaFlag, revealFlag},
				OnUsageError: e.usageError,
				Action:       e.uriCutover,
			},
			{
				Name:         "rollback",
				Usage:        "print the address of the state file",
				Flags:        []cli.Flag{sqliteFlag, revealFlag},
				OnUsageError: e.usageError,
				Action:       e.uriRollback,
			},
		},
	}
}

func (e *env) uriRollback(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	path, err := e.sqlitePath(c)
	if err != nil {
		return err
	}
	address, err := rollbackAddress(path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, show(address, c.Bool(revealFlag.Name)))
	return err
}

func (e *env) uriCutover(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	address, notes, err := e.cutoverAddress(c)
	if err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintf(e.stderr, "flujo-port: note: %s\n", note)
	}
	_, err = fmt.Fprintln(e.stdout, show(address, c.Bool(revealFlag.Name)))
	return err
}

// cutoverAddress returns the address that Flujo's configuration resolves to, and
// notes for the user, with one exception: before the cutover FLUJO_STATE_URI
// names the state file; it is ignored if a database is named too.
func (e *env) cutoverAddress(c *cli.Context) (stateuri.Address, []string, error) {
	if err := e.checkSameDatabase(c); err != nil {
		return stateuri.Address{}, nil, err
	}
	name, database := e.databaseURL(c)
	explicit := e.getenv(stateURI)
	var notes []string
	switch {
	case name == "--postgres":
		explicit = ""
	case strings.HasPrefix(explicit, "sqlite") && database != "" && !strings.HasPrefix(database, "sqlite"):
		notes = append(notes, "FLUJO_STATE_URI still names a state file; this address is derived from "+name)
		explicit = ""
	}
	if explicit == "" && !strings.HasPrefix(database, "sqlite") {
		target, err := e.databaseTarget(c)
		if err != nil {
			return stateuri.Address{}, nil, err
		}
		return target.address, append(notes, target.notes...), nil
	}
	path := ""
	if explicit == "" { // DATABASE_URL names SQLite
		var err error
		if path, err = e.sqlitePath(c); err != nil {
			return stateuri.Address{}, nil, err
		}
	}
	schema, err := schemaName(c)
	if err != nil {
		return stateuri.Address{}, nil, err
	}
	address, more, err := stateuri.Resolve(explicit, database, stateuri.Known{}, schema, path)
	if err != nil {
		return stateuri.Address{}, nil, usagef("%v", err)
	}
	switch {
	case explicit != "" && !address.IsSQLite() && !address.IsPostgres():
		return stateuri.Address{}, nil, usagef("FLUJO_STATE_URI names neither PostgreSQL nor SQLite")
	case explicit != "":
		notes = append(notes,
			"FLUJO_STATE_URI is set and printed unchanged; unset it, or use --postgres, for a derived address")
		if address.IsPostgres() && !strings.Contains(address.Reveal(), "search_path") {
			notes = append(notes,
				"the address sets no search_path: Flujo uses the role's search_path to find its tables")
		}
	case address.IsSQLite():
		notes = append(notes, name+" names SQLite: Flujo continues to use the state file")
	}
	return address, append(notes, more...), nil
}
