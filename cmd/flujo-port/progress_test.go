package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"flujo-port/internal/progress"
)

// clock is the time of a test.
type clock struct{ time time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 26, 7, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { return c.time }

// TestMeasure tests that a bar never goes backwards, keeps its length and ends at 100 %, whatever the estimates are.
func TestMeasure(t *testing.T) {
	t.Parallel()
	type event = progress.Event
	for _, c := range []struct {
		name   string
		events []event
		want   []int64 // done after each event
		total  int64
	}{
		{"exact", []event{
			{Rest: 4, OfBytes: 100}, {Rows: 1, All: 1, Rest: 3, Bytes: 30, OfBytes: 100},
			{Rows: 4, All: 4, Bytes: 100, OfBytes: 100, Done: true},
		}, []int64{0, 30, 100}, 100},
		{"estimate too high", []event{
			{Rest: 4, OfBytes: 100}, {Rows: 1, All: 1, Rest: 3, Bytes: 10, OfBytes: 100},
			{Rows: 2, All: 2, Rest: 2, Bytes: 20, OfBytes: 60, Done: true},
			{Rows: 2, All: 4, Bytes: 60, OfBytes: 60, Done: true},
		}, []int64{0, 10, 60, 100}, 100},
		{"estimate too low", []event{
			{Rest: 4, OfBytes: 100}, {Rows: 1, All: 1, Rest: 3, Bytes: 50, OfBytes: 100},
			{Rows: 2, All: 2, Rest: 2, Bytes: 90, OfBytes: 140},
			{Rows: 2, All: 2, Rest: 2, Bytes: 90, OfBytes: 140, Done: true},
			{Rows: 2, All: 4, Bytes: 140, OfBytes: 140, Done: true},
		}, []int64{0, 50, 50, 50, 100}, 100},
		{"a table is copied again", []event{
			{Rest: 4, OfBytes: 100}, {Rows: 3, All: 3, Rest: 1, Bytes: 80, OfBytes: 100},
			{Rows: 1, All: 1, Rest: 3, Bytes: 20, OfBytes: 100},
			{Rows: 4, All: 4, Bytes: 100, OfBytes: 100, Done: true},
		}, []int64{0, 80, 80, 100}, 100},
		{"rows", []event{{Rest: 4}, {Rows: 1, All: 1, Rest: 3}, {Rows: 4, All: 4, Done: true}}, []int64{0, 1, 4}, 4},
		{"another pass", []event{
			{Rest: 4, OfBytes: 100}, {Rows: 4, All: 4, Bytes: 100, OfBytes: 100, Done: true},
			{Rest: 8}, {Rows: 2, All: 2, Rest: 6},
		}, []int64{0, 100, 0, 2}, 8},
		{"rows of unknown size", []event{{Rest: 4}, {Rows: 1, All: 1, Rest: 3, Bytes: 500, OfBytes: 500},
			{Rows: 4, All: 4, Bytes: 900, OfBytes: 900, Done: true}}, []int64{0, 1, 4}, 4},
		{"no rows", []event{{Done: true}}, []int64{0}, 0},
	} {
		var m measure
		for i, e := range c.events {
			_ = m.update(e, newClock().now)
			if m.done != c.want[i] {
				t.Errorf("%s: %d after event %d, want %d", c.name, m.done, i, c.want[i])
			}
		}
		if m.total != c.total {
			t.Errorf("%s: the total is %d, want %d", c.name, m.total, c.total)
		}
	}
}

// reportMigration reports a migration to a display: each of its two measured tables takes 30 s, in which a row
// is read and the display ticks each 100 ms. The table between them is empty.
func reportMigration(d display, c *clock) { reportMigrationIn(d, c, 1<<20) }

// reportMigrationIn is reportMigration with rows of so many bytes, or of unknown size if that is 0.
func reportMigrationIn(d display, c *clock, size int64) {
	d.show(progress.Event{Phase: progress.Connect})
	c.time = c.time.Add(time.Second / 2)
	d.tick()
	d.show(progress.Event{Phase: progress.Schema})
	e := progress.Event{Phase: progress.Copy, Rest: 600, OfBytes: 600 * size}
	for _, table := range []string{"runs", "workflow_state", "steps"} {
		e.Table, e.Rows, e.Of, e.Done = table, 0, 0, false
		d.show(e)
		for table != "workflow_state" && e.Rows < 300 {
			c.time = c.time.Add(drawEvery)
			e.Rows, e.All, e.Rest, e.Bytes = e.Rows+1, e.All+1, e.Rest-1, e.Bytes+size
			d.show(e)
			d.tick()
		}
		e.Done = true
		d.show(e)
	}
	d.show(progress.Event{Phase: progress.Indexes})
	for range 70 {
		c.time = c.time.Add(drawEvery)
		d.tick()
	}
	d.wait(
		"waiting for a lock that is held by process 4711 (psql, role dba, "+
			"since 2026-11-26 06:59:00 UTC)",
		5*time.Second,
	)
	c.time = c.time.Add(2 * time.Second)
	d.tick()
	d.show(progress.Event{Phase: progress.Verify})
	d.show(progress.Event{Phase: progress.Verify, Table: "runs"})
	c.time = c.time.Add(6 * time.Second)
	d.show(progress.Event{Phase: progress.Verify, Table: "steps"})
	d.tick()
	d.show(progress.Event{Phase: progress.Commit})
	d.end()
}

// TestProgressLines tests what is written if stderr is no terminal: one line for each phase, and in a phase at most one
// in five seconds, each with its time.
func TestProgressLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newClock()
	con := &console{w: &out, now: c.now}
	reportMigration(&lines{now: c.now, print: con.printProgress}, c)
	var last time.Time
	phase, count := "", map[string]int{}
	for line := range strings.Lines(out.String()) {
		stamp, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		at, err := time.Parse("2006-01-02T15:04:05Z", stamp)
		if err != nil {
			t.Fatalf("no time: %q", line)
		}
		word, _, _ := strings.Cut(text, " ")
		if word == phase && at.Sub(last) < 5*time.Second {
			t.Errorf("%s after the last line: %q", at.Sub(last), line)
		}
		phase, last = word, at
		count[word]++
	}
	for word, want := range map[string]int{
		"connecting": 1, "creating": 2, "copying": 13, "waiting": 1, "verifying": 2, "committing;": 1,
	} {
		if count[word] != want {
			t.Errorf("%d lines %q, want %d:\n%s", count[word], word, want, &out)
		}
	}
	for _, want := range []string{
		"2026-11-26T07:00:00Z connecting\n",
		"Z copying runs: 0 B of about 600 MiB (0%)\n",
		"2026-11-26T07:00:35Z copying steps: 350 MiB of about 600 MiB (58%), 10 MiB/s, 25s left\n",
		"Z creating indexes and foreign keys\n",
		"(psql, role dba, since 2026-11-26 06:59:00 UTC) (5s)\n",
		"Z verifying steps\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line %q:\n%s", want, &out)
		}
	}
}

