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

// maxRowsInMemory is how many rows of a table, keys and hashes alone, are held at once
// while differences are looked for.
const maxRowsInMemory = 300_000

// Rows that both sides have and that differ are asked for together.
const (
	maxPending      = 200
	maxExtra        = 32 // of rows that only PostgreSQL has, whose size nobody knows
	maxPendingBytes = 4 << 20
)

// comparer finds the rows of a table that are not in PostgreSQL as the file
// has them. It holds no more than maxRowsInMemory rows, whatever their order is on
// either side: both are divided into buckets by their keys, and just the
// buckets that differ are read row by row.
type comparer struct {
	ctx        context.Context
	extraction *extraction
	stored     *source.DatabaseSnapshot
	table      *mapping.Table
	// writers are the transactions of the migration; nil when nobody knows.
	writers      map[int64]bool
	onDifference func(report.Difference)
	// same reports whether cells that are not equal mean the same all the same;
	// nil where only equal ones do. mine and other are nil for NULL.
	same     func(kind mapping.Kind, mine, other []byte) bool
	onChange func(rowChange) error // called for each row that differs, behind found; may be nil
	rows     int64                 // that differ

	encoder mapping.RowEncoder
	buf     []byte
	pending []pendingRow // rows to be compared cell by cell
	bytes   int          // of their encodings
}

// run calls found with every difference.
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

// buckets gives the buckets in which the two sides differ, with the rows of the
// larger side.
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
	var more []string
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		for _, r := range rows[key] {
			c.rows++
			c.onDifference(
				report.Difference{Table: c.table.Name, Key: key, Kind: report.RowExtra, Since: c.since(r.Writer)},
			)
			more = append(more, key)
		}
	}
	if c.onChange == nil {
		return nil
	}
	for some := range slices.Chunk(more, maxExtra) {
		encodings, err := c.stored.Encodings(c.ctx, c.table, some)
		if err != nil {
			return err
		}
		for _, key := range some {
			if len(encodings[key]) == 0 {
				continue // the verification will say so
			}
			if err := c.onChange(rowChange{kind: report.RowExtra, key: key, rowid: noRow, stored: encodings[key][0]}); err != nil {
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
	rowid   int64  // in the file; noRow where it has no such row
	columns []int  // that differ, of a row that both sides have
	stored  []byte // the encoding that PostgreSQL has, where it has one
}

// pendingRow is a row that both sides have, and not the same.
type pendingRow struct {
	key      string
	rowid    int64
	writer   int64
	encoding []byte // that the file makes of it
}

// enqueue puts the row whose encoding is in buf on the list of those to be compared
// cell by cell.
func (c *comparer) enqueue(key string, rowid, writer int64) error {
	c.pending = append(c.pending, pendingRow{key: key, rowid: rowid, writer: writer, encoding: slices.Clone(c.buf)})
	c.bytes += len(c.buf)
	if len(c.pending) < maxPending && c.bytes < maxPendingBytes {
		return nil
	}
	return c.comparePending()
}

// comparePending compares the rows on the list.
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

// missing tells of a row of the file that PostgreSQL does not have. At the commit
// it was there, since the rows were counted then.
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

// cells names the columns in which a row differs. Where it is only the way in
// which JSON is printed, the server has the last word, and there is none. A row
// whose digests differ has to differ somewhere: where that is not to be found, or
// the row itself is not by its key, the database is not sound, and that is a
// difference too.
func (c *comparer) cells(a pendingRow, theirs [][]byte) error {
	if len(theirs) == 0 {
		c.inconsistent(a, "exists but is not found by its key: an index is damaged")
		return nil
	}
	mine, other := mapping.Cells(a.encoding), mapping.Cells(theirs[0])
	var differs []int
	explained := false
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

// sameCell reports whether cells that are not equal mean the same.
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

// inconsistent tells of a row of which PostgreSQL says different things.
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
