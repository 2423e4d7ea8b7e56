package mapping

import "strings"

// Reason says what kept a cell or a row from arriving as it was; several can
// hold for one cell.
type Reason uint32

// Reasons why a cell arrives changed. Its original is kept.
const (
	NUL          Reason = 1 << iota // NUL characters removed
	Surrogate                       // lone surrogate escapes made U+FFFD
	BadUTF8                         // bytes that are not UTF-8 made U+FFFD
	NaN                             // NaN or Infinity in JSON made a string
	NotJSON                         // not JSON: made a JSON string of the text
	JSONNumber                      // a number beyond numeric in JSON: made a JSON string of the text
	DeepJSON                        // JSON nested past the server's limit: made a JSON string of the text
	NumberAsText                    // a number where text or JSON is due: its text taken
	Rounded                         // not a whole number where one is due: rounded, ties to even
	TextAsNumber                    // text that is a number where one is due
	NoNumber                        // no number where one is due: NULL, or no place for the row
	BeyondType                      // a number beyond the column's type: NULL, or no place for the row
	Truth                           // a boolean that is neither 0 nor 1: made true, or false when empty
	GuessedTime                     // an absent or unreadable time: the best witness taken
	EpochTime                       // a number where a time is due: taken for seconds since 1970
	FineTime                        // a time finer than a microsecond: cut
	NoColumn                        // Flujo's table has no such column: kept aside
)

// Reasons why a row has no place in Flujo's tables.
const (
	NullKey      Reason = 1 << (iota + 20) // NULL in the primary key
	NULInKey                               // a NUL character in a key
	SameKey                                // another row has the same key in PostgreSQL
	NullValue                              // NULL in a column that must have a value
	JSONSize                               // JSON over jsonb's size
	BadVector                              // a vector that pgvector refuses
	OtherSize                              // a vector of another size than most
	TooLong                                // text too long for the index that Flujo has on it
	unplaceable  = NullKey | NULInKey | SameKey | NullValue | JSONSize | BadVector | OtherSize | TooLong
	lastReasonAt = 28
)

var reasonNames = map[Reason][2]string{
	NUL:          {"nul-removed", "NUL characters were removed"},
	Surrogate:    {"lone-surrogate", "lone surrogates became U+FFFD"},
	BadUTF8:      {"bad-utf8", "bytes that are not UTF-8 became U+FFFD"},
	NaN:          {"nan-in-json", "NaN or Infinity became a JSON string"},
	NotJSON:      {"not-json", "what is not JSON became a JSON string"},
	JSONNumber:   {"json-number", "JSON with a number beyond numeric became a JSON string"},
	DeepJSON:     {"json-depth", "JSON nested past the server's limit became a JSON string"},
	NumberAsText: {"number-as-text", "a number became text"},
	Rounded:      {"rounded", "a fraction was rounded to a whole number"},
	TextAsNumber: {"text-as-number", "text became the number that it says"},
	NoNumber:     {"no-number", "what is no number could not be one"},
	BeyondType:   {"beyond-type", "a number was beyond the column's type"},
	Truth:        {"truth", "what is neither 0 nor 1 became a boolean"},
	GuessedTime:  {"guessed-time", "an absent or unreadable time was taken from elsewhere"},
	EpochTime:    {"epoch-time", "seconds since 1970 became a time"},
	FineTime:     {"fine-time", "a time was cut to microseconds"},
	NoColumn:     {"no-column", "Flujo's table has no such column"},
	NullKey:      {"null-key", "the key is NULL"},
	NULInKey:     {"nul-in-key", "the key holds a NUL character"},
	SameKey:      {"same-key", "another row has the same key in PostgreSQL"},
	NullValue:    {"null-value", "NULL where a value is due"},
	JSONSize:     {"json-size", "JSON over jsonb's size"},
	BadVector:    {"bad-vector", "a vector that pgvector refuses"},
	OtherSize:    {"vector-size", "a vector of another size than most"},
	TooLong:      {"too-long", "text too long for Flujo's index on it"},
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
	Note     string // where a guessed time came from; empty otherwise
	Original Value  // good as long as the row it came in
}

// Finding is a Change, or a row that has no place, without its content.
type Finding struct {
	Table  string
	Key    string // the primary key as PostgreSQL has it, or should have had it
	RowID  int64  // of the row in the file
	Column string // empty for a row
	Reason Reason
	Note   string
	Aside  bool // the row has no place in Flujo's table
}
