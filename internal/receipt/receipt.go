// Package receipt holds the receipt of a migration: the record of what was migrated,
// which the migration writes to the database in its own transaction, and which
// verify and restore read.
package receipt

import (
	"slices"
	"time"

	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
)

// Receipt is the record of a migration.
type Receipt struct {
	ID         int64     // greater than those of earlier receipts in the schema
	MigratedAt time.Time // when the transaction began
	Version    string    // of flujo-port
	File       File
	FileFormat string
	Verify     string // "content" or "counts"
	Options    Options
	Tables     []Table
	// Findings are those of the report, without the keys of rows.
	Findings report.Findings
	// Elsewhere is set by All if the receipt was written in another database, as after
	// a dump and a restore, or a copy of the database. Then its writers are cleared, since
	// equal transaction ids mean nothing, so that every row that differs counts as written
	// since.
	Elsewhere bool
}

// File is the state file that was migrated.
type File struct {
	Path      string
	Bytes     int64
	SHA256    string // hex
	WALBytes  int64  // 0 without a -wal
	WALSHA256 string
	Modified  time.Time
}

// Options are the settings that determine how the state file is converted. A later
// comparison must use the same settings.
type Options struct {
	NaiveTimezone string `json:"naive_timezone"` // the name of a time zone
	JSONDepth     int    `json:"json_depth"`
	Quarantine    bool   `json:"quarantine"`
	// WrittenAt is the time at which the state file was written, in microseconds
	// since 2000-01-01 UTC. It is the last timestamp fallback.
	WrittenAt int64 `json:"written_at"`
	// ArchiveSchema is the schema that --replace moved the previous rows to;
	// empty if there were none.
	ArchiveSchema string `json:"archive_schema,omitempty"`
	// Merged reports whether the state file was merged with the rows of earlier files, or of
	// Flujo. There may have been none: then the tables have no Merged.
	Merged bool `json:"merged,omitempty"`
	// Originals identifies the original values of the file, without the keys of their rows,
	// which a merge may change. It is nil if only counts were compared, and in receipts of
	// earlier versions.
	Originals *Originals `json:"originals,omitempty"`
	// Origin is the database in which the receipt was written. Write determines it.
	Origin postgres.Origin `json:"origin"`
}

// Originals are the digest of original values.
type Originals struct {
	Rows   int64  `json:"rows"`
	Digest string `json:"digest"`
}

// Table describes one table at the time of the commit.
type Table struct {
	Name     string `json:"name"`
	RowsRead int64  `json:"rows_read"`
	Rejected int64  `json:"rejected"`
	Derived  int64  `json:"derived"`
	Rows     int64  `json:"rows"`
	Digest   string `json:"digest"` // of the rows in PostgreSQL; empty if only counts were compared
	// Writers are the xmin of the rows; after a merge only of those rows that came
	// from a state file.
	Writers []int64 `json:"writers"`
	// Merged is nil, except in the receipt of a merge.
	Merged *Merged `json:"merged,omitempty"`
}

// Merged describes a table that a state file was merged into.
type Merged struct {
	FileRows   int64   `json:"file_rows"`   // rows of the state file, derived ones included
	FileDigest string  `json:"file_digest"` // of FileRows; empty if only counts were compared
	Writers    []int64 `json:"writers"`     // the xmin of the rows that the merge wrote
	// Rewritten are the xmin of rows of earlier files, and of Flujo, that the server wrote
	// again before the merge, as columns got their types. It is unknown who wrote them.
	Rewritten []int64 `json:"rewritten"`
	// IDs are the ids of rows that the merge wrote with others than in the file. Their ids
	// in PostgreSQL are greater than any that the file has or had.
	IDs IDRanges `json:"ids"`
	// EqualIDs are the ids of rows of units that were equal, if they are others than in the
	// file.
	EqualIDs IDRanges `json:"equal_ids"`
	// SharedUnits is the number of the file's units of the kind with the table's name that
	// PostgreSQL had too. The originals say of each that it was equal or superseded.
	SharedUnits int64 `json:"shared_units"`
}

