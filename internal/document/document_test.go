package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// sample returns a document with blocks of every kind. Its strings have characters that mean something to a terminal,
// to Markdown or to HTML.
func sample() *Document {
	d := &Document{Title: "title <1>", Outcome: Attention, Headline: "Migrated: 12 rows; _3_ | rejected \x1b[31m"}
	d.Add("", Facts{{"From", []string{"/data/my  file.db", "279 MiB & more"}}, {"To", []string{"a schema"}}}, nil)
	d.Add("Empty")
	d.Add("Numbers", &Table{
		Columns: Words("Table").Numbers("File", "PostgreSQL").Words(""),
		Rows:    Cells([]string{"runs", "8,001", "8,002", "ok"}, []string{"a|b", "1", "20", "<DIFFERS>"}),
		Total:   []string{"total", "8,002", "8,022", ""},
	})
	d.Add("Prose", Paragraph("A paragraph."), &Table{
		Columns: Words("Column").Numbers("Values").Reasons("Reason").Prose("What was done", "Keys"),
		Rows: Cells([]string{"steps.output", "4", "nul-removed+invalid-utf8", strings.Repeat("words of prose ", 5),
			strings.Repeat(`"1", `, 9)}),
		Note: "Every value: 1",
	}, List{"one", "two *stars*"})
	d.Add(
		"Terms",
		&Table{Columns: Columns{}.Terms("Reason").Prose("Rule"), Rows: Cells([]string{"nul-removed", "a rule"}),
			Note: "rules", Open: true},
	)
	d.Add("Next", Steps{"first", "second"}, Code{"SQL  'with spaces';", "<next>"})
	d.Add("Signature", Form{"Name"})
	d.Add("JSON", Data{"json", "The report", func(w io.Writer) error {
		_, err := io.WriteString(w, `{"a": "</pre><script>&"}`)
		return err
	}})
	return d
}

