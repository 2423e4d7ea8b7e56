// Package compare compares what an extraction found in a state file with the rows
// that PostgreSQL stored, and finds the rows that differ.
package compare

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
)

// maxRowsInMemory is the number of rows whose keys and hashes are held in memory
// during a comparison.
const maxRowsInMemory = 300_000

// Limits of the rows that are fetched from PostgreSQL with one query.
const (
	maxPending      = 200
	maxExtra        = 32 // rows that only PostgreSQL has, whose size is unknown
	maxPendingBytes = 4 << 20
)

// Options say what a comparison considers and where it reports differences.
type Options struct {
	// Writers are the transactions of the migration; nil if unknown. Rows of other
	// transactions were written since.
	Writers map[int64]bool
	// Same reports whether unequal cells have the same meaning. If it is nil, only
	// equal cells do. inFile and stored are nil for NULL.
	Same func(kind mapping.Kind, inFile, stored []byte) bool
	// OnDifference is called for each row that only one side has, and for each cell
	// that differs.
	OnDifference func(report.Difference)
	// OnRow is called for each row that differs, after OnDifference; it may be nil.
	OnRow func(Row) error
}

// PrintedDifferently is the note on a table whose digests differ although its rows
// are equal: this program and the server print some JSON differently.
const PrintedDifferently = "%s was compared row by row, because its digests differ; all rows are equal"

// Row is a row that differs.
type Row struct {
	Kind    string // of report.Difference
	Key     string
	RowID   int64  // in the file; extract.NoRow if the file has no such row
	Columns []int  // columns that differ, if both sides have the row
	Stored  []byte // the encoding in PostgreSQL; nil if it does not have the row
}

// Rows compares the rows of a table one by one and returns the number of rows that
// differ. It divides both sides into buckets by the hash of the key, and reads only
// the rows of buckets that differ, at most maxRowsInMemory at a time (or one bucket,
// if that has more).
func Rows(
	ctx context.Context,
	file *extract.Result,
	stored *postgres.Snapshot,
	table *mapping.Table,
	o Options,
) (differing int64, err error) {
	c := comparer{ctx: ctx, file: file, stored: stored, table: table, options: o}
	wrong, err := c.buckets()
	if err != nil {
		return 0, err
	}
	for len(wrong) > 0 {
		rows, n := int64(0), 0
		var chunk []int32
		for n < len(wrong) && (n == 0 || rows+wrong[n].rows <= maxRowsInMemory) {
			rows += wrong[n].rows
			chunk = append(chunk, int32(wrong[n].at))
			n++
		}
		wrong = wrong[n:]
		if err := c.chunk(chunk); err != nil {
			return 0, err
		}
	}
	return c.differing, nil
}

// comparer is one run of Rows.
type comparer struct {
	ctx       context.Context
	file      *extract.Result
	stored    *postgres.Snapshot
	table     *mapping.Table
	options   Options
	differing int64

	encoder rowdigest.Encoder
	buf     []byte
	pending []pendingRow // rows to be compared cell by cell
	bytes   int          // of their encodings
}

// bucket is a bucket in which the two sides differ.
type bucket struct {
	at   int   // rowdigest.BucketOf of the rows' keys
	rows int64 // of the larger side
}

// buckets returns the buckets in which the two sides differ.
func (c *comparer) buckets() ([]bucket, error) {
	sums := make([]rowdigest.Sum, rowdigest.Buckets)
	err := c.file.Replay(c.ctx, c.table.Name, func(tuple []byte, _ int64) error {
		c.buf = c.encoder.Append(c.buf[:0], c.table, tuple)
		sums[rowdigest.BucketOf(rowdigest.Key(c.table, c.buf))].Add(rowdigest.Hash(c.buf))
		return nil
	})
	if err != nil {
		return nil, err
	}
	theirs := make(map[int]rowdigest.Digest)
	err = c.stored.Buckets(c.ctx, c.table, func(at int, d rowdigest.Digest) { theirs[at] = d })
	if err != nil {
		return nil, err
	}
	var wrong []bucket
	for at := range sums {
		other, ok := theirs[at]
		if !ok {
			other = rowdigest.Empty
		}
		if mine := sums[at].Digest(); mine != other {
			wrong = append(wrong, bucket{at: at, rows: max(mine.Rows, other.Rows)})
		}
	}
	return wrong, nil
}

// chunk compares the rows of some buckets.
func (c *comparer) chunk(buckets []int32) error {
	rows := map[string][]postgres.StoredRow{}
	err := c.stored.Rows(c.ctx, c.table, buckets, func(r postgres.StoredRow) { rows[r.Key] = append(rows[r.Key], r) })
	if err != nil {
		return err
	}
	err = c.file.Replay(c.ctx, c.table.Name, func(tuple []byte, rowid int64) error {
		c.buf = c.encoder.Append(c.buf[:0], c.table, tuple)
		key := rowdigest.Key(c.table, c.buf)
		if _, ok := slices.BinarySearch(buckets, int32(rowdigest.BucketOf(key))); !ok {
			return nil
		}
		have := rows[key]
		hash := rowdigest.Hash(c.buf)
		at := slices.IndexFunc(have, func(r postgres.StoredRow) bool { return r.Hash == hash })
		switch {
		case len(have) == 0:
			return c.missing(key, rowid)
		case at < 0:
			at = 0
			if err := c.enqueue(key, rowid, have[0].Writer); err != nil {
				return err
			}
		}
		if rows[key] = slices.Delete(have, at, at+1); len(rows[key]) == 0 {
			delete(rows, key)
		}
		return nil
	})
	if err == nil {
		err = c.comparePending()
	}
	if err != nil {
		return err
	}
	var extra []string
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		for _, r := range rows[key] {
			c.differing++
			c.options.OnDifference(
				report.Difference{Table: c.table.Name, Key: key, Kind: report.RowExtra, Since: c.since(r.Writer)},
			)
			extra = append(extra, key)
		}
	}
	if c.options.OnRow == nil {
		return nil
	}
	for keys := range slices.Chunk(extra, maxExtra) {
		encodings, err := c.stored.Encodings(c.ctx, c.table, keys)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if len(encodings[key]) == 0 {
				continue // the verification reports this
			}
			change := Row{Kind: report.RowExtra, Key: key, RowID: extract.NoRow, Stored: encodings[key][0]}
			if err := c.options.OnRow(change); err != nil {
				return err
			}
		}
	}
	return nil
}

