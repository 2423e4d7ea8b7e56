package source

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/clierr"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	contents, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return contents
}

// seal makes the checksums of a -wal right after it was changed, of its header
// and of all frames, as bigEndian says.
func seal(wal []byte, bigEndian bool) {
	var order binary.ByteOrder = binary.LittleEndian
	wal[3] &^= 1
	if bigEndian {
		order = binary.BigEndian
		wal[3] |= 1
	}
	var one, two uint32
	sum := func(b []byte) {
		for ; len(b) >= 8; b = b[8:] {
			one += order.Uint32(b) + two
			two += order.Uint32(b[4:]) + one
		}
	}
	put := func(b []byte) {
		binary.BigEndian.PutUint32(b, one)
		binary.BigEndian.PutUint32(b[4:], two)
	}
	sum(wal[:24])
	put(wal[24:])
	page := int(binary.BigEndian.Uint32(wal[8:]))
	for rest := wal[32:]; len(rest) >= 24+page; rest = rest[24+page:] {
		sum(rest[:8])
		sum(rest[24 : 24+page])
		put(rest[16:])
	}
}

// changeWAL makes a file with a -wal, as withWAL does, and changes that.
func changeWAL(t *testing.T, change func(wal []byte) []byte) (path string) {
	t.Helper()
	path = withWAL(t)
	write(t, path+"-wal", change(read(t, path+"-wal")))
	return path
}

// TestWAL counts frames as SQLite does.
func TestWAL(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		make  func(t *testing.T) string
		there bool
		none  bool // it has no frame of a committed transaction
	}{
		"none": {make: func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(100)) },
			none: true},
		"not in WAL": {make: func(t *testing.T) string { return build(t, rowsTable, addRows(100)) }, none: true},
		"empty": {none: true, make: func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			write(t, path+"-wal", nil)
			return path
		}},
		"shorter than its header": {there: true, none: true, make: func(t *testing.T) string {
			return changeWAL(t, func(wal []byte) []byte { return wal[:31] })
		}},
		"only a header": {there: true, none: true, make: func(t *testing.T) string {
			return changeWAL(t, func(wal []byte) []byte { return wal[:32] })
		}},
		"half a frame": {there: true, none: true, make: func(t *testing.T) string {
			return changeWAL(t, func(wal []byte) []byte { return wal[:2000] })
		}},
		"frames": {there: true, make: withWAL},
		"several": {there: true, make: func(t *testing.T) string {
			return leftBehind(t, addRows(10), addRows(500),
				addRows(1))
		}},
		"the last is cut off": {there: true, make: func(t *testing.T) string {
			path := leftBehind(t, addRows(10), addRows(500), addRows(1))
			cut(t, path+"-wal", -1)
			return path
		}},
		"a transaction that is broken off": {there: true, make: func(t *testing.T) string {
			return leftBehind(t, "PRAGMA cache_size = 1", addRows(10), "BEGIN", addRows(2000))
		}},
		"nothing but one that is broken off": {there: true, none: true, make: func(t *testing.T) string {
			return leftBehind(t, "PRAGMA cache_size = 1", "BEGIN", addRows(2000))
		}},
		"begun anew over older frames": {there: true, make: func(t *testing.T) string {
			return leftBehind(t, addRows(500), "PRAGMA wal_checkpoint(RESTART)", addRows(1))
		}},
		"a frame with another page": {there: true, make: func(t *testing.T) string {
			path := leftBehind(t, addRows(10), addRows(500), addRows(1))
			wal := read(t, path+"-wal")
			wal[32+20*(24+4096)+1000] ^= 1
			write(t, path+"-wal", wal)
			return path
		}},
		"a frame with other salts": {there: true, make: func(t *testing.T) string {
			path := leftBehind(t, addRows(10), addRows(500), addRows(1))
			wal := read(t, path+"-wal")
			wal[32+20*(24+4096)+8] ^= 1
			seal(wal, false)
			write(t, path+"-wal", wal)
			return path
		}},
		"a frame of no page": {there: true, make: func(t *testing.T) string {
			path := leftBehind(t, addRows(10), addRows(500), addRows(1))
			wal := read(t, path+"-wal")
			clear(wal[32+20*(24+4096):][:4])
			seal(wal, false)
			write(t, path+"-wal", wal)
			return path
		}},
		"big-endian sums": {there: true, make: func(t *testing.T) string {
			return changeWAL(t, func(wal []byte) []byte { seal(wal, true); return wal })
		}},
		"pages of 512 bytes": {there: true, make: func(t *testing.T) string {
			path := build(t, "PRAGMA page_size = 512", walMode, rowsTable)
			leftByKilled(t, path, addRows(100), addRows(1))
			return path
		}},
		"pages of 65536 bytes": {there: true, make: func(t *testing.T) string {
			path := build(t, "PRAGMA page_size = 65536", walMode, rowsTable)
			leftByKilled(t, path, addRows(1000), addRows(1))
			return path
		}},
		"a live writer": {there: true, make: func(t *testing.T) string {
			path := build(t, walMode, rowsTable)
			startWriter(t, path, addRows(100), addRows(1))
			return path
		}},
		"a live writer in a transaction": {there: true, make: func(t *testing.T) string {
			path := build(t, walMode, rowsTable)
			startWriter(t, path, "PRAGMA cache_size = 1", addRows(100), "BEGIN", addRows(2000))
			return path
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := tc.make(t)
			same := watch(t, path)
			s := openSnapshot(t, path)
			there, frames := s.WAL()
			s.Close()
			same()
			_, want := recovered(t, copyBoth(t, path))
			if there != tc.there || frames != want || (frames == 0) != tc.none {
				t.Errorf("there: %v, %d frames; SQLite takes %d", there, frames, want)
			}
		})
	}
}

