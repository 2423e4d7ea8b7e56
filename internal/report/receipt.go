package report

import (
	"strconv"
	"time"
)

// Receipt is the record of a migration. It is stored in the database in the
// migration's own transaction, and verify and restore read it.
type Receipt struct {
	MigratedAt time.Time // when the transaction began
	Version    string    // of flujo-port
	File       File
	FileFormat string
	Verify     string // "content" or "counts"
	Options    Options
	Tables     []ReceiptTable
	// Findings are those of the report, without the keys of rows.
	Findings Findings
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
	// Merged reports whether the state file was merged into existing rows.
	Merged bool `json:"merged,omitempty"`
}

// ReceiptTable describes one table at the time of the commit.
type ReceiptTable struct {
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
	Merged *MergedTable `json:"merged,omitempty"`
}

// MergedTable describes a table that a state file was merged into.
type MergedTable struct {
	FileRows   int64   `json:"file_rows"`   // rows of the state file, derived ones included
	FileDigest string  `json:"file_digest"` // of FileRows; empty if only counts were compared
	Writers    []int64 `json:"writers"`     // the xmin of the rows that the merge wrote
	// FirstNew is the first id that was assigned to a renumbered row; 0 if no row
	// was renumbered.
	FirstNew int64 `json:"first_new"`
}

// IsNew reports whether the row with the given key, which the merge wrote, was
// renumbered.
func (t *MergedTable) IsNew(key string) bool {
	id, err := strconv.ParseInt(key, 10, 64)
	return err == nil && t.FirstNew > 0 && id >= t.FirstNew
}

// OfFile returns the number of rows that the state file has for the table,
// derived rows included, and their digest.
func (t *ReceiptTable) OfFile() (rows int64, digest string) {
	if t.Merged != nil {
		return t.Merged.FileRows, t.Merged.FileDigest
	}
	return t.Rows, t.Digest
}

// Table returns the named table, or nil if the receipt does not have it.
func (r *Receipt) Table(name string) *ReceiptTable {
	for i := range r.Tables {
		if r.Tables[i].Name == name {
			return &r.Tables[i]
		}
	}
	return nil
}
