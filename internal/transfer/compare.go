package transfer

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
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

// comparer finds the rows of a table that differ between the state file and
// PostgreSQL. It divides both into buckets by the hash of the key, and reads only
// the rows of buckets that differ, at most maxRowsInMemory at a time (or one
// bucket, if that has more).
type comparer struct {
	ctx        context.Context
	extraction *extraction
	stored     *source.DatabaseSnapshot
	table      *mapping.Table
	// writers are the transactions of the migration; nil if unknown.
	writers      map[int64]bool
	onDifference func(report.Difference)
	// same reports whether unequal cells have the same meaning. If it is nil, only
	// equal cells do. mine and other are nil for NULL.
	same     func(kind mapping.Kind, mine, other []byte) bool
	onChange func(rowChange) error // called for each row that differs, after onDifference; may be nil
	rows     int64                 // number of rows that differ

	encoder mapping.RowEncoder
	buf     []byte
	pending []pendingRow // rows to be compared cell by cell
	bytes   int          // of their encodings
}

// run calls onDifference for each difference.
func (c *comparer) run() error {
	wrong, err := c.buckets()
	if err != nil {
		return err
	}
	for len(wrong) > 0 {
		rows, n := int64(0), 0
		var chunk []int32
		for n < len(wrong) && (n == 0 || rows+wrong[n].Rows <= maxRowsInMemory) {
			rows += wrong[n].Rows
			chunk = append(chunk, int32(wrong[n].At))
			n++
		}
		wrong = wrong[n:]
		if err := c.chunk(chunk); err != nil {
			return err
		}
	}
	return nil
}

// buckets returns the buckets in which the two sides differ, with the number of
// rows of the larger side.
func (c *comparer) buckets() ([]source.Bucket, error) {
	mine := make([]mapping.Sum, mapping.Buckets)
	err := c.extraction.replayTable(c.ctx, c.table.Name, func(tuple []byte, _ int64) error {
		c.buf = c.encoder.Append(c.buf[:0], c.table, tuple)
		mine[mapping.BucketOf([]byte(mapping.EncodingKey(c.table, c.buf)))].Add(mapping.HashEncoding(c.buf))
		return nil
	})
	if err != nil {
		return nil, err
	}
	theirs := make([]source.Bucket, mapping.Buckets)
	empty := new(mapping.Sum).String()
	for i := range theirs {
		theirs[i] = source.Bucket{At: i, Digest: empty}
	}
	if err := c.stored.Buckets(c.ctx, c.table, func(b source.Bucket) { theirs[b.At] = b }); err != nil {
		return nil, err
	}
	var wrong []source.Bucket
	for _, b := range theirs {
		if own := &mine[b.At]; own.Rows != b.Rows || own.String() != b.Digest {
			b.Rows = max(b.Rows, own.Rows)
			wrong = append(wrong, b)
		}
	}
	return wrong, nil
}

// chunk compares the rows of some buckets.
func (c *comparer) chunk(buckets []int32) error {
	rows := map[string][]source.StoredRow{}
	err := c.stored.Rows(c.ctx, c.table, buckets, func(r source.StoredRow) { rows[r.Key] = append(rows[r.Key], r) })
	if err != nil {
		return err
	}
	err = c.extraction.replayTable(c.ctx, c.table.Name, func(tuple []byte, rowid int64) error {
		c.buf = c.encoder.Append(c.buf[:0], c.table, tuple)
		key := mapping.EncodingKey(c.table, c.buf)
		if _, ok := slices.BinarySearch(buckets, int32(mapping.BucketOf([]byte(key)))); !ok {
			return nil
		}
		have := rows[key]
		hash := mapping.HashEncoding(c.buf)
		at := slices.IndexFunc(have, func(r source.StoredRow) bool { return r.Hash == hash })
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
			c.rows++
			c.onDifference(
				report.Difference{Table: c.table.Name, Key: key, Kind: report.RowExtra, Since: c.since(r.Writer)},
			)
			extra = append(extra, key)
		}
	}
	if c.onChange == nil {
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
			change := rowChange{kind: report.RowExtra, key: key, rowid: noRow, stored: encodings[key][0]}
			if err := c.onChange(change); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowChange is a row that differs.
type rowChange struct {
	kind    string
	key     string
	rowid   int64  // in the file; noRow if the file has no such row
	columns []int  // columns that differ, if both sides have the row
	stored  []byte // the encoding in PostgreSQL; nil if it does not have the row
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
func (c *comparer) since(writer int64) bool { return c.writers != nil && !c.writers[writer] }

// missing reports a row of the file that PostgreSQL does not have. If there is a
// receipt the row was deleted after the commit, since rows were counted then.
func (c *comparer) missing(key string, rowid int64) error {
	c.rows++
	c.onDifference(
		report.Difference{
			Table:   c.table.Name,
			Key:     key,
			Kind:    report.RowMissing,
			Since:   c.writers != nil,
			Derived: rowid == noRow,
		},
	)
	if c.onChange == nil {
		return nil
	}
	return c.onChange(rowChange{kind: report.RowMissing, key: key, rowid: rowid})
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
	mine, other := mapping.Cells(a.encoding), mapping.Cells(theirs[0])
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
		d.InFile, d.InPostgres = mapping.FormatCells(column.Kind, mine[i], other[i])
		c.onDifference(d)
	}
	if !explained {
		c.inconsistent(a, "differs between two reads")
	}
	if len(differs) == 0 {
		return nil
	}
	c.rows++
	if c.onChange == nil {
		return nil
	}
	return c.onChange(
		rowChange{kind: report.CellDiffer, key: a.key, rowid: a.rowid, columns: differs, stored: theirs[0]},
	)
}

// sameCell reports whether unequal cells have the same meaning.
func (c *comparer) sameCell(kind mapping.Kind, mine, other []byte) (bool, error) {
	if c.same != nil && c.same(kind, mine, other) {
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
	c.rows++
	c.onDifference(
		report.Difference{
			Table:      c.table.Name,
			Key:        a.key,
			Kind:       report.CellDiffer,
			InFile:     "the row",
			InPostgres: "a row that " + what,
		},
	)
}
