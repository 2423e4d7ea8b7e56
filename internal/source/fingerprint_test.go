package source

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"testing"
	"time"

	"flujo-port/internal/clierr"
)

func setTimes(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// behindItsBack writes to a file, sets the times of the file and its -wal back,
// and fails the test if their sizes are not what they were.
func behindItsBack(t *testing.T, path string, change func()) {
	t.Helper()
	var before [2]os.FileInfo
	for i, name := range []string{path, path + "-wal"} {
		before[i], _ = os.Stat(name)
	}
	change()
	for i, name := range []string{path, path + "-wal"} {
		if before[i] == nil {
			continue
		}
		setTimes(t, name, before[i].ModTime())
		now, err := os.Stat(name)
		if err != nil || now.Size() != before[i].Size() || !now.ModTime().Equal(before[i].ModTime()) {
			t.Fatalf(
				"%s has %d bytes of %s, and had %d of %s: %v",
				name,
				now.Size(),
				now.ModTime(),
				before[i].Size(),
				before[i].ModTime(),
				err,
			)
		}
	}
}

// TestChangedBehindItsBack: a commit that sizes and times do not tell of.
func TestChangedBehindItsBack(t *testing.T) {
	t.Parallel()
	to := func(c string) string {
		return fmt.Sprintf("UPDATE runs SET status = printf('%%.*c', 200, '%s') WHERE run_id = '000050'", c)
	}
	inWAL := func(t *testing.T) string { return leftBehind(t, to("a"), to("b"), to("c"), to("d")) }
	begunAnew := func(t *testing.T) string {
		return leftBehind(t, to("a"), to("b"), to("c"), to("d"), "PRAGMA wal_checkpoint(RESTART)", to("e"))
	}
	for name, tc := range map[string]struct {
		make   func(t *testing.T) string
		change func(t *testing.T, path string)
		want   bool
	}{
		"nothing": {inWAL, func(*testing.T, string) {}, false},
		"a reader": {inWAL, func(t *testing.T, path string) { startWriter(t, path, "SELECT * FROM runs") },
			false},
		"a silent writer": {inWAL, func(t *testing.T, path string) { startWriter(t, path, "BEGIN IMMEDIATE", to("n")) },
			false},
		"rollback journal mode": {func(t *testing.T) string { return build(t, rowsTable, addRows(100)) },
			func(t *testing.T, path string) {
				// On a disk that two machines share locks may not hold a writer off.
				unlocked(t, path, to("n"))
			}, true},
		"a -wal that is begun anew": {inWAL, func(t *testing.T, path string) {
			w := startWriter(t, path, "PRAGMA wal_checkpoint(RESTART)", to("n"))
			w.kill()
		}, true},
		"a -wal that was begun anew": {begunAnew, func(t *testing.T, path string) {
			w := startWriter(t, path, to("n"))
			w.kill()
		}, true},
		"a transaction in the place of one that was broken off": {func(t *testing.T) string {
			return leftBehind(t, to("a"), "PRAGMA cache_size = 1", "BEGIN",
				"UPDATE runs SET status = printf('%.*c', 200, 'b')")
		}, func(t *testing.T, path string) {
			w := startWriter(t, path, to("n"))
			w.kill()
		}, true},
		"another file in its place": {inWAL, func(t *testing.T, path string) { replace(t, path) }, true},
		"another -wal in its place": {inWAL, func(t *testing.T, path string) { replace(t, path+"-wal") }, true},
		"another -wal in its bytes": {inWAL, func(t *testing.T, path string) {
			wal := read(t, path+"-wal")
			wal[32+24+2000] ^= 1
			seal(wal, false)
			overwrite(t, path+"-wal", wal)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := tc.make(t)
			s := openSnapshot(t, path)
			changed(t, s, false)
			behindItsBack(t, path, func() { tc.change(t, path) })
			changed(t, s, tc.want)
		})
	}
}

// unlocked runs a statement as a writer that does not look at locks.
func unlocked(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(path, "nolock=1"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// replace puts another file with the same contents in a file's place.
func replace(t *testing.T, path string) {
	t.Helper()
	write(t, path+".new", read(t, path))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestLockedAndChanged: who has the file open, and who writes to it, are told
// apart.
func TestLockedAndChanged(t *testing.T) {
	t.Parallel()
	makeFile := map[string]func(t *testing.T) string{
		"WAL mode":    func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(110)) },
		"with frames": withWAL,
	}
	for name, make := range makeFile {
		for who, tc := range map[string]struct {
			before, meanwhile []string // nil for nobody
			locked, changed   bool
		}{
			"nobody": {nil, nil, false, false},
			"a silent one": {[]string{"SELECT * FROM runs"}, []string{"SELECT count(*) FROM runs"}, true,
				false},
			"one in a transaction":   {[]string{"BEGIN IMMEDIATE", addRows(1)}, nil, true, false},
			"one that takes it back": {[]string{"BEGIN IMMEDIATE", addRows(1)}, []string{"ROLLBACK"}, true, false},
			"one that commits":       {[]string{"BEGIN IMMEDIATE", addRows(1)}, []string{"COMMIT"}, true, true},
			"one that comes":         {nil, []string{"SELECT count(*) FROM runs"}, false, false},
			"one that comes to add":  {nil, []string{addRows(1)}, false, true},
		} {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				path := make(t)
				var w *writer
				if tc.before != nil {
					w = startWriter(t, path, tc.before...)
				}
				s := openSnapshot(t, path)
				rows := firstRow(t, s)
				changed(t, s, false)
				if w == nil && tc.meanwhile != nil {
					w = startWriter(t, path)
				}
				if w != nil {
					w.run(tc.meanwhile...)
				}
				changed(t, s, tc.changed)
				if s.Locked() != tc.locked {
					t.Errorf("Locked says %v", s.Locked())
				}
				theRest(t, rows, 109, 'x')
			})
		}
	}
}

