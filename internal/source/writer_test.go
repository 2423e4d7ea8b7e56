package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqlite"
)

// TestLiveWriter reads next to another process that has the file open.
func TestLiveWriter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		before []string
		rows   int
	}{
		{"rows in the -wal", []string{addRows(10)}, 110},
		{"nothing in the -wal", []string{"SELECT * FROM runs"}, 100},
		{"an emptied -wal", []string{addRows(10), "PRAGMA wal_checkpoint(TRUNCATE)"}, 110},
		{"a -wal that begins anew", []string{addRows(10), "PRAGMA wal_checkpoint(RESTART)", addRows(1)}, 111},
		{"in a transaction", []string{addRows(10), "BEGIN IMMEDIATE", addRows(50)}, 110},
		{"in a transaction that reads", []string{"BEGIN", "SELECT * FROM runs"}, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := build(t, walMode, rowsTable, addRows(100))
			w := startWriter(t, path, tc.before...)
			same := watch(t, path)
			s := openSnapshot(t, path)
			holds(t, s, tc.rows)
			changed(t, s, false)
			s.Close()
			same()
			w.run("SELECT 1") // it is alive
		})
	}
}

// firstRow starts reading runs and stops after the first row.
func firstRow(t *testing.T, s *Snapshot) *Rows {
	t.Helper()
	rows, err := s.Rows(t.Context(), "runs", []string{"run_id", "status"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rows.Close() })
	if _, err := rows.Next(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// theRest reads on to the end and fails the test where it is not n rows of
// status want.
func theRest(t *testing.T, rows *Rows, n int, want byte) {
	t.Helper()
	for i := range n {
		row, err := rows.Next()
		if err != nil {
			t.Fatalf("row %d: %v", i, err)
		}
		if row[2].Bytes[0] != want {
			t.Fatalf("row %d is %s", i, show(row))
		}
	}
	if _, err := rows.Next(); err != io.EOF {
		t.Errorf("after the last row: %v", err)
	}
	rows.Close()
}

// TestLiveWriterWrites: whatever the writer does in the middle, the snapshot
// stays what it was, and Changed tells.
func TestLiveWriterWrites(t *testing.T) {
	t.Parallel()
	for name, middle := range map[string][]string{
		"a commit":     {addRows(1)},
		"every row":    {"UPDATE runs SET status = 'new'"},
		"a checkpoint": {"PRAGMA wal_checkpoint(PASSIVE)"},
		"every row and a checkpoint": {"UPDATE runs SET status = 'new'", "PRAGMA wal_checkpoint(PASSIVE)",
			"PRAGMA wal_checkpoint(TRUNCATE)"},
		"a checkpoint and every row": {"PRAGMA wal_checkpoint(RESTART)", "UPDATE runs SET status = 'new'"},
		"the table is dropped":       {"DROP TABLE runs", "PRAGMA wal_checkpoint(TRUNCATE)"},
		"vacuum":                     {"DELETE FROM runs", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"},
		"ten times every row, checkpointed": {"PRAGMA wal_autocheckpoint = 1", "UPDATE runs SET status = '1'",
			"UPDATE runs SET status = '2'", "UPDATE runs SET status = '3'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := build(t, walMode, rowsTable, addRows(1000))
			w := startWriter(t, path, addRows(1000))
			s := openSnapshot(t, path)
			rows := firstRow(t, s)
			changed(t, s, false)
			w.run(middle...)
			changed(t, s, true)
			theRest(t, rows, 1999, 'x')
			holds(t, s, 2000)
			changed(t, s, true)
			s.Close()
			w.close()
		})
	}
}

// TestLiveWriterEnds: it goes while the file is read, and leaves what it would
// have left.
func TestLiveWriterEnds(t *testing.T) {
	t.Parallel()
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		path := build(t, walMode, rowsTable, addRows(1000))
		w := startWriter(t, path, addRows(1000))
		watch(t, path)
		s := openSnapshot(t, path)
		rows := firstRow(t, s)
		w.kill()
		theRest(t, rows, 1999, 'x')
		changed(t, s, false)
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		path := build(t, walMode, rowsTable, addRows(1000))
		w := startWriter(t, path, addRows(1000))
		s := openSnapshot(t, path)
		rows := firstRow(t, s)
		w.close()
		theRest(t, rows, 1999, 'x')
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		watch(t, path) // from here on nobody has it open
		holds(t, openSnapshot(t, path), 2000)
	})
}

