package transfer

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"

	"github.com/dustin/go-humanize/english"
)

// The modes of verification before the commit.
const (
	VerifyContent = "content" // every cell is compared
	VerifyCounts  = "counts"  // rows are counted
)

// printedDifferently is the note on a table whose digests differ although its rows
// are equal: this program and the server print some JSON differently.
const printedDifferently = "%s was compared row by row, because its digests differ; all rows are equal"

// verifyRows compares what the server stored with the file, in the transaction
// that wrote it.
func (m *migration) verifyRows(ctx context.Context) error {
	if m.merger != nil {
		return m.checkMerge(ctx)
	}
	if m.Verify == VerifyCounts {
		return m.compareCounts(ctx)
	}
	stored, err := m.stored(ctx)
	if err != nil {
		return err
	}
	for i := range m.report.Tables {
		row := &m.report.Tables[i]
		m.progress(Progress{Phase: PhaseVerify, Table: row.Name, All: m.rowsDone, Rest: m.totalRows - m.rowsDone})
		if err := m.compareTable(ctx, stored, row); err != nil {
			return err
		}
	}
	if err := m.compareOriginals(ctx, stored); err != nil {
		return err
	}
	return m.mismatchError()
}

// stored returns a snapshot of what the transaction has written.
func (m *migration) stored(ctx context.Context) (*source.DatabaseSnapshot, error) {
	return source.InTransaction(ctx, m.tx.Conn, m.sinkSchema.Tables(), m.types, m.sinkSchema.VectorSchema())
}

// compareTable compares a table's digests, and its rows if the digests differ.
func (m *migration) compareTable(ctx context.Context, stored *source.DatabaseSnapshot, row *report.Table) (err error) {
	table := m.format.Mapping(row.Name).Table
	if row.InPostgres, row.Digest, err = stored.Digest(ctx, table); err != nil {
		return err
	}
	mine := cmp.Or(m.digests[row.Name], mapping.NewDigest(table))
	if row.Match = row.InPostgres == mine.Rows && row.Digest == mine.String(); row.Match {
		return nil
	}
	c := comparer{ctx: ctx, extraction: m.extraction, stored: stored, table: table, onDifference: m.recordDifference}
	if err := c.run(); err != nil {
		return err
	}
	if row.Match = c.rows == 0; row.Match {
		m.note(printedDifferently, row.Name)
	}
	m.report.Differing += c.rows
	return nil
}

// recordDifference adds a difference to the report.
func (m *migration) recordDifference(d report.Difference) {
	if m.OnDifference != nil {
		m.OnDifference(d)
	}
	shown := 0
	for _, other := range m.report.Differences {
		if other.Table == d.Table {
			shown++
		}
	}
	if shown < report.FirstDifferences {
		m.report.Differences = append(m.report.Differences, d)
	}
}

// mismatchError returns a clierr.Mismatch error if rows differ from the file.
func (m *migration) mismatchError() error {
	if m.report.Differing == 0 {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Mismatch,
		Message: fmt.Sprintf("%s; first: %s", rowsDiffer(m.report.Differing), m.report.Differences[0]),
		Hint:    changedRowsHint,
	}
}

// changedRowsHint is the hint if rows change on their way into a table.
const changedRowsHint = "look for triggers or rules that change rows of these tables, and run again"

// rowsDiffer returns the message for n rows that differ from the state file.
func rowsDiffer(n int64) string {
	return english.Plural(int(n), "row in PostgreSQL differs", "rows in PostgreSQL differ") + " from the state file"
}

// compareOriginals compares the stored original values with those that were sent.
func (m *migration) compareOriginals(ctx context.Context, stored *source.DatabaseSnapshot) error {
	mine := m.digests[mapping.Originals.Name]
	if mine == nil {
		return nil
	}
	rows, digest, err := stored.Digest(ctx, &mapping.Originals)
	if err != nil || rows == mine.Rows && digest == mine.String() {
		return err
	}
	m.report.Differing++
	m.recordDifference(report.Difference{
		Table:      mapping.Originals.Name,
		Kind:       report.CellDiffer,
		InFile:     fmt.Sprintf("%d original values", mine.Rows),
		InPostgres: fmt.Sprintf("%d, not all equal", rows),
	})
	return nil
}

// compareCounts compares the number of rows of each table in PostgreSQL with the
// expected number.
func (m *migration) compareCounts(ctx context.Context) error {
	stored, err := m.stored(ctx)
	if err != nil {
		return err
	}
	var wrong []string
	for i := range m.report.Tables {
		row := &m.report.Tables[i]
		if row.InPostgres, err = stored.Count(ctx, tableOf(row.Name)); err != nil {
			return err
		}
		want := row.RowsRead - row.Rejected + row.Derived
		row.Match = row.InPostgres == want
		if !row.Match {
			wrong = append(wrong, fmt.Sprintf("%s has %d instead of %d", row.Name, row.InPostgres, want))
		}
	}
	if m.report.Originals > 0 {
		n, err := stored.Count(ctx, &mapping.Originals)
		if err != nil {
			return err
		}
		if n != m.report.Originals {
			wrong = append(wrong, fmt.Sprintf("%s has %d instead of %d", mapping.Originals.Name, n, m.report.Originals))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Mismatch,
		Message: "row counts in PostgreSQL differ from the state file: " + strings.Join(wrong, ", "),
		Hint:    changedRowsHint,
	}
}
