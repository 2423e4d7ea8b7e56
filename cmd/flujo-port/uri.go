package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

func (e *env) uriCommand() *cli.Command {
	return &cli.Command{
		Name:  "uri",
		Usage: "print the FLUJO_STATE_URI for the cutover or the rollback",
		Description: "uri does not connect to the database, unless --connect is set; migrate tests " +
			"the address.",
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
				Description: "The address is derived from a FLUJO_STATE_URI that names PostgreSQL, which " +
					"must not name another database than DATABASE_URL, or else from DATABASE_URL; " +
					"--postgres overrides both. It is the one that check and migrate try. " +
					"If DATABASE_URL names SQLite, the address of the state file is printed.",
				Flags: []cli.Flag{
					postgresFlag,
					&cli.StringFlag{
						Name:      sqliteFlag.Name,
						TakesFile: true,
						Category:  groupSource,
						Usage: "`PATH|URI` of the state file, whose address is printed if DATABASE_URL names SQLite " +
							"(default: that of uri rollback)",
					},
					schemaFlag,
					connectFlag,
					withUsage(withoutPGVectorFlag,
						"with --connect: do not add the schema of pgvector to search_path"),
					formatFlag,
					revealFlag,
				},
				Action: e.uriCutover,
			},
			{
				Name:        "rollback",
				Usage:       "print the address of the state file",
				Description: "The file must exist, because Flujo creates a missing one without an error.",
				Flags: []cli.Flag{
					sqliteFlag,
					&cli.BoolFlag{
						Name:     "allow-missing",
						Category: groupOperation,
						Usage:    "print the address of a file that does not exist",
					},
					formatFlag,
					revealFlag,
				},
				Action: e.uriRollback,
			},
		},
	}
}

func (e *env) uriRollback(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	printAddress, err := e.addressPrinter(c)
	if err != nil {
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
	if !c.Bool("allow-missing") {
		if err := checkStateFile(path); err != nil {
			return err
		}
	}
	return printAddress(address, nil)
}

// checkStateFile returns a usage error if path is not a file.
func checkStateFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &clierr.Error{
			Kind:    clierr.Usage,
			Message: fmt.Sprintf("the state file %q does not exist, and Flujo would create an empty one", path),
			Hint:    "name the state file with --sqlite, or use --allow-missing",
		}
	case err != nil:
		return &clierr.Error{Kind: clierr.Usage, Message: "cannot read the state file", Err: err}
	case info.IsDir():
		return usagef("the state file %q is a directory; name the file with --sqlite", path)
	case !info.Mode().IsRegular():
		return usagef("the state file %q is not a regular file", path)
	}
	return nil
}

func (e *env) uriCutover(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	printAddress, err := e.addressPrinter(c)
	if err != nil {
		return err
	}
	address, notes, err := e.cutoverAddress(c)
	if err != nil {
		return err
	}
	if c.Bool("connect") {
		c.Context = postgres.ReportWaits(c.Context, func(what string, silence time.Duration) {
			e.note(fmt.Sprintf("%s (%s)", what, silence))
		})
		var more []string
		if address, more, err = tryCutover(c, address); err != nil {
			return err
		}
		notes = append(notes, more...)
	}
	return printAddress(address, notes)
}

// tryCutover connects by the address and returns the one by which Flujo works, with notes.
func tryCutover(c *cli.Context, address stateuri.Address) (stateuri.Address, []string, error) {
	if !address.IsPostgres() {
		return address, nil, usagef("--connect needs an address in PostgreSQL, but DATABASE_URL names SQLite")
	}
	schema, err := schemaName(c)
	if err != nil {
		return address, nil, err
	}
	withPGVector := !c.Bool(withoutPGVectorFlag.Name)
	resolved, trial, notes, err := tryAddress(c.Context, address, schema, withPGVector)
	if err != nil {
		return resolved, notes, err
	}
	if trial.Runs != schema {
		notes = append(notes, fmt.Sprintf("schema %q has no table %q yet: migrate before you start Flujo by this "+
			"address, or name the schema of the tables with --schema", schema, mapping.Runs))
	}
	if message, hint := trial.PreparedUnknown(); message != "" {
		notes = append(notes, message+"; "+hint)
	}
	return resolved, notes, trial.CheckPrepared()
}

// tryAddress opens a session by the address, in which Flujo must be able to work, and returns the address by which
// Flujo finds its tables in schema, with notes.
func tryAddress(
	ctx context.Context, address stateuri.Address, schema string, withPGVector bool,
) (stateuri.Address, postgres.AddressTrial, []string, error) {
	resolved, trial, notes, err := postgres.ResolveAddress(ctx, address, schema, withPGVector)
	if err == nil {
		err = trial.CheckSession(postgres.Server{Role: trial.Role}, schema)
	}
	return resolved, trial, notes, err
}

// cutoverAddress returns the address that check and migrate try, and notes for the user.
// If only a state file is named, by FLUJO_STATE_URI or DATABASE_URL, it returns the address
// of that. Before the cutover FLUJO_STATE_URI names the state file; it is ignored if a
// database is named too.
func (e *env) cutoverAddress(c *cli.Context) (stateuri.Address, []string, error) {
	if err := e.checkSameDatabase(c); err != nil {
		return stateuri.Address{}, nil, err
	}
	name, database := e.databaseURL(c)
	explicit := e.getenv(stateURI)
	var notes []string
	switch {
	case name == "--postgres" || stateuri.NamesPostgres(explicit):
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
		return target.address, append(append(notes, e.originNotes(c, target)...), target.notes...), nil
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
	case explicit != "" && !address.IsSQLite():
		return stateuri.Address{}, nil, usagef("FLUJO_STATE_URI names neither PostgreSQL nor SQLite")
	case explicit != "":
		if _, _, err := stateuri.PostgresURL(explicit); address.IsPostgres() && errors.Is(err, stateuri.ErrMasked) {
			return stateuri.Address{}, nil, addressError(stateURI, err)
		}
		notes = append(notes,
			"FLUJO_STATE_URI is set and printed unchanged; unset it, or use --postgres, for a derived address")
	case address.IsSQLite():
		notes = append(notes, name+" names SQLite: Flujo continues to use the state file")
	}
	return address, append(notes, more...), nil
}

// originNotes says whether the address is FLUJO_STATE_URI, or is derived from it.
func (e *env) originNotes(c *cli.Context, target *databaseTarget) []string {
	switch given := e.flujoSetting(c); {
	case given.name != stateURI:
		return nil
	case given.value == target.address.Reveal():
		return []string{"FLUJO_STATE_URI is set and printed unchanged"}
	}
	return []string{"this address is derived from FLUJO_STATE_URI; unset it, or use --postgres, for another one"}
}