// TestProgressJSON tests that each line is one object, with what the text says as values.
func TestProgressJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newClock()
	con := &console{w: &out, now: c.now, log: newJSONLog(&out)}
	reportMigration(&lines{now: c.now, print: con.printProgress}, c)
	con.say(slog.LevelWarn, "warning: ", "a\x1b[2Kb")
	type line struct {
		Time                           time.Time
		Level, Msg, Phase, Table, Unit string
		Done, Total                    int64
		PerSecond                      int64 `json:"per_second"`
		SecondsLeft                    int64 `json:"seconds_left"`
		Seconds                        float64
	}
	var all []line
	for text := range strings.Lines(out.String()) {
		var l line
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil || l.Time.IsZero() || l.Level == "" || l.Msg == "" {
			t.Fatalf("%v: %s", err, text)
		}
		all = append(all, l)
	}
	find := func(want line) {
		t.Helper()
		for _, l := range all {
			l.Time, l.Msg = time.Time{}, ""
			if l == want {
				return
			}
		}
		t.Errorf("no line %+v:\n%s", want, &out)
	}
	find(line{Level: "INFO", Phase: "connect"})
	find(line{Level: "INFO", Phase: "copy", Table: "steps", Unit: "bytes", Done: 350 << 20, Total: 600 << 20,
		PerSecond: 10 << 20, SecondsLeft: 25})
	find(line{Level: "INFO", Seconds: 5})
	find(line{Level: "WARN"})
	if strings.Contains(out.String(), "MiB") {
		t.Errorf("a message has what the fields have: %s", &out)
	}
	if !strings.Contains(out.String(), `"msg":"a\\x1b[2Kb"`) {
		t.Errorf("the warning is not escaped: %s", &out)
	}
}

