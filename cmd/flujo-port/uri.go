package main

import (
	"fmt"
	"strings"

	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

func (e *env) uriCommand() *cli.Command {
	return &cli.Command{
		Name:  "uri",
		Usage: "print one FLUJO_STATE_URI: of PostgreSQL for the cutover, of the file for the rollback",
		Description: "export FLUJO_STATE_URI=\"$(flujo-port uri cutover --reveal)\"\n" +
			"Nothing is connected to; migrate tries the address before it prints it.",
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("uri wants to know which: cutover or rollback")
			}
			return usagef("uri knows cutover and rollback, not %q", c.Args().First())
		},
		Subcommands: []*cli.Command{
			{
				Name: "cutover", Usage: "the address of the schema in PostgreSQL",
				Description: "Without --postgres an explicit FLUJO_STATE_URI that names PostgreSQL wins; a DATABASE_URL that\n" +
					"names SQLite gives the file's address.",
				Flags:        []cli.Flag{postgresFlag, sqliteFlag, schemaFlag, revealFlag},
				OnUsageError: usageError,
				Action:       e.uriCutover,
			},
			{
				Name: "rollback", Usage: "the address of the file",
				Flags:        []cli.Flag{sqliteFlag, revealFlag},
				OnUsageError: usageError,
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

// cutoverAddress is what Flujo's configuration comes to, with one exception:
// before the cutover FLUJO_STATE_URI names the file, and that is not what is
// asked for when a database is named too.
func (e *env) cutoverAddress(c *cli.Context) (stateuri.Address, []string, error) {
	name, database := e.databaseURL(c)
	explicit := e.getenv("FLUJO_STATE_URI")
	var notes []string
	switch {
	case name == "--postgres":
		explicit = ""
	case strings.HasPrefix(explicit, "sqlite") && database != "" && !strings.HasPrefix(database, "sqlite"):
		notes = append(notes, "FLUJO_STATE_URI still names the SQLite file; this is the address made from "+name)
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
		notes = append(
			notes,
			"FLUJO_STATE_URI is set, and given as it is; unset it, or say --postgres, for an address made anew",
		)
		if address.IsPostgres() && !strings.Contains(address.Reveal(), "search_path") {
			notes = append(notes, "it sets no search_path: Flujo finds its tables where the role's search_path says")
		}
	case address.IsSQLite():
		notes = append(notes, name+" names SQLite: Flujo stays on its file")
	}
	return address, append(notes, more...), nil
}
