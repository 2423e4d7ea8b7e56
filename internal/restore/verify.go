package restore

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime/debug"

	"flujo-port/internal/clierr"
	"flujo-port/internal/compare"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/source"

	"github.com/dustin/go-humanize/english"
)

// verify extracts the new file and compares the result with PostgreSQL.
func (r *restoration) verify(ctx context.Context) error {
	r.options.OnProgress.Start(progress.Verify)
	debug.FreeOSMemory() // lowers peak memory: long cells were held to write them, and are read next
	snapshot, format, err := extract.Open(ctx, r.file.Path())
	if err != nil {
		return err
	}
	defer snapshot.Close()
	file, err := r.extract(ctx, snapshot, format, nil, nil)
	if err != nil {
		return err
	}
	for i := range r.result.Tables {
		row := &r.result.Tables[i]
		row.Match, row.FileDigest, row.Digest = true, file.Digest(row.Name).Sum, r.digests[row.Name].Sum
		err := r.compare(ctx, file, row.Name, func(d report.Difference) {
			row.Match = false
			r.result.Differing++
			if r.options.OnDifference != nil {
				r.options.OnDifference(d)
			}
			if len(r.result.Differences) < report.FirstDifferences {
				r.result.Differences = append(r.result.Differences, d)
			}
		}, nil)
		if err != nil {
			return err
		}
	}
	if r.result.File.SHA256, _, err = snapshot.SHA256(ctx); err != nil {
		return err
	}
	r.result.File.Bytes = snapshot.Size()
	if r.result.Differing == 0 {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Mismatch,
		Message: fmt.Sprintf("%s from PostgreSQL; first: %s",
			english.Plural(int(r.result.Differing), "row in the new file differs", "rows in the new file differ"),
			r.result.Differences[0]),
		Hint: "this is a bug in flujo-port: keep the database, and report the bug with the JSON report",
	}
}

// compare compares a table of a file with PostgreSQL's. It calls found with each
// difference that is not expected, and changed, unless it is nil, with each row
// that has one.
func (r *restoration) compare(
	ctx context.Context,
	file *extract.Result,
	name string,
	found func(report.Difference),
	changed func(compare.Row) error,
) error {
	if r.digests[name] == file.Digest(name) {
		return nil
	}
	table := mapping.TableOf(name)
	o := compare.Options{Same: sameToFlujo}
	reported := map[string]bool{} // key of the row of the last reported difference
	o.OnDifference = func(d report.Difference) {
		if r.expected.includes(d) {
			return
		}
		clear(reported)
		reported[d.Key] = true
		found(d)
	}
	if changed != nil {
		o.OnRow = func(row compare.Row) error {
			missing := report.Difference{
				Table: name, Key: row.Key, Kind: row.Kind, Derived: row.RowID == extract.NoRow}
			if row.Kind == report.CellDiffer && !reported[row.Key] ||
				row.Kind == report.RowMissing && r.expected.includes(missing) {
				return nil
			}
			return changed(row)
		}
	}
	_, err := compare.Rows(ctx, file, r.stored, table, o)
	return err
}

// extract extracts a state file with the settings of the migration. With the first file
// the server computes r.digests at the same time. integrity is the check of the file that
// runs beside it, or nil.
func (r *restoration) extract(
	ctx context.Context,
	snapshot *source.Snapshot,
	format *mapping.Format,
	onProgress progress.Func,
	integrity *source.Integrity,
) (*extract.Result, error) {
	config := r.migrated.Config(snapshot, format, r.stored.Types(), r.conversion)
	config.OnProgress = onProgress
	extraction := extract.New(snapshot, config)
	if r.digests != nil {
		result, err := extraction.Run(ctx, extract.Discard{})
		if err != nil {
			return nil, integrity.Explain(err)
		}
		return result, nil
	}
	result, digests, err := compare.ReadBoth(ctx, extraction, r.stored, integrity.Explain)
	r.digests = digests
	return result, err
}

// expectations are the differences between the new file and PostgreSQL that are
// unavoidable. The zero value has none.
type expectations struct {
	inferredTimes map[uint64]bool // cells with an inferred timestamp, by cellHash
	rejectedRows  map[uint64]bool // rejected rows, by cellHash
}

// inferredTime expects a difference in a cell whose timestamp was inferred. Its
// original value has none, so the verification infers it again from rows that may have
// changed.
func (e *expectations) inferredTime(table, key, column string) {
	if e.inferredTimes == nil {
		e.inferredTimes = map[uint64]bool{}
	}
	e.inferredTimes[cellHash(table, key, column)] = true
}

// rejectedRow expects that a row that was rejected may be accepted now.
func (e *expectations) rejectedRow(table, key string) {
	if e.rejectedRows == nil {
		e.rejectedRows = map[uint64]bool{}
	}
	e.rejectedRows[cellHash(table, key, "")] = true
}

// includes reports whether a difference is unavoidable.
func (e *expectations) includes(d report.Difference) bool {
	switch d.Kind {
	case report.RowMissing:
		// If PostgreSQL has spans and no trace, a trace is derived from the file.
		return d.Table == mapping.Traces && d.Derived || e.rejectedRows[cellHash(d.Table, d.Key, "")]
	case report.CellDiffer:
		return e.inferredTimes[cellHash(d.Table, d.Key, d.Column)]
	}
	return false
}

// sameToFlujo reports whether unequal cells have the same meaning to Flujo: JSON's
// null and NULL; zeros of either sign, since SQLite does not store the sign; and
// NULL in the file for NaN.
func sameToFlujo(kind mapping.Kind, mine, other []byte) bool {
	null := func(cell []byte) bool { return cell == nil || kind == mapping.KindJSON && string(cell[1:]) == "null" }
	zero := func(cell []byte) bool { return len(cell) == 8 && binary.BigEndian.Uint64(cell)<<1 == 0 }
	switch kind {
	case mapping.KindJSON:
		return null(mine) && null(other)
	case mapping.KindFloat4, mapping.KindFloat8:
		return zero(mine) && zero(other) ||
			mine == nil && len(other) == 8 && math.IsNaN(math.Float64frombits(binary.BigEndian.Uint64(other)))
	}
	return false
}
