package report

import (
	"fmt"

	"flujo-port/internal/document"

	"github.com/dustin/go-humanize"
)

// Merge is the result of merging a state file and the rows in PostgreSQL, by
// unit. A unit is a run with all of its rows, a key of system_state, or a memory.
// Each unit is taken as a whole from the state file or from PostgreSQL.
type Merge struct {
	Units []MergedUnits `json:"units"`
	// Renumbered are rows of the state file whose id belongs to another row in
	// PostgreSQL.
	Renumbered []Renumbered `json:"renumbered"`
}

// MergedUnits counts the units of one kind. Each unit is counted in exactly one
// of Equal, Kept, Added and TakenOver.
type MergedUnits struct {
	Kind  string `json:"kind"`  // runs, system_state or memories
	Equal int64  `json:"equal"` // the same in both, and not written
	Kept  int64  `json:"kept"`  // PostgreSQL's version was kept
	// Alone and Tied are parts of Kept: the units that the state file does not
	// have, and those that differ although both versions have the same time.
	Alone     int64 `json:"kept_alone"`
	Tied      int64 `json:"kept_on_a_tie"`
	Added     int64 `json:"added"`      // not in PostgreSQL before
	TakenOver int64 `json:"taken_over"` // the state file's version replaced an older one
	// The keys of up to ten units of which one version was discarded.
	FirstNewer     []string `json:"first_kept_newer"` // PostgreSQL's version is newer
	FirstTied      []string `json:"first_kept_on_a_tie"`
	FirstTakenOver []string `json:"first_taken_over"`
}

// Renumbered counts the rows of a table that got new ids.
type Renumbered struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	First int64  `json:"first_new_id"`
}

// add adds what the merge did.
func (m *Merge) add(d *document.Document) {
	columns := document.Words("Units").Numbers("File", "Equal", "Added", "Taken over", "Newer", "Tied", "Not in file")
	var all [][]string
	var list document.List
	say := func(u MergedUnits, n int64, what string, first []string) {
		if n > 0 {
			list = append(list, fmt.Sprintf("%s: %s %s: %s", u.Kind, humanize.Comma(n), what, firstOf(first, n)))
		}
	}
	for _, u := range m.Units {
		newer := u.Kept - u.Alone - u.Tied
		all = append(all, numbers(u.Kind, u.Equal+u.Added+u.TakenOver+newer+u.Tied,
			u.Equal, u.Added, u.TakenOver, newer, u.Tied, u.Alone))
		say(u, u.TakenOver, "taken over from the state file; PostgreSQL's version is older", u.FirstTakenOver)
		say(u, newer, "kept in PostgreSQL; the state file's version is older", u.FirstNewer)
		say(u, u.Tied, "kept in PostgreSQL; the state file's version differs but has the same time", u.FirstTied)
	}
	for _, r := range m.Renumbered {
		list = append(list, fmt.Sprintf("%s: %s got new ids, from %d on, since rows in PostgreSQL have theirs",
			r.Table, rows(r.Rows), r.First))
	}
	list = append(list, "after the merge every run was read back and compared with the version written last")
	d.Add("Merged: each run, key and memory is taken as a whole from the side that wrote it last",
		numberTable(columns, 4, false, all), list)
}
