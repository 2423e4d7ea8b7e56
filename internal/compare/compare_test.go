package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
)

// TestRowsEqual tests that rows of a plain migration do not differ.
func TestRowsEqual(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(t, "UPDATE flujo.steps SET status = status") // other transactions, the same rows
	for _, table := range m.file.Findings.Tables {
		if f := m.rows(
			t,
			table.Name,
			Options{Writers: m.writers},
		); f.differing != 0 || f.differences != nil ||
			f.rows != nil {
			t.Errorf("%s: got %+v", table.Name, f)
		}
	}
}

// TestRowsDiffer changes the rows in transactions, which are rolled back.
func TestRowsDiffer(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	for _, tc := range []struct {
		name, table, sql string
		differing        int64
		want             []string
	}{
		{
			"missing", "steps", "DELETE FROM flujo.steps WHERE id = 2", 1,
			[]string{`steps "2" is not in PostgreSQL (since)`},
		},
		{
			"extra", "system_state", "INSERT INTO flujo.system_state VALUES ('z', '1'), ('é', '1')", 2,
			[]string{
				`system_state "z" is in PostgreSQL but not in the state file (since)`,
				`system_state "é" is in PostgreSQL but not in the state file (since)`,
			},
		},
		{
			"another key", "steps", "UPDATE flujo.steps SET id = 8 WHERE id = 7", 2,
			[]string{
				`steps "7" is not in PostgreSQL (since)`,
				`steps "8" is in PostgreSQL but not in the state file (since)`,
			},
		},
		{
			"cells", "steps",
			`UPDATE flujo.steps SET status = 'x', output = '{"b": 2}', cost_usd = NULL WHERE id = 1`, 1,
			[]string{
				`steps "1", column status: the state file has "completed", PostgreSQL has "x" (since)`,
				`steps "1", column output: the state file has {"a": [1.50, null], "b": 1}, ` +
					`PostgreSQL has {"b": 2} (since)`,
				`steps "1", column cost_usd: the state file has 0.25, PostgreSQL has NULL (since)`,
			},
		},
		{
			"NULL", "steps", "UPDATE flujo.steps SET output = 'null', raw_response = '\"\"' WHERE id = 7", 1,
			[]string{
				`steps "7", column output: the state file has NULL, PostgreSQL has null (since)`,
				`steps "7", column raw_response: the state file has NULL, PostgreSQL has "" (since)`,
			},
		},
		{
			"number of the same value", "steps",
			`UPDATE flujo.steps SET output = '{"b": 1.0, "a": [1.5, null]}' WHERE id = 1`, 1,
			[]string{`steps "1", column output: the state file has {"a": [1.50, null], "b": 1}, ` +
				`PostgreSQL has {"a": [1.5, null], "b": 1.0} (since)`},
		},
		{
			"time", "runs",
			"UPDATE flujo.runs SET updated_at = updated_at + interval '1 microsecond' WHERE run_id = 'é'", 1,
			[]string{`runs "é", column updated_at: the state file has 2026-01-05T00:00:00+00:00, ` +
				`PostgreSQL has 2026-01-05T00:00:00.000001+00:00 (since)`},
		},
		{
			"derived row is missing", "traces", "DELETE FROM flujo.traces", 1,
			[]string{`traces "a" is not in PostgreSQL (since) (derived)`},
		},
		{
			"no rows", "steps", "TRUNCATE flujo.steps", 3,
			[]string{
				`steps "1" is not in PostgreSQL (since)`, `steps "2" is not in PostgreSQL (since)`,
				`steps "7" is not in PostgreSQL (since)`,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stored, rollback := m.changed(t, tc.sql)
			defer rollback()
			f := m.compare(t, stored, tc.table, Options{Writers: m.writers})
			if f.differing != tc.differing || !slices.Equal(f.text(), tc.want) {
				t.Errorf("got %d rows: %q\nwant %d: %q", f.differing, f.text(), tc.differing, tc.want)
			}
			// Without a receipt nothing is known of the time.
			var want []string
			for _, line := range tc.want {
				want = append(want, strings.Replace(line, " (since)", "", 1))
			}
			if f = m.compare(t, stored, tc.table, Options{}); !slices.Equal(f.text(), want) {
				t.Errorf("without a receipt: got %q", f.text())
			}
		})
	}
}

