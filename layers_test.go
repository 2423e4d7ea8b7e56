package repository_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers lists the packages of the program from the top. A package imports only packages below it. The packages of one
// line do not import each other.
var layers = [][]string{
	{"cmd/flujo-port"},
	{"internal/check", "internal/initialize", "internal/migrate", "internal/restore", "internal/verify"},
	{"internal/merge"},
	{"internal/load"},
	{"internal/receipt", "internal/compare"},
	{"internal/extract"},
	{"internal/sink", "internal/source"},
	{"internal/postgres"},
	{"internal/rowdigest"},
	{"internal/mapping"},
	{"internal/report", "internal/jsonb", "internal/sqlite"},
	{"internal/document", "internal/stateuri"},
	{"internal/clierr", "internal/fileio", "internal/progress", "internal/sqltext"},
}

// development lists the folders with packages that the program never imports.
var development = []string{
	"internal/bench",
	"internal/flujotest",
	"internal/lint",
	"internal/pgtest",
	"internal/torture",
}

// withoutDrivers lists packages that import no package of other modules, except for those named.
var withoutDrivers = map[string][]string{
	"internal/mapping":   nil,
	"internal/jsonb":     nil,
	"internal/rowdigest": nil,
	"internal/stateuri":  {"github.com/pelletier/go-toml/v2"},
	"internal/document":  {"github.com/jedib0t/go-pretty/v6/table", "github.com/jedib0t/go-pretty/v6/text"},
	"internal/report":    {"github.com/dustin/go-humanize", "github.com/dustin/go-humanize/english"},
	"internal/clierr":    nil,
	"internal/progress":  nil,
}

// TestLayers tests that imports point downward, as ARCHITECTURE.md says.
func TestLayers(t *testing.T) {
	t.Parallel()
	at := map[string]int{}
	for i, line := range layers {
		for _, name := range line {
			at[name] = i
		}
	}
	seen := map[string]bool{}
	for file, parsed := range programFiles(t, parser.ImportsOnly) {
		from := path.Dir(file)
		seen[from] = true
		layer, ok := at[from]
		if !ok {
			t.Errorf("package %s has no layer", from)
			continue
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, own := strings.CutPrefix(imported, "flujo-port/")
			allowed, pure := withoutDrivers[from]
			switch {
			case own && at[to] <= layer:
				t.Errorf("%s imports %s, which is not below it", file, to)
			case !own && pure && strings.Contains(imported, ".") && !slices.Contains(allowed, imported):
				t.Errorf("%s imports %s", file, imported)
			}
		}
	}
	for name := range at {
		if !seen[name] {
			t.Errorf("there is no package %s", name)
		}
	}
}

// TestFlagsOnlyInCmd tests that no text below cmd names a flag of the command line.
func TestFlagsOnlyInCmd(t *testing.T) {
	t.Parallel()
	flag := regexp.MustCompile(`(^|[^-])--[a-z]`)
	for file, parsed := range programFiles(t, 0) {
		if strings.HasPrefix(file, "cmd/") {
			continue
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING && flag.MatchString(literal.Value) {
				t.Errorf("%s names a flag: %s", file, literal.Value)
			}
			return true
		})
	}
}

// programFiles returns the parsed Go files of the program, without tests, by path.
func programFiles(t *testing.T, mode parser.Mode) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	for _, file := range trackedFiles(t) {
		inFolder := func(folder string) bool { return strings.HasPrefix(file, folder+"/") }
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") ||
			!inFolder("cmd") && !inFolder("internal") || slices.ContainsFunc(development, inFolder) {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
		if err != nil {
			t.Fatal(err)
		}
		files[file] = parsed
	}
	return files
}
