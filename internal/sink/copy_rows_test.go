package sink

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
)

// TestCopy copies into a new table, whose rows are frozen, and then again, when it is not empty.
func TestCopy(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tx, s := prepare(t, url)
	first := [][]byte{state("a", `{"b": [1.50]}`), state("é", "null")}
	sent, err := tx.Copy(background, systemState, newTuples(nil, first...))
	if err != nil || sent != bytesOf(first...) {
		t.Fatalf("got %d bytes, %v, want %d", sent, err, bytesOf(first...))
	}
	second := state("c", "[]")
	sent, err = Loader{Tx: tx, Schema: s}.Copy(background, systemState, newTuples(nil, second))
	if err != nil || sent != bytesOf(second) {
		t.Fatalf("got %d bytes, %v, want %d", sent, err, bytesOf(second))
	}
	if sent, err = tx.Copy(background, systemState, newTuples(nil)); err != nil || sent != bytesOf() {
		t.Fatalf("no tuples: got %d bytes, %v", sent, err)
	}
	commit(t, tx)
	conn := connect(t, url)
	wantOne(
		t,
		conn,
		`SELECT string_agg(key || ' ' || value || ' ' || to_char(updated_at AT TIME ZONE 'UTC',
		'YYYY-MM-DD HH24:MI:SS.US'), '; ' ORDER BY key COLLATE "C") FROM flujo.system_state`,
		`a {"b": [1.50]} 2026-01-05 09:00:01.669094; c [] 2026-01-05 09:00:01.669094; `+
			`é null 2026-01-05 09:00:01.669094`,
	)
	if one(t, conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pageinspect'") == "0" {
		return // the server's contrib modules are not installed
	}
	run(t, conn, "CREATE EXTENSION pageinspect")
	// Bits 0x0300 of t_infomask say that a row is frozen.
	wantOne(t, conn, `SELECT array_agg((t_infomask & 768) = 768 ORDER BY lp)
		FROM heap_page_items(get_raw_page('flujo.system_state', 0))`, "{t,t,f}")
}

// TestCopyLong copies more tuples than are read ahead, and tuples that are longer than a frame and than all frames.
func TestCopyLong(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tx, _ := prepare(t, url)
	var all [][]byte
	size := 0
	for i := range 3000 {
		n := 1000
		switch i {
		case 7:
			n = 2 * aheadSize
		case 8, 2900:
			n = frameSize + 1
		}
		all = append(all, state(fmt.Sprint(i), `"`+strings.Repeat("x", n)+`"`))
		size += n
	}
	sent, err := tx.Copy(background, systemState, newTuples(nil, all...))
	if err != nil || sent != bytesOf(all...) {
		t.Fatalf("got %d bytes, %v, want %d", sent, err, bytesOf(all...))
	}
	wantOne(t, tx.Conn.Conn, "SELECT count(*) || ' ' || sum(length(value #>> '{}')) FROM flujo.system_state",
		fmt.Sprint("3000 ", size))
}

// TestCopyErrorOfTuples tests that an error of the tuples is returned unchanged, and that the transaction has failed.
func TestCopyErrorOfTuples(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	for _, n := range []int{0, 1, 5000} {
		tx, _ := prepare(t, url)
		broken := errors.New("the disk is broken")
		var all [][]byte
		for i := range n {
			all = append(all, state(fmt.Sprint(i), `"`+strings.Repeat("x", 500)+`"`))
		}
		if _, err := tx.Copy(background, systemState, newTuples(broken, all...)); err != broken {
			t.Errorf("after %d tuples: got error %v", n, err)
		}
		if err := tx.Run(background, "SELECT 1"); postgres.Code(err) != "25P02" {
			t.Errorf("after %d tuples: the next statement returns %v", n, err)
		}
		tx.Rollback()
		wantOne(t, connect(t, url), "SELECT to_regclass('flujo.system_state')", "NULL")
	}
}

