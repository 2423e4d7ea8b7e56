package source

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqlite"

	"modernc.org/sqlite/vfs"
)

// quickChecked returns what SQLite's own quick_check says of a copy of the file,
// up to the error with which it ends.
func quickChecked(t *testing.T, path string) (lines []string, err error) {
	t.Helper()
	return checked(t, path, "quick_check")
}

// checked returns what SQLite's own check, a pragma, says of a copy of the file, up to
// the error with which it ends.
func checked(t *testing.T, path, pragma string) (lines []string, err error) {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(copyBoth(t, path), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("PRAGMA " + pragma)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(line, "\n")...)
	}
	return lines, rows.Err()
}

// TestCheckIntegritySound checks that quick_check accepts intact files and leaves
// file and snapshot usable.
func TestCheckIntegritySound(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t *testing.T) string{
		"WAL mode":              func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(110)) },
		"with frames":           withWAL,
		"rollback journal mode": func(t *testing.T) string { return build(t, rowsTable, addRows(110)) },
		"pages of 512 bytes": func(t *testing.T) string {
			return build(t, "PRAGMA page_size = 512", walMode, rowsTable, addRows(110))
		},
		"free pages and a pointer map": func(t *testing.T) string {
			return build(t, "PRAGMA auto_vacuum = INCREMENTAL", walMode, rowsTable, addRows(2000),
				"DELETE FROM runs WHERE run_id > '000110'")
		},
		"everything in the -wal": func(t *testing.T) string {
			path := build(t, walMode)
			leftByKilled(t, path, rowsTable, addRows(110))
			return path
		},
		"a live writer": func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			startWriter(t, path, addRows(10), "BEGIN", addRows(10))
			return path
		},
		"a search table": func(t *testing.T) string {
			return build(t, walMode, rowsTable, addRows(110), "CREATE VIRTUAL TABLE words USING fts5(body)",
				"INSERT INTO words VALUES ('a b c')")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := make(t)
			same := watch(t, path)
			s := openSnapshot(t, path)
			rows := firstRow(t, s)
			for range 2 {
				if err := s.CheckIntegrity(t.Context()); err != nil {
					t.Error(err)
				}
			}
			theRest(t, rows, 109, 'x')
			holds(t, s, 110)
			changed(t, s, false)
			s.Close()
			same()
		})
	}
}

// TestCheckIntegrityOddTables: what only another program could check stands in
// nobody's way, and hides no damage.
func TestCheckIntegrityOddTables(t *testing.T) {
	t.Parallel()
	path := build(
		t,
		walMode,
		"CREATE TABLE runs (run_id TEXT, status TEXT NOT NULL)",
		addRows(1000),
		"CREATE TABLE checked (a)",
		"INSERT INTO checked VALUES (1)",
		"CREATE TABLE sorted (a)",
		"CREATE INDEX by_a ON sorted (a)",
		"INSERT INTO sorted VALUES ('x'), ('y')",
		"CREATE TABLE made (a)",
		"INSERT INTO made VALUES (1)",
		"CREATE TABLE keyed (a PRIMARY KEY) WITHOUT ROWID",
		"INSERT INTO keyed VALUES (1), (2)",
		"PRAGMA writable_schema = ON",
		"UPDATE sqlite_master SET sql = 'CREATE TABLE checked (a CHECK (theirs(a)))' WHERE name = 'checked'",
		"UPDATE sqlite_master SET sql = 'CREATE INDEX by_a ON sorted (a COLLATE theirs)' WHERE name = 'by_a'",
		"UPDATE sqlite_master SET sql = 'CREATE TABLE made (a, b AS (theirs(a)) NOT NULL)' WHERE name = 'made'",
		"UPDATE sqlite_master SET sql = 'CREATE TABLE keyed (a COLLATE theirs PRIMARY KEY) WITHOUT ROWID' WHERE "+
			"name = 'keyed'",
		"INSERT INTO sqlite_master VALUES ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING "+
			"vec99(v float[3])')",
	)
	if lines, err := quickChecked(t, path); err == nil || lines != nil {
		t.Errorf("SQLite checks it: %q, %v", lines, err)
	}
	if err := openSnapshot(t, path).CheckIntegrity(t.Context()); err != nil {
		t.Error(err)
	}
	damaged := copyBoth(t, path)
	contents := read(t, damaged)
	clear(leafAt(contents, len(contents)/4096/2, 0x0d))
	write(t, damaged, contents)
	isError(t, openSnapshot(t, damaged).CheckIntegrity(t.Context()), clierr.Refused, copyAgain)
}