// leftBehind is a file of 100 rows, and what the statements left in its -wal.
func leftBehind(t *testing.T, statements ...string) (path string) {
	t.Helper()
	path = build(t, walMode, rowsTable, addRows(100))
	leftByKilled(t, path, statements...)
	return path
}

// badHeaders are what SQLite takes for an empty -wal, or, at the end, for one
// of a version that it does not know.
var badHeaders = map[string]struct {
	change func(wal []byte)
	says   string
	live   bool // also when its writer lives
}{
	"zeros": {
		func(wal []byte) { clear(wal[:32]) },
		"its -wal does not have the header of a -wal: it belongs to another file or is damaged",
		true,
	},
	"text": {func(wal []byte) { copy(wal, "CREATE TABLE") }, "its -wal does not have the header of a -wal", true},
	"the file's header": {
		func(wal []byte) { copy(wal, "SQLite format 3\x00") },
		"its -wal does not have the header of a -wal",
		true,
	},
	"other salts":      {func(wal []byte) { wal[17] ^= 1 }, "its -wal has a damaged header", false},
	"another checksum": {func(wal []byte) { wal[31] ^= 1 }, "its -wal has a damaged header", false},
	"pages of no size": {
		func(wal []byte) { clear(wal[8:12]); seal(wal, false) },
		"its -wal has pages of 0 bytes, but the file has pages of 4096 bytes: it belongs to another file",
		true,
	},
	"odd pages": {func(wal []byte) { wal[11] = 1; seal(wal, false) }, "its -wal has pages of 4097 bytes", true},
	"larger pages": {
		func(wal []byte) { wal[10] = 0x20; seal(wal, false) },
		"its -wal has pages of 8192 bytes",
		true,
	},
	"another version": {
		func(wal []byte) { wal[7]++; seal(wal, false) },
		"its -wal has a damaged header or was not written by SQLite",
		false,
	},
}

