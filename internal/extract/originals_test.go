package extract_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/migrate"
	"flujo-port/internal/report"

	"github.com/dustin/go-humanize"
)

// finding is a finding as OnFinding reports it, without the cell's content.
type finding struct {
	table, key string
	rowid      int64
	column     string // "" for a rejected row
	reason     string
	note       string
	rejected   bool
}

// collectFindings returns a list to which OnFinding adds the findings.
func collectFindings(o *migrate.Options) *[]mapping.Finding {
	var all []mapping.Finding
	o.OnFinding = func(f mapping.Finding) error { all = append(all, f); return nil }
	return &all
}

// asFindings converts findings of the program.
func asFindings(found []mapping.Finding) []finding {
	all := make([]finding, len(found))
	for i, f := range found {
		all[i] = finding{
			table:    f.Table,
			key:      f.Key,
			rowid:    f.RowID,
			column:   f.Column,
			reason:   f.Reason.String(),
			note:     f.Note,
			rejected: f.Rejected,
		}
	}
	return all
}

// compareFindings orders findings by table, rowid and column.
func compareFindings(a, b finding) int {
	return flujotest.CompareOriginals(flujotest.Original{Table: a.table, RowID: a.rowid, Column: a.column},
		flujotest.Original{Table: b.table, RowID: b.rowid, Column: b.column})
}

// explanations holds the report's text for each reason.
var explanations = map[string]string{
	"nul-removed": "NUL characters are removed", "lone-surrogate": "lone surrogates are replaced with U+FFFD",
	"invalid-utf8":             "bytes that are not UTF-8 are replaced with U+FFFD",
	"non-finite-number":        "NaN or Infinity is stored as a JSON string",
	"invalid-json":             "text that is not JSON is stored as a JSON string",
	"json-number-out-of-range": "JSON with an out-of-range number is stored as a JSON string",
	"json-too-deep":            "JSON nested past the server's limit is stored as a JSON string",
	"number-as-text":           "a number is stored as text, or as JSON in a JSON column",
	"rounded":                  "a number is rounded to fit the column's type",
	"text-as-number":           "text is converted to a number",
	"not-a-number":             "a value that is not a number is stored as NULL",
	"out-of-range":             "a number out of range for the column's type is stored as NULL",
	"invalid-boolean":          "a value other than 0 and 1 is stored as true, or as false if it is empty",
	"time-inferred":            "a missing or unreadable timestamp is replaced with an inferred one",
	"epoch-time":               "seconds since 1970 are converted to a timestamp",
	"time-truncated":           "a timestamp is truncated to microseconds",
	"unmapped-column":          "only the original value is stored: Flujo's PostgreSQL table has no such column",
}

// rejections holds the report's text for each reason of a rejected row.
var rejections = map[string]string{
	"not-a-number": "the column requires a number, and the value is not one",
	"out-of-range": "the column requires a number, and this one is out of range for its type",
	"null-key":     "the key is NULL", "nul-in-key": "the key or the run_id contains a NUL character",
	"duplicate-key": "another row has the same key in PostgreSQL",
	"missing-value": "a required column is NULL", "json-too-large": "the JSON may exceed jsonb's size limits",
	"text-too-long": "the text is too long for Flujo's index on the column",
}

