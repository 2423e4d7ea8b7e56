package main

import (
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/report"

	"github.com/urfave/cli/v2"
)

// advice is the text of an advice, and the command that it suggests. In the text, %s is the command line of that
// command, with Advice.Arg after its options.
type advice struct {
	text    string
	command string // such as "uri cutover"; most suggest none
	options []string
}

// advices are the texts of the advices that the operations attach to their errors and
// check results. Each continues a hint, if there is one.
var advices = map[clierr.Topic]advice{
	clierr.NameStateFile: {text: "pass Flujo's state file with --sqlite"},
	clierr.MigratedSchema: {
		text: "name the schema that was migrated to with --schema, and the database with --postgres",
	},
	clierr.OtherSchema: {text: "or name another schema with --schema"},
	clierr.SchemaHoldsRows: {
		text: "if it was migrated already, run \"%s\" with the same state file; otherwise see --replace and --merge, " +
			"or use another schema (--schema)",
		command: "verify",
	},
	clierr.OwnByInit: {
		text:    "or have an administrator run \"%s\" first",
		command: "init", options: []string{"--owner"},
	},
	clierr.StartAsOwner: {
		text: "by having an administrator run \"%s\", or, if another role needs " +
			"to own them, start Flujo with FLUJO_AUTO_MIGRATE=false and set that here too",
		command: "init", options: []string{"--owner"},
	},
	clierr.GrantToByInit: {
		text:    "or have the owner of the tables or a superuser run \"%s\"",
		command: "init", options: []string{"--grant-to"},
	},
	clierr.GrantReadByInit: {
		text:    "or have the owner of the tables run \"%s\"",
		command: "init", options: []string{"--grant-read"},
	},
	clierr.InitSubscriber: {
		text: "before the subscription, run \"%s\" on both sides; after the migration, copy the definitions of " +
			"the tables that it created with pg_dump, then run ALTER SUBSCRIPTION … REFRESH PUBLICATION",
		command: "init",
	},
	clierr.SetCutover: {
		text:    "set it to the cutover address, which \"%s\" prints",
		command: cutoverCommand, options: printCutover,
	},
	clierr.WithoutPGVector: {text: "or use --without-pgvector: Flujo then starts and works, without memory indexing"},
	clierr.UsePGVector:     {text: "and run without --without-pgvector"},
	clierr.Quarantine:      {text: "or use --quarantine, which stores them in flujo_port_originals"},
	clierr.NotStrict:       {text: "run without --strict to convert them and store the original values"},
	clierr.NotStrictZone: {text: "run without --strict to convert them and store the original values; " +
		"--naive-timezone names the zone of timestamps without one"},
	clierr.NameZone:        {text: "name the time zone with --naive-timezone"},
	clierr.NotMigratedBase: {text: "or use --merge to keep the changes of both sides, or restore without --base"},
	clierr.NameBase:        {text: "pass the state file that was migrated with --base"},
	clierr.RevealPassword:  {text: "copy an address that was printed with --reveal, or the file of --env-file"},
	clierr.NoBase:          {text: "restore without --base"},
	clierr.CheckIntegrity:  {text: "run without --skip-integrity"},
}

// cutoverCommand with the options printCutover prints the cutover address that was tried, with its password.
const cutoverCommand = "uri cutover"

var printCutover = []string{"--connect", "--reveal"}

// suggested returns the command line of a command that follows this run: its options, and the flags of the run without
// which it would act upon something else, or be refused. URL stands for the address of --postgres, which may contain a
// password. State files are not named.
func (e *env) suggested(command string, options ...string) string {
	line := strings.Join(append([]string{"flujo-port", command}, options...), " ")
	if e.flags == nil { // the command line could not be parsed
		return line
	}
	names := []string{schemaFlag.Name, withoutPGVectorFlag.Name, postgresFlag.Name}
	if command == "migrate" {
		names = append(names, quarantineFlag.Name, naiveTimezoneFlag.Name, exactFloatsFlag.Name)
	}
	for _, f := range flagsOf(e.commands, command) {
		name := f.Names()[0]
		value := e.flags.String(name)
		switch {
		case !slices.Contains(names, name), !e.flags.IsSet(name):
		case name == postgresFlag.Name:
			line += " --" + name + " URL"
		case !f.(cli.DocGenerationFlag).TakesValue():
			if e.flags.Bool(name) {
				line += " --" + name
			}
		case name != schemaFlag.Name || value != schemaFlag.Value:
			line += " --" + name + " " + report.ShellWord(value)
		}
	}
	return line
}

// flagsOf returns the flags of a command, such as "uri cutover".
func flagsOf(commands []*cli.Command, name string) (flags []cli.Flag) {
	for word := range strings.FieldsSeq(name) {
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == word })
		commands, flags = commands[at].Subcommands, commands[at].Flags
	}
	return flags
}

// withAdvice returns a hint followed by an advice; either may be empty.
func (e *env) withAdvice(hint string, a clierr.Advice) string {
	known := advices[a.Topic]
	advice := known.text
	if known.command != "" {
		options := known.options
		if a.Arg != "" {
			options = append(slices.Clone(options), report.ShellWord(a.Arg))
		}
		advice = fmt.Sprintf(advice, e.suggested(known.command, options...))
	}
	switch {
	case hint == "":
		return strings.TrimPrefix(advice, "or ")
	case advice == "":
		return hint
	case strings.HasPrefix(advice, "or "):
		return hint + ", " + advice
	case strings.HasPrefix(advice, "and "), strings.HasPrefix(advice, "by "):
		return hint + " " + advice
	}
	return hint + "; " + advice
}
