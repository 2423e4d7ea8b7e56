package mapping

import (
	"encoding/binary"
	stdjson "encoding/json"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/sqlite"
)

// FuzzVector checks that bytes of any length are either converted exactly or rejected.
func FuzzVector(f *testing.F) {
	f.Add(packed(1, -2, 0.5), uint16(3))
	f.Add(packed(1, float32(math.NaN())), uint16(2))
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, cell []byte, size uint16) {
		c := newConverter(t, onlyColumn(KindVector, true))
		c.Types.VectorSize = int(size)
		row := []sqlite.Value{integer(1), text("k"), blob(cell)}
		want := binary.BigEndian.AppendUint16(nil, size)
		want = append(want, 0, 0)
		finite := true
		for i := 0; i+4 <= len(cell); i += 4 {
			want = append(want, cell[i+3], cell[i+2], cell[i+1], cell[i])
			finite = finite && !(cell[i+3]&0x7f == 0x7f && cell[i+2]&0x80 == 0x80)
		}
		switch {
		case len(cell) == 0 || len(cell)%4 != 0:
			rejected(t, c, InvalidVector, row...)
		case len(cell) != 4*int(size):
			rejected(t, c, VectorDimensionMismatch, row...)
		case !finite:
			rejected(t, c, InvalidVector, row...)
		default:
			if got := appendRow(t, c, row...)[1]; string(got) != string(want) {
				t.Errorf("%x is %x, not %x", cell, got, want)
			}
			sameChanges(t, c.Changes(), nil)
		}
	})
}

// randomSource returns values drawn from bytes, and zeros after their end.
type randomSource struct{ rest []byte }

func (l *randomSource) byte() byte {
	if len(l.rest) == 0 {
		return 0
	}
	b := l.rest[0]
	l.rest = l.rest[1:]
	return b
}

func (l *randomSource) bytes(n int) []byte {
	n = min(n, len(l.rest))
	b := l.rest[:n:n]
	l.rest = l.rest[n:]
	return b
}

func (l *randomSource) uint64() uint64 {
	var b [8]byte
	copy(b[:], l.bytes(8))
	return binary.BigEndian.Uint64(b[:])
}

// oddTexts are texts that need special treatment.
var oddTexts = []string{
	"", "null", " null\n", "{}", `{"a":"\u0000"}`, `["\ud83d"]`, "[NaN,-Infinity]", "1e131072",
	"[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", "{",
	"2026-01-05T09:00:01.669094+00:00", "2026-11-23 02:18:25", "2025-09-01T08:00:00.783607",
	"2026-01-05T09:00:01.1234567Z", "2026-01-05",
	"0001-01-01T00:00:00", "9999-12-31T23:59:59-01:00", "infinity", "1767603600", "12", " 12.5 ", "-13.5", "+1e3",
	"1e39", "1e400", "0x10", "1_0", "nan",
	"9223372036854775807", "9223372036854775808", "2147483648", "-", ".", "é", "a\x00b", "caf\xe9", "\x00",
	"\xed\xa0\x80", "true", "0", "run-1",
}

var oddNumbers = []float64{
	0, minusZero, 1, 0.5, 1.5, 2.5, -0.5, 12, 1e39, 1e300, -1e300, 1e19, math.Inf(1), math.Inf(-1), 1767603600.8574798,
	253402300799.99997, 253402300800,
	-62135596800, 5e-324, 0.1, 2147483647.5, -2147483648.5, 9223372036854774784, 9223372036854775808, 16777217,
	9007199254740993,
}

var oddIntegers = []int64{
	0, 1, -1, 2, math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MinInt32 - 1, math.MaxInt64, math.MinInt64,
	1 << 53, 1<<53 + 1, 1<<24 + 1,
	1767603600, 253402300799, 253402300800, -62135596800, -62135596801,
}

// value returns a random cell of any class.
func (l *randomSource) value() sqlite.Value {
	kind, n := l.byte()%10, int(l.byte())
	switch kind {
	case 0:
		return sqlite.Value{}
	case 1:
		return integer(oddIntegers[n%len(oddIntegers)])
	case 2:
		return integer(int64(l.uint64()) >> (n % 64))
	case 3:
		return real(oddNumbers[n%len(oddNumbers)])
	case 4:
		f := math.Float64frombits(l.uint64())
		if math.IsNaN(f) { // SQLite has none: it stores NULL
			return sqlite.Value{}
		}
		return real(f)
	case 5:
		return text(oddTexts[n%len(oddTexts)])
	case 6:
		return sqlite.Value{Class: sqlite.Text, Bytes: l.bytes(n)}
	case 7:
		return blob([]byte(oddTexts[n%len(oddTexts)]))
	case 8:
		return blob(l.bytes(n))
	}
	return text(strings.Repeat(string(rune('a'+n%26)), longestIndexed-2+n%5))
}

