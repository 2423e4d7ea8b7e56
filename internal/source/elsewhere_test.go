//go:build unix

package source

import (
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/clierr"
)

// TestOpenElsewhere tests that a file that another process has open by another name is refused, since the -wal of that
// process lies next to that name, and that nothing is left next to the file.
func TestOpenElsewhere(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		before  []string // executed by the other process
		stale   bool     // an unused -shm lies next to the file
		refused bool
	}{
		{name: "rows in the other -wal", before: []string{addRows(10)}, refused: true},
		{name: "an open connection", before: []string{"SELECT * FROM runs"}, refused: true},
		{name: "an unused -shm next to the file", before: []string{addRows(10)}, stale: true, refused: true},
		{name: "no WAL mode", before: []string{"PRAGMA journal_mode = DELETE", "SELECT * FROM runs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := build(t, walMode, rowsTable, addRows(100))
			other := filepath.Join(t.TempDir(), "flujo_state.db")
			if err := os.Link(path, other); err != nil {
				t.Fatal(err)
			}
			startWriter(t, other, tc.before...)
			if tc.stale {
				writeFile(t, path+"-shm", make([]byte, 32768))
			}
			same := watch(t, path)
			s, err := Open(t.Context(), path)
			if err == nil {
				if s.Links() != 2 {
					t.Errorf("got %d links, want 2", s.Links())
				}
				s.Close()
			}
			if tc.refused {
				isError(t, err, clierr.Refused, "by another name (it has 2 hard links)")
			} else if err != nil {
				t.Error(err)
			}
			same()
		})
	}
}
