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

// distance returns the number of bytes to insert, delete or replace, and of neighbors to swap, to make b of a.
func distance(a, b string) int {
	before, last, row := []int{}, make([]int, len(b)+1), make([]int, len(b)+1) // the rows of i-2, i-1 and i bytes of a
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = min(last[j], row[j-1]) + 1
			switch {
			case a[i-1] == b[j-1]:
				row[j] = last[j-1]
			case i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1]:
				row[j] = min(row[j], last[j-1]+1, before[j-2]+1)
			default:
				row[j] = min(row[j], last[j-1]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return last[len(b)]
}
