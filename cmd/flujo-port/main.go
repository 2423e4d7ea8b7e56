// Command flujo-port moves the state of the Flujo AI framework from a SQLite
// file into PostgreSQL.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"flujo-port/internal/clierr"

	"github.com/urfave/cli/v2"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // there is little to look through, and long cells are not to wait for it
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop() // from now on a signal ends the process
		fmt.Fprintln(
			os.Stderr,
			"interrupted: rolling back, unless it is committing already; a second signal ends this at once",
		)
	})
	os.Exit(run(ctx, os.Args, os.Getenv, os.Stdout, os.Stderr))
}

// env is what a command gets from outside.
type env struct {
	getenv         func(string) string
	stdout, stderr io.Writer
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	e := &env{getenv: getenv, stdout: stdout, stderr: stderr}
	app := &cli.App{
		Name:            "flujo-port",
		Usage:           "move the state of Flujo from its SQLite file into PostgreSQL",
		Description:     "Do a dry run with \"flujo-port migrate --dry-run\", stop Flujo, then run \"flujo-port migrate\".",
		Version:         version(),
		HideHelpCommand: true,
		Commands: []*cli.Command{
			e.checkCommand(),
			e.migrateCommand(),
			e.verifyCommand(),
			e.restoreCommand(),
			e.initCommand(),
			e.uriCommand(),
		},
		Writer:         stdout,
		ErrWriter:      stderr,
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		CustomAppHelpTemplate: cli.AppHelpTemplate + exitCodes,
	}
	for _, command := range app.Commands {
		command.OnUsageError = usageError
	}
	err := app.RunContext(ctx, args)
	if err == nil {
		return 0
	}
	kind := clierr.KindOf(err)
	fmt.Fprintf(stderr, "flujo-port: %s\n", message(err))
	return int(kind)
}

const exitCodes = `
EXIT CODES:
   0    done
   1    failed, try again: connection lost, lock timeout, disk full
   2    usage or configuration
   3    refused: the check or the data say no; nothing was written
   4    verification found a difference; nothing was committed
   130  interrupted; nothing was committed
`

func usageError(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) }

// usagef makes an error of the command line. What the user typed may hold a
// password in any place: what looks like it is not echoed.
func usagef(format string, args ...any) error {
	for i, a := range args {
		args[i] = discreet(fmt.Sprint(a))
	}
	return &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf(format, args...), Hint: "see flujo-port --help"}
}

// discreet gives s, or a stand-in where s may hold a password.
func discreet(s string) string {
	if secretive(s) {
		return "(not shown, it may hold a password)"
	}
	return s
}

// secretive reports whether s looks like an address or a connection string.
func secretive(s string) bool {
	lower := strings.ToLower(s)
	return strings.Contains(lower, "password") || strings.Contains(s, "://") && strings.Contains(s, "@")
}

// outcome is an error with what it means for the data.
type outcome struct {
	err   error
	means string
}

func (o *outcome) Error() string { return o.err.Error() }

// Unwrap gives the error itself.
func (o *outcome) Unwrap() error { return o.err }

// message puts an error on one line: what happened, what it means for the
// data, what to do.
func message(err error) string {
	means := ""
	if o, ok := errors.AsType[*outcome](err); ok {
		means, err = "; "+o.means, o.err
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted" + means
	}
	f, ok := err.(*clierr.Error)
	if !ok {
		return err.Error() + means
	}
	plain := *f
	plain.Hint = ""
	line := plain.Error() + means
	if f.Hint != "" {
		line += "; " + f.Hint
	}
	return line
}

// noArguments refuses what stands after the flags.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no argument, and was given %q", c.Command.Name, c.Args().First())
	}
	return nil
}

// version gives the module's version as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
