package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/report"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

// programHelp is the command that hints name, until nameHelp replaces it by that of the command that was run.
const programHelp = "flujo-port --help"

// nameHelp names the command in the hint of an error, if there is one.
func (e *env) nameHelp(err error) {
	if command, _ := e.commandLine(); command != "help" { // whose words name a command
		nameHelpOf(command, err)
	}
}

// nameHelpOf names a command in the hint of an error, if there is one.
func nameHelpOf(command string, err error) {
	if failed, ok := errors.AsType[*clierr.Error](err); ok && command != "" {
		failed.Hint = strings.Replace(failed.Hint, programHelp, "flujo-port "+command+" --help", 1)
	}
}

// usagef returns a clierr.Usage error. Strings that may contain a password are not
// echoed.
func usagef(format string, args ...any) *clierr.Error {
	for i, a := range args {
		if s, ok := a.(string); ok && stateuri.MayContainPassword(s) {
			args[i] = "(hidden, may contain a password)"
		}
	}
	return &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf(format, args...), Hint: "see " + programHelp}
}

// The errors of the flag package, which quote what they do not understand.
var (
	unknownFlag  = regexp.MustCompile(`^flag provided but not defined: -(.*)$`)
	invalidValue = regexp.MustCompile(`(?s)^invalid (boolean )?value ".*" for (?:flag )?-([a-z-]+): `)
	missingValue = regexp.MustCompile(`^flag needs an argument: -([a-z-]+)$`)
	plainFlag    = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
)

// usageError words an error of the flag package. It quotes no value, since a password
// may be in the wrong place: of an unknown flag only a name of letters.
func (e *env) usageError(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if m := unknownFlag.FindStringSubmatch(text); m != nil {
		return e.unknownFlag(c, m[1])
	}
	if m := invalidValue.FindStringSubmatch(text); m != nil {
		if m[1] != "" {
			return usagef("--%s takes no value", m[2])
		}
		return usagef("the value of --%s is invalid", m[2])
	}
	if m := missingValue.FindStringSubmatch(text); m != nil {
		return usagef("--%s requires a value", m[1])
	}
	return usagef("the command line has a malformed flag")
}

// unknownFlag returns the error for a flag that the command does not have. A short flag
// is not named, because a password may be part of it, as in -psecret.
func (e *env) unknownFlag(c *cli.Context, name string) error {
	var names []string
	for _, f := range c.Command.Flags {
		names = append(names, f.Names()...)
	}
	message := "unknown flag"
	isLong := func(arg string) bool { return arg == "--"+name || strings.HasPrefix(arg, "--"+name+"=") }
	if plainFlag.MatchString(name) && slices.ContainsFunc(e.args, isLong) {
		message += " --" + name
	}
	err := usagef("%s", message)
	ofCommand := func(command *cli.Command) bool {
		return slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	}
	if c.Command.Name == c.App.Name && slices.ContainsFunc(e.commands, ofCommand) {
		err.Message += " before the command"
		err.Hint = "put flags after the command; see " + programHelp
		return err
	}
	return withSuggestion(err, clierr.Suggest(name, names), "--")
}

// unknownCommand returns the error for a word that is not the name of a command.
func unknownCommand(what, word string, commands []*cli.Command) error {
	var names []string
	for _, command := range commands {
		names = append(names, command.Name)
	}
	err := usagef("unknown %s; use %s", what, strings.Join(names, ", "))
	return withSuggestion(err, clierr.Suggest(word, names), "")
}

// withSuggestion adds a similar name to the hint of a usage error, if there is one.
func withSuggestion(err *clierr.Error, similar, prefix string) error {
	if similar != "" {
		err.Hint = fmt.Sprintf("did you mean %s%s? See %s", prefix, similar, programHelp)
	}
	return err
}

// noArguments returns a usage error if there are arguments after the flags, which names the flag that the first of them
// is probably the value of. It quotes only what is the name of a file, since a password may be in the wrong place.
func noArguments(c *cli.Context) error {
	if !c.Args().Present() {
		return nil
	}
	first := c.Args().First()
	has := func(name string) bool {
		return slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	}
	isFile := !stateuri.MayContainPassword(first) && exists(first) || looksLikeStateFile(first)
	what := "one (hidden, may contain a password)"
	if isFile {
		what = first
	}
	err := usagef("%s takes no arguments, but got %s", c.Command.Name, what)
	switch {
	case isFile && has(sqliteFlag.Name):
		err.Hint = fmt.Sprintf("name the state file with --%s %s", sqliteFlag.Name, report.ShellWord(first))
	case stateuri.NamesPostgres(first) && has(postgresFlag.Name):
		err.Hint = fmt.Sprintf("name the database with --%s URL", postgresFlag.Name)
	}
	return err
}

// looksLikeStateFile reports whether a word is the name that a state file may have, and no address or credentials.
func looksLikeStateFile(word string) bool {
	return slices.Contains([]string{".db", ".sqlite", ".sqlite3"}, filepath.Ext(word)) &&
		!stateuri.MayBeCredentials(word)
}

// checkPath returns a usage error that does not quote value, which is meant to be the path
// of a file, if it looks like an address or credentials. The path of a file that exists
// does not. name is the flag or the variable of the value.
func checkPath(name, value string) error {
	if !stateuri.MayBeCredentials(value) {
		return nil
	}
	if path, err := stateuri.SQLitePath(value, ""); err == nil && exists(path) {
		return nil
	}
	err := usagef("%s must be a file, but looks like a connection string or credentials "+
		"(hidden, may contain a password)", name)
	err.Hint = "write a file of such a name as ./NAME"
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
