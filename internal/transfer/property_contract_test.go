package transfer_test

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What becomes of a cell, in this test's own words: a second reading of the
// contract, which asks nothing of the code that it is held against.

// propTables are Flujo's PostgreSQL tables, parents first. T text, I integer,
// R real, D double precision, J jsonb, Z timestamptz, B boolean; "!" NOT NULL,
// "#" the primary key, ">" it refers to runs, "*" a text with an index on it.
var propTables = []propTable{
	newPropTable("runs", `run_id T!#* pipeline_id T!* pipeline_name T!* pipeline_version T! status T!* created_at Z!
		updated_at Z! execution_time_ms I memory_usage_mb R total_steps I error_message T`),
	newPropTable("workflow_state", `run_id T!#* pipeline_id T!* pipeline_name T! pipeline_version T! current_step_index I!
		pipeline_context J last_step_output J step_history J status T!* created_at Z! updated_at Z! total_steps I
		error_message T execution_time_ms I memory_usage_mb R metadata J is_background_task B parent_run_id T*
		task_id T background_error T`),
	newPropTable("steps", `id I!# run_id T!>* step_name T! step_index I! status T! output J raw_response J cost_usd R
		token_counts I execution_time_ms I created_at Z!`),
	newPropTable("spans", `id I!# run_id T!>* span_id T! parent_span_id T* name T! start_time D! end_time D status T!
		attributes J created_at Z!`),
	newPropTable("traces", `run_id T!#>* trace_data J! created_at Z!`),
	newPropTable("evaluations", `id I!# run_id T!>* step_name T score D! feedback T metadata J created_at Z!`),
	newPropTable("system_state", `key T!#* value J! updated_at Z!`),
}

// propOlder names the columns of Flujo 0.4 that stand for those of 0.6.
var propOlder = map[string]string{
	"runs.created_at": "start_time", "runs.updated_at": "end_time",
	"steps.created_at": "start_time", "steps.execution_time_ms": "duration_ms", "steps.cost_usd": "cost",
	"steps.token_counts": "tokens", "steps.output": "output_blob",
}

// propIndexed is how long an indexed text may be: PostgreSQL takes 2,704 bytes
// with the header, of which some belong to the tuple.
const propIndexed = 2690

type propTable struct {
	name    string
	columns []propColumn
}

type propColumn struct {
	name                             string
	kind                             byte
	notNull, key, reference, indexed bool
}

func newPropTable(name, columns string) propTable {
	t := propTable{name: name}
	words := strings.Fields(columns)
	for i := 0; i < len(words); i += 2 {
		has := func(mark string) bool { return strings.Contains(words[i+1], mark) }
		t.columns = append(t.columns, propColumn{name: words[i], kind: words[i+1][0],
			notNull: has("!"), key: has("#"), reference: has(">"), indexed: has("*")})
	}
	return t
}

func (t *propTable) key() *propColumn {
	for i := range t.columns {
		if t.columns[i].key {
			return &t.columns[i]
		}
	}
	return nil
}

// propCell is a cell as SQLite stores it: nil, int64, float64, string or
// []byte.
type propCell any

// propBytes gives what a text or a BLOB holds.
func propBytes(c propCell) (string, bool) {
	switch c := c.(type) {
	case string:
		return c, true
	case []byte:
		return string(c), true
	}
	return "", false
}

// propWant is what a column shall hold for a cell.
type propWant struct {
	null     bool
	text     string
	whole    int64
	real     float64
	truth    bool
	micros   int64 // since 2000
	slack    int64 // how many of them it may be off
	guess    bool  // any time that a witness tells
	naive    bool
	json     string
	kept     bool // the original has to be kept
	homeless bool // the row has no place
}

// propText gives a cell's text as PostgreSQL can hold it.
func propText(c propCell) (text string, changed bool) {
	switch c := c.(type) {
	case int64:
		return strconv.FormatInt(c, 10), true
	case float64:
		if c == 0 {
			return "0", true // also -0, which SQLite takes for the same key
		}
		return strconv.FormatFloat(c, 'g', -1, 64), true
	}
	s, _ := propBytes(c)
	mended := strings.ReplaceAll(string([]rune(s)), "\x00", "")
	return mended, mended != s
}

