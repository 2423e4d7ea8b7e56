package main

import (
	"context"
	"fmt"
	"os"
)

// several holds the times of commands with a number of state files.
type several struct {
	Files           int
	Migrate, Verify result
}

// bytesOfEach is the size of each of several state files.
const bytesOfEach = 100_000_000

// severalFiles measures migrations of 1, 2, 4 and 8 files, and verify after each, in rounds.
func (b *rig) severalFiles(ctx context.Context, rounds int) (all []several, err error) {
	b.loaded = 0 // it was set for another file
	for _, n := range []int{1, 2, 4, 8} {
		all = append(all, several{Files: n})
	}
	var files []file
	for seed := range all[len(all)-1].Files {
		f, err := b.generate(ctx, bytesOfEach, seed+1)
		if err != nil {
			return nil, err
		}
		defer os.Remove(f.path)
		files = append(files, f)
	}
	for round := range rounds {
		for i := range all {
			s := &all[i]
			taken, err := b.competeWith(ctx, files[:s.Files])
			if err != nil {
				return nil, err
			}
			s.Migrate.Runs, s.Verify.Runs = append(s.Migrate.Runs, taken[0]), append(s.Verify.Runs, taken[1])
			fmt.Fprintf(os.Stderr, "files: %d, round %d of %d: migrate %.2f s, verify %.2f s\n",
				s.Files, round+1, rounds, taken[0].Seconds, taken[1].Seconds)
		}
	}
	return all, nil
}

// competeWith measures a migration of the files in one command, and verify of all of them.
func (b *rig) competeWith(ctx context.Context, files []file) ([]measurement, error) {
	migrate, verify := []string{"migrate", "--without-pgvector"}, []string{"verify"}
	var sum file // derived traces are more than the keys of system_state, which all files share
	for _, f := range files {
		migrate, verify = append(migrate, "--sqlite", f.path), append(verify, "--sqlite", f.path)
		sum.bytes, sum.rows = sum.bytes+f.bytes, sum.rows+f.rows
	}
	run := func(ctx context.Context) ([]measurement, error) { return b.inTurn(ctx, migrate, verify) }
	return b.compete(ctx, contestant{run: run}, sum)
}

// FilesText returns the part about several state files in Markdown.
func (d *document) FilesText() string {
	rows := [][]string{{"files", "migrate s", "s/file", "relative", "peak MiB",
		"verify s", "s/file", "relative", "peak MiB"}}
	for i := range d.Files {
		s, one := &d.Files[i], &d.Files[0]
		row := []string{fmt.Sprint(s.Files)}
		for _, r := range [][2]*result{{&s.Migrate, &one.Migrate}, {&s.Verify, &one.Verify}} {
			perFile := 1 / float64(s.Files)
			row = append(row, seconds(r[0].Seconds()), seconds(r[0].Seconds()*perFile),
				fmt.Sprintf("%.2f", r[0].ratio(r[1])*perFile), mib(r[0].Peak()))
		}
		rows = append(rows, row)
	}
	at := ""
	if d.Commit != "" {
		at = " at " + d.Commit
	}
	return fmt.Sprintf("## Several state files\n\n"+
		"Up to %d state files of %d MB: each run is in one of them, and the keys of system_state are in all.\n"+
		"`%s` of the files in one command, and then `%s` of the same files.\n"+
		"The times are medians of %d rounds. \"relative\" is the median of the ratios, within each round,\n"+
		"of the seconds per file to those of one file. Measured on %s%s.\n\n",
		d.Files[len(d.Files)-1].Files, bytesOfEach/1_000_000, migrate, verify,
		len(d.Files[0].Migrate.Runs), d.Date, at) + markdown(rows)
}
