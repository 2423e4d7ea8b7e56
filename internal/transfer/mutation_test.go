package transfer_test

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

	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/source"
)

// mutant is a state file, and its -wal where it has one, of which something was
// changed.
type mutant struct{ main, wal []byte }

// mutantBases are what is changed: the real file, a small one in WAL mode whose
// newest rows are in its -wal, and a small one without.
func mutantBases(t testing.TB) []mutant {
	t.Helper()
	real, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	pair, alone := smallPair(t)
	return []mutant{{main: real}, pair, {main: alone}}
}

// smallPair makes a small file of all of Flujo's tables, and the same with more
// rows in a -wal.
func smallPair(t testing.TB) (pair mutant, alone []byte) {
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
	m := &propertyMaker{Rand: propertyRandom(7, 7), pools: map[byte][]propertyCell{}, runs: 30, wild: 0.01, rowid: true}
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
	seal(pair.wal)
	return pair, alone
}

// seal gives a -wal the same salts whenever it was made, and makes the
// checksums right, also of frames that were changed
// (https://www.sqlite.org/fileformat.html, "The Write-Ahead Log").
func seal(wal []byte) {
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

// mutate changes a copy of one of the bases: the first byte says which one, and
// six bytes each a change.
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
			seal(m.wal)
		}
	}
	return m
}

func changeMutant(b []byte, op byte, at int, x, y byte) []byte {
	const page = 1024 // of the small files; a part of one of the real file
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

// write puts a mutant into a folder of its own.
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

// mutantPatience is far more than reading a mutant takes.
const mutantPatience = time.Minute

// readMutant reads all of Flujo's tables as the program does, and converts
// every row.
func readMutant(t testing.TB, path string) (rows map[string][]propertyRow, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mutantPatience)
	defer func() {
		if ctx.Err() != nil {
			t.Errorf("it took longer than %s: %v", mutantPatience, err)
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
		Mapping: tm, Options: mapping.Options{JSONDepth: mapping.DefaultJSONDepth}, Types: mapping.NewTypes(false),
		InferTime: func(string, string, []mapping.Value) (mapping.Time, string, error) {
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
				t.Errorf("%s row %d is made %x, placed is %v, %s", tm.Table.Name, row[0].Int, tuple, accepted,
					converter.Rejection())
			}
			break
		}
	}
}

// wholeTuple reports whether a tuple has its fields, and nothing after them.
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

func propertyCellOf(v mapping.Value) propertyCell {
	switch v.Class {
	case mapping.Integer:
		return v.Int
	case mapping.Real:
		return v.Real
	case mapping.Text:
		return string(v.Bytes)
	case mapping.Blob:
		return bytes.Clone(v.Bytes)
	}
	return nil
}

// readCopy reads a mutant through database/sql, which may write next to it.
func (m mutant) readCopy(t testing.TB) (tables []*propertyRows, others []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mutantPatience)
	defer cancel()
	return readPropertyFile(ctx, m.write(t))
}

// damaged reports whether SQLite finds damage in a mutant.
func (m mutant) damaged(t testing.TB) bool {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+m.write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	return db.QueryRow("PRAGMA integrity_check(1)").Scan(&verdict) != nil || verdict != "ok"
}

// checkMutant reads a mutant: an error, or the rows that database/sql reads.
func checkMutant(t testing.TB, m mutant) (read bool) {
	t.Helper()
	path := m.write(t)
	before := propertyDigest(t, path)
	got, err := readMutant(t, path)
	if after := propertyDigest(t, path); after != before {
		t.Errorf("the file's folder was\n%s\nand is\n%s", before, after)
	}
	if err != nil {
		return false
	}
	tables, _, err := m.readCopy(t)
	if err != nil {
		return true // nothing to compare it with
	}
	for _, table := range tables {
		name := table.spec.name
		if len(got[name]) != len(table.rows) {
			t.Errorf("%s: %d rows, database/sql reads %d", name, len(got[name]), len(table.rows))
			continue
		}
		for i := range table.rows {
			if a, b := fmt.Sprintf("%d %#v", got[name][i].rowid, got[name][i].cells),
				fmt.Sprintf("%d %#v", table.rows[i].rowid, table.rows[i].cells); a != b {
				t.Errorf("%s row %d is\n%.500s, database/sql reads\n%.500s", name, i, a, b)
				break
			}
		}
	}
	return true
}