// TestBar tests what is drawn on terminals of several widths: each line has room for the ^C that an interrupt echoes.
func TestBar(t *testing.T) {
	t.Parallel()
	percents := regexp.MustCompile(` (\d+)%(?: \||$)`)
	for _, columns := range []int{20, 60, 80, 120} {
		for _, size := range []int64{1 << 20, 0} {
			var out bytes.Buffer
			c := newClock()
			con := &console{w: &out, now: c.now, width: func() int { return columns }}
			con.display = &bar{w: &out, width: con.width, now: c.now, print: con.printWrapped}
			reportMigrationIn(con.display, c, size)
			drawn := strings.Split(out.String(), eraseLine)
			last, waits := "", 0
			for _, line := range drawn {
				if text, printed := strings.CutSuffix(line, "\n"); printed {
					waits++
					if !strings.HasSuffix(unwrapped(text), "(psql, role dba, since 2026-11-26 06:59:00 UTC)") {
						t.Errorf("%d columns: a wait is not complete, or a word of it is not: %q", columns, text)
					}
					for part := range strings.SplitSeq(text, "\n") {
						if len(part) > columns {
							t.Errorf("%d columns: a wait has %d: %q", columns, len(part), part)
						}
					}
					continue
				}
				if n := len([]rune(line + "^C")); n >= columns {
					t.Errorf("a line with ^C of %d columns on %d: %q", n, columns, line)
				}
				if strings.Count(line, "|")%2 != 0 && !strings.HasPrefix(line, "|") {
					t.Errorf("%d columns: a part of a bar: %q", columns, line)
				}
				if m := percents.FindStringSubmatch(line); m != nil {
					if len(m[1]) < len(last) || len(m[1]) == len(last) && m[1] < last {
						t.Errorf("the bar goes back from %s to %s %%", last, m[1])
					}
					last = m[1]
				}
			}
			if drawn[len(drawn)-1] != "" {
				t.Errorf("the last line is not erased: %q", drawn[len(drawn)-1])
			}
			if waits != 1 {
				t.Errorf("a wait was printed %d times", waits)
			}
			rate := "10 MiB/s"
			if size == 0 {
				rate = "10 rows/s"
			}
			want := []string{"copying runs", "creating index"}
			if columns >= 60 {
				want = append(want, "copying steps "+rate+" 25s left 58%", "copying steps "+rate+" 0s left 100%",
					"copying workflow_state "+rate+" 30s left 50%", // an empty table is no bar at 0 %
					"creating indexes and foreign keys 6s", "waiting for a lock that is held by process")
			}
			if columns >= 80 {
				want = append(want, "left 58% |")
			}
			if columns >= 120 && size > 0 {
				want = append(want, "| 350 MiB of about 600 MiB")
			}
			if columns >= 120 && size == 0 {
				want = append(want, "| 350 of 600 rows")
			}
			screen := strings.Join(strings.Fields(out.String()), " ")
			for _, w := range want {
				if !strings.Contains(screen, w) {
					t.Errorf("%d columns: nothing is %q: %s", columns, w, screen[max(0, len(screen)-2000):])
				}
			}
		}
	}
}

