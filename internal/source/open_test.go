package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
)

// TestOpenEveryState reads a file in each of the states that it can be found
// in when nobody has it open.
func TestOpenEveryState(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		make func(t *testing.T) string
		rows int
	}{
		{"WAL mode without -wal", func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(1000)) },
			1000},
		{"WAL mode with an empty -wal", func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			write(t, path+"-wal", nil)
			return path
		}, 100},
		{"-wal with frames", withWAL, 110},
		{"-wal and -shm of a killed writer", func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			leftByKilled(t, path, addRows(10), addRows(10))
			return path
		}, 120},
		{"a killed writer's broken off transaction", func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			// A cache this small puts uncommitted frames into the -wal.
			leftByKilled(t, path, "PRAGMA cache_size = 1", addRows(10), "BEGIN", addRows(2000))
			return path
		}, 110},
		{"everything in the -wal", func(t *testing.T) string {
			path := build(t, walMode)
			leftByKilled(t, path, rowsTable, addRows(10))
			return path
		}, 10},
		{"a -shm that is not of this -wal", func(t *testing.T) string {
			path := withWAL(t)
			write(t, path+"-shm", make([]byte, 32768))
			return path
		}, 110},
		{"a -shm without a -wal", func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			write(t, path+"-shm", []byte("nothing"))
			return path
		}, 100},
		{"a -wal cut off in its last frame", func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			leftByKilled(t, path, addRows(10), addRows(1))
			cut(t, path+"-wal", -1)
			return path
		}, 110},
		{"a -wal shorter than its header", func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			write(t, path+"-wal", []byte("x"))
			return path
		}, 100},
		{"rollback journal mode", func(t *testing.T) string { return build(t, rowsTable, addRows(1000)) }, 1000},
		{"rollback journal mode, with a journal that is done", func(t *testing.T) string {
			return build(t, "PRAGMA journal_mode = PERSIST", rowsTable, addRows(1000))
		}, 1000},
		{"rollback journal mode, with an empty journal", func(t *testing.T) string {
			return build(t, "PRAGMA journal_mode = TRUNCATE", rowsTable, addRows(1000))
		}, 1000},
		{"pages of 512 bytes", func(t *testing.T) string {
			return build(t, "PRAGMA page_size = 512", walMode, rowsTable, addRows(1000))
		}, 1000},
		{"pages of 65536 bytes", func(t *testing.T) string {
			return build(t, "PRAGMA page_size = 65536", rowsTable, addRows(1000))
		}, 1000},
		{"a table without rows", func(t *testing.T) string { return build(t, walMode, rowsTable) }, 0},
		{"free pages at the end", func(t *testing.T) string {
			return build(t, walMode, rowsTable, addRows(2000), "DELETE FROM runs WHERE run_id > '000050'")
		}, 50},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := tc.make(t)
			watch(t, path)
			s := openSnapshot(t, path)
			if want := map[string][]string{"runs": {"run_id", "status"}}; fmt.Sprint(s.Tables()) != fmt.Sprint(want) {
				t.Errorf("the tables are %v", s.Tables())
			}
			holds(t, s, tc.rows)
			changed(t, s, false)
			if s.Path() != path {
				t.Errorf("the path is %q", s.Path())
			}
			size := int64(0)
			for _, name := range []string{path, path + "-wal"} {
				if info, err := os.Stat(name); err == nil {
					size += info.Size()
				}
			}
			if s.Size() != size {
				t.Errorf("%d bytes, not %d", s.Size(), size)
			}
		})
	}
}

func write(t testing.TB, path string, contents []byte) {
	t.Helper()
	if err := os.WriteFile(path, contents, 0o644); err != nil {
		t.Fatal(err)
	}
}

