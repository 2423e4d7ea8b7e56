package mapping

import (
	"strings"

	"flujo-port/internal/sqlite"
)

// Reason is a set of reasons why a cell was changed or a row was rejected.
type Reason uint32

// Reasons why a cell is changed. Its original value is stored.
const (
	NULRemoved           Reason = 1 << iota // NUL characters are removed
	LoneSurrogate                           // lone surrogate escapes are replaced with U+FFFD
	InvalidUTF8                             // bytes that are not UTF-8 are replaced with U+FFFD
	NonFiniteNumber                         // NaN or Infinity in JSON is stored as a string
	InvalidJSON                             // text that is not JSON is stored as a JSON string
	JSONNumberOutOfRange                    // JSON with a number that numeric cannot hold is stored as a JSON string
	JSONTooDeep                             // JSON nested past the server's limit is stored as a JSON string
	NumberAsText                            // a number in a text or JSON column is stored as text or JSON
	Rounded                                 // a number is rounded to fit the column's type, ties to even
	TextAsNumber                            // text in a number column is converted to a number
	NotANumber                              // not a number: NULL is stored, or the row is rejected
	OutOfRange                              // out of the type's range: NULL is stored, or the row is rejected
	InvalidBoolean                          // neither 0 nor 1: false is stored if it is empty, else true
	TimeInferred                            // a missing or unreadable timestamp is taken from the best fallback
	EpochTime                               // a number in a timestamp column is taken as seconds since 1970
	TimeTruncated                           // a timestamp is truncated to microseconds
	UnmappedColumn                          // Flujo's table has no such column: only the original value is stored
)

// Reasons why a row is rejected.
const (
	NullKey                 Reason = 1 << (iota + 20) // the primary key is NULL
	NULInKey                                          // a key contains a NUL character
	DuplicateKey                                      // another row has the same key in PostgreSQL
	MissingValue                                      // a required column is NULL
	JSONTooLarge                                      // JSON may exceed jsonb's size limits
	InvalidVector                                     // pgvector does not accept the vector
	VectorDimensionMismatch                           // the vector does not have the column's dimension
	TextTooLong                                       // text is too long for Flujo's index on the column

	rejections = NullKey | NULInKey | DuplicateKey | MissingValue |
		JSONTooLarge | InvalidVector | VectorDimensionMismatch | TextTooLong
	lastReasonAt = 28
)

// String returns the names of the reasons, joined by "+", as flujo_port_originals
// and the JSON report have them.
func (r Reason) String() string {
	return r.join("+", func(m Meaning) string { return m.Name })
}

// Explain returns what is done with a value that is changed for these reasons, or why a row was rejected for them,
// joined by "; ".
func (r Reason) Explain(rejected bool) string {
	return r.join("; ", func(m Meaning) string {
		if rejected {
			return m.Rejection
		}
		return m.Explanation
	})
}

func (r Reason) join(sep string, text func(Meaning) string) string {
	var parts []string
	for at := range lastReasonAt {
		if one := Reason(1 << at); r&one != 0 {
			if words := text(meanings[one]); words != "" {
				parts = append(parts, words)
			}
		}
	}
	return strings.Join(parts, sep)
}

// Change is a cell that was converted with loss, or a cell of a rejected row.
type Change struct {
	Column   string
	Reason   Reason
	Note     string       // the source of an inferred timestamp; empty otherwise
	Original sqlite.Value // valid as long as the row that it came in
}

// Finding is a changed cell, without its content, or a rejected row.
type Finding struct {
	File     string // path of the state file, if there are several; otherwise empty
	Table    string
	Key      string // the primary key as PostgreSQL has it, or would have it
	RowID    int64  // of the row in the state file
	Column   string // empty for a row
	Reason   Reason
	Note     string
	Rejected bool // the row is rejected
	// Cells are all cells of a rejected row, which are valid during the call that gets the
	// finding; nil otherwise.
	Cells []Change
}
