package main

import (
	"io"
	"slices"
	"strings"

	"flujo-port/internal/document"

	"github.com/urfave/cli/v2"
)

// The categories of flags. A command's help lists them in the order of their first flags.
const (
	groupSource     = "STATE FILE AND DATABASE"
	groupOperation  = "OPERATION"
	groupValues     = "VALUES"
	groupPrivileges = "PRIVILEGES"
	groupOutput     = "OUTPUT"
)

const (
	helpWidth     = 80
	helpIndent    = 3
	nameWidth     = 23 // of a flag, with the space that follows
	flagHelpWidth = helpWidth - helpIndent - nameWidth
)

func init() {
	cli.HelpFlag = &cli.BoolFlag{
		Name: "help", Aliases: []string{"h"}, Usage: "show help", DisableDefaultText: true, Category: groupOutput,
	}
	cli.VersionFlag = &cli.BoolFlag{
		Name: "version", Aliases: []string{"v"}, Usage: "print the version", DisableDefaultText: true,
		Category: groupOutput,
	}
	stringer := cli.FlagStringer
	cli.FlagStringer = func(f cli.Flag) string { return flagHelp(stringer(f)) }
	cli.HelpPrinter = func(w io.Writer, template string, data any) {
		cli.HelpPrinterCustom(w, template, data, map[string]any{
			"wrap":      wrapHelp,
			"groups":    groupFlags,
			"examples":  func(name string) string { return strings.Join(examples[name], "\n") },
			"exitCodes": exitCodesOf,
		})
	}
}

// wrapHelp wraps the paragraphs of a text, of which the first line begins after indent columns. The library's own
// function counts bytes and not columns.
func wrapHelp(text string, indent int) string {
	paragraphs := strings.Split(text, "\n")
	spaces := strings.Repeat(" ", indent)
	for i, paragraph := range paragraphs {
		if paragraph != "" {
			paragraphs[i] = document.Wrap(paragraph, helpWidth, spaces, spaces)
		}
	}
	return strings.TrimLeft(strings.Join(paragraphs, "\n"), " ")
}

// commandHelp is the template of the help of the program and of every command. It has the library's parts, the flags by
// category, examples and exit codes.
const commandHelp = `NAME:
   {{template "helpNameTemplate" .}}

USAGE:
   {{.HelpName}}{{if .VisibleCommands}} command{{end}} [options]{{with .ArgsUsage}} {{.}}{{end}}
{{- with .Description}}

DESCRIPTION:
   {{wrap . 3}}{{end}}
{{- if .VisibleCommands}}

COMMANDS:{{template "visibleCommandTemplate" .}}{{end}}
{{- range groups .VisibleFlags}}

{{.Name}}:{{range .Flags}}
   {{indent 3 .String | trim}}{{end}}{{end}}
{{- with examples .HelpName}}

EXAMPLES:
   {{indent 3 . | trim}}{{end}}

EXIT CODES:{{range exitCodes .HelpName}}
   {{printf "%-5s" .Code}}{{wrap .Meaning 8}}{{end}}
`

func (e *env) helpCommand() *cli.Command {
	return &cli.Command{
		Name:        "help",
		Usage:       "print the help of the program or of a command",
		ArgsUsage:   "[COMMAND [SUBCOMMAND]]",
		Description: "\"flujo-port help migrate\" prints what \"flujo-port migrate --help\" prints.",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if err := e.checkCommandWords(words); err != nil {
				return err
			}
			return c.App.RunContext(c.Context, slices.Concat([]string{c.App.Name}, words, []string{"--help"}))
		},
	}
}

// checkCommandWords returns a usage error if the words do not name a command.
func (e *env) checkCommandWords(words []string) error {
	commands, name := e.commands, ""
	for _, word := range words {
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == word })
		if at < 0 {
			err := error(usagef("%s has no subcommands", name))
			switch {
			case name == "":
				err = unknownCommand("command", word, commands)
			case len(commands) > 0:
				err = unknownCommand("subcommand of "+name, word, commands)
			}
			nameHelpOf(name, err)
			return err
		}
		commands, name = commands[at].Subcommands, strings.TrimSpace(name+" "+word)
	}
	return nil
}

