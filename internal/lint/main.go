// Command lint checks this repository's code. It is the program that `make lint`
// passes to go vet, which loads the packages and caches the results:
//
//	go vet -vettool="$(go tool -n lint)" ./...
//
// It holds the checks of go vet, those that the next version of Go adds
// (sqlrowserr, scannererr), nilness, and errcheck.
package main

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"github.com/kisielk/errcheck/errcheck"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/nilness"
	"golang.org/x/tools/go/analysis/suite/vet"
	"golang.org/x/tools/go/analysis/unitchecker"
	"golang.org/x/tools/go/ast/inspector"
)

func main() {
	unitchecker.Main(append(slices.Clone(vet.Suite), nilness.Analyzer, ignoredErrors)...)
}

// harmless are functions whose error says nothing: of what writes to memory or to
// the terminal, and of removing what may not exist. Only some systems' Sync
// returns an error.
var harmless = []string{
	"(*database/sql.Tx).Rollback",
	"(*text/tabwriter.Writer).Flush",
	"fmt.Fprint",
	"fmt.Fprintf",
	"fmt.Fprintln",
	"golang.org/x/sys/unix.Sync",
	"io.WriteString(hash.Hash64)",
	"os.Remove",
}

// ignoredErrors reports calls in the program whose error is ignored without
// "_ =". The error of Close counts only for a file that may have been written:
// not for connections and readers, and not for what os.Open opened.
var ignoredErrors = &analysis.Analyzer{
	Name:     "ignorederrors",
	Doc:      "report ignored errors, except those of closing what was only read",
	Requires: errcheck.Analyzer.Requires,
	Run: func(pass *analysis.Pass) (any, error) {
		filtered := *pass
		filtered.Report = func(d analysis.Diagnostic) {
			if !strings.HasSuffix(pass.Fset.Position(d.Pos).Filename, "_test.go") && !closesUnwritten(pass, d) {
				pass.Report(d)
			}
		}
		_, err := errcheck.Analyzer.Run(&filtered)
		return nil, err
	},
}

func init() { errcheck.DefaultExcludedSymbols = append(errcheck.DefaultExcludedSymbols, harmless...) }

// closesUnwritten reports whether a diagnostic is about x.Close(), where x is not
// an *os.File or is a variable that only functions of unwritten were assigned to.
func closesUnwritten(pass *analysis.Pass, d analysis.Diagnostic) bool {
	call := callAt(pass, d)
	if call == nil {
		return false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || method.Sel.Name != "Close" {
		return false
	}
	if types.TypeString(pass.TypesInfo.TypeOf(method.X), nil) != "*os.File" {
		return true
	}
	variable, ok := method.X.(*ast.Ident)
	return ok && onlyRead(pass, pass.TypesInfo.ObjectOf(variable))
}

// unwritten are functions that open what is not a file that was written.
var unwritten = []string{"os.Open", "os.Pipe", "fileio.Open"}

// callAt returns the call that a diagnostic of errcheck is about. Its position is
// that of the parenthesis.
func callAt(pass *analysis.Pass, d analysis.Diagnostic) (found *ast.CallExpr) {
	for call := range inspector.All[*ast.CallExpr](inspector.New(pass.Files)) {
		if call.Lparen == d.Pos || call.Pos() == d.Pos {
			found = call
		}
	}
	return found
}

// onlyRead reports whether a variable is assigned from unwritten only.
func onlyRead(pass *analysis.Pass, variable types.Object) bool {
	opened := false
	for assignment := range inspector.All[*ast.AssignStmt](inspector.New(pass.Files)) {
		for _, to := range assignment.Lhs {
			if name, ok := to.(*ast.Ident); !ok || pass.TypesInfo.ObjectOf(name) != variable {
				continue
			}
			call, ok := assignment.Rhs[0].(*ast.CallExpr)
			if !ok || !slices.Contains(unwritten, types.ExprString(call.Fun)) {
				return false
			}
			opened = true
		}
	}
	return opened
}
