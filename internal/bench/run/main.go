// Command run measures flujo-port, the server alone and other tools on a
// throwaway server, and writes docs/benchmarks.md and .svg:
//
//	go run ./internal/bench/run -program bin/flujo-port -runs 3 -growth 730
//
// Each argument is the size of a state file in MB. All files are in the
// server's folder, which is removed with the server however this process ends.
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
	if len(os.Args) == 4 && os.Args[1] == "generate" {
		exit(generate(os.Args[2], os.Args[3]))
	}
	program := flag.String("program", "bin/flujo-port", "`path` of the program to measure")
	runs := flag.Int("runs", 3, "number of rounds")
	growth := flag.Bool("growth", false, "also load 1/8, 1/4, 1/2 and all of the last size")
	out := flag.String("out", "docs", "`folder` of benchmarks.md and benchmarks.svg")
	flag.Parse()
	var sizes []int64
	for _, arg := range flag.Args() {
		mb, err := strconv.ParseInt(arg, 10, 32)
		if err != nil || mb < 1 {
			exit(fmt.Errorf("%q is not a size in MB", arg))
		}
		sizes = append(sizes, mb*1_000_000)
	}
	if len(sizes) == 0 || *runs < 1 {
		exit(errors.New("usage: run [-program PATH] [-runs N] [-growth] [-out FOLDER] MB…"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	exit(run(ctx, *program, *out, sizes, *runs, *growth))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, program, out string, sizes []int64, runs int, growth bool) (err error) {
	if program, err = filepath.Abs(program); err != nil {
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
	doc := &document{Runs: runs}
	if err := doc.describe(ctx, b); err != nil {
		return err
	}
	for i, size := range sizes {
		s, err := b.section(ctx, size, runs, growth && i == len(sizes)-1)
		if err != nil {
			return err
		}
		doc.Sections = append(doc.Sections, s)
		fmt.Print(s.Text(), "\n")
	}
	return doc.write(out)
}

// section measures all contestants with a file of one size. Each round begins
// with another contestant.
func (b *rig) section(ctx context.Context, size int64, runs int, growth bool) (*section, error) {
	f, err := b.generate(ctx, size)
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.path)
	if err := b.copyOut(ctx, f); err != nil {
		return nil, err
	}
	s := &section{Bytes: f.bytes, Rows: f.rows, LZ4: b.lz4}
	contestants := b.contestants(f)
	results := map[string]*result{}
	for _, c := range contestants {
		for _, name := range c.names {
			results[name] = &result{Name: name, Missing: c.missing}
			s.Results = append(s.Results, results[name])
		}
	}
	for round := range runs {
		for i := range contestants {
			c := contestants[(i+round*max(len(contestants)/runs, 1))%len(contestants)]
			if results[c.names[0]].Missing != "" {
				continue
			}
			taken, err := b.compete(ctx, c, f)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil && c.foreign:
				fmt.Fprintf(os.Stderr, "%s failed: %v\n", c.names[0], err)
				results[c.names[0]].Missing, results[c.names[0]].Runs = "failed", nil
				continue
			case err != nil:
				return nil, fmt.Errorf("%s: %w", c.names[0], err)
			}
			for j, m := range taken {
				results[c.names[j]].Runs = append(results[c.names[j]].Runs, m)
				fmt.Fprintf(
					os.Stderr,
					"%d MB, round %d of %d: %s %.2f s\n",
					f.bytes/1_000_000,
					round+1,
					runs,
					c.names[j],
					m.Seconds,
				)
			}
		}
	}
	if growth {
		s.Growth, err = b.growth(ctx, size, f)
	}
	return s, err
}

// growth measures loads of files of 1/8, 1/4 and 1/2 of the size, and of f,
// which has the full size.
func (b *rig) growth(ctx context.Context, size int64, f file) (steps []step, err error) {
	b.loaded = 0 // it was set for another file
	for _, part := range []int64{8, 4, 2, 1} {
		smaller := f
		if part > 1 {
			if smaller, err = b.generate(ctx, size/part); err != nil {
				return nil, err
			}
		}
		taken, err := b.compete(ctx, contestant{run: b.load(smaller, "content")}, smaller)
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
func (b *rig) generate(ctx context.Context, size int64) (f file, err error) {
	f.path = filepath.Join(b.dir, fmt.Sprintf("flujo_state_%d.db", size))
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	cmd := exec.CommandContext(ctx, self, "generate", f.path, strconv.FormatInt(size, 10))
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
func generate(path, size string) error {
	bytes, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	if err := bench.Generate(path, bytes, 0, 0); err != nil {
		return err
	}
	rows, err := bench.Rows(path)
	if err == nil {
		_, err = io.WriteString(os.Stdout, strconv.FormatInt(rows, 10)+"\n")
	}
	return err
}
