package receipt

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestIDRanges tests that Go and SQL find the same ids in random ranges, that the inverse leads back, and that ids
// in no range are returned unchanged, up to the limits of bigint.
func TestIDRanges(t *testing.T) {
	t.Parallel()
	conn, _ := database(t)
	random := rand.New(rand.NewPCG(1, 2))
	lists := []IDRanges{
		nil,
		{{InFile: math.MinInt64, Stored: math.MaxInt64 - 9, Rows: 10}},
		{{InFile: -5, Stored: 7, Rows: 3}, {InFile: math.MaxInt64 - 2, Stored: 1, Rows: 3}},
	}
	for range 20 {
		var all IDRanges
		id, stored := int64(-20), int64(200)
		for range 1 + random.IntN(8) {
			r := IDRange{InFile: id + random.Int64N(4), Rows: 1 + random.Int64N(5)}
			stored -= r.Rows + random.Int64N(4)
			r.Stored, id = stored, r.InFile+r.Rows
			all = append(all, r)
		}
		lists = append(lists, all)
	}
	for _, all := range lists {
		ids := []int64{math.MinInt64, -1, 0, 1, math.MaxInt64}
		for _, r := range all {
			ids = append(ids, r.InFile, r.InFile+r.Rows-1)
			if r.InFile > math.MinInt64 && r.InFile < math.MaxInt64-r.Rows {
				ids = append(ids, r.InFile-1, r.InFile+r.Rows)
			}
		}
		for _, id := range ids {
			want, inRange := id, false
			for _, r := range all {
				if id >= r.InFile && id <= r.InFile+(r.Rows-1) {
					want, inRange = r.Stored+(id-r.InFile), true
				}
			}
			got, changed := all.StoredID(id)
			if got != want || changed != inRange {
				t.Errorf("%v: got %d and %v for %d, want %d and %v", all, got, changed, id, want, inRange)
			}
			if back, _ := all.Inverted().StoredID(want); inRange && back != id {
				t.Errorf("%v: got %d back from %d, want %d", all, back, want, id)
			}
			var stored int64
			query := fmt.Sprintf("SELECT %s FROM (SELECT $1::bigint) r (id)", all.SQL("r.id"))
			if err := conn.QueryRow(context.Background(), query, id).Scan(&stored); err != nil || stored != want {
				t.Errorf("%v: got %d and error %v from SQL for %d, want %d", all, stored, err, id, want)
			}
		}
	}
}