// pendingRow is a row that both sides have and that differs.
type pendingRow struct {
	key      string
	rowid    int64
	writer   int64
	encoding []byte // of the file's row
}

// enqueue adds the row whose encoding is in buf to the rows to compare cell by
// cell.
func (c *comparer) enqueue(key string, rowid, writer int64) error {
	c.pending = append(c.pending, pendingRow{key: key, rowid: rowid, writer: writer, encoding: slices.Clone(c.buf)})
	c.bytes += len(c.buf)
	if len(c.pending) < maxPending && c.bytes < maxPendingBytes {
		return nil
	}
	return c.comparePending()
}

// comparePending compares the pending rows cell by cell.
func (c *comparer) comparePending() error {
	list := c.pending
	c.pending, c.bytes = nil, 0
	if len(list) == 0 {
		return nil
	}
	keys := make([]string, len(list))
	for i, a := range list {
		keys[i] = a.key
	}
	encodings, err := c.stored.Encodings(c.ctx, c.table, keys)
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := c.cells(a, encodings[a.key]); err != nil {
			return err
		}
	}
	return nil
}

// since reports whether a row was written after the migration.
func (c *comparer) since(writer int64) bool {
	return c.options.Writers != nil && !c.options.Writers[writer]
}

// missing reports a row of the file that PostgreSQL does not have. If there is a
// receipt the row was deleted after the commit, since rows were counted then.
func (c *comparer) missing(key string, rowid int64) error {
	c.differing++
	c.options.OnDifference(
		report.Difference{
			Table:   c.table.Name,
			Key:     key,
			Kind:    report.RowMissing,
			Since:   c.options.Writers != nil,
			Derived: rowid == extract.NoRow,
		},
	)
	if c.options.OnRow == nil {
		return nil
	}
	return c.options.OnRow(Row{Kind: report.RowMissing, Key: key, RowID: rowid})
}

// cells reports the columns in which a row differs. The server decides whether
// JSON cells that are printed differently are equal. If no cell differs although
// the hashes do, or if the row is not found by its key, the database is damaged,
// which is a difference too.
func (c *comparer) cells(a pendingRow, theirs [][]byte) error {
	if len(theirs) == 0 {
		c.inconsistent(a, "exists but is not found by its key: an index is damaged")
		return nil
	}
	mine, other := rowdigest.Cells(a.encoding), rowdigest.Cells(theirs[0])
	var differs []int
	explained := false // a cell explains why the hashes differ
	for i, column := range c.table.Columns {
		if bytes.Equal(mine[i], other[i]) && (mine[i] == nil) == (other[i] == nil) {
			continue
		}
		same, err := c.sameCell(column.Kind, mine[i], other[i])
		if err != nil {
			return err
		}
		if explained = true; same {
			continue
		}
		differs = append(differs, i)
		d := report.Difference{
			Table:  c.table.Name,
			Key:    a.key,
			Column: column.Name,
			Kind:   report.CellDiffer,
			Since:  c.since(a.writer),
		}
		d.InFile, d.InPostgres = formatCells(column.Kind, mine[i], other[i])
		c.options.OnDifference(d)
	}
	if !explained {
		c.inconsistent(a, "differs between two reads")
	}
	if len(differs) == 0 {
		return nil
	}
	c.differing++
	if c.options.OnRow == nil {
		return nil
	}
	return c.options.OnRow(
		Row{Kind: report.CellDiffer, Key: a.key, RowID: a.rowid, Columns: differs, Stored: theirs[0]},
	)
}

// sameCell reports whether unequal cells have the same meaning.
func (c *comparer) sameCell(kind mapping.Kind, mine, other []byte) (bool, error) {
	if c.options.Same != nil && c.options.Same(kind, mine, other) {
		return true, nil
	}
	if kind != mapping.KindJSON || mine == nil || other == nil {
		return false, nil
	}
	form, err := c.stored.JSONB(c.ctx, mine[1:])
	return bytes.Equal(form, other), err
}

// inconsistent reports a row that PostgreSQL returns inconsistently.
func (c *comparer) inconsistent(a pendingRow, what string) {
	c.differing++
	c.options.OnDifference(
		report.Difference{
			Table:      c.table.Name,
			Key:        a.key,
			Kind:       report.CellDiffer,
			InFile:     "the row",
			InPostgres: "a row that " + what,
		},
	)
}