// TestCheckIntegrityOfValues: a value that its declaration does not allow is no
// damage.
func TestCheckIntegrityOfValues(t *testing.T) {
	t.Parallel()
	path := build(
		t,
		walMode,
		"CREATE TABLE v (a, b, c, d)",
		"INSERT INTO v VALUES (NULL, 5, '5', 1)",
		"CREATE TABLE strict (a ANY) STRICT",
		"INSERT INTO strict VALUES ('x')",
		"PRAGMA writable_schema = ON",
		"UPDATE sqlite_master SET sql = 'CREATE TABLE v (a NOT NULL, b TEXT, c INTEGER, d CHECK (d > 1))' WHERE "+
			"name = 'v'",
		"UPDATE sqlite_master SET sql = 'CREATE TABLE strict (a INT) STRICT' WHERE name = 'strict'",
	)
	for i, want := range []string{"non-INT value in strict.a", "NULL value in v.a", "NUMERIC value in v.b",
		"TEXT value in v.c", "CHECK constraint failed in v"} {
		if lines, err := quickChecked(t, path); err != nil || len(lines) != 5 || lines[i] != want {
			t.Errorf("SQLite says %q, %v, and not %q", lines, err, want)
		}
	}
	watch(t, path)
	if err := openSnapshot(t, path).CheckIntegrity(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCheckIntegrityDamage names what SQLite finds first, on one line.
func TestCheckIntegrityDamage(t *testing.T) {
	t.Parallel()
	const leaf, indexLeaf, page = 0x0d, 0x0a, 4096
	for name, damage := range map[string]func(b []byte) []byte{
		"a leaf of zeros": func(b []byte) []byte { clear(leafAt(b, 10, leaf)); return b },
		"a leaf of noise": func(b []byte) []byte { copy(leafAt(b, 10, leaf), noise(page)); return b },
		"an index's leaf": func(b []byte) []byte { clear(leafAt(b, 10, indexLeaf)); return b },
		"an index's cell": func(b []byte) []byte { leafAt(b, 10, indexLeaf)[8] = 0xff; return b },
		"two leaves change": func(b []byte) []byte {
			p := leafAt(b, 10, leaf)
			swap(p,
				leafAt(b, 20, leaf))
			return b
		},
		"a leaf twice":          func(b []byte) []byte { copy(leafAt(b, 10, leaf), leafAt(b, 20, leaf)); return b },
		"the free list's count": func(b []byte) []byte { b[39] = 7; return b },
		"the end is missing":    func(b []byte) []byte { return b[:len(b)-2*page] },
	} {
		for _, journal := range []string{"DELETE", "WAL"} {
			t.Run(name+", "+journal, func(t *testing.T) {
				t.Parallel()
				path := build(t, "PRAGMA journal_mode = "+journal, rowsTable, addRows(1000))
				write(t, path, damage(read(t, path)))
				watch(t, path)
				s, err := Open(t.Context(), path)
				if err == nil {
					defer s.Close()
					err = s.CheckIntegrity(t.Context())
				}
				isError(t, err, clierr.Refused, path, "the file is damaged or was truncated while it was copied")
				if strings.Contains(err.Error(), "\n") || len(err.Error()) > 700 {
					t.Errorf("it is long: %s", err)
				}
				// Where a page is beyond the end we stop, and SQLite may read zeros. It may
				// end with an error after what it found.
				if lines, _ := quickChecked(t, path); len(lines) > 1 && name != "the end is missing" {
					if !strings.Contains(err.Error(), "SQLite found "+strings.TrimSpace(lines[1])) {
						t.Errorf("%v does not say %q", err, lines[1])
					}
					if more := strings.Contains(err.Error(), "; and more; "); more != (len(lines) > 1+fewFindings) {
						t.Errorf("of %d findings: %v", len(lines)-1, err)
					}
				}
			})
		}
	}
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// TestCheckIntegrityDamageInWAL: the file is sound, its -wal is not, and the sums
// are right.
func TestCheckIntegrityDamageInWAL(t *testing.T) {
	t.Parallel()
	const blame = "without its -wal the file is intact, so the -wal does not belong to it or is damaged: copy the " +
		"file and its -wal together again while Flujo is stopped"
	frame := func(wal []byte, kind byte) (last []byte) { // which counts
		for rest := wal[32:]; len(rest) > 0; rest = rest[24+4096:] {
			if rest[24] == kind {
				last = rest[24 : 24+4096]
			}
		}
		return last
	}
	for name, change := range map[string]func(wal []byte){
		"a leaf of zeros":           func(wal []byte) { clear(frame(wal, 0x0d)) },
		"a page of an index":        func(wal []byte) { frame(wal, 0x0a)[8] = 0xff },
		"a leaf's number":           func(wal []byte) { wal[len(wal)-4096-24+3]-- },
		"the top of a table":        func(wal []byte) { frame(wal, 0x05)[0] = 0 },
		"a schema that can't be":    func(wal []byte) { copy(frame(wal, 'S')[1000:], noise(3096)) },
		"a first page that is none": func(wal []byte) { copy(frame(wal, 'S'), "not a database") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := build(t, walMode, rowsTable, addRows(1000))
			leftByKilled(t, path, addRows(100), "CREATE TABLE more (a)", addRows(100))
			wal := read(t, path+"-wal")
			change(wal)
			seal(wal, false)
			write(t, path+"-wal", wal)
			watch(t, path)
			s, err := Open(t.Context(), path)
			if err == nil {
				defer s.Close()
				err = s.CheckIntegrity(t.Context())
			}
			isError(t, err, clierr.Refused, path, blame)
		})
	}
}

// TestCheckIntegrityUnknownCollationInWAL: the -wal is not blamed for a schema that only another program can read.
func TestCheckIntegrityUnknownCollationInWAL(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, "CREATE INDEX by_status ON runs (status)", addRows(10))
	leftByKilled(t, path, "PRAGMA writable_schema = ON", "UPDATE sqlite_master SET sql = "+
		"'CREATE INDEX by_status ON runs (status COLLATE theirs)' WHERE name = 'by_status'")
	watch(t, path)
	isError(t, readEverything(t, path), clierr.Refused, "no such collation sequence: theirs", needsOther)
}

// TestCheckIntegrityBothDamaged: the -wal is not blamed for what the file has.
func TestCheckIntegrityBothDamaged(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(1000))
	leftByKilled(t, path, addRows(1))
	contents := read(t, path)
	clear(leafAt(contents, 10, 0x0d))
	write(t, path, contents)
	watch(t, path)
	s := openSnapshot(t, path)
	isError(t, s.CheckIntegrity(t.Context()), clierr.Refused, "SQLite found Tree 2 page ", copyAgain)
}

