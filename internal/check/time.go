package check

import (
	"context"
	"errors"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"

	"github.com/dustin/go-humanize"
)

// sampleBytes is the size of the sample that is loaded from each table.
const sampleBytes = 8 << 20

// estimate loads and verifies the first rows of each table in staging tables,
// rolls back, and adds the expected duration of a migration.
func (c *checker) estimate(ctx context.Context) error {
	tx, schema, err := sink.BeginStaging(ctx, c.options.Postgres, c.found.Types, checkLockWait)
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	defer tx.Rollback()
	stored, err := postgres.InTransaction(ctx, tx.Conn, schema.Tables(), c.found.Types, schema.VectorSchema())
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	expected, sampled := 0.0, int64(0)
	for i := range c.found.Findings.Tables {
		row := &c.found.Findings.Tables[i]
		if row.RowsRead == 0 || !schema.Has(row.Name) {
			continue
		}
		seconds, bytes, err := c.sample(ctx, sink.Loader{Tx: tx, Schema: schema}, stored, mapping.TableOf(row.Name))
		if err != nil {
			return c.unmeasured(ctx, err)
		}
		sampled += bytes
		if bytes > 0 {
			expected += seconds * float64(row.Bytes) / float64(bytes)
		}
	}
	started := time.Now()
	if err := tx.CreateIndexes(ctx, schema); err != nil {
		return c.unmeasured(ctx, err)
	}
	all := int64(0)
	for _, row := range c.found.Findings.Tables {
		all += row.Bytes
	}
	if sampled > 0 {
		expected += time.Since(started).Seconds() * float64(all) / float64(sampled)
	}
	c.report.Expected = expected
	c.ok(
		"time",
		"about %s, estimated from a sample of %s that was loaded, verified and rolled back",
		approximateDuration(expected),
		humanize.IBytes(uint64(sampled)),
	)
	return nil
}

// unmeasured adds the warning that no sample could be loaded. Other results
// explain why. If not even the sample fits on the server's disk, a migration does not either,
// which is an error.
func (c *checker) unmeasured(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*clierr.Error](err); ok && postgres.Code(err) == postgres.DiskFull {
		plain := *e
		plain.Hint = ""
		c.failure(
			"time",
			"free disk space on the server, or have default_tablespace name a tablespace that has more, "+
				"then run check again",
			"a sample could not be loaded, because the server ran out of disk space: %v",
			&plain,
		)
		return nil
	}
	c.addResult(report.Warning, "time", "see the lines above", "could not be measured: %v", err)
	return nil
}

// sample loads and verifies the first rows of a table. It returns the duration and the
// bytes loaded.
func (c *checker) sample(
	ctx context.Context,
	into sink.Loader,
	stored *postgres.Snapshot,
	table *mapping.Table,
) (seconds float64, bytes int64, err error) {
	started := time.Now()
	first, err := c.found.Sample(ctx, table.Name, sampleBytes)
	if err != nil {
		return 0, 0, err
	}
	defer first.Close()
	if bytes, err = into.Copy(ctx, table, first); err != nil {
		return 0, 0, err
	}
	_, err = stored.Digest(ctx, table)
	return time.Since(started).Seconds(), bytes, err
}

// approximateDuration formats a duration with the precision of an estimate.
func approximateDuration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return "a second"
	case d < time.Minute:
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Second).String()
}
