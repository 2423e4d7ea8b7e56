// Command flujo-port migrates the state of the Flujo AI framework from its
// SQLite file to PostgreSQL.
package main

import (
	"context"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/document"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

func main() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		collectGarbage()
	}
	// A write that fails is an error of that write. These signals would end the program after a commit too.
	signal.Ignore(writeSignals...)
	signals, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(signals, func() {
		stop() // the next signal kills the process, which run says when ctx ends
		cancel()
	})
	os.Exit(run(ctx, os.Args, os.Getenv, os.Stdout, os.Stderr))
}

// firstCollection is the memory of Go, in bytes, at which garbage is collected for the first time. A run with a small
// state file ends before.
const firstCollection = 16 << 20

// collectGarbage has garbage collected late for the first time, and often afterwards: the live heap is small, so
// collections are cheap, and they free long cells early.
func collectGarbage() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(firstCollection)
	runtime.AddCleanup(new([64]byte), func(struct{}) { // which nothing refers to
		debug.SetGCPercent(50)
		debug.SetMemoryLimit(math.MaxInt64)
	}, struct{}{})
}

// env is the environment of a command: variables and output streams.
type env struct {
	args           []string // the command line
	getenv         func(string) string
	stdout, stderr io.Writer
	console        *console // writes to stderr
	started        time.Time
	commands       []*cli.Command
	flags          *cli.Context // of the command that runs; nil until they are parsed
	reported       bool         // a report was printed, or could not be

	// What the command is to use, for the report of a failure; empty until it is known.
	files    []string
	database string
}

// width returns the number of columns of a report.
func (e *env) width() int {
	f, ok := e.stdout.(*os.File)
	if !ok {
		return document.Width
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return document.Width
	}
	return min(width, document.MaxWidth)
}

// note and warn write a message about the run to stderr.
func (e *env) note(text string) { e.console.say(slog.LevelInfo, "note: ", text) }
func (e *env) warn(text string) { e.console.say(slog.LevelWarn, "warning: ", text) }

// run executes the program with args and returns its exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	e := &env{args: args, getenv: getenv, stdout: stdout, stderr: stderr, started: time.Now()}
	e.console = newConsole(stderr, getenv, asksForJSONLog(args))
	said := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		e.console.interrupt()
		close(said)
	})
	help := &checkedWriter{w: stdout}
	app := e.app(help)
	refuseUnclearFlags(app.Commands, func(flags *cli.Context) error {
		e.flags = flags
		return e.console.configure(flags)
	})
	err := app.RunContext(ctx, args)
	if !stop() {
		<-said
	}
	if err == nil && help.err != nil {
		err = &clierr.Error{Kind: clierr.Failed, Message: "cannot print the help", Err: help.err}
	}
	if err == nil {
		return 0
	}
	e.nameHelp(err)
	if !e.reported && asksForJSON(args) {
		e.reportFailure(err)
	}
	kind := clierr.KindOf(err)
	e.console.say(slog.LevelError, "", e.message(err), slog.Int("exit_code", int(kind)))
	return int(kind)
}

// app returns the commands of the program. They print help to w.
func (e *env) app(w io.Writer) *cli.App {
	app := &cli.App{
		Name:  "flujo-port",
		Usage: "migrate Flujo's state from SQLite to PostgreSQL",
		Description: "Run \"flujo-port check\", then \"flujo-port migrate --dry-run\".\n" +
			"For the cutover, stop Flujo and run \"flujo-port migrate\".\n" +
			"\"flujo-port COMMAND --help\" describes a command.",
		Version:         version(),
		HideHelpCommand: true,
		Flags:           []cli.Flag{cli.HelpFlag}, // which the library omits if there is a command help
		// A path may contain a comma.
		DisableSliceFlagSeparator: true,
		Commands: []*cli.Command{
			e.checkCommand(),
			e.migrateCommand(),
			e.verifyCommand(),
			e.restoreCommand(),
			e.initCommand(),
			e.uriCommand(),
			e.completionCommand(),
			e.versionCommand(),
			e.helpCommand(),
		},
		Writer:         w,
		ErrWriter:      e.stderr,
		OnUsageError:   e.usageError,
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand("command", c.Args().First(), c.App.Commands)
			}
			return cli.ShowAppHelp(c)
		},
		CustomAppHelpTemplate: commandHelp,
		EnableBashCompletion:  true,
	}
	app.BashComplete = func(c *cli.Context) { e.completeBy(c.Command)(c) }
	e.setUpCommands(app.Commands)
	e.commands = app.Commands
	return app
}

// setUpCommands sets what all commands and their subcommands have in common.
func (e *env) setUpCommands(commands []*cli.Command) {
	for _, command := range commands {
		command.Action = orHelp(command.Action)
		command.OnUsageError = e.usageError
		command.CustomHelpTemplate = commandHelp
		command.HideHelpCommand = true
		command.BashComplete = e.completeBy(command)
		e.setUpCommands(command.Subcommands)
	}
}

// checkedWriter writes to w and stores the first error, since the command line
// library ignores it.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.err == nil {
		c.err = err
	}
	return n, err
}

// message formats an error as one line: what happened, what it means for the
// data, and what to do.
func (e *env) message(err error) string {
	f := e.failure(err)
	line := f.Message
	for _, more := range []string{f.Consequence, f.Hint} {
		if more != "" {
			line += "; " + more
		}
	}
	return line
}
