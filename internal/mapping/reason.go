package mapping

import "strings"

// Reason says what kept a cell or a row from arriving as it was; several can
// hold for one cell.
type Reason uint32

// Reasons why a cell arrives changed. Its original is kept.
const (
	NULRemoved           Reason = 1 << iota // NUL characters removed
	LoneSurrogate                           // lone surrogate escapes made U+FFFD
	InvalidUTF8                             // bytes that are not UTF-8 made U+FFFD
	NonFiniteNumber                         // NonFiniteNumber or Infinity in JSON made a string
	InvalidJSON                             // not JSON: made a JSON string of the text
	JSONNumberOutOfRange                    // a number beyond numeric in JSON: made a JSON string of the text
	JSONTooDeep                             // JSON nested past the server's limit: made a JSON string of the text
	NumberAsText                            // a number where text or JSON is due: its text taken
	Rounded                                 // not a whole number where one is due: rounded, ties to even
	TextAsNumber                            // text that is a number where one is due
	NotANumber                              // no number where one is due: NULL, or the row is rejected
	OutOfRange                              // a number beyond the column's type: NULL, or the row is rejected
	InvalidBoolean                          // a boolean that is neither 0 nor 1: made true, or false when empty
	TimeInferred                            // an absent or unreadable time: taken from the best fallback
	EpochTime                               // a number where a time is due: taken for seconds since 1970
	TimeTruncated                           // a time finer than a microsecond: cut
	UnmappedColumn                          // Flujo's table has no such column: only its original is kept
)

// Reasons why a row is rejected.
const (
	NullKey                 Reason = 1 << (iota + 20) // NULL in the primary key
	NULInKey                                          // a NUL character in a key
	DuplicateKey                                      // another row has the same key in PostgreSQL
	MissingValue                                      // NULL in a column that must have a value
	JSONTooLarge                                      // JSON over jsonb's size
	InvalidVector                                     // a vector that pgvector refuses
	VectorDimensionMismatch                           // a vector of another size than most
	TextTooLong                                       // text too long for the index that Flujo has on it
	rejections              = NullKey | NULInKey | DuplicateKey | MissingValue | JSONTooLarge | InvalidVector | VectorDimensionMismatch | TextTooLong
	lastReasonAt            = 28
)

var reasonNames = map[Reason][2]string{
	NULRemoved:              {"nul-removed", "NUL characters were removed"},
	LoneSurrogate:           {"lone-surrogate", "lone surrogates became U+FFFD"},
	InvalidUTF8:             {"invalid-utf8", "bytes that are not UTF-8 became U+FFFD"},
	NonFiniteNumber:         {"non-finite-number", "NaN or Infinity became a JSON string"},
	InvalidJSON:             {"invalid-json", "what is not JSON became a JSON string"},
	JSONNumberOutOfRange:    {"json-number-out-of-range", "JSON with a number beyond numeric became a JSON string"},
	JSONTooDeep:             {"json-too-deep", "JSON nested past the server's limit became a JSON string"},
	NumberAsText:            {"number-as-text", "a number became text"},
	Rounded:                 {"rounded", "a fraction was rounded to a whole number"},
	TextAsNumber:            {"text-as-number", "text became the number that it says"},
	NotANumber:              {"not-a-number", "what is no number could not be one"},
	OutOfRange:              {"out-of-range", "a number was beyond the column's type"},
	InvalidBoolean:          {"invalid-boolean", "what is neither 0 nor 1 became a boolean"},
	TimeInferred:            {"time-inferred", "an absent or unreadable time was taken from elsewhere"},
	EpochTime:               {"epoch-time", "seconds since 1970 became a time"},
	TimeTruncated:           {"time-truncated", "a time was cut to microseconds"},
	UnmappedColumn:          {"unmapped-column", "Flujo's table has no such column"},
	NullKey:                 {"null-key", "the key is NULL"},
	NULInKey:                {"nul-in-key", "the key holds a NUL character"},
	DuplicateKey:            {"duplicate-key", "another row has the same key in PostgreSQL"},
	MissingValue:            {"missing-value", "NULL where a value is due"},
	JSONTooLarge:            {"json-too-large", "JSON over jsonb's size"},
	InvalidVector:           {"invalid-vector", "a vector that pgvector refuses"},
	VectorDimensionMismatch: {"vector-dimension-mismatch", "a vector of another size than most"},
	TextTooLong:             {"text-too-long", "text too long for Flujo's index on it"},
}

// String gives the names that stand in flujo_port_originals and in the JSON
// report, joined by "+".
func (r Reason) String() string { return r.join(0, "+") }

// Explain says for a person what was done.
func (r Reason) Explain() string { return r.join(1, "; ") }

func (r Reason) join(form int, sep string) string {
	var parts []string
	for at := range lastReasonAt {
		if one := Reason(1 << at); r&one != 0 {
			parts = append(parts, reasonNames[one][form])
		}
	}
	return strings.Join(parts, sep)
}

// Change is a cell that did not arrive as it was.
type Change struct {
	Column   string
	Reason   Reason
	Note     string // where an inferred time came from; empty otherwise
	Original Value  // good as long as the row it came in
}

// Finding is a Change, or a row that is rejected, without its content.
type Finding struct {
	Table    string
	Key      string // the primary key as PostgreSQL has it, or should have had it
	RowID    int64  // of the row in the file
	Column   string // empty for a row
	Reason   Reason
	Note     string
	Rejected bool // the row is rejected
}
