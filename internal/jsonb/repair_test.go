package jsonb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// repairCase is a text, its flaws, and the result of AppendRepaired.
type repairCase struct {
	name  string
	text  string
	flaws Flaws
	want  string
}

// clean returns a case of a text that jsonb accepts unchanged.
func clean(name, text string) repairCase { return repairCase{name, text, 0, text} }

var cleanCases = []repairCase{
	clean("object", `{"a":1,"b":[true,false,null,"x"],"c":{}}`),
	clean("white space", " \t\r\n[ 1 , { \"a\" : \"b\" } ,\n[ ] , { } ]\t"),
	clean("string", `"text"`),
	clean("empty string", `""`),
	clean("number", `0`),
	clean("negative zero", `-0`),
	clean("null", `null`),
	clean("every escape", `"\" \\ \/ \b \f \n \r \t \u0041 \u00Fc"`),
	clean("surrogate pair", `"\ud83d\ude00\uD83D\uDE00"`),
	clean("escapes next to the surrogates", `"\ud7ff\ue000\uffff\u0001"`),
	clean("raw UTF-8", `"é ż 中 😀 `+"\u007f\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"+`"`),
	clean("noncharacters and a mark inside", "\"\ufdd0\ufffe\ufeff\""),
	clean("NaN for a key, as a string", `{"NaN":"NaN"}`),
	clean("doubled key", `{"a":1,"a":2}`),
	clean("empty key", `{"":""}`),
	clean("escape at the end of eight bytes", `"abcdefg\n1234567\u0041"`),
	clean("quote as the ninth byte", `"12345678"`),
}

var repairedCases = []repairCase{
	{"escaped NUL", `{"a":"x\u0000y"}`, NUL, `{"a":"xy"}`},
	{"escaped NUL alone", `"\u0000"`, NUL, `""`},
	{"two escaped NULs", `"\u0000\u0000a\u0000"`, NUL, `"a"`},
	{"escaped NUL in a key", `{"a\u0000":1,"a":2}`, NUL, `{"a":1,"a":2}`},
	{"raw NUL in a string", "[\"x\x00y\"]", NUL, `["xy"]`},
	{"escaped backslash before u0000", `"\\u0000"`, 0, `"\\u0000"`},
	{"escaped backslash, then NUL", `"\\\u0000"`, NUL, `"\\"`},

	{"high alone", `"a\ud83db"`, LoneSurrogate, `"a` + "\ufffd" + `b"`},
	{"low alone", `"\ude00"`, LoneSurrogate, "\"\ufffd\""},
	{"high at the end", `["\uD83D"]`, LoneSurrogate, "[\"\ufffd\"]"},
	{"high and high", `"\ud83d\ud83d"`, LoneSurrogate, "\"\ufffd\ufffd\""},
	{"high, then a pair", `"\ud83d\ud83d\ude00"`, LoneSurrogate, "\"\ufffd" + `\ud83d\ude00"`},
	{"low, then high", `"\ude00\ud83d"`, LoneSurrogate, "\"\ufffd\ufffd\""},
	{"high, then another escape", `"\ud83d\n\ude00"`, LoneSurrogate, "\"\ufffd" + `\n` + "\ufffd\""},
	{"high, then the letters of a low", `"\ud83dude00"`, LoneSurrogate, "\"\ufffdude00\""},
	{"high in a key", `{"\udbff":0}`, LoneSurrogate, "{\"\ufffd\":0}"},
	{"NUL within a pair", `"\ud83d\u0000\ude00"`, LoneSurrogate | NUL, "\"\ufffd\ufffd\""},
	{"raw NUL within a pair", "\"\\ud83d\x00\\ude00\"", LoneSurrogate | NUL, "\"\ufffd\ufffd\""},

	{"bad byte", "\"a\xffb\"", InvalidUTF8, "\"a\ufffdb\""},
	{"latin 1", "{\"caf\xe9\":\"\xfcber\"}", InvalidUTF8, "{\"caf\ufffd\":\"\ufffdber\"}"},
	{"raw surrogate", "\"\xed\xa0\x80\"", InvalidUTF8, "\"\ufffd\ufffd\ufffd\""},
	{"overlong NUL", "\"\xc0\x80\"", InvalidUTF8, "\"\ufffd\ufffd\""},
	{"overlong in three", "\"\xe0\x80\x80\"", InvalidUTF8, "\"\ufffd\ufffd\ufffd\""},
	{"beyond U+10FFFF", "\"\xf4\x90\x80\x80\"", InvalidUTF8, "\"\ufffd\ufffd\ufffd\ufffd\""},
	{"cut before the quote", "\"中\xe4\xb8\"", InvalidUTF8, "\"中\ufffd\ufffd\""},
	{"a continuation too many", "\"é\xa9\"", InvalidUTF8, "\"é\ufffd\""},
	{"raw NUL within a character", "\"\xe4\x00\xb8\xad\"", InvalidUTF8 | NUL, "\"\ufffd\ufffd\ufffd\""},

	{"NaN", `NaN`, NonFiniteNumber, `"NaN"`},
	{
		"NaN and infinities",
		`{"a":[NaN,Infinity , -Infinity]}`,
		NonFiniteNumber,
		`{"a":["NaN","Infinity" , "-Infinity"]}`,
	},

	{
		"all that can be repaired", "[\"\\u0000\",\"\\ud800\",\"\xff\",NaN,1]",
		NUL | LoneSurrogate | InvalidUTF8 | NonFiniteNumber,
		"[\"\",\"\ufffd\",\"\ufffd\",\"NaN\",1]",
	},
}

