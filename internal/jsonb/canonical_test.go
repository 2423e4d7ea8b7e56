package jsonb

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/pgtest"
)

// canonicalCases are texts and the output of jsonb for them.
var canonicalCases = map[string][2]string{
	"white space": {
		" { \"a\" :\t[ 1 ,\n2 ] , \"b\":{} , \"c\" : [ ] } ",
		`{"a": [1, 2], "b": {}, "c": []}`,
	},
	"keys by length":           {`{"bb":1,"a":2,"":3,"ccc":4,"é":5}`, `{"": 3, "a": 2, "bb": 1, "é": 5, "ccc": 4}`},
	"keys by bytes":            {`{"b":1,"B":2,"a":3}`, `{"B": 2, "a": 3, "b": 1}`},
	"doubled keys":             {`{"a":1,"b":2,"a":{"x":1}}`, `{"a": {"x": 1}, "b": 2}`},
	"doubled in order":         {`{"a":1,"a":2,"a":3}`, `{"a": 3}`},
	"doubled by an escape":     {`{"\u0061":1,"b":0,"a":2}`, `{"a": 2, "b": 0}`},
	"a key's length unescaped": {`{"\n\n":1,"abc":2,"\u00e9":3}`, `{"\n\n": 1, "é": 3, "abc": 2}`},
	"order within order": {
		`{"z":{"y":1,"x":2},"a":[{"d":1,"c":2}]}`,
		`{"a": [{"c": 2, "d": 1}], "z": {"x": 2, "y": 1}}`,
	},
	"escapes": {
		`"\"\\\/\b\f\n\r\t\u0001\u001F\u007f\u0022\u005c\u002f\u000a"`,
		"\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\\\"\\\\/\\n\"",
	},
	"characters": {`"\u00e9\u20AC\ud83d\ude00心"`, `"é€😀心"`},
	"words":      {`[true,false,null]`, `[true, false, null]`},
	"scalars":    {`  "x"  `, `"x"`},
	"integers": {
		`[0,-0,12,-12,123456789012345678901234567890]`,
		`[0, 0, 12, -12, 123456789012345678901234567890]`,
	},
	"fractions":    {`[1.50,-0.0,0.10,-0.5,-0.05]`, `[1.50, 0.0, 0.10, -0.5, -0.05]`},
	"exponents up": {`[1e2,1E+2,1.5e1,1.50e1,1.5e3,-2e0,10e1]`, `[100, 100, 15, 15.0, 1500, -2, 100]`},
	"exponents down": {
		`[12e-1,100e-2,1.5e-3,5e-1,1e-7,120e-1]`,
		`[1.2, 1.00, 0.0015, 0.5, 0.0000001, 12.0]`,
	},
	"zero with an exponent":     {`[0e5,0e-5,-0e-2,0.00e1,0.0e3]`, `[0, 0.00000, 0.00, 0.0, 0]`},
	"small with an exponent up": {`[0.001e2,0.001e3,0.001e4,0.05e1]`, `[0.1, 1, 10, 0.5]`},
	"large":                     {`1e30`, `1000000000000000000000000000000`},
	"an exponent with zeros":    {`[1e02,1e-01]`, `[100, 0.1]`},
	"beyond float64":            {`[1E400,-1e-3]`, `[1` + zeros(400) + `, -0.001]`},
	"zero, a large exponent":    {`[0e999999,-0.0e1073741822]`, `[0, 0]`},
	"exponents either side": {
		`[12.345e1,12.345e3,12.345e4,12.345e-1,12.345e-2,12.345e-3]`,
		`[123.45, 12345, 123450, 1.2345, 0.12345, 0.012345]`,
	},
	"thousands of digits": {
		`[` + nines(5000) + `.` + zeros(5000) + `,-` + nines(5000) + `e-5000]`,
		`[` + nines(5000) + `.` + zeros(5000) + `, -0.` + nines(5000) + `]`,
	},
	"thousands of digits moved": {
		`[0.` + zeros(5000) + `12e5001,1` + zeros(5000) + `e-4999]`,
		`[1.2, 10.` + zeros(4999) + `]`,
	},
	"empty":                {"{\"\": { } ,\"a\":[\r]}", `{"": {}, "a": []}`},
	"raw characters":       {"\"/\x7f\u00a0\u2028é😀\"", "\"/\x7f\u00a0\u2028é😀\""},
	"surrogates in a key":  {`{"\ud83d\ude00":1,"abc":2,"😀":3}`, `{"abc": 2, "😀": 3}`},
	"escapes side by side": {`"\\\"\\\\\"\"x\"\\"`, `"\\\"\\\\\"\"x\"\\"`},
	"replaced while open":  {`{"a":{"c":1,"b":2},"a":{"c":3,"b":4}}`, `{"a": {"b": 4, "c": 3}}`},
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	var c Canonicalizer
	for name, tc := range canonicalCases {
		if got := c.Append([]byte("before"), []byte(tc[0])); string(got) != "before"+tc[1] {
			t.Errorf("%s: %s, want %s", name, got[len("before"):], tc[1])
		}
		if got := c.Append(nil, []byte(tc[1])); string(got) != tc[1] {
			t.Errorf("%s: once more %s", name, got)
		}
		if is := c.IsCanonical([]byte(tc[0])); is != (tc[0] == tc[1]) || !c.IsCanonical([]byte(tc[1])) {
			t.Errorf("%s: IsCanonical is %t", name, is)
		}
	}
}

