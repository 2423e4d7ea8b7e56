package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// rig is what all contestants share: the server, and Flujo's empty tables in
// schema "model".
type rig struct {
	program string
	prefix  []string // a command that starts the program, such as taskset; may be empty
	options string   // PGOPTIONS of the program
	server  *pgtest.Server
	url     string
	dir     string // for the benchmark's files
	lz4     bool   // the server supports lz4
	tables  []table
	printed []copyFile // the rows of the current file as the server prints them
	loaded  int64      // number of rows that flujo-port loads from the file, with derived rows; 0 if unknown
	sent    []copyFile // the rows of the current file as flujo-port sent them, with the file's JSON text
}

// table is one of Flujo's tables: its columns, and the statements that create
// its constraints and indexes.
type table struct {
	name    string
	columns []string
	keys    []string // statements of the primary key
	foreign []string // statements of the foreign keys
	indexes []string // statements of the secondary indexes
}

// contestant runs against an empty database and returns a measurement for each
// of its names.
type contestant struct {
	names   []string
	missing string // why it does not run; "" if it runs
	foreign bool   // another program, which may fail
	run     func(ctx context.Context) ([]measurement, error)
	before  func(ctx context.Context) error // runs before the measurement; may be nil
}

// compete runs a contestant on an empty database and checks the number of rows.
func (b *rig) compete(ctx context.Context, c contestant, f file) ([]measurement, error) {
	if err := b.empty(ctx); err != nil {
		return nil, err
	}
	if c.before != nil {
		if err := c.before(ctx); err != nil {
			return nil, err
		}
	}
	syncDisks()
	taken, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := b.rows(ctx)
	switch {
	case err != nil:
	case rows < f.rows:
		err = fmt.Errorf("only %d of %d rows arrived", rows, f.rows)
	case !c.foreign && b.loaded > 0 && rows != b.loaded:
		err = fmt.Errorf("%d rows arrived, where flujo-port loads %d", rows, b.loaded)
	}
	return taken, err
}

// empty drops everything in the database except schema "model".
func (b *rig) empty(ctx context.Context) error {
	return b.exec(
		ctx,
		"DROP SCHEMA IF EXISTS flujo CASCADE",
		"DROP SCHEMA IF EXISTS public CASCADE",
		"CREATE SCHEMA public",
		"CHECKPOINT",
	)
}

func (b *rig) exec(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return execAll(ctx, conn, statements...)
}