func TestOpenRefusesWALHeaders(t *testing.T) {
	t.Parallel()
	for name, tc := range badHeaders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := changeWAL(t, func(wal []byte) []byte { tc.change(wal); return wal })
			watch(t, path)
			s, err := Open(t.Context(), path)
			if s != nil {
				t.Error("a snapshot next to the error")
			}
			isError(
				t,
				err,
				clierr.Refused,
				fmt.Sprintf("open %q: ", path),
				tc.says,
				"; copy the file and its -wal together again while Flujo is stopped, or remove the -wal if it "+
					"belongs to another file",
			)
			if name != "another version" {
				if rows, frames := recovered(t, copyBoth(t, path)); rows != 100 || frames != 0 {
					t.Errorf("SQLite finds %d rows and %d frames: this is no danger", rows, frames)
				}
			}
		})
	}
}

// TestLiveWriterInItsHeader: a header that may be half written is refused only
// for what a writer never writes.
func TestLiveWriterInItsHeader(t *testing.T) {
	t.Parallel()
	for name, tc := range badHeaders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := build(t, walMode, rowsTable, addRows(100))
			w := startWriter(t, path, addRows(10))
			wal := read(t, path+"-wal")
			header := bytes.Clone(wal[:32])
			tc.change(wal)
			overwrite(t, path+"-wal", wal[:32])
			watch(t, path)
			s, err := Open(t.Context(), path)
			if tc.live {
				isError(t, err, clierr.Refused, tc.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			holds(t, s, 110)
			if there, frames := s.WAL(); !there || frames != 0 {
				t.Errorf("%v, %d", there, frames)
			}
			overwrite(t, path+"-wal", header)
			w.run("SELECT 1")
			changed(t, s, true)
			overwrite(t, path+"-wal", wal[:32])
			setTimes(t, path+"-wal", s.files.opened.wal.modified)
			changed(t, s, false)
		})
	}
}

// overwrite writes at the beginning of a file and leaves the rest, and the
// file, what it is.
func overwrite(t *testing.T, path string, contents []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(contents, 0); err != nil {
		t.Fatal(err)
	}
}

