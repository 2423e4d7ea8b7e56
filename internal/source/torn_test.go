package source

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/clierr"
)

// shortStatus is a table of 400 rows whose status can be changed without changing the size of a row, nor, on the whole,
// of the index.
var shortStatus = []string{walMode, "CREATE TABLE runs (run_id TEXT PRIMARY KEY, status TEXT NOT NULL, filler TEXT)",
	"CREATE INDEX by_status ON runs (status)",
	`INSERT INTO runs WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400)
		SELECT printf('%06d', i), 'running', printf('%.*c', 200, 'x') FROM c`}

// end ends n runs after the given one.
func end(from, n int) string {
	return fmt.Sprintf("UPDATE runs SET status = 'aborted' WHERE run_id > printf('%%06d', %d) "+
		"AND run_id <= printf('%%06d', %d)", from, from+n)
}

// integrityOf returns whether SQLite's own checks, quick_check and integrity_check, accept a copy of a file.
func integrityOf(t *testing.T, path string) (quick, whole bool) {
	t.Helper()
	accepts := func(pragma string) bool {
		lines, err := checked(t, path, pragma)
		return err == nil && len(lines) == 1 && lines[0] == "ok"
	}
	return accepts("quick_check"), accepts("integrity_check")
}

// TestTornCopies tests files that were copied while a checkpoint wrote to them: the pages before a certain one are from
// before the checkpoint, the others from after it.
func TestTornCopies(t *testing.T) {
	t.Parallel()
	path := build(t, shortStatus...)
	before := readFile(t, path)
	execute(t, path, end(0, 400), "PRAGMA wal_checkpoint(TRUNCATE)")
	after := readFile(t, path)
	if len(before) != len(after) {
		t.Fatalf("the file has %d bytes after the change, and %d before", len(after), len(before))
	}
	unnoticed := 0
	for at := 2 * 4096; at < len(before); at += 4096 {
		torn := filepath.Join(t.TempDir(), "flujo_state.db")
		writeFile(t, torn, append(bytes.Clone(before[:at]), after[at:]...))
		quick, whole := integrityOf(t, torn)
		s, err := Open(t.Context(), torn)
		if err == nil {
			err = s.CheckIntegrity(t.Context())
			s.Close()
		}
		switch {
		case whole && err != nil:
			t.Errorf("torn at %d: got error %v, and SQLite finds no damage", at, err)
		case !whole && clierr.KindOf(err) != clierr.Refused:
			t.Errorf("torn at %d: got error %v, want a refusal", at, err)
		case !whole && quick:
			unnoticed++
		}
	}
	if unnoticed == 0 {
		t.Error("quick_check noticed every torn copy, so the test shows nothing")
	}
}

// TestMixedCopies tests an older copy of a file next to a newer -wal, with equal page counts.
func TestMixedCopies(t *testing.T) {
	t.Parallel()
	damaged := 0
	for _, changed := range []int{1, 30, 200} {
		path := build(t, shortStatus...)
		older := readFile(t, path)
		execute(t, path, end(0, changed), "PRAGMA wal_checkpoint(TRUNCATE)")
		leftByKilled(t, path, end(200, changed))
		mixed := filepath.Join(t.TempDir(), "flujo_state.db")
		writeFile(t, mixed, older)
		writeFile(t, mixed+"-wal", readFile(t, path+"-wal"))
		same := watch(t, mixed)
		_, whole := integrityOf(t, mixed)
		s, err := Open(t.Context(), mixed)
		if err == nil {
			err = s.CheckIntegrity(t.Context())
			s.Close()
		}
		if !whole {
			damaged++
		}
		if !whole && clierr.KindOf(err) != clierr.Refused {
			t.Errorf("%d rows changed: got error %v, want a refusal", changed, err)
		}
		same()
	}
	if damaged == 0 {
		t.Error("SQLite finds no damage in any mixed copy, so the test shows nothing")
	}
}

// TestDamageAfterManyValues tests that an index that lacks a row is found after more than a hundred values that their
// column's declaration does not allow, at which SQLite ends its check by default.
func TestDamageAfterManyValues(t *testing.T) {
	t.Parallel()
	path := build(t, "CREATE TABLE runs (run_id TEXT PRIMARY KEY, status TEXT)", addRows(300),
		"PRAGMA writable_schema = ON",
		"UPDATE sqlite_master SET sql = replace(sql, 'status TEXT', 'status INTEGER NOT NULL') WHERE name = 'runs'",
		"PRAGMA writable_schema = RESET")
	file := readFile(t, path)
	entry := []byte("000299")
	at := bytes.LastIndex(file, entry)
	copy(file[at:], "000298") // in the index of the primary key, or in the table
	writeFile(t, path, file)
	if _, whole := integrityOf(t, path); whole {
		t.Fatal("SQLite finds no damage")
	}
	s := openSnapshot(t, path)
	if err := s.CheckIntegrity(t.Context()); clierr.KindOf(err) != clierr.Refused || err == nil {
		t.Errorf("got error %v, want a refusal", err)
	}
}

// TestIntegrityInBackground tests that damage ends the context of the readers, and that it is the explanation of their
// errors.
func TestIntegrityInBackground(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable, addRows(2000))
	sound := openSnapshot(t, path)
	ctx, check := sound.StartIntegrityCheck(t.Context())
	if n, err := sound.Count(ctx, "runs"); n != 2000 || err != nil {
		t.Errorf("got %d rows and error %v while the file is checked", n, err)
	}
	if err := check.Wait(); err != nil || ctx.Err() != nil {
		t.Errorf("got error %v and %v for a sound file", err, ctx.Err())
	}
	check.Stop()
	if ctx.Err() == nil {
		t.Error("the context goes on after Stop")
	}

	file := readFile(t, path)
	for i := 10 * 4096; i < 11*4096; i++ {
		file[i] = 0xff
	}
	damaged := filepath.Join(t.TempDir(), "flujo_state.db")
	writeFile(t, damaged, file)
	s := openSnapshot(t, damaged)
	ctx, check = s.StartIntegrityCheck(t.Context())
	defer check.Stop()
	<-ctx.Done()
	if err := check.Explain(ctx.Err()); clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got error %v, want a refusal", err)
	}
	var none *Integrity
	none.Stop()
	if err := none.Explain(os.ErrClosed); err != os.ErrClosed || none.Wait() != nil {
		t.Errorf("got error %v from no check", err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