// orHelp returns the action of a command, which prints the command's help instead if "help" is all that follows it.
func orHelp(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NumFlags() > 0 || c.NArg() != 1 || c.Args().First() != "help" {
			return action(c)
		}
		cli.HelpPrinter(c.App.Writer, commandHelp, c.Command)
		return nil
	}
}

// flagGroup is the flags of a category.
type flagGroup struct {
	Name  string
	Flags []cli.Flag
}

// groupFlags returns flags by category. The library would sort the categories by name.
func groupFlags(flags []cli.Flag) (groups []*flagGroup) {
	byName := map[string]*flagGroup{}
	for _, f := range flags {
		name := f.(cli.CategorizableFlag).GetCategory()
		if byName[name] == nil {
			byName[name] = &flagGroup{Name: name}
			groups = append(groups, byName[name])
		}
		byName[name].Flags = append(byName[name].Flags, f)
	}
	return groups
}

// flagHelp formats the library's help of a flag, "name\tdescription". It wraps the description and removes a default
// that says nothing.
func flagHelp(text string) string {
	name, description, _ := strings.Cut(text, "\t")
	description = strings.TrimSuffix(strings.TrimSuffix(description, " (default: false)"), " (default: 0)")
	if first, _, list := strings.Cut(name, " [ "); list {
		name = first + "..."
	}
	var b strings.Builder
	b.WriteString(name)
	column := flagHelpWidth // no word fits after a name that is too long
	if len(name)+2 <= nameWidth {
		b.WriteString(strings.Repeat(" ", nameWidth-len(name)))
		column = 0
	}
	for word := range strings.FieldsSeq(description) {
		switch {
		case column == 0:
		case column+1+len(word) > flagHelpWidth:
			b.WriteString("\n" + strings.Repeat(" ", nameWidth))
			column = 0
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// examples are command lines for each command, by its full name.
var examples = map[string][]string{
	"flujo-port": {
		"flujo-port check --sqlite flujo_state.db --postgres URL",
		"flujo-port migrate --sqlite flujo_state.db --postgres URL --dry-run",
	},
	"flujo-port check": {
		"flujo-port check --sqlite flujo_state.db",
		"flujo-port check --sqlite flujo_state.db --postgres URL",
	},
	"flujo-port migrate": {
		"flujo-port migrate --sqlite flujo_state.db --postgres URL --dry-run",
		"flujo-port migrate --sqlite flujo_state.db --env-file cutover.env",
		"flujo-port migrate --sqlite flujo_state.db --if-needed",
		"flujo-port migrate --sqlite flujo_state.db --merge --json > report.json",
	},
	"flujo-port verify": {
		"flujo-port verify --sqlite flujo_state.db --postgres URL",
		"flujo-port verify --sqlite flujo_state.db --json > verified.json",
	},
	"flujo-port restore": {
		"flujo-port restore --sqlite new.db --postgres URL",
		"flujo-port restore --sqlite new.db --base flujo_state.db",
	},
	"flujo-port init": {
		"flujo-port init --postgres URL --owner flujo_app",
		"flujo-port init --postgres URL --grant-read auditor",
	},
	"flujo-port uri": {
		"flujo-port uri cutover --connect",
		"flujo-port uri rollback --sqlite flujo_state.db",
	},
	"flujo-port uri cutover": {
		"flujo-port uri cutover --connect",
		`eval "$(flujo-port uri cutover --format shell --reveal)"`,
	},
	"flujo-port uri rollback": {"flujo-port uri rollback --sqlite flujo_state.db"},
	"flujo-port completion": {
		"source <(flujo-port completion bash)",
		"flujo-port completion fish > ~/.config/fish/completions/flujo-port.fish",
	},
	"flujo-port completion bash": {
		"source <(flujo-port completion bash)",
		"flujo-port completion bash > /etc/bash_completion.d/flujo-port",
	},
	"flujo-port completion zsh": {
		"source <(flujo-port completion zsh)    # after compinit",
		`flujo-port completion zsh > "${fpath[1]}/_flujo-port"`,
	},
	"flujo-port completion fish": {
		"flujo-port completion fish | source",
		"flujo-port completion fish > ~/.config/fish/completions/flujo-port.fish",
	},
	"flujo-port version": {"flujo-port version --json"},
	"flujo-port help":    {"flujo-port help migrate", "flujo-port help uri cutover"},
}

// exitCode is the meaning of an exit code.
type exitCode struct{ Code, Meaning string }

var (
	exitRetry = exitCode{"1", "failed; a retry may succeed: connection lost, lock timeout, disk full"}
	// A lost connection during COMMIT.
	exitUnknown = exitCode{"1", "failed; a retry may succeed: connection lost, lock timeout, disk full; " +
		"or it is not known whether the server committed, which the error says"}
	exitNotPrinted  = exitCode{"1", "failed: the output cannot be written"}
	exitUsage       = exitCode{"2", "usage or configuration error; nothing was written"}
	exitSettings    = exitCode{"2", "usage or configuration error"} // of a command that writes nothing
	printsOnly      = []exitCode{{"0", "printed"}, exitNotPrinted, {"2", "usage error"}}
	exitInterrupted = exitCode{"130", "interrupted; nothing was committed"}
)

// exitCodes are the exit codes of each command, by its full name.
var exitCodes = map[string][]exitCode{
	"flujo-port": {
		{"0", "done"}, exitUnknown, exitUsage,
		{"3", "refused: preflight or data validation failed; nothing was written"},
		{"4", "verification found a mismatch; nothing was committed"},
		{"5", "check: no error found, but the server was not looked at"},
		exitInterrupted,
	},
	"flujo-port check": {
		{
			"0",
			"no check found an error",
		},
		{"1", "failed: the report or a temporary file cannot be written"},
		exitSettings,
		{"3", "a check found an error: a migration would fail or be refused"},
		{"5", "no check found an error, but the server was not looked at, because none was named"},
		{"130", "interrupted; nothing was changed"},
	},
	"flujo-port migrate": {
		{"0", "committed, rolled back by --dry-run, or found to be migrated by --if-needed; a warning says what " +
			"failed after the commit"},
		exitUnknown, exitUsage,
		{"3", "refused: the state file or the schema cannot be migrated as it is; nothing was written"},
		{"4", "what PostgreSQL stored differs from the state file; nothing was committed"},
		exitInterrupted,
	},
	"flujo-port verify": {
		{"0", "equal, merged or drift: the migration was correct"}, exitRetry, exitSettings,
		{"3", "refused: another state file than the migrated one, or the file or the tables cannot be compared"},
		{"4", "copy-mismatch; or mismatch, if there is no receipt or a table is missing"},
		{"130", "interrupted; nothing was changed"},
	},
	"flujo-port restore": {
		{"0", "the file was created, or removed by --dry-run; a warning says what failed later"}, exitRetry, exitUsage,
		{"3", "refused: the database or the base cannot be restored as it is; no file was created"},
		{"4", "the new file differs from the database; no file was created"},
		{"130", "interrupted; no file was created"},
	},
	"flujo-port init": {
		{"0", "the tables exist"}, exitUnknown, exitUsage,
		{"3", "refused: the tables differ from Flujo's, a privilege is missing, or Flujo would not start"},
		exitInterrupted,
	},
	"flujo-port uri": {
		{"0", "printed"},
		{"1", "failed; a retry may succeed: connection lost (cutover --connect), or the output cannot be written"},
		exitSettings,
		{"3", "refused: Flujo would not work by the address (cutover --connect)"},
		{"130", "interrupted (cutover --connect)"},
	},
	"flujo-port uri cutover": {
		{"0", "printed"},
		{"1", "failed; a retry may succeed: connection lost (--connect), or the output cannot be written"},
		exitSettings,
		{"3", "refused: Flujo would not work by the address (--connect)"},
		{"130", "interrupted (--connect)"},
	},
	"flujo-port uri rollback": {{"0", "printed"}, exitNotPrinted, exitSettings},
	"flujo-port completion":   printsOnly, "flujo-port completion bash": printsOnly,
	"flujo-port completion zsh": printsOnly, "flujo-port completion fish": printsOnly,
	"flujo-port version": printsOnly, "flujo-port help": printsOnly,
}

func exitCodesOf(name string) []exitCode { return exitCodes[name] }
