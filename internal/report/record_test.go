package report

import (
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
		adds       = "add up to the rows in PostgreSQL."
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
		"merged":               {merge, []string{"held before " + adds}, []string{rolledBack, nothing, addsNot}},
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
		"none":      {[][]string{{"runs", "", ""}, {"steps", "", ""}}, ""},
		"file only": {[][]string{{"runs", "1,2", ""}, {"steps", "", ""}}, "Table, Digest of the file's rows"},
		"server only": {[][]string{{"runs", "", ""}, {"steps", "", "3,4"}},
			"Table, Digest in PostgreSQL"},
		"both": {[][]string{{"runs", "1,2", ""}, {"steps", "", "3,4"}},
			"Table, Digest of the file's rows, Digest in PostgreSQL"},
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