// oldTables are file formats that differ from Flujo's tables, by table.
var oldTables = []struct{ table, columns string }{
	{
		"workflow_state",
		state0429,
	}, {Runs, runs0433}, {"steps", steps0433}, {Spans, spans0433}, {Runs, runsBy06}, {"steps", stepsBy06},
	{Runs, "run_id pipeline_id pipeline_name pipeline_version status created_at updated_at"},
	{"system_state", "key extra value updated_at"}, {"evaluations", "id run_id score"},
}

// fuzzedMapping returns a random mapping of a table of a known file format.
func (l *randomSource) fuzzedMapping(t testing.TB) *TableMapping {
	n := int(l.byte()) % (len(Tables) + len(oldTables))
	if n < len(Tables) {
		return mappingOfAllColumns(t, Tables[n].Name)
	}
	old := oldTables[n-len(Tables)]
	return mappingOf(t, old.table, strings.Fields(old.columns)...)
}

// FuzzConverter checks that every row is either rejected or stored so that PostgreSQL
// accepts it, that every change is reported, and that it has its original value.
func FuzzConverter(f *testing.F) {
	for n := range len(Tables) + len(oldTables) {
		f.Add([]byte{byte(n)})
	}
	f.Fuzz(func(t *testing.T, data []byte) { convertAndCheck(t, &randomSource{data}) })
}

// TestConverterRandom does the same as FuzzConverter, with rows that are mostly valid
// and therefore accepted.
func TestConverterRandom(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	accepted := map[bool]int{}
	data := make([]byte, 4096)
	rows := pgtest.Count(2000, 10_000)
	for range rows {
		for i := 0; i < len(data); i += 8 {
			binary.LittleEndian.PutUint64(data[i:], random.Uint64())
		}
		l := &randomSource{data}
		accepted[convertAndCheck(t, l)]++
		if t.Failed() {
			return
		}
	}
	if accepted[true] < rows/10 || accepted[false] < rows/10 {
		t.Errorf("%d rows were accepted, %d were not", accepted[true], accepted[false])
	}
}

// typicalValue returns a value that Flujo writes to the column.
func typicalValue(kind Kind) sqlite.Value {
	return map[Kind]sqlite.Value{
		KindText: text("run-1"), KindInt: integer(7), KindFloat4: real(0.25),
		KindFloat8: real(1767603600.8574798),
		KindJSON:   text(`{"a":1}`), KindTime: text("2026-01-05T09:00:01.669094+00:00"),
		KindBool:   integer(1),
		KindVector: blob(packed(1, 2)),
	}[kind]
}

const fuzzDepth = 16 // levels that JSON may have here

