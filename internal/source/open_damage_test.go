package source

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/clierr"
)

const (
	copyAgain = "the file is damaged or was truncated while it was copied: copy it again with its -wal, or recover " +
		"it with sqlite3's .recover"
	notSQLite = "it is not a SQLite database, or it is encrypted"
)

func noise(n int) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func TestOpenRefusesWhatIsNotSQLite(t *testing.T) {
	t.Parallel()
	header := append([]byte("SQLite format 3\x00"), make([]byte, 4080)...)
	for name, tc := range map[string]struct {
		contents []byte
		says     string
	}{
		"empty":                {nil, "the file is empty; pass the file that Flujo's state_uri names"},
		"one byte":             {[]byte("S"), notSQLite},
		"encrypted":            {noise(8192), notSQLite},
		"encrypted, and short": {noise(99), notSQLite},
		"text":                 {[]byte("CREATE TABLE runs (run_id TEXT);\n"), notSQLite},
		"SQLite 2": {append([]byte("** This file contains an SQLite 2.1 database **\x00"),
			make([]byte, 4096)...), notSQLite},
		"zeros":             {make([]byte, 8192), notSQLite},
		"magic and nothing": {[]byte("SQLite format 3\x00"), notSQLite},
		"magic and zeros":   {header, notSQLite},
		"magic and noise":   {append([]byte("SQLite format 3\x00"), noise(4080)...), notSQLite},
		"magic, a size, a mode": {append([]byte("SQLite format 3\x00\x10\x00\x02\x02\x00\x40\x20\x20"),
			make([]byte, 4072)...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "flujo_state.db")
			write(t, path, tc.contents)
			watch(t, path)
			s, err := Open(t.Context(), path)
			if err == nil { // a header that SQLite can live with, and no table behind it
				defer s.Close()
				if len(s.Tables()) > 0 || tc.says != "" {
					t.Errorf("it has tables %v", s.Tables())
				}
				return
			}
			isError(t, err, clierr.Refused, fmt.Sprintf("%q", path), tc.says)
		})
	}
}

// readAll reads every row of runs, by the table and by count(*).
func readAll(t *testing.T, path string) (rows int, err error) {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if _, ok := s.Tables()["runs"]; !ok {
		return 0, fmt.Errorf("no table runs among %v", s.Tables())
	}
	got, err := collect(s.Rows(t.Context(), "runs", []string{"run_id", "status"}))
	if err != nil {
		return 0, err
	}
	count, err := s.Count(t.Context(), "runs")
	if err == nil && count != int64(len(got)) {
		err = fmt.Errorf("%d rows, count(*) says %d", len(got), count)
	}
	return len(got), err
}

// TestCutOff: a file that was cut off anywhere is refused, and never read as a
// shorter one.
func TestCutOff(t *testing.T) {
	t.Parallel()
	const rows = 200
	for _, journal := range []string{"DELETE", "WAL"} {
		whole, err := os.ReadFile(build(t, "PRAGMA journal_mode = "+journal, rowsTable, addRows(rows)))
		if err != nil {
			t.Fatal(err)
		}
		n := len(whole)
		for _, size := range []int{1, 15, 16, 50, 99, 100, 101, 511, 512, 1000, 4095, 4096, 4097, 8192, n / 2,
			n/2 + 100, n - 8192, n - 4097, n - 4096, n - 4095, n - 100, n - 1} {
			t.Run(fmt.Sprintf("%s %d of %d", journal, size, n), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "flujo_state.db")
				write(t, path, whole[:size])
				watch(t, path)
				_, err := readAll(t, path)
				says := "the file is damaged or was truncated while it was copied"
				if size < 100 {
					says = notSQLite
				}
				isError(t, err, clierr.Refused, fmt.Sprintf("%q", path), says)
			})
		}
	}
}

