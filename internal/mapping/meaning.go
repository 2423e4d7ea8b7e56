package mapping

// Meaning is what users read of a reason.
type Meaning struct {
	Name        string // as flujo_port_originals and the JSON report have it
	Explanation string // what is done with a value that is changed, in a few words; empty if rows are rejected
	Rejection   string // why a row was rejected, in a few words; empty if none is
	Found       string // what the state file has
	Outcome     string // what PostgreSQL has then
}

// Meanings returns the meanings of all reasons, in the order of their names in reports.
func Meanings() []Meaning {
	all := make([]Meaning, 0, len(meanings))
	for at := range lastReasonAt {
		if one, ok := meanings[1<<at]; ok {
			all = append(all, one)
		}
	}
	return all
}

const (
	rejectedOutcome = "The row is rejected: it is in no table of Flujo's."
	nullOutcome     = "NULL; if the column does not permit NULL, the row is rejected."
)

// meanings holds the meaning of each reason, as docs/values.md describes it.
var meanings = map[Reason]Meaning{
	NULRemoved: {
		Name:        "nul-removed",
		Explanation: "NUL characters are removed",
		Found:       "Text or JSON contains NUL characters, which PostgreSQL cannot store.",
		Outcome:     "The same text without them, as Flujo's PostgreSQL backend stores it.",
	},
	LoneSurrogate: {
		Name:        "lone-surrogate",
		Explanation: "lone surrogates are replaced with U+FFFD",
		Found:       "JSON contains the escape of a half of a surrogate pair, which is no character.",
		Outcome:     "The replacement character U+FFFD in its place.",
	},
	InvalidUTF8: {
		Name:        "invalid-utf8",
		Explanation: "bytes that are not UTF-8 are replaced with U+FFFD",
		Found:       "Text contains bytes that are not UTF-8.",
		Outcome:     "The replacement character U+FFFD for each of these bytes.",
	},
	NonFiniteNumber: {
		Name:        "non-finite-number",
		Explanation: "NaN or Infinity is stored as a JSON string",
		Found:       "JSON contains NaN or Infinity, which are no JSON numbers.",
		Outcome:     `The strings "NaN", "Infinity" or "-Infinity" in their place.`,
	},
	InvalidJSON: {
		Name:        "invalid-json",
		Explanation: "text that is not JSON is stored as a JSON string",
		Found:       "A JSON column holds text that is not JSON.",
		Outcome:     "A JSON string that contains the text.",
	},
	JSONNumberOutOfRange: {
		Name:        "json-number-out-of-range",
		Explanation: "JSON with an out-of-range number is stored as a JSON string",
		Found:       "JSON contains a number that PostgreSQL's numeric cannot hold.",
		Outcome:     "A JSON string that contains the text of the JSON.",
	},
	JSONTooDeep: {
		Name:        "json-too-deep",
		Explanation: "JSON nested past the server's limit is stored as a JSON string",
		Found:       "JSON is nested deeper than the server permits.",
		Outcome:     "A JSON string that contains the text of the JSON.",
	},
	NumberAsText: {
		Name:        "number-as-text",
		Explanation: "a number is stored as text, or as JSON in a JSON column",
		Found:       "A text or JSON column holds a number.",
		Outcome:     "In a text column the digits of the number; in a JSON column a JSON number.",
	},
	Rounded: {
		Name:        "rounded",
		Explanation: "a number is rounded to fit the column's type",
		Found:       "A number has more digits than the column's type can hold.",
		Outcome:     "The nearest number that it can hold, ties to even.",
	},
	TextAsNumber: {
		Name:        "text-as-number",
		Explanation: "text is converted to a number",
		Found:       "A column for numbers holds text that is a number.",
		Outcome:     "That number.",
	},
	NotANumber: {
		Name:        "not-a-number",
		Explanation: "a value that is not a number is stored as NULL",
		Rejection:   "the column requires a number, and the value is not one",
		Found:       "A column for numbers holds text or bytes that are no number.",
		Outcome:     nullOutcome,
	},
	OutOfRange: {
		Name:        "out-of-range",
		Explanation: "a number out of range for the column's type is stored as NULL",
		Rejection:   "the column requires a number, and this one is out of range for its type",
		Found:       "A number is out of the range of the column's type.",
		Outcome:     nullOutcome,
	},
	InvalidBoolean: {
		Name:        "invalid-boolean",
		Explanation: "a value other than 0 and 1 is stored as true, or as false if it is empty",
		Found:       "A boolean column holds something other than 0 and 1.",
		Outcome:     "false if it is empty, otherwise true, as Python evaluates it.",
	},
	TimeInferred: {
		Name:        "time-inferred",
		Explanation: "a missing or unreadable timestamp is replaced with an inferred one",
		Found:       "A timestamp is missing where the column requires one, or cannot be read.",
		Outcome: "The first timestamp that can be read, in a documented order of other columns and rows; at last " +
			"the time at which the state file was written.",
	},
	EpochTime: {
		Name:        "epoch-time",
		Explanation: "seconds since 1970 are converted to a timestamp",
		Found:       "A timestamp column holds a number.",
		Outcome:     "That number of seconds since 1970-01-01 00:00:00 UTC.",
	},
	TimeTruncated: {
		Name:        "time-truncated",
		Explanation: "a timestamp is truncated to microseconds",
		Found:       "A timestamp is finer than a microsecond.",
		Outcome:     "The timestamp truncated to microseconds, as in Python.",
	},
	UnmappedColumn: {
		Name:        "unmapped-column",
		Explanation: "only the original value is stored: Flujo's PostgreSQL table has no such column",
		Found:       "The state file has a column that Flujo's PostgreSQL tables do not have.",
		Outcome:     "Nothing: only the original value is stored.",
	},
	NullKey: {
		Name:      "null-key",
		Rejection: "the key is NULL",
		Found:     "The primary key is NULL.",
		Outcome:   rejectedOutcome,
	},
	NULInKey: {
		Name:      "nul-in-key",
		Rejection: "the key or the run_id contains a NUL character",
		Found:     "The primary key or the run_id contains a NUL character.",
		Outcome:   rejectedOutcome,
	},
	DuplicateKey: {
		Name:      "duplicate-key",
		Rejection: "another row has the same key in PostgreSQL",
		Found:     "The primary key becomes equal to that of another row.",
		Outcome:   rejectedOutcome,
	},
	MissingValue: {
		Name:      "missing-value",
		Rejection: "a required column is NULL",
		Found:     "A column that requires a value is NULL.",
		Outcome:   rejectedOutcome,
	},
	JSONTooLarge: {
		Name:      "json-too-large",
		Rejection: "the JSON may exceed jsonb's size limits",
		Found:     "JSON may be larger than jsonb permits.",
		Outcome:   rejectedOutcome,
	},
	InvalidVector: {
		Name:      "invalid-vector",
		Rejection: "pgvector does not accept the vector",
		Found:     "The vector is not one that pgvector accepts.",
		Outcome:   rejectedOutcome,
	},
	VectorDimensionMismatch: {
		Name:      "vector-dimension-mismatch",
		Rejection: "the vector does not have the column's dimension",
		Found:     "The dimension of the vector differs from that of most vectors.",
		Outcome:   rejectedOutcome,
	},
	TextTooLong: {
		Name:      "text-too-long",
		Rejection: "the text is too long for Flujo's index on the column",
		Found:     "A text is longer than Flujo's index on its column permits.",
		Outcome:   rejectedOutcome,
	},
}