// propKeyText gives the text of a cell that is a text key, and whether it can
// be one.
func propKeyText(c propCell) (key string, ok bool) {
	if c == nil {
		return "", false
	}
	s, _ := propBytes(c)
	key, _ = propText(c)
	return key, !strings.Contains(s, "\x00") && len(key) <= propIndexed
}

var propNumberForm = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)

// propNumber gives the number that a cell says: a whole one exactly.
func propNumber(c propCell) (whole int64, real float64, isWhole, said, asText bool) {
	switch c := c.(type) {
	case int64:
		return c, float64(c), true, true, false
	case float64:
		return 0, c, false, true, false
	case string:
		s := strings.TrimSpace(c)
		if !propNumberForm.MatchString(s) {
			return 0, 0, false, false, false
		}
		if whole, err := strconv.ParseInt(s, 10, 64); err == nil {
			return whole, float64(whole), true, true, true
		}
		real, err := strconv.ParseFloat(s, 64)
		return 0, real, false, err == nil, true
	}
	return 0, 0, false, false, false
}

var propTimeForm = regexp.MustCompile(`^(\d{4})-(\d\d)-(\d\d)(?:([T ])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d(?:\d\d|:\d\d(?::\d\d)?)?)?)?$`)

// propTimeOf gives the moment that a cell tells, in microseconds since 2000.
func propTimeOf(c propCell, zone *time.Location) (micros int64, exact, told bool) {
	var seconds float64
	switch c := c.(type) {
	case nil:
		return 0, false, false
	case int64:
		seconds = float64(c)
	case float64:
		seconds = c
	default:
		return propTimeText(c, zone)
	}
	if !(seconds >= float64(propFirst.Unix()) && seconds < float64(propLast.Unix())) {
		return 0, false, false
	}
	whole, fraction := math.Modf(seconds)
	return (int64(whole)-propEpoch)*1e6 + int64(math.Round(fraction*1e6)), false, true
}

const propEpoch = 946684800

var (
	propFirst = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	propLast  = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
)

func propTimeText(c propCell, zone *time.Location) (micros int64, exact, told bool) {
	s, _ := propBytes(c)
	m := propTimeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, false, false
	}
	number := func(s string) int {
		n, _ := strconv.Atoi(s)
		return n
	}
	if !propIsNaive(c) {
		zone = time.UTC
	}
	at := time.Date(number(m[1]), time.Month(number(m[2])), number(m[3]), number(m[5]), number(m[6]), number(m[7]), 0, time.UTC)
	if at.Format("2006-01-02") != s[:10] || number(m[5]) > 23 || number(m[6]) > 59 || number(m[7]) > 59 || number(m[1]) < 1 {
		return 0, false, false
	}
	at = time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), 0, zone)
	if o := strings.ReplaceAll(m[9], ":", ""); len(o) > 1 {
		o += "0000"
		hours, minutes, seconds := number(o[1:3]), number(o[3:5]), number(o[5:7])
		if hours > 23 || minutes > 59 || seconds > 59 {
			return 0, false, false
		}
		east := time.Duration(hours*3600+minutes*60+seconds) * time.Second
		if o[0] == '-' {
			east = -east
		}
		at = at.Add(-east)
	}
	if at.Before(propFirst) || !at.Before(propLast) {
		return 0, false, false
	}
	digits := (m[8] + "000000")[:6]
	cut := len(m[8]) > 6 && strings.Trim(m[8][6:], "0") != ""
	return (at.Unix()-propEpoch)*1e6 + int64(number(digits)), !cut, true
}

// propIsNaive reports whether a time names no zone; what SQLite's datetime()
// prints is UTC.
func propIsNaive(c propCell) bool {
	s, _ := propBytes(c)
	m := propTimeForm.FindStringSubmatch(s)
	return m[9] == "" && !(m[4] == " " && m[7] != "" && m[8] == "")
}

// propJSONSource gives the JSON text that a cell says.
func propJSONSource(c propCell) string {
	switch c := c.(type) {
	case int64:
		return strconv.FormatInt(c, 10)
	case float64:
		switch {
		case math.IsInf(c, 1):
			return "Infinity"
		case math.IsInf(c, -1):
			return "-Infinity"
		}
		return strconv.FormatFloat(c, 'g', -1, 64)
	}
	s, _ := propBytes(c)
	return s
}

