package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"flujo-port/internal/progress"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
)

// display shows the progress of an operation. It is used by one goroutine at a time.
type display interface {
	show(progress.Event)
	wait(what string, silence time.Duration) // what the server is waited for
	tick()                                   // called every drawEvery
	stop()                                   // the run was interrupted
	end()
}

const (
	drawEvery = 100 * time.Millisecond
	lineEvery = 5 * time.Second // between two lines of progress in a phase
)

// phases describes the phases.
var phases = map[progress.Phase]string{
	progress.Integrity: "checking the integrity of the state file",
	progress.Connect:   "connecting",
	progress.Schema:    "creating tables",
	progress.Replace:   "archiving",
	progress.Copy:      "copying",
	progress.Read:      "reading",
	progress.Compare:   "comparing the files",
	progress.Originals: "storing original values",
	progress.Merge:     "merging",
	progress.Indexes:   "creating indexes and foreign keys",
	progress.Verify:    "verifying",
	progress.Commit:    "committing; this cannot be interrupted",
	progress.Rename:    "renaming the new file",
}

func describe(e progress.Event) string {
	if e.Table != "" {
		return phases[e.Phase] + " " + e.Table
	}
	return phases[e.Phase]
}

// measured reports whether a phase reports each of its rows.
func measured(p progress.Phase) bool { return p == progress.Copy || p == progress.Read }

// measure is how far a pass over the rows of all tables is: in bytes, or in rows if the number of bytes is unknown, as
// in restore. The number of bytes of a table is an estimate until the table was read. So that a bar neither changes its
// length nor goes backwards, total stays the first estimate, and done is total without what is estimated to remain. A
// table that is shorter than its estimate lets done jump; one that is longer lets it stand still until the table ends.
// At the end of the pass nothing remains, and done is total.
type measure struct {
	begun       time.Time
	done, total int64
	rows        bool // the unit
}

// update adds an event of a measured phase. It reports whether that is the first one of a pass.
func (m *measure) update(e progress.Event, now func() time.Time) (begins bool) {
	if begins = e.All == 0 && e.Rows == 0; begins {
		*m = measure{begun: now(), total: e.OfBytes}
		if m.rows = e.OfBytes == 0; m.rows {
			m.total = e.Rest
		}
	}
	rest := e.OfBytes - e.Bytes
	if m.rows {
		rest = e.Rest
	}
	m.done = max(m.done, min(m.total-rest, m.total))
	return begins
}

// rate returns the units per second since the beginning of the pass, or 0 if it is not known yet.
func (m *measure) rate(now time.Time) float64 {
	elapsed := now.Sub(m.begun)
	if elapsed < time.Second {
		return 0
	}
	return float64(m.done) / elapsed.Seconds()
}

// left returns the time until the end of the pass at a rate.
func (m *measure) left(rate float64) time.Duration {
	return time.Duration(float64(m.total-m.done) / rate * float64(time.Second)).Round(time.Second)
}

// perSecond formats a rate.
func (m *measure) perSecond(rate float64) string {
	if m.rows {
		return humanize.Comma(int64(rate)) + " rows/s"
	}
	return humanize.IBytes(uint64(rate)) + "/s"
}

func (m *measure) String() string {
	if m.rows {
		return fmt.Sprintf("%s of %s rows", humanize.Comma(m.done), humanize.Comma(m.total))
	}
	return fmt.Sprintf("%s of about %s", humanize.IBytes(uint64(m.done)), humanize.IBytes(uint64(m.total)))
}

// lines reports progress in lines: one when a phase begins, and within a phase at most one in lineEvery.
type lines struct {
	now func() time.Time
	// print writes a line. details are for a text, which does not have the fields.
	print func(message, details string, fields ...slog.Attr)

	event   progress.Event
	measure measure
	last    time.Time // of the last line
	said    progress.Event
}

func (l *lines) show(e progress.Event) {
	begins := e.Phase != l.event.Phase
	l.event = e
	if measured(e.Phase) {
		_ = l.measure.update(e, l.now)
	}
	if begins {
		l.line()
	}
}

func (l *lines) tick() {
	if l.event != l.said && l.now().Sub(l.last) >= lineEvery {
		l.line()
	}
}

func (l *lines) line() {
	l.last, l.said = l.now(), l.event
	details := ""
	fields := []slog.Attr{slog.String("phase", string(l.event.Phase))}
	if l.event.Table != "" {
		fields = append(fields, slog.String("table", l.event.Table))
	}
	if m := &l.measure; measured(l.event.Phase) && m.total > 0 {
		unit := "bytes"
		if m.rows {
			unit = "rows"
		}
		details = fmt.Sprintf(": %s (%d%%)", m, 100*m.done/m.total)
		fields = append(fields, slog.String("unit", unit), slog.Int64("done", m.done), slog.Int64("total", m.total))
		if rate := m.rate(l.last); rate > 0 {
			details += fmt.Sprintf(", %s, %s left", m.perSecond(rate), m.left(rate))
			fields = append(fields, slog.Int64("per_second", int64(rate)),
				slog.Int64("seconds_left", int64(m.left(rate).Seconds())))
		}
	}
	l.print(describe(l.event), details, fields...)
}

func (l *lines) wait(what string, silence time.Duration) {
	l.last = l.now()
	l.print(what, fmt.Sprintf(" (%s)", silence), slog.Float64("seconds", silence.Seconds()))
}

func (l *lines) stop() { l.event, l.said = progress.Event{}, progress.Event{} }

func (l *lines) end() {}

