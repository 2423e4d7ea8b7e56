package report

import (
	"fmt"
	"io"
	"text/tabwriter"

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

// verified says how a merge was verified.
func (m *Merge) verified(how string) string {
	read := "every cell was read back and compared with the state file"
	if how == "counts" {
		read = "the rows of every table were counted (cells were not compared)"
	}
	return read + ", and after the merge every run was read back and compared with the version written last"
}

// text writes the merge's part of a report as text.
func (m *Merge) text(w io.Writer) {
	printf(w, "merged: each run, key and memory is taken as a whole from the side that wrote it last:\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\tequal\tkept\tkept: only in PostgreSQL\tkept: tied\tadded\ttaken over\t\n")
	for _, u := range m.Units {
		printf(t, "%s", u.Kind)
		for _, n := range []int64{u.Equal, u.Kept, u.Alone, u.Tied, u.Added, u.TakenOver} {
			fmt.Fprintf(t, "\t%s", humanize.Comma(n))
		}
		fmt.Fprintf(t, "\t\n")
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, u := range m.Units {
		u.list(w, u.TakenOver, "taken over from the state file; PostgreSQL's version is older", u.FirstTakenOver)
		u.list(w, u.Kept-u.Alone-u.Tied, "kept in PostgreSQL; the state file's version is older", u.FirstNewer)
		u.list(w, u.Tied, "kept in PostgreSQL; the state file's version differs but has the same time", u.FirstTied)
	}
	for _, r := range m.Renumbered {
		belong := "ids belong to other rows"
		if r.Rows == 1 {
			belong = "id belongs to another row"
		}
		printf(w, "renumbered: %s of the state file in %s, whose %s in PostgreSQL; the first new id is %d\n",
			rows(r.Rows), r.Table, belong, r.First)
	}
	fmt.Fprintln(w)
}

// list writes n and the first keys of units of which one version was discarded.
func (u *MergedUnits) list(w io.Writer, n int64, what string, first []string) {
	if n == 0 {
		return
	}
	printf(w, "%s: %s × %s (%s)\n", u.Kind, humanize.Comma(n), what, firstOf(first, n))
}