// TestBarIsSteady tests that the bar begins in the same column at whatever rate.
func TestBarIsSteady(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{80, 120} {
		begins := -1
		for _, rate := range []int64{1, 999, 1000, 18_276, 999_999} {
			var out bytes.Buffer
			c := newClock()
			b := &bar{w: &out, width: func() int { return columns }, now: c.now}
			b.show(progress.Event{Phase: progress.Read, Table: "steps", Rest: 4 * rate})
			c.time = c.time.Add(time.Second)
			b.show(progress.Event{Phase: progress.Read, Table: "steps", Rows: rate, All: rate, Rest: 3 * rate})
			out.Reset()
			b.tick()
			line := strings.TrimPrefix(out.String(), eraseLine)
			at := strings.Index(line, "|")
			if begins >= 0 && at != begins || at < 0 || len([]rune(line+"^C")) >= columns {
				t.Errorf(
					"%d columns, %d rows/s: the bar begins at %d, before at %d: %q",
					columns,
					rate,
					at,
					begins,
					line,
				)
			}
			begins = at
		}
	}
}

// TestProgressWithoutBytes tests that restore, which does not know the bytes, counts rows, and that tables without rows
// have no bar.
func TestProgressWithoutBytes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newClock()
	b := &bar{w: &out, width: func() int { return 80 }, now: c.now}
	b.show(progress.Event{Phase: progress.Read, Table: "runs", Of: 10, Rest: 20})
	c.time = c.time.Add(2 * time.Second)
	b.show(progress.Event{Phase: progress.Read, Table: "runs", Rows: 5, Of: 10, All: 5, Rest: 15})
	b.tick()
	screen := strings.Join(strings.Fields(out.String()), " ")
	if want := "reading runs 2 rows/s 6s left 25% |"; !strings.Contains(screen, want) {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	b = &bar{w: &out, width: func() int { return 80 }, now: c.now}
	b.show(progress.Event{Phase: progress.Read, Table: "runs", Done: true})
	b.tick()
	if strings.Contains(out.String(), "%") || !strings.Contains(out.String(), "reading runs") {
		t.Errorf("got %q, want no bar", out.String())
	}
}

// TestConsoleIsShared has goroutines report, wait and speak at once, for the race detector, and tests that no two lines
// are mixed.
func TestConsoleIsShared(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	con := &console{w: &out, now: time.Now, width: func() int { return 80 }}
	end := con.begin()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range int64(100) {
				con.show(progress.Event{Phase: progress.Copy, Table: "runs", Rows: i, All: i, Rest: 100 - i})
				con.wait("waiting", time.Second)
				con.say(slog.LevelInfo, "note: ", "hello")
			}
		})
	}
	all.Wait()
	con.interrupt()
	con.show(progress.Event{Phase: progress.Verify})
	end()
	end()
	con.show(progress.Event{Phase: progress.Indexes})
	if n := strings.Count(out.String(), eraseLine+"flujo-port: note: hello\n"); n != 400 {
		t.Errorf("%d lines are complete", n)
	}
	if !strings.HasSuffix(unwrapped(out.String()), "stopping; a commit that has begun is completed; "+
		"a second signal kills the process "+
		""+strings.TrimSpace(eraseLine)) || strings.Contains(out.String(), "verifying") ||
		strings.Contains(out.String(), "creating indexes") {
		t.Errorf("after an interrupt, or the end, progress is shown: %q", out.String()[max(0, out.Len()-300):])
	}
}

// TestAsksForJSONLog tests how --log-format is found before the arguments are parsed.
func TestAsksForJSONLog(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]bool{
		"migrate --log-format json": true, "migrate --log-format=json --x": true, "migrate -log-format json": true,
		"migrate -log-format=json": true, "migrate --log-format text": false, "migrate --json": false,
		"migrate log-format json": false, "migrate --log-format": false, "": false, "---log-format json": false,
	} {
		if got := asksForJSONLog(strings.Fields(args)); got != want {
			t.Errorf("%s: got %v", args, got)
		}
	}
}
