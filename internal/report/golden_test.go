package report

import (
	"bytes"
	"flag"
	"flujo-port/internal/document"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden is a report whose text and JSON are compared with
// testdata/NAME.text.golden and testdata/NAME.json.golden.
type golden struct {
	name   string
	report interface{ Document() *document.Document }
	lists  []List // of the JSON
}

// goldens returns all reports.
func goldens() []golden {
	return slices.Concat(
		migrations(), merges(), alreadyMigrated(), verifications(), checks(), restorations(), inits(), versions(),
	)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	wanted := map[string]bool{}
	for _, g := range goldens() {
		forms := []string{"text", "json"}
		if recorded[g.name] {
			forms = append(forms, "md")
		}
		for _, form := range forms {
			path := filepath.Join("testdata", g.name+"."+form+".golden")
			if wanted[path] {
				t.Fatalf("two reports have the name %s", g.name)
			}
			wanted[path] = true
			t.Run(g.name+"/"+form, func(t *testing.T) {
				t.Parallel()
				compareGolden(t, path, g.write(t, form))
			})
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !wanted[file] {
			t.Errorf("%s belongs to no report: delete it", file)
		}
	}
}

// TestWidth tests that the text of each report fits a terminal of 80 columns, digests included. Code, which is not
// wrapped, may be wider.
func TestWidth(t *testing.T) {
	t.Parallel()
	for _, g := range goldens() {
		d := g.report.Document()
		for i, s := range d.Sections {
			isCode := func(b document.Block) bool { _, is := b.(document.Code); return is }
			d.Sections[i].Blocks = slices.DeleteFunc(s.Blocks, isCode)
		}
		var b strings.Builder
		if err := d.Text(&b, document.Width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > document.Width {
				t.Errorf("%s: this line has %d columns:\n%s", g.name, n, line)
			}
		}
	}
}

// recorded are the reports whose record is compared too, as Markdown.
var recorded = map[string]bool{
	"migration-findings": true, "migration-refused": true, "migration-mismatch": true, "migration-replaced": true,
	"migration-several": true,
	"merge-committed":   true, "merge-dry-run": true,
	"already-migrated": true, "verification-drift": true, "verification-merged": true,
	"verification-mismatch": true, "restoration-with-base": true, "restoration-lost-values": true, "check-files": true,
	"check-not-ready": true, "check-damaged": true,
}

// record returns what the records list.
func record() *Details {
	return &Details{
		Findings: slices.Values([]Finding{
			{
				Table:       "steps",
				Key:         "7",
				RowID:       7,
				Column:      "output",
				Reason:      "nul-removed",
				Explanation: "NULs were removed",
			},
			{
				File:        "/data/b.db",
				Table:       "steps",
				RowID:       14,
				Reason:      "null-key",
				Explanation: "the key is NULL",
				Rejected:    true,
				Cells:       []Cell{{"id", "NULL"}, {"status", `"a|b"`}},
			},
		}),
		Differences: slices.Values([]Difference{
			{Table: "steps", Key: "7", Column: "output", Kind: CellDiffer, InFile: "1", InPostgres: "2", Since: true},
			{Table: "steps", Key: "8", Kind: RowMissing},
		}),
		Units: slices.Values([]Unit{
			{Path: "/data/a.db", Kind: "runs", Key: "a", Status: UnitEqual},
			{Path: "/data/a.db", Kind: "runs", Key: "b", Status: UnitSuperseded, By: 3},
		}),
		Meanings: []Meaning{
			{"nul-removed", "Found.", "Outcome."},
			{"null-key", "No key.", "None."},
			{"other", "x", "y"},
		},
	}
}

// write returns the report as text, as JSON, or as the record in Markdown.
func (g *golden) write(t *testing.T, form string) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch form {
	case "json":
		err = JSON(&b, g.report, g.allLists()...)
	case "md":
		err = g.report.(interface {
			Record(x *Details) *document.Document
		}).Record(record()).Markdown(&b)
	default:
		err = g.report.Document().Text(&b, document.Width)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// allLists returns the lists of the command's JSON; those that the report does not have are empty.
func (g *golden) allLists() []List {
	lists := slices.Clone(g.lists)
	for _, name := range slices.Sorted(maps.Keys(commands[g.report.(interface{ Head() *Run }).Head().Command].lists)) {
		if !slices.ContainsFunc(lists, func(l List) bool { return l.Name == name }) {
			lists = append(lists, List{Name: name, Each: func(func(any) error) error { return nil }})
		}
	}
	return lists
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run go test ./internal/report -update to write it", err)
	}
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s differs from line %d on; run go test ./internal/report -update to rewrite it, and read it\n%s",
				path, i+1, got)
		}
	}
}
