package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// document holds the data of docs/benchmarks.md.
type document struct {
	Date, Commit  string
	CPU, Kernel   string
	Cores         int
	RAM           string
	Go            string
	Server        string
	Settings      []string
	LeastPeak     string
	Sections      []*section
	Files         []several
	OtherPrograms []string
}

// section holds the measurements with a file of one size.
type section struct {
	Bytes, Rows int64
	Rounds      int
	LZ4         bool
	Results     []*result
	Growth      []step
	Processes   []processes
}

// result holds the measurements of a contestant, one for each round. If the
// contestant did not run, Missing says why.
type result struct {
	Name    string
	Missing string
	Runs    []measurement
}

// step is a migration of one of the files of the growth table.
type step struct {
	Bytes, Rows int64
	measurement
}

// describe sets what is measured and on what hardware. It names nothing that
// identifies the machine.
func (d *document) describe(ctx context.Context, b *rig) error {
	d.Date = time.Now().UTC().Format(time.DateOnly)
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		d.Commit = strings.TrimSpace(string(out))
	}
	d.CPU = field("/proc/cpuinfo", `(?m)^model name\s*: (.*)$`, runtime.GOARCH)
	d.RAM = "unknown"
	var kib uint64
	if _, err := fmt.Sscan(field("/proc/meminfo", `(?m)^MemTotal:\s*(\d+) kB`, ""), &kib); err == nil {
		d.RAM = humanize.IBytes(kib * 1024)
	}
	d.Cores = runtime.NumCPU()
	d.Go = strings.TrimPrefix(runtime.Version(), "go")
	d.Kernel = kernel()
	server, err := query[string](ctx, b, "SHOW server_version")
	if err != nil {
		return err
	}
	d.Server = server[0]
	d.Settings, err = query[string](
		ctx,
		b,
		`SELECT name || ' = ' || current_setting(name) FROM unnest(ARRAY[
		'shared_buffers', 'max_wal_size', 'maintenance_work_mem', 'autovacuum',
		'wal_level', 'fsync', 'synchronous_commit', 'full_page_writes']) name`,
	)
	for _, tool := range [][]string{{"sqlite3", "--version"}, {"pgloader", "--version"}, {"ogr2ogr", "--version"}} {
		if out, err := exec.CommandContext(ctx, tool[0], tool[1:]...).Output(); err == nil {
			d.OtherPrograms = append(
				d.OtherPrograms,
				tool[0]+" "+regexp.MustCompile(`\d+\.[0-9.]*\d`).FindString(string(out)),
			)
		}
	}
	return err
}

// field returns what the pattern finds in a file of the system, or otherwise.
func field(path, pattern, otherwise string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return otherwise
	}
	if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return otherwise
}

//go:embed benchmarks.md.tmpl
var documentText string

// write writes benchmarks.md and benchmarks.svg into a folder.
func (d *document) write(folder string) error {
	d.LeastPeak = humanize.IBytes(uint64(ownPeak()))
	var text bytes.Buffer
	if err := template.Must(template.New("").Parse(documentText)).Execute(&text, d); err != nil {
		return err
	}
	plot, err := d.plot()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "benchmarks.svg"), plot, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "benchmarks.md"), text.Bytes(), 0o644)
}

// Title returns the size of the file.
func (s *section) Title() string {
	if s.Bytes < smallFile {
		return fmt.Sprintf("%d KB", (s.Bytes+500)/1000)
	}
	return fmt.Sprintf("%d MB", (s.Bytes+500_000)/1_000_000)
}

// Text returns the section in Markdown.
func (s *section) Text() string {
	text := fmt.Sprintf(
		"## %s\n\n%s rows in %s bytes, %d rounds.\n\n",
		s.Title(),
		humanize.Comma(s.Rows),
		humanize.Comma(s.Bytes),
		s.Rounds,
	) + s.table() + "\n" + s.targetsText()
	if len(s.Growth) > 0 {
		text += "\n### Growth\n\n`" + migrate + "`, once each:\n\n" + s.growthText()
	}
	if len(s.Processes) > 0 {
		text += "\n### Processes of the server\n\n" + processesText(s.Processes)
	}
	return text
}