// TestRowsOfTheMigration tests that a row that the migration wrote is not reported as written since.
func TestRowsOfTheMigration(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(t, "UPDATE flujo.steps SET status = 'x' WHERE id = 1")
	var writer int64
	check(t, m.conn.QueryRow(background, "SELECT xmin::text::bigint FROM flujo.steps WHERE id = 1").Scan(&writer))
	m.writers[writer] = true // as if the migration had written it
	m.run(
		t,
		"UPDATE flujo.steps SET status = 'x' WHERE id = 2",
		"INSERT INTO flujo.steps SELECT 9, run_id, '', 0, '', "+
			"NULL, NULL, NULL, NULL, NULL, now() FROM flujo.runs WHERE run_id = 'a'",
	)
	f := m.rows(t, "steps", Options{Writers: m.writers})
	since := map[string]bool{}
	for _, d := range f.differences {
		since[d.Key] = d.Since
	}
	if len(f.differences) != 3 || since["1"] || !since["2"] || !since["9"] {
		t.Errorf("got %q", f.text())
	}
}

// TestRowsOnRow tests what OnRow is told of each row that differs.
func TestRowsOnRow(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(t, "DELETE FROM flujo.steps WHERE id = 2", "DELETE FROM flujo.traces",
		"UPDATE flujo.steps SET status = 'x', cost_usd = 1 WHERE id = 7",
		"INSERT INTO flujo.steps SELECT 9, 'a', 'new', 0, '', NULL, NULL, NULL, NULL, NULL, now()")
	f := m.rows(t, "steps", Options{})
	if len(f.rows) != 3 || f.differing != 3 {
		t.Fatalf("got %+v", f)
	}
	table := mapping.TableOf("steps")
	cell := func(r Row, column int) string { return string(rowdigest.Cells(r.Stored)[column]) }
	for _, r := range f.rows {
		switch r.Kind {
		case report.RowMissing:
			if r.Key != "2" || r.RowID != 2 || r.Stored != nil || r.Columns != nil {
				t.Errorf("missing: got %+v", r)
			}
		case report.CellDiffer:
			if r.Key != "7" || r.RowID != 7 || !slices.Equal(r.Columns, []int{4, 7}) || cell(r, 4) != "x" ||
				rowdigest.Key(table, r.Stored) != "7" {
				t.Errorf("differs: got %+v", r)
			}
		case report.RowExtra:
			if r.Key != "9" || r.RowID != extract.NoRow || r.Columns != nil || cell(r, 2) != "new" {
				t.Errorf("extra: got %+v", r)
			}
		default:
			t.Errorf("got %+v", r)
		}
	}
	if f := m.rows(t, "traces", Options{}); len(f.rows) != 1 || f.rows[0].RowID != extract.NoRow {
		t.Errorf("derived: got %+v", f.rows)
	}
	// Without OnRow the same rows are counted.
	stored := m.open(t)
	n, err := Rows(background, m.file, stored, table, Options{OnDifference: func(report.Difference) {}})
	if n != 3 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// TestRowsManyDiffer tests more rows than are fetched with one query.
func TestRowsManyDiffer(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(t, "UPDATE flujo.system_state SET value = to_jsonb(repeat('x', 3000000)) WHERE key IN ('key 3', 'key 5')",
		"UPDATE flujo.system_state SET value = '1' WHERE key > 'key 1' AND key NOT IN ('key 3', 'key 5')",
		"INSERT INTO flujo.system_state SELECT 'new ' || n, '2' FROM generate_series(1, 100) n")
	f := m.rows(t, "system_state", Options{})
	kinds := map[string]map[string]bool{report.CellDiffer: {}, report.RowExtra: {}}
	for i, r := range f.rows {
		kinds[r.Kind][r.Key] = true
		if rowdigest.Key(mapping.TableOf("system_state"), r.Stored) != r.Key {
			t.Errorf("row %d is %+v", i, r)
		}
	}
	const differ = 499 // all but "key 1"
	if f.differing != differ+100 || len(kinds[report.CellDiffer]) != differ || len(kinds[report.RowExtra]) != 100 {
		t.Errorf(
			"got %d rows: %d differ, %d are extra",
			f.differing,
			len(kinds[report.CellDiffer]),
			len(kinds[report.RowExtra]),
		)
	}
	at := slices.IndexFunc(f.differences, func(d report.Difference) bool { return d.Key == "key 3" })
	changed := f.differences[at]
	// The time of a row does not differ, since its column was not changed.
	if changed.Column != "value" || changed.InFile != `"3"` || len(changed.InPostgres) > 200 {
		t.Errorf("got %+v", changed)
	}
}

// TestRowsOnRowError tests that an error of OnRow ends the comparison.
func TestRowsOnRowError(t *testing.T) {
	t.Parallel()
	m, stop := migrate(t), errors.New("the disk is full")
	for kind, sql := range map[string]string{
		report.RowMissing: "DELETE FROM flujo.steps",
		report.CellDiffer: "UPDATE flujo.steps SET status = 'x'",
		report.RowExtra: "INSERT INTO flujo.steps SELECT n, 'a', '', 0, '', NULL, NULL, NULL, NULL, NULL, now() " +
			"FROM generate_series(20, 22) n",
	} {
		stored, rollback := m.changed(t, sql)
		calls := 0
		_, err := Rows(background, m.file, stored, mapping.TableOf("steps"), Options{
			OnDifference: func(report.Difference) {},
			OnRow: func(r Row) error {
				if calls++; r.Kind != kind {
					t.Errorf("got a row of kind %s, want %s", r.Kind, kind)
				}
				return stop
			},
		})
		rollback()
		if err != stop || calls != 1 {
			t.Errorf("%s: got error %v after %d calls", kind, err, calls)
		}
	}
}

// TestRowsSame tests cells that the caller regards as the same.
func TestRowsSame(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(
		t,
		"UPDATE flujo.steps SET output = NULL, cost_usd = 7 WHERE id = 2",
		"UPDATE flujo.steps SET status = 'x' WHERE id = 7",
		"UPDATE flujo.steps SET output = NULL WHERE id = 1",
	)
	null := []byte("\x01null")
	f := m.rows(t, "steps", Options{Same: func(kind mapping.Kind, inFile, stored []byte) bool {
		if kind == mapping.KindText && (string(inFile) != "failed" || string(stored) != "x") {
			t.Errorf("Same was called with the texts %q and %q", inFile, stored)
		}
		return kind == mapping.KindFloat4 || kind == mapping.KindText ||
			kind == mapping.KindJSON && bytes.Equal(inFile, null) && stored == nil
	}})
	want := []string{`steps "1", column output: the state file has {"a": [1.50, null], "b": 1}, PostgreSQL has NULL`}
	if f.differing != 1 || len(f.rows) != 1 || !slices.Equal(f.text(), want) {
		t.Errorf("got %d rows, %q, want %q", f.differing, f.text(), want)
	}
}

// TestRowsDuplicates tests keys that several rows have, after a primary key was dropped.
func TestRowsDuplicates(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(
		t,
		"ALTER TABLE flujo.steps DROP CONSTRAINT steps_pkey",
		"INSERT INTO flujo.steps SELECT * FROM flujo.steps WHERE id = 1", // the same row twice
		"INSERT INTO flujo.steps SELECT 2, run_id, step_name, step_index, 'x', NULL, NULL, NULL, NULL, NULL, "+
			"created_at FROM flujo.steps WHERE id = 2", // the row, and another
		"UPDATE flujo.steps SET status = 'y' WHERE id = 7", // two rows that differ
		"INSERT INTO flujo.steps SELECT * FROM flujo.steps WHERE id = 7",
	)
	f := m.rows(t, "steps", Options{})
	slices.SortFunc(f.differences, func(a, b report.Difference) int {
		return strings.Compare(a.Key+a.Kind, b.Key+b.Kind)
	})
	want := []string{
		`steps "1" is in PostgreSQL but not in the state file`,
		`steps "2" is in PostgreSQL but not in the state file`,
		`steps "7", column status: the state file has "failed", PostgreSQL has "y"`,
		`steps "7" is in PostgreSQL but not in the state file`,
	}
	if f.differing != 4 || !slices.Equal(f.text(), want) {
		t.Errorf("got %d rows: %q", f.differing, f.text())
	}
}

// TestSameCell tests that the server decides on JSON that is printed differently.
func TestSameCell(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	c := comparer{ctx: background, stored: m.open(t), table: mapping.TableOf("steps")}
	for _, tc := range []struct {
		name         string
		kind         mapping.Kind
		mine, stored []byte
		want         bool
	}{
		{
			"printed differently", mapping.KindJSON, []byte("\x01" + `{"b":1,"a":2}`),
			[]byte("\x01" + `{"a": 2, "b": 1}`), true,
		},
		{"other JSON", mapping.KindJSON, []byte("\x01" + `{"b":1}`), []byte("\x01" + `{"b": 2}`), false},
		{"NULL in the file", mapping.KindJSON, nil, []byte("\x01null"), false},
		{"NULL in PostgreSQL", mapping.KindJSON, []byte("\x01null"), nil, false},
		{"text", mapping.KindText, []byte(`{"b":1}`), []byte(`{"b": 1}`), false},
	} {
		if got, err := c.sameCell(tc.kind, tc.mine, tc.stored, true); got != tc.want || err != nil {
			t.Errorf("%s: got %t, %v", tc.name, got, err)
		}
	}
	if _, err := c.sameCell(mapping.KindJSON, []byte("\x01{"), []byte("\x01{}"), true); err == nil {
		t.Error("a text that is not JSON is not an error")
	}
}

// TestInconsistent tests rows that a damaged database returns differently at each read.
func TestInconsistent(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	stored := m.open(t)
	table := mapping.TableOf("steps")
	encoding := encodingOf(t, stored, table, "1")
	for key, want := range map[string]string{"1": "differs between two", "777": "is not found by its key"} {
		var got []report.Difference
		c := comparer{ctx: background, stored: stored, table: table, options: Options{
			OnDifference: func(d report.Difference) { got = append(got, d) },
			OnRow:        func(Row) error { t.Error("OnRow was called"); return nil },
		}}
		c.pending = []pendingRow{{key: key, encoding: encoding}}
		check(t, c.comparePending())
		if len(got) != 1 || got[0].Kind != report.CellDiffer || !strings.Contains(fmt.Sprint(got[0]), want) ||
			c.differing != 1 {
			t.Errorf("got %v, %d rows", got, c.differing)
		}
	}
}

// encodingOf returns the encoding of a stored row.
func encodingOf(t *testing.T, stored *postgres.Snapshot, table *mapping.Table, key string) (encoding []byte) {
	t.Helper()
	check(t, stored.Encodings(background, table, []string{key}, func(_ string, e []byte) error {
		encoding = bytes.Clone(e)
		return nil
	}))
	return encoding
}

// TestUndecided tests JSON that is compared without a copy for OnRow, and JSON that only the server can compare.
// Without OnRow the server is always asked.
func TestUndecided(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(t, "UPDATE flujo.steps SET output = (SELECT jsonb_agg(1) FROM generate_series(1, 1000)) "+
		"WHERE id = 2")
	stored := m.open(t)
	table := mapping.TableOf("steps")
	encoding := encodingOf(t, stored, table, "2")
	for name, tc := range map[string]struct {
		old, new string
		differ   bool
		decided  bool // without the server
	}{
		"another number":      {"[1, 1, 1", "[1, 2, 1", true, true},
		"printed differently": {"[1, 1, 1", "[1 ,1, 1", false, false},
		"both":                {"[1, 1, 1", "[1 ,2, 1", true, false},
	} {
		mine := bytes.Replace(encoding, []byte(tc.old), []byte(tc.new), 1)
		if bytes.Equal(mine, encoding) {
			t.Fatalf("%s: no %q in the encoding", name, tc.old)
		}
		var columns []string
		rows := 0
		c := comparer{ctx: background, stored: stored, table: table, options: Options{
			OnDifference: func(d report.Difference) { columns = append(columns, d.Column) },
			OnRow: func(r Row) error {
				if rows++; r.Key != "2" || !bytes.Equal(r.Stored, encoding) {
					t.Errorf("%s: OnRow got row %q with %d bytes", name, r.Key, len(r.Stored))
				}
				return nil
			},
		}}
		if err := c.cells(
			&pendingRow{key: "2", encoding: mine},
			encoding,
			false,
		); errors.Is(
			err,
			errUndecided,
		) == tc.decided {
			t.Errorf("%s: without the server: %v", name, err)
		}
		columns, rows = nil, 0
		c.pending = []pendingRow{{key: "2", encoding: mine}}
		check(t, c.comparePending())
		if want := map[bool]string{true: "[output] 1", false: "[] 0"}[tc.differ]; fmt.Sprint(columns, rows) != want {
			t.Errorf("%s: got differences in %v and %d rows, want %s", name, columns, rows, want)
		}
		c.options.OnRow = nil
		if err := c.cells(&pendingRow{key: "2", encoding: mine}, encoding, false); !errors.Is(err, errUndecided) {
			t.Errorf("%s: without OnRow: %v", name, err)
		}
	}
}

// TestExtraRows tests rows that only PostgreSQL has, an empty key among them.
func TestExtraRows(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(t, "INSERT INTO flujo.system_state (key, value) SELECT key, '1' FROM unnest(ARRAY['', 'a', 'Z']) key")
	var keys []string
	differing, err := Rows(background, m.file, m.open(t), mapping.TableOf("system_state"), Options{
		OnDifference: func(report.Difference) {},
		OnRow: func(r Row) error {
			if r.Kind != report.RowExtra || r.Stored == nil {
				t.Errorf("got %+v", r)
			}
			keys = append(keys, r.Key)
			return nil
		},
	})
	if want := []string{"", "Z", "a"}; err != nil || differing != 3 || !slices.Equal(keys, want) {
		t.Errorf("got %q, %d, %v, want %q", keys, differing, err, want)
	}
}

func TestRowsErrors(t *testing.T) {
	t.Parallel()
	m := migrate(t)
	m.run(t, "UPDATE flujo.steps SET status = 'x'")
	steps := mapping.TableOf("steps")
	o := Options{OnDifference: func(report.Difference) {}}
	cancelled, cancel := context.WithCancel(background)
	cancel()
	if _, err := Rows(cancelled, m.file, m.open(t), steps, o); clierr.KindOf(err) != clierr.Interrupted {
		t.Errorf("got error %v", err)
	}
	stored := m.open(t)
	stored.Close()
	if _, err := Rows(background, m.file, stored, steps, o); clierr.KindOf(err) != clierr.Failed {
		t.Errorf("got error %v", err)
	}
	// The context ends while rows are reported.
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	o.OnDifference = func(report.Difference) { cancel() }
	o.OnRow = func(Row) error { return ctx.Err() }
	if _, err := Rows(ctx, m.file, m.open(t), steps, o); err != context.Canceled {
		t.Errorf("got error %v", err)
	}
}
