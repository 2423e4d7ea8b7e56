package main

import (
	_ "embed" // the scripts
	"fmt"
	"slices"

	"flujo-port/internal/clierr"

	"github.com/urfave/cli/v2"
)

// The scripts for bash and zsh ask the program for what may follow. That for fish is made of the commands and flags by
// the library; `make man` writes it.
var (
	//go:embed completions/flujo-port.bash
	bashCompletion string
	//go:embed completions/flujo-port.zsh
	zshCompletion string
	//go:embed completions/flujo-port.fish
	fishCompletion string
)

func (e *env) completionCommand() *cli.Command {
	command := &cli.Command{
		Name:  "completion",
		Usage: "print a script with which a shell completes commands and flags",
		Description: "For the current session: source <(flujo-port completion bash), the same with " +
			"zsh, or flujo-port completion fish | source. For every session, write the " +
			"script to a file that the shell reads; packages contain these files.",
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("completion requires a shell: bash, zsh or fish")
			}
			return unknownCommand("shell", c.Args().First(), c.Command.Subcommands)
		},
	}
	for _, shell := range []struct{ name, script string }{
		{"bash", bashCompletion}, {"zsh", zshCompletion}, {"fish", fishCompletion},
	} {
		command.Subcommands = append(command.Subcommands, &cli.Command{
			Name:  shell.name,
			Usage: "print the script for " + shell.name,
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				if _, err := fmt.Fprint(e.stdout, shell.script); err != nil {
					return &clierr.Error{Kind: clierr.Failed, Message: "cannot print the script", Err: err}
				}
				return nil
			},
		})
	}
	return command
}

// flagValues are the values of flags that have only a few, or usually one of a few.
var flagValues = map[string][]string{
	"--verify":         {"content", "counts"},
	"--format":         {"raw", "shell", "env", "json"},
	"--log-format":     {"text", "json"},
	"--naive-timezone": {"utc", "local"},
}

// completeBy returns the function that prints what may follow the words of the command line before the cursor, one word
// per line: subcommands, or flags and their values. It prints nothing after a flag whose value is free, and the shell
// then completes files. The last word is "-" if the word at the cursor begins with it; the shell selects. The
// library's own function offers no flags before a "-" is typed, and no values.
func (e *env) completeBy(command *cli.Command) cli.BashCompleteFunc {
	return func(c *cli.Context) {
		last := e.args[len(e.args)-2] // the last one asks for completion
		var words []string
		subcommands := command.Subcommands
		if command.Name == "help" {
			subcommands = e.commandsAfter(c.Args().Slice())
		}
		for _, subcommand := range subcommands {
			words = append(words, subcommand.Name)
		}
		for _, f := range command.Flags {
			name := "--" + f.Names()[0]
			if name == last && f.(cli.DocGenerationFlag).TakesValue() {
				words = flagValues[name]
				break
			}
			if len(command.Subcommands) == 0 || last == "-" {
				words = append(words, name)
			}
		}
		for _, word := range words {
			fmt.Fprintln(c.App.Writer, word)
		}
	}
}

// commandsAfter returns the commands that may follow the words of help.
func (e *env) commandsAfter(words []string) []*cli.Command {
	commands := e.commands
	for _, word := range words {
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == word })
		if at < 0 {
			return nil
		}
		commands = commands[at].Subcommands
	}
	return commands
}