func (s *section) table() string {
	rows := [][]string{{"", "median s", "min", "max", "× baseline", "rows/s", "MB/s", "CPU s", "peak MiB"}}
	for _, r := range s.Results {
		if r.Missing != "" {
			rows = append(rows, []string{r.Name, r.Missing, "", "", "", "", "", "", ""})
			continue
		}
		m := r.Seconds()
		cpu, peak := "", ""
		if r.Peak() > 0 {
			cpu, peak = seconds(r.median(func(m measurement) float64 { return m.CPU })), mib(r.Peak())
		}
		rows = append(
			rows,
			[]string{
				r.Name,
				seconds(m),
				seconds(r.extreme(math.Min)),
				seconds(r.extreme(math.Max)),
				fmt.Sprintf("%.2f", s.ratio(r.Name, s.baseline())),
				humanize.Comma(int64(float64(s.Rows) / m)),
				fmt.Sprintf("%.1f", float64(s.Bytes)/1e6/m),
				cpu,
				peak,
			},
		)
	}
	return markdown(rows)
}

func (s *section) growthText() string {
	rows := [][]string{{"MB", "rows", "s", "µs/row", "relative", "peak MiB"}}
	for _, g := range s.Growth {
		perRow := g.Seconds / float64(g.Rows)
		rows = append(
			rows,
			[]string{
				fmt.Sprint((g.Bytes + 500_000) / 1_000_000),
				humanize.Comma(g.Rows),
				seconds(g.Seconds),
				fmt.Sprintf("%.1f", perRow*1e6),
				fmt.Sprintf("%.2f", perRow/(s.Growth[0].Seconds/float64(s.Growth[0].Rows))),
				mib(g.Peak),
			},
		)
	}
	return markdown(rows)
}

func (s *section) result(name string) *result {
	for _, r := range s.Results {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// baseline returns the name of the measurement that ratios refer to.
func (s *section) baseline() string {
	if s.LZ4 {
		return baselineLZ4
	}
	return baselinePGLZ
}

// ratio returns the median of the ratios within each round.
func (s *section) ratio(of, to string) float64 {
	return s.result(of).ratio(s.result(to))
}

// ratio returns the median of the ratios within each round.
func (r *result) ratio(to *result) float64 {
	a, b := r.Runs, to.Runs
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].Seconds / b[i].Seconds
	}
	return median(ratios)
}

func (r *result) median(of func(measurement) float64) float64 {
	values := make([]float64, len(r.Runs))
	for i, m := range r.Runs {
		values[i] = of(m)
	}
	return median(values)
}

// Seconds returns the median of the durations.
func (r *result) Seconds() float64 {
	return r.median(func(m measurement) float64 { return m.Seconds })
}

func (r *result) extreme(of func(a, b float64) float64) float64 {
	found := r.Runs[0].Seconds
	for _, m := range r.Runs {
		found = of(found, m.Seconds)
	}
	return found
}

// Peak returns the highest peak memory in bytes.
func (r *result) Peak() (peak int64) {
	for _, m := range r.Runs {
		peak = max(peak, m.Peak)
	}
	return peak
}

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.2f", s)
	}
	return fmt.Sprintf("%.1f", s)
}

func mib(bytes int64) string { return fmt.Sprintf("%.0f", math.Ceil(float64(bytes)/(1<<20))) }

// markdown returns a table whose first row is its header. All columns except
// the first are aligned right.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 2)
		}
	}
	var text strings.Builder
	w := &text
	for n, row := range rows {
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprintf(w, "| %s%s ", cell, gap)
			} else {
				fmt.Fprintf(w, "| %s%s ", gap, cell)
			}
		}
		fmt.Fprintln(w, "|")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				fmt.Fprintf(w, "|%s", strings.Repeat("-", width+2))
			} else {
				fmt.Fprintf(w, "|%s:", strings.Repeat("-", width+1))
			}
		}
		fmt.Fprintln(w, "|")
	}
	return text.String()
}