// TestWriterBegins: a writer that comes after Open is not locked out, so that
// only Changed can tell.
func TestWriterBegins(t *testing.T) {
	t.Parallel()
	for name, makeFile := range map[string]func(t *testing.T) string{
		"WAL mode":              func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(110)) },
		"with frames":           withWAL,
		"rollback journal mode": func(t *testing.T) string { return build(t, rowsTable, addRows(110)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := makeFile(t)
			s := openSnapshot(t, path)
			holds(t, s, 110)
			changed(t, s, false)
			w := startWriter(t, path)
			changed(t, s, false)
			if name == "rollback journal mode" {
				// Here SQLite's own locks keep the writer out.
				fmt.Fprintln(w.in, addRows(1))
				if line, err := w.out.ReadString('\n'); err != nil || line == "ready\n" {
					t.Errorf("the writer says %q, %v", line, err)
				}
				changed(t, s, false)
				return
			}
			w.run(addRows(1))
			changed(t, s, true)
			w.close() // checkpoints and takes the -wal away
			changed(t, s, true)
		})
	}
}

// TestChangedBySomethingElse: a file that is gone or another one.
func TestChangedBySomethingElse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, path string){
		"removed":        func(t *testing.T, path string) { remove(t, path) },
		"-wal removed":   func(t *testing.T, path string) { remove(t, path+"-wal") },
		"-wal emptied":   func(t *testing.T, path string) { cut(t, path+"-wal", 0) },
		"cut off":        func(t *testing.T, path string) { cut(t, path, -1) },
		"folder removed": func(t *testing.T, path string) { remove(t, path); remove(t, path+"-wal") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := withWAL(t)
			s := openSnapshot(t, path)
			changed(t, s, false)
			change(t, path)
			changed(t, s, true)
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestWrittenWhileRead: where pages were pulled from under the reader, the
// error does not say that the file is damaged.
func TestWrittenWhileRead(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(4000))
	s := openSnapshot(t, path)
	rows := firstRow(t, s)
	cut(t, path, 8192)
	_, err := collect(rows, nil)
	isError(t, err, clierr.Failed, "the file was written while it was read: stop Flujo and run again")
}

// TestLockIsWaitedFor: a writer that commits while the file is opened is no
// reason to give up, and its rows are there.
func TestLockIsWaitedFor(t *testing.T) {
	t.Parallel()
	path := build(t, rowsTable, addRows(100))
	w := startWriter(t, path, "BEGIN EXCLUSIVE")
	opened := make(chan error, 1)
	var s *Snapshot
	go func() (err error) {
		defer func() { opened <- err }()
		s, err = Open(t.Context(), path)
		return err
	}()
	w.run(addRows(20_000), "COMMIT")
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	holds(t, s, 20_100)
}

// TestCancelledWhileItWaits for an exclusive writer.
func TestCancelledWhileItWaits(t *testing.T) {
	t.Parallel()
	path := build(t, rowsTable, addRows(100))
	startWriter(t, path, "BEGIN EXCLUSIVE")
	watch(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	started := time.Now()
	if _, err := Open(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if waited := time.Since(started); waited > 4*time.Second {
		t.Errorf("it took %s", waited)
	}
}

// TestExclusiveWriter reads as Open does, without waiting for the lock first.
func TestExclusiveWriter(t *testing.T) {
	t.Parallel()
	path := build(t, rowsTable, addRows(100))
	startWriter(t, path, "BEGIN EXCLUSIVE")
	watch(t, path)
	f, err := openFiles(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s := &Snapshot{path: path, files: f}
	defer s.Close()
	uri, err := s.uri()
	if err != nil {
		t.Fatal(err)
	}
	if s.conn, err = sqlite.Open(uri); err != nil {
		t.Fatal(err)
	}
	_, err = s.readSchema(t.Context())
	isError(t, err, clierr.Failed, "another process has locked the file: stop Flujo and run again")
}