// bar draws one line on a terminal: a bar in a phase that reports its rows, otherwise a spinner.
type bar struct {
	w     io.Writer
	width func() int
	now   func() time.Time
	print func(text string) // a line that stays

	event   progress.Event
	begun   time.Time // when the phase began
	measure measure
	waited  string    // what the server is waited for, if it is
	since   time.Time // the beginning of the wait
	said    string    // the last wait that was printed
	stopped bool
	drawn   *progressbar.ProgressBar
	spinner bool // drawn is a spinner
	columns int  // of the terminal when drawn was made
}

// eraseLine erases the line of the cursor, with what the terminal echoed there.
const eraseLine = "\r\x1b[2K"

func (b *bar) show(e progress.Event) {
	b.waited = ""
	before := b.event
	b.event = e
	if measured(e.Phase) {
		if b.measure.update(e, b.now) {
			b.drawn = nil
		}
	}
	switch {
	case e.Phase != before.Phase || !measured(e.Phase) && e.Table != before.Table:
		b.begun = b.now()
		b.tick()
	case e.Done: // a short table, or the end of the pass, would not be seen otherwise
		b.tick()
	}
}

// wait prints a new wait as a line of its own, since it may be longer than the line of the spinner.
func (b *bar) wait(what string, silence time.Duration) {
	b.waited, b.since = what, b.now().Add(-silence)
	if what != b.said {
		b.said = what
		b.print(what)
	}
	b.tick()
}

func (b *bar) stop() {
	b.stopped, b.waited, b.begun = true, "", b.now()
	b.tick()
}

func (b *bar) end() { fmt.Fprint(b.w, eraseLine) }

// tick draws the line.
func (b *bar) tick() {
	now := b.now()
	switch {
	case b.waited != "":
		b.drawSpinner(b.waited, now.Sub(b.since))
	case b.stopped && b.event.Phase != progress.Commit:
		b.drawSpinner("stopping", now.Sub(b.begun))
	case b.event.Phase == "":
	case measured(b.event.Phase) && b.measure.total > 0:
		b.drawBar(now)
	default:
		b.drawSpinner(describe(b.event), now.Sub(b.begun))
	}
}

// drawSpinner draws a spinner with what is done or waited for, and for how long.
func (b *bar) drawSpinner(text string, elapsed time.Duration) {
	b.prepare(true, func() []progressbar.Option {
		return []progressbar.Option{
			progressbar.OptionSetSpinnerChangeInterval(0), // the library would draw in a goroutine of its own
			progressbar.OptionSetElapsedTime(false),
		}
	})
	suffix := ""
	if elapsed >= time.Second {
		suffix = "  " + elapsed.Truncate(time.Second).String()
	}
	b.draw(shorten(text, b.room()-len("| ")-len(suffix))+suffix, "")
}

// The columns of the bar's line: the phase and the table, the rate, the time left, and the bar.
const (
	phaseColumns    = len("copying workflow_state")
	rateColumns     = len("1023 KiB/s")
	rowsRateColumns = len("999,999 rows/s")
	leftColumns     = len("59m59s left")
	fewestColumns   = 4 // a shorter bar is not drawn
	mostColumns     = 24
)

// drawBar draws the phase, the table, the rate and the time left before the bar, so that a narrow terminal has them.
func (b *bar) drawBar(now time.Time) {
	m := &b.measure
	rateColumns := rateColumns
	if m.rows {
		rateColumns = rowsRateColumns
	}
	b.prepare(false, func() []progressbar.Option {
		rest := b.room() - phaseColumns - 2 - rateColumns - 2 - leftColumns - len(" 100% ||")
		if rest < fewestColumns {
			rest = 0
		}
		return []progressbar.Option{
			progressbar.OptionSetWidth(min(rest, mostColumns)),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false),
		}
	})
	rate, left := "", ""
	if r := m.rate(now); r > 0 {
		rate, left = m.perSecond(r), m.left(r).String()+" left"
	}
	_ = b.drawn.Set64(m.done) // fails only if the writer does, and io.Discard does not
	b.draw(fmt.Sprintf("%-*s  %*s  %*s", phaseColumns, describe(b.event), rateColumns, rate, leftColumns, left),
		" "+m.String())
}

// prepare makes the library's bar or spinner, if that is not the one that is drawn, or the terminal has another width.
func (b *bar) prepare(spinner bool, options func() []progressbar.Option) {
	total := b.measure.total
	if spinner {
		total = -1
	}
	columns := b.width()
	if b.drawn != nil && b.spinner == spinner && b.columns == columns && (spinner || b.drawn.GetMax64() == total) {
		return
	}
	b.spinner, b.columns = spinner, columns
	b.drawn = progressbar.NewOptions64(total, append(options(), progressbar.OptionSetWriter(io.Discard))...)
}

// draw has the library draw its line after a text, and writes it over the line of the cursor, with more if that fits.
func (b *bar) draw(text, more string) {
	b.drawn.Describe(text)
	line := strings.TrimSuffix(strings.Trim(b.drawn.String(), "\r\n "), " ||") // a bar without columns
	if utf8.RuneCountInString(line+more) <= b.room() {
		line += more
	}
	fmt.Fprint(b.w, eraseLine+truncate(line, b.room()))
}

// room returns the columns that the line may have. In the others the terminal echoes the key of an interrupt: if that
// wrapped, the next line would be erased and not this one.
func (b *bar) room() int { return b.columns - len("^C") - 1 }

// shorten returns a text that fits the columns: one that is longer ends with an ellipsis.
func shorten(text string, columns int) string {
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	return strings.TrimRight(truncate(text, columns-1), " ") + "…"
}

// truncate returns the beginning of a text that fits the columns.
func truncate(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns {
		return string(runes[:max(columns, 0)])
	}
	return text
}
