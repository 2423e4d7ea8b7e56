package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The names of the measurements.
const (
	migrate       = "flujo-port migrate"
	migrateCounts = "flujo-port migrate --verify counts"
	migrateSkip   = "flujo-port migrate --skip-integrity"
	verify        = "flujo-port verify"
	restore       = "flujo-port restore"
	baselineLZ4   = "baseline: the server alone, lz4"
	baselinePGLZ  = "baseline: the server alone, default (pglz)"
	baselineSent  = "baseline: JSON as in the state file, lz4"
	baselineWire  = "psql \\copy of the bytes that flujo-port sends"
	pipe          = "sqlite3 -csv to psql \\copy, bare tables"
	pgloader      = "pgloader, its own tables, 8 GB heap"
	pgloaderFew   = "pgloader, its own tables, prefetch rows = 1000"
	ogr2ogr       = "ogr2ogr, its own tables"
)

const notInstalled = "not installed"

// smallFile is the size in bytes below which a file is small: then only flujo-port and the
// server are measured.
const smallFile = 10_000_000

func (b *rig) contestants(f file) []contestant {
	all := []contestant{
		{names: []string{migrate, verify, restore}, run: b.thereAndBack(f)},
		{names: []string{migrateCounts}, run: b.migrate(f, "--verify", "counts")},
		{names: []string{migrateSkip}, run: b.migrate(f, "--skip-integrity")},
		{names: []string{baselineLZ4}, run: b.baseline("lz4", &b.printed)},
		{names: []string{baselinePGLZ}, run: b.baseline("pglz", &b.printed)},
		{names: []string{baselineSent}, run: b.baseline("lz4", &b.sent)},
		{names: []string{baselineWire}, run: b.wire("lz4")},
	}
	for i := range all {
		if name := all[i].names[0]; !b.lz4 && (name == baselineLZ4 || name == baselineSent || name == baselineWire) {
			all[i].missing = "the server does not support lz4"
		}
	}
	if f.bytes < smallFile {
		return all
	}
	// With its default heap pgloader fails with "heap exhausted".
	return append(all,
		contestant{
			names: []string{pipe}, run: b.pipe(f), before: b.bareTables, foreign: true, missing: absent("sqlite3")},
		contestant{
			names: []string{pgloader}, run: b.pgloader(f, "--dynamic-space-size", "8192"), foreign: true,
			missing: absent("pgloader")},
		contestant{
			names: []string{pgloaderFew}, run: b.pgloader(f, "--with", "prefetch rows = 1000"), foreign: true,
			missing: absent("pgloader")},
		contestant{names: []string{ogr2ogr}, run: b.ogr2ogr(f), foreign: true, missing: absent("ogr2ogr")},
	)
}

func absent(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return notInstalled
	}
	return ""
}

// migrate measures a migration with additional flags.
func (b *rig) migrate(f file, flags ...string) func(context.Context) ([]measurement, error) {
	return func(ctx context.Context) ([]measurement, error) {
		args := append([]string{"migrate", "--without-pgvector", "--sqlite", f.path}, flags...)
		m, err := measure(b.flujoPort(ctx, args...))
		return []measurement{m}, err
	}
}

// thereAndBack measures a migration, verify, and restore into a new file.
func (b *rig) thereAndBack(f file) func(context.Context) ([]measurement, error) {
	return func(ctx context.Context) ([]measurement, error) {
		restored := filepath.Join(b.dir, "restored.db")
		defer os.Remove(restored)
		return b.inTurn(ctx,
			[]string{"migrate", "--without-pgvector", "--sqlite", f.path}, []string{"verify", "--sqlite", f.path},
			[]string{"restore", "--sqlite", restored})
	}
}

// inTurn measures commands of flujo-port, one after the other.
func (b *rig) inTurn(ctx context.Context, commands ...[]string) (taken []measurement, err error) {
	for _, args := range commands {
		m, err := measure(b.flujoPort(ctx, args...))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", args[0], err)
		}
		taken = append(taken, m)
	}
	return taken, nil
}

// bareTables creates Flujo's tables without keys, indexes and constraints.
func (b *rig) bareTables(ctx context.Context) error {
	statements := []string{"CREATE SCHEMA flujo"}
	for _, t := range b.tables {
		statements = append(statements,
			fmt.Sprintf("CREATE TABLE flujo.%s (LIKE model.%[1]s INCLUDING DEFAULTS)", t.name))
	}
	return b.exec(ctx, statements...)
}

// pipe copies one table after the other as CSV into bare tables.
func (b *rig) pipe(f file) func(context.Context) ([]measurement, error) {
	return func(ctx context.Context) (_ []measurement, err error) {
		var sum measurement
		for _, t := range b.tables {
			listColumns := fmt.Sprintf("SELECT name FROM pragma_table_info('%s')", t.name)
			out, err := exec.CommandContext(ctx, "sqlite3", f.path, listColumns).Output()
			if err != nil {
				return nil, err
			}
			columns := slices.DeleteFunc(
				strings.Fields(string(out)),
				func(c string) bool { return !slices.Contains(t.columns, c) },
			)
			if len(columns) == 0 {
				continue
			}
			list := strings.Join(columns, ", ")
			psql := b.psql(ctx, "--command", fmt.Sprintf(`\copy flujo.%s (%s) FROM STDIN (FORMAT csv)`, t.name, list))
			m, err := measure(
				exec.CommandContext(ctx, "sqlite3", "-csv", f.path, fmt.Sprintf("SELECT %s FROM %s", list, t.name)),
				psql,
			)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			sum = measurement{Seconds: sum.Seconds + m.Seconds, CPU: sum.CPU + m.CPU, Peak: max(sum.Peak, m.Peak)}
		}
		return []measurement{sum}, nil
	}
}

func (b *rig) psql(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(
		ctx,
		filepath.Join(b.server.Bin(), "psql"),
		append([]string{"--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", b.url}, args...)...)
}

func (b *rig) pgloader(f file, options ...string) func(context.Context) ([]measurement, error) {
	return func(ctx context.Context) ([]measurement, error) {
		target := url.URL{
			Scheme: "postgresql",
			User:   url.UserPassword(b.server.User(), b.server.Password()),
			Host:   b.server.Addr(),
			Path:   "/" + database,
		}
		cmd := exec.CommandContext(
			ctx,
			"pgloader",
			append(options, "--root-dir", b.dir, "sqlite://"+f.path, target.String())...)
		cmd.Dir = b.dir
		m, err := measure(cmd)
		return []measurement{m}, err
	}
}

func (b *rig) ogr2ogr(f file) func(context.Context) ([]measurement, error) {
	return func(ctx context.Context) ([]measurement, error) {
		cmd := exec.CommandContext(
			ctx,
			"ogr2ogr",
			"--config",
			"PG_USE_COPY",
			"YES",
			"-f",
			"PostgreSQL",
			"-nlt",
			"NONE",
			fmt.Sprintf(
				"PG:host=%s port=%s user=%s dbname=%s",
				b.server.Host(),
				b.server.Port(),
				b.server.User(),
				database,
			),
			f.path,
		)
		cmd.Env = append(os.Environ(), "PGPASSWORD="+b.server.Password())
		m, err := measure(cmd)
		return []measurement{m}, err
	}
}
