package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/report"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

// failure returns the parts of an error.
func (e *env) failure(err error) *report.Failure {
	f := &report.Failure{}
	if o, ok := errors.AsType[*outcome](err); ok {
		err, f.Consequence = o.err, o.consequence
	}
	if errors.Is(err, context.Canceled) {
		f.Message = "interrupted"
		return f
	}
	known, ok := err.(*clierr.Error)
	if !ok {
		f.Message = err.Error()
		return f
	}
	plain := *known
	plain.Hint = ""
	f.Message, f.Hint = plain.Error(), e.withAdvice(known.Hint, known.Advice)
	if known.Kind == clierr.Usage && f.Consequence == "" && e.writes() { // found before the command began
		f.Consequence = "nothing was changed"
	}
	return f
}

// writes reports whether the command is one that writes to a database or a state file.
func (e *env) writes() bool {
	command, _ := e.commandLine()
	return slices.Contains([]string{"migrate", "restore", "init"}, command)
}

// describe fills in the run of a command that ended with err, which may be nil.
func (e *env) describe(run *report.Run, err error) {
	b := builtFrom(debug.ReadBuildInfo())
	run.Format, run.Version, run.Commit = report.Format, b.version, b.commit
	run.Host, _ = os.Hostname() // unknown if it fails
	run.Command, run.Arguments = e.commandLine()
	if run.Started.IsZero() {
		run.Started, run.Seconds = e.started.UTC().Truncate(time.Millisecond), time.Since(e.started).Seconds()
	}
	if err != nil {
		run.ExitCode, run.Error = int(clierr.KindOf(err)), e.failure(err)
	}
}

// failed returns the report of a command that ended before it had results.
func (e *env) failed(err error) *report.Failed {
	failed := &report.Failed{Files: append([]string{}, e.files...), Database: e.database}
	e.describe(&failed.Run, err)
	return failed
}

// reportFailure prints the JSON report of a command that ended before it had results.
func (e *env) reportFailure(err error) {
	if err := report.JSON(e.stdout, e.failed(err)); err != nil {
		e.warn("the report cannot be printed: " + err.Error())
	}
}

// asksForJSON reports whether the arguments contain --json or --format json. It is needed
// if they cannot be parsed.
func asksForJSON(args []string) bool {
	for i, arg := range args {
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		switch {
		case name == arg:
		case name == jsonFlag.Name:
			if set, err := strconv.ParseBool(value); !hasValue || err == nil && set {
				return true
			}
		case name == formatFlag.Name && (value == "json" || !hasValue && i+1 < len(args) && args[i+1] == "json"):
			return true
		}
	}
	return false
}

// commandLine returns the name of the command, and the arguments after the program's name. What may contain a password
// is ***: in an address its password, and otherwise everything but flags, and values that are no credentials.
func (e *env) commandLine() (command string, args []string) {
	commands := e.commands
	var flags []cli.Flag
	args = []string{}
	isValue, isAddress := false, false
	for _, arg := range e.args[min(1, len(e.args)):] {
		if at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == arg }); at >= 0 && !isValue {
			command = strings.TrimSpace(command + " " + arg)
			commands, flags = commands[at].Subcommands, commands[at].Flags
			args = append(args, arg)
			continue
		}
		if isValue {
			args, isValue = append(args, maskValue(arg, isAddress)), false
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		at := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
		if !strings.HasPrefix(arg, "-") || at < 0 {
			args = append(args, hidden)
			continue
		}
		isAddress = name == postgresFlag.Name
		if hasValue {
			args = append(args, "--"+name+"="+maskValue(value, isAddress))
			continue
		}
		args, isValue = append(args, "--"+name), flags[at].(cli.DocGenerationFlag).TakesValue()
	}
	return command, args
}

// hidden replaces what may be a password.
const hidden = "***"

func maskValue(value string, isAddress bool) string {
	switch {
	case isAddress:
		return stateuri.Masked(value)
	case stateuri.MayBeCredentials(value):
		return hidden
	}
	return value
}
