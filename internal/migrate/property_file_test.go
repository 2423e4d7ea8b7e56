package migrate_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// propertyShape is a table of a file, with the declaration and the kind of values of each column. Kinds are the types
// of propertyTables, "K" for a key, "F" for the run of the row and "x" for other values.
type propertyShape struct {
	name    string
	columns []propertyShapeColumn
}

// propertyShapeColumn is a column of a propertyShape.
type propertyShapeColumn struct {
	name, declared string
	kind           byte
	null           bool // some cells are NULL
}

// propertyShapes parses lines "name kind declaration" of columns. A line with one word starts a table.
func propertyShapes(lines string) (all []propertyShape) {
	for _, line := range strings.Split(lines, "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 1:
			all = append(all, propertyShape{name: words[0]})
		case len(words) > 1:
			s := &all[len(all)-1]
			c := propertyShapeColumn{name: words[0], kind: words[1][0], declared: strings.Join(words[2:], " ")}
			c.null = len(words) == 3
			s.columns = append(s.columns, c)
		}
	}
	return all
}

// The tables of Flujo's file formats.
var (
	propertyState06 = `workflow_state
		run_id K TEXT PRIMARY KEY
		pipeline_id T TEXT NOT NULL
		pipeline_name T TEXT NOT NULL
		pipeline_version T TEXT NOT NULL
		current_step_index I INTEGER NOT NULL
		pipeline_context J TEXT
		last_step_output J TEXT
		step_history J TEXT
		status T TEXT NOT NULL
		created_at Z TEXT NOT NULL
		updated_at Z TEXT NOT NULL
		total_steps I INTEGER DEFAULT 0
		error_message T TEXT
		execution_time_ms I INTEGER
		memory_usage_mb R REAL
		metadata J TEXT
		is_background_task B INTEGER DEFAULT 0
		parent_run_id T TEXT
		task_id T TEXT
		background_error T TEXT
		`
	propertyRunsSeven = `runs
		run_id K TEXT PRIMARY KEY
		pipeline_id T TEXT NOT NULL
		pipeline_name T TEXT NOT NULL
		pipeline_version T TEXT NOT NULL
		status T TEXT NOT NULL
		created_at Z TEXT NOT NULL
		updated_at Z TEXT NOT NULL
		`
	propertyRuns06 = propertyRunsSeven + `execution_time_ms I INTEGER
		memory_usage_mb R REAL
		total_steps I INTEGER DEFAULT 0
		error_message T TEXT
		end_time x TEXT
		total_cost x REAL
		final_context_blob x TEXT
		`
	propertySteps06 = `steps
		id N INTEGER PRIMARY KEY AUTOINCREMENT
		run_id F TEXT NOT NULL
		step_name T TEXT NOT NULL
		step_index I INTEGER NOT NULL
		status T TEXT NOT NULL
		output J TEXT
		raw_response J TEXT
		cost_usd R REAL
		token_counts I INTEGER
		execution_time_ms I INTEGER
		created_at Z TEXT NOT NULL
		`
	propertySpans06 = `spans
		id N INTEGER PRIMARY KEY AUTOINCREMENT
		run_id F TEXT NOT NULL
		span_id S TEXT NOT NULL
		parent_span_id P TEXT
		name T TEXT NOT NULL
		start_time D REAL NOT NULL
		end_time D REAL
		status T TEXT NOT NULL
		attributes J TEXT
		created_at Z TEXT NOT NULL
		`
	propertyRest06 = `traces
		run_id K TEXT PRIMARY KEY
		trace_data J TEXT NOT NULL
		created_at Z TEXT NOT NULL
		evaluations
		id N INTEGER PRIMARY KEY AUTOINCREMENT
		run_id F TEXT NOT NULL
		step_name T TEXT
		score D REAL NOT NULL
		feedback T TEXT
		metadata J TEXT
		created_at Z TEXT NOT NULL DEFAULT (DATETIME('now'))
		system_state
		key K TEXT PRIMARY KEY
		value J TEXT NOT NULL
		updated_at Z TEXT NOT NULL
		`
	propertyState04 = `workflow_state
		run_id K TEXT PRIMARY KEY
		pipeline_id T TEXT NOT NULL
		pipeline_name T TEXT NOT NULL
		pipeline_version T TEXT NOT NULL
		current_step_index I INTEGER NOT NULL DEFAULT 0
		pipeline_context J TEXT NOT NULL
		last_step_output J TEXT
		step_history J TEXT
		status s TEXT NOT NULL CHECK (status IN ('running', 'paused', 'completed', 'failed', 'cancelled'))
		created_at Z TEXT NOT NULL
		updated_at Z TEXT NOT NULL
		total_steps I INTEGER DEFAULT 0
		error_message T TEXT
		execution_time_ms I INTEGER
		memory_usage_mb R REAL
		`
	propertyRuns04 = `runs
		run_id K TEXT PRIMARY KEY
		pipeline_name T TEXT NOT NULL
		pipeline_version T TEXT NOT NULL
		status T TEXT NOT NULL
		start_time Z TEXT NOT NULL
		end_time Z TEXT
		total_cost x REAL
		final_context_blob x TEXT
		`
	propertySteps04 = `steps
		step_run_id x TEXT PRIMARY KEY
		run_id F TEXT NOT NULL
		step_name T TEXT NOT NULL
		step_index I INTEGER NOT NULL
		status T TEXT NOT NULL
		start_time Z TEXT NOT NULL
		end_time Z TEXT
		duration_ms I INTEGER
		cost R REAL
		tokens I INTEGER
		input_blob J TEXT
		output_blob J TEXT
		error_blob J TEXT
		`
	propertySpans04 = `spans
		span_id S TEXT PRIMARY KEY
		run_id F TEXT NOT NULL
		parent_span_id P TEXT
		name T TEXT NOT NULL
		start_time D REAL NOT NULL
		end_time D REAL
		status T TEXT DEFAULT 'running'
		attributes J TEXT
		created_at Z DATETIME DEFAULT CURRENT_TIMESTAMP
		`
	propertyOpenedBy06 = propertyState04 + `metadata J TEXT
		is_background_task B INTEGER DEFAULT 0
		parent_run_id T TEXT
		task_id T TEXT
		background_error T TEXT
		` + propertyRuns04 + `pipeline_id T TEXT NOT NULL DEFAULT 'unknown'
		created_at e TEXT NOT NULL DEFAULT ''
		updated_at e TEXT NOT NULL DEFAULT ''
		execution_time_ms I INTEGER
		memory_usage_mb R REAL
		total_steps I INTEGER DEFAULT 0
		error_message T TEXT
		` + propertySteps04 + "raw_response J TEXT\n" + propertySpans04 + propertyRest06
	propertyWithoutHistory = strings.Replace(propertyState04, "step_history J TEXT\n", "", 1)

	propertyFormats = []struct{ name, tables string }{
		{"0.6", propertyState06 + propertyRuns06 + propertySteps06 + propertySpans06 + propertyRest06},
		{"seven columns", propertyState06 + propertyRunsSeven + propertySteps06 + propertySpans06 + propertyRest06},
		{"0.4.33", propertyState04 + propertyRuns04 + propertySteps04 + propertySpans04},
		{"0.4 opened by 0.6", propertyOpenedBy06},
		{"0.6", propertyState06 + propertyRuns06 + propertySteps06 + propertySpans06 + propertyRest06},
		{"0.4.29", propertyWithoutHistory},
	}
)