func convertAndCheck(t testing.TB, l *randomSource) (accepted bool) {
	p := l.fuzzedMapping(t)
	c := newConverter(t, p)
	c.Options = Options{NaiveZone: time.FixedZone("", 5400), JSONDepth: fuzzDepth}
	flags := l.byte()
	c.Types = NewTypes(flags&1 != 0)
	c.Types.VectorSize = 2
	row := []sqlite.Value{integer(int64(l.uint64()))}
	if flags&2 != 0 {
		row[0] = integer(41)
	}
	if flags&4 != 0 && flags&8 != 0 {
		c.Rejected = map[int64]Reason{41: DuplicateKey}
	}
	oddity := l.byte() | 1 // how many cells are odd
	for _, column := range p.Columns {
		if l.byte() < oddity {
			row = append(row, l.value())
			continue
		}
		kind := KindText
		if at := p.fieldOf(p.Position(column)); at >= 0 {
			kind = p.Fields[at].Kind
		}
		row = append(row, typicalValue(kind))
	}
	inferred := Time{Micros: 1_234_567}
	c.InferTime = func(table, column string, _ []sqlite.Value) (Time, string, error) {
		if table != p.Table.Name {
			t.Errorf("a time for %s.%s is asked for", table, column)
		}
		return inferred, "elsewhere", nil
	}
	original := make([]sqlite.Value, len(row))
	for i, v := range row {
		original[i] = v
		original[i].Bytes = slices.Clone(v.Bytes)
	}
	before := append(make([]byte, 0, 64), "before"...)
	var out []byte
	for {
		var err error
		out, accepted, err = c.Append(before, row)
		if err == nil {
			break
		}
		wide, ok := err.(*WidenError)
		at := slices.IndexFunc(p.Fields, func(f Field) bool { return ok && f.Name == wide.Column })
		if at < 0 || wide.Table != p.Table.Name || p.Fields[at].Kind != KindInt ||
			c.Types.Wide[wide.Table+"."+wide.Column] {
			t.Fatalf("the error is %v", err)
		}
		if string(out) != "before" || accepted {
			t.Fatalf("%q came back with an error", out)
		}
		if v := cellOf(p, row, at); whole(v) >= math.MinInt32 && whole(v) <= math.MaxInt32 {
			t.Fatalf("%s needs no bigint", v)
		}
		c.Types.Wide[wide.Table+"."+wide.Column] = true
	}
	if !slices.EqualFunc(row, original, sameValue) || string(before) != "before" {
		t.Fatal("the row or what was before was written to")
	}
	why := c.Rejected[row[0].Int] | wantRejection(c, row)
	if accepted != (why == 0) || c.Rejection() != why {
		t.Fatalf("accepted %v for %q, want rejection for %q: %s", accepted, c.Rejection(), why, row)
	}
	if !accepted {
		if string(out) != "before" {
			t.Fatalf("%q came back", out)
		}
		for i, change := range c.Changes() {
			if change.Column != p.Columns[i] || !sameValue(change.Original, row[i+1]) || change.Reason&why != why {
				t.Fatalf("%s is stored as %s of %s for %q", row[i+1], change.Original, change.Column, change.Reason)
			}
		}
		if len(c.Changes()) != len(p.Columns) {
			t.Fatalf("%d changes of %d columns", len(c.Changes()), len(p.Columns))
		}
		return false
	}
	if !strings.HasPrefix(string(out), "before") {
		t.Fatalf("%q came back", out)
	}
	fields := splitTuple(t, out[len("before"):])
	if len(fields) != len(p.Table.Columns) {
		t.Fatalf("%d fields of %d", len(fields), len(p.Table.Columns))
	}
	changes := map[string]Change{}
	for _, change := range c.Changes() {
		if _, twice := changes[change.Column]; twice || change.Reason == 0 || change.Reason&rejections != 0 {
			t.Fatalf("%s changed for %q", change.Column, change.Reason)
		}
		changes[change.Column] = change
	}
	for i, field := range fields {
		f := &p.Fields[i]
		v := cellOf(p, row, i)
		checkField(t, c, f, v, field)
		change, changed := changes[f.Name]
		delete(changes, f.Name)
		if changed && (!sameValue(change.Original, v) || change.Reason&UnmappedColumn != 0) {
			t.Fatalf("%s of %s.%s is stored as %s for %q", v, p.Table.Name, f.Name, change.Original, change.Reason)
		}
		if asItWas := isUnchanged(c, f, v, field); asItWas == changed {
			t.Fatalf(
				"%s %s in %s.%s became %q, changed %v for %q",
				v.Class,
				v,
				p.Table.Name,
				f.Name,
				field,
				changed,
				change.Reason,
			)
		}
	}
	for i, column := range p.Columns {
		unmapped := p.fieldOf(i+1) < 0 || p.Table.Name == Runs && column == "end_time"
		change, changed := changes[column]
		delete(changes, column)
		if changed != (unmapped && row[i+1].Class != sqlite.Null) ||
			changed && (!sameValue(change.Original, row[i+1]) || change.Reason != UnmappedColumn) {
			t.Fatalf(
				"%s in %s.%s is stored: %v, as %s for %q",
				row[i+1],
				p.Table.Name,
				column,
				changed,
				change.Original,
				change.Reason,
			)
		}
	}
	if len(changes) > 0 {
		t.Fatalf("changed are also %v", changes)
	}
	return true
}

// fieldOf returns the index of the field that is filled from the position in a row; -1
// for none.
func (p *TableMapping) fieldOf(at int) int {
	return slices.IndexFunc(p.Fields, func(f Field) bool { return f.from == at })
}

