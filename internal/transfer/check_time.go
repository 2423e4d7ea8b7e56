package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"

	"github.com/dustin/go-humanize"
)

// sampleBytes is the size of the sample that is loaded from each table.
const sampleBytes = 8 << 20

// estimate loads and verifies the first rows of each table in staging tables,
// rolls back, and adds the expected duration of a migration.
func (c *checker) estimate(ctx context.Context) error {
	tx, schema, err := sink.BeginStaging(ctx, c.Postgres, c.extraction.types, checkLockWait)
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	defer tx.Rollback()
	stored, err := source.InTransaction(ctx, tx.Conn, schema.Tables(), c.extraction.types, schema.VectorSchema())
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	expected, sampled := c.integrityTime.Seconds(), int64(0)
	for i := range c.extraction.findings.Tables {
		row := &c.extraction.findings.Tables[i]
		tm := c.extraction.format.Mapping(row.Name)
		if row.RowsRead == 0 || !schema.Has(row.Name) {
			continue
		}
		seconds, bytes, err := c.sample(ctx, target{Tx: tx, sinkSchema: schema}, stored, tm)
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
	for _, row := range c.extraction.findings.Tables {
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
// explain why.
func (c *checker) unmeasured(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.addResult(report.Warning, "time", "see the lines above", "could not be measured: %v", err)
	return nil
}

// sample loads and verifies the first rows of a table. It returns the duration
// and the bytes loaded.
func (c *checker) sample(
	ctx context.Context,
	into target,
	stored *source.DatabaseSnapshot,
	tm *mapping.TableMapping,
) (seconds float64, bytes int64, err error) {
	for {
		started := time.Now()
		rows, err := c.extraction.snapshot.Rows(ctx, tm.Table.Name, tm.Columns)
		if err != nil {
			return 0, 0, err
		}
		digest := mapping.NewDigest(tm.Table)
		first := &sampleTuples{tuples: tuples{
			converter: c.extraction.converter(ctx, tm),
			rows:      rows,
			onRow:     func(int64, int64) {},
			digest:    digest,
			rowID:     new(int64),
		}}
		bytes, err = into.Copy(ctx, tm.Table, first)
		rows.Close()
		if wide, ok := errors.AsType[*mapping.WidenError](err); ok {
			if err := into.Widen(ctx, tm.Table, wide.Column); err != nil {
				return 0, 0, err
			}
			continue
		}
		if err == nil {
			_, _, err = stored.Digest(ctx, tm.Table)
		}
		return time.Since(started).Seconds(), bytes, err
	}
}

// sampleTuples is tuples that ends after sampleBytes. It implements sink.Tuples.
type sampleTuples struct {
	tuples
	bytes int
}

// Append implements sink.Tuples.
func (b *sampleTuples) Append(dst []byte) ([]byte, error) {
	if b.bytes > sampleBytes {
		return dst, io.EOF
	}
	out, err := b.tuples.Append(dst)
	b.bytes += len(out) - len(dst)
	return out, err
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