// propJSON mends a JSON text, and reports whether it is one then. What numbers
// and what depth the server takes is for the server to say.
func propJSON(s string) (mended string, ok bool) {
	var out, probe strings.Builder
	put := func(s string) { out.WriteString(s); probe.WriteString(s) }
	for i, inside := 0, false; i < len(s); {
		c := s[i]
		switch {
		case !inside:
			word := ""
			for _, w := range []string{"NaN", "-Infinity", "Infinity"} {
				if strings.HasPrefix(s[i:], w) {
					word = w
				}
			}
			if word != "" { // a value, never a key
				out.WriteString(`"` + word + `"`)
				probe.WriteString("0")
				i += len(word)
				continue
			}
			inside = c == '"'
			put(s[i : i+1])
			i++
		case c == '\\':
			n := min(2, len(s)-i)
			if unit, ok := propUnit(s[i:]); ok {
				n = 6
				low, paired := propUnit(s[i+6:])
				switch {
				case unit == 0:
					i += n
					continue
				case unit >= 0xd800 && unit < 0xdc00 && paired && low >= 0xdc00 && low < 0xe000:
					n = 12
				case unit >= 0xd800 && unit < 0xe000:
					put("\ufffd")
					i += n
					continue
				}
			}
			put(s[i : i+n])
			i += n
		case c == 0:
			i++
		default:
			inside = c != '"'
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				put("\ufffd")
			} else {
				put(s[i : i+n])
			}
			i += n
		}
	}
	mended = out.String()
	return mended, json.Valid([]byte(probe.String())) && json.Valid([]byte(mended))
}

// propUnit reads an escaped UTF-16 unit.
func propUnit(s string) (unit uint64, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(s[2:6], 16, 32)
	return unit, err == nil
}

// expect says what the column shall hold for the cell.
func (k *propCheck) expect(c propColumn, cell propCell) (w propWant) {
	if cell == nil && c.kind != 'Z' {
		return propWant{null: true, homeless: c.notNull}
	}
	switch c.kind {
	case 'T':
		w.text, w.kept = propText(cell)
		s, _ := propBytes(cell)
		w.homeless = (c.key || c.reference) && strings.Contains(s, "\x00") || c.indexed && len(w.text) > propIndexed
	case 'I':
		whole, real, isWhole, said, asText := propNumber(cell)
		w.whole, w.kept = whole, asText || !said
		if said && !isWhole {
			even := math.RoundToEven(real)
			said = even >= math.MinInt64 && even < math.MaxInt64
			w.kept = w.kept || even != real || !said
			if said {
				w.whole = int64(even)
			}
		}
		w.null = !said
	case 'R', 'D':
		whole, real, isWhole, said, asText := propNumber(cell)
		if c.kind == 'R' && !k.exact && math.IsInf(float64(float32(real)), 0) && !math.IsInf(real, 0) {
			said = false
		}
		w = propWant{real: real, null: !said, kept: asText || !said}
		if isWhole && strconv.FormatFloat(real, 'f', 0, 64) != strconv.FormatInt(whole, 10) {
			w.kept = true
		}
	case 'B':
		switch v := cell.(type) {
		case int64:
			w.truth, w.kept = v != 0, v != 0 && v != 1
		case float64:
			w.truth, w.kept = v != 0, v != 0 && v != 1
		default:
			s, _ := propBytes(cell)
			w.truth, w.kept = s != "", true
		}
	case 'Z':
		var exact, told bool
		w.micros, exact, told = propTimeOf(cell, k.zone)
		_, isText := propBytes(cell)
		w.guess, w.kept = !told, !told || !exact
		w.naive = told && isText && propIsNaive(cell)
		if told && !isText {
			w.slack = 1
		}
	case 'J':
		w.json = propJSONSource(cell)
		_, isText := propBytes(cell)
		if !c.notNull && strings.Trim(w.json, " \t\r\n") == "null" {
			return propWant{null: true}
		}
		w.kept = !isText || k.json[w.json].mended
	}
	w.homeless = w.homeless || w.null && c.notNull
	return w
}
