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

// sampleBytes is how much of each table is loaded on trial.
const sampleBytes = 8 << 20

// time loads the beginning of every table into tables that nobody else sees,
// rolls that back, and says from what it took how long a migration will take.
func (c *check) time(ctx context.Context) error {
	tx, schema, err := sink.BeginScratch(ctx, c.Postgres, c.reading.types, patience)
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	defer tx.Rollback()
	stored, err := source.InTransaction(ctx, tx.Conn, schema.Tables(), c.reading.types, schema.VectorSchema())
	if err != nil {
		return c.unmeasured(ctx, err)
	}
	expected, sampled := c.sound.Seconds(), int64(0)
	for i := range c.reading.found.Tables {
		row := &c.reading.found.Tables[i]
		plan := c.reading.layout.Plan(row.Name)
		if row.RowsRead == 0 || !schema.Has(row.Name) {
			continue
		}
		seconds, bytes, err := c.sample(ctx, target{Tx: tx, schema: schema}, stored, plan)
		if err != nil {
			return c.unmeasured(ctx, err)
		}
		sampled += bytes
		if bytes > 0 {
			expected += seconds * float64(row.Bytes) / float64(bytes)
		}
	}
	started := time.Now()
	if err := tx.MakeIndexes(ctx, schema); err != nil {
		return c.unmeasured(ctx, err)
	}
	all := int64(0)
	for _, row := range c.reading.found.Tables {
		all += row.Bytes
	}
	if sampled > 0 {
		expected += time.Since(started).Seconds() * float64(all) / float64(sampled)
	}
	c.report.Expected = expected
	c.ok("time", "about %s, by a sample of %s that was loaded, verified and rolled back", roughly(expected), humanize.IBytes(uint64(sampled)))
	return nil
}

// unmeasured says that no sample could be loaded: that is for the other lines
// to explain.
func (c *check) unmeasured(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.line(report.Look, "time", "see the lines above", "could not be measured: %v", err)
	return nil
}

// sample loads and verifies the beginning of a table.
func (c *check) sample(ctx context.Context, into target, stored *source.Stored, plan *mapping.Plan) (seconds float64, bytes int64, err error) {
	for {
		started := time.Now()
		rows, err := c.reading.snapshot.Rows(ctx, plan.Table.Name, plan.Columns)
		if err != nil {
			return 0, 0, err
		}
		digest := mapping.NewDigest(plan.Table)
		beginning := &beginning{tuples: tuples{
			converter: c.reading.converter(ctx, plan), rows: rows, each: func(int64, int64) {}, digest: digest, at: new(int64)}}
		bytes, err = into.Copy(ctx, plan.Table, beginning)
		rows.Close()
		if wide, ok := errors.AsType[*mapping.WidenError](err); ok {
			if err := into.Widen(ctx, plan.Table, wide.Column); err != nil {
				return 0, 0, err
			}
			continue
		}
		if err == nil {
			_, _, err = stored.Digest(ctx, plan.Table)
		}
		return time.Since(started).Seconds(), bytes, err
	}
}

// beginning ends tuples after sampleBytes. It implements sink.Tuples.
type beginning struct {
	tuples
	bytes int
}

// Append implements sink.Tuples.
func (b *beginning) Append(dst []byte) ([]byte, error) {
	if b.bytes > sampleBytes {
		return dst, io.EOF
	}
	out, err := b.tuples.Append(dst)
	b.bytes += len(out) - len(dst)
	return out, err
}

// roughly says a time as somebody would who waits for it.
func roughly(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return "a second"
	case d < time.Minute:
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Second).String()
}
