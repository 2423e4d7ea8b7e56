package check

import (
	"context"
	"io"
	"math"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/receipt"
	"flujo-port/internal/sink"
)

// tryMigration runs a migration without rows in the schema and rolls it back. It
// finds problems that the catalog does not show, such as those of privileges,
// row-level security or triggers. The tables are empty, so it holds its locks
// only briefly.
func (c *checker) tryMigration(ctx context.Context) error {
	next := map[string]int64{} // read from the files before any lock is taken
	for _, f := range c.distinct() {
		for i := range f.format.Mappings {
			tm := &f.format.Mappings[i]
			if tm.Table.Serial() == "" {
				continue
			}
			last, err := extract.LastID(ctx, f.snapshot, tm)
			if err != nil {
				return c.addError(ctx, dryRunLine, notRun, err)
			}
			next[tm.Table.Name] = max(next[tm.Table.Name], min(max(last, 0), math.MaxInt64-1)+1)
		}
	}
	tx, err := sink.Begin(ctx, c.options.Postgres, c.options.Schema, checkLockWait)
	if err != nil {
		return c.addError(ctx, dryRunLine, notRun, err)
	}
	defer tx.Rollback()
	schema, err := c.dryRun(ctx, tx, next)
	if err != nil {
		if tx.IsClosed() {
			return err
		}
		return c.addError(ctx, dryRunLine, notRun, err)
	}
	c.ok(dryRunLine, "a migration without rows was run in the schema and rolled back")
	if !c.facts.reached {
		return nil
	}
	if err := tx.TryStart(ctx, schema, "", c.facts.start); err != nil {
		if tx.IsClosed() {
			return err
		}
		return c.addError(ctx, startLine, notChecked, err)
	}
	c.facts.started = true
	return nil
}

// dryRunLine is the name of the dry run's line.
const dryRunLine = "dry run"

// notRun is the text of a dry run that could not run.
const notRun = "could not be run"

// dryRun runs the steps of migrate.Run without rows. next has the next id of
// each table with a serial column.
func (c *checker) dryRun(ctx context.Context, tx *sink.Tx, next map[string]int64) (*sink.Schema, error) {
	types := mapping.NewTypes(c.options.ExactFloats)
	types.VectorSize = c.facts.vectorSize
	schema, err := tx.Prepare(ctx, c.options.WithoutPGVector, types)
	if err != nil {
		return nil, err
	}
	full, err := tx.TablesWithRows(ctx)
	if err != nil {
		return nil, err
	}
	if len(full) > 0 {
		return nil, &clierr.Error{
			Kind:    clierr.Refused,
			Message: "another session wrote to the schema during the check: " + strings.Join(full, ", "),
			Hint:    "stop the writer, and run check again",
		}
	}
	if err := tx.Adapt(ctx, schema); err != nil {
		return nil, err
	}
	into := sink.Loader{Tx: tx, Schema: schema}
	for _, table := range schema.Tables() {
		for _, column := range table.Columns {
			if !c.widened(table.Name, column, next) || types.Wide[table.Name+"."+column.Name] {
				continue
			}
			if err := into.Widen(ctx, &table, column.Name); err != nil {
				return nil, err
			}
		}
		if _, err := into.Copy(ctx, &table, noTuples{}); err != nil {
			return nil, err
		}
	}
	if c.storesOriginals() {
		if err := tx.EnsureOriginals(ctx, schema); err != nil {
			return nil, err
		}
	}
	if err := tx.Finish(ctx, schema); err != nil {
		return nil, err
	}
	for _, table := range schema.Tables() {
		if id := next[table.Name]; id > 0 {
			if _, err := tx.SetSequence(ctx, &table, id, true); err != nil {
				return nil, err
			}
		}
	}
	if err := tx.CheckConstraints(ctx); err != nil {
		return nil, err
	}
	return schema, receipt.Write(ctx, tx.Conn, &receipt.Receipt{})
}

// storesOriginals reports whether a migration stores original values or superseded rows.
func (c *checker) storesOriginals() bool {
	for _, f := range c.distinct() {
		if rows, cells := f.found.Findings.Count(); rows+cells > 0 {
			return true
		}
	}
	return c.report.Different() > 0
}

// widened reports whether a file needs an integer column to be bigint.
func (c *checker) widened(table string, column mapping.Column, next map[string]int64) bool {
	return column.Serial && next[table] > math.MaxInt32 ||
		slices.ContainsFunc(c.distinct(), func(f *stateFile) bool {
			return slices.Contains(f.found.Findings.Widened, table+"."+column.Name)
		})
}

// noTuples implements mapping.Tuples for a table without rows.
type noTuples struct{}

// Append implements mapping.Tuples.
func (noTuples) Append(dst []byte) ([]byte, error) { return dst, io.EOF }