// Each byte of a string is read a fixed number of times, regardless of the number of
// escapes before its end. Searching for the end again after each escape would take many
// minutes.
func TestCanonicalLongString(t *testing.T) {
	t.Parallel()
	const n = 1 << 20
	var c Canonicalizer
	for text, want := range map[string]string{`\u8acb`: "請", `xxxxxxxxx\n`: `xxxxxxxxx\n`, `\"`: `\"`} {
		got := c.Append(nil, []byte(`{"a":"`+strings.Repeat(text, n)+`"}`))
		if string(got) != `{"a": "`+strings.Repeat(want, n)+`"}` {
			t.Errorf("%s, many times: %.100s…", text, got)
		}
	}
}

func TestCanonicalAllocatesNothing(t *testing.T) {
	var c Canonicalizer
	dst := make([]byte, 0, 1<<20)
	texts := map[string][]byte{"moved": []byte(`[1.` + nines(500) + `e50,` + nines(500) + `e-50]`)}
	for _, shape := range shapes() {
		texts[shape.name] = shape.texts[0]
	}
	for name, tc := range canonicalCases {
		texts[name] = []byte(tc[0])
	}
	for name, text := range texts {
		if n := testing.AllocsPerRun(10, func() { c.Append(dst, text) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// prints returns the server's output for each text.
func (s server) prints(t testing.TB, texts [][]byte) (printed []string) {
	t.Helper()
	const query = "SELECT array_agg(convert_from(text, 'UTF8')::jsonb::text ORDER BY n) FROM unnest($1::bytea[]) " +
		"WITH ORDINALITY AS u (text, n)"
	if err := s.conn.QueryRow(context.Background(), query, texts).Scan(&printed); err != nil {
		t.Fatal(err)
	}
	return printed
}

// sameAsPrinted compares the canonicalizer with the server, for texts that AppendRepaired
// returns, and checks that the canonical form of a canonical form is the same.
func (s server) sameAsPrinted(t *testing.T, texts [][]byte) {
	t.Helper()
	var c Canonicalizer
	var repaired [][]byte
	for _, text := range texts {
		if out, flaws := AppendRepaired(nil, text, DefaultDepth); flaws&TooLarge == 0 {
			repaired = append(repaired, out)
		}
	}
	for i, want := range s.prints(t, repaired) {
		got := c.Append(nil, repaired[i])
		if string(got) != want {
			t.Fatalf("%.300q is %.300q, the server prints %.300q", repaired[i], got, want)
		}
		if again := c.Append(nil, got); !bytes.Equal(again, got) {
			t.Fatalf("%.300q is %.300q once more", got, again)
		}
		for _, text := range [][]byte{repaired[i], got} {
			if is := c.IsCanonical(text); is != bytes.Equal(text, got) {
				t.Fatalf("%.300q: IsCanonical is %t, and the canonical form is %.300q", text, is, got)
			}
		}
	}
}

func TestCanonicalOnServer(t *testing.T) {
	t.Parallel()
	s := connect(t)
	var texts [][]byte
	for _, tc := range canonicalCases {
		texts = append(texts, []byte(tc[0]))
	}
	for _, cases := range [][]repairCase{cleanCases, repairedCases, syntaxCases, numberCases} {
		for _, tc := range cases {
			texts = append(texts, []byte(tc.text))
		}
	}
	for _, shape := range shapes() {
		texts = append(texts, shape.texts...)
	}
	for _, text := range nested(DefaultDepth) {
		texts = append(texts, []byte(text))
	}
	const levels = DefaultDepth
	texts = append(texts, []byte(strings.Repeat(`{"b":`, levels)+"0"+strings.Repeat(`,"a":1,"b":2}`, levels)),
		[]byte(strings.Repeat(`{"b":`, levels)+"0"+strings.Repeat(`,"a":1}`, levels)))
	s.sameAsPrinted(t, texts)
}

// Random texts, different in every run.
func TestCanonicalDifferential(t *testing.T) {
	t.Parallel()
	const batch = 2000
	batches := pgtest.Count(5, 25)
	s := connect(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	maker := generator{rand.New(rand.NewPCG(seed, 1))}
	for range batches {
		texts := make([][]byte, batch)
		for i := range texts {
			texts[i] = maker.text()
		}
		s.sameAsPrinted(t, texts)
	}
}

func FuzzCanonicalDifferential(f *testing.F) {
	for _, tc := range canonicalCases {
		f.Add([]byte(tc[0]))
	}
	for _, cases := range [][]repairCase{cleanCases, repairedCases, syntaxCases} {
		for _, tc := range cases {
			f.Add([]byte(tc.text))
		}
	}
	s := connect(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		s.sameAsPrinted(t, [][]byte{text})
	})
}

func BenchmarkCanonical(b *testing.B) {
	var c Canonicalizer
	var dst []byte
	benchmark(b, func(text []byte) Flaws {
		dst = c.Append(dst[:0], text)
		return 0
	})
}

// Strings as long as the longest outputs, as json.dumps writes them.
func BenchmarkCanonicalLong(b *testing.B) {
	var c Canonicalizer
	var dst []byte
	r := rand.New(rand.NewPCG(1, 2))
	for _, language := range []string{"en", "ja"} {
		b.Run(language, func(b *testing.B) {
			text := likeDumps(longText(r, 4<<20, language))
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				dst = c.Append(dst[:0], text)
			}
		})
	}
}