// TestLocksOutlast: looking at the file again, hashing and checking it do not
// drop the lock that keeps a writer out.
func TestLocksOutlast(t *testing.T) {
	t.Parallel()
	path := build(t, rowsTable, addRows(100))
	w := startWriter(t, path)
	before := read(t, path)
	s := openSnapshot(t, path)
	changed(t, s, false)
	if _, _, err := s.SHA256(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.CheckIntegrity(t.Context()); err != nil {
		t.Error(err)
	}
	w.refused("UPDATE runs SET status = 'new'", "database is locked")
	if !bytes.Equal(before, read(t, path)) {
		t.Error("the writer wrote")
	}
	changed(t, s, false)
}

// TestJournalOfALiveWriter: a transaction in rollback journal mode whose pages
// are not in the file yet.
func TestJournalOfALiveWriter(t *testing.T) {
	t.Parallel()
	path := build(t, rowsTable, addRows(100))
	w := startWriter(t, path, "BEGIN IMMEDIATE", "UPDATE runs SET status = 'new'")
	if info, err := os.Stat(path + "-journal"); err != nil || info.Size() == 0 {
		t.Fatalf("there is no -journal: %v, %v", info, err)
	}
	watch(t, path)
	s := openSnapshot(t, path)
	rows := firstRow(t, s)
	if err := s.CheckIntegrity(t.Context()); err != nil || !s.Locked() {
		t.Errorf("%v, Locked says %v", err, s.Locked())
	}
	w.refused("COMMIT", "database is locked")
	theRest(t, rows, 99, 'x')
	changed(t, s, false)
}

// TestHotJournalNextToWAL: the journal goes before the -wal, and before all
// that could be said of it.
func TestHotJournalNextToWAL(t *testing.T) {
	t.Parallel()
	path := withHotJournal(t)
	write(t, path+"-wal", make([]byte, 5000))
	watch(t, path)
	_, err := Open(t.Context(), path)
	isError(t, err, clierr.Refused, "its -journal has not been rolled back")
}

// TestUnreadableJournal checks that a -journal that cannot be read does not count
// as empty.
func TestUnreadableJournal(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(10))
	if err := os.Mkdir(path+"-journal", 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path)
	isError(t, err, clierr.Usage, "-journal", "is a directory")
}
