package check

import (
	"context"
	"errors"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
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
	parts, types := c.sampled()
	tx, schema, err := sink.BeginStaging(ctx, c.options.Postgres, types, checkLockWait)
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	defer tx.Rollback()
	stored, err := postgres.InTransaction(ctx, tx.Conn, schema.Tables(), types, schema.VectorSchema())
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	expected, sampled, all := 0.0, int64(0), int64(0)
	for _, part := range parts {
		all += part.bytes
		if !schema.Has(part.table.Name) {
			continue
		}
		seconds, bytes, err := part.load(ctx, sink.Loader{Tx: tx, Schema: schema}, stored)
		if err != nil {
			return c.unmeasured(ctx, err)
		}
		sampled += bytes
		if bytes > 0 {
			expected += seconds * float64(part.bytes) / float64(bytes)
		}
	}
	started := time.Now()
	if err := tx.CreateIndexes(ctx, schema); err != nil {
		return c.unmeasured(ctx, err)
	}
	if sampled > 0 {
		expected += time.Since(started).Seconds() * float64(all) / float64(sampled)
	}
	c.report.Expected = expected
	merging := ""
	if len(c.distinct()) > 1 {
		merging = "; merging the files takes additional time"
	}
	c.ok(
		"time",
		"about %s, estimated from a sample of %s that was loaded, verified and rolled back%s",
		approximateDuration(expected),
		humanize.IBytes(uint64(sampled)),
		merging,
	)
	return nil
}

// tableSample is a table of which a sample is loaded.
type tableSample struct {
	table *mapping.Table
	file  *extract.Result // of the first file that has rows of the table, from which they are
	bytes int64           // of the table in all files
}

// sampled returns the tables that have rows in the files, and the types of the samples.
func (c *checker) sampled() (parts []*tableSample, types *mapping.Types) {
	files := c.distinct()
	types = files[len(files)-1].found.Types.Clone() // with the size of the vectors of the files before
	byName := map[string]*tableSample{}
	for _, f := range files {
		for _, row := range f.found.Findings.Tables {
			if row.RowsRead == 0 {
				continue
			}
			part := byName[row.Name]
			if part == nil {
				part = &tableSample{table: mapping.TableOf(row.Name), file: f.found}
				byName[row.Name] = part
				parts = append(parts, part)
				for _, column := range part.table.Columns {
					name := row.Name + "." + column.Name
					types.Wide[name] = f.found.Types.Wide[name]
				}
			}
			part.bytes += row.Bytes
		}
	}
	return parts, types
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

// load loads and verifies the first rows of the table. It returns the duration and the
// bytes loaded.
func (s *tableSample) load(
	ctx context.Context,
	into sink.Loader,
	stored *postgres.Snapshot,
) (seconds float64, bytes int64, err error) {
	started := time.Now()
	first, err := s.file.Sample(ctx, s.table.Name, sampleBytes)
	if err != nil {
		return 0, 0, err
	}
	defer first.Close()
	if bytes, err = into.Copy(ctx, s.table, first); err != nil {
		return 0, 0, err
	}
	_, err = stored.Digest(ctx, s.table)
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
