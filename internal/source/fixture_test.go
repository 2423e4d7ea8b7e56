package source

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqlite"
)

// fileURI returns the SQLite URI of a file, with its path encoded.
func fileURI(path, query string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query}
	return u.String()
}

const (
	walMode   = "PRAGMA journal_mode = WAL"
	rowsTable = "CREATE TABLE runs (run_id TEXT PRIMARY KEY, status TEXT NOT NULL)"
)

// addRows adds n rows to runs, of some 200 bytes each.
func addRows(n int) string {
	return fmt.Sprintf(`INSERT INTO runs WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < %d)
		SELECT printf('%%06d', (SELECT count(*) FROM runs) + i), printf('%%.*c', 200, 'x') FROM c`, n)
}

// execute runs the statements in this process and closes the database.
func execute(t testing.TB, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// build makes a database of the statements, in a folder of its own.
func build(t testing.TB, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	execute(t, path, statements...)
	return path
}

// leftByKilled makes a database as a killed writer leaves it, with -wal and
// -shm: what was committed before the statements is checkpointed, what they
// commit is in the -wal alone.
func leftByKilled(t *testing.T, path string, statements ...string) {
	t.Helper()
	w := startWriter(t, path, append([]string{"PRAGMA wal_autocheckpoint = 0"}, statements...)...)
	w.kill()
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("there is no -wal with frames: %v, %v", info, err)
	}
}

// withWAL makes a database with a -wal and no -shm, like a copy of both: 100
// rows of runs are in the file, 10 in the -wal.
func withWAL(t *testing.T) string {
	t.Helper()
	path := build(t, walMode, rowsTable, addRows(100))
	leftByKilled(t, path, addRows(10))
	if err := os.Remove(path + "-shm"); err != nil {
		t.Fatal(err)
	}
	return path
}

// folder is what a folder holds, by name. Of a -shm the contents are left out:
// every reader next to a writer has its place in there.
func folder(t testing.TB, path string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	is := map[string]string{}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// A file that came and went shows in the folder's own time.
	is["."] = info.ModTime().Format(time.RFC3339Nano)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() && !strings.HasSuffix(e.Name(), "-shm") {
			contents, err := os.ReadFile(filepath.Join(path, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			what += fmt.Sprintf(
				" %d %s %x",
				info.Size(),
				info.ModTime().Format(time.RFC3339Nano),
				sha256.Sum256(contents),
			)
		}
		is[e.Name()] = what
	}
	return is
}

// watch fails the test when the folder that the file is in is not the same at
// the end, or when the function that it returns is called.
func watch(t testing.TB, path string) (same func()) {
	t.Helper()
	dir := filepath.Dir(path)
	before := folder(t, dir)
	same = func() {
		t.Helper()
		after := folder(t, dir)
		if maps.Equal(before, after) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(before)) {
			if before[name] != after[name] {
				t.Errorf("%q was\n%s, is\n%s", name, before[name], after[name])
			}
		}
		for _, name := range slices.Sorted(maps.Keys(after)) {
			if _, ok := before[name]; !ok {
				t.Errorf("%q was left behind", name)
			}
		}
	}
	t.Cleanup(same)
	return same
}

// openSnapshot opens the file; it is closed at the end of the test, before
// what watch looks at.
func openSnapshot(t testing.TB, path string) *Snapshot {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// collect returns all rows of a query as text, and closes it.
func collect(rows *Rows, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, show(row))
	}
}

func show(row []sqlite.Value) string {
	cells := make([]string, len(row))
	for i, v := range row {
		cells[i] = v.String()
		if v.Class == sqlite.Real {
			cells[i] += " real"
		}
	}
	return strings.Join(cells, ", ")
}

// readRuns reads the runs of a file of rowsTable.
func readRuns(ctx context.Context, s *Snapshot) ([]string, error) {
	return collect(s.Rows(ctx, "runs", []string{"run_id"}))
}

// holds fails the test if s does not return exactly n rows of runs.
func holds(t testing.TB, s *Snapshot, n int) {
	t.Helper()
	got, err := readRuns(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != n || n > 0 && got[n-1] != fmt.Sprintf(`%d, "%06d"`, n, n) {
		t.Errorf("%d rows, the last %q; not %d", len(got), got[max(len(got)-1, 0):], n)
	}
	count, err := s.Count(t.Context(), "runs")
	if err != nil || count != int64(n) {
		t.Errorf("count(*) says %d, %v; not %d", count, err, n)
	}
}

// changed fails the test when Changed does not say want.
func changed(t testing.TB, s *Snapshot, want bool) {
	t.Helper()
	got, err := s.Changed()
	if err != nil || got != want {
		t.Errorf("Changed says %v, %v", got, err)
	}
}

// isError fails the test when err is not such an error.
func isError(t testing.TB, err error, kind clierr.Kind, parts ...string) {
	t.Helper()
	f, ok := errors.AsType[*clierr.Error](err)
	if !ok || f.Kind != kind {
		t.Fatalf("the error is %v (kind %d), not of kind %d", err, clierr.KindOf(err), kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not say %q", err, part)
		}
	}
}
