package report

import (
	"strconv"
	"time"
)

// Receipt is what a migration leaves in the database, in the same transaction,
// for those who ask later what was moved and whether it is still there.
type Receipt struct {
	MigratedAt time.Time // when the transaction began
	Version    string    // of this program
	File       File
	FileFormat string
	Verify     string // "content" or "counts"
	Options    Options
	Tables     []ReceiptTable
	// Findings are the report's, without their keys.
	Findings Findings
}

// File is the file that was migrated.
type File struct {
	Path      string
	Bytes     int64
	SHA256    string // hex
	WALBytes  int64  // 0 without a -wal
	WALSHA256 string
	Modified  time.Time
}

// Options are what decides, apart from the file, what arrives: to compare later,
// the file has to be read with the same.
type Options struct {
	NaiveTimezone string `json:"naive_timezone"` // a zone's name
	JSONDepth     int    `json:"json_depth"`
	Quarantine    bool   `json:"quarantine"`
	// WrittenAt is when the file was written, in microseconds since 2000 UTC:
	// the last fallback for a time that no row tells.
	WrittenAt int64 `json:"written_at"`
	// ArchiveSchema is the schema in which the rows are kept that were there before;
	// empty where there were none.
	ArchiveSchema string `json:"archive_schema,omitempty"`
	// Merged says that the file was merged into rows that were there.
	Merged bool `json:"merged,omitempty"`
}

// ReceiptTable is what a table held when the migration was committed.
type ReceiptTable struct {
	Name     string  `json:"name"`
	RowsRead int64   `json:"rows_read"`
	Rejected int64   `json:"rejected"`
	Derived  int64   `json:"derived"`
	Rows     int64   `json:"rows"`
	Digest   string  `json:"digest"`  // of the rows in PostgreSQL; empty when only counts were compared
	Writers  []int64 `json:"writers"` // the xmin of the rows; after a merge only of those that this file or one before gave
	// Merged is nil but in the receipt of a merge.
	Merged *MergedTable `json:"merged,omitempty"`
}

// MergedTable is what a receipt says of a table that a file was merged into.
type MergedTable struct {
	FileRows   int64   `json:"file_rows"`   // that the file gave for it
	FileDigest string  `json:"file_digest"` // of these; empty when only counts were compared
	Writers    []int64 `json:"writers"`     // the xmin of the rows that the merge wrote
	FirstNew   int64   `json:"first_new"`   // from this id on rows of the file have others than in it; 0 where none has
}

// IsNew reports whether a row that the merge wrote has another id than in the
// file.
func (t *MergedTable) IsNew(key string) bool {
	id, err := strconv.ParseInt(key, 10, 64)
	return err == nil && t.FirstNew > 0 && id >= t.FirstNew
}

// OfFile gives the number of the rows that the file gave for the table, and
// their digest.
func (t *ReceiptTable) OfFile() (rows int64, digest string) {
	if t.Merged != nil {
		return t.Merged.FileRows, t.Merged.FileDigest
	}
	return t.Rows, t.Digest
}

// Table gives the named table; nil when it is not in the receipt.
func (r *Receipt) Table(name string) *ReceiptTable {
	for i := range r.Tables {
		if r.Tables[i].Name == name {
			return &r.Tables[i]
		}
	}
	return nil
}