// cut cuts the file to size bytes, or by -size bytes.
func cut(t testing.TB, path string, size int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if size < 0 {
		size += info.Size()
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// TestOpenReadsAgain: reading leaves nothing that the next one would trip over.
func TestOpenReadsAgain(t *testing.T) {
	t.Parallel()
	path := withWAL(t)
	watch(t, path)
	for range 3 {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, s, 110)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenTwice: two snapshots of one file at a time, in one process.
func TestOpenTwice(t *testing.T) {
	t.Parallel()
	path := withWAL(t)
	watch(t, path)
	first := openSnapshot(t, path)
	second := openSnapshot(t, path)
	holds(t, first, 110)
	holds(t, second, 110)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	holds(t, second, 110)
}

// TestOpenFlujoFile reads the file that Flujo 0.6.11 made.
func TestOpenFlujoFile(t *testing.T) {
	t.Parallel()
	contents, err := os.ReadFile("../../testdata/flujo_state.db")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	write(t, path, contents)
	watch(t, path)
	s := openSnapshot(t, path)
	format, err := mapping.DetectFormat(s.Tables())
	if err != nil || len(format.OtherTables) != 0 {
		t.Fatalf("others %q, error %v", format.OtherTables, err)
	}
	want := map[string]int{
		"runs":           60,
		"steps":          213,
		"spans":          261,
		"evaluations":    15,
		"workflow_state": 60,
		"system_state":   5,
		"traces":         0,
	}
	for table, n := range want {
		tm := format.Mapping(table)
		rows, err := collect(s.Rows(t.Context(), table, tm.Columns))
		count, counted := s.Count(t.Context(), table)
		if err := errors.Join(err, counted); err != nil || len(rows) != n || count != int64(n) {
			t.Errorf("%s: %d rows, counted %d, not %d: %v", table, len(rows), count, n, err)
		}
	}
	for table, n := range map[string]int64{"steps": 213, "spans": 261, "evaluations": 15} {
		if last, err := s.LastID(t.Context(), table, "id"); err != nil || last != n {
			t.Errorf("%s: the last id is %d, %v", table, last, err)
		}
	}
	if _, err := os.Stat("../../testdata/flujo_state.db-wal"); err == nil {
		t.Error("a -wal lies in testdata")
	}
	if again, err := os.ReadFile("../../testdata/flujo_state.db"); err != nil ||
		sha256.Sum256(again) != sha256.Sum256(contents) {
		t.Errorf("the file in testdata changed: %v", err)
	}
}

func TestOpenRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a-file"), []byte("x"))
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("circle", filepath.Join(dir, "circle")); err != nil {
		t.Fatal(err)
	}
	watch(t, filepath.Join(dir, "x"))
	for name, tc := range map[string]struct{ path, says string }{
		"missing":             {"flujo_state.db", "the file does not exist"},
		"missing folder":      {"no/flujo_state.db", "the file does not exist"},
		"a file for a folder": {"a-file/flujo_state.db", "not a directory"},
		"a folder":            {".", "it is a directory, not a file such as flujo_state.db in it"},
		"dangling link":       {"dangling", "the file does not exist"},
		"circular link":       {"circle", "too many"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, tc.path)
			s, err := Open(t.Context(), path)
			if s != nil {
				t.Error("a snapshot next to the error")
			}
			isError(t, err, clierr.Usage, fmt.Sprintf("open %q: ", path), tc.says)
		})
	}
	_, err := Open(t.Context(), os.DevNull)
	isError(t, err, clierr.Usage, "it is not a regular file")
}

// TestOpenNames: a name means something to a URI, to a shell or to SQLite.
func TestOpenNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"with space.db", "what?.db", "mode=rw?mode=rwc&immutable=1.db", "a#b.db", "100%.db", "%41.db", "a&b;c=d+e.db",
		"ü 文字 🜁.db",
		`a'b"c.db`, "file:x.db", ":memory:", "-dash.db", "line\nbreak.db", `back\slash.db`, "~", "no-ending",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, journal := range []string{"DELETE", "WAL"} {
				path := filepath.Join(t.TempDir(), "a folder? #1 %20", name)
				if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				execute(t, path, "PRAGMA journal_mode = "+journal, rowsTable, addRows(5))
				same := watch(t, path)
				s, err := Open(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				holds(t, s, 5)
				changed(t, s, false)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				same()
			}
		})
	}
}

func TestOpenNameWithLiveWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ü 文 ?mode=rwc#x %41&y='\"\\.db")
	startWriter(t, path, walMode, rowsTable, addRows(5))
	watch(t, path)
	holds(t, openSnapshot(t, path), 5)
}

func TestOpenRelativePath(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, live := range []bool{false, true} {
		path := withWAL(t)
		if live {
			startWriter(t, path, "SELECT * FROM runs")
		}
		relative, err := filepath.Rel(here, path)
		if err != nil {
			t.Fatal(err)
		}
		watch(t, path)
		s := openSnapshot(t, relative)
		holds(t, s, 110)
		if s.Path() != path {
			t.Errorf("the path is %q, not %q", s.Path(), path)
		}
	}
}

// TestOpenSymlink: SQLite keeps the -wal next to the real file.
func TestOpenSymlink(t *testing.T) {
	t.Parallel()
	link := func(t *testing.T, to string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "link.db")
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Run("nobody has it open", func(t *testing.T) {
		t.Parallel()
		path := withWAL(t)
		name := link(t, link(t, path))
		watch(t, path)
		watch(t, name)
		s := openSnapshot(t, name)
		holds(t, s, 110)
		changed(t, s, false)
		if s.Path() != name {
			t.Errorf("the path is %q: it shall be the link's", s.Path())
		}
	})
	t.Run("through a folder", func(t *testing.T) {
		t.Parallel()
		path := withWAL(t)
		watch(t, path)
		holds(t, openSnapshot(t, filepath.Join(link(t, filepath.Dir(path)), filepath.Base(path))), 110)
	})
	t.Run("files next to the link are not its own", func(t *testing.T) {
		t.Parallel()
		name := link(t, withWAL(t))
		write(t, name+"-wal", []byte("another's"))
		write(t, name+"-journal", []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 another's"))
		watch(t, name)
		holds(t, openSnapshot(t, name), 110)
	})
	t.Run("a live writer", func(t *testing.T) {
		t.Parallel()
		path := build(t, walMode, rowsTable, addRows(100))
		startWriter(t, path, addRows(10))
		watch(t, path)
		s := openSnapshot(t, link(t, path))
		holds(t, s, 110)
		changed(t, s, false)
	})
	t.Run("a live writer that writes", func(t *testing.T) {
		t.Parallel()
		path := build(t, walMode, rowsTable, addRows(100))
		w := startWriter(t, path, addRows(10))
		s := openSnapshot(t, link(t, path))
		w.run(addRows(1))
		changed(t, s, true)
		holds(t, s, 110)
	})
	t.Run("a hot journal", func(t *testing.T) {
		t.Parallel()
		path := withHotJournal(t)
		watch(t, path)
		_, err := Open(t.Context(), link(t, path))
		isError(t, err, clierr.Refused, "-journal")
	})
	t.Run("pointed elsewhere", func(t *testing.T) {
		t.Parallel()
		name := link(t, withWAL(t))
		s := openSnapshot(t, name)
		other := link(t, build(t, walMode, rowsTable))
		if err := os.Rename(other, name); err != nil {
			t.Fatal(err)
		}
		changed(t, s, true)
	})
}

// withHotJournal makes a file in rollback journal mode as a writer leaves it
// that is killed in a transaction.
func withHotJournal(t *testing.T) string {
	t.Helper()
	path := build(t, rowsTable, addRows(1000))
	w := startWriter(t, path, "PRAGMA cache_size = 1", "BEGIN", "UPDATE runs SET status = 'half'")
	w.kill()
	if info, err := os.Stat(path + "-journal"); err != nil || info.Size() == 0 {
		t.Fatalf("there is no journal: %v, %v", info, err)
	}
	return path
}

func TestOpenRefusesHotJournal(t *testing.T) {
	t.Parallel()
	path := withHotJournal(t)
	watch(t, path)
	_, err := Open(t.Context(), path)
	isError(
		t,
		err,
		clierr.Refused,
		fmt.Sprintf("open %q: ", path),
		"it holds an interrupted transaction, and its -journal has not been rolled back",
		"open it once with Flujo or sqlite3",
	)
}

func TestOpenAfterRollback(t *testing.T) {
	t.Parallel()
	path := withHotJournal(t)
	execute(t, path, "DELETE FROM runs WHERE run_id > '000999'") // rolls back first
	watch(t, path)
	s := openSnapshot(t, path)
	holds(t, s, 999)
	rows, err := collect(s.Rows(t.Context(), "runs", []string{"status"}))
	if err != nil || len(rows) != 999 ||
		slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, "half") }) {
		t.Errorf("%.100q, %v", rows, err)
	}
}

