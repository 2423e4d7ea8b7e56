package migrate_test

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// This file computes the expected result of converting a cell from docs/values.md. It is independent of the program's
// code.

// propertyTables holds Flujo's PostgreSQL tables, parents first. The letters are types: T is text, I integer, R real,
// D double precision, J jsonb, Z timestamptz, B boolean. "!" is NOT NULL, "#" the primary key, ">" a reference to
// runs, "*" a text with an index on it.
var propertyTables = []propertyTable{
	newPropertyTable("runs", `run_id T!#* pipeline_id T!* pipeline_name T!* pipeline_version T! status T!* created_at Z!
		updated_at Z! execution_time_ms I memory_usage_mb R total_steps I error_message T`),
	newPropertyTable("workflow_state",
		`run_id T!#* pipeline_id T!* pipeline_name T! pipeline_version T! current_step_index I!
		pipeline_context J last_step_output J step_history J status T!* created_at Z! updated_at Z! total_steps I
		error_message T execution_time_ms I memory_usage_mb R metadata J is_background_task B parent_run_id T*
		task_id T background_error T`),
	newPropertyTable("steps",
		`id I!# run_id T!>* step_name T! step_index I! status T! output J raw_response J cost_usd R
		token_counts I execution_time_ms I created_at Z!`),
	newPropertyTable("spans",
		`id I!# run_id T!>* span_id T! parent_span_id T* name T! start_time D! end_time D status T!
		attributes J created_at Z!`),
	newPropertyTable("traces", `run_id T!#>* trace_data J! created_at Z!`),
	newPropertyTable("evaluations", `id I!# run_id T!>* step_name T score D! feedback T metadata J created_at Z!`),
	newPropertyTable("system_state", `key T!#* value J! updated_at Z!`),
}

// propertyOlder holds the columns of Flujo 0.4, by the columns of 0.6 with the same meaning.
var propertyOlder = map[string]string{
	"runs.created_at": "start_time", "runs.updated_at": "end_time",
	"steps.created_at": "start_time", "steps.execution_time_ms": "duration_ms", "steps.cost_usd": "cost",
	"steps.token_counts": "tokens", "steps.output": "output_blob",
}

// propertyIndexed is the maximum length of an indexed text in bytes. PostgreSQL's limit is 2,704 bytes, headers
// included.
const propertyIndexed = 2690

// propertyTable is a table of Flujo's schema.
type propertyTable struct {
	name    string
	columns []propertyColumn
}

// propertyColumn is a column of a propertyTable.
type propertyColumn struct {
	name                             string
	kind                             byte
	notNull, key, reference, indexed bool
}

// newPropertyTable parses a list of columns and their types.
func newPropertyTable(name, columns string) propertyTable {
	t := propertyTable{name: name}
	words := strings.Fields(columns)
	for i := 0; i < len(words); i += 2 {
		has := func(mark string) bool { return strings.Contains(words[i+1], mark) }
		t.columns = append(t.columns, propertyColumn{name: words[i], kind: words[i+1][0],
			notNull: has("!"), key: has("#"), reference: has(">"), indexed: has("*")})
	}
	return t
}

// key returns the primary key.
func (t *propertyTable) key() *propertyColumn {
	for i := range t.columns {
		if t.columns[i].key {
			return &t.columns[i]
		}
	}
	return nil
}

// propertyCell is a cell as SQLite stores it: nil, int64, float64, string or []byte.
type propertyCell any

// propertyBytes returns the content of a text or a BLOB.
func propertyBytes(c propertyCell) (string, bool) {
	switch c := c.(type) {
	case string:
		return c, true
	case []byte:
		return string(c), true
	}
	return "", false
}

// propertyWant is the expected value of a column.
type propertyWant struct {
	null     bool
	text     string
	whole    int64
	real     float64
	boolean  bool
	micros   int64 // since 2000
	slack    int64 // the tolerance in microseconds
	inferred bool  // any timestamp fallback
	naive    bool
	json     string
	original bool // the original value is stored
	rejected bool // the row is rejected
}

// propertyText returns a cell as text that PostgreSQL can store, and whether that differs from the cell.
func propertyText(c propertyCell) (text string, changed bool) {
	switch c := c.(type) {
	case int64:
		return strconv.FormatInt(c, 10), true
	case float64:
		if c == 0 {
			return "0", true // also for -0, which is the same key in SQLite
		}
		return strconv.FormatFloat(c, 'g', -1, 64), true
	}
	s, _ := propertyBytes(c)
	repaired := strings.ReplaceAll(string([]rune(s)), "\x00", "")
	return repaired, repaired != s
}

// propertyKeyText returns the text of a cell in a text key, and whether it is a valid key.
func propertyKeyText(c propertyCell) (key string, ok bool) {
	if c == nil {
		return "", false
	}
	s, _ := propertyBytes(c)
	key, _ = propertyText(c)
	return key, !strings.Contains(s, "\x00") && len(key) <= propertyIndexed
}

var propertyNumberForm = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)

