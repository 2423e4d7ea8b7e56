package mapping

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/jsonb"
	"flujo-port/internal/sqlite"
)

// aSpan returns a rowid and SpanColumns, with defaults for the other columns.
func aSpan(id string, parent sqlite.Value, start float64) []sqlite.Value {
	return []sqlite.Value{
		integer(1), text("run"), text(id), parent, text("n"), real(start), {}, text("ok"),
		{}, text("2026-11-23 02:18:25"),
	}
}

// spanJSON returns Flujo's JSON for aSpan.
func spanJSON(id, parent, start, children string) string {
	if parent != "null" {
		parent = `"` + parent + `"`
	}
	return fmt.Sprintf(
		`{"name":"n","status":"ok","span_id":"%s","children":[%s],"end_time":null,`+
			`"attributes":{},"start_time":%s,"parent_span_id":%s}`,
		id,
		children,
		start,
		parent,
	)
}

func TestTrace(t *testing.T) {
	t.Parallel()
	under := text
	var none sqlite.Value
	for _, tc := range []struct {
		name string
		rows [][]sqlite.Value // in the order of their ids
		want string           // empty: there is no trace
	}{
		{"no spans", nil, ""},
		{
			"everything that a span holds",
			[][]sqlite.Value{{
				integer(1), text("run"), text("1f3f801b-4364-4a"), none, text("pipeline_run"),
				real(1767603600.85748), real(1767603607.8574798), text("completed"),
				text(`{"flujo.pipeline.name":"PubMed query generation","latency":0.0003105894048236877}`),
				text("2026-11-23 02:18:25"),
			}},
			`{"name":"pipeline_run","status":"completed","span_id":"1f3f801b-4364-4a","children":[],` +
				`"end_time":1767603607.8574798,` +
				`"attributes":{"flujo.pipeline.name":"PubMed query generation","latency":0.0003105894048236877},` +
				`"start_time":1767603600.85748,"parent_span_id":null}`,
		},
		{
			"children and grandchildren",
			[][]sqlite.Value{aSpan("root", none, 1), aSpan("a", under("root"), 2), aSpan("a1", under("a"), 3),
				aSpan("b", under("root"), 4), aSpan("b1", under("b"), 5), aSpan("b2", under("b"), 6)},
			spanJSON("root", "null", "1.0", spanJSON("a", "root", "2.0", spanJSON("a1", "a", "3.0", ""))+","+
				spanJSON("b", "root", "4.0", spanJSON("b1", "b", "5.0", "")+","+spanJSON("b2", "b", "6.0", ""))),
		},
		{
			"children come before their parent",
			[][]sqlite.Value{aSpan("b", under("root"), 3), aSpan("a", under("root"), 2), aSpan("root", none, 1)},
			spanJSON("root", "null", "1.0", spanJSON("a", "root", "2.0", "")+","+spanJSON("b", "root", "3.0", "")),
		},
		{
			"a child that starts before its parent",
			[][]sqlite.Value{aSpan("root", none, 2), aSpan("a", under("root"), 1)},
			spanJSON("root", "null", "2.0", spanJSON("a", "root", "1.0", "")),
		},
		{
			"ties by id",
			[][]sqlite.Value{aSpan("z", under("root"), 5), aSpan("root", none, 5), aSpan("m", under("root"), 5),
				aSpan("a", under("root"), 5), aSpan("first", under("root"), 4.5)},
			spanJSON("root", "null", "5.0",
				spanJSON("first", "root", "4.5", "")+","+spanJSON("z", "root", "5.0", "")+","+
					spanJSON("m", "root", "5.0", "")+","+spanJSON("a", "root", "5.0", "")),
		},
		{
			"the parent is absent",
			[][]sqlite.Value{aSpan("detached", under("gone"), 1), aSpan("a", under("detached"), 2)},
			spanJSON("detached", "gone", "1.0", spanJSON("a", "detached", "2.0", "")),
		},
		{
			"the first root wins",
			[][]sqlite.Value{aSpan("late", none, 2), aSpan("early", none, 1), aSpan("a", under("late"), 3),
				aSpan("b", under("early"), 4)},
			spanJSON("early", "null", "1.0", spanJSON("b", "early", "4.0", "")),
		},
		{
			"a detached span that starts first wins over the root",
			[][]sqlite.Value{aSpan("root", none, 2), aSpan("detached", under("gone"), 1)},
			spanJSON("detached", "gone", "1.0", ""),
		},
		{
			"of roots with one start the first id wins",
			[][]sqlite.Value{aSpan("b", none, 1), aSpan("a", none, 1)},
			spanJSON("b", "null", "1.0", ""),
		},
		{
			"a span_id twice: the last one's data in the first one's place",
			[][]sqlite.Value{aSpan("root", none, 1), aSpan("a", under("root"), 2), aSpan("b", under("root"), 3),
				aSpan("a", under("root"), 4)},
			spanJSON("root", "null", "1.0", spanJSON("a", "root", "4.0", "")+","+spanJSON("b", "root", "3.0", "")),
		},
		{
			"a span_id twice: the last one's parent",
			[][]sqlite.Value{aSpan("root", none, 1), aSpan("a", under("root"), 2), aSpan("b", under("root"), 3),
				aSpan("a", under("b"), 4)},
			spanJSON("root", "null", "1.0", spanJSON("b", "root", "3.0", spanJSON("a", "b", "4.0", ""))),
		},
		{
			"a root twice keeps its children",
			[][]sqlite.Value{aSpan("root", none, 1), aSpan("a", under("root"), 2), aSpan("root", none, 3)},
			spanJSON("root", "null", "3.0", spanJSON("a", "root", "2.0", "")),
		},
		{
			"a span_id twice with one start: the last id's data",
			[][]sqlite.Value{aSpan("root", under("gone"), 1), aSpan("root", none, 1)},
			spanJSON("root", "null", "1.0", ""),
		},
		{"its own parent", [][]sqlite.Value{aSpan("a", under("a"), 1)}, ""},
		{"a circle of two", [][]sqlite.Value{aSpan("a", under("b"), 1), aSpan("b", under("a"), 2)}, ""},
		{
			"a circle of three",
			[][]sqlite.Value{aSpan("a", under("c"), 1), aSpan("b", under("a"), 2), aSpan("c", under("b"), 3),
				aSpan("d", under("c"), 4)},
			"",
		},
		{
			"a circle next to a root",
			[][]sqlite.Value{aSpan("a", under("b"), 1), aSpan("b", under("a"), 2), aSpan("root", none, 3),
				aSpan("c", under("root"), 4)},
			spanJSON("root", "null", "3.0", spanJSON("c", "root", "4.0", "")),
		},
		{
			"an empty parent id",
			[][]sqlite.Value{aSpan("a", under(""), 1), aSpan("b", under("a"), 2)},
			spanJSON("a", "", "1.0", spanJSON("b", "a", "2.0", "")),
		},
		{
			"an empty parent id where a span has an empty id",
			[][]sqlite.Value{aSpan("a", under(""), 1), aSpan("", under("a"), 2)},
			spanJSON("a", "", "1.0", spanJSON("", "a", "2.0", "")),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			trace := newTrace()
			for _, row := range tc.rows {
				trace.Add(row)
			}
			if trace.Len() != len(tc.rows) {
				t.Errorf("%d spans, not %d", trace.Len(), len(tc.rows))
			}
			got, ok := trace.JSON()
			if string(got) != tc.want || ok != (tc.want != "") {
				t.Errorf("%s\nnot\n%s", got, tc.want)
			}
			if again, _ := trace.JSON(); string(again) != tc.want {
				t.Errorf("asked again: %s", again)
			}
		})
	}
}