// cellOf returns the cell that fills a field.
func cellOf(p *TableMapping, row []sqlite.Value, field int) sqlite.Value {
	if from := p.Fields[field].from; from >= 0 {
		return row[from]
	}
	return p.Fields[field].value
}

// decimal matches a decimal number.
var decimal = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// numberIn returns the number that a cell represents in Python, exactly if it is whole.
func numberIn(v sqlite.Value) (f float64, ok bool) {
	switch v.Class {
	case sqlite.Integer:
		return float64(v.Int), true
	case sqlite.Real:
		return v.Real, true
	case sqlite.Text:
		s := strings.TrimSpace(string(v.Bytes))
		f, err := strconv.ParseFloat(s, 64)
		_, tooLong := strconv.ParseInt(s, 10, 64)
		return f, decimal.MatchString(s) && (err == nil || tooLong == nil)
	}
	return 0, false
}

// whole returns the integer that a number is rounded to, as a float if an int64 cannot
// hold it.
func whole(v sqlite.Value) float64 {
	f, _ := numberIn(v)
	return math.RoundToEven(f)
}

// wantRejection returns the reasons why a row must be rejected, computed independently of the
// converter.
func wantRejection(c *Converter, row []sqlite.Value) (why Reason) {
	for i := range c.Mapping.Fields {
		f := &c.Mapping.Fields[i]
		v := cellOf(c.Mapping, row, i)
		isKey := f.Name == c.Mapping.Table.PrimaryKey
		refers := f.Name == "run_id" && c.Mapping.Table.ChildOf != ""
		textual := v.Class == sqlite.Text || v.Class == sqlite.Blob
		switch {
		case v.Class == sqlite.Null && f.Kind == KindTime:
		case v.Class == sqlite.Null && isKey:
			why |= NullKey
		case v.Class == sqlite.Null && f.NotNull:
			why |= MissingValue
		case v.Class == sqlite.Null:
		case f.Kind == KindText && textual:
			if (isKey || refers) && strings.Contains(string(v.Bytes), "\x00") {
				why |= NULInKey
			}
			indexed := isKey || refers ||
				slices.ContainsFunc(
					c.Mapping.Table.Indexes,
					func(x Index) bool { return x.Column == f.Name && x.Method == "btree" },
				)
			if indexed && len(clean(v.Bytes)) > longestIndexed {
				why |= TextTooLong
			}
		case f.Kind == KindVector:
			switch {
			case v.Class != sqlite.Blob || len(v.Bytes) == 0 || len(v.Bytes)%4 != 0:
				why |= InvalidVector
			case len(v.Bytes) != 8:
				why |= VectorDimensionMismatch
			default:
				for at := range 2 {
					if x := float64(math.Float32frombits(binary.LittleEndian.Uint32(v.Bytes[4*at:]))); math.IsNaN(x) ||
						math.IsInf(x, 0) {
						why |= InvalidVector
					}
				}
			}
		case f.Kind == KindInt || f.Kind == KindFloat4 || f.Kind == KindFloat8:
			if !f.NotNull {
				break
			}
			number, ok := numberIn(v)
			if !ok {
				why |= NotANumber
				break
			}
			_, notExact := strconv.ParseInt(strings.TrimSpace(string(v.Bytes)), 10, 64)
			if f.Kind == KindInt && v.Class != sqlite.Integer && (v.Class != sqlite.Text || notExact != nil) &&
				(math.RoundToEven(number) >= 1<<63 || math.RoundToEven(number) < -1<<63) {
				why |= OutOfRange
				if v.Class == sqlite.Text {
					why |= TextAsNumber
				}
			}
		}
	}
	return why
}

// clean returns the text that PostgreSQL stores for bytes.
func clean(b []byte) string {
	var s strings.Builder
	for _, r := range string(b) { // each bad byte is a rune of its own
		if r != 0 {
			s.WriteRune(r)
		}
	}
	return s.String()
}