// propertyNumber returns the number in a cell, as whole if isWhole and as real in any case. ok reports whether the
// cell holds a number, asText whether it is a text.
func propertyNumber(c propertyCell) (whole int64, real float64, isWhole, ok, asText bool) {
	switch c := c.(type) {
	case int64:
		return c, float64(c), true, true, false
	case float64:
		return 0, c, false, true, false
	case string:
		s := strings.TrimSpace(c)
		if !propertyNumberForm.MatchString(s) {
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

var propertyTimeForm = regexp.MustCompile(
	`^(\d{4})-(\d\d)-(\d\d)(?:([T ])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d(?:\d\d|:\d\d(?::\d\d)?)?)?)?$`,
)

// propertyTimeOf returns the timestamp in a cell in microseconds since 2000, whether it is exact, and whether the cell
// holds a timestamp.
func propertyTimeOf(c propertyCell, zone *time.Location) (micros int64, exact, reported bool) {
	var seconds float64
	switch c := c.(type) {
	case nil:
		return 0, false, false
	case int64:
		seconds = float64(c)
	case float64:
		seconds = c
	default:
		return propertyTimeText(c, zone)
	}
	if !(seconds >= float64(propertyFirst.Unix()) && seconds < float64(propertyLast.Unix())) {
		return 0, false, false
	}
	whole, fraction := math.Modf(seconds)
	return (int64(whole)-propertyEpoch)*1e6 + int64(math.Round(fraction*1e6)), false, true
}

// propertyEpoch is the start of 2000 in seconds since 1970.
const propertyEpoch = 946684800

// Timestamps from propertyFirst up to, but not including, propertyLast are valid.
var (
	propertyFirst = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	propertyLast  = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// propertyTimeText is propertyTimeOf for a text or a BLOB.
func propertyTimeText(c propertyCell, zone *time.Location) (micros int64, exact, reported bool) {
	s, _ := propertyBytes(c)
	m := propertyTimeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, false, false
	}
	number := func(s string) int {
		n, _ := strconv.Atoi(s)
		return n
	}
	if !propertyIsNaive(c) {
		zone = time.UTC
	}
	at := time.Date(number(m[1]), time.Month(number(m[2])), number(m[3]), number(m[5]), number(m[6]), number(m[7]),
		0, time.UTC)
	if at.Format("2006-01-02") != s[:10] || number(m[5]) > 23 || number(m[6]) > 59 || number(m[7]) > 59 ||
		number(m[1]) < 1 {
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
	if at.Before(propertyFirst) || !at.Before(propertyLast) {
		return 0, false, false
	}
	digits := (m[8] + "000000")[:6]
	cut := len(m[8]) > 6 && strings.Trim(m[8][6:], "0") != ""
	return (at.Unix()-propertyEpoch)*1e6 + int64(number(digits)), !cut, true
}

// propertyIsNaive reports whether a timestamp has no zone. The format of SQLite's datetime() is UTC.
func propertyIsNaive(c propertyCell) bool {
	s, _ := propertyBytes(c)
	m := propertyTimeForm.FindStringSubmatch(s)
	return m[9] == "" && !(m[4] == " " && m[7] != "" && m[8] == "")
}

// propertyJSONSource returns a cell as JSON text.
func propertyJSONSource(c propertyCell) string {
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
	s, _ := propertyBytes(c)
	return s
}

// propertyJSON repairs a JSON text and reports whether it is valid then. It does not test numbers and depths against
// the server's limits.
func propertyJSON(s string) (repaired string, ok bool) {
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
			if word != "" { // probe is invalid if this is a key
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
			if unit, ok := propertyUnit(s[i:]); ok {
				n = 6
				low, paired := propertyUnit(s[i+6:])
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
	repaired = out.String()
	return repaired, json.Valid([]byte(probe.String())) && json.Valid([]byte(repaired))
}

// propertyUnit parses an escaped UTF-16 unit at the start of s.
func propertyUnit(s string) (unit uint64, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(s[2:6], 16, 32)
	return unit, err == nil
}

// expect returns the expected value of a column for a cell.
func (k *propertyCheck) expect(c propertyColumn, cell propertyCell) (w propertyWant) {
	if cell == nil && c.kind != 'Z' {
		return propertyWant{null: true, rejected: c.notNull}
	}
	switch c.kind {
	case 'T':
		w.text, w.original = propertyText(cell)
		s, _ := propertyBytes(cell)
		w.rejected = (c.key || c.reference) && strings.Contains(s, "\x00") || c.indexed && len(w.text) > propertyIndexed
	case 'I':
		whole, real, isWhole, ok, asText := propertyNumber(cell)
		w.whole, w.original = whole, asText || !ok
		if ok && !isWhole {
			even := math.RoundToEven(real)
			ok = even >= math.MinInt64 && even < math.MaxInt64
			w.original = w.original || even != real || !ok
			if ok {
				w.whole = int64(even)
			}
		}
		w.null = !ok
	case 'R', 'D':
		whole, real, isWhole, ok, asText := propertyNumber(cell)
		if c.kind == 'R' && !k.exact && math.IsInf(float64(float32(real)), 0) && !math.IsInf(real, 0) {
			ok = false
		}
		w = propertyWant{real: real, null: !ok, original: asText || !ok}
		if isWhole && strconv.FormatFloat(real, 'f', 0, 64) != strconv.FormatInt(whole, 10) {
			w.original = true
		}
	case 'B':
		switch v := cell.(type) {
		case int64:
			w.boolean, w.original = v != 0, v != 0 && v != 1
		case float64:
			w.boolean, w.original = v != 0, v != 0 && v != 1
		default:
			s, _ := propertyBytes(cell)
			w.boolean, w.original = s != "", true
		}
	case 'Z':
		var exact, reported bool
		w.micros, exact, reported = propertyTimeOf(cell, k.zone)
		_, isText := propertyBytes(cell)
		w.inferred, w.original = !reported, !reported || !exact
		w.naive = reported && isText && propertyIsNaive(cell)
		if reported && !isText {
			w.slack = 1
		}
	case 'J':
		w.json = propertyJSONSource(cell)
		_, isText := propertyBytes(cell)
		if !c.notNull && strings.Trim(w.json, " \t\r\n") == "null" {
			return propertyWant{null: true}
		}
		w.original = !isText || k.json[w.json].repaired
	}
	w.rejected = w.rejected || w.null && c.notNull
	return w
}
