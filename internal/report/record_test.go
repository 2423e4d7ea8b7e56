package report

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/document"
)

// written returns the record of a report as Markdown.
func written(t *testing.T, d *document.Document) string {
	t.Helper()
	var b strings.Builder
	if err := d.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReconciled tests that a record says that the numbers of rows add up only if they do, and which rows were not
// stored or rolled back.
func TestReconciled(t *testing.T) {
	t.Parallel()
	const (
		adds       = "= PostgreSQL."
		addsNot    = "do not add up to those in PostgreSQL in "
		rolledBack = "counted before the transaction was rolled back."
		nothing    = "No row of this file was stored"
	)
	differing := func(inPostgres int64) *Migration {
		m := committed()
		m.Committed, m.Differing = false, 1
		m.Tables[1].Match, m.Tables[1].InPostgres = false, inPostgres
		return m
	}
	dryRun := committed()
	dryRun.Committed, dryRun.DryRun = false, true
	merge := committed()
	merge.Merge, merge.Tables[0].NotStored, merge.Tables[0].HeldBefore = merged(), 60, 60
	wrongMerge := committed()
	wrongMerge.Merge, wrongMerge.Tables[0].NotStored, wrongMerge.Tables[0].HeldBefore = merged(), 60, 59
	second := committed()
	second.Committed, second.Refused = false, true
	second.Further = []*FurtherFile{{Source: stateFile(), FileResult: refused().FileResult}}
	second.Further[0].Merge = &Merge{}
	for name, tc := range map[string]struct {
		report    *Migration
		has, lack []string
	}{
		"committed":            {committed(), []string{adds}, []string{rolledBack, nothing, addsNot}},
		"dry run":              {dryRun, []string{adds, rolledBack}, []string{nothing, addsNot}},
		"refused":              {refused(), []string{nothing}, []string{adds, addsNot, rolledBack, "PostgreSQL |"}},
		"cells differ":         {differing(1213), []string{adds, rolledBack}, []string{nothing, addsNot}},
		"rows are missing":     {differing(1212), []string{addsNot + "steps.", rolledBack}, []string{nothing, adds}},
		"merged":               {merge, []string{"stored + before " + adds}, []string{rolledBack, nothing, addsNot}},
		"a merge lost a row":   {wrongMerge, []string{addsNot + "runs.", "Before: "}, []string{nothing, adds}},
		"second file refused":  {second, []string{adds, rolledBack, nothing}, []string{addsNot, "Merged"}},
		"rejected, quarantine": {migrations()[1].report.(*Migration), []string{adds}, []string{nothing, addsNot}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := written(t, tc.report.Record(&Details{}))
			for _, text := range tc.has {
				if !strings.Contains(got, text) {
					t.Errorf("the record does not say %q:\n%s", text, got)
				}
			}
			for _, text := range tc.lack {
				if strings.Contains(got, text) {
					t.Errorf("the record says %q:\n%s", text, got)
				}
			}
		})
	}
}

// TestDigestTable tests that columns without a digest are omitted.
func TestDigestTable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rows [][]string
		want string
	}{
		"none": {[][]string{{"runs", "", ""}, {"steps", "", ""}}, ""},
		"file only": {[][]string{{"runs", "1,2", ""}, {"steps", "", ""}},
			"Table, Digest of the file's rows, converted"},
		"server only": {[][]string{{"runs", "", ""}, {"steps", "", "3,4"}},
			"Table, Digest in PostgreSQL"},
		"both": {[][]string{{"runs", "1,2", ""}, {"steps", "", "3,4"}},
			"Table, Digest of the file's rows, converted, Digest in PostgreSQL"},
	} {
		block := digestTable(tc.rows)
		if tc.want == "" {
			if block != nil {
				t.Errorf("%s: got a table", name)
			}
			continue
		}
		table := block.(*document.Table)
		var titles []string
		for _, c := range table.Columns {
			titles = append(titles, c.Title)
		}
		if got := strings.Join(titles, ", "); got != tc.want {
			t.Errorf("%s: got the columns %s, want %s", name, got, tc.want)
		}
		for row := range table.Rows {
			if len(row) != len(titles) {
				t.Errorf("%s: got %q in %d columns", name, row, len(titles))
			}
		}
	}
}

// TestOriginalsText tests what a record says of the values that its tables show: none of changed values, and cells of
// rejected rows, which may be shortened.
func TestOriginalsText(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		changes []Change
		want    string
	}{
		"changed": {changes()[:1], "The whole of each changed value, which the tables above do not show:"},
		"rejected": {changes()[2:], "The whole of each cell of a rejected row, which the table above may show " +
			"shortened:"},
		"both": {changes(), "The whole of each value. The tables above do not show changed values, and may show the " +
			"cells of rejected rows shortened:"},
		"neither, as superseded rows": {nil, "The whole of each value:"},
	} {
		m := committed()
		m.Changes, m.Originals = tc.changes, 1
		if got := written(t, m.Record(&Details{})); !strings.Contains(got, "\n"+tc.want+"\n") {
			t.Errorf("%s: the record does not say %q:\n%s", name, tc.want, got)
		}
	}
}

