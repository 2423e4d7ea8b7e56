package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/progress"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// display shows the progress of an operation: bars on a terminal, plain lines
// otherwise.
type display interface {
	show(progress.Event)
	wait(text string) // shows what the server is waited for
	end()
}

// sharedDisplay is a display that several goroutines use. After end it shows nothing.
type sharedDisplay struct {
	mu      sync.Mutex
	display display
	ended   bool
}

func (d *sharedDisplay) show(p progress.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.display.show(p)
}

func (d *sharedDisplay) wait(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.display.wait(clierr.Printable(text))
	}
}

func (d *sharedDisplay) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.display.end()
	d.ended = true
}

func newDisplay(w io.Writer) display {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &lines{w: w, started: time.Now()}
	}
	return &bars{w: w, width: func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 80
		}
		return width
	}}
}

// phases describes the phases that report no rows.
var phases = map[progress.Phase]string{
	progress.Integrity: "checking the integrity of the state file",
	progress.Connect:   "connecting",
	progress.Schema:    "creating tables",
	progress.Replace:   "archiving",
	progress.Originals: "storing original values",
	progress.Merge:     "merging",
	progress.Indexes:   "creating indexes and foreign keys",
	progress.Verify:    "verifying",
	progress.Commit:    "committing; this cannot be interrupted",
	progress.Rename:    "renaming the new file",
}

// rowByRow contains the phases that report their rows.
var rowByRow = map[progress.Phase]bool{progress.Copy: true, progress.Read: true}

func phase(p progress.Event) string {
	if p.Table != "" {
		return phases[p.Phase] + " " + p.Table
	}
	return phases[p.Phase]
}

// lines writes a line for each phase and table, and one every lineEvery
// within a long table.
type lines struct {
	w       io.Writer
	table   string
	begun   time.Time // when the first row was read
	started time.Time // when the first row of the table was read
	last    time.Time // when the last line was written
}

// lineEvery is the interval between two lines of a long table.
const lineEvery = 5 * time.Second

func (l *lines) show(p progress.Event) {
	if !rowByRow[p.Phase] {
		fmt.Fprintln(l.w, phase(p))
		return
	}
	if p.Table == l.table && !p.Done && p.Rows%rowsBetween != 0 {
		return // reading the clock for every row is slow
	}
	now := time.Now()
	if l.begun.IsZero() {
		l.begun = now
	}
	if p.Table != l.table {
		l.table, l.started, l.last = p.Table, now, now
	}
	if !p.Done && now.Sub(l.last) < lineEvery {
		return
	}
	l.last = now
	done := map[progress.Phase]string{progress.Copy: "copied", progress.Read: "read"}[p.Phase]
	line := fmt.Sprintf("%s %s: %s of %s rows", done, p.Table, humanize.Comma(p.Rows), humanize.Comma(p.Of))
	if rate := float64(p.Bytes) / now.Sub(l.begun).Seconds(); !p.Done && rate > 0 && p.OfBytes > 0 {
		line += fmt.Sprintf(
			"; %s of about %s in total, %s/s, %s left",
			humanize.IBytes(uint64(p.Bytes)),
			humanize.IBytes(uint64(p.OfBytes)),
			humanize.IBytes(uint64(rate)),
			time.Duration(float64(p.OfBytes-p.Bytes)/rate*float64(time.Second)).Round(time.Second),
		)
	}
	fmt.Fprintln(l.w, line)
}

func (l *lines) wait(text string) { fmt.Fprintln(l.w, text) }

func (l *lines) end() {}

// rowsBetween is the number of rows between two reads of the clock.
const rowsBetween = 64

// bars draws two bars, one below the other: the rows of the current table, and
// the bytes of all tables (their rows if the number of bytes is unknown) with
// the time left. The bar of a finished table stays on the screen.
type bars struct {
	w     io.Writer
	width func() int
	table *progressbar.ProgressBar
	all   *progressbar.ProgressBar
	name  string    // of the table
	begun time.Time // when its first row was read
	drawn time.Time
	// byBytes reports whether the bar of all tables counts bytes instead of rows.
	// restore does not know the number of bytes.
	byBytes bool
	below   bool // the bar of all tables is drawn in the line below the cursor
}

// drawEvery limits the bars to ten updates per second.
const drawEvery = 100 * time.Millisecond

func (b *bars) show(p progress.Event) {
	if !rowByRow[p.Phase] {
		b.clear()
		fmt.Fprintln(b.w, phase(p))
		return
	}
	if p.Table == b.name && !p.Done && p.Rows%rowsBetween != 0 {
		return // reading the clock for every row is slow
	}
	if b.all == nil {
		b.byBytes = p.OfBytes > 0
		b.all = b.bar("all tables", p.OfBytes, progressbar.OptionShowBytes(b.byBytes))
	}
	if p.Table != b.name {
		b.name, b.begun = p.Table, time.Now()
		b.table = b.bar(p.Table, p.Of, progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"))
	}
	if p.Done && time.Since(b.begun) < drawEvery { // too short to compute a rate
		b.table = b.bar(p.Table, p.Of)
	}
	if !p.Done && time.Since(b.drawn) < drawEvery {
		return
	}
	b.drawn = time.Now()
	_ = b.table.Set64(p.Rows) // fails only if the writer does, and io.Discard does not
	done, of := p.Bytes, p.OfBytes
	if !b.byBytes {
		done, of = p.All, p.All+p.Rest
	}
	if !p.Done { // of may be an estimate, and a bar that was full once stays full
		of = max(of, done+1)
	}
	b.all.ChangeMax64(max(of, 1))
	_ = b.all.Set64(done)
	b.clear()
	b.line(b.table)
	if p.Done {
		fmt.Fprintln(b.w)
	} else {
		fmt.Fprint(b.w, "\n")
		b.line(b.all)
		fmt.Fprint(b.w, "\x1b[1A\r")
		b.below = true
	}
}

// bar returns a bar that writes nothing; line draws its String.
func (b *bars) bar(name string, of int64, more ...progressbar.Option) *progressbar.ProgressBar {
	return progressbar.NewOptions64(max(of, 1), append(more,
		progressbar.OptionSetWriter(io.Discard),
		progressbar.OptionSetDescription(fmt.Sprintf("%-14s", name)),
		progressbar.OptionSetWidth(20),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(false),
	)...)
}

// line writes a bar into the cursor's line, truncated to the terminal's width.
func (b *bars) line(bar *progressbar.ProgressBar) {
	text := []rune(strings.Trim(bar.String(), "\r\n "))
	if limit := b.width() - 1; len(text) > limit {
		text = text[:max(limit, 0)]
	}
	fmt.Fprintf(b.w, "\r\x1b[2K%s", string(text))
}

// clear erases the cursor's line and the line below it.
func (b *bars) clear() {
	if b.below {
		fmt.Fprint(b.w, "\n\x1b[2K\x1b[1A\r\x1b[2K")
		b.below = false
	}
}

func (b *bars) wait(text string) {
	b.clear()
	fmt.Fprintln(b.w, text)
}

func (b *bars) end() { b.clear() }
