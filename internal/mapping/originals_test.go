package mapping

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"flujo-port/internal/sqlite"
)

// TestAppendOriginal decodes the tuple by hand.
func TestAppendOriginal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		original sqlite.Value
		class    string
		want     string
		null     bool
	}{
		{original: sqlite.Value{}, class: "null", null: true},
		{original: integer(0), class: "integer", want: "0"},
		{original: integer(math.MinInt64), class: "integer", want: "-9223372036854775808"},
		{original: real(12.5), class: "real", want: "12.5"},
		{original: real(12), class: "real", want: "12"},
		{original: real(1767603600.8574798), class: "real", want: "1.7676036008574798e+09"},
		{original: real(0.30000000000000004), class: "real", want: "0.30000000000000004"},
		{original: real(math.SmallestNonzeroFloat64), class: "real", want: "5e-324"},
		{original: real(math.MaxFloat64), class: "real", want: "1.7976931348623157e+308"},
		{original: real(minusZero), class: "real", want: "-0"},
		{original: real(math.Inf(1)), class: "real", want: "+Inf"},
		{original: real(math.Inf(-1)), class: "real", want: "-Inf"},
		{original: text(""), class: "text", want: ""},
		{original: text("a\x00b\xff é"), class: "text", want: "a\x00b\xff é"},
		{original: blob([]byte{}), class: "blob", want: ""},
		{original: blob(nil), class: "blob", want: ""},
		{original: blob([]byte{0, 0xff, 0}), class: "blob", want: "\x00\xff\x00"},
		{original: text(strings.Repeat("long", 100_000)), class: "text", want: strings.Repeat("long", 100_000)},
	} {
		t.Run(tc.original.String(), func(t *testing.T) {
			t.Parallel()
			change := Change{
				Column:   "the column",
				Reason:   NULRemoved | InvalidUTF8,
				Note:     "not kept",
				Original: tc.original,
			}
			got := AppendOriginal([]byte("before"), 7, "steps", "clé", -2, change)
			tuple, ok := strings.CutPrefix(string(got), "before")
			if !ok {
				t.Fatalf("what was there before is gone: %.100q", got)
			}
			next := func(n int) string {
				t.Helper()
				if len(tuple) < n {
					t.Fatalf("it ends early: %.100q", got)
				}
				piece := tuple[:n]
				tuple = tuple[n:]
				return piece
			}
			if n := next(2); n != "\x00\x08" {
				t.Fatalf("%x fields", n)
			}
			field := func() string { return next(int(binary.BigEndian.Uint32([]byte(next(4))))) }
			for _, want := range []string{
				"\x00\x00\x00\x00\x00\x00\x00\x07", "steps", "clé", "\xff\xff\xff\xff\xff\xff\xff\xfe",
				"the column", "nul-removed+invalid-utf8", tc.class,
			} {
				if got := field(); got != want {
					t.Errorf("%q, not %q", got, want)
				}
			}
			if tc.null {
				if n := next(4); n != "\xff\xff\xff\xff" {
					t.Errorf("NULL has the length %x", n)
				}
			} else if got := field(); got != tc.want {
				t.Errorf("%.100q, not %.100q", got, tc.want)
			}
			if tuple != "" {
				t.Errorf("%.100q is too much", tuple)
			}
		})
	}
}

