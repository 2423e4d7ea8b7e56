package progress

import (
	"slices"
	"testing"
)

// TestNilFunc tests that events need no receiver.
func TestNilFunc(t *testing.T) {
	t.Parallel()
	var f Func
	f.Report(Event{Phase: Copy})
	f.Start(Copy)
}

func TestFunc(t *testing.T) {
	t.Parallel()
	var got []Event
	f := Func(func(e Event) { got = append(got, e) })
	row := Event{Phase: Copy, Table: "runs", Rows: 1, Of: 2}
	f.Start(Integrity)
	f.Report(row)
	if want := []Event{{Phase: Integrity}, row}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
