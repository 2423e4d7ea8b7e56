package receipt

import (
	"maps"
	"testing"

	"flujo-port/internal/rowdigest"
)

func TestTable(t *testing.T) {
	t.Parallel()
	r := full()
	if got := r.Table("steps"); got != &r.Tables[1] {
		t.Errorf("got %+v, want the receipt's own table", got)
	}
	if got := r.Table("memories"); got == nil || got.Name != "memories" || got.Rows != 0 ||
		got.Stored() != rowdigest.Empty || got.OfFile() != rowdigest.Empty {
		t.Errorf("got %+v, want a table without rows", got)
	}
	if got := (*Receipt)(nil).Table("runs"); got != nil {
		t.Errorf("got %+v without a receipt", got)
	}
}

func TestWriters(t *testing.T) {
	t.Parallel()
	set := func(all ...int64) map[int64]bool {
		s := map[int64]bool{}
		for _, one := range all {
			s[one] = true
		}
		return s
	}
	for _, tc := range []struct {
		name      string
		table     *Table
		copy, all map[int64]bool
	}{
		{"no receipt", nil, nil, set()},
		{"no rows", &Table{}, set(), set()},
		{"migrated", &Table{Writers: []int64{7, 8}}, set(7, 8), set(7, 8)},
		{"merged", &Table{Writers: []int64{7, 8}, Merged: &Merged{Writers: []int64{8}}}, set(8), set(7, 8)},
		{"merged, nothing written", &Table{Writers: []int64{7}, Merged: &Merged{}}, set(), set(7)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			// A nil map says that the writers are unknown, so it is not the same as an empty one.
			if got := tc.table.CopyWriters(); !maps.Equal(got, tc.copy) || (got == nil) != (tc.copy == nil) {
				t.Errorf("CopyWriters is %v, want %v", got, tc.copy)
			}
			if got := tc.table.AllWriters(); !maps.Equal(got, tc.all) || got == nil {
				t.Errorf("AllWriters is %v, want %v", got, tc.all)
			}
		})
	}
}

func TestOfFile(t *testing.T) {
	t.Parallel()
	table := Table{Rows: 4, Digest: "1,2"}
	stored := rowdigest.Digest{Rows: 4, Sum: "1,2"}
	if got := table.OfFile(); got != stored {
		t.Errorf("got %+v, want that of the stored rows", got)
	}
	table.Merged = &Merged{FileRows: 3, FileDigest: "5,6"}
	if got, want := table.OfFile(), (rowdigest.Digest{Rows: 3, Sum: "5,6"}); got != want {
		t.Errorf("after a merge: got %+v, want %+v", got, want)
	}
	if got := table.Stored(); got != stored {
		t.Errorf("Stored is %+v", got)
	}
}
