package jsonb

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/pgtest"
)

// varlenaHeader is the part of pg_column_size that does not belong to the jsonb's root.
const varlenaHeader = 4

// compare fails the test unless the server accepts exactly the texts without flaws,
// accepts every text that AppendRepaired returns, and stores it in no more bytes than
// bound returns.
func (s server) compare(t *testing.T, texts [][]byte) {
	t.Helper()
	asked := texts
	for _, text := range texts {
		out, _ := AppendRepaired(nil, text, DefaultDepth)
		asked = append(asked, out)
	}
	sizes := s.sizes(t, asked)
	for i, text := range texts {
		flaws := flawsOf(text, DefaultDepth)
		taken := sizes[i] != nil
		if taken != (flaws == 0) && flaws != TooDeep && !s.takesMore(text) {
			t.Errorf("%q: flaws %v, and PostgreSQL takes it: %v", text, flawNames(flaws), taken)
		}
		out, size := asked[len(texts)+i], sizes[len(texts)+i]
		if size == nil {
			t.Errorf("%q: becomes %q, which PostgreSQL refuses", text, out)
			continue
		}
		if _, most := bound(out); *size > most+varlenaHeader {
			t.Errorf("%q: jsonb of %d bytes, at most %d expected", out, *size, most+varlenaHeader)
		}
	}
}

// takesMore reports whether the text may contain the one number that only PostgreSQL 16
// and later accept.
func (s server) takesMore(text []byte) bool {
	return s.version >= 16_00_00 && bytes.Contains(text, []byte("1073741823"))
}

// The cases written by hand, with the SQLSTATE of each flaw.
func TestRepairOnServer(t *testing.T) {
	s := connect(t)
	for kind, group := range map[string]struct {
		cases  []repairCase
		states string
	}{
		"clean":    {cleanCases, ""},
		"repaired": {repairedCases, "22P05 22P02 22021"}, // also surrogates: invalid JSON
		"syntax":   {syntaxCases, "22P02 22P05 22021"},
		"number":   {numberCases, "22003 22P02 22P05 22021"},
	} {
		for _, c := range group.cases {
			state := s.state(t, []byte(c.text))
			if (state == "") != (c.flaws == 0) || !strings.Contains(group.states, state) ||
				c.flaws == NumberOutOfRange && state != "22003" && !strings.Contains(c.text, `\u0000`) {
				t.Errorf("%s, %s: flaws %v, the server says %q", kind, c.name, flawNames(c.flaws), state)
			}
			if state := s.state(t, []byte(c.want)); state != "" {
				t.Errorf("%s, %s: repaired as %.200q, the server says %q", kind, c.name, c.want, state)
			}
		}
	}
}

func TestExponentOfZeroOnServer(t *testing.T) {
	s := connect(t)
	for _, sign := range []string{"", "+", "-"} {
		text := []byte("0e" + sign + "1073741823")
		if flaws := flawsOf(text, 0); flaws != NumberOutOfRange {
			t.Errorf("%s: flaws %v", text, flawNames(flaws))
		}
		want := "22003"
		if s.version >= 16_00_00 && sign != "-" {
			want = ""
		}
		if state := s.state(t, text); state != want {
			t.Errorf("%s: the server says %q, want %q", text, state, want)
		}
	}
}

// Random texts, different in every run.
func TestRepairDifferential(t *testing.T) {
	const batch = 2000
	batches := pgtest.Count(5, 25)
	s := connect(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	maker := generator{rand.New(rand.NewPCG(seed, 0))}
	clean := 0
	for range batches {
		texts := make([][]byte, batch, 2*batch)
		for i := range texts {
			texts[i] = maker.text()
			if flawsOf(texts[i], DefaultDepth) == 0 {
				clean++
			}
			checkInvariants(t, texts[i], testMaxDepth)
		}
		if s.compare(t, texts); t.Failed() {
			return
		}
	}
	t.Logf("%d of %d texts without flaws", clean, batches*batch)
	if clean < batches*batch/4 || clean > batches*batch*3/4 {
		t.Errorf("%d of %d texts are without flaws: the maker no longer tests both ways", clean, batches*batch)
	}
}

// A server with the default stack accepts the default depth, even in a function called
// by a function called by a trigger.
func TestDefaultDepthOnServer(t *testing.T) {
	s := connect(t)
	ctx := context.Background()
	_, err := s.conn.Exec(ctx, `
		SET max_stack_depth = '2MB';
		CREATE TABLE deep (doc jsonb);
		CREATE INDEX ON deep USING gin (doc);
		CREATE TABLE texts (text text);
		CREATE FUNCTION store() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO deep VALUES (NEW.text::jsonb);
			PERFORM jsonb_bytes(convert_to(NEW.text, 'UTF8'));
			RETURN NEW;
		END $$;
		CREATE TRIGGER store BEFORE INSERT ON texts FOR EACH ROW EXECUTE FUNCTION store()`)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range nested(DefaultDepth) {
		if flaws := flawsOf([]byte(text), DefaultDepth); flaws != 0 {
			t.Errorf("%s: flaws %v", name, flawNames(flaws))
		}
		if _, err := s.conn.Exec(ctx, "INSERT INTO texts VALUES ($1)", text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.conn.Exec(ctx, "SELECT doc::text FROM deep"); err != nil {
			t.Errorf("%s: read: %v", name, err)
		}
	}
	for name, text := range nested(DefaultDepth + 1) {
		out, flaws := AppendRepaired(nil, []byte(text), DefaultDepth)
		if state := s.state(t, out); flaws != TooDeep || state != "" {
			t.Errorf("%s, a level more: flaws %v, the server says %q", name, flawNames(flaws), state)
		}
	}
}

// Keys that are equal after a NUL is removed, keys that differ only in their escapes,
// and keys that are not sorted.
func TestKeysOnServer(t *testing.T) {
	s := connect(t)
	var pairs []string
	for i := range 300 {
		pairs = append(
			pairs,
			fmt.Sprintf(
				`"%s%d":%s`,
				strings.Repeat("k", i%7),
				i%50,
				[]string{"1", `"abc"`, "[1]", "null", "{}", "1.5"}[i%6],
			),
		)
	}
	s.compare(t, [][]byte{
		[]byte(`{"a":1,"a\u0000":[1,2,3],"\u0061":"x"}`),
		[]byte(`{"é":1,"\u00e9":"x","e":[],"\ud83d\ude00":{},"😀":0}`),
		[]byte(`{"bb":"x","a":1,"c":"yy","a":{"b":"x","a":1}}`),
		[]byte(`{"n\n":1,"n\u000a":22,"\"":3,"\u0022":"4","\/":"5","/":[6]}`),
		[]byte("{" + strings.Join(pairs, ",") + "}"),
	})
}

func FuzzRepairDifferential(f *testing.F) {
	for _, cases := range [][]repairCase{cleanCases, repairedCases, syntaxCases} {
		for _, c := range cases {
			f.Add([]byte(c.text))
		}
	}
	s := connect(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		checkInvariants(t, text, DefaultDepth)
		s.compare(t, [][]byte{text})
	})
}
