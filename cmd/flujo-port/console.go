package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/document"
	"flujo-port/internal/progress"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

var (
	quietFlag = &cli.BoolFlag{
		Name:     "quiet",
		Category: groupOutput,
		Usage: "show no progress and no notes on stderr, only warnings and errors; the report goes to stdout " +
			"as always",
	}
	logFormatFlag = &cli.StringFlag{
		Name:     "log-format",
		Category: groupOutput,
		Value:    "text",
		Usage: "write stderr as `FORMAT`: text, or json, an object with time, level, msg and other keys for each " +
			"line of progress, note, warning and error",
	}
)

// asksForJSONLog reports whether the arguments contain --log-format json. It is needed before they are parsed, since
// what is wrong with them is logged too.
func asksForJSONLog(args []string) bool {
	for i, arg := range args {
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if name != "-"+logFormatFlag.Name && (name != logFormatFlag.Name || name == arg) {
			continue
		}
		if !hasValue && i+1 < len(args) {
			value = args[i+1]
		}
		return value == "json"
	}
	return false
}

// console is stderr: messages about the run, and the progress of an operation. Several goroutines use it. Each message
// is one write, so that it cannot be mixed with what others write.
type console struct {
	w     io.Writer
	now   func() time.Time
	log   *slog.Logger // of --log-format json, otherwise nil
	quiet bool         // only warnings and errors are shown
	// terminal reports whether w is one. width returns the number of its columns, and is nil if progress is shown as
	// lines.
	terminal bool
	width    func() int

	mu      sync.Mutex
	display display // of the operation that runs, or nil
	stopped bool    // the run was interrupted
}

// newConsole returns a console that draws a bar only on a terminal that can, and unless NO_COLOR is set.
func newConsole(w io.Writer, getenv func(string) string, asJSON bool) *console {
	c := &console{w: w, now: time.Now}
	f, ok := w.(*os.File)
	c.terminal = ok && term.IsTerminal(int(f.Fd()))
	if asJSON {
		c.log = newJSONLog(w)
		return c
	}
	if !c.terminal || getenv("TERM") == "dumb" || getenv("NO_COLOR") != "" {
		return c
	}
	c.width = func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 {
			return helpWidth
		}
		return width
	}
	return c
}

// newJSONLog returns a logger that writes one JSON object for each line, with times in UTC.
func newJSONLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}))
}

// configure reads --quiet, and returns a usage error if --log-format is unknown.
func (c *console) configure(flags *cli.Context) error {
	c.quiet = flags.Bool(quietFlag.Name)
	if format := flags.String(logFormatFlag.Name); format != "" && format != "text" && format != "json" {
		return usagef("--%s must be text or json", logFormatFlag.Name)
	}
	return nil
}

// say writes a message in one line. prefix is not part of it in JSON, which has the level. What comes from elsewhere
// cannot add a line.
func (c *console) say(level slog.Level, prefix, text string, fields ...slog.Attr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet && level < slog.LevelWarn {
		return
	}
	if c.log != nil {
		c.logLine(level, text, fields...)
		return
	}
	c.printWrapped("flujo-port: " + prefix + clierr.Printable(text))
}

// printWrapped prints text, in several lines if a terminal has a bar and fewer columns.
func (c *console) printWrapped(text string) {
	if c.width != nil {
		text = document.Wrap(text, min(c.width(), document.MaxWidth), "", "  ")
	}
	c.print(text)
}

// print writes a line of text in place of the bar, which the next tick draws again.
func (c *console) print(text string) {
	erase := ""
	if c.width != nil && c.display != nil {
		erase = eraseLine
	}
	fmt.Fprint(c.w, erase+text+"\n")
}

func (c *console) logLine(level slog.Level, text string, fields ...slog.Attr) {
	record := slog.NewRecord(c.now(), level, clierr.Printable(text), 0)
	record.AddAttrs(fields...)
	_ = c.log.Handler().Handle(context.Background(), record) // progress that cannot be written is dropped
}

// begin shows the progress of an operation until end is called. It returns end.
func (c *console) begin() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.quiet:
		return func() {}
	case c.width != nil:
		c.display = &bar{w: c.w, width: c.width, now: c.now, print: c.printWrapped}
	default:
		c.display = &lines{now: c.now, print: c.printProgress}
	}
	ended := make(chan struct{})
	go func() {
		tick := time.NewTicker(drawEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				c.tick()
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(ended)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.display.end()
		c.display = nil
	})
}

// printProgress writes a line of progress, with its time.
func (c *console) printProgress(message, details string, fields ...slog.Attr) {
	if c.log != nil {
		c.logLine(slog.LevelInfo, message, fields...)
		return
	}
	c.print(c.now().UTC().Format(time.RFC3339) + " " + message + details)
}

func (c *console) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.display != nil {
		c.display.tick()
	}
}

// show shows an event, unless the run was interrupted.
func (c *console) show(e progress.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.display != nil && !c.stopped {
		c.display.show(e)
	}
}

// wait shows what the server is waited for, and for how long.
func (c *console) wait(what string, silence time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.display != nil {
		c.display.wait(clierr.Printable(what), silence)
	}
}

// interrupt says that the run was interrupted. Until the operation has ended only waits are shown.
func (c *console) interrupt() {
	c.mu.Lock()
	c.stopped = true
	if c.display != nil {
		c.display.stop()
	}
	if c.terminal && (c.width == nil || c.display == nil) {
		fmt.Fprintln(c.w) // ends the line on which the terminal echoes the key
	}
	c.mu.Unlock()
	c.say(slog.LevelWarn, "",
		"interrupted: stopping; a commit that has begun is completed; a second signal kills the process")
}