// TestOriginalsTable checks that the table's columns are those of the tuple.
func TestOriginalsTable(t *testing.T) {
	t.Parallel()
	var got []string
	for _, c := range Originals.Columns {
		if c.NotNull != (c.Name != "original") {
			t.Errorf("%s: NOT NULL is %v", c.Name, c.NotNull)
		}
		got = append(got, c.Name+" "+c.Kind.Type())
	}
	want := "receipt bigint, table_name text, row_key text, source_rowid bigint, column_name text, reason text, " +
		"storage_class text, original bytea"
	if strings.Join(got, ", ") != want {
		t.Errorf("%s", got)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	all := []Reason{
		NULRemoved, LoneSurrogate, InvalidUTF8, NonFiniteNumber, InvalidJSON, JSONNumberOutOfRange, JSONTooDeep,
		NumberAsText, Rounded, TextAsNumber, NotANumber, OutOfRange, InvalidBoolean, TimeInferred,
		EpochTime, TimeTruncated, UnmappedColumn, NullKey, NULInKey, DuplicateKey, MissingValue, JSONTooLarge,
		InvalidVector, VectorDimensionMismatch, TextTooLong,
	}
	var every Reason
	for _, r := range all {
		if every&r != 0 || r == 0 {
			t.Errorf("%s shares its bit", r)
		}
		every |= r
		name, words := r.String(), r.Explain(r&rejections != 0)
		if name == "" || words == "" || seen[name] || seen[words] || strings.ContainsAny(name, "+ ;_") ||
			strings.Contains(words, ";") {
			t.Errorf("%#x is %q, %q", uint32(r), name, words)
		}
		seen[name], seen[words] = true, true
	}
	if len(meanings) != len(all) {
		t.Errorf("%d reasons have names", len(meanings))
	}
	if got := strings.Split(every.String(), "+"); len(got) != len(all) {
		t.Errorf("together they are %q", got)
	}
	for _, c := range []struct {
		reason   Reason
		rejected bool
		want     string
	}{
		{0, false, ""},
		{0, true, ""},
		{NULRemoved | InvalidUTF8, false,
			"NUL characters are removed; bytes that are not UTF-8 are replaced with U+FFFD"},
		{NotANumber, false, "a value that is not a number is stored as NULL"},
		{NotANumber, true, "the column requires a number, and the value is not one"},
		{OutOfRange, false, "a number out of range for the column's type is stored as NULL"},
		{TextAsNumber | OutOfRange, true, "the column requires a number, and this one is out of range for its type"},
		{NULRemoved | NULInKey | TextTooLong, true,
			"the key or the run_id contains a NUL character; the text is too long for Flujo's index on the column"},
	} {
		if got := c.reason.Explain(c.rejected); got != c.want {
			t.Errorf("%s, rejected %t: got %q, want %q", c.reason, c.rejected, got, c.want)
		}
	}
	if got := Reason(0).String(); got != "" {
		t.Errorf("nothing is %q", got)
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	plain, exact := NewTypes(false), NewTypes(true)
	for _, table := range Tables {
		for _, c := range table.Columns {
			if got := plain.Of(table.Name, c); got != c.Kind.Type() {
				t.Errorf("%s.%s is %s", table.Name, c.Name, got)
			}
			want := c.Kind.Type()
			if want == "real" {
				want = "double precision"
			}
			if got := exact.Of(table.Name, c); got != want {
				t.Errorf("%s.%s is exactly %s", table.Name, c.Name, got)
			}
		}
	}
	if len(exact.Double) != 3 || !exact.Double["runs.memory_usage_mb"] ||
		!exact.Double["workflow_state.memory_usage_mb"] ||
		!exact.Double["steps.cost_usd"] {
		t.Errorf("exact are %v", exact.Double)
	}
	wide := NewTypes(false)
	wide.Wide["steps.id"], wide.VectorSize = true, 384
	for name, tc := range map[string]struct {
		table string
		c     Column
		want  string
	}{
		"wide":              {"steps", serialColumn("id"), "bigint"},
		"as wide elsewhere": {Spans, serialColumn("id"), "integer"},
		"next to it":        {"steps", integerColumn("step_index"), "integer"},
		"vector":            {Memories, Column{Name: "vector", Kind: KindVector}, "vector(384)"},
	} {
		if got := wide.Of(tc.table, tc.c); got != tc.want {
			t.Errorf("%s: %s, not %s", name, got, tc.want)
		}
	}
}

// TestParseOriginal reads what AppendOriginal stored.
func TestParseOriginal(t *testing.T) {
	t.Parallel()
	for _, want := range []sqlite.Value{
		{}, integer(math.MinInt64), real(0.1), real(minusZero), real(math.Inf(-1)), text("a\x00\xff"),
		blob([]byte{0, 255}),
	} {
		fields := splitTuple(t, AppendOriginal(nil, 7, "steps", "1", 1, Change{Original: want}))
		if got, err := ParseOriginal(string(fields[6]), fields[7]); err != nil || !sameValue(got, want) {
			t.Errorf("%s: %s (%v)", want, got, err)
		}
	}
	for class, original := range map[string]string{"integer": "x", "real": "", "INTEGER": "1"} {
		if v, err := ParseOriginal(class, []byte(original)); err == nil {
			t.Errorf("%q of class %s is %s", original, class, v)
		}
	}
}

func TestParseReasons(t *testing.T) {
	t.Parallel()
	for _, want := range []Reason{0, NULRemoved, NULRemoved | InvalidUTF8, JSONTooLarge | DuplicateKey} {
		if got := ParseReasons(want.String()); got != want {
			t.Errorf("%s: %s", want, got)
		}
	}
	if got := ParseReasons("rounded+unknown-to-this-version"); got != Rounded {
		t.Errorf("got %s", got)
	}
}

func TestIsRejectedRow(t *testing.T) {
	t.Parallel()
	table := &Table{Columns: []Column{textColumn("t"), integerColumn("i"), real4Column("r")}}
	for name, tc := range map[string]struct {
		columns []string
		common  Reason
		want    bool
	}{
		"a reason of rows":               {[]string{"t"}, DuplicateKey, true},
		"a changed text":                 {[]string{"t"}, NULRemoved, false},
		"a changed number":               {[]string{"i", "r"}, NotANumber, false},
		"a text with a number's reason":  {[]string{"i", "t"}, OutOfRange, true},
		"an unmapped column of that row": {[]string{"i", "extra"}, OutOfRange, true},
		"nothing in common":              {[]string{"i", "t"}, 0, false},
	} {
		if got := table.IsRejectedRow(tc.columns, tc.common); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRejectionReasons(t *testing.T) {
	t.Parallel()
	want := "null-key nul-in-key duplicate-key missing-value json-too-large invalid-vector vector-dimension-mismatch " +
		"text-too-long"
	if got := strings.Join(RejectionReasons(), " "); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}
