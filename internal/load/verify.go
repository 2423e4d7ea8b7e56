package load

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/compare"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"

	"github.com/dustin/go-humanize/english"
)

// Verified is the result of a verification.
type Verified struct {
	Tables      []VerifiedTable // in the order of the findings
	Differing   int64           // rows
	Differences []report.Difference
	Notes       []string
}

// VerifiedTable is the result for one table.
type VerifiedTable struct {
	Name   string
	Stored rowdigest.Digest // its Sum is empty if rows were counted
	Match  bool
	// Of a merge: the numbers of rows of the file, derived ones included, that were not stored,
	// and of the rows that the table held before and still holds.
	NotStored, HeldBefore int64
}

// Digests returns the digests of the stored rows, by table.
func (v *Verified) Digests() map[string]rowdigest.Digest {
	all := map[string]rowdigest.Digest{}
	for _, t := range v.Tables {
		all[t.Name] = t.Stored
	}
	return all
}

// Verify compares what the server stored with the file. If rows differ, Verify
// returns the result and a clierr.Mismatch.
func (l *Loaded) Verify(ctx context.Context, stored *postgres.Snapshot, o Options) (*Verified, error) {
	v := &Verified{}
	if o.Verify == report.VerifyCounts {
		return v, l.verifyCounts(ctx, stored, v, o.Elsewhere)
	}
	differences := &differences{verified: v, each: o.OnDifference}
	for _, row := range l.File.Findings.Tables {
		if o.Elsewhere[row.Name] {
			v.Tables = append(v.Tables, VerifiedTable{Name: row.Name, Stored: l.File.Digest(row.Name), Match: true})
			continue
		}
		o.OnProgress.Report(progress.Event{Phase: progress.Verify, Table: row.Name})
		if err := l.verifyTable(ctx, stored, row.Name, differences); err != nil {
			return nil, err
		}
	}
	if err := l.verifyOriginals(ctx, stored, differences); err != nil {
		return nil, err
	}
	if v.Differing == 0 {
		return v, nil
	}
	return v, &clierr.Error{
		Kind:    clierr.Mismatch,
		Message: fmt.Sprintf("%s; first: %s", RowsDiffer(v.Differing), v.Differences[0]),
		Hint:    ChangedRowsHint,
	}
}

// ChangedRowsHint is the hint if rows change on their way into a table.
const ChangedRowsHint = "look for triggers or rules that change rows of these tables, and run again"

// RowsDiffer returns the message for n rows that differ from the state file.
func RowsDiffer(n int64) string {
	return english.Plural(int(n), "row in PostgreSQL differs", "rows in PostgreSQL differ") + " from the state file"
}

// differences records the first differences of each table.
type differences struct {
	verified *Verified
	each     func(report.Difference) // may be nil
}

func (d *differences) add(one report.Difference) {
	if d.each != nil {
		d.each(one)
	}
	shown := 0
	for _, other := range d.verified.Differences {
		if other.Table == one.Table {
			shown++
		}
	}
	if shown < report.FirstDifferences {
		d.verified.Differences = append(d.verified.Differences, one)
	}
}

// verifyTable compares a table's digests, and its rows if the digests differ.
func (l *Loaded) verifyTable(ctx context.Context, stored *postgres.Snapshot, name string, found *differences) error {
	table := mapping.TableOf(name)
	digest, err := stored.Digest(ctx, table)
	if err != nil {
		return err
	}
	v, result := found.verified, VerifiedTable{Name: name, Stored: digest, Match: digest == l.File.Digest(name)}
	if !result.Match {
		differing, err := compare.Rows(ctx, l.File, stored, table, compare.Options{OnDifference: found.add})
		if err != nil {
			return err
		}
		if result.Match = differing == 0; result.Match {
			v.Notes = append(v.Notes, fmt.Sprintf(compare.PrintedDifferently, name))
		}
		v.Differing += differing
	}
	v.Tables = append(v.Tables, result)
	return nil
}

// verifyOriginals compares the stored original values with those that were sent.
func (l *Loaded) verifyOriginals(ctx context.Context, stored *postgres.Snapshot, found *differences) error {
	if l.Originals == 0 {
		return nil
	}
	digest, err := stored.Digest(ctx, &mapping.Originals)
	if err != nil || digest == l.OriginalsDigest {
		return err
	}
	found.verified.Differing++
	found.add(report.Difference{
		Table:      mapping.Originals.Name,
		Kind:       report.CellDiffer,
		InFile:     fmt.Sprintf("%d original values", l.Originals),
		InPostgres: fmt.Sprintf("%d, not all equal", digest.Rows),
	})
	return nil
}

// verifyCounts compares the number of rows of each table with the expected number.
func (l *Loaded) verifyCounts(
	ctx context.Context, stored *postgres.Snapshot, v *Verified, elsewhere map[string]bool,
) error {
	var wrong []string
	count := func(table *mapping.Table, want int64) (int64, error) {
		n, err := stored.Count(ctx, table)
		if err == nil && n != want {
			wrong = append(wrong, fmt.Sprintf("%s has %d instead of %d", table.Name, n, want))
		}
		return n, err
	}
	for _, row := range l.File.Findings.Tables {
		want := row.RowsRead - row.Rejected + row.Derived
		if elsewhere[row.Name] {
			v.Tables = append(v.Tables, VerifiedTable{
				Name: row.Name, Stored: rowdigest.Digest{Rows: want}, Match: true})
			continue
		}
		n, err := count(mapping.TableOf(row.Name), want)
		if err != nil {
			return err
		}
		v.Tables = append(v.Tables, VerifiedTable{
			Name: row.Name, Stored: rowdigest.Digest{Rows: n}, Match: n == want})
	}
	if l.Originals > 0 {
		if _, err := count(&mapping.Originals, l.Originals); err != nil {
			return err
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Mismatch,
		Message: "row counts in PostgreSQL differ from the state file: " + strings.Join(wrong, ", "),
		Hint:    ChangedRowsHint,
	}
}
