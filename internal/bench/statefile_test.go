package bench_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/bench"
	"flujo-port/internal/check"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/source"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const size = 2_000_000

// generate makes a small file.
func generate(t *testing.T, seed uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	if err := bench.Generate(path, size, 0, 0, seed); err != nil {
		t.Fatal(err)
	}
	return path
}

// tables returns the file's tables with their columns.
func tables(t *testing.T, path string) map[string][]string {
	t.Helper()
	snapshot, err := source.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	return snapshot.Tables()
}

func TestGenerateTheSameRows(t *testing.T) {
	first, second := generate(t, 1), generate(t, 1)
	var all int64
	for table := range tables(t, first) {
		sum, rows := digest(t, first, table)
		if again, _ := digest(t, second, table); again != sum {
			t.Errorf("%s has other rows in the second file", table)
		}
		if rows == 0 && table != mapping.Traces {
			t.Errorf("%s has no rows", table)
		}
		all += rows
	}
	if rows, err := bench.Rows(first); err != nil || rows != all {
		t.Errorf("Rows gives %d, %v; there are %d", rows, err, all)
	}
	info, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	if n := info.Size(); n < size*9/10 || n > size*11/10 {
		t.Errorf("%d bytes, where %d were wanted", n, size)
	}
}

// TestGenerateOtherRuns checks that files of different seeds have no run in common, and the
// same keys of system_state with different values.
func TestGenerateOtherRuns(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+generate(t, 1)+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // the other file is attached to one connection
	if _, err := db.Exec("ATTACH ? AS other", generate(t, 2)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		query string
		want  int
	}{
		{"SELECT count(*) FROM runs JOIN other.runs USING (run_id)", 0},
		{"SELECT count(*) FROM (SELECT key FROM system_state EXCEPT SELECT key FROM other.system_state)", 0},
		{"SELECT count(*) FROM system_state JOIN other.system_state USING (key, value)", 0},
	} {
		var got int
		if err := db.QueryRow(tc.query).Scan(&got); err != nil || got != tc.want {
			t.Errorf("%s: %d, %v; want %d", tc.query, got, err, tc.want)
		}
	}
}

// digest sums a table's rows, cells with their storage classes, in the order
// in which they are stored.
func digest(t *testing.T, path, table string) (sum string, rows int64) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found, err := db.Query("SELECT * FROM " + table + " ORDER BY rowid")
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		t.Fatal(err)
	}
	cells, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range cells {
		into[i] = &cells[i]
	}
	hash := sha256.New()
	for ; found.Next(); rows++ {
		if err := found.Scan(into...); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(hash, "%#v\n", cells)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), rows
}

func TestGenerateAsFlujoWrites(t *testing.T) {
	path := generate(t, 1)
	format, err := mapping.DetectFormat(tables(t, path))
	if err != nil {
		t.Fatal(err)
	}
	fixture, err := mapping.DetectFormat(tables(t, "../../testdata/flujo_state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if format.Name != fixture.Name {
		t.Errorf("format Flujo %s, want %s", format.Name, fixture.Name)
	}
	result, err := check.Run(
		context.Background(),
		check.Options{SQLite: path, OnFinding: func(f mapping.Finding) {
			t.Errorf("found in %s: %+v", f.Table, f)
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if rows, cells := result.Count(); rows+cells > 0 || len(result.Widened) > 0 || len(result.Ignored) > 0 {
		t.Errorf(
			"%d rejected rows, %d cells changed, widened %v, ignored %v",
			rows,
			cells,
			result.Widened,
			result.Ignored,
		)
	}
}