// TestCopyWidens tests that a *WidenError leaves the table as it was, and that it can be copied again.
func TestCopyWidens(t *testing.T) {
	t.Parallel()
	for _, existing := range []bool{false, true} {
		url := pgtest.Database(t)
		if existing {
			url, _ = initialized(t)
		}
		tx, s := prepare(t, url)
		run(t, tx.Conn.Conn, rowsSQL, "DELETE FROM flujo.steps WHERE id < 3")
		wide := &mapping.WidenError{Table: "steps", Column: "token_counts"}
		delete(tx.fresh, "steps") // it has a row
		sent, err := tx.Copy(background, steps, newTuples(wide, step(7, nil), step(8, nil)))
		if got, ok := errors.AsType[*mapping.WidenError](err); !ok || got != wide || sent != 0 {
			t.Fatalf("got %d bytes, error %v", sent, err)
		}
		conn := tx.Conn.Conn
		wantOne(t, conn, "SELECT array_agg(id) FROM flujo.steps", "{3}")
		check(t, Loader{Tx: tx, Schema: s}.Widen(background, steps, "token_counts"))
		if _, err := tx.Copy(background, steps, newTuples(nil, step(7, int64(1)<<40), step(8, nil))); err != nil {
			t.Fatal(err)
		}
		wantOne(t, conn, "SELECT array_agg(id || ':' || coalesce(token_counts, 0) ORDER BY id) FROM flujo.steps",
			"{3:0,7:1099511627776,8:0}")
	}
}

// TestCopyWidensFresh tests that a new table is empty after a *WidenError, however many rows were stored before it,
// and that its rows are frozen when it is copied again.
func TestCopyWidensFresh(t *testing.T) {
	t.Parallel()
	tx, _ := prepare(t, pgtest.Database(t))
	all := make([][]byte, 3000)
	for i := range all {
		all[i] = state(fmt.Sprint(i), `"`+strings.Repeat("x", 500)+`"`)
	}
	for _, n := range []int{0, 1, 3000} {
		wide := &mapping.WidenError{}
		sent, err := tx.Copy(background, systemState, newTuples(wide, all[:n]...))
		if got, ok := errors.AsType[*mapping.WidenError](err); !ok || got != wide || sent != 0 {
			t.Fatalf("%d rows: got %d bytes, error %v", n, sent, err)
		}
		wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM flujo.system_state", "0")
		if !tx.fresh["system_state"] {
			t.Errorf("%d rows: the table is no longer fresh", n)
		}
	}
	if _, err := tx.Copy(background, systemState, newTuples(nil, all...)); err != nil {
		t.Fatal(err)
	}
	if tx.fresh["system_state"] {
		t.Error("the table is still fresh")
	}
	wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM flujo.system_state", "3000")
}

// TestCopyWidensRefused tests that an error of the server, for rows before a *WidenError, is the one that is returned.
func TestCopyWidensRefused(t *testing.T) {
	t.Parallel()
	tx, _ := prepare(t, pgtest.Database(t))
	_, err := tx.Copy(background, systemState, newTuples(&mapping.WidenError{}, state("a", "1"), state("a", "2")))
	wantError(t, err, clierr.Refused, `copy table "system_state"`, "23505", "Key (key)=(a)")
}

// TestCopyInSavepoint copies into a new table in a savepoint, in which rows cannot be frozen.
func TestCopyInSavepoint(t *testing.T) {
	t.Parallel()
	tx, _ := prepare(t, pgtest.Database(t))
	tx.WritesInSavepoints()
	run(t, tx.Conn.Conn, "SAVEPOINT outer_one")
	if _, err := tx.Copy(background, systemState, newTuples(nil, state("a", "1"))); err != nil {
		t.Fatal(err)
	}
	run(t, tx.Conn.Conn, "ROLLBACK TO outer_one")
	wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM flujo.system_state", "0")
}

