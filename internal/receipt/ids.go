package receipt

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/sqltext"
)

// IDRange are rows of a file that have other ids in PostgreSQL, with the same distance to
// those in the file.
type IDRange struct {
	InFile int64 `json:"in_file"` // the first id in the file
	Stored int64 `json:"stored"`  // the first id in PostgreSQL
	Rows   int64 `json:"rows"`    // the number of ids; not each of them may have a row
}

// last returns the last id in the file. Differences of ids may be no int64.
func (r IDRange) last() int64 { return r.InFile + (r.Rows - 1) }

// IDRanges are ranges that do not overlap, in the order of the ids in the file.
type IDRanges []IDRange

// StoredID returns the id in PostgreSQL of the row with an id in the file. changed is false
// if it is in none of the ranges; then the id is returned.
func (all IDRanges) StoredID(inFile int64) (stored int64, changed bool) {
	at, found := slices.BinarySearchFunc(all, inFile, func(r IDRange, id int64) int {
		switch {
		case id < r.InFile:
			return 1
		case id > r.last():
			return -1
		}
		return 0
	})
	if !found {
		return inFile, false
	}
	return all[at].Stored + (inFile - all[at].InFile), true
}

// Inverted returns the ranges that lead from ids in PostgreSQL to those in the file.
func (all IDRanges) Inverted() IDRanges {
	inverted := make(IDRanges, len(all))
	for i, r := range all {
		inverted[i] = IDRange{InFile: r.Stored, Stored: r.InFile, Rows: r.Rows}
	}
	slices.SortFunc(inverted, func(a, b IDRange) int { return cmp.Compare(a.InFile, b.InFile) })
	return inverted
}

// storedID is the SQL of StoredID. It searches the ranges as StoredID does.
var storedID = sqltext.New(`(CASE WHEN {{.id}} <= ({{.last}})[{{.at}}]
	THEN ({{.stored}})[{{.at}}] + ({{.id}} - ({{.inFile}})[{{.at}}]) ELSE {{.id}} END)`)

// SQL returns the SQL of StoredID. id is the SQL of the id, a bigint.
func (all IDRanges) SQL(id string) string {
	if len(all) == 0 {
		return id
	}
	array := func(of func(IDRange) int64) string {
		numbers := make([]string, len(all))
		for i, r := range all {
			numbers[i] = strconv.FormatInt(of(r), 10)
		}
		return "'{" + strings.Join(numbers, ",") + "}'::bigint[]"
	}
	inFile := array(func(r IDRange) int64 { return r.InFile })
	return storedID.Fill(sqltext.Parts{
		"id": id, "inFile": inFile, "last": array(IDRange.last),
		"stored": array(func(r IDRange) int64 { return r.Stored }),
		"at":     fmt.Sprintf("width_bucket(%s, %s)", id, inFile),
	})
}
