package mapping

import (
	"bytes"
	"encoding/binary"
	stdjson "encoding/json"
	"math"
	"slices"
	"strconv"

	"flujo-port/internal/jsonb"
	"flujo-port/internal/sqlite"
)

// SpanColumns are the columns of spans from which a trace is derived, in the order
// that Trace.Add expects.
var SpanColumns = []string{
	"run_id", "span_id", "parent_span_id", "name", "start_time", "end_time", "status", "attributes", "created_at",
}

// Trace derives the trace of one run from its spans. The trace is the one that
// Flujo's SQLite backend builds when the run's trace is read. Its PostgreSQL backend
// only reads traces.trace_data, so the trace must be stored there.
type Trace struct {
	Options Options
	spans   []span
	created Time // the latest created_at
	dated   bool // created is set

	// Buffers that are reused.
	scratch []byte
	tree    []span
	at      map[string]int
	encoded []byte
}

// span is one span. Its texts are parts of one string.
type span struct {
	id, parent, name, status, attributes string
	hasParent, hasEnd                    bool
	start, end                           float64
	// Indexes in Trace.tree plus one; 0 for none.
	firstChild, lastChild, nextChild int
}

// Reset removes all spans, so that the trace can be used for another run. Large
// buffers are released.
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

// maxBufferSpans is the maximum number of spans for which buffers are reused.
const maxBufferSpans = 10_000

// Add adds one span. row is a rowid, followed by the values of SpanColumns; it is not
// retained. The spans of a run must be added in the order of their ids. Cells are
// converted as they are for the table spans. A span without a start is ignored,
// since its row is rejected.
func (t *Trace) Add(row []sqlite.Value) {
	start, ok := floatOf(row[5])
	if !ok {
		return
	}
	s := span{start: start, hasParent: row[3].Class != sqlite.Null}
	s.end, s.hasEnd = floatOf(row[6])
	var ends [5]int
	buf := t.scratch[:0]
	for i, cell := range []*sqlite.Value{&row[2], &row[3], &row[4], &row[7]} {
		if cell.Class != sqlite.Null {
			buf, _ = appendText(buf, *cell)
		}
		ends[i] = len(buf)
	}
	if len(row[8].Bytes) > 0 {
		buf, _ = jsonb.AppendRepaired(buf, row[8].Bytes, t.Options.JSONDepth)
	} else {
		buf = append(buf, "{}"...)
	}
	t.scratch = buf
	texts := string(buf)
	s.id, s.parent = texts[:ends[0]], texts[ends[0]:ends[1]]
	s.name, s.status = texts[ends[1]:ends[2]], texts[ends[2]:ends[3]]
	s.attributes = texts[ends[3]:]
	t.spans = append(t.spans, s)
	if at, _, ok := t.Options.ReadTime(row[9]); ok && (!t.dated || at.Micros > t.created.Micros) {
		t.created, t.dated = at, true
	}
}

// CreatedAt returns the latest created_at of the spans; NULL if none has one.
func (t *Trace) CreatedAt() sqlite.Value {
	if !t.dated {
		return sqlite.Value{}
	}
	return sqlite.TextValue(t.created.String())
}

// IsStored reports whether PostgreSQL holds exactly this trace. cells are those of
// the row of traces, as for ReverseConverter.Row.
func (t *Trace) IsStored(cells [][]byte) bool {
	tree, ok := t.JSON()
	if !ok {
		return false
	}
	var canonical jsonb.Canonicalizer
	if !bytes.Equal(canonical.Append(nil, tree), cells[1][1:]) { // after the version of jsonb's binary format
		return false
	}
	return !t.dated || t.created.Micros == int64(binary.BigEndian.Uint64(cells[2]))
}

// Len returns the number of spans.
func (t *Trace) Len() int { return len(t.spans) }

// JSON returns the trace's tree, or false if Flujo would find no trace, because no
// span is a root. Spans are ordered by start_time. A span whose parent is not among
// them is a root, and the first root is the trace. Of spans with the same span_id the
// last one is used, at the position of the first. The result is valid until the next
// call.
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

// appendSpan appends a span and its descendants. Its keys are in the order of jsonb,
// by length and then by bytes, so that the server need not sort them. Sorting would
// be a tenth of its work.
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

// floatOf returns the float that the table spans stores for a cell.
func floatOf(v sqlite.Value) (float64, bool) {
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
	if err != nil { // cannot happen for a string
		panic(err)
	}
	return append(dst, quoted...)
}

// appendFloat appends a float so that jsonb stores every digit, and Python reads it
// as a float. Infinity, which JSON does not have, becomes a string, as it does in
// other JSON columns.
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
