package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
)

// Merge is what became of the units of two sides, the file and PostgreSQL. A
// unit is a run with all of its rows, a key of system_state, or a memory: it is
// taken whole from one side.
type Merge struct {
	Units []MergedUnits `json:"units"`
	// Renumbered are the rows of the file whose id was another row's.
	Renumbered []Renumbered `json:"renumbered"`
}

// MergedUnits counts the units of one kind; each is in one of Equal, Kept,
// Added and TakenOver.
type MergedUnits struct {
	Kind  string `json:"kind"`  // runs, system_state or memories
	Equal int64  `json:"equal"` // on both sides, and left alone
	Kept  int64  `json:"kept"`  // as PostgreSQL had them
	// Alone and Tied are some of Kept: those that the file does not have, and
	// those that both sides wrote at the same time, and differently.
	Alone     int64 `json:"kept_alone"`
	Tied      int64 `json:"kept_on_a_tie"`
	Added     int64 `json:"added"`      // PostgreSQL did not have them
	TakenOver int64 `json:"taken_over"` // in place of PostgreSQL's, which is older
	// The keys of up to ten units of which one side's state was given up.
	FirstNewer     []string `json:"first_kept_newer"` // PostgreSQL's was written last
	FirstTied      []string `json:"first_kept_on_a_tie"`
	FirstTakenOver []string `json:"first_taken_over"`
}

// Renumbered counts the rows of a table that got a new id.
type Renumbered struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	First int64  `json:"first_new_id"`
}

// verified says how a merge was verified.
func (m *Merge) verified(how string) string {
	read := "every cell of the file was read back and compared"
	if how == "counts" {
		read = "the file's rows were counted (--verify counts: their content was not compared with the file)"
	}
	return read + ", merged, and each run read back as it is on the side that wrote it last"
}

// ofTaken says of which rows the originals are that were added.
func (m *Migration) ofTaken() string {
	if m.Merge == nil {
		return ""
	}
	return ", of rows that were taken from the file and were not kept yet"
}

// text says it for a person.
func (m *Merge) text(w io.Writer) {
	fmt.Fprintf(w, "merged, each run, key and memory taken whole from the side that wrote it last:\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\tequal\tkept\tof these only in Postgres\tof these on a tie\tadded\ttaken over\t\n")
	for _, u := range m.Units {
		fmt.Fprintf(t, "%s", u.Kind)
		for _, n := range []int64{u.Equal, u.Kept, u.Alone, u.Tied, u.Added, u.TakenOver} {
			fmt.Fprintf(t, "\t%s", humanize.Comma(n))
		}
		fmt.Fprintf(t, "\t\n")
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, u := range m.Units {
		u.list(w, u.TakenOver, "taken over from the file, in place of PostgreSQL's", u.FirstTakenOver)
		u.list(w, u.Kept-u.Alone-u.Tied, "kept in PostgreSQL, where the file's is older", u.FirstNewer)
		u.list(w, u.Tied, "kept in PostgreSQL, where the file's differs and is of the same time", u.FirstTied)
	}
	for _, r := range m.Renumbered {
		fmt.Fprintf(
			w,
			"renumbered: %s of the file in %s, whose id another row has in PostgreSQL: from %d on\n",
			rows(r.Rows),
			r.Table,
			r.First,
		)
	}
	fmt.Fprintln(w)
}

// list names the first units of which one side's state was given up.
func (u *MergedUnits) list(w io.Writer, n int64, what string, first []string) {
	if n == 0 {
		return
	}
	keys := make([]string, len(first))
	for i, k := range first {
		keys[i] = strconv.Quote(k)
	}
	more := ""
	if n > int64(len(first)) {
		more = ", …"
	}
	fmt.Fprintf(w, "%s: %s × %s (%s%s)\n", u.Kind, humanize.Comma(n), what, strings.Join(keys, ", "), more)
}
