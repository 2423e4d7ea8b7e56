// Package compare compares what an extraction found in a state file with the rows
// that PostgreSQL stored, and finds the rows that differ.
package compare

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"runtime/debug"
	"slices"

	"flujo-port/internal/extract"
	"flujo-port/internal/jsonb"
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
	// OnRow is called for each row that differs, after OnDifference; it may be nil. It must
	// not use the connection, nor keep the row's encoding.
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
	Stored  []byte // the encoding in PostgreSQL, valid until OnRow returns; nil if it does not have the row
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
	debug.FreeOSMemory() // what was read before may have been long
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
	json    jsonb.Canonicalizer
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
		c.encode(tuple)
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
			if sums[at] == (rowdigest.Sum{}) { // most buckets of a small table
				continue
			}
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
	if size := cap(c.buf); size > longCell {
		c.buf = nil
		freeAfter(size)
	}
	rows := map[string][]postgres.StoredRow{}
	err := c.stored.Rows(c.ctx, c.table, buckets, func(r postgres.StoredRow) { rows[r.Key] = append(rows[r.Key], r) })
	if err != nil {
		return err
	}
	err = c.file.Replay(c.ctx, c.table.Name, func(tuple []byte, rowid int64) error {
		// Not before the next row, since the file's row is in memory until then.
		if len(c.pending) >= maxPending || c.bytes >= maxPendingBytes {
			if err := c.comparePending(); err != nil {
				return err
			}
		}
		c.encode(tuple)
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
			c.enqueue(key, rowid, have[0].Writer)
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
	return c.extra(rows)
}

// extra reports the rows that only PostgreSQL has.
func (c *comparer) extra(rows map[string][]postgres.StoredRow) error {
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
	for keys := range slices.Chunk(extra, maxPending) {
		done := map[string]bool{} // a key that is not found is reported by the verification
		err := c.stored.Encodings(c.ctx, c.table, keys, func(key string, encoding []byte) error {
			if done[key] {
				return nil
			}
			done[key] = true
			return c.options.OnRow(Row{Kind: report.RowExtra, Key: key, RowID: extract.NoRow, Stored: encoding})
		})
		if err != nil {
			return err
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
	compared bool
}

// encode sets buf to the encoding of a row of the file.
func (c *comparer) encode(tuple []byte) {
	if cap(c.buf) > maxPendingBytes {
		c.buf = nil // a long row's buffer is not used again
	}
	c.buf = c.encoder.Append(c.buf[:0], c.table, tuple)
}

// enqueue adds the row whose encoding is in buf to the rows to compare cell by
// cell.
func (c *comparer) enqueue(key string, rowid, writer int64) {
	row := pendingRow{key: key, rowid: rowid, writer: writer, encoding: c.buf}
	if len(c.buf) > maxPendingBytes {
		c.buf = nil // too long for a copy
	} else {
		row.encoding = slices.Clone(c.buf)
	}
	c.pending = append(c.pending, row)
	c.bytes += len(row.encoding)
}

// comparePending compares the pending rows cell by cell, and reports them in their order.
// But for OnRow a row of PostgreSQL is compared while it is in the connection's buffer, if
// the server need not be asked, so that there is no copy of it.
func (c *comparer) comparePending() error {
	list := c.pending
	if len(list) == 0 {
		return nil
	}
	freeAfter(c.bytes)
	c.pending, c.bytes = nil, 0
	var keys []string
	waiting := map[string]*pendingRow{}
	for i := range list {
		keys = append(keys, list[i].key)
		waiting[list[i].key] = &list[i]
	}
	theirs := map[string][]byte{}
	err := c.stored.Encodings(c.ctx, c.table, keys, func(key string, encoding []byte) error {
		a := waiting[key]
		if a == nil || a.compared || theirs[key] != nil {
			return nil // a row with the same key, without the primary key
		}
		if c.options.OnRow != nil {
			err := c.cells(a, encoding, false)
			if !errors.Is(err, errUndecided) {
				a.compared = true
				return err
			}
		}
		theirs[key] = bytes.Clone(encoding)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range list {
		a := &list[i]
		switch encoding := theirs[a.key]; {
		case a.compared:
		case encoding == nil:
			c.inconsistent(a, "exists but is not found by its key: an index is damaged")
		default:
			if err := c.cells(a, encoding, true); err != nil {
				return err
			}
		}
		a.encoding = nil
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

// errUndecided is returned by cells if only the server can tell whether two cells are equal.
var errUndecided = errors.New("only the server can tell whether two cells are equal")

// cells reports the columns in which a row differs from PostgreSQL's, whose encoding is
// theirs. If ask is not set and a question to the server is needed, it reports nothing and
// returns errUndecided. If no cell differs although the hashes do, the database is damaged,
// which is a difference too.
func (c *comparer) cells(a *pendingRow, theirs []byte, ask bool) error {
	mine, other := rowdigest.Cells(a.encoding), rowdigest.Cells(theirs)
	var differs []int
	explained := false // a cell explains why the hashes differ
	for i, column := range c.table.Columns {
		if bytes.Equal(mine[i], other[i]) && (mine[i] == nil) == (other[i] == nil) {
			continue
		}
		same, err := c.sameCell(column.Kind, mine[i], other[i], ask)
		if err != nil {
			return err
		}
		if explained = true; !same {
			differs = append(differs, i)
		}
	}
	if !explained {
		c.inconsistent(a, "differs between two reads")
	}
	if len(differs) == 0 {
		return nil
	}
	c.differing++
	for _, i := range differs {
		column := &c.table.Columns[i]
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
	if c.options.OnRow == nil {
		return nil
	}
	a.encoding = nil
	freeAfter(len(theirs))
	return c.options.OnRow(
		Row{Kind: report.CellDiffer, Key: a.key, RowID: a.rowid, Columns: differs, Stored: theirs},
	)
}

// sameCell reports whether unequal cells have the same meaning. If only the server can
// tell, and ask is not set, the error is errUndecided.
func (c *comparer) sameCell(kind mapping.Kind, mine, other []byte, ask bool) (bool, error) {
	if c.options.Same != nil && c.options.Same(kind, mine, other) {
		return true, nil
	}
	if kind != mapping.KindJSON || mine == nil || other == nil {
		return false, nil
	}
	// For the caller that takes PostgreSQL's value of a row that differs, it is enough that
	// the program prints both as they are printed here. If that is an error, the caller takes
	// an equal value. To ask the server about a long cell needs more than twice its memory.
	if c.options.OnRow != nil && c.json.IsCanonical(mine[1:]) && c.json.IsCanonical(other[1:]) {
		return false, nil
	}
	if !ask {
		return false, errUndecided
	}
	return c.stored.SameJSON(c.ctx, mine[1:], other)
}

// longCell is the size in bytes from which on the memory for a cell counts.
const longCell = 16 << 20

// freeAfter frees memory that is no longer used, if size bytes are much of it: otherwise
// the garbage of one step lasts while the next one allocates.
func freeAfter(size int) {
	if size > longCell {
		debug.FreeOSMemory()
	}
}

// inconsistent reports a row that PostgreSQL returns inconsistently.
func (c *comparer) inconsistent(a *pendingRow, what string) {
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