// TestCheckIntegrityLiveWriter: damage next to a writer, who holds SQLite's locks.
func TestCheckIntegrityLiveWriter(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(1000))
	contents := read(t, path)
	clear(leafAt(contents, 10, 0x0d))
	write(t, path, contents)
	startWriter(t, path, "UPDATE runs SET status = 'new' WHERE run_id = '000001'")
	watch(t, path)
	s := openSnapshot(t, path)
	isError(t, s.CheckIntegrity(t.Context()), clierr.Refused, "SQLite found ", copyAgain)
}

// TestCheckIntegrityWhileWritten: pages that changed under the check are no damage.
func TestCheckIntegrityWhileWritten(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(4000))
	s := openSnapshot(t, path)
	contents := read(t, path)
	clear(leafAt(contents, 100, 0x0d))
	write(t, path, contents)
	isError(
		t,
		s.CheckIntegrity(t.Context()),
		clierr.Failed,
		"SQLite found ",
		"the file was written while it was read: stop Flujo and run again",
	)
}

func TestCheckIntegrityCancelled(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"file": build(t, rowsTable, addRows(1000)), "-wal": withWAL(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			watch(t, path)
			s := openSnapshot(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.CheckIntegrity(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			if err := s.CheckIntegrity(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// cancelling is a file system of files in which the n-th read cancels.
type cancelling struct {
	*files
	n      int
	cancel func()
	reads  int
}

func (c *cancelling) Open(name string) (fs.File, error) {
	f, err := c.files.Open(name)
	return &cancellingFile{File: f, fs: c}, err
}

type cancellingFile struct {
	fs.File
	fs *cancelling
}

func (f *cancellingFile) Seek(offset int64, whence int) (int64, error) {
	return f.File.(io.Seeker).Seek(offset, whence)
}

func (f *cancellingFile) Read(p []byte) (int, error) {
	if f.fs.reads++; f.fs.reads >= f.fs.n {
		f.fs.cancel()
		runtime.Gosched() // to the one who waits for it
	}
	return f.File.Read(p)
}

// openCounting opens a file of which reads are counted, and how many pages it has.
func openCounting(t *testing.T, path string) (s *Snapshot, c *cancelling, pages int) {
	t.Helper()
	watch(t, path)
	f, err := openFiles(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	c = &cancelling{files: f, n: math.MaxInt}
	name, fsys, err := vfs.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s = &Snapshot{path: path, files: f, vfs: fsys}
	t.Cleanup(func() { s.Close() })
	if s.conn, err = sqlite.Open("file:" + mainName + "?vfs=" + name); err != nil {
		t.Fatal(err)
	}
	if err := s.conn.Exec(t.Context(), "PRAGMA locking_mode = EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	if s.schema, err = s.readSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, c, int(f.opened.main.size / 4096)
}

// TestCheckIntegrityCancelledInTheMiddle: a single step of SQLite's takes most of a
// check's time.
func TestCheckIntegrityCancelledInTheMiddle(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, c, pages := openCounting(t, build(t, walMode, rowsTable, addRows(20_000)))
	c.n, c.cancel = c.reads+20, cancel
	if err := s.CheckIntegrity(ctx); !errors.Is(err, context.Canceled) || c.reads < c.n || c.reads > pages {
		t.Errorf("after %d reads, of %d pages, the error is %v", c.reads, pages, err)
	}
}

func TestFirstFindings(t *testing.T) {
	t.Parallel()
	for findings, want := range map[string]string{
		"a": "a", "*** in database main ***\na\nb": "a; b", "a\n\n b \nc\n": "a; b; c",
		"a\nb\nc\nd": "a; b; c; and more",
		"*** in database main ***\na\nb\nc\nd\ne": "a; b; c; and more",
	} {
		if got := first(findings); got != want {
			t.Errorf("%q is made %q", findings, got)
		}
	}
}

// TestCheckOfFlujoFile checks the file that Flujo 0.6.11 made.
func TestCheckOfFlujoFile(t *testing.T) {
	t.Parallel()
	contents, err := os.ReadFile("../../testdata/flujo_state.db")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	write(t, path, contents)
	watch(t, path)
	if err := openSnapshot(t, path).CheckIntegrity(t.Context()); err != nil {
		t.Error(err)
	}
}
