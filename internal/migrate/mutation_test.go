package migrate_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/jsonb"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// mutant is a state file with changed bytes, and its -wal if it has one.
type mutant struct{ main, wal []byte }

// mutantBases returns the files to change: the fixture, a small file in WAL mode whose newest rows are in its -wal,
// and a small file without a -wal.
func mutantBases(t testing.TB) []mutant {
	t.Helper()
	real, err := os.ReadFile(flujotest.Fixture)
	if err != nil {
		t.Fatal(err)
	}
	pair, alone := smallFiles(t)
	return []mutant{{main: real}, pair, {main: alone}}
}

// smallFiles writes a small file with all of Flujo's tables. It returns the file, and the file with further changes in
// a -wal.
func smallFiles(t testing.TB) (pair mutant, alone []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	must := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	read := func(name string) []byte {
		t.Helper()
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	m := &propertyGenerator{Rand: flujotest.Random(7, 7), pools: map[byte][]propertyCell{}, runs: 30, arbitrary: 0.01,
		rowid: true}
	m.fillPools()
	shapes := propertyShapes(propertyFormats[0].tables)
	must("PRAGMA page_size = 1024")
	for i := range shapes {
		must(shapes[i].create("declared"))
		m.insert(t, db, &shapes[i], 40)
	}
	must("CREATE INDEX idx_steps_run_id ON steps(run_id)", "CREATE INDEX idx_spans_run_id ON spans(run_id)",
		"CREATE INDEX idx_runs_status ON runs(status)")
	alone = read(path)
	must("PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0")
	for i := range shapes {
		must(fmt.Sprintf("DELETE FROM %s WHERE rowid %% 5 = 0", shapes[i].name))
	}
	must("UPDATE runs SET error_message = 'only in the -wal'")
	pair = mutant{main: read(path), wal: read(path + "-wal")}
	fixChecksums(pair.wal)
	return pair, alone
}

// fixChecksums sets fixed salts in a -wal and the checksums that belong to its content, so that the -wal is
// reproducible and changed frames are valid (https://www.sqlite.org/fileformat.html, "The Write-Ahead Log").
func fixChecksums(wal []byte) {
	const header, frame = 32, 24
	if len(wal) < header {
		return
	}
	var order binary.ByteOrder = binary.LittleEndian
	if wal[3]&1 != 0 {
		order = binary.BigEndian
	}
	var s0, s1 uint32
	sum := func(b []byte) {
		for ; len(b) >= 8; b = b[8:] {
			s0 += order.Uint32(b) + s1
			s1 += order.Uint32(b[4:]) + s0
		}
	}
	put := func(b []byte) {
		binary.BigEndian.PutUint32(b, s0)
		binary.BigEndian.PutUint32(b[4:], s1)
	}
	copy(wal[16:24], "saltsalt")
	sum(wal[:24])
	put(wal[24:])
	page := int(binary.BigEndian.Uint32(wal[8:]))
	if page < 512 || page > 65536 {
		return
	}
	for rest := wal[header:]; len(rest) >= frame+page; rest = rest[frame+page:] {
		copy(rest[8:16], "saltsalt")
		sum(rest[:8])
		sum(rest[frame : frame+page])
		put(rest[16:])
	}
}

// mutate changes a copy of one of the bases. The first byte of changes selects the base; each six bytes that follow
// are one change.
func mutate(bases []mutant, changes []byte) mutant {
	if len(changes) == 0 {
		changes = []byte{0}
	}
	base := bases[int(changes[0])%len(bases)]
	m := mutant{main: bytes.Clone(base.main), wal: bytes.Clone(base.wal)}
	for rest := changes[1:]; len(rest) >= 6; rest = rest[6:] {
		in := &m.main
		if rest[0]&0x80 != 0 && len(m.wal) > 0 {
			in = &m.wal
		}
		at := int(rest[1])<<16 | int(rest[2])<<8 | int(rest[3])
		*in = changeMutant(*in, rest[0]&0x0f, at, rest[4], rest[5])
		if rest[0]&0x40 != 0 {
			fixChecksums(m.wal)
		}
	}
	return m
}

// changeMutant applies one change to b and returns it.
func changeMutant(b []byte, op byte, at int, x, y byte) []byte {
	const page = 1024 // the page size of the small files; the fixture's is a multiple
	if len(b) == 0 {
		return b
	}
	at %= len(b)
	pages := max(len(b)/page, 1)
	this := at / page * page
	other := (int(x)<<8 | int(y)) % pages * page
	size := min(page, len(b)-this, len(b)-other)
	switch op {
	case 0:
		b[at] ^= 1 << (x & 7)
	case 1:
		b[at] = x
	case 2:
		copy(b[at:], []byte{x, y, x, y})
	case 3: // the header of a b-tree page
		b[min(this+int(y)%12, len(b)-1)] = x
	case 4: // a pointer to a cell
		b[min(this+8+int(y)%64, len(b)-1)] = x
	case 5:
		clear(b[at:min(at+int(x)+1, len(b))])
	case 6:
		for i := at; i < min(at+int(x)+1, len(b)); i++ {
			b[i] = y
		}
	case 7:
		copy(b[this:this+size], b[other:other+size])
	case 8:
		copy(b[at:], b[other:other+size])
	case 9:
		b = append(b[:this:this], b[min(this+page, len(b)):]...)
	case 10:
		b = append(b, b[this:this+size]...)
	case 11: // the file's header
		b[at%min(100, len(b))] = x
	case 12:
		copy(b[at:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	case 13:
		b = b[:len(b)-int(x)%min(len(b), 64)]
	case 14:
		if x&7 == 0 {
			b = b[:at]
		}
	case 15:
		copy(b[at:], "\x00\x00\x00\x00")
	}
	return b
}

// write writes a mutant to a new folder and returns its path.
func (m mutant) write(t testing.TB) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "flujo_state.db")
	if err := os.WriteFile(path, m.main, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(m.wal) > 0 {
		if err := os.WriteFile(path+"-wal", m.wal, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// mutantTimeout is far longer than it takes to read a mutant.
const mutantTimeout = time.Minute

// readMutant reads all of Flujo's tables as the program does, and converts every row.
func readMutant(t testing.TB, path string) (rows map[string][]propertyRow, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mutantTimeout)
	defer func() {
		if ctx.Err() != nil {
			t.Errorf("reading took longer than %s: %v", mutantTimeout, err)
		}
		cancel()
	}()
	s, err := source.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	format, err := mapping.DetectFormat(s.Tables())
	if err != nil {
		return nil, err
	}
	rows = map[string][]propertyRow{}
	for i := range format.Mappings {
		if tm := &format.Mappings[i]; tm.InFile {
			if rows[tm.Table.Name], err = readMutantTable(ctx, t, s, tm); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

// readMutantTable reads and converts the rows of one table.
func readMutantTable(
	ctx context.Context,
	t testing.TB,
	s *source.Snapshot,
	tm *mapping.TableMapping,
) (all []propertyRow, err error) {
	t.Helper()
	rows, err := s.Rows(ctx, tm.Table.Name, tm.Columns)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	converter := &mapping.Converter{
		Mapping: tm, Options: mapping.Options{JSONDepth: jsonb.DefaultDepth}, Types: mapping.NewTypes(false),
		InferTime: func(string, string, []sqlite.Value) (mapping.Time, string, error) {
			return mapping.Time{}, "the test", nil
		},
	}
	var tuple []byte
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		read := propertyRow{rowid: row[0].Int}
		for _, v := range row[1:] {
			read.cells = append(read.cells, propertyCellOf(v))
		}
		all = append(all, read)
		for {
			var accepted bool
			tuple, accepted, err = converter.Append(tuple[:0], row)
			if wide, ok := errors.AsType[*mapping.WidenError](err); ok &&
				!converter.Types.Wide[wide.Table+"."+wide.Column] {
				converter.Types.Wide[wide.Table+"."+wide.Column] = true
				continue
			}
			if err != nil {
				t.Errorf("%s row %d: %v", tm.Table.Name, row[0].Int, err)
			} else if accepted != (converter.Rejection() == 0) || accepted && !wholeTuple(tuple, len(tm.Fields)) ||
				!accepted && len(tuple) > 0 {
				t.Errorf("%s row %d: got the tuple %x, accepted %v, rejection %q", tm.Table.Name, row[0].Int, tuple,
					accepted, converter.Rejection())
			}
			break
		}
	}
}

// wholeTuple reports whether a tuple has exactly the given number of fields.
func wholeTuple(tuple []byte, fields int) bool {
	if len(tuple) < 2 || int(binary.BigEndian.Uint16(tuple)) != fields {
		return false
	}
	rest := tuple[2:]
	for range fields {
		if len(rest) < 4 {
			return false
		}
		size := int(int32(binary.BigEndian.Uint32(rest)))
		rest = rest[4:]
		if size > len(rest) || size < -1 {
			return false
		}
		rest = rest[max(size, 0):]
	}
	return len(rest) == 0
}

// propertyCellOf returns a value of the program as a cell.
func propertyCellOf(v sqlite.Value) propertyCell {
	switch v.Class {
	case sqlite.Integer:
		return v.Int
	case sqlite.Real:
		return v.Real
	case sqlite.Text:
		return string(v.Bytes)
	case sqlite.Blob:
		return bytes.Clone(v.Bytes)
	}
	return nil
}

// readCopy reads a copy of the mutant with database/sql, which may write to it.
func (m mutant) readCopy(t testing.TB) (tables []*propertyRows, others []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mutantTimeout)
	defer cancel()
	return readPropertyFile(ctx, m.write(t))
}

// damaged reports whether SQLite finds damage in a mutant.
func (m mutant) damaged(t testing.TB) bool {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(m.write(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	return db.QueryRow("PRAGMA integrity_check(1)").Scan(&verdict) != nil || verdict != "ok"
}

// checkMutant tests that reading a mutant fails or yields the rows that database/sql reads, and changes no file. It
// reports whether reading succeeded.
func checkMutant(t testing.TB, m mutant) (read bool) {
	t.Helper()
	path := m.write(t)
	before := propertyDigest(t, path)
	got, err := readMutant(t, path)
	if after := propertyDigest(t, path); after != before {
		t.Errorf("got the folder\n%s\nwant as before\n%s", after, before)
	}
	if err != nil {
		return false
	}
	tables, _, err := m.readCopy(t)
	if err != nil {
		return true // database/sql cannot read it
	}
	for _, table := range tables {
		name := table.spec.name
		if len(got[name]) != len(table.rows) {
			t.Errorf("%s: got %d rows, want %d as database/sql reads", name, len(got[name]), len(table.rows))
			continue
		}
		for i := range table.rows {
			row := fmt.Sprintf("%d %#v", got[name][i].rowid, got[name][i].cells)
			want := fmt.Sprintf("%d %#v", table.rows[i].rowid, table.rows[i].cells)
			if row != want {
				t.Errorf("%s row %d: got\n%.500s, want as database/sql reads\n%.500s", name, i, row, want)
				break
			}
		}
	}
	return true
}

// FuzzFile tests that reading a state file with changed bytes and pages returns an error or its rows, does not panic
// or hang, and does not change the file. The corpus holds only the changes; see mutate.
func FuzzFile(f *testing.F) {
	bases := mutantBases(f)
	f.Add([]byte{0})
	f.Add([]byte{1})
	f.Add([]byte{2})
	random := rand.New(rand.NewPCG(11, 12))
	for range 60 {
		f.Add(randomChanges(random))
	}
	f.Fuzz(func(t *testing.T, changes []byte) {
		if len(changes) > 1+6*16 {
			t.Skip("more changes than needed to damage a file")
		}
		checkMutant(t, mutate(bases, changes))
	})
}

// randomChanges returns random changes for mutate.
func randomChanges(random *rand.Rand) []byte {
	n := 1 + random.IntN(3)
	changes := make([]byte, 1+6*n)
	for i := range changes {
		changes[i] = byte(random.Uint32())
	}
	return changes
}

// TestMutantsUnchanged tests that every row of the unchanged bases is read, including those in the -wal.
func TestMutantsUnchanged(t *testing.T) {
	t.Parallel()
	for i, m := range mutantBases(t) {
		if !checkMutant(t, m) {
			t.Errorf("base %d: got an error, want its rows", i)
		}
	}
	pair, _ := smallFiles(t)
	with, _, err := pair.readCopy(t)
	if err != nil {
		t.Fatal(err)
	}
	without, _, err := mutant{main: pair.main}.readCopy(t)
	if err != nil {
		t.Fatal(err)
	}
	for i := range with {
		if len(with[i].rows) >= len(without[i].rows) {
			t.Errorf("%s: got %d rows with the -wal and %d without, want fewer with it", with[i].spec.name,
				len(with[i].rows), len(without[i].rows))
		}
	}
}

// TestMutants tests that the migration of a changed file fails and leaves nothing in the database, or migrates all rows
// that database/sql reads, as docs/values.md defines.
func TestMutants(t *testing.T) {
	t.Parallel()
	const workers = 4
	mutants := int64(pgtest.Count(60, 160))
	seed := flujotest.Seed(t)
	bases := mutantBases(t)
	var next, migrated, failed atomic.Int64
	var wait sync.WaitGroup
	for range workers {
		url := pgtest.Database(t)
		wait.Go(func() {
			for n := next.Add(1); n <= mutants && !t.Failed(); n = next.Add(1) {
				changes := randomChanges(flujotest.Random(seed, int(n)))
				if migrateMutant(t, mutate(bases, changes), url, n%3 != 0) {
					migrated.Add(1)
				} else {
					failed.Add(1)
				}
				if t.Failed() {
					t.Logf("FLUJO_PORT_TEST_SEED=%d, mutant %d: %x", seed, n, changes)
				}
			}
		})
	}
	wait.Wait()
	if !t.Failed() && (migrated.Load() < mutants/8 || failed.Load() < mutants/8) {
		t.Errorf("got %d migrated and %d failed, want at least %d of each; FLUJO_PORT_TEST_SEED=%d", migrated.Load(),
			failed.Load(), mutants/8, seed)
	}
}

// migrateMutant migrates a mutant to an empty database and empties it again. It reports whether the migration
// succeeded.
func migrateMutant(t *testing.T, m mutant, url string, quarantine bool) bool {
	path := m.write(t)
	before := propertyDigest(t, path)
	conn := flujotest.Connect(t, url)
	defer conn.Close(context.Background())
	o := flujotest.Options(t, path, url)
	o.Quarantine = quarantine
	result, found, err := propertyMigrate(t, o)
	if after := propertyDigest(t, path); after != before {
		t.Errorf("got the folder\n%s\nwant as before\n%s", after, before)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err != nil {
		if left := flujotest.Leftovers(t, conn); left != "" {
			t.Errorf("the failed migration left %s", left)
		}
		return false
	}
	if !result.Committed {
		t.Error("the report says that the migration was not committed")
	}
	defer flujotest.Exec(t, conn, "DROP SCHEMA flujo CASCADE")
	tables, others, err := m.readCopy(t)
	if err != nil {
		return true // database/sql cannot read it
	}
	k := propertyCheckOf(t, tables, others, propertyModified(t, path), time.UTC, false, conn)
	for _, table := range tables {
		if table.duplicateRowIDs {
			return true // the originals of such rows cannot be told apart
		}
	}
	k.damaged = m.damaged(t)
	k.checkRejected(found)
	k.checkDatabase(conn, result, found)
	k.checkReported(result, found)
	return true
}