// TestCutOffBehindWAL: what a -wal does not hold is missing from a file that
// was cut off, and SQLite would read zeros in its place.
func TestCutOffBehindWAL(t *testing.T) {
	t.Parallel()
	for _, by := range []int64{1, 4095, 4096, 8192} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			t.Parallel()
			path := build(t, walMode, rowsTable, addRows(3), "CREATE TABLE memories (id TEXT, vector BLOB)",
				"INSERT INTO memories VALUES ('a', CAST(printf('%.*c', 12000, 'x') AS BLOB))")
			leftByKilled(t, path, addRows(1))
			cut(t, path, -by)
			watch(t, path)
			s := openSnapshot(t, path)
			_, err := collect(s.Rows(t.Context(), "memories", []string{"id", "vector"}))
			isError(t, err, clierr.Refused, copyAgain)
		})
	}
}

// TestWALHoldsWhatTheFileLacks: pages that only the -wal has are no damage.
func TestWALHoldsWhatTheFileLacks(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable)
	leftByKilled(t, path, addRows(1000), "DELETE FROM runs WHERE run_id > '000500'")
	watch(t, path)
	holds(t, openSnapshot(t, path), 500)
}

// TestDamagedPage: a page in the middle of a table that is none any more.
func TestDamagedPage(t *testing.T) {
	t.Parallel()
	const page = 4096
	for _, journal := range []string{"DELETE", "WAL"} {
		whole, err := os.ReadFile(build(t, "PRAGMA journal_mode = "+journal,
			"CREATE TABLE runs (run_id TEXT, status TEXT NOT NULL)", addRows(1000)))
		if err != nil {
			t.Fatal(err)
		}
		const leaf, interior = 0x0d, 0x05
		middle := len(whole) / page / 2
		for name, damage := range map[string]func(b []byte){
			"a leaf of zeros":        func(b []byte) { clear(leafAt(b, middle, leaf)) },
			"a leaf of noise":        func(b []byte) { copy(leafAt(b, middle, leaf), noise(page)) },
			"a leaf of another kind": func(b []byte) { leafAt(b, middle, leaf)[0] = 0x0a },
			"a leaf's cell pointers": func(b []byte) { copy(leafAt(b, middle, leaf)[8:], "\xff\xff\xff\xff\xff\xff") },
			"a leaf's payload sizes": func(b []byte) {
				p := leafAt(b, middle, leaf)
				at := int(p[8])<<8 | int(p[9])
				copy(p[at:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff")
			},
			"an interior page of zeros": func(b []byte) { clear(leafAt(b, 1, interior)) },
			"a child that is not there": func(b []byte) {
				p := leafAt(b, 1, interior)
				at := int(p[12])<<8 | int(p[13])
				copy(p[at:], "\x00\xff\xff\xff")
			},
			"a child that is its parent": func(b []byte) {
				p := leafAt(b, 1, interior)
				at := int(p[12])<<8 | int(p[13])
				copy(p[at:], "\x00\x00\x00\x02")
			},
			"the schema": func(b []byte) { copy(b[100:], noise(100)) },
		} {
			t.Run(journal+", "+name, func(t *testing.T) {
				t.Parallel()
				b := append([]byte(nil), whole...)
				damage(b)
				path := filepath.Join(t.TempDir(), "flujo_state.db")
				write(t, path, b)
				watch(t, path)
				n, err := readAll(t, path)
				if err == nil {
					t.Fatalf("%d rows were read as if nothing were", n)
				}
				isError(t, err, clierr.Refused, copyAgain)
			})
		}
	}
}

// leafAt returns the first page of that kind from page number on.
func leafAt(b []byte, number int, kind byte) []byte {
	const page = 4096
	for at := number * page; at < len(b); at += page {
		if b[at] == kind {
			return b[at : at+page]
		}
	}
	panic("there is no such page")
}

// TestNoiseNeverPanics damages a file in places drawn at random: an error or all
// rows, never fewer and no panic.
func TestNoiseNeverPanics(t *testing.T) {
	t.Parallel()
	const rows = 200
	whole, err := os.ReadFile(build(t, walMode, rowsTable, addRows(rows)))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	for range 30 {
		b := append([]byte(nil), whole...)
		at := random.IntN(len(b) - 16)
		for i := range 1 + random.IntN(16) {
			b[at+i] = byte(random.Uint32())
		}
		write(t, path, b)
		n, err := readAll(t, path)
		if err == nil && n != rows {
			t.Errorf("noise at %d: %d rows and no error", at, n)
		}
	}
}