// FuzzFile: a state file of which bytes and pages were changed gives an error or
// its rows, never a panic and never a hang, and stays as it is. Kept are the
// changes alone; see mutate.
func FuzzFile(f *testing.F) {
	bases := mutantBases(f)
	f.Add([]byte{0})
	f.Add([]byte{1})
	f.Add([]byte{2})
	random := rand.New(rand.NewPCG(11, 12))
	for range 60 {
		f.Add(someChanges(random))
	}
	f.Fuzz(func(t *testing.T, changes []byte) {
		if len(changes) > 1+6*16 {
			t.Skip("more changes than are needed to break it")
		}
		checkMutant(t, mutate(bases, changes))
	})
}

// someChanges gives changes for mutate.
func someChanges(random *rand.Rand) []byte {
	n := 1 + random.IntN(3)
	changes := make([]byte, 1+6*n)
	for i := range changes {
		changes[i] = byte(random.Uint32())
	}
	return changes
}

// TestMutantsUnchanged: what mutate makes of no change is a sound file of which
// every row is read, those in the -wal too.
func TestMutantsUnchanged(t *testing.T) {
	t.Parallel()
	for i, m := range mutantBases(t) {
		if !checkMutant(t, m) {
			t.Errorf("base %d cannot be read", i)
		}
	}
	pair, _ := smallPair(t)
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
			t.Errorf("%s has %d rows with its -wal, %d without", with[i].spec.name, len(with[i].rows),
				len(without[i].rows))
		}
	}
}

// TestMutants migrates changed files: an error that leaves nothing in the
// database, or all the rows that database/sql reads from such a file, as the
// contract has them.
func TestMutants(t *testing.T) {
	t.Parallel()
	const workers = 4
	mutants := int64(pgtest.Count(60, 160))
	seed := propertySeed(t)
	bases := mutantBases(t)
	var next, arrived, failed atomic.Int64
	var wait sync.WaitGroup
	for range workers {
		url := pgtest.Database(t)
		wait.Go(func() {
			for n := next.Add(1); n <= mutants && !t.Failed(); n = next.Add(1) {
				changes := someChanges(propertyRandom(seed, int(n)))
				if migrateMutant(t, mutate(bases, changes), url, n%3 != 0) {
					arrived.Add(1)
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
	if !t.Failed() && (arrived.Load() < mutants/8 || failed.Load() < mutants/8) {
		t.Errorf("%d arrived, %d failed, FLUJO_PORT_TEST_SEED=%d", arrived.Load(), failed.Load(), seed)
	}
}

// migrateMutant migrates a mutant to a database with nothing in it, which it
// leaves so, and reports whether it arrived.
func migrateMutant(t *testing.T, m mutant, url string, quarantine bool) bool {
	path := m.write(t)
	before := propertyDigest(t, path)
	conn := connect(t, url)
	defer conn.Close(context.Background())
	o := options(t, path, url)
	o.Quarantine = quarantine
	result, found, err := propertyMigrate(t, o)
	if after := propertyDigest(t, path); after != before {
		t.Errorf("the file's folder was\n%s\nand is\n%s", before, after)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err != nil {
		if left := leftovers(t, conn); left != "" {
			t.Errorf("left behind: %s", left)
		}
		return false
	}
	if !result.Committed {
		t.Error("the report does not say committed")
	}
	defer run(t, conn, "DROP SCHEMA flujo CASCADE")
	tables, others, err := m.readCopy(t)
	if err != nil {
		return true // nothing to compare it with
	}
	k := propertyCheckOf(t, tables, others, propertyModified(t, path), time.UTC, false, conn)
	for _, table := range tables {
		if table.doubled {
			return true // what is kept of such rows cannot be told apart
		}
	}
	k.damaged = m.damaged(t)
	k.list(found)
	k.arrived(conn, result, found)
	k.listed(result, found)
	return true
}
