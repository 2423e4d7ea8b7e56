package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// walHistory is a database in WAL mode that several connections of this process
// write to at random.
type walHistory struct {
	t      *testing.T
	path   string
	random *rand.Rand
	conns  [3]*sql.DB
}

func newWALHistory(t *testing.T, seed uint64) *walHistory {
	t.Helper()
	l := &walHistory{t: t, path: filepath.Join(t.TempDir(), "flujo_state.db"), random: rand.New(rand.NewPCG(seed, 9))}
	execute(
		t,
		l.path,
		fmt.Sprintf("PRAGMA page_size = %d", 512<<l.random.IntN(4)),
		fmt.Sprintf("PRAGMA auto_vacuum = %d", l.random.IntN(3)),
		walMode,
		rowsTable,
		addRows(l.random.IntN(300)),
	)
	t.Cleanup(l.end)
	return l
}

func (l *walHistory) end() {
	for i := range l.conns {
		if l.conns[i] != nil {
			l.conns[i].Close()
			l.conns[i] = nil
		}
	}
}

// step lets one connection do something. What it is refused, because another
// one is in a transaction, is as good.
func (l *walHistory) step() (what string) {
	conn := &l.conns[l.random.IntN(len(l.conns))]
	if *conn == nil {
		db, err := sql.Open("sqlite", fileURI(l.path, ""))
		if err != nil {
			l.t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		*conn = db
	}
	n := func(most int) int { return l.random.IntN(most) }
	choices := []string{
		addRows(1 + n(3)), addRows(n(200)),
		fmt.Sprintf("UPDATE runs SET status = %d WHERE rowid %% %d = 0", n(9), 1+n(50)),
		fmt.Sprintf("DELETE FROM runs WHERE rowid %% %d = 1", 2+n(20)),
		"BEGIN", "BEGIN IMMEDIATE", "COMMIT", "COMMIT", "ROLLBACK", "SELECT count(*) FROM runs",
		"SAVEPOINT s", "RELEASE s", // by ROLLBACK TO on a fresh connection SQLite 3.54 wipes the database
		"PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(FULL)", "PRAGMA wal_checkpoint(RESTART)",
		"PRAGMA wal_checkpoint(TRUNCATE)",
		fmt.Sprintf("PRAGMA wal_autocheckpoint = %d", n(20)), fmt.Sprintf("PRAGMA cache_size = %d", 1+n(20)),
		"PRAGMA incremental_vacuum(2)", "VACUUM", fmt.Sprintf("PRAGMA user_version = %d", n(99)),
		"CREATE TABLE IF NOT EXISTS other (a, b)", "INSERT INTO other SELECT run_id, status FROM runs",
		"DROP TABLE IF EXISTS other",
		"PRAGMA journal_mode = DELETE", walMode, "close",
	}
	what = choices[n(len(choices))]
	if what == "close" {
		(*conn).Close()
		*conn = nil
		return what
	}
	_, err := (*conn).Exec(what)
	return fmt.Sprintf("%s: %v", what, err)
}

// copyBoth copies the file and its -wal into a folder of their own, as they
// are found after a crash.
func copyBoth(t *testing.T, path string) (copied string) {
	t.Helper()
	copied = filepath.Join(t.TempDir(), "flujo_state.db")
	for _, suffix := range []string{"", "-wal"} {
		contents, err := os.ReadFile(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, copied+suffix, contents)
	}
	return copied
}

// recovered is what SQLite itself finds in a file and its -wal, which it
// changes: the rows of runs, and the frames of the -wal that it takes.
func recovered(t *testing.T, path string) (rows int64, frames int) {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := db.QueryRow("SELECT count(*) FROM runs").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	var busy, copied int
	if err := db.QueryRow("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &copied); err != nil || busy != 0 {
		t.Fatal(busy, err)
	}
	return rows, max(frames, 0) // -1 where it is not in WAL mode
}

// TestRandomWALHistory: whatever SQLite wrote, whenever it is copied, is not
// refused, reads as SQLite reads it, and has as many frames as SQLite finds.
func TestRandomWALHistory(t *testing.T) {
	t.Parallel()
	const lives, steps = 4, 60 // 1500 lives of 120 steps held as well
	for seed := range lives {
		t.Run(fmt.Sprint("life ", seed), func(t *testing.T) {
			t.Parallel()
			l := newWALHistory(t, uint64(seed))
			var done []string
			for range steps {
				done = append(done, l.step())
				if _, err := os.Stat(l.path + "-journal"); err == nil {
					continue // a transaction that is not in the -wal: TestOpenRefusesHotJournal
				}
				if ok := t.Run("", func(t *testing.T) { sameAsSQLite(t, copyBoth(t, l.path)) }); !ok {
					t.Fatalf("after %q", done)
				}
			}
		})
	}
}

func sameAsSQLite(t *testing.T, path string) {
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows, err := s.Count(t.Context(), "runs")
	if err := errors.Join(err, s.CheckIntegrity(context.Background())); err != nil {
		t.Fatal(err)
	}
	_, frames := s.WAL()
	s.Close()
	wantRows, wantFrames := recovered(t, path)
	if rows != wantRows || frames != wantFrames {
		t.Errorf("%d rows, %d frames; SQLite finds %d, %d", rows, frames, wantRows, wantFrames)
	}
}
