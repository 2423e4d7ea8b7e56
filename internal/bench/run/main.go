// Command run measures flujo-port, the server alone and other tools on a
// throwaway server, and writes docs/benchmarks.md and .svg:
//
//	go run ./internal/bench/run -program bin/flujo-port -runs 3 -growth 730
//
// Each argument is the size of a state file in MB. Without a size, -files prints its
// table and nothing is written. All files are in the server's folder, which is removed
// with the server however this process ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"flujo-port/internal/bench"
	"flujo-port/internal/pgtest"
)

const database = "bench"

// settings are those of a small production server. Other settings have
// PostgreSQL's defaults or those of pgtest. Autovacuum is off so that it does
// not affect single runs.
var settings = []string{"shared_buffers=256MB", "max_wal_size=4GB", "maintenance_work_mem=256MB", "autovacuum=off"}

func main() {
	if len(os.Args) == 5 && os.Args[1] == "generate" {
		exit(generate(os.Args[2], os.Args[3], os.Args[4]))
	}
	program := flag.String("program", "bin/flujo-port", "`path` of the program to measure")
	runs := flag.Int("runs", 3, "number of rounds")
	growth := flag.Bool("growth", false, "also migrate 1/8, 1/4, 1/2 and all of the last size")
	workers := flag.Bool("workers", false, "also measure the last size with several processes of the server")
	files := flag.Bool("files", false, "also migrate several state files in one command")
	out := flag.String("out", "docs", "`folder` of benchmarks.md and benchmarks.svg")
	flag.Parse()
	var sizes []int64
	for _, arg := range flag.Args() {
		mb, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(mb >= 0.1 && mb < 1e6) {
			exit(fmt.Errorf("%q is not a size in MB", arg))
		}
		sizes = append(sizes, int64(mb*1e6))
	}
	if len(sizes) == 0 && (!*files || *growth || *workers) || *runs < 1 {
		exit(errors.New("usage: run [-program PATH] [-runs N] [-growth] [-workers] [-files] [-out FOLDER] MB…"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	exit(run(ctx, options{
		program: *program, out: *out, sizes: sizes, rounds: *runs, growth: *growth, workers: *workers, files: *files}))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options are the flags.
type options struct {
	program, out    string
	sizes           []int64 // in bytes
	rounds          int
	growth, workers bool // for the last size
	files           bool // a series of its own
}

func run(ctx context.Context, o options) (err error) {
	program, err := filepath.Abs(o.program)
	if err != nil {
		return err
	}
	pgtest.ForgetEnvironment()
	server, err := pgtest.Start(pgtest.WithSettings(settings...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := server.CreateDatabase(database); err != nil {
		return err
	}
	b := &rig{program: program, server: server, url: server.URL(database), dir: filepath.Join(server.Dir(), "files")}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	doc := &document{}
	if err := doc.describe(ctx, b); err != nil {
		return err
	}
	for i, size := range o.sizes {
		s, err := b.measureSize(ctx, size, o, i == len(o.sizes)-1)
		if err != nil {
			return err
		}
		doc.Sections = append(doc.Sections, s)
		fmt.Print(s.Text(), "\n")
	}
	if o.files {
		if doc.Files, err = b.severalFiles(ctx, o.rounds); err != nil {
			return err
		}
		fmt.Print(doc.FilesText())
	}
	if len(o.sizes) == 0 {
		return nil
	}
	return doc.write(o.out)
}

// smallRounds is how many times more often a small file is measured.
const smallRounds = 5

// measureSize measures all contestants with a file of one size, and for the last size what
// else the options ask for.
func (b *rig) measureSize(ctx context.Context, size int64, o options, last bool) (*section, error) {
	f, err := b.generate(ctx, size, 1)
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.path)
	if err := b.copyOut(ctx, f); err != nil {
		return nil, err
	}
	s := &section{Bytes: f.bytes, Rows: f.rows, Rounds: o.rounds, LZ4: b.lz4}
	if f.bytes < smallFile {
		s.Rounds *= smallRounds
	}
	contestants := b.contestants(f)
	for _, c := range contestants {
		for _, name := range c.names {
			s.Results = append(s.Results, &result{Name: name, Missing: c.missing})
		}
	}
	for round := range s.Rounds { // each begins with another contestant
		for i := range contestants {
			c := contestants[(i+round*max(len(contestants)/s.Rounds, 1))%len(contestants)]
			if err := b.measureOne(ctx, c, f, s, round); err != nil {
				return nil, err
			}
		}
	}
	if last && o.growth {
		if s.Growth, err = b.growth(ctx, size, f); err != nil {
			return nil, err
		}
	}
	if last && o.workers {
		s.Processes, err = b.processes(ctx, f, o.rounds)
	}
	return s, err
}

// measureOne measures a contestant and adds the results to the section.
func (b *rig) measureOne(ctx context.Context, c contestant, f file, s *section, round int) error {
	first := s.result(c.names[0])
	if first.Missing != "" {
		return nil
	}
	taken, err := b.compete(ctx, c, f)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && c.foreign:
		fmt.Fprintf(os.Stderr, "%s failed: %v\n", c.names[0], err)
		first.Missing, first.Runs = "failed", nil
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", c.names[0], err)
	}
	for i, m := range taken {
		r := s.result(c.names[i])
		r.Runs = append(r.Runs, m)
		fmt.Fprintf(os.Stderr, "%s, round %d of %d: %s %.2f s\n", s.Title(), round+1, s.Rounds, r.Name, m.Seconds)
	}
	return nil
}

// growth measures migrations of files of 1/8, 1/4 and 1/2 of the size, and of f,
// which has the full size.
func (b *rig) growth(ctx context.Context, size int64, f file) (steps []step, err error) {
	b.loaded = 0 // it was set for another file
	for _, part := range []int64{8, 4, 2, 1} {
		smaller := f
		if part > 1 {
			if smaller, err = b.generate(ctx, size/part, 1); err != nil {
				return nil, err
			}
		}
		taken, err := b.compete(ctx, contestant{run: b.migrate(smaller)}, smaller)
		if part > 1 {
			os.Remove(smaller.path)
		}
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "growth, %d MB: %.2f s\n", (smaller.bytes+500_000)/1_000_000, taken[0].Seconds)
		steps = append(steps, step{Bytes: smaller.bytes, Rows: smaller.rows, measurement: taken[0]})
	}
	return steps, nil
}

// file is a generated state file.
type file struct {
	path        string
	bytes, rows int64
}

// generate creates a state file in a child process, so that its memory does not
// count as the peak of the programs that are measured.
func (b *rig) generate(ctx context.Context, size int64, seed int) (f file, err error) {
	f.path = filepath.Join(b.dir, fmt.Sprintf("flujo_state_%d_%d.db", size, seed))
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	cmd := exec.CommandContext(ctx, self, "generate", f.path, strconv.FormatInt(size, 10), strconv.Itoa(seed))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return f, fmt.Errorf("generate a file: %w", err)
	}
	if f.rows, err = strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64); err != nil {
		return f, err
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return f, err
	}
	f.bytes = info.Size()
	return f, nil
}

// generate creates a state file and prints the number of its rows.
func generate(path, size, seed string) error {
	bytes, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	if err := bench.Generate(path, bytes, 0, 0, number); err != nil {
		return err
	}
	rows, err := bench.Rows(path)
	if err == nil {
		_, err = io.WriteString(os.Stdout, strconv.FormatInt(rows, 10)+"\n")
	}
	return err
}