// Receipts are receipts in the order of their migrations.
type Receipts []*Receipt

// Last returns the receipt of the last migration, or nil if there is none.
func (all Receipts) Last() *Receipt {
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// OfFile returns the last receipt of the file with the given SHA-256, or nil.
func (all Receipts) OfFile(main, wal string) *Receipt {
	for _, r := range slices.Backward(all) {
		if r.SameFile(main, wal) {
			return r
		}
	}
	return nil
}

// ByID returns the receipt with an id, or nil.
func (all Receipts) ByID(id int64) *Receipt {
	for _, r := range all {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// Writers returns the receipt of each transaction that wrote rows of a table, by its id.
func (all Receipts) Writers(table string) map[int64]*Receipt {
	writers := map[int64]*Receipt{}
	for _, r := range all {
		for w := range r.Table(table).CopyWriters() {
			writers[w] = r
		}
	}
	return writers
}

// Rewritten returns the transactions as which rows of a table are stored whose writers are
// unknown, since a merge changed the type of a column.
func (all Receipts) Rewritten(table string) map[int64]bool {
	writers := map[int64]bool{}
	for _, r := range all {
		if merged := r.Table(table).Merged; merged != nil {
			for _, w := range merged.Rewritten {
				writers[w] = true
			}
		}
	}
	return writers
}

// forgetWriters clears the writers of all tables.
func (r *Receipt) forgetWriters() {
	r.Elsewhere = true
	for i := range r.Tables {
		r.Tables[i].Writers = []int64{}
		if r.Tables[i].Merged != nil {
			r.Tables[i].Merged.Writers, r.Tables[i].Merged.Rewritten = []int64{}, []int64{}
		}
	}
}

// CopyWriters returns the transactions whose rows must equal the file's. It is nil
// without a receipt, when t is nil.
func (t *Table) CopyWriters() map[int64]bool {
	if t == nil {
		return nil
	}
	all := t.Writers
	if t.Merged != nil {
		all = t.Merged.Writers
	}
	return set(all)
}

// AllWriters returns the transactions of this migration and of earlier ones whose rows
// were not changed. It is empty without a receipt, when t is nil.
func (t *Table) AllWriters() map[int64]bool {
	if t == nil {
		return map[int64]bool{}
	}
	return set(t.Writers)
}

func set(all []int64) map[int64]bool {
	s := map[int64]bool{}
	for _, one := range all {
		s[one] = true
	}
	return s
}

// OfFile returns the digest of the rows that the state file has for the table,
// derived rows included. Its Sum is empty if only counts were compared.
func (t *Table) OfFile() rowdigest.Digest {
	if t.Merged != nil {
		return rowdigest.Digest{Rows: t.Merged.FileRows, Sum: t.Merged.FileDigest}
	}
	return t.Stored()
}

// Stored returns the digest of the rows that PostgreSQL had at the commit.
func (t *Table) Stored() rowdigest.Digest { return rowdigest.Digest{Rows: t.Rows, Sum: t.Digest} }

// HasOriginals reports whether the digest of a file's original values, without their origin, may be that of the
// receipt's file. It is true if the receipt does not tell.
func (r *Receipt) HasOriginals(d rowdigest.Digest) bool {
	was := r.Options.Originals
	return was == nil || *was == Originals{Rows: d.Rows, Digest: d.Sum}
}

// Table returns the named table. A table that the receipt does not have did not
// exist, so it has no rows. Without a receipt Table returns nil.
func (r *Receipt) Table(name string) *Table {
	if r == nil {
		return nil
	}
	for i := range r.Tables {
		if r.Tables[i].Name == name {
			return &r.Tables[i]
		}
	}
	return &Table{Name: name, Digest: rowdigest.Empty.Sum}
}
