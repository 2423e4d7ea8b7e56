package extract_test

import (
	"fmt"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// TestUndeclaredKeys tests key columns that are not declared as primary keys, so that SQLite allows NULL, duplicates
// and any storage class in them.
func TestUndeclaredKeys(t *testing.T) {
	t.Parallel()
	format := withoutColumns("", "")
	format["steps"] = "id I, run_id T, step_name T, step_index I, status T, created_at T"
	format["system_state"] = "key T, value T, updated_at T"
	f := flujotest.NewFile(t, format)
	f.Insert("runs", nil)
	var originals []flujotest.Original
	var found []finding
	rejected := func(table, key string, rowid int64, kind string, own map[string]string, row flujotest.Cells) {
		found = append(found, finding{table: table, key: key, rowid: rowid, reason: kind, rejected: true})
		for column, cell := range row {
			originals = append(
				originals,
				flujotest.OriginalCell(table, key, rowid, column, joinReasons(own[column], kind), cell),
			)
		}
	}
	step := func(rowid int64, id any) flujotest.Cells {
		row := flujotest.Cells{
			"id":         id,
			"run_id":     "r",
			"step_name":  "s",
			"step_index": rowid,
			"status":     "completed",
			"created_at": day(1),
		}
		f.Insert("steps", flujotest.Cells{"rowid": rowid, "id": id, "step_index": rowid, "created_at": day(1)})
		return row
	}
	changed := func(table, key string, rowid int64, column, kind string, cell any) {
		found = append(found, finding{table: table, key: key, rowid: rowid, column: column, reason: kind})
		originals = append(originals, flujotest.OriginalCell(table, key, rowid, column, kind, cell))
	}
	step(1, int64(7))
	// Of two rows with one key, the row whose key is unchanged gets it, even if it comes later.
	rejected("steps", "8", 2, "duplicate-key", map[string]string{"id": "text-as-number"}, step(2, "8"))
	step(3, int64(8))
	step(4, 9.5)
	changed("steps", "10", 4, "id", "rounded", 9.5)
	rejected("steps", "10", 5, "duplicate-key", map[string]string{"id": "rounded+text-as-number"}, step(5, "10.5"))
	rejected("steps", "x", 6, "not-a-number", nil, step(6, "x"))
	rejected("steps", "", 7, "null-key", nil, step(7, nil))
	step(8, int64(5_000_000_000))
	setting := func(rowid int64, key any) flujotest.Cells {
		row := flujotest.Cells{"key": key, "value": "1", "updated_at": day(1)}
		f.Insert("system_state", flujotest.Cells{"rowid": rowid, "key": key, "updated_at": day(1)})
		return row
	}
	setting(1, "a")
	rejected("system_state", "a", 2, "duplicate-key", nil, setting(2, "a"))
	rejected("system_state", "a", 3, "duplicate-key", nil, setting(3, []byte("a")))
	rejected("system_state", "5", 4, "duplicate-key", map[string]string{"key": "number-as-text"}, setting(4, int64(5)))
	setting(5, "5")
	setting(6, "")
	rejected("system_state", "", 7, "null-key", nil, setting(7, nil))
	path := f.CloseUntyped()

	url := pgtest.Database(t)
	o := flujotest.Options(t, path, url)
	wantRefused(t, o, "8 rows")
	o.Quarantine = true
	all := collectFindings(&o)
	result := flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	flujotest.WantOriginals(t, conn, originals)
	wantReport(t, result, *all, found)
	for _, c := range [][2]string{
		{"SELECT string_agg(id || ':' || step_index, ' ' ORDER BY id) FROM flujo.steps", "7:1 8:3 10:4 5000000000:8"},
		{"SELECT string_agg(key, ' ' ORDER BY key) FROM flujo.system_state", " 5 a"},
		{"SELECT nextval('flujo.steps_id_seq')", fmt.Sprint(5_000_000_001)},
	} {
		if got := flujotest.One(t, conn, c[0]); got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
	}
}
