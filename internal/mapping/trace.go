package mapping

import (
	"bytes"
	"encoding/binary"
	stdjson "encoding/json"
	"math"
	"slices"
	"strconv"
)

// SpanColumns are the columns of spans from which a trace is derived, in the
// order of the row that Trace.Add takes after the rowid.
var SpanColumns = []string{
	"run_id", "span_id", "parent_span_id", "name", "start_time", "end_time", "status", "attributes", "created_at",
}

// Trace collects the spans of one run and answers what Flujo's SQLite backend
// answers when it is asked for that run's trace. Its PostgreSQL backend reads
// traces.trace_data alone, so the answer has to be stored there.
type Trace struct {
	Options Options
	spans   []span
	created Time // the latest created_at
	dated   bool

	// What is used again for the next span, or the next run.
	scratch []byte
	tree    []span
	at      map[string]int
	encoded []byte
}

// span is a span; its texts are parts of one string.
type span struct {
	id, parent, name, status, attributes string
	hasParent, hasEnd                    bool
	start, end                           float64
	// Positions in the tree's order, plus one; 0 for none.
	firstChild, lastChild, nextChild int
}

// Reset makes the trace that of another run, without spans. What a long run took
// is let go.
func (t *Trace) Reset() {
	clear(t.spans)
	clear(t.tree)
	clear(t.at)
	t.spans, t.tree, t.created, t.dated = t.spans[:0], t.tree[:0], Time{}, false
	if cap(t.spans) > maxBufferSpans {
		t.spans, t.tree, t.at = nil, nil, nil
	}
	if cap(t.encoded)+cap(t.scratch) > maxBufferBytes {
		t.encoded, t.scratch = nil, nil
	}
}

// maxBufferSpans is for how many spans memory is kept for the next run.
const maxBufferSpans = 10_000

// Add takes one span: row holds a rowid and SpanColumns. Rows of a run are to
// come in the order of their ids. Cells are repaired as they are in spans; a
// span without a start has no place there, nor in the trace.
func (t *Trace) Add(row []Value) {
	start, ok := floatOf(row[5])
	if !ok {
		return
	}
	s := span{start: start, hasParent: row[3].Class != Null}
	s.end, s.hasEnd = floatOf(row[6])
	var ends [5]int
	buf := t.scratch[:0]
	for i, cell := range []*Value{&row[2], &row[3], &row[4], &row[7]} {
		if cell.Class != Null {
			buf, _ = appendText(buf, *cell)
		}
		ends[i] = len(buf)
	}
	if len(row[8].Bytes) > 0 {
		buf, _ = AppendJSON(buf, row[8].Bytes, t.Options.JSONDepth)
	} else {
		buf = append(buf, "{}"...)
	}
	t.scratch = buf
	texts := string(buf)
	s.id, s.parent, s.name, s.status, s.attributes = texts[:ends[0]], texts[ends[0]:ends[1]], texts[ends[1]:ends[2]], texts[ends[2]:ends[3]], texts[ends[3]:]
	t.spans = append(t.spans, s)
	if at, _, ok := t.Options.ReadTime(row[9]); ok && (!t.dated || at.Micros > t.created.Micros) {
		t.created, t.dated = at, true
	}
}

// CreatedAt gives the created_at of the span that was written last; NULL when
// no span tells one.
func (t *Trace) CreatedAt() Value {
	if !t.dated {
		return Value{}
	}
	return TextValue(t.created.String())
}

// IsStored reports whether PostgreSQL holds just this trace: cells are the encoding
// of a row of traces.
func (t *Trace) IsStored(cells [][]byte) bool {
	tree, ok := t.JSON()
	if !ok {
		return false
	}
	var canonical Canonicalizer
	if !bytes.Equal(canonical.Append(nil, tree), cells[1][1:]) { // behind the version of jsonb's binary form
		return false
	}
	return !t.dated || t.created.Micros == int64(binary.BigEndian.Uint64(cells[2]))
}

// Len gives the number of spans that were added.
func (t *Trace) Len() int { return len(t.spans) }

// JSON gives the trace's tree, or false where Flujo answers that there is none
// (no span is a root). Spans are taken by start_time; a span whose parent is
// not among them is a root; the first root is the trace. Of spans with the
// same span_id the last one counts, in the first one's place. What it gives is
// good until the next call.
func (t *Trace) JSON() ([]byte, bool) {
	slices.SortStableFunc(t.spans, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	if t.at == nil {
		t.at = map[string]int{}
	}
	clear(t.at)
	tree := t.tree[:0]
	for _, s := range t.spans {
		if i, seen := t.at[s.id]; seen {
			tree[i] = s
			continue
		}
		t.at[s.id] = len(tree)
		tree = append(tree, s)
	}
	t.tree = tree
	root := -1
	for i := range tree {
		if at, ok := t.at[tree[i].parent]; ok && tree[i].parent != "" {
			parent := &tree[at]
			if parent.firstChild == 0 {
				parent.firstChild = i + 1
			} else {
				tree[parent.lastChild-1].nextChild = i + 1
			}
			parent.lastChild = i + 1
		} else if root < 0 {
			root = i
		}
	}
	if root < 0 {
		return nil, false
	}
	t.encoded = appendSpan(t.encoded[:0], tree, root)
	return t.encoded, true
}

// appendSpan appends a span with what is under it. Its keys come in the order in
// which jsonb keeps them, by length and then by bytes: the server has nothing to
// sort then, which is a tenth of its work.
func appendSpan(dst []byte, tree []span, i int) []byte {
	s := &tree[i]
	dst = append(dst, `{"name":`...)
	dst = appendString(dst, s.name)
	dst = append(dst, `,"status":`...)
	dst = appendString(dst, s.status)
	dst = append(dst, `,"span_id":`...)
	dst = appendString(dst, s.id)
	dst = append(dst, `,"children":[`...)
	for child := s.firstChild; child != 0; child = tree[child-1].nextChild {
		if child != s.firstChild {
			dst = append(dst, ',')
		}
		dst = appendSpan(dst, tree, child-1)
	}
	dst = append(dst, `],"end_time":`...)
	if s.hasEnd {
		dst = appendFloat(dst, s.end)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"attributes":`...)
	dst = append(dst, s.attributes...)
	dst = append(dst, `,"start_time":`...)
	dst = appendFloat(dst, s.start)
	dst = append(dst, `,"parent_span_id":`...)
	if s.hasParent {
		dst = appendString(dst, s.parent)
	} else {
		dst = append(dst, "null"...)
	}
	return append(dst, '}')
}

// floatOf gives the float that spans holds for a cell.
func floatOf(v Value) (float64, bool) {
	whole, fraction, isWhole, reason := number(v)
	if isWhole {
		fraction = float64(whole)
	}
	return fraction, reason&NotANumber == 0
}

func appendString(dst []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	quoted, err := stdjson.Marshal(s)
	if err != nil { // never for a string
		panic(err)
	}
	return append(dst, quoted...)
}

// appendFloat writes a float so that jsonb keeps it to the last digit and
// Python reads a float again. Infinity, which JSON does not have, becomes the
// string that Flujo's values get everywhere else.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[at:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}