// propertyGenerator generates the cells of a file.
type propertyGenerator struct {
	*rand.Rand
	arbitrary float64 // the probability that a cell has an arbitrary value
	rowid     bool    // ids are rowids, for which SQLite accepts only integers
	runs      int     // the number of runs
	pools     map[byte][]propertyCell
}

// writePropertyFile writes the n-th file. It returns its path and a description.
func writePropertyFile(t testing.TB, random *rand.Rand, n int) (path, description string) {
	t.Helper()
	rows := []int{6400, 6000, 5200, 2800, 1600}[n%5] / pgtest.Count(2, 1)
	m := &propertyGenerator{Rand: random, pools: map[byte][]propertyCell{}, runs: rows / 8,
		arbitrary: []float64{0, 0.0005, 0.01, 0.1, 0.4}[n%5]}
	format := propertyFormats[random.IntN(len(propertyFormats))]
	declared := []string{"declared", "types only", "bare"}[random.IntN(3)]
	shapes := propertyShapes(format.tables)
	for len(shapes) > 1 && random.IntN(3) == 0 { // tables that are missing
		at := random.IntN(len(shapes))
		shapes = slices.Delete(shapes, at, at+1)
	}
	for i := range shapes {
		if random.IntN(3) == 0 {
			extra := []propertyShapeColumn{
				{name: "note", declared: "TEXT"}, {name: "a \"quoted\" name"}, {name: "rowid", declared: "TEXT"},
				{name: "oid"}, {name: "seen", declared: "TIMESTAMP"}, {name: "done", declared: "BOOLEAN"},
			}[random.IntN(6)]
			extra.kind = 'x'
			at := random.IntN(len(shapes[i].columns) + 1)
			shapes[i].columns = slices.Insert(shapes[i].columns, at, extra)
		}
	}
	m.rowid = declared == "declared"
	m.fillPools()
	path = filepath.Join(t.TempDir(), "flujo_state.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	must := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.Exec(statement, args...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	must("PRAGMA synchronous = OFF")
	must("BEGIN")
	for i := range shapes {
		must(shapes[i].create(declared))
	}
	if random.IntN(2) == 0 {
		must("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)")
		must("INSERT INTO notes (note) VALUES ('not Flujo''s')")
	}
	if random.IntN(2) == 0 {
		must("PRAGMA user_version = 1")
	}
	for i := range shapes {
		m.insert(t, db, &shapes[i], rows/len(shapes))
	}
	must("COMMIT")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path, fmt.Sprintf("%s, %s, %g arbitrary", format.name, declared, m.arbitrary)
}

// create returns the CREATE TABLE statement.
func (s *propertyShape) create(declared string) string {
	parts := make([]string, len(s.columns))
	for i, c := range s.columns {
		parts[i] = propertyQuote(c.name)
		switch declared {
		case "declared":
			parts[i] += " " + c.declared
		case "types only":
			parts[i] += " " + strings.SplitN(c.declared, " ", 2)[0]
		}
	}
	return fmt.Sprintf("CREATE TABLE %s (%s)", s.name, strings.Join(parts, ", "))
}

// propertyQuote returns a name as a quoted SQL identifier.
func propertyQuote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// insert inserts rows into a table. It omits rows that violate a constraint.
func (m *propertyGenerator) insert(t testing.TB, db *sql.DB, s *propertyShape, rows int) {
	t.Helper()
	const batch = 40
	names, marks := make([]string, len(s.columns)), make([]string, len(s.columns))
	for i, c := range s.columns {
		names[i], marks[i] = propertyQuote(c.name), "?"
	}
	tuple := "(" + strings.Join(marks, ", ") + ")"
	query := fmt.Sprintf("INSERT OR IGNORE INTO %s (%s) VALUES %s", s.name, strings.Join(names, ", "),
		strings.TrimSuffix(strings.Repeat(tuple+", ", batch), ", "))
	insert, err := db.Prepare(query)
	if err != nil {
		t.Fatal(err)
	}
	defer insert.Close()
	args := make([]any, 0, batch*len(s.columns))
	for n := range rows / batch * batch {
		for _, c := range s.columns {
			cell := m.cell(c.kind, n)
			if c.null && m.IntN(16) == 0 {
				cell = nil
			}
			args = append(args, cell)
		}
		if len(args) == cap(args) {
			if _, err := insert.Exec(args...); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			args = args[:0]
		}
	}
}

// cell returns a value for a column: one that Flujo may write, or an arbitrary one.
func (m *propertyGenerator) cell(kind byte, n int) propertyCell {
	arbitrary := m.Float64() < m.arbitrary
	switch kind {
	case 'K':
		if arbitrary {
			return m.changedKey()
		}
		return propertyRun(n)
	case 'F':
		switch {
		case arbitrary:
			return m.changedKey()
		case m.IntN(100) == 0:
			return propertyRun(m.runs + m.IntN(40)) // often without a row in runs
		}
		return propertyRun(m.IntN(m.runs))
	case 'N':
		switch {
		case arbitrary && m.rowid:
			ids := []propertyCell{int64(-1), int64(0), int64(1) << 40, int64(math.MaxInt32) + 1, int64(math.MaxInt64)}
			return ids[m.IntN(5)]
		case arbitrary && m.IntN(2) == 0:
			return m.pick('n')
		}
		return int64(n + 1)
	case 'S':
		if arbitrary && m.IntN(2) == 0 {
			return m.pick('a')
		}
		return fmt.Sprintf("span%d", n)
	case 'P':
		if arbitrary && m.IntN(2) == 0 {
			return m.pick('a')
		}
		if m.IntN(3) == 0 {
			return nil
		}
		return fmt.Sprintf("span%d", max(0, n-m.IntN(20)))
	}
	if arbitrary {
		return m.pick("aaaaTJZIDn"[m.IntN(10)])
	}
	if kind == 'e' && m.IntN(3) > 0 {
		return ""
	}
	if kind == 'e' {
		kind = 'Z'
	}
	return m.pick(kind)
}

// propertyRun returns the key of run n.
func propertyRun(n int) string { return fmt.Sprintf("run_%d", n) }

// changedKey returns a key that may be equal to another one in PostgreSQL, or invalid.
func (m *propertyGenerator) changedKey() propertyCell {
	n := m.IntN(min(40, m.runs))
	plain := propertyRun(n)
	switch m.IntN(16) {
	case 0, 1, 2:
		return []byte(plain)
	case 3:
		return plain + "\x00"
	case 4:
		return []byte(plain + "\x00")
	case 5:
		return plain + "\xff"
	case 6:
		return plain + "\xfe"
	case 7:
		return []byte(plain + "\xc3")
	case 8:
		return plain + "\ufffd"
	case 9:
		return int64(n)
	case 10:
		return float64(n)
	case 11:
		return fmt.Sprint(n)
	case 12:
		return nil
	case 13:
		return m.pick('a')
	}
	return plain
}

// pick returns a random cell of a pool.
func (m *propertyGenerator) pick(kind byte) propertyCell {
	pool := m.pools[kind]
	return pool[m.IntN(len(pool))]
}

// fillPools generates the values that Flujo writes, by kind, and arbitrary values for the kind 'a'.
func (m *propertyGenerator) fillPools() {
	for range 60 {
		m.pools['T'] = append(m.pools['T'], m.word())
		m.pools['J'] = append(m.pools['J'], m.validJSON(3))
		at := 1_600_000_000 + m.Float64()*2e8
		m.pools['Z'] = append(m.pools['Z'], m.validTime(at))
		m.pools['I'] = append(m.pools['I'], int64(m.IntN(100_000)))
		m.pools['R'] = append(m.pools['R'], m.Float64()*100)
		m.pools['D'] = append(m.pools['D'], at)
	}
	m.pools['R'] = append(m.pools['R'], 0.0, 0.5)
	m.pools['B'] = []propertyCell{int64(0), int64(1)}
	m.pools['s'] = []propertyCell{"running", "paused", "completed", "failed", "cancelled"}
	m.pools['x'] = []propertyCell{nil, nil, nil, "kept", 1.5, int64(3), []byte("kept"), "2026-01-05T09:00:01"}
	m.pools['n'] = []propertyCell{
		nil,
		int64(-1),
		int64(0),
		int64(5),
		"5",
		" 5 ",
		5.0,
		5.25,
		"5e0",
		int64(70000),
		"70000",
		"x",
		[]byte("5"),
		int64(math.MaxInt32),
		int64(math.MaxInt32) + 1,
		int64(math.MinInt64),
		1e300,
		-1e300,
		"9999999999",
		int64(1) << 40,
	}

	texts := slices.Clone(propertyTexts)
	for range 20 {
		texts = append(texts, m.word().(string), m.invalidText(), m.validJSON(4).(string))
	}
	for range 40 {
		texts = append(texts, m.invalidJSON())
	}
	texts = append(texts, m.noise(propertyIndexed), m.noise(propertyIndexed+40), m.noise(9000),
		strings.Repeat("long ", 5000),
		strings.Repeat("[", 2000)+strings.Repeat("]", 2000),
		strings.Repeat(`{"a":`, 12000)+"1"+strings.Repeat("}", 12000),
		strings.Repeat("\xff", 1000)+"é")
	all := []propertyCell{nil, nil, nil, nil}
	for _, s := range texts {
		all = append(all, s, s)
		if m.IntN(3) == 0 {
			all = append(all, []byte(s))
		}
	}
	for range 3 {
		all = append(all, propertyNumbers...)
	}
	for range 10 {
		blob := make([]byte, m.IntN(40))
		for i := range blob {
			blob[i] = byte(m.Uint32())
		}
		all = append(all, blob, math.Float64frombits(m.Uint64()), int64(m.Uint64()), float64(m.Int32())/8)
	}
	all = slices.DeleteFunc(all, func(c propertyCell) bool { // SQLite stores NaN as NULL
		f, ok := c.(float64)
		return ok && f != f
	})
	m.pools['a'] = all
}

// propertyNumbers holds numbers at limits of SQLite, PostgreSQL and the conversion.
var propertyNumbers = []propertyCell{
	int64(0), int64(1), int64(-1), int64(2), int64(math.MaxInt32), int64(math.MinInt32), int64(math.MaxInt32) + 1,
	int64(math.MinInt32) - 1, int64(1)<<53 + 1, int64(math.MaxInt64), int64(math.MinInt64), int64(1)<<24 + 1,
	int64(1767603601), int64(253402300799), int64(253402300800), int64(-62135596800), int64(-62135596801),
	0.5, 1.5, 2.5, -0.5, -1.5, 12.5, 12.0, math.Copysign(0, -1), 1e15, 1e16, 1e300, -1e300, math.Inf(1), math.Inf(-1),
	math.SmallestNonzeroFloat64, math.MaxFloat64, float64(math.MaxFloat32), 3.5e38, 1e-46, 0.1, 1767603601.6690941,
	9007199254740993.0, 9.3e18, 9223372036854775807.0, -9223372036854775808.0, 2147483647.5, 2147483648.5,
	-62135596800.5, 253402300799.9999,
}

// propertyTexts holds texts that are, or nearly are, numbers, JSON, timestamps or UTF-8.
var propertyTexts = []string{
	"", " ", "null", " null\n", "'null'", "NULL", "true", "0", "1", "-1", "+1", "12", " 12 ", "12.5", "2.5",
	"1e3", "1e999", "-1e-999", ".5", "5.", ".", "e5", "0x10", "1_000", "inf", "Infinity", "-Infinity", "nan", "NaN",
	"[NaN]", `{"a":NaN,"b":[Infinity,-Infinity]}`,
	"5NaN", "-NaN", "NaNNaN", "{NaN:1}", "[NaN5]", `{"NaN":"NaN"}`, "9223372036854775807", "9223372036854775808",
	"-9223372036854775808", "2147483648", "3000000000.0", "00012", "1767603601", "é", "日本語", "😀", "a\x00b",
	"\x00", "\x00\x00", "\xff", "a\xffb", "\xc3", "\xe2\x82",
	"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "\ufeffbom", "é\x00\xff", "line\nbreak\ttab\x01\x7f",
	`""`, `"a"`, `"a\u0000b"`, `"\u0000"`, `"\ud800"`, `"\udc00\ud800"`, `"\ud83d\ude00"`, `"\ud83dx"`, `"\\u0000"`,
	`"\\\u0000"`, "\"raw\x00\"", "\"\x01\"",
	"\"\xff\"", `{"a\u0000":1,"a":2}`, `{"a":1,"a":2}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a"}`, `{'a':1}`, `{"a":1}x`,
	"{\"a\":1}\x00", `[01]`, `[1.]`, `[.5]`, `[-]`,
	`[-0]`, `[1e400]`, `[1E131071]`, `[1E131072]`, `[1e-16383]`, `[1e-16400]`, `[0e99999999999]`,
	`[12345678901234567890123456789.000100]`, `"unterminated`, `[`,
	`"\u12"`, `"\x"`, `"\`, "[1]\n", "\t[]\r\n", "\v[]", "\u00a0[]", "{}", "[[]]", `"/\/"`, `{"":{"":[]}}`,
	"2026-01-05T09:00:01.669094+00:00", "2026-11-23 02:18:25", "2025-09-01T08:00:00.783607",
	"2025-09-01 08:00:00.783607", "2026-01-05", "2026-01-05T09:00", "2026-01-05 09:00",
	"2026-01-05T09:00:01Z", "2026-01-05T09:00:01+05:30", "2026-01-05T09:00:01-0330", "2026-01-05T09:00:01+01",
	"2026-01-05T09:00:01+05:30:15", "2026-01-05T09:00:01.1234567Z",
	"2026-01-05T09:00:01.1234560Z", "2026-01-05T09:00:01.1", "2026-01-05T09:00:60", "2026-01-05T24:00:00",
	"2026-02-29T00:00:00", "2024-02-29T00:00:00", "2026-13-01",
	"2026-01-05T09:00:01+24:00", "2026-01-05T09:00:01 ", " 2026-01-05", "2026-01-05T09:00:01\x00", "2026-1-5",
	"0001-01-01T00:00:00", "0001-01-01T00:00:00+00:00",
	"0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59.999999",
	"9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00", "10000-01-01",
	"infinity", "-infinity", "now", "epoch", "1999-12-31T23:59:59.5Z", "1969-12-31T23:59:59.999999Z",
}

// word returns a random text.
func (m *propertyGenerator) word() propertyCell {
	const letters = "abcdefghij klmnopqrstuvwxyz_0123456789 éöß日本😀\"\\'\n"
	all := []rune(letters)
	word := make([]rune, 1+m.IntN(24))
	for i := range word {
		word[i] = all[m.IntN(len(all))]
	}
	return string(word)
}

// invalidText returns a text with random bytes in it.
func (m *propertyGenerator) invalidText() string {
	s := []byte(m.word().(string))
	for range 1 + m.IntN(3) {
		s[m.IntN(len(s))] = []byte{0, 0xff, 0xc3, 0xe2, 0x80, 0xf0, byte(m.Uint32())}[m.IntN(7)]
	}
	return string(s)
}

// noise returns a text of n bytes that cannot be compressed.
func (m *propertyGenerator) noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('!' + m.IntN(90))
	}
	return string(b)
}

// validTime returns a timestamp in one of Flujo's formats.
func (m *propertyGenerator) validTime(at float64) propertyCell {
	day, clock := 1+m.IntN(28), fmt.Sprintf("%02d:%02d:%02d", m.IntN(24), m.IntN(60), m.IntN(60))
	date := fmt.Sprintf("%04d-%02d-%02d", 2024+m.IntN(3), 1+m.IntN(12), day)
	switch m.IntN(5) {
	case 0:
		return date + " " + clock
	case 1:
		return date + "T" + clock + fmt.Sprintf(".%06d", m.IntN(1e6))
	}
	return date + "T" + clock + fmt.Sprintf(".%06d+00:00", m.IntN(1e6))
}

// validJSON returns a JSON text of up to the given depth.
func (m *propertyGenerator) validJSON(depth int) propertyCell {
	var b bytes.Buffer
	m.json(&b, depth)
	return b.String()
}

// json appends a JSON text to b.
func (m *propertyGenerator) json(b *bytes.Buffer, depth int) {
	kind := m.IntN(8)
	if depth == 0 {
		kind = m.IntN(6)
	}
	switch kind {
	case 0:
		fmt.Fprint(b, m.IntN(1000)-500)
	case 1:
		fmt.Fprintf(b, "%g", math.Float64frombits(m.Uint64()>>2))
	case 2:
		b.WriteString([]string{"true", "false", "null"}[m.IntN(3)])
	case 3, 4, 5:
		fmt.Fprintf(b, `"k%d"`, m.IntN(1000))
	case 6:
		b.WriteString("[")
		for i := range m.IntN(4) {
			if i > 0 {
				b.WriteString(", ")
			}
			m.json(b, depth-1)
		}
		b.WriteString("]")
	case 7:
		b.WriteString("{")
		for i := range m.IntN(4) {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(b, `"k%d": `, m.IntN(6))
			m.json(b, depth-1)
		}
		b.WriteString("}")
	}
}

// invalidJSON returns a JSON text with pieces inserted that often make it invalid.
func (m *propertyGenerator) invalidJSON() string {
	s := m.validJSON(5).(string)
	for range 1 + m.IntN(3) {
		at := m.IntN(len(s) + 1)
		piece := []string{`\u0000`, `\ud800`, `\udfff`, `\ud83d\ude00`, "\x00", "\xff", "NaN", "Infinity", "-Infinity",
			"1e99999", "1E131072", `"`, "\\", "[", "}", ",", " ", "0", "\xe2\x82\xac", "\x1f"}[m.IntN(20)]
		s = s[:at] + piece + s[at:]
	}
	return s
}