// checkField fails the test if PostgreSQL would not accept the field.
func checkField(t testing.TB, c *Converter, f *Field, v sqlite.Value, field []byte) {
	t.Helper()
	if field == nil {
		if f.NotNull {
			t.Fatalf("%s of %s is NULL", f.Name, v)
		}
		return
	}
	name := c.Mapping.Table.Name + "." + f.Name
	size := map[Kind]int{KindInt: 4, KindFloat4: 4, KindFloat8: 8, KindTime: 8, KindBool: 1, KindVector: 12}[f.Kind]
	if c.Types.Wide[name] || c.Types.Double[name] {
		size = 8
	}
	if size != 0 && len(field) != size {
		t.Fatalf("%s of %s has %d bytes", name, v, len(field))
	}
	switch f.Kind {
	case KindText:
		if !utf8.Valid(field) || strings.Contains(string(field), "\x00") {
			t.Fatalf("%s of %s is %q", name, v, field)
		}
	case KindJSON:
		if field[0] != 1 || !utf8.Valid(field) || !stdjson.Valid(field[1:]) ||
			strings.Contains(string(field), `\u0000`) {
			t.Fatalf("%s of %s is %q", name, v, field)
		}
	case KindTime:
		if year := momentOf(field).Year(); year < 1 || year > 9999 {
			t.Fatalf("%s of %s is in year %d", name, v, year)
		}
	case KindBool:
		if field[0] > 1 {
			t.Fatalf("%s of %s is %q", name, v, field)
		}
	}
}

// isUnchanged reports whether a field has the same meaning as the cell, so that no
// change need be reported.
func isUnchanged(c *Converter, f *Field, v sqlite.Value, field []byte) bool {
	if v.Class == sqlite.Null {
		return field == nil // a time that is absent and required is inferred
	}
	text := v.Class == sqlite.Text || v.Class == sqlite.Blob
	name := c.Mapping.Table.Name + "." + f.Name
	switch f.Kind {
	case KindText:
		return text && string(field) == string(v.Bytes)
	case KindInt:
		if field == nil {
			return false
		}
		var got int64
		if len(field) == 4 {
			got = int64(int32(binary.BigEndian.Uint32(field)))
		} else {
			got = int64(binary.BigEndian.Uint64(field))
		}
		return v.Class == sqlite.Integer && got == v.Int || v.Class == sqlite.Real && float64(got) == v.Real
	case KindFloat4, KindFloat8:
		if field == nil || text {
			return false
		}
		f8, _ := numberIn(v)
		if v.Class == sqlite.Integer && (f8 == 1<<63 || int64(f8) != v.Int) {
			return false
		}
		if f.Kind == KindFloat4 && !c.Types.Double[name] { // rounding to float4 is counted, not told
			return math.Float32frombits(binary.BigEndian.Uint32(field)) == float32(f8)
		}
		return math.Float64frombits(binary.BigEndian.Uint64(field)) == f8
	case KindBool:
		got := float64(field[0])
		return v.Class == sqlite.Integer && float64(v.Int) == got || v.Class == sqlite.Real && v.Real == got
	case KindTime:
		return text && sameTime(string(v.Bytes), momentOf(field))
	case KindJSON:
		if field == nil {
			return text && strings.Trim(string(v.Bytes), " \t\r\n") == "null"
		}
		return text && string(field[1:]) == string(v.Bytes)
	case KindVector:
		return v.Class == sqlite.Blob
	}
	return false
}

// momentOf decodes a timestamptz: microseconds since 2000.
func momentOf(field []byte) time.Time {
	const epoch = 946_684_800_000_000
	return time.UnixMicro(int64(binary.BigEndian.Uint64(field)) + epoch).UTC()
}

// zoned matches the end of a timestamp that has a time zone.
var zoned = regexp.MustCompile(`(Z|[+-]\d\d(:?\d\d(:\d\d)?)?)$`)

// sameTime reports whether Go parses the text as the same time, in the zone that
// convertAndCheck uses for naive timestamps.
func sameTime(text string, moment time.Time) bool {
	date := strings.TrimSpace(text) == text && len(text) >= len(time.DateOnly)
	if !date {
		return false
	}
	clock := text[len(time.DateOnly):]
	// SQLite's datetime() is UTC.
	local := time.FixedZone("", 5400)
	if len(clock) == len(" 15:04:05") && clock[0] == ' ' {
		local = time.UTC
	}
	format := time.DateOnly
	if clock != "" {
		format += clock[:1] + "15:04"
		rest := strings.TrimSuffix(clock, zoned.FindString(clock))
		if strings.Count(rest, ":") == 2 {
			format += ":05"
		}
		switch z := zoned.FindString(clock); len(z) {
		case 0:
		case 1, 6:
			format += "Z07:00"
		case 3:
			format += "Z07"
		case 5:
			format += "Z0700"
		default:
			format += "Z07:00:00"
		}
	}
	got, err := time.ParseInLocation(format, text, local)
	return err == nil && got.Equal(moment)
}