func execAll(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// query returns the rows of a single column.
func query[T any](ctx context.Context, b *rig, sql string, args ...any) ([]T, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// rows counts the rows in the database, without those of the tables that Flujo
// and flujo-port keep about the schema.
func (b *rig) rows(ctx context.Context) (n int64, err error) {
	counts, err := query[string](
		ctx,
		b,
		`SELECT format('SELECT count(*) FROM %I.%I', schemaname, tablename) FROM pg_tables
		WHERE schemaname IN ('flujo', 'public') AND tablename NOT LIKE 'flujo\_%'`,
	)
	for _, count := range counts {
		rows, err := query[int64](ctx, b, count)
		if err != nil {
			return 0, err
		}
		n += rows[0]
	}
	return n, err
}

// prepare has flujo-port create Flujo's tables, reads their definitions, and
// renames their schema to "model".
func (b *rig) prepare(ctx context.Context) error {
	lz4, err := query[bool](
		ctx,
		b,
		`SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'`,
	)
	if err != nil {
		return err
	}
	if b.lz4 = len(lz4) == 1 && lz4[0]; b.lz4 { // for the other programs too
		if err := b.exec(ctx, "ALTER DATABASE "+database+" SET default_toast_compression = lz4"); err != nil {
			return err
		}
	}
	if err := b.init(ctx); err != nil {
		return err
	}
	names, err := query[string](
		ctx,
		b,
		`SELECT relname::text FROM pg_class WHERE relnamespace = 'flujo'::regnamespace AND relkind = 'r' ORDER BY oid`,
	)
	if err != nil {
		return err
	}
	const columns = `SELECT attname::text FROM pg_attribute
		WHERE attrelid = ('flujo.' || $1)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`
	const indexes = `SELECT pg_get_indexdef(indexrelid) FROM pg_index
		WHERE indrelid = ('flujo.' || $1)::regclass AND NOT indisprimary ORDER BY indexrelid`
	const constraints = `SELECT
			format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
		FROM pg_constraint WHERE conrelid = ('flujo.' || $1)::regclass AND contype = $2 ORDER BY oid`
	for _, name := range names {
		t := table{name: name}
		for _, part := range []struct {
			into *[]string
			sql  string
			args []any
		}{
			{&t.columns, columns, []any{name}},
			{&t.keys, constraints, []any{name, "p"}},
			{&t.foreign, constraints, []any{name, "f"}},
			{&t.indexes, indexes, []any{name}},
		} {
			if *part.into, err = query[string](ctx, b, part.sql, part.args...); err != nil {
				return err
			}
		}
		b.tables = append(b.tables, t)
	}
	return b.exec(ctx, "ALTER SCHEMA flujo RENAME TO model")
}

func (b *rig) init(ctx context.Context) error {
	_, err := measure(b.flujoPort(ctx, "init", "--without-pgvector"))
	return err
}

func (b *rig) flujoPort(ctx context.Context, args ...string) *exec.Cmd {
	command := append(append(slices.Clone(b.prefix), b.program), append(args, "--postgres", b.url)...)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PGOPTIONS="+b.options)
	return cmd
}

// copyOut migrates the file and stores what flujo-port sends, derived rows
// included. Then it has the server write the same rows to files.
func (b *rig) copyOut(ctx context.Context, f file) error {
	t := &tap{upstream: b.server.Addr(), folder: b.dir}
	if err := t.listen(); err != nil {
		return err
	}
	load := func(ctx context.Context) ([]measurement, error) {
		through := *b
		through.url = strings.Replace(b.url, b.server.Addr(), t.Addr(), 1)
		return through.migrate(f, "--verify", "counts")(ctx)
	}
	b.loaded = 0
	_, err := b.compete(ctx, contestant{run: load}, f)
	sent, tapErr := t.Close()
	if err := errors.Join(err, tapErr); err != nil {
		return err
	}
	if b.loaded, err = b.rows(ctx); err != nil {
		return err
	}
	for _, c := range b.sent { // of another file
		os.Remove(c.path)
	}
	b.sent, b.printed = sent, nil
	for _, t := range b.tables {
		c := copyFile{table: t.name, path: filepath.Join(b.server.Dir(), t.name+".copy")}
		if err := b.exec(ctx, fmt.Sprintf("COPY flujo.%s TO '%s' (FORMAT binary)", c.table, c.path)); err != nil {
			return err
		}
		b.printed = append(b.printed, c)
	}
	return nil
}

// baseline has the server do what a migration does, without a client, with the
// rows of files.
func (b *rig) baseline(compression string, files *[]copyFile) func(context.Context) ([]measurement, error) {
	return func(ctx context.Context) ([]measurement, error) {
		statements := b.statements(compression, *files, "COPY flujo.%s FROM '%s' (FORMAT binary, FREEZE)")
		began := time.Now()
		err := b.exec(ctx, statements...)
		return []measurement{{Seconds: time.Since(began).Seconds()}}, err
	}
}

// wire has psql send the bytes that flujo-port sent, over the same connection.
func (b *rig) wire(compression string) func(context.Context) ([]measurement, error) {
	return func(ctx context.Context) ([]measurement, error) {
		statements := b.statements(compression, b.sent, `\copy flujo.%s FROM '%s' (FORMAT binary, FREEZE)`)
		psql := b.psql(ctx)
		psql.Stdin = strings.NewReader(strings.Join(statements, ";\n") + ";\n")
		m, err := measure(psql)
		return []measurement{m}, err
	}
}

// statements returns what a migration does, in one transaction: tables with
// primary keys, their rows, foreign keys, secondary indexes, statistics. copied
// is the format of the statement that copies a table from a file.
func (b *rig) statements(compression string, files []copyFile, copied string) []string {
	statements := []string{"BEGIN"}
	if b.lz4 {
		statements = append(statements, "SET LOCAL default_toast_compression = "+compression)
	}
	statements = append(statements, "CREATE SCHEMA flujo")
	for _, t := range b.tables {
		statements = append(
			statements,
			fmt.Sprintf("CREATE TABLE flujo.%s (LIKE model.%[1]s INCLUDING DEFAULTS)", t.name),
		)
		statements = append(statements, t.keys...)
	}
	for _, c := range files {
		statements = append(statements, fmt.Sprintf(copied, c.table, c.path))
	}
	for _, t := range b.tables {
		statements = append(statements, t.foreign...)
	}
	for _, t := range b.tables {
		statements = append(statements, t.indexes...)
	}
	for _, t := range b.tables {
		statements = append(statements, "ANALYZE flujo."+t.name)
	}
	return append(statements, "COMMIT")
}