func TestTraceAttributes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		attributes sqlite.Value
		want       string
	}{
		"NULL":             {sqlite.Value{}, "{}"},
		"empty":            {text(""), "{}"},
		"null":             {text("null"), "null"},
		"as it is":         {text(`{"b": 1.50, "a": [1e2, "é", {}]}`), `{"b": 1.50, "a": [1e2, "é", {}]}`},
		"not an object":    {text(`[1]`), "[1]"},
		"with white space": {text(" {}\n"), " {}\n"},
		"a blob":           {blob([]byte(`{"a":1}`)), `{"a":1}`},
		"repaired":         {text(`{"a\u0000": NaN, "b": "\ud800"}`), `{"a": "NaN", "b": "` + "\ufffd" + `"}`},
		"not JSON":         {text("caf\xe9\x00"), "\"caf\ufffd\""},
		"not JSON, blob":   {blob([]byte{1}), `"\u0001"`},
		"too deep":         {text("[" + nested10000 + "]"), `"[` + nested10000 + `]"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := aSpan("a", sqlite.Value{}, 1)
			row[8] = tc.attributes
			trace := newTrace()
			trace.Add(row)
			want := strings.Replace(spanJSON("a", "null", "1.0", ""), `"attributes":{}`, `"attributes":`+tc.want, 1)
			if got, ok := trace.JSON(); !ok || string(got) != want {
				t.Errorf("%s, not %s", got, want)
			}
		})
	}
}

func TestTraceTimes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		at   sqlite.Value
		want string
	}{
		"whole":             {real(1767603600), "1767603600.0"},
		"whole and large":   {real(1e22), "10000000000000000000000.0"},
		"zero":              {real(0), "0.0"},
		"minus zero":        {real(math.Copysign(0, -1)), "-0.0"},
		"negative":          {real(-12.5), "-12.5"},
		"17 digits":         {real(1767603607.8574798), "1767603607.8574798"},
		"0.1 + 0.2":         {real(0.30000000000000004), "0.30000000000000004"},
		"next after one":    {real(math.Nextafter(1, 2)), "1.0000000000000002"},
		"small":             {real(1e-7), "0.0000001"},
		"Infinity":          {real(math.Inf(1)), `"Infinity"`},
		"minus Infinity":    {real(math.Inf(-1)), `"-Infinity"`},
		"stored as integer": {integer(1767603600), "1767603600.0"},
		"stored as text":    {text(" 1767603607.8574798 "), "1767603607.8574798"},
		"large integer":     {integer(math.MaxInt64), "9223372036854776000.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := aSpan("a", sqlite.Value{}, 0)
			row[5], row[6] = tc.at, tc.at
			trace := newTrace()
			trace.Add(row)
			want := fmt.Sprintf(
				`{"name":"n","status":"ok","span_id":"a","children":[],"end_time":%s,`+
					`"attributes":{},"start_time":%s,"parent_span_id":null}`,
				tc.want,
				tc.want,
			)
			got, ok := trace.JSON()
			if !ok || string(got) != want {
				t.Errorf("%s, not %s", got, want)
			}
			var read struct {
				Start any `json:"start_time"`
			}
			if err := stdjson.Unmarshal(got, &read); err != nil {
				t.Fatal(err)
			}
			if f, ok := read.Start.(float64); ok && tc.at.Class == sqlite.Real &&
				math.Float64bits(f) != math.Float64bits(tc.at.Real) {
				t.Errorf("reads back as %v", f)
			}
		})
	}
}

func TestTraceExtremeFloats(t *testing.T) {
	t.Parallel()
	for _, f := range []float64{math.MaxFloat64, math.SmallestNonzeroFloat64, -2.2250738585072014e-308, 5e-324} {
		row := aSpan("a", sqlite.Value{}, f)
		trace := newTrace()
		trace.Add(row)
		got, _ := trace.JSON()
		var read struct {
			Start float64 `json:"start_time"`
		}
		if err := stdjson.Unmarshal(got, &read); err != nil || read.Start != f {
			t.Errorf("%g reads back as %g, %v", f, read.Start, err)
		}
	}
}

func TestTraceStrings(t *testing.T) {
	t.Parallel()
	odd := "a\"b\\c\n\t<&>\u2028é🜁\x01/"
	row := aSpan(odd, text(odd+"!"), 1)
	row[4], row[7] = text(odd), text(odd)
	trace := newTrace()
	trace.Add(row)
	got, ok := trace.JSON()
	var read struct {
		Span   string `json:"span_id"`
		Parent string `json:"parent_span_id"`
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	if err := stdjson.Unmarshal(got, &read); err != nil || !ok {
		t.Fatalf("%s: %v", got, err)
	}
	if read.Span != odd || read.Parent != odd+"!" || read.Name != odd || read.Status != odd {
		t.Errorf("%+v", read)
	}
}

// TestTraceKeepsNothingOfTheRow checks that Add does not retain the row, which is valid
// only until the next is read.
func TestTraceKeepsNothingOfTheRow(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	row := aSpan("root", sqlite.Value{}, 1)
	trace.Add(row)
	for _, v := range row {
		for i := range v.Bytes {
			v.Bytes[i] = '#'
		}
	}
	want := spanJSON("root", "null", "1.0", "")
	if got, _ := trace.JSON(); string(got) != want || string(trace.CreatedAt().Bytes) != "2026-11-23T02:18:25+00:00" {
		t.Errorf("%s at %s", got, trace.CreatedAt())
	}
}

func TestTraceCreatedAt(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	if trace.CreatedAt().Class != sqlite.Null {
		t.Errorf("without spans: %s", trace.CreatedAt())
	}
	for i, tc := range []struct{ at, want string }{
		{"2026-11-23 02:18:25", "2026-11-23T02:18:25+00:00"},
		{"2026-11-23 02:18:24", "2026-11-23T02:18:25+00:00"},
		{"2026-11-23T03:18:25.000001+01:00", "2026-11-23T02:18:25.000001+00:00"}, // a microsecond later
		{"2026-11-23T04:18:25+02:00", "2026-11-23T02:18:25.000001+00:00"},        // later only in its letters
		{"2026-11-23T02:18:25.0000019", "2026-11-23T02:18:25.000001+00:00"},      // later by what is cut
		{"never", "2026-11-23T02:18:25.000001+00:00"},
		{"1970-01-01", "2026-11-23T02:18:25.000001+00:00"},
	} {
		row := aSpan(fmt.Sprint(i), sqlite.Value{}, 1)
		row[9] = text(tc.at)
		trace.Add(row)
		if got := string(trace.CreatedAt().Bytes); got != tc.want {
			t.Errorf("after %s: %s, not %s", tc.at, got, tc.want)
		}
	}
	old := newTrace()
	row := aSpan("a", sqlite.Value{}, 1)
	row[9] = text("1969-12-31 23:59:59") // before the zero of both clocks
	old.Add(row)
	if string(old.CreatedAt().Bytes) != "1969-12-31T23:59:59+00:00" {
		t.Errorf("an early one: %s", old.CreatedAt())
	}
}

// TestTraceDeep checks a chain of 5,000 spans. It has 10,000 levels of JSON, the most
// that a server accepts with its default stack.
func TestTraceDeep(t *testing.T) {
	t.Parallel()
	const depth = 5000
	trace := newTrace()
	trace.Add(aSpan("s0", sqlite.Value{}, 0))
	for i := 1; i < depth; i++ {
		trace.Add(aSpan(fmt.Sprintf("s%d", i), text(fmt.Sprintf("s%d", i-1)), float64(i)))
	}
	got, ok := trace.JSON()
	if !ok {
		t.Fatal("there is no trace")
	}
	c := newConverter(t, onlyColumn(KindJSON, true))
	appendRow(t, c, integer(1), text("k"), sqlite.Value{Class: sqlite.Text, Bytes: got})
	sameChanges(t, c.Changes(), nil)
	var read struct {
		ID       string `json:"span_id"`
		Children []stdjson.RawMessage
	}
	next := stdjson.RawMessage(got)
	for i := range 20 { // decoding every level anew is quadratic
		read.Children = nil
		if err := stdjson.Unmarshal(next, &read); err != nil {
			t.Fatal(err)
		}
		if read.ID != fmt.Sprintf("s%d", i) || len(read.Children) != 1 {
			t.Fatalf("level %d is %s with %d children", i, read.ID, len(read.Children))
		}
		next = read.Children[0]
	}
	if n := strings.Count(string(got), `"span_id"`); n != depth {
		t.Errorf("%d spans, not %d", n, depth)
	}
}

func newTrace() Trace { return Trace{Options: Options{NaiveZone: time.UTC, JSONDepth: 10_000}} }

// TestTraceWithoutAStart checks that a span whose start is not a number is not part of
// the trace, since its row is rejected.
func TestTraceWithoutAStart(t *testing.T) {
	t.Parallel()
	for _, start := range []sqlite.Value{{}, text(""), text("soon"), text("inf"), blob([]byte("1"))} {
		trace := newTrace()
		row := aSpan("a", sqlite.Value{}, 0)
		row[5] = start
		trace.Add(row)
		if got, ok := trace.JSON(); ok || trace.Len() != 0 || trace.CreatedAt().Class != sqlite.Null {
			t.Errorf("%s: %s at %s", start, got, trace.CreatedAt())
		}
		trace.Add(aSpan("b", text("a"), 1))
		if got, ok := trace.JSON(); !ok || string(got) != spanJSON("b", "a", "1.0", "") {
			t.Errorf("%s: %s", start, got)
		}
	}
}

// TestTraceWithoutAnEnd checks that an end that is not a number is null, as it is in
// spans.
func TestTraceWithoutAnEnd(t *testing.T) {
	t.Parallel()
	for _, end := range []sqlite.Value{{}, text(""), text("soon"), blob([]byte("1"))} {
		trace := newTrace()
		row := aSpan("a", sqlite.Value{}, 1)
		row[6] = end
		trace.Add(row)
		if got, ok := trace.JSON(); !ok || string(got) != spanJSON("a", "null", "1.0", "") {
			t.Errorf("%s: %s", end, got)
		}
	}
}

// TestTraceOfOddTexts checks that ids and names are converted as in spans, so that a
// child finds its parent.
func TestTraceOfOddTexts(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	root, child := aSpan("", sqlite.Value{}, 1), aSpan("child", sqlite.Value{}, 2)
	root[2], root[4], root[7] = text("a\x00\xe9"), integer(12), blob([]byte("o\x00k"))
	child[3] = blob([]byte("a\xff"))
	trace.Add(root)
	trace.Add(child)
	id := "a\ufffd"
	want := `{"name":"12","status":"ok","span_id":"` + id + `","children":[` + spanJSON("child", id, "2.0", "") +
		`],"end_time":null,"attributes":{},"start_time":1.0,"parent_span_id":null}`
	if got, ok := trace.JSON(); !ok || string(got) != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// TestTraceCreatedAtInAZone checks that naive timestamps are interpreted in the given
// zone.
func TestTraceCreatedAtInAZone(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	trace.Options.NaiveZone = time.FixedZone("", 2*3600)
	for i, at := range []sqlite.Value{
		text("2026-11-23T02:00:00Z"), text("2026-11-23T03:30:00"), integer(1), {},
	} {
		row := aSpan(fmt.Sprint(i), sqlite.Value{}, 1)
		row[9] = at
		trace.Add(row)
	}
	if got := string(trace.CreatedAt().Bytes); got != "2026-11-23T02:00:00+00:00" {
		t.Errorf("%s", got)
	}
}

// TestTraceInOrder checks that a trace is written as jsonb prints it, apart from white
// space.
func TestTraceInOrder(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	trace.Add(aSpan("root", sqlite.Value{}, 1))
	trace.Add(aSpan("child", text("root"), 2))
	got, _ := trace.JSON()
	var canonical jsonb.Canonicalizer
	if want := appendCompact(nil, canonical.Append(nil, got)); !bytes.Equal(got, want) {
		t.Errorf("%s, and jsonb prints %s", got, want)
	}
}

// TestTraceOwnsItsCells checks that Add copies the cells, since SQLite reuses their
// memory.
func TestTraceOwnsItsCells(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	row := aSpan("root", sqlite.Value{}, 1)
	row[6], row[8] = text("2.5"), text(`{"a": 1}`)
	trace.Add(row)
	for _, cell := range row {
		for i := range cell.Bytes {
			cell.Bytes[i] = 'x'
		}
	}
	want := `{"name":"n","status":"ok","span_id":"root","children":[],"end_time":2.5,` +
		`"attributes":{"a": 1},"start_time":1.0,"parent_span_id":null}`
	if got, ok := trace.JSON(); !ok || string(got) != want {
		t.Errorf("got %s", got)
	}
}

// TestTraceReset checks that nothing of the previous run remains after Reset.
func TestTraceReset(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	for _, id := range []string{"root", "a", "b"} {
		parent := text("root")
		if id == "root" {
			parent = sqlite.Value{}
		}
		trace.Add(aSpan(id, parent, 1))
	}
	trace.JSON()
	trace.Reset()
	if got, ok := trace.JSON(); ok || trace.Len() != 0 || trace.CreatedAt().Class != sqlite.Null {
		t.Errorf("got %s", got)
	}
	row := aSpan("a", text("root"), 1) // whose parent the run before had
	row[9] = sqlite.Value{}
	trace.Add(row)
	if got, ok := trace.JSON(); !ok || string(got) != spanJSON("a", "root", "1.0", "") ||
		trace.CreatedAt().Class != sqlite.Null {
		t.Errorf("got %s", got)
	}
}

// TestTraceIsStored compares a trace with rows of traces.
func TestTraceIsStored(t *testing.T) {
	t.Parallel()
	trace := newTrace()
	trace.Add(aSpan("root", sqlite.Value{}, 1))
	tree, _ := trace.JSON()
	stored := func(tree, created string) [][]byte {
		c := newConverter(t, mappingOfAllColumns(t, Traces))
		tuple, _, err := c.Append(nil, []sqlite.Value{integer(1), text("run-1"), text(tree), text(created)})
		if err != nil {
			t.Fatal(err)
		}
		cells := splitTuple(t, tuple)
		var canonical jsonb.Canonicalizer // a row encoding has JSON as the server prints it
		cells[1] = canonical.Append([]byte{1}, cells[1][1:])
		return cells
	}
	created := string(trace.CreatedAt().Bytes)
	if !trace.IsStored(stored(" "+string(tree), created)) {
		t.Errorf("%s of %s is not recognized", tree, created)
	}
	if trace.IsStored(stored(`{"name": "n"}`, created)) {
		t.Error("another tree is taken for the trace")
	}
	if trace.IsStored(stored(string(tree), "2020-01-01T00:00:00Z")) {
		t.Error("a trace of another time is taken for it")
	}
	if empty := newTrace(); empty.IsStored(stored(string(tree), created)) {
		t.Error("a trace without spans is stored")
	}
}

func BenchmarkTrace(b *testing.B) {
	rows := [][]sqlite.Value{aSpan("root", sqlite.Value{}, 1767603600.25)}
	for i := range 9 {
		row := aSpan(fmt.Sprintf("1f3f801b-4364-4%d", i), text("root"), 1767603600.85748+float64(i))
		row[6] = real(1767603607.8574798)
		row[8] = text(
			`{"flujo.step.name":"plan_search","flujo.attempt":1,"latency":0.0003105894048236877,` +
				`"prompt":"variants of the mediator complex in patients with congenital heart defects"}`,
		)
		rows = append(rows, row)
	}
	trace := newTrace()
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		trace.Reset()
		for _, row := range rows {
			trace.Add(row)
		}
		json, _ := trace.JSON()
		size = len(json)
	}
	b.SetBytes(int64(size))
}