// TestCommandLine tests that a shell reads the command of a record as the arguments that it was run with.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs sh")
	}
	for name, args := range map[string][]string{
		"plain":    {"migrate", "--sqlite", "/data/flujo_state.db", "--verify=counts", "-q"},
		"space":    {"--sqlite", "sp ace/flujo_state.db"},
		"masked":   {"--postgres", "postgresql://app:***@db.example/med13?options=-c%20x%3D1&sslmode=require"},
		"quotes":   {`it's "his"`, "'", "''", `"`, "`id`"},
		"none":     {"--sqlite", ""},
		"special":  {"$HOME", "~", "~root/a", "a;b", "a|b", "#x", "*", "[a]", "{a,b}", `a\b`, "a>b", "!x", "(a)"},
		"Unicode":  {"übung.db", "データ.db"},
		"newline":  {"a\nb"},
		"keywords": {"if", "a=b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := (&Run{Arguments: args}).commandLine()
			script := "flujo_port() { for a; do printf '%s\\0' \"$a\"; done; }\n" +
				strings.Replace(line, "flujo-port", "flujo_port", 1)
			out, err := exec.Command(shell, "-c", script).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
			if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, args) {
				t.Errorf("a shell reads %s as %q, want %q", line, got, args)
			}
		})
	}
	if got := (&Run{Arguments: []string{"check", "--sqlite", "/a_b/c.db"}}).commandLine(); got !=
		"flujo-port check --sqlite /a_b/c.db" {
		t.Errorf("got %s, want no quotes", got)
	}
}

// TestNullKey tests that a record shows the NULL key of a rejected row as such, and an empty key as an empty text.
func TestNullKey(t *testing.T) {
	t.Parallel()
	change := func(reason, key string) Change {
		return Change{Table: "system_state", Reason: reason, Count: 2, Keys: []string{key}, Rejected: true}
	}
	for _, tc := range []struct{ reason, key, first, cell string }{
		{"null-key", "", "NULL", "NULL"},
		{"null-key+missing-value", "", "NULL", "NULL"},
		{"not-a-number+null-key", "", "NULL", "NULL"},
		{"missing-value", "", `"", …`, ""},
		{"missing-value", "NULL", `"NULL", …`, "NULL"},
	} {
		m := committed()
		m.Changes = []Change{change(tc.reason, tc.key)}
		finding := Finding{Table: "system_state", RowID: 7, Key: tc.key, Reason: tc.reason, Rejected: true}
		got := written(t, m.Record(&Details{Findings: slices.Values([]Finding{finding})}))
		for _, row := range []string{
			"| system\\_state | " + tc.reason + " | 2 | " + tc.first + " |",
			"| system\\_state | 7 | " + tc.cell + " | " + tc.reason + " |",
		} {
			if !strings.Contains(got, "\n"+row) {
				t.Errorf("%s, %q: the record does not have %s:\n%s", tc.reason, tc.key, row, got)
			}
		}
	}
}

// TestDerivedFromNothing tests that rows that are derived from no row are not said to be.
func TestDerivedFromNothing(t *testing.T) {
	t.Parallel()
	f := Findings{Derived: []Derived{
		{Table: "runs", Rows: 1, From: "workflow_state", Why: "why"},
		{Table: "runs", Rows: 2, From: "workflow_state", Count: 1, Why: "why"},
		{Table: "traces", From: "spans", Why: "none"},
	}}
	want := []string{"runs: 1 row derived: why", "runs: 2 rows derived from 1 row of workflow_state: why"}
	if got := f.conversions(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRecordOfOriginals tests that original values are no rows of the state file in the page of verify, whose totals
// are those that the terminal shows.
func TestRecordOfOriginals(t *testing.T) {
	t.Parallel()
	v := verification(Equal)
	v.Tables = append(v.Tables, Comparison{
		Name: originalsTable, InFile: 5, AtReceipt: 5, Derived: 5, InPostgres: 5, Match: true, Digest: "5,6",
	})
	got := written(t, v.Record(&Details{}))
	for _, text := range []string{
		"| total |  | 1,274 | 1 | 0 | 1,273 | 1,273 |",
		"Original values in flujo\\_port\\_originals: 5, as in the state file.",
		"| flujo\\_port\\_originals | 5,6 |",
	} {
		if !strings.Contains(got, text) {
			t.Errorf("the record does not say %q:\n%s", text, got)
		}
	}
}
