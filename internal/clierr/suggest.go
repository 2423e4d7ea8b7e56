package clierr

import "strings"

// Suggest returns the name that given is most likely a misspelling of, or "". Case
// does not matter.
func Suggest(given string, names []string) string {
	given = strings.ToLower(given)
	best, least := "", 3
	for _, name := range names {
		lower := strings.ToLower(name)
		limit := min(least, 1+min(len(lower), len(given))/3) // short words differ in few letters
		if d := distance(given, lower); d < limit {
			best, least = name, d
		}
	}
	return best
}

// distance returns the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