var syntaxCases = []repairCase{
	{"empty", "", Invalid, `""`},
	{"blank", " \n", Invalid, `" \n"`},
	{"plain words", `it's "so"`, Invalid, `"it's \"so\""`},
	{"raw newline", "\"a\nb\"", Invalid, `"\"a\nb\""`},
	{"raw tab", "[\"\t\"]", Invalid, `"[\"\t\"]"`},
	{"raw control character", "\"\x1f\x01\"", Invalid, `"\"\u001f\u0001\""`},
	{"carriage return, backspace", "\r\b", Invalid, `"\r\u0008"`},
	{"single quotes", `{'a':1}`, Invalid, `"{'a':1}"`},
	{"bare key", `{a:1}`, Invalid, `"{a:1}"`},
	{"trailing comma in an array", `[1,]`, Invalid, `"[1,]"`},
	{"trailing comma in an object", `{"a":1,}`, Invalid, `"{\"a\":1,}"`},
	{"leading comma", `[,1]`, Invalid, `"[,1]"`},
	{"comma at the end", `[1,`, Invalid, `"[1,"`},
	{"comma and blank at the end", `[1, `, Invalid, `"[1, "`},
	{"comma outside", `1,2`, Invalid, `"1,2"`},
	{"two values", `1 2`, Invalid, `"1 2"`},
	{"trailing garbage", `{} x`, Invalid, `"{} x"`},
	{"open array", `[`, Invalid, `"["`},
	{"open object", `{`, Invalid, `"{"`},
	{"open object after its key", `{"a"`, Invalid, `"{\"a\""`},
	{"open object after its colon", `{"a":`, Invalid, `"{\"a\":"`},
	{"open object after its value", `{"a":1`, Invalid, `"{\"a\":1"`},
	{"open string", `"abc`, Invalid, `"\"abc"`},
	{"open escape", `"abc\`, Invalid, `"\"abc\\"`},
	{"open unicode escape", `"\u12`, Invalid, `"\"\\u12"`},
	{"closing quote escaped", `"\"`, Invalid, `"\"\\\""`},
	{"array closed as object", `[1}`, Invalid, `"[1}"`},
	{"object closed as array", `{"a":1]`, Invalid, `"{\"a\":1]"`},
	{"closed too often", `[]]`, Invalid, `"[]]"`},
	{"no colon", `{"a" 1}`, Invalid, `"{\"a\" 1}"`},
	{"pair in an array", `["a":1]`, Invalid, `"[\"a\":1]"`},
	{"key alone", `{"a"}`, Invalid, `"{\"a\"}"`},
	{"key that is a number", `{1:2}`, Invalid, `"{1:2}"`},
	{"key that is NaN", `{NaN:1}`, Invalid, `"{NaN:1}"`},
	{"unknown escape", `"\x41"`, Invalid, `"\"\\x41\""`},
	{"bad hex digit", `"\u00g0"`, Invalid, `"\"\\u00g0\""`},
	{"capital escape", `"\N"`, Invalid, `"\"\\N\""`},
	{"half a pair, then a broken escape", `"\ud83d\u12"`, Invalid, `"\"\\ud83d\\u12\""`},
	{"capital literal", `True`, Invalid, `"True"`},
	{"longer literal", `nullx`, Invalid, `"nullx"`},
	{"shorter literal", `tru`, Invalid, `"tru"`},
	{"lower-case nan", `nan`, Invalid, `"nan"`},
	{"negative NaN", `-NaN`, Invalid, `"-NaN"`},
	{"positive infinity", `+Infinity`, Invalid, `"+Infinity"`},
	{"longer infinity", `-Infinity1`, Invalid, `"-Infinity1"`},
	{"leading zero", `012`, Invalid, `"012"`},
	{"negative leading zero", `-01`, Invalid, `"-01"`},
	{"minus alone", `-`, Invalid, `"-"`},
	{"plus", `+1`, Invalid, `"+1"`},
	{"no digit before the point", `.5`, Invalid, `".5"`},
	{"no digit behind the point", `1.`, Invalid, `"1."`},
	{"no digit behind the point, exponent", `1.e5`, Invalid, `"1.e5"`},
	{"no exponent", `1e`, Invalid, `"1e"`},
	{"no exponent but a sign", `[1e+]`, Invalid, `"[1e+]"`},
	{"hexadecimal", `0x10`, Invalid, `"0x10"`},
	{"underscore", `1_000`, Invalid, `"1_000"`},
	{"comment", `[1/*2*/]`, Invalid, `"[1/*2*/]"`},
	{"byte order mark", "\ufeff{}", Invalid, "\"\ufeff{}\""},
	{"no-break space", "[1,\u00a02]", Invalid, "\"[1,\u00a02]\""},
	{"vertical tab", "[\v]", Invalid, `"[\u000b]"`},

	{"raw NUL behind", "{}\x00", Invalid | NUL, `"{}"`},
	{"raw NUL in a number", "1\x002", Invalid | NUL, `"12"`},
	{"raw NUL after a backslash", "\"\\\x00n\"", Invalid | NUL, `"\"\\n\""`},
	{"raw NUL in a unicode escape", "\"\\u00\x0041\"", Invalid | NUL, `"\"\\u0041\""`},
	{"bad byte outside strings", "[1]\xff", Invalid | InvalidUTF8, "\"[1]\ufffd\""},
	{"bad bytes and NUL behind the error", "x\x00\xff\xfe\"", Invalid | NUL | InvalidUTF8, "\"x\ufffd\ufffd\\\"\""},
	{"what would be repaired stays", `["\u0000\ud800",NaN,]`, Invalid, `"[\"\\u0000\\ud800\",NaN,]"`},
	{"only NULs", "\x00\x00", Invalid | NUL, `""`},
}

var (
	zeros = func(n int) string { return strings.Repeat("0", n) }
	nines = func(n int) string { return strings.Repeat("9", n) }
)

// beyond returns a case of a number that numeric cannot hold.
func beyond(name, number string) repairCase {
	return repairCase{name, number, NumberOutOfRange, `"` + number + `"`}
}

var numberCases = []repairCase{
	clean("largest exponent", `1e131071`),
	beyond("larger exponent", `1E131072`),
	clean("largest with decimals", `9.999e+131071`),
	clean("beyond float64", `[1e400,-1e-400]`),
	beyond("two digits", `10e131071`),
	clean("two digits, one less", `-10e131070`),
	clean("most digits", nines(131072)),
	beyond("a digit more", nines(131073)),
	clean("most digits on both sides", `-`+nines(131072)+`.`+nines(16383)),
	beyond("a decimal more", `0.`+nines(16384)),
	clean("smallest exponent", `1e-16383`),
	beyond("smaller exponent", `1e-16384`),
	clean("smallest with a decimal", `1.5e-16382`),
	beyond("a decimal and an exponent", `1.5e-16383`),
	beyond("the exponent that the notes name", `1e-16400`),
	clean("zeros of an integer count no decimals", `100e-16383`),
	beyond("but the exponent does", `100e-16384`),
	beyond("even when the value is whole", `1`+zeros(20000)+`e-16384`),

	clean("zero with any exponent", `0e999999`),
	clean("zero with the largest exponent", `0.0e1073741822`),
	beyond("zero with a larger one", `0e1073741824`),
	beyond("zero with a far larger one", `0e99999999999999999999999999`),
	clean("zero with the smallest exponent", `0e-16383`),
	beyond("zero with a smaller one", `0e-16384`),
	clean("zero with most decimals", `0.`+zeros(16383)),
	beyond("zero with a decimal more", `-0.`+zeros(16384)),
	clean("zeros that the exponent takes away", `0.`+zeros(20000)+`e5000`),
	beyond("zeros that it leaves", `0.`+zeros(20000)+`e3616`),
	clean("zeros up to the edge", `0.`+zeros(20000)+`e3617`),

	clean("decimals moved before the point", `0.0001e131075`),
	beyond("moved a place too far", `0.0001e131076`),
	clean("many zeros, then a digit", `0.`+zeros(200000)+`1e200001`),
	clean("many zeros, then a digit at the top", `0.`+zeros(200000)+`1e331072`),
	beyond("many zeros, then a digit beyond", `0.`+zeros(200000)+`1e331073`),
	clean("zeros before the exponent", `1e+0000000000000000000000000005`),
	clean("capital E, minus", `2E-05`),

	{"within a document", `{"a":[1e999999]}`, NumberOutOfRange, `"{\"a\":[1e999999]}"`},
	{"in the text, NUL escapes stay", `["\u0000",1e999999]`, NumberOutOfRange, `"[\"\\u0000\",1e999999]"`},
	{
		"bad bytes do not",
		"[\"\xff\x00\",1e999999]",
		NumberOutOfRange | InvalidUTF8 | NUL,
		"\"[\\\"\ufffd\\\",1e999999]\"",
	},
	{"syntax outweighs it", `[1e999999`, Invalid, `"[1e999999"`},
}

// testMaxDepth is the maximum depth of testDepth's texts.
const testMaxDepth = 3

var depthCases = []repairCase{
	clean("arrays", `[[[]]]`),
	clean("objects", `{"a":{"b":{"c":0}}}`),
	clean("side by side", `[[[1],[2]],{"a":[]},[[]]]`),
	{"arrays, one too many", `[[[[]]]]`, TooDeep, `"[[[[]]]]"`},
	{"objects, one too many", `{"":{"":{"":{}}}}`, TooDeep, `"{\"\":{\"\":{\"\":{}}}}"`},
	{"mixed", `[{"a":[[1]]}]`, TooDeep, `"[{\"a\":[[1]]}]"`},
	{"number too", `[[[[1e999999]]]]`, TooDeep | NumberOutOfRange, `"[[[[1e999999]]]]"`},
	{"bad byte too", "[[[[\"\xff\"]]]]", TooDeep | InvalidUTF8, "\"[[[[\\\"\ufffd\\\"]]]]\""},
	{"syntax outweighs it", `[[[[]]]`, Invalid, `"[[[[]]]"`},
}

func TestRepair(t *testing.T) {
	for kind, cases := range map[string][]repairCase{
		"clean": cleanCases, "repaired": repairedCases, "syntax": syntaxCases, "number": numberCases,
	} {
		t.Run(kind, func(t *testing.T) { runCases(t, cases, DefaultDepth) })
	}
	t.Run("depth", func(t *testing.T) { runCases(t, depthCases, testMaxDepth) })
}

func runCases(t *testing.T, cases []repairCase, maxDepth int) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, flaws := AppendRepaired(nil, []byte(c.text), maxDepth)
			if flaws != c.flaws || string(out) != c.want {
				t.Errorf("%.200q has flaws %v, becomes %.200q; want %v, %.200q",
					c.text, flawNames(flaws), out, flawNames(c.flaws), c.want)
			}
			checkInvariants(t, []byte(c.text), maxDepth)
		})
	}
}

// Every flaw is found at every position within the eight bytes that are read at once,
// and at every distance from the end.
func TestRepairAtEveryPosition(t *testing.T) {
	for before := range 20 {
		for behind := range 20 {
			for _, c := range []repairCase{
				{"NUL", `\u0000`, NUL, ``},
				{"raw NUL", "\x00", NUL, ``},
				{"surrogate", `\udc00`, LoneSurrogate, "\ufffd"},
				{"bad byte", "\xf5", InvalidUTF8, "\ufffd"},
				{"cut character", "\xe4\xb8", InvalidUTF8, "\ufffd\ufffd"},
				{"nothing", "", 0, ""},
				{"escape", `\n`, 0, `\n`},
				{"two bytes", "é", 0, "é"},
				{"three bytes", "中", 0, "中"},
				{"four bytes", "😀", 0, "😀"},
			} {
				head, tail := `"`+strings.Repeat("x", before), strings.Repeat("y", behind)+`"`
				out, flaws := AppendRepaired(nil, []byte(head+c.text+tail), 0)
				if want := head + c.want + tail; flaws != c.flaws || string(out) != want {
					t.Errorf(
						"%q: flaws %v, becomes %q, want %v, %q",
						head+c.text+tail,
						flawNames(flaws),
						out,
						flawNames(c.flaws),
						want,
					)
				}
			}
			for _, bad := range []string{"\n", "\x1f", `"`, `\`, `\q`} {
				text := `"` + strings.Repeat("x", before) + bad + strings.Repeat("y", behind) + `"`
				if bad == `\` && behind == 0 {
					continue // that escapes the quote: the text is open
				}
				if flaws := flawsOf([]byte(text), 0); flaws != Invalid {
					t.Errorf("%q: flaws %v, want %v", text, flawNames(flaws), flawNames(Invalid))
				}
			}
		}
	}
}

func TestDeeperThanTheFirstLevels(t *testing.T) {
	for _, levels := range []int{63, 64, 65, 1023, 1024, 1025, 1026, 5000} {
		for name, text := range nested(levels) {
			if flaws := flawsOf([]byte(text), levels); flaws != 0 {
				t.Errorf("%d levels of %s: flaws %v", levels, name, flawNames(flaws))
			}
			if flaws := flawsOf([]byte(text), levels-1); flaws != TooDeep {
				t.Errorf("%d levels of %s, one too many: flaws %v", levels, name, flawNames(flaws))
			}
			// Each level is closed by the bracket of its kind.
			at := len(text) - 1 - levels/2
			if text[at] != ']' && text[at] != '}' {
				t.Fatalf("%s: nothing closes at %d", name, at)
			}
			broken := []byte(text)
			broken[at] ^= ']' ^ '}'
			if flaws := flawsOf(broken, levels); flaws != Invalid {
				t.Errorf("%d levels of %s, one closed wrongly: flaws %v", levels, name, flawNames(flaws))
			}
		}
	}
}

// nested returns texts with the given number of levels.
func nested(levels int) map[string]string {
	mix, ends := "", ""
	for i := range levels {
		if i%3 == 0 {
			mix, ends = mix+"[", "]"+ends
		} else {
			mix, ends = mix+`{"a":`, "}"+ends
		}
	}
	return map[string]string{
		"arrays":  strings.Repeat("[", levels) + strings.Repeat("]", levels),
		"objects": strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels),
		"mix":     mix + "1" + ends,
	}
}

func TestRepairAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 1<<20)
	for _, shape := range shapes() {
		text := shape.texts[0]
		if n := testing.AllocsPerRun(10, func() {
			AppendRepaired(dst, text, DefaultDepth)
		}); n != 0 {
			t.Errorf("%s: %v allocations", shape.name, n)
		}
	}
}

// checkInvariants checks the properties that hold for every text.
func checkInvariants(t *testing.T, s []byte, maxDepth int) {
	t.Helper()
	original := bytes.Clone(s)
	dst := append(make([]byte, 0, 64), "before"...)
	out, flaws := AppendRepaired(dst, s, maxDepth)
	if !bytes.Equal(s, original) {
		t.Fatalf("%.200q: changed to %.200q", original, s)
	}
	out, ok := bytes.CutPrefix(out, []byte("before"))
	if !ok {
		t.Fatalf("%.200q: what was in dst is lost", s)
	}
	if bytes.Equal(out, s) != (flaws == 0) {
		t.Fatalf("%.200q: flaws %v, becomes %.200q", s, flawNames(flaws), out)
	}
	if !json.Valid(out) || !utf8.Valid(out) || bytes.IndexByte(out, 0) >= 0 {
		t.Fatalf("%.200q: becomes %.200q, which is not JSON", s, out)
	}
	if again := flawsOf(out, max(maxDepth, 0)); again != 0 {
		t.Fatalf("%.200q: becomes %.200q, with flaws %v", s, out, flawNames(again))
	}

	rawNUL := bytes.IndexByte(s, 0) >= 0
	// encoding/json accepts every text that is not a syntax error, except these.
	plain := !rawNUL && !bytes.Contains(s, []byte("NaN")) && !bytes.Contains(s, []byte("Infinity"))
	switch {
	case flaws&Invalid != 0:
		if json.Valid(s) {
			t.Fatalf("%.200q: called an error in syntax", s)
		}
	case plain && !json.Valid(s) && len(s) < 2*10000: // encoding/json goes 10,000 levels deep
		t.Fatalf("%.200q: an error in syntax was not seen", s)
	}
	switch {
	case flaws&(Invalid|NumberOutOfRange|TooDeep) != 0:
		var content string
		if err := json.Unmarshal(out, &content); err != nil || content != repairedText(s) {
			t.Fatalf("%.200q: becomes the string %.200q (%v)", s, content, err)
		}
		if (flaws&NUL != 0) != rawNUL || (flaws&InvalidUTF8 != 0) == utf8.Valid(s) {
			t.Fatalf("%.200q: flaws %v", s, flawNames(flaws))
		}
	case plain:
		// encoding/json also reads U+FFFD for a lone surrogate and for an invalid
		// byte.
		if was, is := tokensOf(t, s), tokensOf(t, out); !slices.Equal(was, is) {
			t.Fatalf("%.200q: becomes %.200q", s, out)
		}
	}
}

// repairedText returns s without NUL, and with U+FFFD for each invalid byte.
func repairedText(s []byte) string {
	var b strings.Builder
	for _, r := range string(s) {
		if r != 0 {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// tokensOf reads the tokens of a JSON text, strings without NUL.
func tokensOf(t *testing.T, s []byte) (tokens []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(s))
	d.UseNumber()
	for d.InputOffset() < int64(len(bytes.TrimRight(s, " \t\r\n"))) {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%.200q: %v", s, err)
		}
		tokens = append(tokens, fmt.Sprintf("%T ", token)+strings.ReplaceAll(fmt.Sprint(token), "\x00", ""))
	}
	return tokens
}

func FuzzRepair(f *testing.F) {
	for _, cases := range [][]repairCase{cleanCases, repairedCases, syntaxCases, depthCases} {
		for _, c := range cases {
			f.Add([]byte(c.text))
		}
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		checkInvariants(t, s, DefaultDepth)
		checkInvariants(t, s, testMaxDepth)
	})
}