// explanation returns the report's text for a list of reasons of a changed value, or of a rejected row.
func explanation(kind string, rejected bool) string {
	texts := explanations
	if rejected {
		texts = rejections
	}
	var parts []string
	for name := range strings.SplitSeq(kind, "+") {
		if text := texts[name]; text != "" {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "; ")
}

// changeLine is a line of the report's changes.
type changeLine struct {
	table, column, reason string
	count                 int64
	keys                  string
	rejected              bool
}

// countFindings returns the lines that the report must have for findings, which are in the order of the rows.
func countFindings(all []finding) (lines []changeLine) {
	keys := map[int][]string{}
	for _, f := range all {
		at := slices.IndexFunc(lines, func(c changeLine) bool {
			return c.table == f.table && c.column == f.column && c.reason == f.reason && c.rejected == f.rejected
		})
		if at < 0 {
			at = len(lines)
			lines = append(lines, changeLine{table: f.table, column: f.column, reason: f.reason, rejected: f.rejected})
		}
		lines[at].count++
		if len(keys[at]) < 10 && !slices.Contains(keys[at], f.key) {
			keys[at] = append(keys[at], f.key)
		}
	}
	for i := range lines {
		lines[i].keys = strings.Join(keys[i], "|")
	}
	return lines
}

// wantReport compares the findings and the text and JSON of the report with the wanted findings, which may be in any
// order.
func wantReport(t testing.TB, result *report.Migration, found []mapping.Finding, want []finding) {
	t.Helper()
	got := asFindings(found)
	if !slices.IsSortedFunc(got, func(a, b finding) int { // only rows of one table have an order
		if a.table != b.table {
			return 0
		}
		return int(a.rowid - b.rowid)
	}) {
		t.Error("the findings are not in the order of the rows")
	}
	slices.SortStableFunc(got, compareFindings)
	want = slices.Clone(want)
	slices.SortStableFunc(want, compareFindings)
	flujotest.WantSame(t, "findings", got, want)

	var changes []changeLine
	for _, c := range result.Changes {
		changes = append(changes, changeLine{
			table:    c.Table,
			column:   c.Column,
			reason:   c.Reason,
			count:    c.Count,
			keys:     strings.Join(c.Keys, "|"),
			rejected: c.Rejected,
		})
	}
	compare := func(a, b changeLine) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
	slices.SortFunc(changes, compare)
	lines := countFindings(want)
	slices.SortFunc(lines, compare)
	flujotest.WantSame(t, "changes", changes, lines)
	wantText(t, result, lines)
	wantJSON(t, result, found, lines)
}

// wantText tests that the text of the report has exactly the given lines of changes.
func wantText(t testing.TB, result *report.Migration, lines []changeLine) {
	t.Helper()
	have := flujotest.ReportLines(t, result.Document())
	var rejected int64
	shown := 0
	for _, c := range lines {
		if c.rejected {
			rejected += c.count
			continue
		}
		var keys []string
		for key := range strings.SplitSeq(c.keys, "|") {
			keys = append(keys, strconv.Quote(key))
		}
		keys = keys[:min(len(keys), 3)]
		more := ""
		if c.count > int64(len(keys)) {
			more = ", …"
		}
		line := strings.Join(strings.Fields(fmt.Sprintf("%s.%s %s %s: %s %s%s", c.table, c.column,
			humanize.Comma(c.count), c.reason, explanation(c.reason, c.rejected), strings.Join(keys, ", "), more)), " ")
		if !slices.Contains(have, line) {
			t.Errorf("the report does not say %q:\n%s", line, strings.Join(have, "\n"))
			return
		}
		shown++
	}
	text := strings.Join(have, "\n")
	if n := strings.Count(text, "Rejected rows: "+humanize.Comma(rejected)); (rejected > 0) != (n == 1) {
		t.Errorf("the report does not say that %d rows are rejected:\n%s", rejected, text)
	}
	saysOriginals := strings.Contains(
		text,
		fmt.Sprintf(
			"Originals %s, byte for byte, in flujo.flujo_port_originals",
			plural(result.Originals, "value"),
		),
	)
	if want := len(lines) > 0 && result.Committed; saysOriginals != want {
		t.Errorf("got a line on original values: %v, want %v:\n%s", saysOriginals, want, text)
	}
}

// asJSON writes a report as JSON as the program does, and decodes it into a value.
func asJSON(t testing.TB, result *report.Migration, found []mapping.Finding, into any) {
	t.Helper()
	var b bytes.Buffer
	err := report.JSON(&b, result, report.ListOf("findings", func(yield func(report.Finding) error) error {
		for _, f := range found {
			if err := yield(reportFinding(f)); err != nil {
				return err
			}
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), into); err != nil {
		t.Fatalf("the report is not JSON: %v\n%.2000s", err, &b)
	}
}

// wantJSON tests that the JSON of the report has exactly the given lines of changes and the findings.
func wantJSON(t testing.TB, result *report.Migration, found []mapping.Finding, lines []changeLine) {
	t.Helper()
	type change struct {
		Table, Column, Reason, Explanation string
		Count                              int64
		Keys                               []string `json:"first_keys"`
		Rejected                           bool     `json:"rejected"`
	}
	var got struct {
		Refused   bool  `json:"refused"`
		Originals int64 `json:"originals"`
		Changes   []change
		Findings  []struct {
			Table, Key, Column, Reason string
			RowID                      int64 `json:"source_rowid"`
		}
	}
	asJSON(t, result, found, &got)
	if got.Refused != result.Refused || got.Originals != result.Originals {
		t.Errorf("got refused %v and %d originals in JSON, want %v and %d", got.Refused, got.Originals,
			result.Refused, result.Originals)
	}
	for _, c := range lines {
		if !slices.ContainsFunc(got.Changes, func(g change) bool {
			return g.Table == c.table && g.Column == c.column && g.Reason == c.reason && g.Count == c.count &&
				g.Rejected == c.rejected && g.Explanation == explanation(c.reason, c.rejected) &&
				strings.Join(g.Keys, "|") == c.keys
		}) {
			t.Errorf("got changes %+v in JSON, want %+v among them", got.Changes, c)
		}
	}
	if len(got.Changes) != len(lines) || len(got.Findings) != len(found) {
		t.Fatalf("got %d changes and %d findings in JSON, want %d and %d", len(got.Changes), len(got.Findings),
			len(lines), len(found))
	}
	for i, f := range found {
		g := got.Findings[i]
		if g.Table != f.Table || g.Key != strings.ToValidUTF8(f.Key, "\uFFFD") || g.Column != f.Column ||
			g.RowID != f.RowID || g.Reason != f.Reason.String() {
			t.Errorf("finding %d: got %+v in JSON, want %+v", i, g, f)
		}
	}
}