// TestCopyCounts tests a trigger that drops rows.
func TestCopyCounts(t *testing.T) {
	t.Parallel()
	tx, _ := prepare(t, pgtest.Database(t))
	run(t, tx.Conn.Conn, `CREATE FUNCTION flujo.skip() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF NEW.key = 'b' THEN RETURN NULL; END IF; RETURN NEW; END $$;
		CREATE TRIGGER skip BEFORE INSERT ON flujo.system_state FOR EACH ROW EXECUTE FUNCTION flujo.skip()`)
	_, err := tx.Copy(background, systemState, newTuples(nil, state("a", "1"), state("b", "1"), state("c", "1")))
	wantError(
		t,
		err,
		clierr.Mismatch,
		`copy table "system_state": 3 rows were sent, but the server stored 2`,
		"triggers",
	)
}

func TestCopyErrorOfServer(t *testing.T) {
	t.Parallel()
	tx, _ := prepare(t, pgtest.Database(t))
	_, err := tx.Copy(background, systemState, newTuples(nil, state("a", "1"), state("a", "2")))
	wantError(t, err, clierr.Refused, `copy table "system_state"`, "23505", "Key (key)=(a)")
	_, err = tx.Copy(background, systemState, newTuples(nil))
	wantError(t, err, clierr.Failed, "set a savepoint", "25P02")
}

// TestCopyConnectionLost tests that a lost connection ends the goroutine that reads tuples.
func TestCopyConnectionLost(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	tx, _ := prepare(t, proxy.Rewrite(url))
	proxy.OnClientMessage(func(typ byte, _ []byte) bool { return typ == 'd' })
	endless := make([][]byte, 100_000)
	for i := range endless {
		endless[i] = state(fmt.Sprint(i), `"`+strings.Repeat("x", 100)+`"`)
	}
	source := newTuples(nil, endless...)
	_, err := tx.Copy(background, systemState, source)
	wantError(t, err, clierr.Failed, `copy table "system_state"`)
	if left := len(source.left); left == 0 {
		t.Error("all tuples were read")
	}
	tx.Rollback()
	proxy.Wait()
	wantOne(t, connect(t, url), "SELECT to_regclass('flujo.runs')", "NULL")
}

// TestStream reads a stream in pieces of all sizes.
func TestStream(t *testing.T) {
	t.Parallel()
	all := [][]byte{state("a", "1"), state("b", `"`+strings.Repeat("x", frameSize)+`"`), state("c", "1")}
	want := binaryHeader
	for _, one := range all {
		want += string(one)
	}
	want += binaryTrailer
	for name, reader := range map[string]func(io.Reader) io.Reader{
		"at once":  func(r io.Reader) io.Reader { return r },
		"one byte": iotest.OneByteReader,
		"half":     iotest.HalfReader,
	} {
		s := newStream(newTuples(nil, all...), false)
		got, err := io.ReadAll(reader(s))
		sent, rows, sourceErr := s.stop()
		if err != nil || sourceErr != nil || string(got) != want || sent != int64(len(want)) || rows != 3 {
			t.Errorf("%s: got %d bytes, %d sent, %d rows, errors %v and %v", name, len(got), sent, rows, err, sourceErr)
		}
	}
}

// TestStreamStops tests that stop ends a stream that nobody reads, and that Read then returns an error.
func TestStreamStops(t *testing.T) {
	t.Parallel()
	all := make([][]byte, 100)
	for i := range all {
		all[i] = state("a", `"`+strings.Repeat("x", frameSize)+`"`)
	}
	s := newStream(newTuples(nil, all...), false)
	if _, err := s.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if sent, rows, err := s.stop(); sent != 10 || rows == 0 || rows == 100 || err != nil {
		t.Errorf("got %d bytes, %d rows, %v", sent, rows, err)
	}
	if n, err := s.Read(make([]byte, 10)); n != 0 || err != io.ErrClosedPipe {
		t.Errorf("after stop: got %d bytes, %v", n, err)
	}
}

// TestStreamError tests that the tuples before an error can be read.
func TestStreamError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	s := newStream(newTuples(broken, state("a", `"`+strings.Repeat("x", frameSize)+`"`), state("b", "1")), false)
	got, err := io.ReadAll(s)
	if err != broken || len(got) < frameSize {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if _, _, err := s.stop(); err != broken {
		t.Errorf("stop returned %v", err)
	}
}