func textAt(t *testing.T, d *Document, width int) string {
	t.Helper()
	var b strings.Builder
	if err := d.Text(&b, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const want80 = `Migrated: 12 rows; _3_ | rejected \x1b[31m

  From  /data/my  file.db
        279 MiB & more
  To    a schema

Numbers
  Table   File  PostgreSQL
  runs   8,001       8,002  ok
  a|b        1          20  <DIFFERS>
  total  8,002       8,022

Prose
  A paragraph.

  Column        Values  Reason                    What was done   Keys
  steps.output       4  nul-removed+invalid-utf8  words of prose  "1", "1", "1",
                                                  words of prose  "1", "1", "1",
                                                  words of prose  "1", "1", "1",
                                                  words of prose
                                                  words of prose

  - one
  - two *stars*

Terms
  Reason       Rule
  nul-removed  a rule

Next
  1  first
  2  second
  SQL  'with spaces';
  <next>
`

func TestText(t *testing.T) {
	t.Parallel()
	if got := textAt(t, sample(), 80); got != want80 {
		t.Errorf("got\n%s\nwant\n%s", got, want80)
	}
}

// TestTextFits tests that no line is wider than the terminal, except for words and code, and that nothing is lost.
func TestTextFits(t *testing.T) {
	t.Parallel()
	wide := strings.Fields(textAt(t, sample(), 1000))
	for width := 20; width <= 120; width++ {
		got := textAt(t, sample(), width)
		for line := range strings.Lines(got) {
			line = strings.TrimSuffix(line, "\n")
			if utf8.RuneCountInString(line) > width && len(strings.Fields(line)) > 1 && !strings.Contains(line, "SQL") {
				t.Errorf("%d columns: %d in %q", width, utf8.RuneCountInString(line), line)
			}
			if strings.TrimRight(line, " ") != line {
				t.Errorf("%d columns: white space at the end of %q", width, line)
			}
		}
		for _, word := range wide {
			inTable := slices.Contains([]string{"Table", "Column", "Reason"}, word) // the first title of a table
			if !inTable && !strings.Contains(got, strings.TrimRight(word, ":,")) {
				t.Errorf("%d columns: %q is lost:\n%s", width, word, got)
			}
		}
	}
}

// TestTextAsSentences tests the form of a table that is too wide.
func TestTextAsSentences(t *testing.T) {
	t.Parallel()
	d := &Document{Headline: "h"}
	d.Add("", &Table{Columns: Words("Table").Numbers("Rows read", "Rows in PostgreSQL").Words(""),
		Rows: Cells([]string{"runs", "1,000", "20", "ok"}, []string{"steps", "3", "4", ""})})
	const want = "h\n\n  runs: Rows read 1,000, Rows in\n    PostgreSQL 20, ok\n" +
		"  steps: Rows read 3, Rows in\n    PostgreSQL 4\n"
	if got := textAt(t, d, 32); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	d = &Document{Headline: "h"}
	d.Add("", &Table{Columns: Words("Column").Numbers("Values").Prose("Reason", "First keys"), Rows: Cells(
		[]string{"runs.created_at", "8", "no time: one is inferred", `"run_cca0f28f-c511", "2"`},
		[]string{"steps.output", "0", "", "7"})})
	const prose = "h\n\n  runs.created_at: Values 8\n    Reason: no time: one is\n      inferred\n" +
		"    First keys:\n      \"run_cca0f28f-c511\", \"2\"\n  steps.output\n    First keys: 7\n"
	if got := textAt(t, d, 30); got != prose {
		t.Errorf("got\n%s\nwant\n%s", got, prose)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 10, "* "},
		{"one two", 20, "* one two"},
		{"one two", 9, "* one two"},
		{"one two", 8, "* one\n- two"},
		{"a-word-that-is-too-long b", 8, "* a-word-that-is-too-long\n- b"},
		{"a  b", 20, "* a  b"},
		{"日本語 日本語", 10, "* 日本語\n- 日本語"},
		{`run "flujo-port init" first`, 20, "* run\n- \"flujo-port init\"\n- first"},
		{`run "flujo-port init", then "flujo-port check".`, 30,
			"* run \"flujo-port init\", then\n- \"flujo-port check\"."},
		{`run "flujo-port init".`, 20, "* run\n- \"flujo-port init\"."},
		{`run ("flujo-port init")`, 20, "* run (\"flujo-port\n- init\")"},
		{`run "flujo-port init"`, 18, "* run \"flujo-port\n- init\""}, // it fits into no line
		{`say "a b" and "flujo-portly c"`, 12, "* say \"a b\"\n- and\n- \"flujo-portly\n- c\""},
		{`run "flujo-port init`, 16, "* run\n- \"flujo-port\n- init"},
	} {
		if got := Wrap(c.text, c.width, "* ", "- "); got != c.want {
			t.Errorf("%q at %d: got %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

const wantMarkdown = `# title &lt;1&gt;

**Migrated: 12 rows; \_3\_ \| rejected \\x1b\[31m**

- **From**: /data/my  file.db; 279 MiB &amp; more
- **To**: a schema

## Numbers

| Table | File | PostgreSQL |  |
|---|---:|---:|---|
| runs | 8,001 | 8,002 | ok |
| a\|b | 1 | 20 | &lt;DIFFERS&gt; |
| total | 8,002 | 8,022 |  |

## Prose
`

// TestMarkdownFacts tests that the lines of a fact are joined as sentences are, or by semicolons.
func TestMarkdownFacts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"/data/a.db"}, "/data/a.db"},
		{[]string{"/data/a.db", "279 MiB", "no -wal"}, "/data/a.db; 279 MiB; no -wal"},
		{[]string{"The server was not checked.", "Nothing was changed.", "Name it."},
			"The server was not checked. Nothing was changed. Name it."},
		{[]string{"4 running in runs", "→ stop Flujo.", "a_b"}, "4 running in runs; → stop Flujo. a\\_b"},
	} {
		d := &Document{Title: "t", Headline: "h"}
		d.Add("", Facts{{"Label", c.lines}})
		var b strings.Builder
		if err := d.Markdown(&b); err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(b.String(), "- **Label**: "); got != c.want+"\n" {
			t.Errorf("%q: got %q, want %q", c.lines, got, c.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().Markdown(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if !strings.HasPrefix(got, wantMarkdown) {
		t.Errorf("got\n%s\nwant the beginning\n%s", got, wantMarkdown)
	}
	for _, want := range []string{
		"\nEvery value: 1\n\n| Column |", "\n1. first\n2. second\n",
		"\n    <next>\n", "\n- two \\*stars\\*\n", "\n- Name: ____",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("nothing is %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "script") || strings.Contains(got, "JSON") {
		t.Errorf("has the data:\n%s", got)
	}
}

// TestHTML tests that the page has every string, escaped, and nothing that loads or runs something.
func TestHTML(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().HTML(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"<title>title &lt;1&gt;</title>",
		`<p class="headline attention">Migrated: 12 rows; _3_ | rejected \x1b[31m</p>`,
		"<dt>From</dt><dd>/data/my  file.db<br>279 MiB &amp; more</dd>", `<td class="number">8,001</td>`,
		`<a href="#reason-nul-removed">nul-removed</a> + <a href="#reason-invalid-utf8">invalid-utf8</a>`,
		`<td class="term" data-title="Reason" id="reason-nul-removed">nul-removed</td>`, "<li>first</li>",
		"<pre>SQL  &#39;with spaces&#39;;\n&lt;next&gt;</pre>", "<details open><summary>rules</summary>",
		`<details class="closed" data-note="Every value: 1">`, `<div><span>Name</span><span></span></div>`,
		`<pre id="json">{"a": "&lt;/pre&gt;&lt;script&gt;&amp;"}</pre>`,
		`<tfoot><tr><td class="word">total</td>`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	for _, never := range []string{"<script", "http:", "https:", "src=\"", "url(", "@import", "\x1b", "<h2>Empty"} {
		if strings.Contains(got, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// limited is a writer that is full after n bytes.
type limited struct{ n int }

var errFull = errors.New("full")

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestWriteError tests that each form returns the error of its writer wherever it occurs.
func TestWriteError(t *testing.T) {
	t.Parallel()
	big := sample()
	var rows [][]string
	for i := range 20000 {
		rows = append(rows, []string{fmt.Sprint(i)})
	}
	big.Add("big", &Table{Columns: Words("n"), Rows: slices.Values(rows)})
	for name, write := range map[string]func(io.Writer) error{
		"text": func(w io.Writer) error { return big.Text(w, 80) }, "Markdown": big.Markdown, "HTML": big.HTML,
	} {
		var whole bytes.Buffer
		if err := write(&whole); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 10, whole.Len() / 2, whole.Len() - 1} {
			if err := write(&limited{n}); !errors.Is(err, errFull) {
				t.Errorf("%s, full after %d of %d bytes: got error %v", name, n, whole.Len(), err)
			}
		}
	}
	failing := &Document{}
	failing.Add("", Data{Write: func(io.Writer) error { return errFull }})
	if err := failing.HTML(io.Discard); !errors.Is(err, errFull) {
		t.Errorf("data that cannot be read: got error %v", err)
	}
}
