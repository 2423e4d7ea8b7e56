package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// processes holds the times with a number of additional processes that a query of the
// server may use, and with the program and the server on certain cores.
type processes struct {
	Cores                    string
	Workers                  string // max_parallel_workers_per_gather, or "" for the server's own
	Migrate, Verify, Restore result
}

// layouts are the cores on which the program and the server run. "" means all.
var layouts = []struct{ name, program, server string }{
	{"all cores for both", "", ""},
	{"a core each", "0", "1"},
}

// processes measures the commands with each number of workers, in rounds.
func (b *rig) processes(ctx context.Context, f file, rounds int) (all []processes, err error) {
	if missing := absent("taskset"); missing != "" {
		return nil, fmt.Errorf("taskset is %s", missing)
	}
	for _, layout := range layouts {
		for _, workers := range []string{"", "0", "1", "2"} {
			all = append(all, processes{Cores: layout.name, Workers: workers})
		}
	}
	for range rounds {
		for i := range all {
			p := &all[i]
			layout := layouts[i*len(layouts)/len(all)]
			if err := b.pin(layout.server); err != nil {
				return nil, err
			}
			on := *b
			if layout.program != "" {
				on.prefix = []string{"taskset", "--cpu-list", layout.program}
			}
			if p.Workers != "" {
				on.options = "-c max_parallel_workers_per_gather=" + p.Workers
			}
			taken, err := on.compete(ctx, contestant{run: on.thereAndBack(f)}, f)
			if err != nil {
				return nil, err
			}
			for j, r := range []*result{&p.Migrate, &p.Verify, &p.Restore} {
				r.Runs = append(r.Runs, taken[j])
			}
			fmt.Fprintf(os.Stderr, "%s, %q workers: migrate %.2f s, verify %.2f s, restore %.2f s\n",
				p.Cores, p.Workers, taken[0].Seconds, taken[1].Seconds, taken[2].Seconds)
		}
	}
	return all, b.pin("")
}

// pin has the server run on some cores; "" means all. Sessions that begin later are
// pinned too.
func (b *rig) pin(cores string) error {
	if cores == "" {
		cores = fmt.Sprintf("0-%d", runtime.NumCPU()-1)
	}
	text, err := os.ReadFile(filepath.Join(b.server.Dir(), "data", "postmaster.pid"))
	if err != nil {
		return err
	}
	pid, _, _ := bytes.Cut(text, []byte("\n"))
	out, err := exec.Command("taskset", "--all-tasks", "--cpu-list", "--pid", cores, string(pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pin the server to core %s: %w: %s", cores, err, out)
	}
	return nil
}

// processesText returns the table of the times, in medians.
func processesText(all []processes) string {
	rows := [][]string{{"cores", "max_parallel_workers_per_gather", "migrate s", "verify s", "restore s"}}
	for _, p := range all {
		workers := p.Workers
		if workers == "" {
			workers = "the server's own setting"
		}
		rows = append(rows, []string{
			p.Cores, workers, seconds(p.Migrate.Seconds()), seconds(p.Verify.Seconds()), seconds(p.Restore.Seconds())})
	}
	return markdown(rows)
}