// pages returns the number of pages of a database.
func pages(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRow("PRAGMA page_count").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// buildAsLarge makes a database of a table, and adds rows until it has as many
// pages as another one.
func buildAsLarge(t *testing.T, as, table, row string) (path string) {
	t.Helper()
	path = build(t, walMode, table)
	var dbs [2]*sql.DB
	for i, name := range []string{fileURI(as, "mode=ro"), fileURI(path, "")} {
		db, err := sql.Open("sqlite", name)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		dbs[i] = db
	}
	want := pages(t, dbs[0])
	for pages(t, dbs[1]) < want {
		if _, err := dbs[1].Exec(row); err != nil {
			t.Fatal(err)
		}
	}
	if got := pages(t, dbs[1]); got != want {
		t.Fatalf("%d pages, not %d", got, want)
	}
	return path
}

// TestForeignWAL puts a -wal next to a file that it was not written for. SQLite
// asks for no more than the page size.
func TestForeignWAL(t *testing.T) {
	t.Parallel()
	const (
		otherTable = "CREATE TABLE other (k TEXT PRIMARY KEY, v)"
		otherRow   = "INSERT INTO other VALUES (printf('%0200d', (SELECT count(*) FROM other) * 7919 % 99991), 1)"
		longer     = "INSERT INTO runs SELECT printf('%06d', (SELECT count(*) FROM runs)), printf('%.*c', 350, 'y')"
		change     = "UPDATE runs SET status = 'other' WHERE rowid BETWEEN 300 AND 340"
	)
	for name, tc := range map[string]struct {
		main func(t *testing.T) string
		wal  func(t *testing.T, main string) string // returns the file whose -wal is put next to main's copy
		says string
		open bool // Open sees it; else CheckIntegrity
	}{
		"other page size": {open: true, says: "its -wal has pages of 1024 bytes, but the file has pages of 4096 " +
			"bytes: it belongs to another file", wal: func(t *testing.T, _ string) string {
			path := build(t, "PRAGMA page_size = 1024", walMode, rowsTable)
			leftByKilled(t, path, addRows(10))
			return path
		}},
		"other content": {open: true, says: "its -wal belongs to another file: after its last transaction the file " +
			"would have ", wal: func(t *testing.T, _ string) string {
			path := build(t, walMode, otherTable, "INSERT INTO other VALUES (1, 2)")
			leftByKilled(t, path, "UPDATE other SET v = 3")
			return path
		}},
		"other content, as many pages": {says: "without its -wal the file is intact, so the -wal does not belong " +
			"to it or is damaged: copy the file and its -wal together again while Flujo is stopped",
			wal: func(t *testing.T, main string) string {
				path := buildAsLarge(t, main, otherTable, otherRow)
				leftByKilled(t, path, "UPDATE other SET v = 2 WHERE rowid % 20 = 0")
				return path
			}},
		"same schema, another database": {open: true,
			says: "its -wal belongs to another file: after its last transaction the file would have ",
			wal: func(t *testing.T, _ string) string {
				path := build(t, walMode, rowsTable, addRows(2000))
				leftByKilled(t, path, change)
				return path
			}},
		"same schema, another database, as many pages": {says: "without its -wal the file is intact, so the -wal " +
			"does not belong to it", wal: func(t *testing.T, main string) string {
			path := buildAsLarge(t, main, rowsTable, longer)
			leftByKilled(t, path, change)
			return path
		}},
		"same schema, another database that grew": {open: true,
			says: "another state of this one: their change counters do not match",
			wal: func(t *testing.T, _ string) string {
				path := build(t, walMode, rowsTable, addRows(500))
				for range 3 { // each connection counts once
					execute(t, path, addRows(500))
				}
				leftByKilled(t, path, addRows(500))
				return path
			}},
		"of an earlier state": {open: true, says: "another state of this one: their change counters do not match",
			wal: func(t *testing.T, main string) string {
				leftByKilled(t, main, "PRAGMA user_version = 1")
				path := copyBoth(t, main)
				execute(t, main, "PRAGMA user_version = 2") // takes the -wal in, and away
				execute(t, main, "PRAGMA user_version = 3")
				return path
			}},
		"of a later state": {open: true, says: "another state of this one: their change counters do not match",
			wal: func(t *testing.T, main string) string {
				path := copyBoth(t, main)
				execute(t, path, "PRAGMA user_version = 1")
				execute(t, path, "PRAGMA user_version = 2")
				leftByKilled(t, path, "PRAGMA user_version = 3")
				return path
			}},
		"a backup was put in the file's place": {open: true,
			says: "its -wal holds rows, but the file is not in WAL mode", main: func(t *testing.T) string {
				path := build(t, walMode, rowsTable, addRows(1000))
				backup := filepath.Join(t.TempDir(), "backup.db")
				execute(t, path, "VACUUM INTO '"+backup+"'")
				return backup
			}, wal: func(t *testing.T, _ string) string {
				path := build(t, walMode, rowsTable, addRows(1000))
				leftByKilled(t, path, change)
				return path
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.main == nil {
				tc.main = func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(1000)) }
			}
			main := tc.main(t)
			other := tc.wal(t, main)
			path := copyBoth(t, main)
			write(t, path+"-wal", read(t, other+"-wal"))
			watch(t, path)
			s, err := Open(t.Context(), path)
			if !tc.open {
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				err = s.CheckIntegrity(t.Context())
			}
			isError(t, err, clierr.Refused, fmt.Sprintf("%q", path), tc.says)
		})
	}
}

// TestLiveWriterGoesOn: what was read of the file and of its -wal at two
// moments need not go together while a writer lives.
func TestLiveWriterGoesOn(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(100))
	w := startWriter(t, path, addRows(10), "PRAGMA user_version = 1")
	header := read(t, path)[:100]
	header[27] += 10 // as after a checkpoint of commits that are not in the -wal that was read
	overwrite(t, path, header)
	watch(t, path)
	holds(t, openSnapshot(t, path), 110)
	w.kill()
	_, err := Open(t.Context(), path)
	isError(t, err, clierr.Refused, "their change counters do not match")
}
