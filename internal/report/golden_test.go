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
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden is a report whose text and JSON are compared with
// testdata/NAME.text.golden and testdata/NAME.json.golden.
type golden struct {
	name   string
	report interface{ Document() *document.Document }
	lists  []List // of the JSON
}

func TestGolden(t *testing.T) {
	t.Parallel()
	var all []golden
	for _, some := range [][]golden{
		migrations(), merges(), alreadyMigrated(), verifications(), checks(), restorations(), inits(), versions(),
	} {
		all = append(all, some...)
	}
	wanted := map[string]bool{}
	for _, g := range all {
		for _, form := range []string{"text", "json"} {
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

// write returns the report as text or as JSON.
func (g *golden) write(t *testing.T, form string) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	if form == "json" {
		err = JSON(&b, g.report, g.allLists()...)
	} else {
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
