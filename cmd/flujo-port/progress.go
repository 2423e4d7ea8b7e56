package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"flujo-port/internal/transfer"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a transfer is: bars on a terminal, plain lines
// elsewhere.
type progress interface {
	show(transfer.Progress)
	end()
}

func newProgress(w io.Writer) progress {
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

// phases are the words for what is not the copying of a table.
var phases = map[string]string{
	transfer.PhaseIntegrity: "looking for damage in the file", transfer.PhaseConnect: "connecting", transfer.PhaseSchema: "making the tables",
	transfer.PhaseReplace:   "keeping the rows of",
	transfer.PhaseOriginals: "storing original values",
	transfer.PhaseMerge:     "merging run by run",
	transfer.PhaseIndexes:   "making indexes and foreign keys", transfer.PhaseVerify: "verifying",
	transfer.PhaseCommit: "committing, which is not interrupted", transfer.PhaseName: "giving the file its name",
}

// rowByRow are the phases that tell of their rows.
var rowByRow = map[string]bool{transfer.PhaseCopy: true, transfer.PhaseRead: true}

func phase(p transfer.Progress) string {
	if p.Table != "" {
		return phases[p.Phase] + " " + p.Table
	}
	return phases[p.Phase]
}

// lines writes a line for each phase and table, and one now and then within a
// long table.
type lines struct {
	w       io.Writer
	table   string
	begun   time.Time // when the first row was read
	started time.Time // of the table
	last    time.Time // when a line was written
}

// lineEvery is how often a long table gets a line.
const lineEvery = 5 * time.Second

func (l *lines) show(p transfer.Progress) {
	if !rowByRow[p.Phase] {
		fmt.Fprintln(l.w, phase(p))
		return
	}
	if p.Table == l.table && !p.Done && p.Rows%rowsBetween != 0 {
		return // the clock need not be asked for every row
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
	done := map[string]string{transfer.PhaseCopy: "copied", transfer.PhaseRead: "read"}[p.Phase]
	line := fmt.Sprintf("%s %s: %s of %s rows", done, p.Table, humanize.Comma(p.Rows), humanize.Comma(p.Of))
	if rate := float64(p.Bytes) / now.Sub(l.begun).Seconds(); !p.Done && rate > 0 && p.OfBytes > 0 {
		line += fmt.Sprintf(
			"; %s of about %s in all, %s/s, %s left",
			humanize.IBytes(uint64(p.Bytes)),
			humanize.IBytes(uint64(p.OfBytes)),
			humanize.IBytes(
				uint64(rate),
			),
			time.Duration(float64(p.OfBytes-p.Bytes)/rate*float64(time.Second)).Round(time.Second),
		)
	}
	fmt.Fprintln(l.w, line)
}

func (l *lines) end() {}

// rowsBetween is how many rows go by between two looks at the clock.
const rowsBetween = 64

// bars draws two bars, one under the other: the rows of the table that is
// copied, and the bytes of all of them, or their rows where bytes are not known,
// by which the time left is told. A table's bar stays when it is done.
type bars struct {
	w     io.Writer
	width func() int
	table *progressbar.ProgressBar
	all   *progressbar.ProgressBar
	name  string    // of the table
	begun time.Time // when its first row was read
	drawn time.Time
	// byBytes says that the bar of all tables is of bytes, and not of rows: restore
	// does not know how many bytes there are.
	byBytes bool
	below   bool // the bar of all tables stands in the line under the cursor
}

// drawEvery keeps the bars to ten updates a second.
const drawEvery = 100 * time.Millisecond

func (b *bars) show(p transfer.Progress) {
	if !rowByRow[p.Phase] {
		b.clear()
		fmt.Fprintln(b.w, phase(p))
		return
	}
	if p.Table == b.name && !p.Done && p.Rows%rowsBetween != 0 {
		return // the clock need not be asked for every row
	}
	if b.all == nil {
		b.byBytes = p.OfBytes > 0
		b.all = b.bar("all tables", p.OfBytes, progressbar.OptionShowBytes(b.byBytes))
	}
	if p.Table != b.name {
		b.name, b.begun = p.Table, time.Now()
		b.table = b.bar(p.Table, p.Of, progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"))
	}
	if p.Done && time.Since(b.begun) < drawEvery { // nothing to tell a rate by
		b.table = b.bar(p.Table, p.Of)
	}
	if !p.Done && time.Since(b.drawn) < drawEvery {
		return
	}
	b.drawn = time.Now()
	_ = b.table.Set64(p.Rows) // fails only on a writer, and this one discards
	done, of := p.Bytes, p.OfBytes
	if !b.byBytes {
		done, of = p.All, p.All+p.Rest
	}
	if !p.Done { // it may be an estimate that gets better, and a bar that has once been full stays so
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

// bar makes a bar that renders into nothing; its String is what is drawn.
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

// line writes a bar into the cursor's line, cut to the terminal's width.
func (b *bars) line(bar *progressbar.ProgressBar) {
	text := []rune(strings.Trim(bar.String(), "\r\n "))
	if limit := b.width() - 1; len(text) > limit {
		text = text[:max(limit, 0)]
	}
	fmt.Fprintf(b.w, "\r\x1b[2K%s", string(text))
}

// clear empties the cursor's line and the one under it.
func (b *bars) clear() {
	if b.below {
		fmt.Fprint(b.w, "\n\x1b[2K\x1b[1A\r\x1b[2K")
		b.below = false
	}
}

func (b *bars) end() { b.clear() }