// TestOpenOddTables: tables that are not Flujo's do not stand in the way.
func TestOpenOddTables(t *testing.T) {
	t.Parallel()
	path := build(
		t,
		rowsTable,
		addRows(3),
		`CREATE TABLE "odd ""name"" 文" ("a b", "c""d", [e])`,
		"CREATE TABLE sqlitex (a)",
		"CREATE TABLE w (k PRIMARY KEY, v) WITHOUT ROWID",
		"CREATE VIRTUAL TABLE words USING fts5(body)",
		"CREATE VIEW seen AS SELECT * FROM runs",
		"CREATE VIEW broken AS SELECT * FROM gone",
		"CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT)",
		"CREATE TABLE made (a, b AS (a+1))",
		"PRAGMA writable_schema = ON",
		"INSERT INTO sqlite_master VALUES ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING "+
			"vec99(v float[3])')",
	)
	watch(t, path)
	s := openSnapshot(t, path)
	holds(t, s, 3)
	for table, want := range map[string][]string{
		"runs": {"run_id", "status"}, `odd "name" 文`: {"a b", `c"d`, "e"}, "sqlitex": {"a"}, "w": {"k", "v"},
		"counted": {"id"}, "made": {"a"},
		"words": nil, "vectors": nil, "words_config": {"k", "v"},
	} {
		if got, ok := s.Tables()[table]; !ok || !slices.Equal(got, want) {
			t.Errorf("%s has %q (%v)", table, got, ok)
		}
	}
	for _, table := range []string{"seen", "broken", "sqlite_sequence", "sqlite_master"} {
		if _, ok := s.Tables()[table]; ok {
			t.Errorf("%s is taken for a table", table)
		}
	}
	rows, err := collect(s.Rows(t.Context(), `odd "name" 文`, []string{`c"d`, "a b"}))
	if err != nil || len(rows) != 0 {
		t.Errorf("%q, %v", rows, err)
	}
}

func TestOpenCancelled(t *testing.T) {
	t.Parallel()
	for _, path := range []string{withWAL(t), build(t, rowsTable)} {
		watch(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s, err := Open(ctx, path); !errors.Is(err, context.Canceled) || s != nil {
			t.Errorf("%v, %v", s, err)
		}
	}
}

func TestReadsWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := openSnapshot(t, build(t, walMode, rowsTable))
	_, err := s.Rows(t.Context(), "steps", []string{"id"})
	isError(t, err, clierr.Refused, "read ", "no such table: steps")
	_, err = s.Count(t.Context(), "steps")
	isError(t, err, clierr.Refused, "no such table: steps")
	_, err = s.LastID(t.Context(), "steps", "id")
	isError(t, err, clierr.Refused, "no such table: steps")
	_, err = s.Keys(t.Context(), "steps", "id")
	isError(t, err, clierr.Refused, "no such table: steps")
	_, err = s.MissingRuns(t.Context(), []string{"steps"})
	isError(t, err, clierr.Refused, "no such table: steps")
	_, err = s.VectorSizes(t.Context())
	isError(t, err, clierr.Refused, "no such table: memories")
}
