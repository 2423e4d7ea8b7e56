package mapping

// Meaning is what a reason means: when it occurs, and what becomes of the value.
type Meaning struct {
	Name    string // of the reason
	Found   string // in the state file
	Outcome string // in PostgreSQL
}

// Meanings returns the meanings of all reasons, in the order of their names in reports.
func Meanings() []Meaning {
	all := make([]Meaning, 0, len(reasonNames))
	for at := range lastReasonAt {
		reason := Reason(1 << at)
		if text, ok := meanings[reason]; ok {
			all = append(all, Meaning{Name: reason.String(), Found: text[0], Outcome: text[1]})
		}
	}
	return all
}

const (
	rejectedOutcome = "The row is rejected: it is in no table of Flujo's."
	nullOutcome     = "NULL; if the column does not permit NULL, the row is rejected."
)

// meanings holds, for each reason, what was found and what became of it, as docs/values.md describes.
var meanings = map[Reason][2]string{
	NULRemoved: {"Text or JSON contains NUL characters, which PostgreSQL cannot store.",
		"The same text without them, as Flujo's PostgreSQL backend stores it."},
	LoneSurrogate: {"JSON contains the escape of a half of a surrogate pair, which is no character.",
		"The replacement character U+FFFD in its place."},
	InvalidUTF8: {
		"Text contains bytes that are not UTF-8.",
		"The replacement character U+FFFD for each of these bytes.",
	},
	NonFiniteNumber: {"JSON contains NaN or Infinity, which are no JSON numbers.",
		`The strings "NaN", "Infinity" or "-Infinity" in their place.`},
	InvalidJSON: {"A JSON column holds text that is not JSON.", "A JSON string that contains the text."},
	JSONNumberOutOfRange: {"JSON contains a number that PostgreSQL's numeric cannot hold.",
		"A JSON string that contains the text of the JSON."},
	JSONTooDeep: {
		"JSON is nested deeper than the server permits.",
		"A JSON string that contains the text of the JSON.",
	},
	NumberAsText: {"A text or JSON column holds a number.",
		"In a text column the digits of the number; in a JSON column a JSON number."},
	Rounded: {"A number has more digits than the column's type can hold.",
		"The nearest number that it can hold, ties to even."},
	TextAsNumber: {"A column for numbers holds text that is a number.", "That number."},
	NotANumber:   {"A column for numbers holds text or bytes that are no number.", nullOutcome},
	OutOfRange:   {"A number is out of the range of the column's type.", nullOutcome},
	InvalidBoolean: {"A boolean column holds something other than 0 and 1.",
		"false if it is empty, otherwise true, as Python evaluates it."},
	TimeInferred: {"A timestamp is missing where the column requires one, or cannot be read.",
		"The first timestamp that can be read, in a documented order of other columns and rows; at last the time at " +
			"which the state file was written."},
	EpochTime: {"A timestamp column holds a number.", "That number of seconds since 1970-01-01 00:00:00 UTC."},
	TimeTruncated: {
		"A timestamp is finer than a microsecond.",
		"The timestamp truncated to microseconds, as in Python.",
	},
	UnmappedColumn: {"The state file has a column that Flujo's PostgreSQL tables do not have.",
		"Nothing: only the original value is stored."},
	NullKey:      {"The primary key is NULL.", rejectedOutcome},
	NULInKey:     {"The primary key or the run_id contains a NUL character.", rejectedOutcome},
	DuplicateKey: {"The primary key becomes equal to that of another row.", rejectedOutcome},
	MissingValue: {"A column that requires a value is NULL.", rejectedOutcome},
	JSONTooLarge: {"JSON may be larger than jsonb permits.", rejectedOutcome},
	InvalidVector: {"The vector is not one that pgvector accepts.",
		rejectedOutcome},
	VectorDimensionMismatch: {"The dimension of the vector differs from that of most vectors.", rejectedOutcome},
	TextTooLong:             {"A text is longer than Flujo's index on its column permits.", rejectedOutcome},
}
