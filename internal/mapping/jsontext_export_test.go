package mapping

// JSONBSize is jsonbSize, for tests against a server.
var JSONBSize = jsonbSize

// The limits of jsonb, for tests at their edges.
const (
	JSONBLimit   = jsonbLimit
	MostElements = mostElements
	MostPairs    = mostPairs
	LongestText  = longestText
)
